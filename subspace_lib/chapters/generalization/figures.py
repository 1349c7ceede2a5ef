"""Figures of chapter 10."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from subspace_lib.chapters.generalization.study import GeneralizationStudy, smoothed
from subspace_lib.chapters.generalization.tables import sharpness
from subspace_lib.chapters.kit.style import (
    COLOURS,
    INK,
    LINES,
    WIDTH,
    Picture,
    below,
    log_ticks,
    mark_switch,
    methods,
    panels,
    setting,
    styled,
)
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import tail

MARKS = "osD^vP*"


@styled
def over_steps(study: GeneralizationStudy) -> Picture:
    """Test accuracy and test loss of X, Dom-X and Bulk-X over the steps, from the first switch on."""
    figure, (top, bottom) = panels(2, height=5)
    methods(top, study, "test_accuracy", scale=100)
    methods(bottom, study, "test_loss")
    start = min(study.switch_steps.values())
    for axes, column, scale in ((top, "test_accuracy", 100), (bottom, "test_loss", 1)):
        mark_switch(axes, study)
        late = [
            run.table.loc[run.table["step"] >= start, column] for run in study.trajectories.values()
        ]
        low, high = min(v.min() for v in late), max(v.max() for v in late)
        room = 0.05 * (high - low)
        axes.set_ylim(scale * (low - room), scale * (high + room))
    top.set(ylabel="test accuracy (%)", xlim=(start, study.parameters.steps))
    bottom.set(ylabel="test loss", xlabel="step")
    below(figure, top)
    return Picture(figure, f"Test accuracy and test loss over steps, {setting(study)}")


@styled
def over_loss(study: GeneralizationStudy) -> Picture:
    """Test loss and accuracy against training loss: where methods lie on one line, only speed differs."""
    figure, (top, bottom) = panels(2, height=5)
    start = min(study.switch_steps.values())
    for axes, column, scale in ((top, "test_accuracy", 100), (bottom, "test_loss", 1)):
        for side, colour in COLOURS.items():
            for i, run in enumerate(study.of(side)):
                mean = smoothed(run)[run.table["step"] >= start]
                name = study.name(side) if i == 0 else None
                style: dict[str, Any] = {"color": colour, "ls": LINES[side], "label": name}
                axes.plot(mean["train_loss"], scale * mean[column], lw=1, **style)
    top.set(ylabel="test accuracy (%)", xscale="log")
    top.invert_xaxis()
    bottom.set(ylabel="test loss", xlabel="training loss L(θ), falling to the right")
    log_ticks(bottom, "x")
    below(figure, top)
    return Picture(figure, f"Test loss and accuracy against training loss, {setting(study)}")


@styled
def over_sharpness(study: GeneralizationStudy) -> Picture:
    """Test accuracy at the end against λ₁ at the end: a mark a run, a shape a rule, a colour a branch.

    Only the groups with the data and the network of the judged one: others have other accuracies.
    """
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.subplots()
    for (name, group), mark in zip(study.alike().items(), MARKS, strict=False):
        for side in PROJECTIONS:
            runs = [run for run in group.of(side) if run.complete]
            axes.plot(
                [sharpness(run) for run in runs],
                [100 * tail(run, "test_accuracy") for run in runs],
                mark,
                color=COLOURS[side],
                ms=6,
                alpha=0.8,
            )
        axes.plot([], [], mark, color=INK, label=name)
    for side, colour in COLOURS.items():
        label = {"none": "X", "dominant": "Dom-X", "bulk": "Bulk-X"}[side]
        axes.plot([], [], "s", color=colour, ms=9, label=label)
    axes.set(xscale="log", xlabel="λ₁ at the end", ylabel="test accuracy (%)")
    log_ticks(axes, "x")
    below(figure, axes)
    return Picture(figure, "Test accuracy against sharpness at the end, a mark a run")
