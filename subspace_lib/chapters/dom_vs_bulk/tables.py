"""Tables of chapter 02."""

from __future__ import annotations

from collections.abc import Mapping

from IPython.display import Markdown

from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.kit.table import table
from subspace_lib.trajectory import TAIL, Trajectory, tail_loss


def descent(study: SwitchStudy) -> Markdown:
    """Projected descent of SGD's updates after the switch: mean per step, its share ρ, and its sign.

    For the update u = −η g_B the predicted decrease of a part is −(gᵀ Pu + ½ (Pu)ᵀH(Pu)), with g
    of the full data. Means over the recorded steps, ± twice their standard error.
    """
    lines = []
    for trajectory in study.of("none"):
        seed = trajectory.experiment.seed
        rows = trajectory.table[trajectory.table["step"] >= study.switch_steps[seed]]
        steps = rows["step"].iloc[-1] - rows["step"].iloc[0]
        measured = (rows["train_loss"].iloc[0] - rows["train_loss"].iloc[-1]) / steps
        bulk = rows["descent"] - rows["descent_dominant"]
        for part, values in (("dominant", rows["descent_dominant"]), ("bulk", bulk)):
            mean, error = values.mean(), float(values.agg("sem"))
            line = {
                "seed": seed,
                "part": part,
                "predicted decrease per step, 10⁻⁶": f"{1e6 * mean:.1f} ± {2e6 * error:.1f}",
                "ρ of the means": f"{mean / rows['descent'].mean():.2f}",
                "steps on which it lowers the loss": f"{(values > 0).mean():.0%}",
                "measured decrease per step, 10⁻⁶": f"{1e6 * measured:.1f}",
            }
            lines.append(line)
    return table(lines)


def drift(runs: Mapping[str, Trajectory]) -> Markdown:
    """Loss and sharpness at the switch and at the end, with the largest angles in between."""
    lines = []
    for kind, trajectory in runs.items():
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
                "largest certified angle": f"{rows['angle_bound'].max():.3f}",
            }
        )
    return table(lines)
