"""Figures of chapter 09."""

from __future__ import annotations

from matplotlib.figure import Figure

from subspace_lib.chapters.kit.style import (
    COLOURS,
    INK,
    LINES,
    WIDTH,
    Picture,
    band,
    below,
    log_ticks,
    panels,
    styled,
    styles,
    waiting,
)
from subspace_lib.chapters.losses_and_networks.study import LossesStudy


@styled
def losses(study: LossesStudy) -> Picture:
    """Training loss of SGD, Dom-SGD and Bulk-SGD, a panel a case, mean over seeds with their range."""
    count = len(study.cases)
    figure = Figure(figsize=(WIDTH, 0.3 + 2.3 * count), layout="constrained")
    grid = figure.subplots(count, 1, squeeze=False)[:, 0]
    for axes, (name, case) in zip(grid, study.cases.items(), strict=True):
        for side, colour in COLOURS.items():
            curves = [run.table.set_index("step")["train_loss"] for run in case.of(side)]
            label = case.name(side)
            band(axes, curves, colour, LINES[side], label, case.parameters.steps)
        for run in case.of("dominant"):
            start = run.table.iloc[0]
            axes.plot(start["step"], start["train_loss"], "o", color=INK, ms=4)
        axes.set(yscale="log", title=name, ylabel="L(θ)")
        log_ticks(axes)
    grid[-1].set_xlabel("step")
    below(figure, grid[0])
    return Picture(figure, "Training loss over steps: " + "; ".join(study.cases))


@styled
def causes(study: LossesStudy) -> Picture:
    """Loss of Dom-SGD over that at the switch, and its sharpness, over η times steps, for each change."""
    if not study.causes:
        return waiting("The interventions are")
    figure, (top, bottom) = panels(2, height=5)
    for name, colour, dashes in styles(study.causes):
        run = study.causes[name]
        rows, switch = run.table, run.experiment.switch_step
        time = run.experiment.learning_rate * (rows["step"] - switch)
        loss = rows["train_loss"] / rows["train_loss"].iloc[0]
        top.plot(time, loss, color=colour, ls=dashes, label=name)
        bottom.plot(time, rows["eigenvalue_01"], color=colour, ls=dashes)
        if not run.complete:
            top.plot(time.iloc[-1], loss.iloc[-1], "x", color=colour)
    top.axhline(1, color=INK, lw=0.8, ls=":")
    top.set_ylabel("L(θ)/L at the switch")
    bottom.set(ylabel="λ₁", xlabel="η × steps since the switch")
    below(figure, top)
    return Picture(
        figure, "Dom-SGD after the switch with one change each: " + ", ".join(study.causes)
    )
