"""Figures of the SAM study (chapter 06)."""

from __future__ import annotations

from matplotlib.axes import Axes

from subspace_lib.chapters.kit.study import there
from subspace_lib.chapters.kit.style import (
    COLOURS,
    CYCLE,
    DASHES,
    INK,
    LINES,
    Picture,
    band,
    below,
    log_ticks,
    mark_switch,
    panels,
    series,
    styled,
    styles,
)
from subspace_lib.chapters.kit.switch import figures as switch
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.sam.study import SamStudy
from subspace_lib.theory.edges import sam_edge

BATCHES = ("minibatches", "full batch")


@styled
def losses(study: SamStudy) -> Picture:
    """Training loss of SAM, Dom-SAM and Bulk-SAM, with minibatches and with the full batch."""
    figure, parts = panels(2, height=6.4, share=False)
    for axes, part, title in zip(parts, (study.minibatch, study.edge), BATCHES, strict=True):
        switch.loss_panel(axes, part)
        axes.set_title(title)
    switch.frozen_lines(parts[-1], study.edge, there(study.frozen))
    parts[-1].set_xlabel("step")
    below(figure, parts[-1])
    return Picture(figure, "Training loss of SAM, Dom-SAM and Bulk-SAM over steps")


@styled
def angles(study: SamStudy) -> Picture:
    """Measured and certified angle of the subspace of the projected runs, minibatches and full batch."""
    figure, parts = panels(4, height=8, share=False)
    cases = [
        (part, title, side)
        for part, title in zip((study.minibatch, study.edge), BATCHES, strict=True)
        for side in ("dominant", "bulk")
    ]
    for axes, (part, title, side) in zip(parts, cases, strict=True):
        switch.angle_panel(axes, part, side)
        axes.set_title(f"{part.name(side)}, {title}")
    parts[-1].set_xlabel("step")
    return Picture(figure, "Measured and certified angle of the subspace of Dom-SAM and Bulk-SAM")


@styled
def edges(study: SamStudy) -> Picture:
    """Sharpness of SAM with SAM's own edge for the gradient that it uses, and with 2/η."""
    figure, parts = panels(2, height=6, share=False)
    for axes, part, title in zip(
        parts, (study.minibatch, study.edge), ("minibatches", "full batch"), strict=True
    ):
        _edge(axes, part)
        axes.set(title=title, yscale="log", ylabel="sharpness λ$_1$")
        log_ticks(axes)
    parts[-1].set_xlabel("step")
    below(figure, parts[0])
    return Picture(figure, "Sharpness of SAM and its edge of stability, minibatches and full batch")


def _edge(axes: Axes, study: SwitchStudy) -> None:
    p = study.parameters
    for side in ("none", "bulk"):
        curves = series(study.of(side), "eigenvalue_01")
        band(axes, curves, COLOURS[side], LINES[side], study.name(side))
    norms = series(study.of("none"), "batch_gradient_norm", smooth=5)
    edge = [sam_edge(norm, p.learning_rate, p.rho) for norm in norms]
    band(axes, edge, CYCLE[1], DASHES[1], "SAM's edge")
    axes.axhline(2 / p.learning_rate, color=INK, lw=0.8, ls=":", label="2/η")
    mark_switch(axes, study)


@styled
def ascents(study: SamStudy) -> Picture:
    """Alignment of SAM's ascent direction, of its update and of the full-batch gradient."""
    figure, parts = panels(2, height=6, share=False)
    columns = {
        "alignment": "full-batch gradient",
        "batch_alignment": "ascent direction",
        "update_alignment": "update",
    }
    for axes, part, title in zip(
        parts, (study.minibatch, study.edge), ("minibatches", "full batch"), strict=True
    ):
        for column, colour, dashes in zip(columns, CYCLE[1:], DASHES, strict=False):
            band(axes, series(part.of("none"), column, smooth=5), colour, dashes, columns[column])
        axes.set(title=title, ylim=(0, 1.02), ylabel=f"alignment χ$_{{{part.parameters.k}}}$")
    below(figure, parts[0])
    parts[-1].set_xlabel("step")
    return Picture(figure, "Alignment of the gradient, of SAM's ascent and of its update")


@styled
def rhos(study: SamStudy) -> Picture:
    """Sharpness, alignment and loss of plain minibatch SAM for several ρ."""
    figure, parts = panels(3, height=7)
    columns = {
        "eigenvalue_01": "sharpness λ$_1$",
        "alignment": "alignment of ∇L",
        "train_loss": "loss L(θ)",
    }
    for axes, (column, label) in zip(parts, columns.items(), strict=True):
        for rho, colour, dashes in styles(study.rhos):
            run = study.rhos[rho]
            # The alignment alone is noisy from row to row.
            (curve,) = series([run], column, smooth=5 if column == "alignment" else 1)
            axes.plot(curve.index, curve, color=colour, ls=dashes, label=f"ρ = {rho:g}")
        axes.set_ylabel(label)
    for axes in (parts[0], parts[2]):
        axes.set_yscale("log")
        log_ticks(axes)
    parts[1].set_ylim(0, 1.02)
    below(figure, parts[0])
    parts[-1].set_xlabel("step")
    return Picture(figure, "Sharpness, alignment and loss of SAM for several radii")
