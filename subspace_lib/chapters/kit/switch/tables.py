"""Tables of a switch study."""

from __future__ import annotations

import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.kit.table import table
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
    rows = []
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
                "gradients per step": says.share(says.mean(map(gradients_per_step, runs))),
                "minutes": f"{ends['seconds'].mean() / 60:.1f}",
            }
        )
    return table(rows)
