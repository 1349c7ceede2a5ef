"""Figures of the alignment study (chapter 01)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from subspace_lib.chapters.dominant_subspace.study import AlignmentStudy
from subspace_lib.chapters.kit.style import (
    COLOURS,
    CYCLE,
    GREY,
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
)
from subspace_lib.runs.training import SPECTRUM

NAMES = [f"eigenvalue_{i:02d}" for i in range(1, SPECTRUM + 1)]


@styled
def outliers(study: AlignmentStudy) -> Picture:
    """The 20 largest eigenvalues of the first seed over training; below, λ_k/λ_{k+1} of all seeds."""
    figure, (top, bottom) = panels(2, height=5.5)
    k, runs = study.parameters.k, list(study.plain.values())
    rows = runs[0].table
    rows = rows[rows[NAMES[-1]].notna()]
    for i, name in enumerate(NAMES):
        colour, width = (CYCLE[0], 1.3) if i < k else (GREY, 0.9)
        top.plot(rows["step"], rows[name], color=colour, lw=width)
    top.axhline(2 / study.parameters.learning_rate, color=INK, lw=0.8, ls=":")
    top.set(yscale="log", ylabel="λ$_i$")
    log_ticks(top)
    for run in runs:
        rows = run.table[run.table[NAMES[-1]].notna()]
        bottom.plot(
            rows["step"],
            rows[NAMES[k - 1]] / rows[NAMES[k]],
            color=CYCLE[0],
            lw=1,
            marker=".",
            label=f"seed {run.experiment.seed}",
        )
    bottom.axhline(1, color=INK, lw=0.8, ls=":")
    bottom.set(xlabel="step", ylabel=f"λ$_{{{k}}}$/λ$_{{{k + 1}}}$", ylim=(0, None))
    return Picture(figure, f"Leading Hessian eigenvalues over steps, and their ratio at k = {k}")


@styled
def gradients(study: AlignmentStudy) -> Picture:
    """Alignment of the full-batch and of the minibatch gradient: mean and range over seeds."""
    figure, (axes,) = panels(1, height=3.5)
    runs = list(study.plain.values())
    labels = {"full-batch gradient": "alignment", "minibatch gradient": "batch_alignment"}
    for label, colour, dashes in styles(labels):
        band(axes, series(runs, labels[label], smooth=10), colour, dashes, label)
    axes.set(ylim=(0, 1.02), xlabel="step", ylabel=f"alignment χ$_{{{study.parameters.k}}}$")
    below(figure, axes)
    return Picture(figure, "Alignment of full-batch and minibatch gradients over steps")


@styled
def by_classes(study: AlignmentStudy) -> Picture:
    """The leading eigenvalues of runs on the first 2, 3, … classes, relative to the largest."""
    figure, (axes,) = panels(1, height=3.5)
    for count, colour, dashes in styles(study.classes):
        values = np.array(study.spectrum(count))
        index = np.arange(1, len(values) + 1)
        axes.plot(
            index,
            values / values[0],
            color=colour,
            ls=dashes,
            marker="o",
            ms=3,
            label=f"{count} classes",
        )
        axes.axvline(count + 0.5, color=colour, lw=0.8, ls=":")
    axes.set(yscale="log", xlabel="index i", ylabel="λ$_i$/λ$_1$")
    axes.set_xticks([1, 2, 3, 5, 10, 15, 20])
    below(figure, axes)
    return Picture(figure, "Leading eigenvalues for data of different numbers of classes")


@styled
def class_spans(study: AlignmentStudy) -> Picture:
    """How much of the dominant subspace lies in spans of mean output gradients, over training."""
    figure, (axes,) = panels(1, height=3.5)
    spans = {
        "class means, C² directions": "class_means",
        "means over all samples, C directions": "mean_outputs",
        "random, C² directions": "random_span",
    }
    for label, colour, dashes in styles(spans):
        _over_anchors(axes, study, spans[label], colour, dashes, label)
    _early_and_late(axes)
    axes.set(xlabel="step", ylabel="mean squared cosine to S$_k$", ylim=(-0.03, 1.05))
    axes.set_xlim(left=0)
    below(figure, axes)
    return Picture(figure, "Overlap of the dominant subspace with gradients of mean outputs")


@styled
def turning(study: AlignmentStudy) -> Picture:
    """Angle between S_k at an anchor and some steps later; overlap with S_k at the end."""
    figure, (top, bottom) = panels(2, height=6, share=False)
    table = study.survey()
    anchors = sorted(table["anchor"].unique())
    for anchor, colour, dashes in styles(anchors):
        rows = table[(table["quantity"] == "angle") & (table["anchor"] == anchor)]
        curves = [one.set_index("index")["value"] for _, one in rows.groupby("seed")]
        if curves:
            band(top, curves, colour, dashes, f"from step {anchor:,}")
    top.set(xscale="log", yscale="log", xlabel="steps later", ylabel="sine of the largest angle")
    log_ticks(top)
    log_ticks(top, "x")
    above(top)
    _over_anchors(bottom, study, "final_overlap", CYCLE[0], "-", "mean squared cosine")
    _early_and_late(bottom)
    bottom.set(xlabel="step", ylabel="overlap with S$_k$ at the end", ylim=(0, 1.05))
    bottom.set_xlim(left=0)
    return Picture(
        figure, "How far the dominant subspace turns, by steps, and its overlap with the last"
    )


def _early_and_late(axes: Axes) -> None:
    """Steps on a log axis, the first hundred of them linear, in plain numbers."""
    axes.set_xscale("symlog", linthresh=100)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _over_anchors(
    axes: Axes, study: AlignmentStudy, quantity: str, colour: str, dashes: LineStyle, label: str
) -> None:
    table = study.survey()
    rows = table[table["quantity"] == quantity]
    curves = [one.set_index("anchor")["value"] for _, one in rows.groupby("seed")]
    joined = pd.concat(curves, axis=1)
    axes.plot(
        joined.index, joined.mean(axis=1), color=colour, marker="o", ms=3, ls="none", clip_on=False
    )
    band(axes, curves, colour, dashes, label)


@styled
def changes(study: AlignmentStudy) -> Picture:
    """Loss change a step by the dominant and the bulk part of the update: predicted and measured."""
    figure, parts = panels(2, height=5)
    frame = loss_change_table(study)
    x = np.arange(len(frame))
    marks = (("predicted", "o", -0.1), ("measured", "s", 0.1))
    for axes, name in zip(parts, ("dominant", "bulk"), strict=True):
        colour = COLOURS[name]
        for kind, marker, shift in marks:
            mean, error = frame[f"{kind}_{name}"], frame[f"error_{kind}_{name}"]
            axes.errorbar(
                x + shift,
                1e6 * mean,
                2e6 * error,
                fmt=marker,
                ms=5,
                color=colour,
                mfc=colour if kind == "measured" else "none",
                label=kind,
            )
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_ylabel(f"loss change a step, 10⁻⁶\n{name} part")
        axes.set_yscale("symlog", linthresh=100)
    below(figure, parts[0])
    names = [f"{anchor:,}" for anchor in frame.index]
    parts[-1].set_xticks(x, names, rotation=30, ha="right")
    parts[-1].set_xlabel("from step")
    return Picture(
        figure, "Loss change a step by the parts of SGD's update, predicted and measured"
    )


def loss_change_table(study: AlignmentStudy) -> pd.DataFrame:
    """Means over seeds and steps of each window, by anchor, with their standard errors.

    Columns ``predicted_*``: first- plus second-order terms; ``measured_*``: L(θ + part) − L(θ);
    ``first_*``, ``second_*``: the terms; for the dominant and the bulk part, and ``measured_whole``.
    """
    table = study.survey()
    wide = table.pivot_table(index=["anchor", "seed", "index"], columns="quantity", values="value")
    wide = wide[wide["change"].notna()]
    steps = pd.DataFrame(index=wide.index)
    for part in ("dominant", "bulk"):
        steps[f"first_{part}"], steps[f"second_{part}"] = (
            wide[f"first_{part}"],
            wide[f"second_{part}"],
        )
        steps[f"predicted_{part}"] = wide[f"first_{part}"] + wide[f"second_{part}"]
        steps[f"measured_{part}"] = wide[f"change_{part}"]
    steps["measured_whole"] = wide["change"]
    groups = steps.groupby("anchor")
    return groups.mean().join(groups.sem().add_prefix("error_"))
