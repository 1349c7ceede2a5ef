"""Figures of chapter 11."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from subspace_lib.chapters.curvature.study import CurvatureStudy
from subspace_lib.chapters.kit.style import (
    COLOURS,
    CYCLE,
    INK,
    Picture,
    band,
    below,
    panels,
    styled,
    styles,
)
from subspace_lib.linalg.quadrature import Quadrature, mean_error

NAMES = {"H": "Hessian H", "G": "Gauss–Newton G", "F": "functional part F = H − G"}
POINTS = 800  # of a curve
WIDTH = 0.01  # of the Gaussians, over the range of the nodes
FLOOR = 0.1  # of the height of a single eigenvalue: where the log axis begins
TENSORS = len(CYCLE) - 1  # told apart by colour in a bar; the smallest of the others are one


@styled
def spectrum(study: CurvatureStudy) -> Picture:
    """Spectral densities of H, with PyHessian's, and of G at the last anchor of the first seed."""
    anchor = study.looked()[-1]
    figure, parts = panels(2, height=5.5)
    width = study.density(anchor, "H").width(WIDTH)
    for axes, operator in zip(parts, ("H", "G"), strict=True):
        _coloured(axes, study, anchor, operator, width)
        axes.set_title(NAMES[operator], pad=3)
    if study.parameters.pyhessian and anchor == study.parameters.anchors[-1]:
        _line(parts[0], study.density(anchor, "PyHessian"), width, ":", "PyHessian")
    parts[-1].set_xlabel("eigenvalue")
    below(figure, parts[0])
    return Picture(figure, f"Spectral densities of H and G at step {anchor:,}, log scale")


@styled
def evolution(study: CurvatureStudy) -> Picture:
    """Spectral density of H at each anchor of the first seed, G's as a dashed line."""
    anchors = study.looked()
    figure, parts = panels(len(anchors), height=0.6 + 1.25 * len(anchors))
    width = max(study.density(anchor, "H").width(WIDTH) for anchor in anchors)
    for axes, anchor in zip(parts, anchors, strict=True):
        _coloured(axes, study, anchor, "H", width)
        _line(axes, study.density(anchor, "G"), width, "--", "Gauss–Newton G")
        axes.set_title(f"step {anchor:,}", pad=2)
    parts[-1].set_xlabel("eigenvalue")
    below(figure, parts[0])
    return Picture(figure, "Spectral density of the Hessian over training, a panel a step")


def _line(axes: Axes, found: Quadrature, width: float, dashes: str, label: str) -> None:
    points = found.grid(POINTS, 4 * width)
    curve = found.density(points, width).mean(0)
    axes.plot(points, curve, color=INK, ls=dashes, lw=1, label=label)


def _coloured(axes: Axes, study: CurvatureStudy, anchor: int, operator: str, width: float) -> None:
    """A density with the standard error over probes; what lies above the cut in the dominant colour."""
    found, cut = study.density(anchor, operator), study.cut(anchor, operator)
    points = found.grid(POINTS, 4 * width)
    curves = found.density(points, width)
    mean, error = curves.mean(0), mean_error(curves)
    single = 1 / (study.dim * width * math.sqrt(math.tau))
    low, above = FLOOR * single, (points > cut).numpy()
    sides = (("bulk", ~above, COLOURS["none"]), ("dominant", above, COLOURS["dominant"]))
    for name, side, colour in sides:
        line = np.where(side & (mean.numpy() > low), mean, np.nan)
        axes.plot(points, line, color=colour, label=f"{name} part")
        axes.fill_between(points, low, mean.clamp_min(low), where=side, color=colour, alpha=0.15)
        lower, upper = (mean - error).clamp_min(low), (mean + error).clamp_min(low)
        axes.fill_between(points, lower, upper, where=side, color=colour, alpha=0.35, lw=0)
    axes.axhline(single, color=INK, lw=0.7, ls=(0, (1, 3)))
    axes.set(yscale="log", ylabel="density", ylim=(low, None))


@styled
def spaces(study: CurvatureStudy) -> Picture:
    """Overlap with the space of H, alignment of the gradient, largest eigenvalues, over the steps."""
    figure, (top, middle, bottom) = panels(3, height=7)
    for operator, colour, dashes in styles(NAMES):
        wanted = [(middle, study.over_anchors("alignment", operator))]
        wanted += [(bottom, study.over_anchors("eigenvalue", operator, 1).abs())]
        if operator != "H":
            wanted += [(top, study.over_anchors("overlap", operator))]
        for axes, frame in wanted:
            known = frame.dropna()
            axes.plot(known.index, known.mean(axis=1), "o", ms=3, color=colour)
            band(axes, [frame[seed] for seed in frame], colour, dashes, NAMES[operator])
    top.set(ylabel="overlap with H's space", ylim=(-0.03, 1.05))
    middle.set(ylabel="alignment", ylim=(-0.03, 1.05))
    bottom.set(ylabel="largest |λ|", ylim=(0, None), xlabel="step")
    below(figure, middle)
    return Picture(figure, "Spaces and largest eigenvalues of H, G and F over the steps")


@styled
def layers(study: CurvatureStudy) -> Picture:
    """Share of the dominant eigenvectors' mass in each tensor of parameters, a bar an anchor."""
    figure, (axes,) = panels(1, height=3.6)
    shares = study.masses()
    names = shares.max().nlargest(TENSORS).index
    parts = shares[[name for name in shares if name in names]].copy()
    if len(names) < shares.shape[1]:
        parts["all others"] = shares.drop(columns=names).sum(axis=1)
    base, x = np.zeros(len(parts)), np.arange(len(parts))
    for name, colour in zip(parts, CYCLE, strict=False):
        height = parts[name].to_numpy()
        axes.bar(x, height, 0.75, base, color=colour, edgecolor="white", label=name)
        base = base + np.nan_to_num(height)
    labels = [f"{anchor:,}" for anchor in parts.index[:-1]]
    axes.set_xticks(x, [*labels, "size"], rotation=30, ha="right")
    axes.set(xlabel="step; right: share of the parameters", ylabel="share of squared mass")
    below(figure, axes)
    return Picture(figure, "Layers in which the dominant eigenvectors have their mass, over steps")
