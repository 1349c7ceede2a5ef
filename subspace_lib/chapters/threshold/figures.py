"""Figures of chapter 08."""

from __future__ import annotations

import math
from string import ascii_lowercase

from matplotlib.axes import Axes

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.style import (
    COLOURS,
    DASHES,
    INK,
    LineStyle,
    Picture,
    above,
    below,
    log_ticks,
    panels,
    styled,
    styles,
    waiting,
)
from subspace_lib.chapters.threshold.cuts import height
from subspace_lib.chapters.threshold.spaces import FOLLOWED
from subspace_lib.chapters.threshold.study import ThresholdStudy
from subspace_lib.chapters.threshold.tables import apart
from subspace_lib.evidence import criteria
from subspace_lib.trajectory import tail

MARKERS = {"dominant": "o", "bulk": "s"}


@styled
def cuts(study: ThresholdStudy) -> Picture:
    """Against k over the number of classes: progress, SGD's late alignment with S_k, the spectrum."""
    if not study.cases:
        return waiting("The runs with other k are")
    figure, (top, middle, bottom) = panels(3, height=7.2)
    for name, colour, dashes in styles(study.cases):
        case = study.cases[name]
        ks = case.parameters.cuts
        x = [k / case.parameters.k for k in ks]
        for side, marker in MARKERS.items():
            _means(
                top, x, [case.progress(k, side) for k in ks], colour, marker, dashes, side == "bulk"
            )
        inside = [[tail(run, "alignment") for run in case.at(k).of("none")] for k in ks]
        _means(middle, x, inside, colour, "o", dashes)
        values = case.spectrum(case.parameters.seeds[0])
        places = range(1, len(values) + 1)
        shares = [height(values, i) for i in places]
        bottom.plot(
            [i / case.parameters.k for i in places], shares, ".", color=colour, ms=5, label=name
        )
    for bound in (criteria.Q2_DOM.at_most, criteria.Q2_BULK.at_least):
        top.axhline(bound, color=INK, lw=0.8, ls=":")
    top.plot([], [], MARKERS["dominant"], color=INK, label="Dom-SGD")
    top.plot([], [], MARKERS["bulk"], color=INK, mfc="none", label="Bulk-SGD")
    top.set(xscale="log", ylabel="progress")
    middle.set(ylabel="SGD's late alignment", ylim=(0, 1.05))
    bottom.set(ylabel="λᵢ/λ₁ at the switch", xlabel="k, and i, over the number of classes")
    if any(
        case.spectrum(case.parameters.seeds[0]) for case in study.cases.values()
    ):  # or it is an error
        bottom.set_yscale("log")
    log_ticks(bottom, "x")
    for axes in (top, middle, bottom):
        axes.axvline(1, color=INK, lw=0.6)
    below(figure, bottom, top)
    return Picture(
        figure,
        "Progress of Dom-SGD and Bulk-SGD, alignment of SGD and spectrum, against k: "
        + "; ".join(study.cases),
    )


def _means(
    axes: Axes,
    x: list[float],
    values: list[list[float]],
    colour: str,
    marker: str,
    dashes: LineStyle,
    hollow: bool = False,
) -> None:
    """Means over seeds, with a bar over their range."""
    means = [says.mean(found) for found in values]
    face = "none" if hollow else colour
    axes.plot(x, means, marker, color=colour, ls=dashes, mfc=face, ms=5, lw=1)
    for place, found in zip(x, values, strict=True):
        known = [value for value in found if math.isfinite(value)]
        if len(known) > 1:
            axes.plot([place] * 2, [min(known), max(known)], color=colour, lw=1, ls=DASHES[0])


@styled
def spaces(study: ThresholdStudy) -> Picture:
    """Every space by its angle to S_k: progress, and the late share of Dom-SGD's gradient inside."""
    found = study.spaces
    if found is None:
        return waiting("The runs in other spaces are")
    figure, (top, bottom) = panels(2, height=7.4)
    names = [name for name in found.names() if name != FOLLOWED]
    for side, marker in MARKERS.items():
        at = [says.mean(apart(found, name, side)) for name in names]
        values = [found.progress(name, side) for name in names]
        _means(top, at, values, COLOURS[side], marker, "none")
        _letters(top, at, values)
        top.plot([], [], marker, color=COLOURS[side], label=found.switch.name(side))
        top.axhline(says.mean(found.progress(FOLLOWED, side)), color=COLOURS[side], lw=0.8, ls="--")
        if side == "dominant":
            inside = [found.inside(name, side) for name in names]
            _means(bottom, at, inside, COLOURS[side], marker, "none")
            _letters(bottom, at, inside)
            level = says.mean(found.inside(FOLLOWED, side))
            bottom.axhline(level, color=COLOURS[side], lw=0.8, ls="--")
    top.set(xscale="log", ylabel="progress")
    bottom.set(ylabel="share of the gradient inside", ylim=(0, 1.15))
    bottom.set_xlabel("root mean squared sine of the angles to Sₖ")
    for axes in (top, bottom):
        axes.margins(y=0.2)
    above(top)
    listed = [f"{letter}  {name}" for letter, name in zip(ascii_lowercase, names, strict=False)]
    half = -(-len(listed) // 2)
    for place, column in ((0.0, listed[:half]), (0.5, listed[half:])):
        bottom.annotate(
            "\n".join(column), (place, -0.25), xycoords="axes fraction", va="top", fontsize=9
        )
    return Picture(
        figure,
        "Progress of Dom-SGD and Bulk-SGD, and the gradient's share inside, against the angle between the "
        "space in use and the dominant subspace: " + "; ".join(listed),
    )


def _letters(axes: Axes, x: list[float], values: list[list[float]]) -> None:
    """A letter above each point, in three heights: neighbours stay apart."""
    for i, (place, found) in enumerate(zip(x, values, strict=True)):
        mean = says.mean(found)
        if math.isfinite(mean):
            up = (0, 5 + 9 * (i % 3))
            axes.annotate(
                ascii_lowercase[i],
                (place, mean),
                up,
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
