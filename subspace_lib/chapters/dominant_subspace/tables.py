"""Tables of chapter 01."""

from __future__ import annotations

import itertools

from IPython.display import Markdown

from subspace_lib.chapters.dominant_subspace.figures import loss_change_table
from subspace_lib.chapters.dominant_subspace.study import AlignmentStudy
from subspace_lib.chapters.kit.table import table

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
    """Terms of the expansion and the measured change by anchor: means in 10⁻⁶ ± twice their error."""
    frame = 1e6 * loss_change_table(study)
    rows = [
        {"from step": f"{anchor:,}"}
        | {says: f"{row[c]:,.1f} ± {2 * row['error_' + c]:,.1f}" for c, says in TERMS.items()}
        for anchor, row in frame.iterrows()
    ]
    return table(rows, note="Loss change a step, in 10⁻⁶.")


def class_gaps(study: AlignmentStudy) -> Markdown:
    """Where the spectrum breaks after training on fewer classes."""
    rows = []
    for count in study.classes:
        values = study.spectrum(count)
        ratios = [first / second for first, second in itertools.pairwise(values)]
        largest = max(ratios)
        rows.append(
            {
                "classes C": count,
                "ratio of the C-th eigenvalue to the next": f"{ratios[count - 1]:.2f}",
                "the largest such ratio": f"{largest:.2f}",
                "after which": ratios.index(largest) + 1,
            }
        )
    return table(rows)
