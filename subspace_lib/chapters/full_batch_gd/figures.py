"""Figures of the batch study (chapter 03)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from subspace_lib.chapters.full_batch_gd.study import AROUND, BatchStudy
from subspace_lib.chapters.kit.style import (
    CYCLE,
    INK,
    LineStyle,
    Picture,
    above,
    band,
    below,
    log_ticks,
    panels,
    series,
    styled,
    styles,
    waiting,
)
from subspace_lib.trajectory import Trajectory, tail

SETTLED = 100  # steps after the switch that the mean after it leaves out


@styled
def there_and_back(study: BatchStudy) -> Picture:
    """Alignment of the full-batch gradient over the changes SGD → GD → SGD, and with added noise."""
    figure, (top, bottom) = panels(2, height=5.5, share=False)
    p = study.parameters
    names = {
        "before": f"SGD, batch {p.batch_size}",
        "GD": "full batch",
        "back": "minibatches again",
    }
    for name, colour, dashes in styles(names):
        _lines(top, study, name, colour, dashes, names[name])
    names = {"shaped": "GD + noise of SGD's covariance", "isotropic": "GD + isotropic noise"}
    for name, colour, dashes in list(styles(["", "", "", *names]))[3:]:
        _lines(bottom, study, name, colour, dashes, names[name])
    for axes in (top, bottom):
        axes.axvline(0, color=INK, lw=0.8, ls=":")
        axes.set(ylim=(-0.02, 1.02), ylabel=f"χ$_{{{p.k}}}$ of ∇L")
        above(axes)
    bottom.set_xlabel("steps from the switch")
    return Picture(
        figure, "Alignment of the full-batch gradient under SGD, GD, SGD, and GD with noise"
    )


def _lines(
    axes: Axes, study: BatchStudy, name: str, colour: str, dashes: LineStyle, label: str
) -> None:
    """Alignment of the runs of that name by the steps since their switch: the first seed bold."""
    for i, curve in enumerate(_since(study, study.of(name), "alignment")):
        width, alpha = (1.5, 1.0) if i == 0 else (0.7, 0.5)
        axes.plot(
            curve.index,
            curve,
            color=colour,
            ls=dashes,
            lw=width,
            alpha=alpha,
            label=None if i else label,
        )


def _since(study: BatchStudy, runs: Iterable[Trajectory], column: str) -> list[pd.Series]:
    """A column of each run by the steps since its seed's switch."""
    return [run.table[column].set_axis(study.since_switch(run)) for run in runs]


@styled
def by_batch_size(study: BatchStudy) -> Picture:
    """Alignment against batch size: after the switch, at the end, and by the quadratic model."""
    if not study.has_sizes:
        return waiting("The runs of other batch sizes are")
    figure, (axes,) = panels(1, height=3.6)
    frame = alignment_by_size(study)
    for column, colour, dashes in styles(["predicted", "after the switch", "at the end"]):
        groups = frame.groupby("batch")[column]
        mean, low, high = groups.mean(), groups.min(), groups.max()
        marker = "" if column == "predicted" else "o"
        axes.errorbar(
            mean.index,
            mean,
            [mean - low, high - mean],
            color=colour,
            ls=dashes,
            marker=marker,
            ms=4,
            capsize=3,
            label=column,
        )
    axes.set(
        xscale="log", xlabel="batch size (samples)", ylabel="alignment of ∇L", ylim=(-0.02, 1.02)
    )
    axes.set_xticks(sorted(frame["batch"].unique()), sorted(frame["batch"].unique()))
    axes.minorticks_off()
    below(figure, axes)
    return Picture(figure, "Alignment of the full-batch gradient against batch size")


def alignment_by_size(study: BatchStudy) -> pd.DataFrame:
    """Per batch size and seed: mean alignment after the switch, at the end, and the quadratic model's.

    The end is the last 2% of the steps.
    """
    rows = []
    for (size, seed), run in study.sizes.items():
        after = study.since_switch(run).between(SETTLED, AROUND)
        rows.append(
            {
                "batch": size,
                "seed": seed,
                "after the switch": run.table.loc[after, "alignment"].mean(),
                "at the end": tail(run, "alignment"),
                "predicted": study.predicted(seed, size),
            }
        )
    return pd.DataFrame(rows).sort_values(["batch", "seed"])


@styled
def single_sample_noise(study: BatchStudy) -> Picture:
    """Variance of single-sample gradients along the leading eigenvectors against their eigenvalue."""
    figure, (axes,) = panels(1, height=3.5)
    k = study.parameters.k
    for seed, colour, _ in styles(study.parameters.seeds):
        values, scatter = study.point(seed, "eigenvalue"), study.point(seed, "noise")
        inside = values.index <= k
        axes.plot(
            values[inside],
            scatter.loc[values.index][inside],
            "o",
            color=colour,
            ms=5,
            label=f"seed {seed}",
        )
        axes.plot(
            values[~inside], scatter.loc[values.index][~inside], "o", color=colour, mfc="none", ms=4
        )
        slope = scatter.loc[0] / study.point(seed, "trace").loc[0]
        ends = np.array([values.min(), values.max()])
        axes.plot(ends, slope * ends, color=colour, lw=0.8, ls=":")
    axes.set(xscale="log", yscale="log", xlabel="eigenvalue λ$_i$", ylabel="variance along v$_i$")
    log_ticks(axes)
    log_ticks(axes, "x")
    below(figure, axes)
    return Picture(figure, "Gradient noise along leading eigenvectors against their eigenvalue")


@styled
def from_the_start(study: BatchStudy) -> Picture:
    """GD from the initialization: alignment and sharpness."""
    figure, (top, bottom) = panels(2, height=4.6)
    runs = study.of("start")
    band(top, series(runs, "alignment"), CYCLE[0], "-", "GD")
    top.set(ylim=(-0.02, 1.02), ylabel=f"χ$_{{{study.parameters.k}}}$ of ∇L")
    band(bottom, series(runs, "eigenvalue_01"), CYCLE[0], "-", "GD")
    bottom.axhline(2 / study.parameters.learning_rate, color=INK, lw=0.8, ls=":")
    bottom.set(yscale="log", xlabel="step", ylabel="sharpness λ$_1$")
    log_ticks(bottom)
    return Picture(figure, "Alignment and sharpness of GD from the initialization")


@styled
def learning(study: BatchStudy) -> Picture:
    """Training loss of SGD, GD and GD with noise of either kind, from the switch on, first seed."""
    figure, (axes,) = panels(1, height=3.5)
    p, seed = study.parameters, study.parameters.seeds[0]
    runs = {
        "SGD": study.switch.trajectories["none", seed],
        "GD": study.sizes.get((p.samples, seed)),
        "GD + noise of SGD's covariance": study.runs["shaped", seed],
        "GD + isotropic noise": study.runs["isotropic", seed],
    }
    for label, colour, dashes in styles(runs):
        run = runs[label]
        if run is not None:  # a study may have no branch of the full batch
            (curve,) = _since(study, [run], "train_loss")
            curve = curve[curve.index.to_series().between(0, p.back_steps)]
            axes.plot(curve.index, curve, color=colour, ls=dashes, label=label)
    axes.set(xlabel="steps from the switch", ylabel="training loss L(θ)")
    below(figure, axes)
    return Picture(figure, "Training loss of SGD, GD and GD with noise from one point")
