"""Figures of chapter 10."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
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
    late,
    log_ticks,
    mark_switch,
    methods,
    panels,
    setting,
    styled,
)
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory, tail

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
        late(axes, study, column, scale=scale, since=1)
    top.set(ylabel="test accuracy (%)", xlim=(start, study.parameters.steps))
    bottom.set(ylabel="test loss", xlabel="step")
    below(figure, top)
    return Picture(figure, f"Test accuracy and test loss over steps, {setting(study)}")


@styled
def over_loss(study: GeneralizationStudy) -> Picture:
    """Against training loss: test accuracy, and test loss over X's; with only another speed it is 1."""
    figure, (top, bottom) = panels(2, height=5)
    start = min(study.switch_steps.values())
    for side, colour in COLOURS.items():
        for i, (run, plain) in enumerate(zip(study.of(side), study.of("none"), strict=True)):
            mean = smoothed(run)[run.table["step"] >= start]
            name = study.name(side) if i == 0 else None
            style: dict[str, Any] = {"color": colour, "ls": LINES[side], "label": name, "lw": 1}
            top.plot(mean["train_loss"], 100 * mean["test_accuracy"], **style)
            bottom.plot(mean["train_loss"], mean["test_loss"] / _test_loss(plain, mean), **style)
    top.set(ylabel="test accuracy (%)", xscale="log")
    top.invert_xaxis()
    x = study.name("none")
    bottom.set(ylabel=f"test loss over {x}'s", xlabel="training loss L(θ), falling to the right")
    log_ticks(bottom, "x")
    below(figure, top)
    says = f"Test accuracy, and test loss over that of {x}, against training loss"
    return Picture(figure, f"{says}, {setting(study)}")


def _test_loss(run: Trajectory, at: pd.DataFrame) -> np.ndarray:
    """The run's test loss where it had these rows' training losses; NaN where it never had them."""
    rows = smoothed(run).sort_values("train_loss")
    known = rows["train_loss"], rows["test_loss"]
    return np.interp(at["train_loss"], *known, left=np.nan, right=np.nan)


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
