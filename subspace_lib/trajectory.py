"""What a run has measured, and what is read off it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from subspace_lib.evidence.criteria import DIVERGED_PROGRESS, MINIMUM_GAIN, PROGRESS_CLIP, TAIL

COMPLETE = "complete"
_looked_at: ContextVar[dict[str, None] | None] = ContextVar("looked_at", default=None)


@contextmanager
def looked_at() -> Iterator[dict[str, None]]:
    """Within it, the keys of the runs whose tables are looked at, in that order."""
    keys: dict[str, None] = {}
    token = _looked_at.set(keys)
    try:
        yield keys
    finally:
        _looked_at.reset(token)


def certified(table: pd.DataFrame) -> pd.DataFrame:
    """The table of a training run, with what is known of the basis at rows that nothing looked before.

    A row has the largest turn and bound since the row before. Where a budget, or a fixed ``refresh_every``,
    allows neither look nor refresh in between, both stand at 0 as if nothing had turned. What is known of
    such a stretch is what the next look or refresh measures; without one the bound is 1.
    """
    if not {"angle_bound", "refresh_step", "turn", "angle"} <= {*table.columns}:
        return table
    blind = (table["angle_bound"] == 0) & (table["refresh_step"] != table["step"])
    if not blind.any():
        return table
    turn, bound = (table[name].mask(blind).bfill() for name in ("turn", "angle_bound"))
    return table.assign(turn=turn, angle_bound=bound.fillna(1.0), angle=table["angle"].mask(blind))


@dataclass(frozen=True)
class Trajectory:
    """What a run has measured.

    Attributes:
        experiment: its description.
        table: one row per recorded step; see ``runs.training.COLUMNS``. Losses are those before the step's
            update. Other kinds of run have their own columns.
        status: "complete" or "diverged at step n".
        trigger_step: first step at which the watched alignment exceeded its threshold, or the step that
            counts where it has not (``switch_by``), or None.
        provenance: commit, versions, machine, wall time, date.
        part_of: key of the stored run, where the description is that of a shorter one.
    """

    experiment: Any  # a description of the kind that was run; whoever asked for it knows which
    table: pd.DataFrame
    status: str
    trigger_step: int | None
    provenance: dict[str, Any]
    part_of: str | None = field(default=None, kw_only=True)

    def __getattribute__(self, name: str) -> Any:
        if name == "table" and (keys := _looked_at.get()) is not None:
            keys[self.part_of or self.experiment.key] = None
        return object.__getattribute__(self, name)

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return self.status == COMPLETE


def until(trajectory: Trajectory, step: int) -> Trajectory:
    """A training run as it was at a step: complete where it came so far, without the rows after it.

    Its description is that of a shorter run, and no longer that of the one in the store.
    """
    if trajectory.experiment.steps <= step:
        return trajectory
    rows = trajectory.table[trajectory.table["step"] <= step]
    came = len(trajectory.table) > 0 and int(trajectory.table["step"].iloc[-1]) >= step
    shorter = trajectory.experiment.model_copy(update={"steps": step})
    status = COMPLETE if came else trajectory.status
    whole = trajectory.part_of or trajectory.experiment.key
    return replace(trajectory, table=rows, experiment=shorter, status=status, part_of=whole)


def window(trajectory: Trajectory, column: str, first: float, last: float) -> float:
    """Mean of a column over the rows of the steps ``first`` … ``last`` that have it, both included."""
    table = trajectory.table
    return float(table.loc[table["step"].between(first, last), column].mean())


def tail(trajectory: Trajectory, column: str) -> float:
    """Mean of a column over the rows of the last 2% of the steps that have it."""
    steps = trajectory.experiment.steps
    return window(trajectory, column, (1 - TAIL) * steps, steps)


def tail_loss(trajectory: Trajectory) -> float:
    """Mean training loss over the rows of the last 2% of the steps."""
    return tail(trajectory, "train_loss")


def gradients_per_step(
    trajectory: Trajectory, first: int | None = None, last: float = math.inf
) -> float:
    """Work for each step, in gradients over all data: from the first row at or after a step on.

    That step is the run's ``switch_step`` unless it is given; up to the last row, or the last one up to
    ``last``. So it has neither the steps before nor the cold start. NaN where there is one row, or none.
    """
    first = trajectory.experiment.switch_step if first is None else first
    rows = trajectory.table[trajectory.table["step"].between(first, last)]
    if len(rows) < 2:
        return math.nan
    steps, work = (
        float(rows[name].iloc[-1] - rows[name].iloc[0]) for name in ("step", "gradient_equivalents")
    )
    return work / steps


def progress(plain: Trajectory, branch: Trajectory, at_switch: float | None = None) -> float:
    """(L_s − L_Y)/(L_s − L_X): 0 where the branch Y stays at the switch, 1 where it does as X.

    L_s is the training loss at the switch, that of the branch's first row unless it is given; L_Y and
    L_X are the means of the branch's and of the plain run's over the last 2% of the steps. Clipped to
    −1 … 2; −1 for a branch that diverged. NaN where X made no progress: it diverged, or gained less than a
    tenth of L_s.
    """
    if not plain.complete:
        return math.nan
    start = float(branch.table["train_loss"].iloc[0]) if at_switch is None else at_switch
    gained = start - tail_loss(plain)
    if not gained >= MINIMUM_GAIN * start:
        return math.nan
    if not branch.complete:
        return DIVERGED_PROGRESS
    return float(np.clip((start - tail_loss(branch)) / gained, *PROGRESS_CLIP))
