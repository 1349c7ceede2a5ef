"""The edge of stability: full-batch GD, Dom-GD and Bulk-GD, other learning rates, a closer look (C6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import by_seed, numbers, source
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy, switch_study
from subspace_lib.results.store import Store
from subspace_lib.runs.pair import Pair
from subspace_lib.trajectory import Trajectory

TOGETHER = 600  # steps for which GD and Bulk-GD are compared


class EdgeParameters(SwitchParameters):
    """Parameters of the study of GD at the edge of stability.

    Rows are an odd number of steps apart, so that they see both phases of an oscillation of period 2.
    ``learning_rates`` are those of further plain runs, with a third of the rows; ``window`` is the length
    of the part that is recorded at every step, after the switch.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "learning_rate": 0.1,
        "steps": 275,
        "switch_step": 165,
        "window": 10,
        "learning_rates": (),
        "seeds": (0, 1, 2),
        "target_angle": 0.5,
        "record_every": 55,
        "spectrum_every": 990,
    }

    learning_rate: float = 0.08
    batch_size: int | Literal["full"] = "full"
    steps: int = 1500
    switch_alignment: float | None = Field(None, gt=0, lt=1)
    switch_step: int = Field(400, ge=1)
    record_every: int = 25
    spectrum_every: int = 100
    learning_rates: tuple[float, ...] = (0.02, 0.05, 0.12, 0.2)
    window: int = Field(100, ge=2)

    @field_validator("learning_rates", mode="before")
    @classmethod
    def _rates_from_text(cls, rates: Any) -> Any:
        return numbers(rates)


@dataclass(frozen=True)
class EdgeStudy:
    """Trajectories of the study of the edge of stability.

    Attributes:
        switch: GD, Dom-GD and Bulk-GD, all seeds.
        window: GD of the first seed, recorded at every step.
        rates: plain GD of the first seed by learning rate, the study's own included.
        pair: GD and Bulk-GD of the first seed side by side (``subspace_lib.runs.pair``).
    """

    switch: SwitchStudy
    window: Trajectory
    rates: dict[float, Trajectory]
    pair: Trajectory


def edge_study(
    parameters: EdgeParameters, store: Store | None = None, *, compute: bool = True
) -> EdgeStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does."""
    parameters, get = parameters.resolved(), source(store, compute)
    seed = parameters.seeds[0]
    rare = {
        "record_every": 3 * parameters.record_every,
        "spectrum_every": 30 * parameters.record_every,
    }
    wanted = {
        rate: parameters.model_copy(update={"learning_rate": rate, **rare}).run(seed, "none")
        for rate in parameters.learning_rates
    }
    wanted[parameters.learning_rate] = parameters.run(seed, "none")
    switch = switch_study(parameters, store, compute=compute)
    start = switch.switch_steps[seed]
    window = parameters.experiment(
        seed,
        switch_step=start,
        steps=start + parameters.window,
        record_every=1,
        spectrum_every=parameters.window,
        refresh_every=1,
    )
    end = min(parameters.steps, start + TOGETHER)
    fields = {"projection": "bulk", "switch_step": start, "steps": end}
    pair = Pair.parse(**parameters.fields(seed, **fields))
    rates = {rate: get(wanted[rate]) for rate in sorted(wanted)}
    return EdgeStudy(switch, get(window), rates, get(pair))


def tasks(parameters: EdgeParameters) -> Stages:
    """The switch seed by seed; then what the first seed alone shows."""
    return [(switch_study, p) for p in by_seed(parameters)], [(edge_study, parameters)]
