"""Other spaces in the place of S_k, from the same switch (Q5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from subspace_lib.chapters.kit.rows import rows, thinned
from subspace_lib.chapters.kit.study import Plan, source
from subspace_lib.chapters.kit.switch.panel import PanelParameters
from subspace_lib.chapters.kit.switch.study import SwitchStudy, switch_study
from subspace_lib.evidence.criteria import TAIL
from subspace_lib.experiment import Count, Every, Steps
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs.substitute import SpaceName, Substitute
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory, progress, tail, until

FOLLOWED = "Sₖ, followed"
RANDOM = "random"
NAMES: dict[SpaceName, str] = {
    "batch_hessian": "H of the minibatch",
    "gauss_newton": "Gauss–Newton",
    "sample_gradients": "covariance of sample gradients",
    "batch_gradients": "covariance of minibatch gradients",
    "mean_outputs": "gradients of the mean outputs",
    "random": RANDOM,
    "adam_coordinates": "Adam's largest coordinates",
    "adam_hessian": "Adam's preconditioned H",
}
LATE = 37  # steps between rows at the end: no divisor of how long a basis is kept


def kept(steps: int) -> str:
    """The name of a basis of S_k that is kept for so many steps."""
    return f"Sₖ, kept {steps:,} step{'s' if steps > 1 else ''}"


def hessian_of(samples: int) -> str:
    """The name of the leading space of the Hessian on so many samples."""
    return f"H of {samples:,} samples"


class SpacesParameters(PanelParameters):
    """A switch study, and the spaces that are put in the place of S_k at its switch."""

    kept: tuple[Every, ...]
    subsets: tuple[Count, ...]
    others: tuple[SpaceName, ...]
    intervals: dict[SpaceName, Every]
    interval: Every
    batches: int
    space_steps: Steps
    compare_every: Every
    left_out: tuple[str, ...] = ()

    def spaces(self) -> dict[str, dict[str, Any]]:
        """What is put in the place of S_k, by name: the fields of its runs."""
        found: dict[str, dict[str, Any]] = {
            kept(steps): {"space": "hessian", "refresh_every": steps} for steps in self.kept
        }
        for samples in self.subsets:
            fields = {"space": "hessian", "matrix_samples": samples, "drawn": "at random"}
            found[hessian_of(samples)] = fields | {"refresh_every": self.interval}
        for space in self.others:
            every = self.intervals.get(space, self.interval)
            found[NAMES[space]] = {"space": space, "refresh_every": every}
            if space == "batch_gradients":
                found[NAMES[space]]["batches"] = self.batches
        return {name: fields for name, fields in found.items() if name not in self.left_out}

    def substitute(self, seed: int, side: str, switch: int, **space: Any) -> Substitute:
        """Dom- or Bulk-SGD in one of the spaces, with rows all along and some more at the end."""
        end = min(self.steps, switch + self.space_steps)
        late = thinned(LATE, (int((1 - TAIL) * end), end))
        fields: dict[str, Any] = {"projection": side, "switch_step": switch, "steps": end}
        fields |= {"spectrum_every": None, **rows(self.compare_every, (switch, end), *late)}
        return Substitute.parse(**self.fields(seed, **fields | space))


@dataclass(frozen=True)
class SpaceStudy:
    """Dom- and Bulk-SGD in other spaces.

    Attributes:
        switch: the study that the switch is from, with SGD and the runs that follow S_k.
        runs: by name of the space, projection and seed; a space of which one is missing is left out.
    """

    parameters: SpacesParameters
    switch: SwitchStudy
    runs: dict[tuple[str, str, int], Trajectory]

    def names(self) -> list[str]:
        """Of the spaces, S_k itself first."""
        there = {name for name, _, _ in self.runs}
        order = self.parameters.model_copy(update={"left_out": ()}).spaces()
        return [FOLLOWED, *(name for name in order if name in there)]

    def of(self, name: str, side: str) -> list[Trajectory]:
        """The runs of one space and projection, by seed; as far as the others go, where S_k is followed."""
        if name != FOLLOWED:
            return [run for (own, s, _), run in self.runs.items() if (own, s) == (name, side)]
        p, switch = self.parameters, self.switch
        return [
            until(switch.trajectories[side, seed], switch.switch_steps[seed] + p.space_steps)
            for seed in p.seeds
        ]

    def pairs(self, name: str, side: str) -> list[tuple[Trajectory, Trajectory]]:
        """SGD up to the same step, and the run; by seed."""
        return [
            (until(self.switch.trajectories["none", e.seed], e.steps), run)
            for run in self.of(name, side)
            for e in (run.experiment,)
        ]

    def progress(self, name: str, side: str) -> list[float]:
        """Progress, by seed."""
        return [progress(*pair) for pair in self.pairs(name, side)]

    def along(self, name: str, side: str, column: str) -> list[float]:
        """Mean of a column over the rows after the switch, by seed; S_k followed has other columns."""
        return [float(run.table[column].iloc[1:].mean()) for run in self.of(name, side)]

    def inside(self, name: str, side: str) -> list[float]:
        """Late alignment of the full-batch gradient with the space, by seed."""
        return [tail(run, "alignment") for run in self.of(name, side)]

    def stored(self) -> list[Trajectory]:
        """Every run."""
        return [*self.switch.trajectories.values(), *self.runs.values()]


def space_study(
    p: SpacesParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> SpaceStudy:
    """Load the runs of all spaces, or compute what is missing of them.

    Raises:
        MissingRun: with ``compute=False``, where no space has all of its runs.
    """
    switch, get = switch_study(p, store, compute=compute), source(store, compute)
    runs: dict[tuple[str, str, int], Trajectory] = {}
    lacking: MissingRun | None = None
    for name, space in p.spaces().items():
        try:
            runs |= {
                (name, side, seed): get(p.substitute(seed, side, step, **space))
                for seed, step in switch.switch_steps.items()
                for side in PROJECTIONS[1:]
            }
        except MissingRun as error:
            lacking = error
    if not runs and lacking is not None:
        raise lacking
    return SpaceStudy(p, switch, runs)
