"""Figures of chapter 02b: a row a panel."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subspace_lib.chapters.architectures.study import ArchitecturesStudy
from subspace_lib.chapters.kit.style import (
    COLOURS,
    INK,
    LINES,
    Picture,
    log_ticks,
    mark_switch,
    methods,
    styled,
)
from subspace_lib.chapters.kit.switch.figures import angle_lines
from subspace_lib.chapters.kit.switch.panel import label
from subspace_lib.chapters.kit.switch.study import SwitchStudy

Drawn = Iterable[tuple[list[Axes], SwitchStudy]]


def _rows(
    study: ArchitecturesStudy, columns: int, height: float, share: bool = False
) -> tuple[Figure, Drawn]:
    """A figure with so many axes side by side for each panel, and these with their studies."""
    count = len(study.panels)
    figure = Figure(figsize=(5.6, height * count), layout="constrained")
    grid = figure.subplots(count, columns, squeeze=False, sharey="row" if share else False)
    for axes, panel in zip(grid, study.panels.values(), strict=True):
        for one in axes:
            one.set_xlabel("step")
        if columns == 1:
            axes[0].set_title(label(panel))
        else:
            axes[0].set_title(label(panel), loc="left", fontsize=9)
    return figure, zip(map(list, grid), study.panels.values(), strict=True)


def _says(study: ArchitecturesStudy, what: str) -> str:
    return f"{what}: " + "; ".join(label(panel) for panel in study.panels.values())


def _legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=9)


@styled
def losses(study: ArchitecturesStudy) -> Picture:
    """Training loss of SGD, Dom-SGD and Bulk-SGD, log scale; a line a seed, dots at switches."""
    figure, drawn = _rows(study, 1, 2.9)
    for (axes,), panel in drawn:
        seeds = panel.parameters.seeds
        for (projection, seed), run in panel.trajectories.items():
            bold, rows = seed == seeds[0], run.table
            axes.plot(
                rows["step"],
                rows["train_loss"],
                color=COLOURS[projection],
                ls=LINES[projection],
                lw=1.6 if bold else 0.7,
                alpha=1.0 if bold else 0.5,
                label=panel.name(projection) if bold else None,
            )
            if not run.complete:
                end = rows.iloc[-1]
                axes.plot(end["step"], end["train_loss"], "x", color=COLOURS[projection])
        for i, run in enumerate(panel.of("dominant")):
            start = run.table.iloc[0]
            name = None if i else "switch"
            axes.plot(start["step"], start["train_loss"], "o", color=INK, ms=4, label=name, ls="")
        axes.set(yscale="log", ylabel="training loss L(θ)")
        log_ticks(axes)
    _legend(figure, figure.axes[0])
    return Picture(figure, _says(study, "Training loss over steps"))


def _by_method(
    study: ArchitecturesStudy,
    columns: dict[str, str],
    finish: Callable[[list[Axes], SwitchStudy], None],
    says: str,
    smooth: int = 1,
) -> Picture:
    """Columns of the tables side by side, mean over seeds with their range."""
    figure, drawn = _rows(study, len(columns), 2.6)
    for row, panel in drawn:
        for axes, (column, name) in zip(row, columns.items(), strict=True):
            methods(axes, panel, column, smooth=smooth)
            axes.set_ylabel(name)
            mark_switch(axes, panel)
        finish(row, panel)
    _legend(figure, figure.axes[0])
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
    """Test loss and accuracy of the three methods."""

    def finish(row: list[Axes], panel: SwitchStudy) -> None:
        row[0].set_yscale("log")
        log_ticks(row[0])

    columns = {"test_loss": "test loss", "test_accuracy": "test accuracy"}
    return _by_method(study, columns, finish, "Test loss and accuracy over steps")


@styled
def spectra(study: ArchitecturesStudy) -> Picture:
    """The largest Hessian eigenvalues of the first seed's runs, one method beside the other."""
    figure, drawn = _rows(study, len(COLOURS), 2.6, share=True)
    for row, panel in drawn:
        k = panel.parameters.k
        for axes, (projection, colour) in zip(row, COLOURS.items(), strict=True):
            rows = panel.of(projection)[0].table
            names = [str(name) for name in rows if str(name).startswith("eigenvalue_")]
            for i, name in enumerate(names):
                known = rows[rows[name].notna() & (rows[name] > 0)]
                axes.plot(
                    known["step"],
                    known[name],
                    color=colour if i < k else "#999999",
                    lw=1.2 if i < k else 0.8,
                    label=panel.name(projection) if i == 0 else None,
                )
            axes.axhline(2 / panel.parameters.learning_rate, color=INK, lw=0.8, ls=":")
            axes.set(yscale="log", ylabel="λ$_i$" if projection == "none" else "")
    handles = [line for axes in figure.axes[:3] for line in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return Picture(figure, _says(study, "Largest Hessian eigenvalues over steps"))


@styled
def angles(study: ArchitecturesStudy) -> Picture:
    """How far the basis has turned since the row before, and its angle in use; dots: certified."""
    figure, drawn = _rows(study, len(COLOURS), 2.6, share=True)
    for row, panel in drawn:
        for axes, (projection, colour) in zip(row, COLOURS.items(), strict=True):
            for i, run in enumerate(panel.of(projection)):
                angle_lines(axes, run, colour, None if i else panel.name(projection))
            axes.axhline(panel.parameters.target_angle, color=INK, lw=0.8, ls=":")
            axes.set(yscale="log", ylabel="sin ∠" if projection == "none" else "")
    handles = [line for axes in figure.axes[:3] for line in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return Picture(figure, _says(study, "Turn of the basis and its angle in use"))
