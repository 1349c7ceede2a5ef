"""Figures: a study in, a picture out. One style, colour-blind safe, readable on light and dark pages."""

from __future__ import annotations

import functools
import io
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subspace_lib.studies import BOOK
from subspace_lib.studies.switch import SwitchStudy, switch_study
from subspace_lib.training import SPECTRUM, Trajectory

# Okabe and Ito's palette: told apart with every common colour blindness, on white and on black.
COLOURS = {"SGD": "#0072B2", "Dom-SGD": "#D55E00", "Bulk-SGD": "#009E73"}
LINES = {"SGD": "-", "Dom-SGD": "--", "Bulk-SGD": "-."}
INK = "#333333"  # becomes the page's own text colour in the book
STYLE = {
    "font.size": 11,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
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
    """

    def __init__(self, figure: Figure, says: str):
        self.figure, self.says = figure, says

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
        label = self.says.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        style = "width:100%;height:auto;max-width:44rem"
        return text.replace("<svg", f'<svg role="img" aria-label="{label}" style="{style}"', 1)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        return {"text/html": self.svg(), "image/png": self.png(dpi=60), "text/plain": self.says}


def styled(draw: Callable[..., Picture]) -> Callable[..., Picture]:
    """Draw with this module's style, and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def inside(*arguments, **options) -> Picture:
        with mpl.rc_context(STYLE):
            return draw(*arguments, **options)

    return inside


@styled
def losses(study: SwitchStudy) -> Picture:
    """Training loss of SGD, Dom-SGD and Bulk-SGD: mean and range over seeds, log scale."""
    figure, (axes,) = _axes(1, height=3.5)
    _methods(axes, study, "train_loss")
    axes.set(yscale="log", xlabel="step", ylabel="training loss L(θ)")
    _log_ticks(axes)
    _mark_switch(axes, study)
    axes.legend(loc="upper right")
    return Picture(figure, f"Training loss over steps, {_setting(study)}")


@styled
def test_losses(study: SwitchStudy) -> Picture:
    """Test loss and test accuracy of the three methods."""
    figure, (top, bottom) = _axes(2, height=5)
    _methods(top, study, "test_loss")
    _methods(bottom, study, "test_accuracy", scale=100)
    top.set(yscale="log", ylabel="test loss")
    _log_ticks(top)
    start = min(study.switch_steps.values())
    floor = min(float(t.table.loc[t.table["step"] >= start, "test_accuracy"].min())
                for t in study.trajectories.values())  # fmt: skip
    bottom.set(xlabel="step", ylabel="test accuracy (%)", ylim=(100 * floor - 1, None))
    top.legend()
    return Picture(figure, f"Test loss and accuracy over steps, {_setting(study)}")


@styled
def alignments(study: SwitchStudy) -> Picture:
    """Alignment χ_k of the full-batch and of the minibatch gradient, rolling mean over 10 rows."""
    figure, (top, bottom) = _axes(2, height=5)
    _methods(top, study, "alignment", smooth=10)
    _methods(bottom, study, "batch_alignment", smooth=10)
    for axes, name in ((top, "full-batch gradient"), (bottom, "minibatch gradient")):
        axes.set(ylim=(0, 1.02), ylabel=f"χ$_{{{study.parameters.k}}}$, {name}")
        _mark_switch(axes, study)
    if study.parameters.switch_alignment is not None:
        top.axhline(study.parameters.switch_alignment, color=INK, lw=0.8, ls=":")
    bottom.set_xlabel("step")
    bottom.legend(loc="lower right", ncols=3)
    return Picture(figure, f"Alignment with the dominant subspace over steps, {_setting(study)}")


@styled
def spectra(study: SwitchStudy) -> Picture:
    """The 20 largest Hessian eigenvalues of the first seed's runs; the first k stand out."""
    figure, panels = _axes(3, height=6.5)
    names = [f"eigenvalue_{i:02d}" for i in range(1, SPECTRUM + 1)]
    k = study.parameters.k
    for axes, method in zip(panels, COLOURS, strict=True):
        rows = study.of(method)[0].table
        rows = rows[rows[names[-1]].notna()]
        for i, name in enumerate(names):
            colour, width = (COLOURS[method], 1.3) if i < k else ("#999999", 0.9)
            axes.plot(rows["step"], rows[name], color=colour, lw=width, marker=".", ms=3)
        axes.axhline(2 / study.parameters.learning_rate, color=INK, lw=0.8, ls=":")
        axes.set(yscale="log", ylabel="λ$_i$", title=method)
    panels[-1].set_xlabel("step")
    says = f"Top {SPECTRUM} Hessian eigenvalues over steps, seed {study.parameters.seeds[0]}"
    return Picture(figure, f"{says}, {_setting(study)}")


@styled
def angles(study: SwitchStudy) -> Picture:
    """How far the basis had turned when it was refreshed, and the certified bound of that angle."""
    figure, panels = _axes(3, height=6)
    for axes, method in zip(panels, COLOURS, strict=True):
        for trajectory in study.of(method):
            rows = trajectory.table.iloc[1:]
            axes.plot(rows["step"], rows["angle_bound"], color="#999999", lw=0.7)
            axes.plot(rows["step"], rows["turn"], color=COLOURS[method], lw=0.7)
        axes.axhline(study.parameters.target_angle, color=INK, lw=0.8, ls=":")
        axes.set(yscale="log", ylabel="sin ∠", title=method)
        _log_ticks(axes)
    panels[-1].set_xlabel("step")
    return Picture(figure, f"Measured and certified angle of the subspace, {_setting(study)}")


@styled
def compare(runs: Mapping[str, Trajectory], column: str, ylabel: str) -> Picture:
    """One column of several labelled runs over the steps."""
    figure, (axes,) = _axes(1, height=3.5)
    styles = zip(("#D55E00", "#CC79A7", "#0072B2"), ("-", "--", "-."), strict=True)
    for (label, run), (colour, style) in zip(runs.items(), styles, strict=False):
        axes.plot(run.table["step"], run.table[column], color=colour, ls=style, label=label)
    axes.set(xlabel="step", ylabel=ylabel)
    axes.set_ylim(bottom=0)
    axes.legend()
    return Picture(figure, f"{ylabel} over steps: " + ", ".join(runs))


def _axes(count: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5.6, height), layout="constrained")
    return figure, list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])


def _methods(
    axes: Axes, study: SwitchStudy, column: str, *, smooth: int = 1, scale: float = 1
) -> None:
    for method, colour in COLOURS.items():
        curves = [
            scale * t.table.set_index("step")[column].rolling(smooth, min_periods=1).mean()
            for t in study.of(method)
        ]
        _band(axes, curves, colour, LINES[method], method)


def _band(axes: Axes, curves: list[pd.Series], colour: str, style: object, label: str) -> None:
    """Mean of the curves, with their range, at the steps that all of them have."""
    joined = pd.concat(curves, axis=1, join="inner").dropna()
    axes.plot(joined.index, joined.mean(axis=1), color=colour, ls=style, label=label)
    if len(curves) > 1:
        axes.fill_between(
            joined.index, joined.min(axis=1), joined.max(axis=1), color=colour, alpha=0.25, lw=0
        )


def _mark_switch(axes: Axes, study: SwitchStudy) -> None:
    for step in study.switch_steps.values():
        axes.axvline(step, color=INK, lw=0.6, ls=":")


def _log_ticks(axes: Axes) -> None:
    """Plain numbers on a log axis that spans about a decade."""
    formatter: Callable[[float, int], str] = lambda value, _: f"{value:g}"  # noqa: E731
    axes.yaxis.set_major_formatter(formatter)
    low, high = axes.get_ylim()
    if low > 0 and np.log10(high / low) < 2:
        axes.yaxis.set_minor_formatter(
            lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else ""
        )


def _setting(study: SwitchStudy) -> str:
    p = study.parameters
    return f"{p.model} on {p.dataset}, η = {p.learning_rate:g}, {len(p.seeds)} seeds"


def main() -> None:
    """``python -m subspace_lib.figures FILE``: the README's picture, from the stored results."""
    study = switch_study(BOOK["02_dom_vs_bulk"], compute=False)
    Path(sys.argv[1]).write_bytes(losses(study).png())


if __name__ == "__main__":
    main()
