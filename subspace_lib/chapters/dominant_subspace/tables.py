"""Tables of chapter 01."""

from __future__ import annotations

import itertools
import math

from IPython.display import Markdown

from subspace_lib.chapters.dominant_subspace.figures import loss_change_table
from subspace_lib.chapters.dominant_subspace.study import AlignmentStudy
from subspace_lib.chapters.kit.table import table

ORDERS = ("first", "second")
TERMS = {
    "first_dominant": "first order, dominant",
    "second_dominant": "second order, dominant",
    "measured_dominant": "measured, dominant",
    "first_bulk": "first order, bulk",
    "second_bulk": "second order, bulk",
    "measured_bulk": "measured, bulk",
    "measured_whole": "measured, whole",
}


def loss_changes(study: AlignmentStudy) -> Markdown:
    """Terms of the expansion and the measured change by anchor: means in 10⁻⁶ ± twice their error.

    Below: how much of what the first order gains the second takes back, at the last anchor.
    """
    frame = 1e6 * loss_change_table(study)
    rows = [
        {"from step": f"{anchor:,}"}
        | {says: f"{row[c]:,.1f} ± {2 * row['error_' + c]:,.1f}" for c, says in TERMS.items()}
        for anchor, row in frame.iterrows()
    ]
    last, told = frame.iloc[-1], []
    for part, where in (("dominant", "dominant part"), ("bulk", "bulk")):
        first, second = last[f"first_{part}"], last[f"second_{part}"]
        if first < 0 < second:
            # Of a ratio, as if its two terms were independent.
            spread = math.hypot(*(last[f"error_{n}_{part}"] / last[f"{n}_{part}"] for n in ORDERS))
            share = f"{-second / first:.0%} ± {-2 * spread * second / first:.0%}"
            told.append(f"{share} of the first order's gain in the {where}")
    note = "Loss change per step, in 10⁻⁶; ± is twice the standard error of the mean."
    if told:
        note += (
            f" In the {study.parameters.window} steps after step {frame.index[-1]:,} the second order, the "
            f"price of moving along curved directions with noise, cancels {' and '.join(told)}."
        )
    return table(rows, note=note)


def class_gaps(study: AlignmentStudy) -> Markdown:
    """Where the spectrum breaks after training on fewer classes, and for how many it is where they end."""
    rows, there = [], []
    for count in study.classes:
        values = study.spectrum(count)
        ratios = [first / second for first, second in itertools.pairwise(values)]
        largest = max(ratios)
        there += [count] if ratios[count - 1] == largest else []
        rows.append(
            {
                "classes C": count,
                "ratio of the C-th eigenvalue to the next": f"{ratios[count - 1]:.2f}",
                "the largest such ratio": f"{largest:.2f}",
                "after which": ratios.index(largest) + 1,
            }
        )
    note = (
        "If outliers were one for each class, the first and the last column would agree. They do in "
        f"{len(there)} of {len(rows)} cases{': ' if there else ''}{', '.join(map(str, there))}."
    )
    return table(rows, note=note)
