"""Tables of chapter 13."""

from __future__ import annotations

import numpy as np
import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.follow_ups.study import FollowUpStudy
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.study import Absent, there
from subspace_lib.chapters.kit.table import Row
from subspace_lib.runs.trials import CHANGES
from subspace_lib.trajectory import Trajectory

EPSILON = float(np.finfo(np.float32).eps)
RESOLVED = 2  # of these, relative to the loss: a change of it that is more than rounding


def protocol(study: FollowUpStudy) -> Markdown:
    """The parameters in force, the switches, and what is missing."""
    parts = {"weighted updates": study.weighted, "noise and sharpness": study.noise}
    parts |= {"steps tried": study.trials}
    rows: list[Row] = [
        {"parameter": name, "in force": "**missing**: not all of its runs are stored"}
        for name, part in parts.items()
        if isinstance(part, Absent)
    ]
    rows += [
        {"parameter": f"switch, seed {seed}", "in force": f"step {step:,}"}
        for seed, step in study.switches.items()
    ]
    weighted = there(study.weighted)
    rows += [
        {"parameter": f"α = {a:g}, β = {b:g}, seed {seed}", "in force": f"**{run.status}**"}
        for ((a, b), seed), run in weighted.items()
        if not run.complete
    ]
    named = {id(run) for run in weighted.values()}
    others = [run for run in study.runs() if id(run) not in named]
    return page.in_force(study.parameters, others, rows)


def critical(run: Trajectory) -> pd.Series:
    """By step: the η, over the run's, above which a Dom step raises the full loss.

    The dominant part of the update −η g_B changes the loss by −η ⟨Pg, g_B⟩ + ½ η² g_BᵀPHP g_B, that is by
    zero at η_c = 2 ⟨Pg, g_B⟩/g_BᵀPHP g_B. Rows of one batch each, at their refreshes; NaN where the batch's
    gradient goes the other way, or the curvature is not positive.
    """
    rows, slope = _slopes(run)
    bend = slope - rows["descent_dominant"]
    ratio = (slope / bend).where((slope > 0) & (bend > 0), np.nan)
    return pd.Series(ratio.to_numpy(), index=rows["step"].to_numpy())


def dominant_steps(run: Trajectory) -> pd.DataFrame:
    """By step: whether the Dom step of one batch lowers the loss; whether none could, ⟨Pg, g_B⟩ ≤ 0."""
    rows, slope = _slopes(run)
    found = {"lowers": rows["descent_dominant"] > 0, "against": slope <= 0}
    return pd.DataFrame(found).set_index(rows["step"])


def tried(study: FollowUpStudy) -> pd.DataFrame:
    """Every point at which Dom-SGD's step was tried, with its phase; of runs that have not diverged."""
    parts = [
        run.table.assign(after=run.table["step"] >= study.switches[seed])
        for seed, run in study.trials.items()
        if run.complete
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def resolved(points: pd.DataFrame) -> pd.DataFrame:
    """The points, with NaN for a change that the loss, a 32-bit number, can hardly hold."""
    changes = points[["change", *CHANGES]]
    least = RESOLVED * EPSILON * points["train_loss"].abs()
    return points.assign(**changes.where(changes.abs().ge(least, axis=0)))


def _slopes(run: Trajectory) -> tuple[pd.DataFrame, pd.Series]:
    """The rows that know the second-order terms, and η ⟨Pg, g_B⟩ of each."""
    rows = run.table[run.table["descent_dominant"].notna()]
    return rows, rows["dominant_rate"] * (rows["alignment"] * rows["gradient_norm"]) ** 2
