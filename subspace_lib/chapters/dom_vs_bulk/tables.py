"""Tables of chapter 02."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib.chapters.dom_vs_bulk.study import DomBulkStudy
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.kit.table import Row, table
from subspace_lib.evidence.criteria import TAIL
from subspace_lib.trajectory import tail_loss


def descent(study: SwitchStudy) -> Markdown:
    """Projected descent of SGD's updates after the switch: mean per step, and its sign.

    For the update u = −η g_B the predicted decrease of a part is −(gᵀ Pu + ½ (Pu)ᵀH(Pu)), with g
    of the full data. Means over the rows at which the subspace was refreshed, ± twice their standard error.
    """
    lines: list[Row] = []
    for trajectory in study.of("none"):
        seed = trajectory.experiment.seed
        rows = trajectory.table[trajectory.table["step"] >= study.switch_steps[seed]]
        seen = rows[rows["descent"].notna()]
        bulk = seen["descent"] - seen["descent_dominant"]
        for part, values in (("dominant", seen["descent_dominant"]), ("bulk", bulk)):
            mean, error = values.mean(), float(values.agg("sem"))
            lines.append(
                {
                    "seed": seed,
                    "part": part,
                    "rows": len(values),
                    "predicted decrease per step, 10⁻⁶": f"{1e6 * mean:.1f} ± {2e6 * error:.1f}",
                    "rows with a predicted decrease": f"{(values > 0).mean():.0%}",
                }
            )
    return table(lines, note="± is twice the standard error over rows.")


def settings(study: DomBulkStudy) -> Markdown:
    """C1's to C4's quantities with the paper's settings and with those that it may have had instead."""
    lines, seed = [], None
    for label, setting in study.settings.items():
        (seed,) = setting.switch.parameters.seeds
        step = setting.switch.switch_steps[seed]
        late = " (fallback)" if setting.switch.note() else ""
        found = {name: _number(value) for name, value in setting.quantities().items()}
        loss = tail_loss(setting.switch.of("none")[0])
        lines.append(
            {"setting": label, "switch": f"{step:,}{late}", "SGD's loss, late": f"{loss:.4f}"}
            | found
        )
    return table(lines, note=f"Seed {seed} alone: shown, not judged.")


def drift(study: DomBulkStudy) -> Markdown:
    """Dom-SGD at 2η: loss and sharpness at the switch and at the end, and the largest angles in between."""
    lines = []
    for kind, trajectory in study.doubled().items():
        rows, last = trajectory.table, trajectory.table.iloc[-1]
        window = max(1, round(TAIL * len(rows)))
        lowest = rows["train_loss"].rolling(window).mean().min()
        lines.append(
            {
                "basis": kind,
                "loss at the switch": f"{rows['train_loss'].iloc[0]:.4f}",
                "lowest mean over 2% of the rows": f"{lowest:.4f}",
                "mean over the last 2% of the steps": f"{tail_loss(trajectory):.4f}",
                "λ₁ at the switch": f"{rows['eigenvalue_01'].iloc[0]:.1f}",
                "at the end": f"{last['eigenvalue_01']:.1f}",
                "largest turn": f"{rows['turn'].max():.3f}",
                "largest angle in use": f"{rows['angle_bound'].max():.3f}",
            }
        )
    return table(lines)


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"
