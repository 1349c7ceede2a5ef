"""The edge of stability: GD, Dom-GD and Bulk-GD (C6), Bulk-GD beyond it (F5), the way to it (F7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.edge import EdgeSwitchParameters
from subspace_lib.chapters.kit.rows import spans
from subspace_lib.chapters.kit.study import (
    SMALL,
    Plan,
    by_seed,
    compute as compute_run,
    described_first,
    optional,
    source,
    stored,
)
from subspace_lib.chapters.kit.switch.study import SwitchStudy, switch_study
from subspace_lib.chapters.kit.typed import numbers
from subspace_lib.experiment import Experiment, LossName, Rate, Seed, Steps
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store
from subspace_lib.runs.pair import Pair
from subspace_lib.trajectory import Trajectory

FRESH = 5  # rows of a way to the edge from one measured λ₁ to the next, at most
TOGETHER = 600  # steps for which GD and Bulk-GD are compared
Way = tuple[str, float, int]  # loss, η and seed of a run that comes to the edge


class EdgeParameters(EdgeSwitchParameters):
    """Parameters of the study of GD at the edge of stability.

    ``window`` is the length of the part that is recorded at every step, after the switch; in a run of
    ``onward_steps`` Bulk-GD of the first seed goes on. The
    ``approach_`` are of plain runs that begin well below the edge, one for each place of the lists: of each
    loss the largest η for all ``approach_seeds``, the others for the first of them; each has about
    ``approach_rows`` rows.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "preprocessing": "standardized",
        "model": SMALL,
        "learning_rate": 0.25,
        "steps": 500,
        "switch_step": 250,
        "window": 30,
        "onward_steps": 700,
        "approach_losses": ("mse",),
        "approach_rates": (0.16,),
        "approach_steps": (420,),
        "approach_rows": 42,
        "approach_seeds": (0, 1, 2),
        "seeds": (0, 1, 2),
        "target_angle": 0.5,
        "period": 1,
        "record_every": 25,
        "window_every": 15,
        "sharpness_every": 15,
    }

    seeds: tuple[Seed, ...] = Field((11, 12, 13, 14, 15), min_length=1)
    window: int = Field(100, ge=2, le=1_000_000)
    onward_steps: Steps = Field(15_000, description="of a long run of Bulk-GD")
    approach_losses: tuple[LossName, ...] = ("mse", "mse", "cross_entropy", "cross_entropy")
    approach_rates: tuple[Rate, ...] = (0.05, 0.02, 0.33, 0.1)
    approach_steps: tuple[Steps, ...] = (4000, 12_000, 3000, 4000)
    approach_rows: int = Field(400, ge=2, le=1_000_000)
    approach_seeds: tuple[Seed, ...] = Field((12, 11, 13), min_length=1)

    @field_validator(
        "approach_losses", "approach_rates", "approach_steps", "approach_seeds", mode="before"
    )
    @classmethod
    def _list_from_text(cls, values: Any) -> Any:
        return numbers(values)

    def largest(self, loss: str) -> float:
        """The largest η of the runs that come to the edge with this loss."""
        rates = zip(self.approach_losses, self.approach_rates, strict=True)
        return max(rate for of, rate in rates if of == loss)

    def approaches(self) -> dict[Way, Experiment]:
        """Plain GD on its way to the edge, by loss, η and seed.

        Raises:
            InvalidParameter: the lists are not as long as each other, or a value is out of bounds.
        """
        found = {}
        lists = self.approach_losses, self.approach_rates, self.approach_steps
        if len({len(values) for values in lists}) > 1:
            raise InvalidParameter(
                f"approach_losses, approach_rates and approach_steps have {[*map(len, lists)]} entries: "
                "they must have as many."
            )
        for loss, rate, steps in zip(*lists, strict=True):
            judged = rate == self.largest(loss)
            for seed in self.approach_seeds if judged else self.approach_seeds[:1]:
                own = {"loss": loss, "learning_rate": rate, "steps": steps}
                fields = own | _sparse(steps, self.approach_rows)
                found[loss, rate, seed] = self.experiment(seed, **fields)
        return found


def _sparse(steps: int, count: int) -> dict[str, Any]:
    """About so many rows, an odd number of steps apart, and at every fifth of them λ₁ measured anew."""
    every = max(3, steps // count | 1)
    fresh = spans(FRESH * every, (0, steps))
    rows: dict[str, Any] = {"record_every": every, "record_spans": (), "fresh_spans": fresh}
    return rows | {"spectrum_every": None}


@dataclass(frozen=True)
class EdgeStudy:
    """Trajectories of the study of the edge of stability.

    Attributes:
        switch: GD, Dom-GD and Bulk-GD, all seeds.
        close: "window" and "pair" of the first seed.
        onward: Bulk-GD of the first seed for longer, by that seed.
        approaches: plain GD on its way to the edge, by loss, η and seed.
    """

    switch: SwitchStudy
    close: dict[str, Trajectory]
    onward: dict[int, Trajectory]
    approaches: dict[Way, Trajectory]

    @property
    def window(self) -> Trajectory:
        """GD of the first seed, recorded at every step."""
        return self.close["window"]

    @property
    def pair(self) -> Trajectory:
        """GD and Bulk-GD of the first seed side by side (``subspace_lib.runs.pair``)."""
        return self.close["pair"]

    @property
    def parameters(self) -> EdgeParameters:
        """Those in force."""
        assert isinstance(self.switch.parameters, EdgeParameters)
        return self.switch.parameters

    def runs(self) -> list[Trajectory]:
        """All of them, in the order of the page."""
        return stored(self.switch.trajectories, self.close, self.onward, self.approaches)


@described_first
def edge_study(
    parameters: EdgeParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> EdgeStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does.

    With ``compute=False`` C6 does not wait for what else the chapter shows.
    """
    p, get = parameters.resolved(), source(store, compute)
    seed = p.seeds[0]
    approaches = p.approaches()  # first: a bad value is an error before anything runs
    switch = switch_study(p, store, compute=compute)
    start = switch.switch_steps[seed]
    rows = {"record_every": 1, "record_spans": (), "fresh_spans": ()}
    window = p.experiment(seed, switch_step=start, steps=start + p.window, refresh_every=1, **rows)
    end = min(p.steps, start + TOGETHER)
    sparse = _sparse(p.onward_steps, p.approach_rows)
    further = {"projection": "bulk", "switch_step": start, "steps": p.onward_steps}
    onward = p.experiment(seed, **further | sparse)
    pair = Pair.parse(**p.fields(seed, projection="bulk", switch_step=start, steps=end))
    return EdgeStudy(
        switch,
        optional(lambda: {"window": get(window), "pair": get(pair)}),
        optional(lambda: {seed: get(onward)}),
        optional(lambda: {way: get(experiment) for way, experiment in approaches.items()}),
    )


def tasks(parameters: EdgeParameters) -> Stages:
    """The switch seed by seed, and the long ways to the edge; then what the first seed alone shows."""
    seeds = [(switch_study, p) for p in by_seed(parameters)]
    approaches = [(compute_run, experiment) for experiment in parameters.approaches().values()]
    return [*approaches, *seeds], [(edge_study, parameters)]
