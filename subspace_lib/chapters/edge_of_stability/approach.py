"""GD on its way to the edge: when λ₁ reaches 2/η, and the alignment before and after (F7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from subspace_lib.chapters.edge_of_stability.study import EdgeStudy
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.table import span
from subspace_lib.evidence import criteria
from subspace_lib.trajectory import Trajectory, window

NAMES = {"mse": "mean squared error", "cross_entropy": "cross-entropy"}
BRIEF = 0.1  # a share of rows below which it is said how few they are
NO_BOUND = 0.99  # a sine from which on a bound says nothing


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
        rows, rows_aligned: recorded within these steps, and how many of them are aligned.
        bound: the least bound on the angle of the basis at an aligned row; NaN without one.
    """

    arrival: int | None
    before: float
    highest: float
    mean: float
    aligned: int | None
    lasting: float
    furthest: float
    rows: int = 0
    rows_aligned: int = 0
    bound: float = math.nan


def approach(run: Trajectory) -> Approach:
    """Read it off the rows of the run."""
    rows, e = run.table, run.experiment
    relative = e.learning_rate / 2 * rows["eigenvalue_01"]
    there = rows.loc[relative >= 1, "step"]
    arrival = None if there.empty else int(there.iloc[0])
    end = int(rows["step"].iloc[-1]) + 1 if arrival is None else arrival
    before = window(run, "alignment", criteria.F7_SKIP * end, end - 1)
    highest = mean = lasting = bound = math.nan
    aligned, count, aligned_count = None, 0, 0
    if arrival is not None:
        after = rows[rows["step"].between(arrival, arrival + criteria.F7_WITHIN)]
        highest, mean = float(after["alignment"].max()), float(after["alignment"].mean())
        come = after[after["alignment"] >= criteria.F7_AT_EDGE.at_least]
        count, aligned_count = len(after), len(come)
        if not come.empty:
            aligned, bound = int(come["step"].iloc[0]), float(come["angle_bound"].min())
            lasting = float(after.loc[after["step"] >= aligned, "alignment"].mean())
    return Approach(
        arrival,
        before,
        highest,
        mean,
        aligned,
        lasting,
        float(relative.max()),
        count,
        aligned_count,
        bound,
    )


def briefly(study: EdgeStudy) -> str:
    """With which loss the alignment stays for few rows, or at rows at which nothing bounds the angle."""
    told = []
    for loss in study.parameters.approach_losses:
        largest = study.parameters.largest(loss)
        ways = ((way[:2], run) for way, run in study.approaches.items())
        found = [approach(run) for way, run in ways if way == (loss, largest)]
        share = [each.rows_aligned / each.rows for each in found if each.rows]
        if share and says.mean(share) < BRIEF:
            counts = span((each.rows_aligned for each in found if each.rows), "d")
            rows = span((each.rows for each in found if each.rows), "d")
            unknown = all(each.bound >= NO_BOUND for each in found)
            told.append(
                f"With {NAMES[loss]} the alignment is {criteria.F7_AT_EDGE} at {counts} of {rows} rows of "
                f"a run{', where nothing bounds the angle of the basis' if unknown else ''}."
            )
    return " ".join(dict.fromkeys(told))
