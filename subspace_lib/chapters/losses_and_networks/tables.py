"""Tables of chapter 09."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.switch.panel import (
    PanelParameters,
    angles_in_use,
    eigenvalue_gap,
    over_sgd,
)
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.kit.table import Row, span, table
from subspace_lib.chapters.losses_and_networks.study import CHANGES, LossesStudy
from subspace_lib.trajectory import Trajectory, progress, tail, tail_loss

LITTLE = 0.1  # a relative change that is said with two decimals


def protocol(study: LossesStudy) -> Markdown:
    """The parameters in force, and which cases are missing."""
    rows: list[Row] = [
        {"parameter": name, "in force": "**missing**: not all of its runs are stored"}
        for name in study.parameters.cases()
        if name not in study.cases
    ]
    for name in study.parameters.origins():
        lacking = [change for change in CHANGES if change not in study.causes.get(name, ())]
        if lacking:
            told = f"**missing**: {', '.join(lacking)}"
            rows.append({"parameter": f"interventions, {name}", "in force": told})
    return page.in_force(study.parameters, study.runs(), rows)


def overview(study: LossesStudy) -> Markdown:
    """A column for each network, data and loss: progress, alignment, gap, turn, steps, cost."""
    cases = {name: _case(case) for name, case in study.cases.items()}
    quantities = next(iter(cases.values()), {})
    return table(
        [{"": what, **{name: row[what] for name, row in cases.items()}} for what in quantities],
        note="Means over seeds, with their range. Alignment: SGD's, over the last 2% of the steps; gap "
        "λₖ/λₖ₊₁: SGD's at the end. Angle in use: its sine, of Dom-SGD and Bulk-SGD, median over rows. "
        "Turn a step: sine of the angle that Dom-SGD's basis had turned by at a refresh, over the steps "
        "since the one before, median over rows. Work: Dom-SGD's after the switch, over that of plain SGD, "
        "the cold start apart; budget: what it may be at most, the refresh at the last row apart.",
    )


def _case(case: SwitchStudy) -> Row:
    p, plain = case.parameters, case.of("none")
    assert isinstance(p, PanelParameters)
    found = {
        side: [progress(*pair) for pair in zip(plain, case.of(side), strict=True)]
        for side in ("dominant", "bulk")
    }
    return {
        "seeds": len(p.seeds),
        "steps": f"{p.steps:,}",
        "η": f"{p.learning_rate:g}",
        "switch": span(case.switch_steps.values(), ",.0f") + (" (fallback)" if case.note() else ""),
        "progress(Dom)": says.progress(found["dominant"]),
        "progress(Bulk)": says.progress(found["bulk"]),
        "change of Dom's loss": says.mean_of(
            (risen(run) - 1 for run in case.of("dominant")), change
        ),
        "alignment": says.mean_of((tail(run, "alignment") for run in plain), says.share),
        "gap": says.mean_of(map(eigenvalue_gap, plain), says.share),
        "angle in use": says.mean_of(angles_in_use(case), says.share),
        "turn a step": says.number(says.mean(map(turn_a_step, case.of("dominant"))), 2),
        "work": f"{over_sgd(case, 'dominant'):.0f} ×",
        "budget": f"{p.budget:g} ×" if p.budget is not None else "none",
    }


def risen(run: Trajectory, start: float | None = None) -> float:
    """Loss at the end over that at the switch: the first row's unless given. NaN where it diverged."""
    before = float(run.table["train_loss"].iloc[0]) if start is None else start
    return tail_loss(run) / before if run.complete else math.nan


def change(value: float) -> str:
    """A relative change in per cent, with its sign: "+0.44%", "−12.0%"."""
    if not math.isfinite(value):
        return says.UNKNOWN
    return f"{100 * value:+.{2 if abs(value) < LITTLE else 1}f}%".replace("-", "−")


def rise(run: Trajectory) -> float:
    """Loss at the end less that at the run's first row. NaN where it diverged."""
    return tail_loss(run) - float(run.table["train_loss"].iloc[0]) if run.complete else math.nan


def wobble(run: Trajectory) -> float:
    """By how much the loss differs from a row to the next, in the root mean square."""
    return float(np.sqrt((run.table["train_loss"].diff().dropna() ** 2).mean()))


def sharpness(run: Trajectory) -> pd.Series:
    """λ₁ at the rows that have had a refresh; others repeat that of the last one."""
    rows = run.table[run.table["refresh_step"] == run.table["step"]]
    return rows["eigenvalue_01"].dropna()


def a_step(run: Trajectory) -> float:
    """The measured change of the loss, a step."""
    return rise(run) / float(run.table["step"].iloc[-1] - run.table["step"].iloc[0])


def turn_a_step(run: Trajectory) -> float:
    """Median over rows of the measured turn over the interval that it was measured after."""
    rows = run.table.iloc[1:]
    return float((rows["turn"] / rows["refresh_interval"]).median())


def terms(run: Trajectory) -> pd.DataFrame:
    """What the dominant update does to the loss by second-order expansion, at rows that have had a refresh.

    Of the applied update u = −η P g_B: ``slope`` gᵀu, ``bend`` ½ uᵀHu, their sum ``change``; ``signal``:
    the most that ½ uᵀHu would be without noise, ½ η² λ₁ ‖Pg‖². What is beyond it is the noise's.
    """
    rows, eta = run.table[run.table["descent_dominant"].notna()], run.experiment.learning_rate
    inside = (rows["alignment"] * rows["gradient_norm"]) ** 2
    slope, change = -rows["dominant_rate"] * inside, -rows["descent_dominant"]
    return pd.DataFrame(
        {
            "step": rows["step"],
            "slope": slope,
            "bend": change - slope,
            "change": change,
            "signal": eta**2 / 2 * rows["eigenvalue_01"] * inside,
            "λ₁": rows["eigenvalue_01"],
        }
    )


def expansion(runs: Mapping[str, Trajectory]) -> Markdown:
    """Second-order terms along Dom-SGD with each change, beside the measured change of the loss."""
    lines: list[Row] = []
    for name, run in runs.items():
        found, rows = terms(run), run.table
        steps = rows["step"].iloc[-1] - rows["step"].iloc[0]
        tops = [f"{value:.3g}" for value in sharpness(run).iloc[[0, -1]]]
        lines.append(
            {
                "change": name,
                "steps": f"{steps:,}",
                "loss at the switch → end": f"{rows['train_loss'].iloc[0]:.4f} → {tail_loss(run):.4f}",
                "first order": _millionths(found["slope"]),
                "second order": _millionths(found["bend"]),
                "of which the mean gradient's, at most": _millionths(found["signal"]),
                "both orders": _millionths(found["change"]),
                "measured": f"{1e6 * a_step(run):.2f}",
                "λ₁ at the switch → end": " → ".join(tops)
                if len(sharpness(run)) > 1
                else f"{tops[0]} → {says.UNKNOWN}",
                "alignment, late": says.share(tail(run, "alignment")),
                "ended": run.status,
            }
        )
    return table(
        lines,
        note="First order gᵀPu, second order ½ (Pu)ᵀH(Pu), both of minibatch updates u, and the measured "
        "change of the loss, in millionths a step; mean over the rows ± twice its standard error. A basis "
        "that is left as it is has terms at its first row alone.",
    )


def _millionths(values: Iterable[float]) -> str:
    found = 1e6 * np.asarray(list(values), dtype=float)
    if len(found) < 2:
        return says.UNKNOWN if not len(found) else f"{found[0]:.2f}"
    return f"{found.mean():.2f} ± {2 * found.std(ddof=1) / math.sqrt(len(found)):.2f}"
