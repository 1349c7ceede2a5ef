"""What a run has measured, and what is read off it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

TAIL = 0.02  # share of the steps, at the end, over which "at the end" is averaged
COMPLETE = "complete"


@dataclass(frozen=True)
class Trajectory:
    """What a run has measured.

    Attributes:
        experiment: its description.
        table: one row per recorded step; see ``runs.training.COLUMNS``. Losses are those before the step's
            update. Other kinds of run have their own columns.
        status: "complete" or "diverged at step n".
        trigger_step: first step at which the watched alignment exceeded its threshold, or None.
        provenance: commit, versions, machine, wall time, date.
    """

    experiment: Any  # a description of the kind that was run; whoever asked for it knows which
    table: pd.DataFrame
    status: str
    trigger_step: int | None
    provenance: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return self.status == COMPLETE


def tail(trajectory: Trajectory, column: str) -> float:
    """Mean of a column over the rows of the last 2% of the steps that have it."""
    table, steps = trajectory.table, trajectory.experiment.steps
    return float(table.loc[table["step"] >= (1 - TAIL) * steps, column].mean())


def tail_loss(trajectory: Trajectory) -> float:
    """Mean training loss over the rows of the last 2% of the steps."""
    return tail(trajectory, "train_loss")


def progress(plain: Trajectory, branch: Trajectory) -> float:
    """(L_s − L_Y)/(L_s − L_X): 0 where the branch Y stays at the switch, 1 where it does as X.

    L_s is the full training loss at the switch, L_Y and L_X the means of the branch's and the plain
    run's over the last 2% of the steps. NaN where a run diverged or X itself has not progressed.
    """
    if not (plain.complete and branch.complete):
        return math.nan
    at_switch = float(branch.table["train_loss"].iloc[0])
    gained = at_switch - tail_loss(plain)
    return (at_switch - tail_loss(branch)) / gained if gained > 0 else math.nan
