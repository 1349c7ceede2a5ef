"""GD on its way to the edge: when λ₁ reaches 2/η, and the alignment before and after (F7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from subspace_lib.evidence import criteria
from subspace_lib.trajectory import Trajectory, window


@dataclass(frozen=True)
class Approach:
    """What is read off one run of plain GD.

    Attributes:
        arrival: first recorded step at which λ₁ ≥ 2/η, or None.
        before: mean alignment up to then, or of the whole run, without the first tenth of these steps.
        highest, mean: of the alignment within 1,000 steps from then on; NaN where λ₁ has not arrived.
        aligned: the first recorded step of these at which the alignment has come, or None; lasting: the
            mean from there on, NaN without it.
        furthest: the largest λ₁ η/2 of the run.
    """

    arrival: int | None
    before: float
    highest: float
    mean: float
    aligned: int | None
    lasting: float
    furthest: float


def approach(run: Trajectory) -> Approach:
    """Read it off the rows of the run."""
    rows, e = run.table, run.experiment
    relative = e.learning_rate / 2 * rows["eigenvalue_01"]
    there = rows.loc[relative >= 1, "step"]
    arrival = None if there.empty else int(there.iloc[0])
    end = int(rows["step"].iloc[-1]) + 1 if arrival is None else arrival
    before = window(run, "alignment", criteria.F7_SKIP * end, end - 1)
    highest = mean = lasting = math.nan
    aligned = None
    if arrival is not None:
        after = rows[rows["step"].between(arrival, arrival + criteria.F7_WITHIN)]
        highest, mean = float(after["alignment"].max()), float(after["alignment"].mean())
        come = after.loc[after["alignment"] >= criteria.F7_AT_EDGE.at_least, "step"]
        if not come.empty:
            aligned = int(come.iloc[0])
            lasting = float(after.loc[after["step"] >= aligned, "alignment"].mean())
    return Approach(arrival, before, highest, mean, aligned, lasting, float(relative.max()))
