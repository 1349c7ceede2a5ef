"""Figures of the batch study (chapter 03)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from subspace_lib.chapters.full_batch_gd.study import AROUND, BatchStudy
from subspace_lib.chapters.kit.style import (
    CYCLE,
    INK,
    Picture,
    band,
    log_ticks,
    panels,
    series,
    styled,
    styles,
)
from subspace_lib.trajectory import tail


@styled
def there_and_back(study: BatchStudy) -> Picture:
    """Alignment of the full-batch gradient around the changes SGD → GD → SGD, and with added noise."""
    figure, parts = panels(2, height=5.5)
    p = study.parameters
    start, end = p.switch_step - p.full_steps // 2, p.switch_step + 2 * p.full_steps
    sgd = [_cut(run.table, start, end) for run in study.of("SGD")]
    for axes in parts:
        band(axes, [t["alignment"] for t in sgd], CYCLE[0], "-", f"SGD, batch {p.batch_size}")
    band(parts[0], series(study.of("GD"), "alignment"), CYCLE[1], "--", "full batch")
    band(parts[0], series(study.of("back"), "alignment"), CYCLE[2], "-.", "minibatches again")
    noises = {
        "GD + noise of SGD's covariance": "sgd noise",
        "GD + isotropic noise": "isotropic noise",
    }
    for label, colour, dashes in list(styles(["", "", "", *noises]))[3:]:
        band(parts[1], series(study.of(noises[label]), "alignment"), colour, dashes, label)
    for axes in parts:
        axes.axvline(p.switch_step, color=INK, lw=0.8, ls=":")
        axes.set(ylim=(-0.02, 1.02), ylabel=f"χ$_{{{p.k}}}$ of ∇L")
        axes.legend(loc="center right", fontsize=9)
    parts[0].axvline(p.switch_step + p.full_steps, color=INK, lw=0.8, ls=":")
    parts[1].set_xlabel("step")
    return Picture(
        figure, "Alignment of the full-batch gradient under SGD, GD, SGD, and GD with noise"
    )


def _cut(table: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    rows = table[(table["step"] >= start) & (table["step"] <= end)]
    return rows.set_index("step")


@styled
def by_batch_size(study: BatchStudy) -> Picture:
    """Alignment against batch size: after the branch, at the end, and by the quadratic model."""
    figure, (axes,) = panels(1, height=3.6)
    frame = alignment_by_size(study)
    for column, colour, dashes in styles(["predicted", "after the branch", "at the end"]):
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
    axes.legend()
    return Picture(figure, "Alignment of the full-batch gradient against batch size")


def alignment_by_size(study: BatchStudy) -> pd.DataFrame:
    """Per batch size and seed: mean alignment after the branch and over the last 2% of the steps, and
    the quadratic model's."""
    p, rows = study.parameters, []
    for (size, seed), run in study.sizes.items():
        table = run.table
        after = table[
            (table["step"] > p.switch_step + 100) & (table["step"] <= p.switch_step + AROUND)
        ]
        rows.append(
            {
                "batch": size,
                "seed": seed,
                "after the branch": after["alignment"].mean(),
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
    axes.legend()
    return Picture(figure, "Gradient noise along leading eigenvectors against their eigenvalue")


@styled
def from_the_start(study: BatchStudy) -> Picture:
    """GD from the initialisation: alignment and sharpness."""
    figure, (top, bottom) = panels(2, height=4.6)
    runs = study.of("GD from the start")
    band(top, series(runs, "alignment"), CYCLE[1], "-", "GD")
    top.set(ylim=(-0.02, 1.02), ylabel=f"χ$_{{{study.parameters.k}}}$ of ∇L")
    band(bottom, series(runs, "eigenvalue_01"), CYCLE[1], "-", "GD")
    bottom.axhline(2 / study.parameters.learning_rate, color=INK, lw=0.8, ls=":")
    bottom.set(yscale="log", xlabel="step", ylabel="sharpness λ$_1$")
    log_ticks(bottom)
    return Picture(figure, "Alignment and sharpness of GD from the initialisation")


@styled
def learning(study: BatchStudy) -> Picture:
    """Training loss of SGD, GD and GD with noise after the branch."""
    figure, (axes,) = panels(1, height=3.5)
    p = study.parameters
    names = {
        "SGD": "SGD",
        "GD": "GD",
        "GD + noise of SGD's covariance": "sgd noise",
        "GD + isotropic noise": "isotropic noise",
    }
    for label, colour, dashes in styles(names):
        tables = [
            _cut(run.table, p.switch_step, p.switch_step + p.full_steps)
            for run in study.of(names[label])
        ]
        band(axes, [table["train_loss"] for table in tables], colour, dashes, label)
    axes.set(xlabel="step", ylabel="training loss L(θ)")
    axes.legend()
    return Picture(figure, "Training loss of SGD, GD and GD with noise from one point")
