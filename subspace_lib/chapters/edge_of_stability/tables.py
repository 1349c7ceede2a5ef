"""Tables of chapter 05."""

from __future__ import annotations

from collections.abc import Mapping

from IPython.display import Markdown

from subspace_lib.chapters.kit.table import percent, table
from subspace_lib.trajectory import Trajectory, tail, tail_loss


def pair(run: Trajectory) -> Markdown:
    """Distances and losses at a few moments of a pair, with the dominant share of the distances."""
    rows = run.table
    picks = rows.iloc[sorted({0, len(rows) // 8, len(rows) // 4, len(rows) // 2, len(rows) - 1})]
    return table(
        [
            {
                "step": f"{r['step']:.0f}",
                "L(GD)": f"{r['loss']:.4f}",
                "L(mean of GD)": f"{r['loss_average']:.4f}",
                "L(Bulk-GD)": f"{r['loss_bulk']:.4f}",
                "‖GD − Bulk‖": f"{r['distance']:.3f}",
                "dominant share": percent(r["dominant_share"]),
                "‖mean − Bulk‖": f"{r['distance_average']:.3f}",
                "its dominant share": percent(r["dominant_share_average"]),
                "Bulk-GD's way": f"{r['travelled']:.3f}",
            }
            for _, r in picks.iterrows()
        ]
    )


def rates(runs: Mapping[float, Trajectory]) -> Markdown:
    """Sharpness, alignment and loss of GD at the end, by learning rate."""
    rows = []
    for rate, run in runs.items():
        row = {"η": f"{rate:g}", "2/η": f"{2 / rate:.3g}", "λ₁ at the end": ""}
        if run.complete:
            sharpness = tail(run, "eigenvalue_01")
            row |= {
                "λ₁ at the end": f"{sharpness:.1f}",
                "λ₁η/2": f"{rate * sharpness / 2:.2f}",
                "alignment": f"{tail(run, 'alignment'):.3f}",
                "loss": f"{tail_loss(run):.4f}",
            }
        rows.append(row | {"outcome": run.status})
    columns = ("η", "2/η", "λ₁ at the end", "λ₁η/2", "alignment", "loss", "outcome")
    return table(rows, columns, note="Means over the last 2% of the steps.")
