"""Tables of a switch study."""

from __future__ import annotations

import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.kit.table import percent, table
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import gradients_per_step


def protocol(study: SwitchStudy) -> Markdown:
    """The parameters in force, the switch, and the outcome of each run, as a table."""
    p, rows = study.parameters, []
    for seed in p.seeds:
        if study.triggered[seed]:
            why = f"alignment's moving average above {p.switch_alignment}"
        elif p.switch_alignment is not None:
            why = f"**by the fallback**: the moving average had not exceeded {p.switch_alignment}"
        else:
            why = "fixed by switch_step"
        step = f"step {study.switch_steps[seed]}: {why}"
        rows.append({"parameter": f"switch, seed {seed}", "in force": step})
    return page.in_force(p, study.trajectories.values(), rows)


def cost(study: SwitchStudy) -> Markdown:
    """What following the subspace cost, per method, as means over seeds; a step's, the cold start apart."""
    rows, p = [], study.parameters
    plain = (2 if p.optimizer == "sam" else 1) * (
        1 if p.batch_size == "full" else min(1.0, p.batch_size / p.samples)
    )
    for projection in PROJECTIONS:
        runs = study.of(projection)
        ends = pd.DataFrame([t.table.iloc[-1] for t in runs]).reset_index()
        starts = pd.DataFrame([t.table.iloc[0] for t in runs]).reset_index()
        steps = (ends["step"] - starts["step"]).mean()
        refreshes = ends["refreshes"].mean()
        rows.append(
            {
                "method": study.name(projection),
                "measured steps": f"{steps:.0f}",
                "refreshes": f"{refreshes:.0f}",
                "steps per refresh": f"{steps / refreshes:.0f}",
                "Hessian products": f"{ends['products'].mean():.0f}",
                "gradients per step": says.share(each := says.mean(map(gradients_per_step, runs))),
                f"over plain {study.name('none')}": f"{each / plain:.1f} ×",
                "minutes": f"{ends['seconds'].mean() / 60:.1f}",
            }
        )
    return table(
        rows,
        note="A gradient is one over all data. The gradients count minibatches, looks, refreshes, spectra, "
        "and full gradients for rows and for watching the alignment, but not the cold start. Chapter 12 "
        "has seconds, for SGD without rows, spectra and watching.",
    )


def exactness(study: SwitchStudy) -> Markdown:
    """By method, over the rows of all seeds: how far the basis turned, and how exact it was."""
    lines = []
    for side in PROJECTIONS:
        tables = [run.table for run in study.of(side)]
        rows = pd.concat([t.assign(fresh=t["refreshes"].diff() > 0).iloc[1:] for t in tables])
        rows = rows.dropna(subset=["turn", "angle_bound"])
        fresh = rows["fresh"].astype(bool)
        bound, turns = rows["angle_bound"], rows["turn"]
        lines.append(
            {
                "method": study.name(side),
                "turn, median": _median(turns),
                "turn, largest": _largest(turns),
                "rows with a turn above the target": percent(
                    (turns > study.parameters.target_angle).mean()
                ),
                "rows with a refresh": percent(fresh.mean()),
                "bound there": _median(bound[fresh]),
                "angle in use at the others": _median(bound[~fresh]),
            }
        )
    return table(
        lines,
        note="A row is a step that is recorded. Turn, bound, angle in use: sines of the largest principal "
        f"angle, each the largest since the row before; bound, angle: medians. The target is "
        f"{study.parameters.target_angle:g}.",
    )


def _median(values: pd.Series) -> str:
    return says.number(float(values.median()), 2) if len(values) else ""


def _largest(values: pd.Series) -> str:
    return says.number(float(values.max()), 2) if len(values) else ""
