"""Figures of chapter 13."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from subspace_lib.chapters.follow_ups.judge import gain
from subspace_lib.chapters.follow_ups.study import METHODS, SGD, FollowUpStudy
from subspace_lib.chapters.follow_ups.tables import critical, tried
from subspace_lib.chapters.kit.style import (
    COLOURS,
    CYCLE,
    INK,
    WIDTH,
    Picture,
    band,
    below,
    log_ticks,
    panels,
    series,
    styled,
    styles,
)
from subspace_lib.runs.trials import CHANGES, FRACTIONS
from subspace_lib.trajectory import Trajectory

PHASES = (("before", False), ("after", True))  # in words, and whether the switch is past


@styled
def weights(study: FollowUpStudy) -> Picture:
    """Gain in training loss over that of SGD, for each α and β; a cross where the run diverged."""
    p, seed = study.parameters, study.parameters.seeds[0]
    base = gain(study.weighted[SGD, seed])
    rows = [
        [gain(study.weighted[(a, b), seed]) / base for b in p.weights_bulk]
        for a in p.weights_dominant
    ]
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(rows, origin="lower", cmap="cividis", vmin=0, aspect="auto")
    middle = max((value for row in rows for value in row if np.isfinite(value)), default=0.0) / 2
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            text, colour = (f"{value:.2f}", "white" if value < middle else "black")
            if not np.isfinite(value):
                text, colour = "×", INK
            axes.text(j, i, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(p.weights_bulk)), [f"{b:g}" for b in p.weights_bulk])
    axes.set_yticks(range(len(p.weights_dominant)), [f"{a:g}" for a in p.weights_dominant])
    axes.grid(False)
    axes.set(xlabel="β, weight of the bulk part", ylabel="α, weight of the dominant part")
    figure.colorbar(shown, label="gain over that of SGD", location="top", shrink=0.8)
    return Picture(figure, "Gain in training loss over that of SGD, by the weights of both parts")


@styled
def noise(study: FollowUpStudy) -> Picture:
    """λ₁ with its range over seeds, and λ₂ to λ_k, means, after the switch: SGD, GD and averaged GD."""
    figure, (top, bottom) = panels(2, height=6)
    k = study.parameters.k
    for method, colour, dashes in styles(METHODS):
        runs = [study.noise[method, seed] for seed in study.repeated]
        values = [_since_switch(run, study) for run in runs]
        band(top, [frame.iloc[:, 0] for frame in values], colour, dashes, method)
        mean = pd.concat(values).groupby(level=0).mean()
        bottom.plot(mean.index, mean.iloc[:, 1:], color=colour, ls=dashes, lw=0.8)
    top.set_ylabel("λ₁")
    bottom.set(xlabel="steps since the switch", ylabel=f"λ₂ to λ$_{{{k}}}$")
    below(figure, top)
    says = f"The {k} leading eigenvalues over steps under SGD, GD and averaged GD"
    return Picture(figure, says)


def _since_switch(run: Trajectory, study: FollowUpStudy) -> pd.DataFrame:
    """The k leading eigenvalues by the steps since the run's switch, between rows on a line.

    Rows are at round steps, and switches are not: the seeds' rows are none at the same distance.
    """
    p = study.parameters
    names = [f"eigenvalue_{i:02d}" for i in range(1, p.k + 1)]
    rows = run.table[["step", *names]].astype(float).dropna()
    since = rows["step"] - run.experiment.switch_step
    at = np.arange(0, p.noise_steps + 1, p.noise_every)
    if not len(rows):  # it diverged before the switch
        return pd.DataFrame(math.nan, at, names)
    return pd.DataFrame({name: np.interp(at, since, rows[name]) for name in names}, at)


@styled
def early(study: FollowUpStudy) -> Picture:
    """Alignment of SGD's gradient (top), and the critical η over η (bottom), over the steps."""
    figure, (top, bottom) = panels(2, height=5)
    runs = list(study.plain.values())
    band(top, series(runs, "alignment"), COLOURS["none"], "-", None)
    for axes in (top, bottom):
        axes.set_xscale("symlog", linthresh=100)
    top.set(ylabel="alignment χ", ylim=(0, 1.02))
    for run, colour in zip(runs, CYCLE, strict=False):
        ratio = critical(run)
        bottom.plot(ratio.index, ratio, "o", color=colour, ms=4)
    bottom.axhline(1, color=INK, lw=0.8, ls=":")
    bottom.set(yscale="log", xlabel="step", ylabel="critical η / η")
    log_ticks(bottom)
    return Picture(figure, f"Alignment and critical learning rate over steps, {len(runs)} seeds")


@styled
def trials(study: FollowUpStudy) -> Picture:
    """Mean change of the loss by a step of Dom-SGD, over η_c E⟨Pg, g_B⟩, by η over the critical η_c."""
    figure, (axes,) = panels(1, height=3.6)
    points = tried(study)
    phases = () if points.empty else PHASES  # none, where all runs diverged
    for (label, after), colour in zip(phases, CYCLE, strict=False):
        size = points["critical"] * points["slope"]
        some = points["after"] == after
        change = points.loc[some, list(CHANGES)].div(size[some], axis=0).dropna()
        if change.empty:
            continue
        axes.fill_between(FRACTIONS, change.min(), change.max(), color=colour, alpha=0.2, lw=0)
        axes.plot(FRACTIONS, change.median(), "o-", color=colour, ms=4, label=f"{label} the switch")
    x = np.linspace(0, max(FRACTIONS), 100)
    axes.plot(x, x * x - x, color=INK, lw=0.8, ls=":", label="second order")
    axes.axhline(0, color=INK, lw=0.8)
    axes.set(xlabel="η / critical η", ylabel="change of the loss")
    below(figure, axes)
    return Picture(figure, "Change of the loss by a step of Dom-SGD, by its learning rate")
