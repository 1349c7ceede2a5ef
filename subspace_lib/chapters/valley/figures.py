"""Figures of the valley in two dimensions and of the regression (chapter 04)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from subspace_lib.chapters.kit.style import (
    COLOURS,
    CYCLE,
    INK,
    LINES,
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
from subspace_lib.chapters.valley.still import SHOWN
from subspace_lib.chapters.valley.study import PROBLEMS, ValleyStudy
from subspace_lib.evidence import criteria
from subspace_lib.runs.simulation import case_of


@styled
def losses(study: ValleyStudy) -> Picture:
    """Training loss of SGD, Dom-SGD and Bulk-SGD in both problems; in the valley beside the exact mean."""
    figure, parts = panels(2, height=5.6, share=False)
    for axes, problem in zip(parts, PROBLEMS, strict=True):
        band(axes, series(study.of(problem, "start"), "train_loss"), COLOURS["none"], "-", "")
        for name, projection in SHOWN.items():
            curves = series(study.of(problem, name), "train_loss")
            band(axes, curves, COLOURS[projection], LINES[projection], name)
        axes.axvline(study.first(problem).switch_step, color=INK, lw=0.8, ls=":")
        axes.set(yscale="log", ylabel="training loss L", title=problem)
        axes.locator_params(axis="x", nbins=5)
    _exact_losses(parts[0], study)
    below(figure, parts[0])
    parts[1].set_xlabel("step")
    for axes in parts:
        log_ticks(axes)
    return Picture(
        figure, "Training loss of SGD, Dom-SGD and Bulk-SGD in the valley and the regression"
    )


def _exact_losses(axes: Axes, study: ValleyStudy) -> None:
    """The mean loss by the recursion of the moments, at some of the steps."""
    e, left = study.valley, study.valley.steps - study.valley.switch_step
    at_switch = e.valley.moments(e.learning_rate, np.square(e.start), e.switch_step)[-1]
    shown = np.linspace(0, left, 12).astype(int)
    for projection in SHOWN.values():
        exact = e.valley.moments(e.learning_rate, at_switch, left, projection)[shown]
        means = exact @ e.valley.values / 2
        label = "exact mean" if projection == "none" else None
        axes.plot(e.switch_step + shown, means, "o", mec=INK, mfc="none", ms=4, label=label)


@styled
def window(study: ValleyStudy) -> Picture:
    """Progress of Bulk-SGD and alignment of SGD over a = ηc²/(2 − ηκ), simulated and in closed form."""
    figure, (top, bottom) = panels(2, height=6.0)
    valley = study.valley.valley
    seed, cases = study.parameters.seeds[0], [case_of(s) for s in study.valley.sharpnesses]
    shares = pd.concat([study.values("valley", seed, case, "share") for case in cases])
    fine = np.geomspace(shares.min() / 1.5, shares.max() * 1.5, 200)
    rates = [valley.rate(a) for a in fine]
    top.plot(fine, [valley.bulk_progress(eta) for eta in rates], color=INK, label="closed form")
    bottom.plot(fine, [valley.typical_alignment(eta) for eta in rates], color=INK)
    bottom.plot(fine, [valley.mean_alignment(eta) for eta in rates], color=INK, ls="--")
    for sharp, colour, _ in styles(study.valley.sharpnesses):
        _swept(top, study, sharp, "progress", colour, "o", colour)
        _swept(bottom, study, sharp, "typical", colour, "o", colour)
        _swept(bottom, study, sharp, "alignment", colour, "s", "none")
    _own(top, bottom, study)
    between = valley.window(criteria.ALIGNED_BEFORE.at_least, criteria.BULK_PROGRESS.at_least)
    for axes in (top, bottom):
        axes.axvspan(*between, color="#888888", alpha=0.15, lw=0)
    top.axhline(criteria.BULK_PROGRESS.at_least, color=INK, lw=0.6, ls=":")
    bottom.axhline(criteria.ALIGNED_BEFORE.at_least, color=INK, lw=0.6, ls=":")
    top.set(xscale="log", ylim=(-0.02, 1.04), ylabel="progress(Bulk-SGD)")
    bottom.set(ylim=(-0.02, 1.04), ylabel="alignment of ∇L", xlabel="a = ηc²/(2 − ηκ)")
    below(figure, top)
    return Picture(figure, "Progress of Bulk-SGD and alignment of SGD over the valley's noise")


def _own(top: Axes, bottom: Axes, study: ValleyStudy) -> None:
    """The chapter's own setting: Bulk-SGD's progress, and the mean alignment before the switch."""
    e = study.valley
    share, label = e.valley.share(e.learning_rate), "this chapter's setting"
    found = study.progresses("valley", "Bulk-SGD")
    aligned = [study.alignments("valley", seed)[0] for seed in study.parameters.seeds]
    for axes, values in ((top, found), (bottom, aligned)):
        axes.plot([share] * len(values), values, "*", color=INK, ms=9, label=label)


def _swept(
    axes: Axes, study: ValleyStudy, sharp: float, quantity: str, ink: str, marker: str, face: str
) -> None:
    """What was simulated at a value of ηκ, all seeds, over a."""
    for i, seed in enumerate(study.parameters.seeds):
        shares, found = (
            study.values("valley", seed, case_of(sharp), name) for name in ("share", quantity)
        )
        label = case_of(sharp) if i == 0 else None
        axes.plot(shares, found, marker, color=ink, mfc=face, ms=4, label=label)


@styled
def there_and_back(study: ValleyStudy) -> Picture:
    """Alignment of the full gradient around the changes SGD → GD → SGD in both problems."""
    figure, parts = panels(2, height=5.2, share=False)
    names = {"start": "SGD", "GD": "full batch", "back": "minibatches again"}
    for axes, problem in zip(parts, PROBLEMS, strict=True):
        for (case, label), colour, dashes in styles(names.items()):
            curves = series(study.of(problem, case), "alignment")
            if case == "start":  # as long as GD, so that there is room for what changes
                curves = [curve.iloc[-criteria.BEFORE_WINDOW :] for curve in curves]
            else:
                axes.axvline(curves[0].index[0], color=INK, lw=0.8, ls=":")
            band(axes, curves, colour, dashes, label)
        axes.set(ylim=(-0.02, 1.02), ylabel="alignment of ∇L", title=problem)
    below(figure, parts[0])
    parts[1].set_xlabel("step")
    return Picture(figure, "Alignment of the full gradient under SGD, GD and SGD again")


@styled
def regression_settled(study: ValleyStudy) -> Picture:
    """Variance of SGD along each eigenvector of the regression, simulated and in closed form."""
    figure, (top, bottom) = panels(2, height=5.8, share=False)
    seeds = study.parameters.seeds
    values, variance, expected, stationary = (
        study.values("regression", seeds[0], "settled", name).to_numpy()
        for name in ("eigenvalue", "variance", "expected", "stationary")
    )
    top.plot(values, variance, "o", color=CYCLE[1], ms=3, label="simulated")
    top.plot(values, stationary, color=CYCLE[0], label="stationary")
    top.plot(values, expected, color=CYCLE[2], ls="--", label="recursion, same steps")
    top.set(xscale="log", yscale="log", xlabel="eigenvalue λ$_i$", ylabel="Var δ$_i$")
    log_ticks(top, "x")
    above(top)
    for of, says, colour, marker, face in (
        ("dominant", "with", CYCLE[0], "o", CYCLE[0]),
        ("at minimum", "without", CYCLE[3], "s", "none"),
    ):
        for i, seed in enumerate(seeds):
            ratio = study.ratios(seed, of)
            label = f"{says} SGD's own share in the noise" if i == 0 else None
            at = ratio.index + 0.12 * (i - 1)
            bottom.plot(at, ratio, marker, color=colour, mfc=face, ms=4, label=label)
    allowed = criteria.CLOSED_FORM.at_most
    bottom.axhspan(1 - allowed, 1 + allowed, color="#888888", alpha=0.15, lw=0)
    bottom.axhline(1, color=INK, lw=0.8, ls=":")
    bottom.set(xlabel="dominant eigenvector", ylabel="simulated / closed form")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    above(bottom)
    return Picture(figure, "Variance of SGD along the eigenvectors of the regression")
