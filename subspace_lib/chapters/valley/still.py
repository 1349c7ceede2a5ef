"""Figure of the two-dimensional valley (chapter 04): what the interactive one starts from."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subspace_lib.chapters.kit.style import COLOURS, INK, LINES, WIDTH, Picture, log_ticks, styled
from subspace_lib.theory.valley import Valley, path

# The start is [√κ x, y], about where SGD itself would be; the page's script starts there, too.
SHOWN = {"SGD": "none", "Dom-SGD": "dominant", "Bulk-SGD": "bulk"}
START, RATE, STEPS = (0.2, 1.0), 1e-5, 200_000
AVERAGED = 4000  # steps of a mean alignment: a hundred of the points that the page's script keeps
EVERY = 200  # of so many steps one is drawn: as many as the width can tell apart


@styled
def valley_paths() -> Picture:
    """SGD, Dom-SGD and Bulk-SGD in the valley: paths on contours of L, loss, alignment."""
    valley = Valley()
    start = (START[0] / np.sqrt(valley.condition), START[1])
    runs = {name: path(valley, name, RATE, start, STEPS) for name in SHOWN}
    figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
    rows = figure.subplots(3, 1, height_ratios=[1.6, 1, 1])
    half = 1.5 / np.sqrt(valley.condition)
    contours(rows[0], valley, half, (-0.3, 1.3))
    steps = np.arange(0, STEPS + 1, EVERY)
    for name, points in runs.items():
        colour, dashes = COLOURS[SHOWN[name]], LINES[SHOWN[name]]
        aligned = _smooth(valley.alignment(points))
        points = points[steps]
        rows[0].plot(points[:, 1], points[:, 0], color=colour, lw=0.8)
        rows[1].semilogy(steps, valley.loss(points), color=colour, ls=dashes, label=name)
        rows[2].plot(steps, aligned[steps], color=colour, ls=dashes)
    rows[0].plot(*start[::-1], marker="o", ms=8, mfc="none", mec=INK, mew=2)
    log_ticks(rows[1])
    for row in rows[1:]:
        row.locator_params(axis="x", nbins=5)
    rows[1].set(ylabel="loss L")
    rows[2].set(
        xlabel="step", ylabel=f"alignment χ$_1$,\nmean of {AVERAGED:,} steps", ylim=(0, 1.02)
    )
    rows[1].legend(loc="lower left")
    return Picture(figure, "Paths of SGD, Dom-SGD and Bulk-SGD in the valley, loss and alignment")


def contours(axes: Axes, valley: Valley, half: float, along: tuple[float, float]) -> None:
    """Contours of L at ½r², r = 0.2, 0.4, …, across the valley to −half … half and along it."""
    y, x = np.meshgrid(np.linspace(*along, 81), np.linspace(-half, half, 61))
    levels = np.arange(0.2, 2.1, 0.2) ** 2 / 2
    axes.contour(
        y, x, valley.loss(np.stack([x, y], -1)), levels, colors=INK, alpha=0.3, linewidths=0.6
    )
    axes.grid(False)
    axes.set(xlabel="y, along the valley", ylabel="x, across (stretched)")


def _smooth(values: np.ndarray, width: int = AVERAGED) -> np.ndarray:
    """Mean of each value with those before it, up to ``width`` of them."""
    total = np.cumsum(np.concatenate([np.zeros(1), values]))
    ends = np.arange(1, len(total))
    first = np.maximum(ends - width, 0)
    return (total[ends] - total[first]) / (ends - first)
