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
from subspace_lib.chapters.losses_and_networks.study import CHANGES, LossesStudy


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
    """Loss of Dom-SGD over that at the switch, over η times steps, for each change, a panel a case."""
    if not study.causes:
        return waiting("The interventions are")
    figure, parts = panels(len(study.causes), height=0.6 + 2.4 * len(study.causes), share=False)
    looks = {name: look for name, *look in styles(CHANGES)}
    for axes, (case, runs) in zip(parts, study.causes.items(), strict=True):
        for name, run in runs.items():
            rows, (colour, dashes) = run.table, looks[name]
            time = run.experiment.learning_rate * (rows["step"] - run.experiment.switch_step)
            change = 100 * (rows["train_loss"] / rows["train_loss"].iloc[0] - 1)
            axes.plot(time, change, color=colour, ls=dashes, label=name)
            if not run.complete:
                axes.plot(time.iloc[-1], change.iloc[-1], "x", color=colour)
        axes.axhline(0, color=INK, lw=0.8, ls=":")
        axes.set(title=case, ylabel="change of L(θ), %")
    parts[-1].set_xlabel("η × steps since the switch")
    below(figure, *parts)
    return Picture(
        figure, f"Dom-SGD with one change each from the switch on: {'; '.join(study.causes)}"
    )
