"""The switch: train with X, then go on with X, Dom-X and Bulk-X (C2, C3; C6 and C7 for other X)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.defaults import before_switch
from subspace_lib.chapters.kit.study import (
    Plan,
    Planned,
    StudyParameters,
    check_switch,
    described_first,
    source,
)
from subspace_lib.experiment import Experiment, OptimizerName, Radius
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory

OPEN = 0.99  # a bound above it on a sine certifies nothing
RARE = 0.01  # of the steps: what is rarer is not said in the ledger


class SwitchParameters(StudyParameters):
    """Parameters of a switch study; X is the optimizer. ρ is SAM's, β momentum's and Adam's.

    The switch is where the moving average of the alignment, watched from ``watch_from`` on, exceeds
    ``switch_alignment``, at the earliest at ``switch_from``, at the latest at ``switch_step``; with
    ``switch_alignment=None`` it is at ``switch_step``.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "preprocessing": "standardized",
        "learning_rate": 0.02,
        "steps": 500,
        "switch_alignment": None,
        "switch_step": 300,
        "watch_from": 150,
        "switch_from": 200,
        "seeds": (0, 1, 2),
        "target_angle": 0.5,
        "record_every": 100,
        "spectrum_every": 800,
    }

    optimizer: OptimizerName = "sgd"
    rho: Radius = 0.05
    beta: float = 0.9
    switch_alignment: float | None = Field(0.95, gt=0, lt=1)
    switch_step: int = Field(3000, ge=1, le=1_000_000)
    watch_from: int = Field(default_factory=before_switch(900, 1), ge=0, le=1_000_000)
    switch_from: int = Field(default_factory=before_switch(1000), ge=0, le=1_000_000)

    def run(self, seed: int, projection: str, switch_step: int = 0) -> Experiment:
        """X from beginning to end, or Dom-X or Bulk-X from the switch on."""
        fields: dict[str, Any] = {"optimizer": self.optimizer, "rho": self.rho, "beta": self.beta}
        if projection != "none":
            return self.experiment(seed, projection=projection, switch_step=switch_step, **fields)
        return self.experiment(seed, **self._watched(), **fields)

    def _watched(self) -> dict[str, Any]:
        """The fields of a run that finds the switch.

        Raises:
            InvalidParameter: it would be watched for no earlier than the switch.
        """
        if self.switch_alignment is None:
            return {}
        if self.watch_from >= self.switch_step:
            raise InvalidParameter(
                f"watch_from = {self.watch_from} must be below switch_step = {self.switch_step}, at which "
                "the run switches whatever its alignment; type a smaller watch_from."
            )
        return {
            "watch_alignment": self.switch_alignment,
            "watch_from": self.watch_from,
            "switch_from": self.switch_from,
            "switch_by": min(self.switch_step, self.steps),
        }


@dataclass(frozen=True)
class SwitchStudy:
    """The trajectories of a switch study.

    Attributes:
        parameters: those in force; trajectories: by projection ("none", "dominant", "bulk") and seed.
        switch_steps: by seed; triggered: whether the alignment reached its threshold, by seed.
    """

    parameters: SwitchParameters
    trajectories: dict[tuple[str, int], Trajectory]
    switch_steps: dict[int, int]
    triggered: dict[int, bool]

    def of(self, projection: str) -> list[Trajectory]:
        """The trajectories of one projection, in the order of the seeds."""
        return [self.trajectories[projection, seed] for seed in self.parameters.seeds]

    def name(self, projection: str) -> str:
        """X, Dom-X or Bulk-X."""
        return says.rule(self.of(projection)[0].experiment.method)

    def doubts(self, where: str = "") -> str:
        """A sentence for the ledger on each method whose basis was not certified in some steps."""
        told = []
        for side in PROJECTIONS:
            found = [uncertified(run) for run in self.of(side)]
            if says.mean(found) > RARE:
                share = says.mean_of(found, says.percent)
                told.append(
                    f"{self.name(side)}{where}: in {share} of the steps there is no bound on the basis's "
                    "error."
                )
        return " ".join(told)

    def note(self) -> str:
        """One sentence for the ledger where a switch was not asked for by the alignment, else nothing."""
        p = self.parameters
        late = [str(seed) for seed in p.seeds if not self.triggered.get(seed, True)]
        if p.switch_alignment is None or not late:
            return ""
        seeds = "seed" if len(late) == 1 else "seeds"
        return (
            f"{self.name('none')}, {seeds} {', '.join(late)}: switched at step {p.switch_step:,} by the "
            f"fallback, because the alignment's moving average had not exceeded {p.switch_alignment:g}."
        )


def uncertified(run: Trajectory) -> float:
    """Share of the steps in which nothing certified the basis: the bound is a sine of 1, or next to it."""
    table = run.table
    if "angle_bound" not in table:
        return 0.0
    steps = table["step"].diff().iloc[1:]  # a row has the largest since the row before
    return float(steps[table["angle_bound"].iloc[1:] > OPEN].sum() / steps.sum())


def switch_step(parameters: SwitchParameters, plain: Trajectory) -> tuple[int, bool]:
    """Where to switch, and whether the alignment's moving average asked for it there."""
    found = plain.trigger_step
    if parameters.switch_alignment is None or found is None:
        return parameters.switch_step, False
    return found, found < parameters.switch_step


@described_first
def switch_study(
    parameters: SwitchParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> SwitchStudy:
    """Load a switch study, or compute what is missing of it.

    Raises:
        InvalidParameter: a parameter is out of bounds, before anything runs; or X has diverged before the
            switch.
        MissingRun: with ``compute=False``, when a run is not stored.
        Corrupted: with ``compute=False``, when a stored file is incomplete or altered.
    """
    parameters, get = parameters.resolved(), source(store, compute)
    check_switch(parameters.switch_step, parameters.steps)
    # All of these first: they wait for nothing, so they can be computed side by side.
    plain = {seed: get(parameters.run(seed, "none")) for seed in parameters.seeds}
    trajectories, switch_steps, triggered = {}, {}, {}
    for seed, trajectory in plain.items():
        trajectories["none", seed] = trajectory
        switch_steps[seed], triggered[seed] = switch_step(parameters, trajectory)
        for projection in PROJECTIONS[1:]:
            branch = parameters.run(seed, projection, switch_steps[seed])
            trajectories[projection, seed] = found = get(branch)
            if not isinstance(found, Planned) and found.table.empty:
                raise InvalidParameter(
                    f"{says.rule(trajectory.experiment.method)}, seed {seed}, diverged before its switch "
                    f"at step {switch_steps[seed]:,}; type a learning_rate below "
                    f"{parameters.learning_rate:g}."
                )
    return SwitchStudy(parameters, trajectories, switch_steps, triggered)
