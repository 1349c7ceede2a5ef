"""Figures of a switch study: X, Dom-X and Bulk-X."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subspace_lib.chapters.kit.style import (
    COLOURS,
    GREY,
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
    styles,
)
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.runs.training import SPECTRUM
from subspace_lib.trajectory import Trajectory


@styled
def losses(study: SwitchStudy) -> Picture:
    """Training loss of X, Dom-X and Bulk-X, log scale: a line a seed, the first one bold.

    A dot marks each switch, where the three have the same point. A run that diverged ends at a cross.
    """
    figure, (axes,) = panels(1, height=3.9)
    loss_panel(axes, study)
    axes.set_xlabel("step")
    below(figure, axes)
    return Picture(figure, f"Training loss over steps, {setting(study)}")


@styled
def losses_of(studies: Mapping[str, SwitchStudy]) -> Picture:
    """``losses`` of several studies by their titles: the first as wide as the page, the others below it."""
    names = list(studies)
    count = max(1, len(names) - 1)
    figure = Figure(figsize=(WIDTH, 3.9 + 2.6 * (len(names) > 1)), layout="constrained")
    rows: list[Any] = [names[:1] * count, names[1:]][: len(names)]
    parts = figure.subplot_mosaic(rows, height_ratios=(3, 2)[: len(rows)])
    for name, axes in parts.items():
        loss_panel(axes, studies[name])
        wide = name == names[0] or count == 1
        axes.locator_params(axis="x", nbins=5 if wide else 3)
        axes.set(title=name if wide else name.replace(" on ", "\non "), xlabel="step")
    below(figure, *parts.values())
    return Picture(figure, "Training loss over steps, " + "; ".join(map(setting, studies.values())))


def loss_panel(axes: Axes, study: SwitchStudy) -> None:
    """The curves of ``losses``; the first steps, far above them, are cut off."""
    first, *others = study.parameters.seeds
    for projection, colour in COLOURS.items():
        for seed in (*others, first):
            losses = study.trajectories[projection, seed].table.set_index("step")["train_loss"]
            bold = seed == first
            axes.plot(
                losses.index,
                losses,
                color=colour,
                ls=LINES[projection],
                lw=1.6 if bold else 0.7,
                alpha=1.0 if bold else 0.5,
                label=study.name(projection) if bold else None,
            )
            if losses.index[-1] < study.parameters.steps:
                axes.plot(losses.index[-1], losses.iloc[-1], "x", color=colour)
    for seed in study.parameters.seeds:
        start = study.trajectories["dominant", seed].table.iloc[0]
        axes.plot(start["step"], start["train_loss"], "o", color=INK, ms=5 if seed == first else 3)
    axes.set(yscale="log", ylabel="training loss L(θ)")
    late(axes, study, "train_loss")
    log_ticks(axes)
    axes.plot([], [], "o", color=INK, ms=5, label="switch")


def frozen_lines(axes: Axes, study: SwitchStudy, runs: Mapping[int, Trajectory]) -> None:
    """The training loss of Dom-X with the subspace of the switch kept, by seed, on a loss panel."""
    for seed, run in runs.items():
        bold = seed == study.parameters.seeds[0]
        axes.plot(
            run.table["step"],
            run.table["train_loss"],
            color=INK,
            ls=":",
            lw=1.6 if bold else 0.7,
            label=f"{study.name('dominant')}, frozen" if bold else None,
        )


@styled
def test_losses(study: SwitchStudy) -> Picture:
    """Test loss and test accuracy of the three methods; the first steps are cut off."""
    figure, (top, bottom) = panels(2, height=5)
    methods(top, study, "test_loss")
    methods(bottom, study, "test_accuracy", scale=100)
    top.set(yscale="log", ylabel="test loss")
    late(top, study, "test_loss")
    log_ticks(top)
    late(bottom, study, "test_accuracy", scale=100)
    bottom.set(xlabel="step", ylabel="test accuracy (%)")
    below(figure, top)
    return Picture(figure, f"Test loss and accuracy over steps, {setting(study)}")


@styled
def alignments(study: SwitchStudy) -> Picture:
    """Alignment χ_k of the full-batch and of the minibatch gradient, rolling mean over 10 rows."""
    figure, (top, bottom) = panels(2, height=5)
    methods(top, study, "alignment", smooth=10)
    methods(bottom, study, "batch_alignment", smooth=10)
    for axes, name in ((top, "full-batch gradient"), (bottom, "minibatch gradient")):
        axes.set(ylim=(0, 1.02), ylabel=f"χ$_{{{study.parameters.k}}}$, {name}")
        mark_switch(axes, study)
    if study.parameters.switch_alignment is not None:
        top.axhline(study.parameters.switch_alignment, color=INK, lw=0.8, ls=":")
    bottom.set_xlabel("step")
    below(figure, bottom)
    return Picture(figure, f"Alignment with the dominant subspace over steps, {setting(study)}")


@styled
def spectra(study: SwitchStudy) -> Picture:
    """The 20 largest Hessian eigenvalues of the first seed's runs; the first k stand out."""
    figure, parts = panels(3, height=6.5)
    names = [f"eigenvalue_{i:02d}" for i in range(1, SPECTRUM + 1)]
    k = study.parameters.k
    for axes, projection in zip(parts, COLOURS, strict=True):
        rows = study.of(projection)[0].table
        whole = rows[rows[names[-1]].notna()]
        rows = whole if len(whole) else rows  # a short run may have no full spectrum
        for i, name in enumerate(names):
            colour, width = (COLOURS[projection], 1.3) if i < k else (GREY, 0.9)
            axes.plot(rows["step"], rows[name], color=colour, lw=width, marker=".", ms=3)
        axes.axhline(2 / study.parameters.learning_rate, color=INK, lw=0.8, ls=":")
        axes.set(yscale="log", ylabel="λ$_i$", title=study.name(projection))
    parts[-1].set_xlabel("step")
    says = f"Top {SPECTRUM} Hessian eigenvalues over steps, seed {study.parameters.seeds[0]}"
    return Picture(figure, f"{says}, {setting(study)}")


@styled
def angles(study: SwitchStudy) -> Picture:
    """How far the basis has turned since the row before, and its angle in use; dots: certified."""
    figure, parts = panels(3, height=6)
    for axes, projection in zip(parts, COLOURS, strict=True):
        angle_panel(axes, study, projection)
    parts[-1].set_xlabel("step")
    return Picture(figure, f"Turn of the basis and its angle in use, {setting(study)}")


def angle_panel(axes: Axes, study: SwitchStudy, projection: str) -> None:
    """The curves of ``angles`` of one method."""
    for trajectory in study.of(projection):
        angle_lines(axes, trajectory, COLOURS[projection])
    axes.axhline(study.parameters.target_angle, color=INK, lw=0.8, ls=":")
    axes.set(yscale="log", ylabel="sin ∠", title=study.name(projection))
    log_ticks(axes)


def angle_lines(axes: Axes, run: Trajectory, colour: str) -> None:
    """Turn since the row before, and angle in use; dots where a refresh has certified it since then."""
    rows, fresh = run.table.iloc[1:], run.table["refreshes"].diff().iloc[1:] > 0
    axes.plot(rows["step"], rows["turn"], color=colour, lw=0.6)
    axes.plot(rows["step"], rows["angle_bound"], color=GREY, lw=0.8)
    axes.plot(rows["step"][fresh], rows["angle_bound"][fresh], ".", color=INK, ms=4)


@styled
def compare(runs: Mapping[str, Trajectory], column: str, ylabel: str) -> Picture:
    """One column of several labelled runs over the steps."""
    figure, (axes,) = panels(1, height=3.5)
    for label, colour, dashes in styles(runs):
        table = runs[label].table
        axes.plot(table["step"], table[column], color=colour, ls=dashes, label=label)
    axes.set(xlabel="step", ylabel=ylabel)
    axes.set_ylim(0, 1.2 * max(runs[label].table[column].max() for label in runs))
    below(figure, axes)
    return Picture(figure, f"{ylabel} over steps: " + ", ".join(runs))
