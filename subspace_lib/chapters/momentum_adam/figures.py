"""Figures of the study of momentum and Adam (chapters 07 and 07b)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from subspace_lib.chapters.kit.study import there
from subspace_lib.chapters.kit.style import (
    CYCLE,
    INK,
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
from subspace_lib.chapters.kit.switch import figures as switch
from subspace_lib.chapters.momentum_adam.study import JUDGED, MomentumStudy
from subspace_lib.optimizers import ADAPTIVE
from subspace_lib.runs.rates import PARTS
from subspace_lib.runs.windows import DEFINITIONS, directions, part_rates
from subspace_lib.theory.quadratic import LinearRule, damping, stationary_rate, stationary_variance
from subspace_lib.trajectory import Trajectory

SMOOTH = 20  # steps of the rolling mean of effective rates
NAMES = {"dominant": "Dom-LR", "bulk": "Bulk-LR"}


@styled
def first_steps(study: MomentumStudy) -> Picture:
    """Dom-LR and Bulk-LR over the first steps, SGD and the judged rules: rolling mean, range over seeds."""
    figure, parts = panels(len(PARTS), height=5)
    labels = [study.parameters.label(name) for name in ("sgd", *JUDGED)]
    for axes, part in zip(parts, PARTS, strict=True):
        for label, colour, dashes in styles(labels):
            band(
                axes,
                series(study.first_steps(label), f"{part}_rate", SMOOTH),
                colour,
                dashes,
                label,
            )
        axes.axhline(0, color=INK, lw=0.8, ls=":")
        axes.set(ylabel=NAMES[part])
    below(figure, parts[0])
    parts[-1].set_xlabel("step")
    return Picture(figure, "Dom-LR and Bulk-LR over the first steps: " + ", ".join(labels))


@styled
def losses(study: MomentumStudy) -> Picture:
    """Training loss of each judged rule, of its Dom- (frozen, too) and of its Bulk- version."""
    figure, parts = panels(len(study.switches), height=3.4 * len(study.switches), share=False)
    frozen = there(study.frozen)
    for axes, (name, part) in zip(parts, study.switches.items(), strict=True):
        switch.loss_panel(axes, part)
        switch.frozen_lines(axes, part, frozen if name == "momentum" else {})
        above(axes)
    parts[-1].set_xlabel("step")
    return Picture(
        figure, "Training loss of heavy ball and Adam, and of their Dom- and Bulk- versions"
    )


@styled
def ratios(study: MomentumStudy) -> Picture:
    """Bulk-LR/Dom-LR of every rule by window, by slope, mean and displacement."""
    figure, parts = panels(len(DEFINITIONS), height=6.5)
    found = {label: part_rates(run) for label, run in study.windows.items()}
    for axes, name in zip(parts, DEFINITIONS, strict=True):
        for i, anchor in enumerate(study.parameters.anchors):
            y = [_ratio(rates.loc[anchor, name]) for rates in found.values()]
            x = np.arange(len(y)) + 0.12 * (i - (len(study.parameters.anchors) - 1) / 2)
            colour = CYCLE[i % len(CYCLE)]
            axes.plot(x, y, "o", color=colour, ms=5, label=f"from {anchor:,}")
        axes.axhline(1, color=INK, lw=0.8, ls=":")
        axes.set(yscale="log", ylabel="Bulk-LR / Dom-LR", title=name)
        log_ticks(axes)
    parts[-1].set_xticks(range(len(found)), list(found), rotation=30, ha="right")
    parts[-1].set_xlabel("update rule")
    below(figure, parts[0])
    return Picture(figure, "Bulk-LR over Dom-LR of each update rule, by three definitions")


def _ratio(rates: Any) -> float:
    """Bulk-LR/Dom-LR of a series by part; NaN where one is not positive."""
    return float(rates["bulk"] / rates["dominant"]) if rates.min() > 0 else np.nan


@styled
def amplified(study: MomentumStudy) -> Picture:
    """Rate over η by eigendirection against its eigenvalue: measured, and predicted on the quadratic."""
    return _by_eigenvalue(study, False, "eigenvalue λ of the Hessian")


@styled
def amplified_adaptive(study: MomentumStudy) -> Picture:
    """The same for Adam and its kin, in the coordinates of their preconditioner."""
    return _by_eigenvalue(study, True, "eigenvalue of the preconditioned Hessian")


def _by_eigenvalue(study: MomentumStudy, adaptive: bool, name: str) -> Picture:
    runs = {
        label: (run, rule)
        for label, (run, rule) in study.with_theory().items()
        if (run.experiment.optimizer in ADAPTIVE) == adaptive
    }
    figure, parts = panels(len(runs), height=0.6 + 1.9 * len(runs))
    for axes, (label, pair) in zip(parts, runs.items(), strict=True):
        _compare(axes, *pair)
        axes.set_title(label)
    log_ticks(parts[-1], "x")
    below(figure, parts[0])
    parts[-1].set_xlabel(name)
    says = "Effective rate by eigendirection, measured and predicted: "
    return Picture(figure, says + ", ".join(runs))


def _compare(axes: Axes, run: Trajectory, rule: LinearRule) -> None:
    """Measured and predicted rates of one rule, between its two limits."""
    found = directions(run)
    values = found["eigenvalue"]
    axes.plot(values, found["measured"], "o", color=CYCLE[0], ms=3.5, label="measured")
    axes.plot(values, found["predicted"], "x", color=CYCLE[1], ms=4, label="predicted")
    slow = rule.slow_rate / rule.learning_rate
    axes.axhline(slow, color=INK, lw=0.8, ls="--")
    along = np.geomspace(values.min(), values.max(), 50)
    damped = [stationary_rate(rule, value) / rule.learning_rate for value in along]
    axes.plot(along, damped, color=INK, lw=0.8, ls=":")
    axes.set(xscale="log", yscale="log", ylabel="rate / η")
    inside = found["measured"][found["measured"] > 0]
    axes.set_ylim(min(0.3, 0.8 * inside.min()), max(1.5 * slow, 1.3 * inside.max()))
    log_ticks(axes)


@styled
def transfer(study: MomentumStudy) -> Picture:
    """Theory: damping and stationary variance over ηλ, for heavy ball with several β."""
    p = study.parameters
    figure, (top, bottom) = panels(2, height=5.5)
    sharp = np.geomspace(1e-4, 1.99, 300)
    for beta, colour, dashes in styles((0.0, *sorted({*p.betas, p.beta}))):
        rule = LinearRule(p.learning_rate, beta)
        values = sharp / p.learning_rate
        label = "SGD" if beta == 0 else f"β = {beta:g}"
        top.plot(sharp, [damping(rule, v) for v in values], color=colour, ls=dashes, label=label)
        scatter = [v * stationary_variance(rule, v) / p.learning_rate for v in values]
        bottom.plot(sharp, scatter, color=colour, ls=dashes)
    top.set(yscale="log", ylabel="damping a step, −ln|z|")
    bottom.set(xscale="log", yscale="log", xlabel="ηλ", ylabel="λ Var x / (η σ²)")
    below(figure, top)
    return Picture(figure, "Damping and stationary variance over ηλ for several β")


@styled
def bulk_ways(study: MomentumStudy) -> Picture:
    """Training loss of each judged rule, and of its Bulk- version by what is projected; one seed."""
    p = study.parameters
    figure, parts = panels(len(JUDGED), height=3.2 * len(JUDGED))
    for axes, name in zip(parts, JUDGED, strict=True):
        plain = study.switches[name].trajectories["none", p.shown]
        runs = {p.label(name): plain} | study.ways(name)
        for label, colour, dashes in styles(runs):
            table = runs[label].table
            axes.plot(table["step"], table["train_loss"], color=colour, ls=dashes, label=label)
        axes.axvline(study.switches[name].switch_steps[p.shown], color=INK, lw=0.8, ls=":")
        axes.set(
            yscale="log",
            ylabel="training loss L(θ)",
        )
        log_ticks(axes)
        above(axes)
    parts[-1].set_xlabel("step")
    return Picture(figure, "Training loss of Bulk-heavy ball and Bulk-Adam by what is projected")
