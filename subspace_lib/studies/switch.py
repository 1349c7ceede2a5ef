"""The switch: train with X, then go on with X, Dom-X and Bulk-X (C2, C3; C6 and C7 for other X)."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from subspace_lib.experiment import Experiment, OptimizerName
from subspace_lib.store import Store
from subspace_lib.studies.base import StudyParameters, check_switch, getter
from subspace_lib.training import Trajectory

QUICK = {
    "dataset": "digits",
    "steps": 160,
    "switch_step": 80,
    "seeds": (0,),
    "refresh": 20,
    "target_angle": 0.15,
    "record_every": 20,
    "spectrum_every": 400,
}
PROJECTIONS = ("none", "dominant", "bulk")


class SwitchParameters(StudyParameters):
    """Parameters of a switch study; X is the optimizer. ρ is SAM's, β momentum's and Adam's."""

    optimizer: OptimizerName = "sgd"
    rho: float = 0.05
    beta: float = 0.9
    switch_alignment: float | None = Field(0.95, gt=0, lt=1)
    switch_step: int = Field(3000, ge=1)

    def resolved(self) -> SwitchParameters:
        """The parameters in force, after the profile."""
        return self.in_profile(QUICK)

    def run(self, seed: int, projection: str, switch_step: int = 0) -> Experiment:
        """X from beginning to end, or Dom-X or Bulk-X from the switch on.

        A plain run that does not watch its alignment needs the subspace at recorded rows only.
        """
        fields = {"optimizer": self.optimizer, "rho": self.rho, "beta": self.beta}
        if projection != "none":
            return self.experiment(seed, projection=projection, switch_step=switch_step, **fields)
        fields["watch_alignment"] = self.switch_alignment
        if self.switch_alignment is None and self.refresh == "adaptive":
            fields["refresh"] = self.record_every
        return self.experiment(seed, **fields)


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
        return self.of(projection)[0].experiment.method


def switch_step(parameters: SwitchParameters, plain: Trajectory) -> tuple[int, bool]:
    """Where to switch, and whether the alignment's moving average asked for it there."""
    if parameters.switch_alignment is not None and plain.trigger_step is not None:
        return plain.trigger_step, True
    return parameters.switch_step, False


def switch_study(
    parameters: SwitchParameters, store: Store | None = None, *, compute: bool = True
) -> SwitchStudy:
    """Load a switch study, or compute what is missing of it.

    Raises:
        InvalidParameter: a parameter is out of bounds, before anything runs.
        MissingRun: with ``compute=False``, when a run is not stored.
        Corrupted: with ``compute=False``, when a stored file is incomplete or altered.
    """
    parameters, get = parameters.resolved(), getter(store, compute)
    check_switch(parameters.switch_step, parameters.steps)
    plain = {seed: parameters.run(seed, "none") for seed in parameters.seeds}
    trajectories, switch_steps, triggered = {}, {}, {}
    for seed, experiment in plain.items():
        trajectory = trajectories["none", seed] = get(experiment)
        switch_steps[seed], triggered[seed] = switch_step(parameters, trajectory)
        for projection in PROJECTIONS[1:]:
            branch = parameters.run(seed, projection, switch_steps[seed])
            trajectories[projection, seed] = get(branch)
    return SwitchStudy(parameters, trajectories, switch_steps, triggered)


REPLICATION_SWITCH = 1950  # the step near which the public replication switches
STALE = 500  # steps for which the stale basis is left as it is


def replication_study(
    parameters: SwitchParameters, store: Store | None = None, *, compute: bool = True
) -> dict[str, Trajectory]:
    """Dom-SGD at twice the learning rate: does its loss rise, and does a stale basis make it rise?

    A loss without ½ at η, as in the public replication, is ours at 2η. The first seed, by kind of basis:
    certified, or left as it is for 500 steps. Twice the rate doubles the jitter that turns the subspace
    at every step, so the target angle is doubled. The switch is at step 1,950, or halfway in runs that
    are too short for that.
    """
    parameters, get = parameters.resolved(), getter(store, compute)
    switch = min(REPLICATION_SWITCH, parameters.steps // 2)
    stale = min(STALE, parameters.steps // 10)
    # A recorded row refreshes the basis, so rows must be as rare as refreshes.
    rare = {"refresh": stale, "record_every": stale, "spectrum_every": 2 * stale}
    runs = {}
    for kind, changes in {"certified": {}, f"stale by up to {stale} steps": rare}.items():
        faster = {
            "learning_rate": 2 * parameters.learning_rate,
            "target_angle": min(0.5, 2 * parameters.target_angle),
            **changes,
        }
        changed = parameters.model_copy(update=faster)
        runs[kind] = get(changed.run(parameters.seeds[0], "dominant", switch))
    return runs
