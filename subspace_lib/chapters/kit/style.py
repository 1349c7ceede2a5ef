"""One style for all figures: colour-blind safe, readable on light and dark pages."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.names import trained
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.results.store import MissingRun
from subspace_lib.trajectory import Trajectory, looked_at

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

Label = TypeVar("Label")
Arguments = ParamSpec("Arguments")
LineStyle = str | tuple[float, tuple[float, ...]]
# Okabe and Ito's palette: told apart with every common colour blindness, on white and on black.
COLOURS = {"none": "#0072B2", "dominant": "#D55E00", "bulk": "#009E73"}
LINES = {"none": "-", "dominant": "--", "bulk": "-."}
# Of other things: what stands for Dom-X and Bulk-X comes last, so that where there are few it means these.
CYCLE = ("#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#D55E00", "#009E73")
DASHES: tuple[LineStyle, ...] = (
    "-",
    (0, (7, 2)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1, 1, 1)),
    ":",
    "--",
    "-.",
)
GREY = "#999999"  # of what lies beyond the first k, and of what is there for comparison
PHONE = 342  # pixels of a figure's width on a phone: 390, less the page's margins
WIDTH = 4.5  # inches; text of TEXT points is then 11 pixels high on a phone
TEXT = 10.5
LETTER, HANDLE = 6, 40  # points: a letter's mean width, and what a legend's entry has around it
BESIDE = 0.5  # inches left of a panel, for the axis's numbers and name
EARLY = 0.1  # of the way to the first switch: what comes before may lie above the axis
FEW = 5  # last over first number of a log axis below which it has ticks as a linear one
INK = "#333333"  # becomes the page's own text colour in the book
STYLE: dict[RcKeyType, Any] = {
    "font.size": TEXT,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": TEXT,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#888888",
    "grid.alpha": 0.25,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "svg.fonttype": "path",
}


class Picture:
    """A matplotlib figure that a notebook shows once: as SVG in the page's own text colour, and PNG.

    Attributes:
        figure: the matplotlib ``Figure``, to save or to change.
        says: a description for readers who do not see it.
        runs: keys of the runs that it was drawn from; the book names them below it.
    """

    def __init__(self, figure: Figure, says: str):
        self.figure, self.says = figure, says
        self.runs: tuple[str, ...] = ()

    def png(self, dpi: int = 100) -> bytes:
        """The picture on a white ground."""
        sink = io.BytesIO()
        self.figure.savefig(sink, format="png", dpi=dpi, facecolor="white")
        return sink.getvalue()

    def svg(self) -> str:
        """An ``<svg>`` element without ground, its ink the surrounding text's colour."""
        sink = io.StringIO()
        # Several pictures share a page: their ids must differ, and be the same in every build.
        with mpl.rc_context({"svg.hashsalt": self.says}):
            self.figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None})
        text = sink.getvalue()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        # A tenth of a point is enough for coordinates; scales, below 10, keep their digits.
        text = re.sub(r"(\d\d\.\d)\d+", r"\1", text)
        text = re.sub(r"\s*\n\s*", " ", text)  # a notebook keeps each line with quotes and indent
        label = self.says.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        style = "width:100%;height:auto;max-width:36rem"
        runs = f' data-runs="{" ".join(self.runs)}"' if self.runs else ""
        return text.replace(
            "<svg", f'<svg role="img" aria-label="{label}" style="{style}"{runs}', 1
        )

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        return {"text/html": self.svg(), "image/png": self.png(dpi=60), "text/plain": self.says}


def styled(draw: Callable[Arguments, Picture]) -> Callable[Arguments, Picture]:
    """Draw with this module's style, and leave matplotlib's settings as they were.

    Where runs of the figure are not stored it says so in its place.
    """

    @functools.wraps(draw)
    def inside(*arguments: Arguments.args, **options: Arguments.kwargs) -> Picture:
        with mpl.rc_context(STYLE), looked_at() as runs:
            try:
                picture = draw(*arguments, **options)
            except MissingRun:
                return waiting("The runs of this figure are")
        picture.runs = tuple(runs)
        return picture

    return inside


def panels(count: int, height: float, *, share: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure as wide as the text, with panels below each other."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    parts = list(figure.subplots(count, 1, sharex=share, squeeze=False)[:, 0])
    for axes in parts:
        axes.locator_params(axis="x", nbins=5)  # the width has room for five numbers of steps
    return figure, parts


def waiting(what: str) -> Picture:
    """In the place of a figure whose runs are not stored: a line that says so, and no empty panel."""
    figure = Figure(figsize=(WIDTH, 0.6), layout="constrained")
    figure.text(0.5, 0.5, f"{what} not stored yet.", ha="center", va="center", color=INK)
    return Picture(figure, f"{what} not stored yet")


def methods(
    axes: Axes, study: SwitchStudy, column: str, *, smooth: int = 1, scale: float = 1
) -> None:
    """A column for X, Dom-X and Bulk-X: mean over seeds with their range."""
    end = study.parameters.steps
    for projection, colour in COLOURS.items():
        curves = [
            scale * rolling(t.table.set_index("step")[column], smooth) for t in study.of(projection)
        ]
        band(axes, curves, colour, LINES[projection], study.name(projection), end)


def series(runs: Iterable[Trajectory], column: str, smooth: int = 1) -> list[pd.Series]:
    """A column of each run by step, without rows that lack it, smoothed over so many rows."""
    curves = [run.table.set_index("step")[column].dropna() for run in runs]
    return [rolling(curve, smooth) for curve in curves]


def rolling(curve: pd.Series, rows: int) -> pd.Series:
    """The mean over so many rows, or a tenth of them all where that is less."""
    return curve.rolling(max(1, min(rows, len(curve) // 10)), min_periods=1).mean()


def below(figure: Figure, *axes: Axes) -> None:
    """One legend for all panels, below them: no line runs through it."""
    found: dict[str, Any] = {}
    for each in axes:
        handles, labels = each.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if found:
        figure.legend(
            found.values(), found.keys(), loc="outside lower center", **_in_columns(found)
        )


def above(axes: Axes) -> None:
    """A panel's own legend, above it."""
    handles, labels = axes.get_legend_handles_labels()
    place: dict[str, Any] = {
        "loc": "lower center",
        "bbox_to_anchor": (0.5, 1.0),
        "borderaxespad": 0.2,
    }
    room = WIDTH - BESIDE  # it stands in the middle of the panel, not of the figure
    axes.legend(handles, labels, **place, **_in_columns(labels, room))


def _in_columns(labels: Iterable[str], width: float = WIDTH) -> dict[str, Any]:
    """As many columns as the width, in inches, holds, each as wide as its longest label."""
    widths = [LETTER * len(label.replace("$", "")) + HANDLE for label in labels]
    fit = [
        columns
        for columns in range(1, len(widths) + 1)
        if sum(max(part) for part in np.array_split(widths, columns)) <= 72 * width
    ]
    return {"ncols": max(fit, default=1), "columnspacing": 1.0, "handlelength": 1.8}


def styles(labels: Iterable[Label]) -> Iterable[tuple[Label, str, LineStyle]]:
    """Labels with a colour and a line style each."""
    return zip(labels, CYCLE, DASHES, strict=False)


def band(
    axes: Axes,
    curves: list[pd.Series],
    colour: str,
    style: LineStyle,
    label: str | None,
    end: int = 0,
) -> None:
    """Mean of the curves, with their range, at the steps that all of them have.

    Curves that end before the step ``end``, of runs that diverged, stand alone, with a cross at their end.
    """
    for curve in (curve for curve in curves if curve.index[-1] < end):
        axes.plot(
            curve.index, curve, "x", color=colour, ls=style, lw=0.8, markevery=[-1], label=label
        )
        label = None
    curves = [curve for curve in curves if curve.index[-1] >= end]
    if not curves:
        return
    joined = pd.concat(curves, axis=1, join="inner").dropna()
    axes.plot(joined.index, joined.mean(axis=1), color=colour, ls=style, label=label)
    if len(curves) > 1:
        axes.fill_between(
            joined.index, joined.min(axis=1), joined.max(axis=1), color=colour, alpha=0.25, lw=0
        )


def late(
    axes: Axes, study: SwitchStudy, column: str, *, scale: float = 1, since: float = EARLY
) -> None:
    """Limits of the y-axis: what a column is from this share of the way to the first switch on."""
    start = since * min(study.switch_steps.values())
    values = pd.concat(
        run.table.loc[run.table["step"] >= start, column] for run in study.trajectories.values()
    )
    values = scale * values[np.isfinite(values)]
    to = axes.yaxis.get_transform()
    low, high = to.transform([values.min(), values.max()])
    room = 0.05 * (high - low) or 0.05  # a constant, too, has an axis
    axes.set_ylim(*to.inverted().transform([low - room, high + room]))


def mark_switch(axes: Axes, study: SwitchStudy) -> None:
    """Dotted lines at the switches."""
    for step in study.switch_steps.values():
        axes.axvline(step, color=INK, lw=0.6, ls=":")


def log_ticks(axes: Axes, axis: str = "y") -> None:
    """Plain numbers on a log axis that spans about a decade."""
    formatter: Callable[[float, float], str] = lambda value, _: f"{value:g}"  # noqa: E731
    ticks = axes.yaxis if axis == "y" else axes.xaxis
    ticks.set_major_formatter(formatter)
    low, high = axes.get_ylim() if axis == "y" else axes.get_xlim()
    if low > 0 and high / low < FEW:  # few marks of 1, 2, 3 or 5 lie in it
        ticks.set_major_locator(MaxNLocator(6, steps=[1, 2, 4, 5, 10]))
        ticks.set_minor_formatter(NullFormatter())
    elif low > 0 and np.log10(high / low) < 2:
        ticks.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else "")


def setting(study: SwitchStudy) -> str:
    """What the curves belong to, for a description."""
    p = study.parameters
    return f"{trained(p.model, p.dataset)}, η = {p.learning_rate:g}, {says.seeds(len(p.seeds))}"
