"""SAM, Dom-SAM and Bulk-SAM: with minibatches below SAM's edge, with the full batch at it (C7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages, Task
from subspace_lib.chapters.kit.edge import EdgeSwitchParameters
from subspace_lib.chapters.kit.study import (
    SHARED,
    SMALL,
    Plan,
    by_seed,
    check_switch,
    described_first,
    optional,
    source,
    stored,
)
from subspace_lib.chapters.kit.switch.frozen import frozen_apart_runs, frozen_runs
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy, switch_study
from subspace_lib.chapters.kit.typed import numbers
from subspace_lib.chapters.sam.pilot import Pilot, PilotParameters, pilot_study
from subspace_lib.experiment import Angle, Every, OptimizerName, Period, Radius, Rate, Steps
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory


class SamParameters(SwitchParameters):
    """Parameters of the SAM study; those with ``edge_`` are of the full-batch runs.

    Minibatch SAM jitters more than SGD: at a target angle of 0.05 every fourth step would be a refresh.
    At its edge SAM bounces for good, Dom-SAM too: the smaller the gradient, the lower SAM's edge.
    ``rho`` is what the pilot chooses among ``pilot_rhos``; ``rhos`` are those of further plain minibatch
    runs, which have rows where the others have spectra.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "preprocessing": "standardized",
        "model": SMALL,
        "learning_rate": 0.05,
        "steps": 500,
        "switch_alignment": None,
        "switch_step": 200,
        "edge_learning_rate": 0.15,
        "edge_steps": 320,
        "edge_switch_step": 75,
        "edge_record_every": 25,
        "edge_window_every": 15,
        "rhos": (),
        "pilot_rhos": (),
        "seeds": (0, 1, 2),
        "target_angle": 0.5,
        "edge_target_angle": 0.5,
        "edge_period": 1,
        "record_every": 50,
        "spectrum_every": 500,
    }

    optimizer: OptimizerName = "sam"
    rho: Radius = 0.05
    target_angle: Angle = 0.1
    record_every: Every | None = 270
    spectrum_every: Every | None = 810
    rhos: tuple[Radius, ...] = (0.01, 0.02, 0.1)
    pilot_rhos: tuple[Radius, ...] = (0.01, 0.02, 0.05, 0.1)
    edge_learning_rate: Rate = 0.1
    edge_steps: Steps = 3600
    edge_switch_step: int = Field(600, ge=1, le=1_000_000)
    edge_record_every: Every = 25
    edge_window_every: Every = 1
    edge_target_angle: Angle = 0.05
    edge_period: Period = 2

    @field_validator("rhos", "pilot_rhos", mode="before")
    @classmethod
    def _rhos_from_text(cls, rhos: Any) -> Any:
        return numbers(rhos)

    def at_edge(self) -> EdgeSwitchParameters:
        """The full-batch study."""
        edge = {
            name: getattr(self, f"edge_{name}")
            for name in ("learning_rate", "steps", "switch_step", "record_every", "window_every")
        }
        edge |= {"target_angle": self.edge_target_angle, "period": self.edge_period}
        edge |= {"batch_size": "full", "optimizer": self.optimizer}
        edge |= {"rho": self.rho, "seeds": self.seeds, "spectrum_every": None}
        edge["sharpness_every"] = self.edge_record_every  # nothing is judged by it
        return EdgeSwitchParameters.parse(
            **{n: getattr(self, n) for n in (*SHARED, "budget")} | edge
        )

    def pilot(self) -> PilotParameters:
        """The pilot with these parameters, at SGD's switch."""
        own = SwitchParameters.model_fields.keys() - {"optimizer", "rho", "profile"}
        shared = {name: getattr(self, name) for name in own}
        return PilotParameters.parse(**shared, rhos=self.pilot_rhos)


@dataclass(frozen=True)
class SamStudy:
    """Trajectories of the SAM study: minibatch and full batch, other ρ on the first seed, and the pilot.

    ``frozen`` has Dom-SAM at the edge with the subspace of the switch kept, by seed; ``apart`` the same
    with those of even and of odd steps, none where they are not followed apart.
    """

    minibatch: SwitchStudy
    edge: SwitchStudy
    rhos: dict[float, Trajectory]
    pilot: Pilot | None
    frozen: dict[int, Trajectory]
    apart: dict[int, Trajectory]

    @property
    def parameters(self) -> SwitchParameters:
        """Those in force."""
        return self.minibatch.parameters

    def trajectories(self) -> list[Trajectory]:
        """All of them."""
        pilot = {} if self.pilot is None else self.pilot.runs
        switched = (self.minibatch.trajectories, self.edge.trajectories)
        return stored(*switched, self.rhos, pilot, self.frozen, self.apart)


@described_first
def sam_study(
    parameters: SamParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> SamStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does.

    With ``compute=False`` C7 waits neither for the further radii nor for frozen subspaces.
    """
    p, get = parameters.resolved(), source(store, compute)
    check_switch(p.edge_switch_step, p.edge_steps, "edge_")
    # As many steps between rows as between spectra: each of them has eigenvalues of its own step.
    rare = {"record_every": p.spectrum_every}
    wanted = {
        rho: p.model_copy(update={"rho": rho, **rare}).run(p.seeds[0], "none") for rho in p.rhos
    }
    wanted[p.rho] = p.run(p.seeds[0], "none")
    edge = switch_study(p.at_edge(), store, compute=compute)
    minibatch = switch_study(p, store, compute=compute)
    rhos = optional(lambda: {rho: get(wanted[rho]) for rho in sorted(wanted)})
    pilot = pilot_study(p.pilot(), store, compute=compute) if p.pilot_rhos else None
    at_edge = p.at_edge()
    frozen = optional(lambda: frozen_runs(at_edge, store, compute=compute))
    apart: dict[int, Trajectory] = {}
    if at_edge.period > 1:
        apart = optional(lambda: frozen_apart_runs(at_edge, store, compute=compute))
    return SamStudy(minibatch, edge, rhos, pilot, frozen, apart)


def tasks(parameters: SamParameters) -> Stages:
    """Both switches seed by seed, and the pilot; then frozen subspaces, and the other radii."""
    pieces = [*by_seed(parameters.at_edge()), *by_seed(parameters)]
    pilot = (pilot_study, parameters.pilot())
    frozen: list[Task] = [(frozen_runs, p) for p in by_seed(parameters.at_edge())]
    if parameters.at_edge().period > 1:
        frozen += [(frozen_apart_runs, p) for p in by_seed(parameters.at_edge())]
    return [pilot, *[(switch_study, p) for p in pieces]], [*frozen, (sam_study, parameters)]
