"""Figures of chapter 02b: a row a panel."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subspace_lib.chapters.architectures.study import ArchitecturesStudy
from subspace_lib.chapters.kit.style import (
    COLOURS,
    GREY,
    INK,
    WIDTH,
    Picture,
    below,
    late,
    log_ticks,
    mark_switch,
    methods,
    styled,
)
from subspace_lib.chapters.kit.switch.figures import angle_lines, loss_panel
from subspace_lib.chapters.kit.switch.panel import label
from subspace_lib.chapters.kit.switch.study import SwitchStudy

Drawn = Iterable[tuple[list[Axes], SwitchStudy]]


def _rows(
    study: ArchitecturesStudy, columns: int, height: float, share: bool = False
) -> tuple[Figure, Drawn]:
    """A figure with so many axes side by side for each panel, and these with their studies."""
    count = len(study.panels)
    figure = Figure(figsize=(WIDTH, height * count), layout="constrained")
    rows = []
    for part, panel in zip(
        figure.subfigures(count, squeeze=False)[:, 0], study.panels.values(), strict=True
    ):
        part.suptitle(label(panel), fontsize="medium")
        rows.append(list(part.subplots(1, columns, squeeze=False, sharex=share, sharey=share)[0]))
        for axes in rows[-1]:
            axes.set_xlabel("step")
            axes.locator_params(axis="x", nbins=5 // columns)
    return figure, zip(rows, study.panels.values(), strict=True)


def _says(study: ArchitecturesStudy, what: str) -> str:
    return f"{what}: " + "; ".join(label(panel) for panel in study.panels.values())


@styled
def losses(study: ArchitecturesStudy) -> Picture:
    """Training loss of SGD, Dom-SGD and Bulk-SGD, log scale; a line a seed, dots at switches."""
    figure, drawn = _rows(study, 1, 3.1)
    for (axes,), panel in drawn:
        loss_panel(axes, panel)
    below(figure, figure.axes[0])
    return Picture(figure, _says(study, "Training loss over steps"))


def _by_method(
    study: ArchitecturesStudy,
    columns: dict[str, str],
    finish: Callable[[list[Axes], SwitchStudy], None],
    says: str,
    smooth: int = 1,
) -> Picture:
    """Columns of the tables side by side, mean over seeds with their range."""
    figure, drawn = _rows(study, len(columns), 2.8)
    for row, panel in drawn:
        for axes, (column, name) in zip(row, columns.items(), strict=True):
            methods(axes, panel, column, smooth=smooth)
            axes.set_ylabel(name)
            mark_switch(axes, panel)
        finish(row, panel)
    below(figure, figure.axes[0])
    return Picture(figure, _says(study, says))


@styled
def alignments(study: ArchitecturesStudy) -> Picture:
    """Alignment χ_k of the full-batch and of the minibatch gradient, rolling mean over 10 rows."""

    def finish(row: list[Axes], panel: SwitchStudy) -> None:
        for axes in row:
            axes.set_ylim(0, 1.02)
        if panel.parameters.switch_alignment is not None:
            row[0].axhline(panel.parameters.switch_alignment, color=INK, lw=0.8, ls=":")

    columns = {"alignment": "χ$_k$, full batch", "batch_alignment": "χ$_k$, minibatch"}
    return _by_method(study, columns, finish, "Alignment over steps", smooth=10)


@styled
def test_losses(study: ArchitecturesStudy) -> Picture:
    """Test loss and accuracy of the three methods; the first steps are cut off."""

    def finish(row: list[Axes], panel: SwitchStudy) -> None:
        row[0].set_yscale("log")
        for axes, column in zip(row, columns, strict=True):
            late(axes, panel, column)
        log_ticks(row[0])

    columns = {"test_loss": "test loss", "test_accuracy": "test accuracy"}
    return _by_method(study, columns, finish, "Test loss and accuracy over steps")


def _method_by_method(
    study: ArchitecturesStudy, draw: Callable[[Axes, SwitchStudy, str], None], ylabel: str
) -> Figure:
    """One method beside the other, log scale."""
    figure, drawn = _rows(study, len(COLOURS), 2.8, share=True)
    for row, panel in drawn:
        for axes, projection in zip(row, COLOURS, strict=True):
            draw(axes, panel, projection)
            axes.set(yscale="log", title=panel.name(projection))
        row[0].set_ylabel(ylabel)
    return figure


@styled
def spectra(study: ArchitecturesStudy) -> Picture:
    """The largest Hessian eigenvalues of the first seed's runs, one method beside the other.

    Lines are of those that every row knows, dots of those that only a full spectrum has.
    """

    def draw(axes: Axes, panel: SwitchStudy, projection: str) -> None:
        rows, k = panel.of(projection)[0].table, panel.parameters.k
        names = [str(name) for name in rows if str(name).startswith("eigenvalue_")]
        for i, name in enumerate(names):
            known = rows[rows[name].notna() & (rows[name] > 0)]
            colour, width = (COLOURS[projection], 1.2) if i < k else (GREY, 0.8)
            axes.plot(
                known["step"],
                known[name],
                color=colour,
                lw=width,
                ls="-" if len(known) == len(rows) else "none",
                marker="" if len(known) == len(rows) else ".",
                ms=3,
            )
        axes.axhline(2 / panel.parameters.learning_rate, color=INK, lw=0.8, ls=":")

    figure = _method_by_method(study, draw, "λ$_i$")
    first = figure.axes[0]
    for colour, name in ((INK, "the first k (coloured)"), (GREY, "the others")):
        first.plot([], [], color=colour, label=name)
    below(figure, first)
    return Picture(figure, _says(study, "Largest Hessian eigenvalues over steps"))


@styled
def angles(study: ArchitecturesStudy) -> Picture:
    """How far the basis has turned since the row before, and its angle in use; dots: certified."""

    def draw(axes: Axes, panel: SwitchStudy, projection: str) -> None:
        for run in panel.of(projection):
            angle_lines(axes, run, COLOURS[projection])
        axes.axhline(panel.parameters.target_angle, color=INK, lw=0.8, ls=":")

    figure = _method_by_method(study, draw, "sin ∠")
    return Picture(figure, _says(study, "Turn of the basis and its angle in use"))
