"""Figures of chapter 08."""

from __future__ import annotations

import math
from string import ascii_lowercase

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

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
CLEAR = 5, 7  # points: half of what a letter takes, across and up
SHIFTS = sorted(  # points from a marker to its letter, the nearest first
    ((x, y) for x in range(-36, 37, 4) for y in (*range(-40, -9, 5), *range(10, 41, 5))),
    key=lambda shift: math.hypot(*shift),
)


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
    axes.plot(x, means, marker, color=colour, ls=dashes, mfc=face, ms=5, lw=1, clip_on=False)
    for place, found in zip(x, values, strict=True):
        known = [value for value in found if math.isfinite(value)]
        if len(known) > 1:
            axes.plot([place] * 2, [min(known), max(known)], color=colour, lw=1, ls=DASHES[0])


@styled
def spaces(study: ThresholdStudy) -> Picture:
    """Every space by its angle to S_k: progress, and the late alignment of Dom-SGD's gradient with it."""
    found = study.spaces
    if found is None:
        return waiting("The runs in other spaces are")
    names = [name for name in found.names() if name != FOLLOWED]
    figure, (top, bottom) = panels(2, height=6 + 0.2 * len(names))
    points: dict[Axes, list[tuple[str, float, float]]] = {top: [], bottom: []}
    levels: dict[Axes, list[float]] = {top: [], bottom: []}
    for side, marker in MARKERS.items():
        at = [says.mean(apart(found, name, side)) for name in names]
        for axes, quantity in ((top, found.progress), (bottom, found.inside)):
            if axes is top or side == "dominant":
                values = [quantity(name, side) for name in names]
                _means(axes, at, values, COLOURS[side], marker, "none")
                points[axes] += zip(ascii_lowercase, at, map(says.mean, values), strict=False)
                levels[axes].append(says.mean(quantity(FOLLOWED, side)))
                axes.axhline(levels[axes][-1], color=COLOURS[side], lw=0.8, ls="--")
        top.plot([], [], marker, color=COLOURS[side], label=found.switch.name(side))
    top.set(xscale="log", ylabel="progress")
    top.margins(y=0.15)
    bottom.set(ylabel="alignment with the space", ylim=(-0.05, 1.15))
    bottom.set_xlabel("root mean squared sine of the angles to Sₖ")
    above(top)
    listed = [f"{letter}  {name}" for letter, name in zip(ascii_lowercase, names, strict=False)]
    unseen = [Line2D([], [], ls="none") for _ in listed]
    figure.legend(unseen, listed, loc="outside lower center", handlelength=0)
    figure.draw_without_rendering()  # the layout says where on the page a point lies
    for axes in (top, bottom):
        _letters(axes, points[axes], levels[axes])
    return Picture(
        figure,
        "Progress of Dom-SGD and Bulk-SGD, and alignment with the space, against the angle between the "
        "space in use and the dominant subspace: " + "; ".join(listed),
    )


def _letters(axes: Axes, points: list[tuple[str, float, float]], levels: list[float]) -> None:
    """A letter beside each point, where it meets no point, level or other letter, and a line to it."""
    scale, (across, up) = axes.figure.dpi / 72, CLEAR
    known = [point for point in points if all(map(math.isfinite, point[1:]))]
    taken = [axes.transData.transform(point[1:]) / scale for point in known]
    lines = [axes.transData.transform((1, level))[1] / scale for level in levels]
    box = axes.bbox.padded(-across / 2 * scale)

    def free(x: float, y: float) -> bool:
        return (
            box.contains(x * scale, y * scale)
            and all(abs(y - line) > up for line in lines)
            and all(abs(x - a) > 2 * across or abs(y - b) > 1.5 * up for a, b in taken)
        )

    for (letter, x, y), (left, low) in zip(known, list(taken), strict=True):
        shift = next((s for s in SHIFTS if free(left + s[0], low + s[1])), SHIFTS[0])
        taken.append(np.array([left + shift[0], low + shift[1]]))
        axes.annotate(
            letter,
            (x, y),
            shift,
            textcoords="offset points",
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": INK, "shrinkA": 0, "shrinkB": 2},
        )
