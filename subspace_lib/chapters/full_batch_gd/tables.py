"""Tables of chapter 03."""

from __future__ import annotations

from IPython.display import Markdown

from subspace_lib.chapters.full_batch_gd.figures import alignment_by_size
from subspace_lib.chapters.full_batch_gd.study import BatchStudy
from subspace_lib.chapters.kit.table import table


def noise_shares(study: BatchStudy) -> Markdown:
    """Share of the gradient noise's variance in S_k at the switch, by seed, and what was expected."""
    k, rows = study.parameters.k, []
    for seed in study.parameters.seeds:
        scatter, values = study.point(seed, "noise"), study.point(seed, "eigenvalue")
        trace = study.point(seed, "trace").loc[0]
        rows.append(
            {
                "seed": seed,
                "share of SGD's noise in Sₖ": f"{scatter.loc[1:k].sum() / scatter.loc[0]:.3f}",
                "Σλᵢ/tr H": f"{values.loc[1:k].sum() / trace:.3f}",
                "variance of a sample's gradient": f"{scatter.loc[0]:.3g}",
            }
        )
    return table(rows, note="Variances are summed over all coordinates of the gradient.")


def batch_sizes(study: BatchStudy) -> Markdown:
    """Alignment by batch size, means over seeds: predicted, after the switch, at the end."""
    frame = alignment_by_size(study).groupby("batch").mean().drop(columns="seed")
    rows = [
        {"batch size": f"{size:,}"} | {str(name): f"{value:.3f}" for name, value in row.items()}
        for size, row in frame.iterrows()
    ]
    return table(rows)
