"""Tables of chapter 05."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib.chapters.edge_of_stability.approach import approach
from subspace_lib.chapters.edge_of_stability.study import EdgeStudy
from subspace_lib.chapters.kit.names import title
from subspace_lib.chapters.kit.switch import tables as switch_tables
from subspace_lib.chapters.kit.table import percent, table
from subspace_lib.evidence import criteria
from subspace_lib.trajectory import Trajectory


def protocol(study: EdgeStudy) -> Markdown:
    """The parameters in force, the switch, and the runs that did not come to their end."""
    return switch_tables.protocol(study.switch)


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
                "dominant share, GD": percent(r["dominant_share"]),
                "‖mean − Bulk‖": f"{r['distance_average']:.3f}",
                "dominant share, mean": percent(r["dominant_share_average"]),
                "Bulk-GD, from the switch": f"{r['travelled']:.3f}",
            }
            for _, r in picks.iterrows()
        ],
        note="Mean of GD: of its last iterates. Last column: the distance of Bulk-GD from the "
        "switch. Dominant share: of the squared distance to its left.",
    )


def approaches(study: EdgeStudy) -> Markdown:
    """When λ₁ reaches 2/η, and the alignment before and after, by loss, η and seed."""
    rows = []
    for (loss, rate, seed), run in study.approaches.items():
        found = approach(run)
        row = {
            "loss": title(loss),
            "η": f"{rate:g}",
            "seed": seed,
            "steps": f"{run.experiment.steps:,}",
            "largest λ₁η/2": f"{found.furthest:.2f}",
            "λ₁ ≥ 2/η from step": "never" if found.arrival is None else f"{found.arrival:,}",
            "mean alignment before": "" if math.isnan(found.before) else f"{found.before:.3f}",
        }
        if found.arrival is not None:
            come = "not yet" if found.aligned is None else f"{found.aligned:,}"
            row |= {
                f"alignment {criteria.F7_AT_EDGE} from step": come,
                "highest": f"{found.highest:.3f}",
                "mean at the edge": f"{found.mean:.3f}",
                "mean since it came": "" if math.isnan(found.lasting) else f"{found.lasting:.3f}",
            }
        rows.append(row)
    return table(
        rows,
        note=f"Before: without the first {criteria.F7_SKIP:.0%} of these steps. Highest, mean: within "
        f"{criteria.F7_WITHIN:,} steps from where λ₁ has reached 2/η.",
    )
