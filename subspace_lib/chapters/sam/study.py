"""SAM, Dom-SAM and Bulk-SAM: with minibatches below SAM's edge, with the full batch at it (C7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import by_seed, check_switch, numbers, source
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy, switch_study
from subspace_lib.experiment import OptimizerName
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory


class SamParameters(SwitchParameters):
    """Parameters of the SAM study; those with ``edge_`` are of the full-batch runs.

    Minibatch SAM jitters more than SGD: at a target angle of 0.05 every fourth step would be a refresh.
    At its edge SAM bounces for good, Dom-SAM too: the smaller the gradient, the lower SAM's edge. The
    subspace turns at every step, and turns back at the next: even and odd steps are followed apart.
    ``rhos`` are those of further plain minibatch runs, with a third of the rows.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "learning_rate": 0.02,
        "steps": 300,
        "switch_step": 200,
        "edge_learning_rate": 0.05,
        "edge_steps": 80,
        "edge_switch_step": 45,
        "edge_record_every": 45,
        "rhos": (),
        "seeds": (0, 1, 2),
        "edge_seeds": (0, 1, 2),
        "target_angle": 0.5,
        "edge_target_angle": 0.5,
        "edge_period": 1,
        "record_every": 100,
        "spectrum_every": 800,
    }

    optimizer: OptimizerName = "sam"
    rho: float = 0.02
    target_angle: float = 0.1
    switch_alignment: float | None = Field(None, gt=0, lt=1)
    record_every: int = 270
    spectrum_every: int = 2700
    rhos: tuple[float, ...] = (0.005, 0.05, 0.1)
    edge_learning_rate: float = Field(0.04, gt=0)
    edge_steps: int = Field(1400, ge=1)
    edge_switch_step: int = Field(400, ge=1)
    edge_record_every: int = Field(35, ge=1)
    edge_target_angle: float = Field(0.05, gt=0, le=0.5)
    edge_period: int = Field(2, ge=1)
    edge_seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)

    @field_validator("rhos", "edge_seeds", mode="before")
    @classmethod
    def _rhos_from_text(cls, rhos: Any) -> Any:
        return numbers(rhos)

    def at_edge(self) -> SwitchParameters:
        """The full-batch study."""
        shared = {name: getattr(self, name) for name in SwitchParameters.model_fields}
        changes = {
            "batch_size": "full",
            "seeds": self.edge_seeds,
            "target_angle": self.edge_target_angle,
            "period": self.edge_period,
            "learning_rate": self.edge_learning_rate,
            "steps": self.edge_steps,
            "switch_step": self.edge_switch_step,
            "record_every": self.edge_record_every,
            "spectrum_every": 20 * self.edge_record_every,
        }
        return SwitchParameters.parse(**shared | changes)


@dataclass(frozen=True)
class SamStudy:
    """Trajectories of the SAM study: minibatch and full batch, and other ρ on the first seed."""

    minibatch: SwitchStudy
    edge: SwitchStudy
    rhos: dict[float, Trajectory]


def sam_study(
    parameters: SamParameters, store: Store | None = None, *, compute: bool = True
) -> SamStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does."""
    parameters, get = parameters.resolved(), source(store, compute)
    check_switch(parameters.edge_switch_step, parameters.edge_steps)
    rare = {
        "record_every": 3 * parameters.record_every,
        "spectrum_every": 30 * parameters.record_every,
    }
    wanted = {
        rho: parameters.model_copy(update={"rho": rho, **rare}).run(parameters.seeds[0], "none")
        for rho in parameters.rhos
    }
    wanted[parameters.rho] = parameters.run(parameters.seeds[0], "none")
    edge = switch_study(parameters.at_edge(), store, compute=compute)
    minibatch = switch_study(parameters, store, compute=compute)
    return SamStudy(minibatch, edge, {rho: get(wanted[rho]) for rho in sorted(wanted)})


def tasks(parameters: SamParameters) -> Stages:
    """Both switches seed by seed; then the other radii."""
    pieces = [*by_seed(parameters.at_edge()), *by_seed(parameters)]
    return [(switch_study, p) for p in pieces], [(sam_study, parameters)]
