"""Figures of the study of momentum and Adam (chapters 07 and 07b)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from subspace_lib.chapters.kit.style import (
    CYCLE,
    INK,
    Picture,
    log_ticks,
    panels,
    styled,
    styles,
)
from subspace_lib.chapters.momentum_adam.study import MomentumStudy
from subspace_lib.optimizers import ADAPTIVE
from subspace_lib.runs.rates import directions, linear_rule, part_rates
from subspace_lib.theory.quadratic import LinearRule, damping, stationary_rate, stationary_variance

DEFINITIONS = ("slope", "mean", "displacement")
MARKERS = ("o", "x", "^", "s", "+")


@styled
def ratios(study: MomentumStudy) -> Picture:
    """Bulk-LR/Dom-LR of every rule, a point a window, by slope, mean and displacement."""
    labels, anchors = list(study.parameters.labels()), study.parameters.anchors
    figure, parts = panels(len(DEFINITIONS), height=6.5)
    for axes, name in zip(parts, DEFINITIONS, strict=True):
        for j, (anchor, colour) in enumerate(zip(anchors, CYCLE * len(anchors), strict=False)):
            x, y = [], []
            for i, label in enumerate(labels):
                for run in study.windows(label):
                    rates: Any = part_rates(run).loc[anchor, name]  # a series by part
                    x.append(i + 0.7 * ((j + 0.5) / len(anchors) - 0.5))
                    y.append(rates["bulk"] / rates["dominant"] if rates.min() > 0 else np.nan)
            axes.plot(x, y, MARKERS[j % len(MARKERS)], color=colour, ms=5, label=f"from {anchor:,}")
        axes.axhline(1, color=INK, lw=0.8, ls=":")
        axes.set(yscale="log", ylabel="Bulk-LR / Dom-LR", title=name)
        log_ticks(axes)
    parts[-1].set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=9)
    parts[-1].set_xlabel("update rule")
    figure.legend(
        *parts[0].get_legend_handles_labels(), fontsize=9, ncols=3, loc="outside upper center"
    )
    return Picture(figure, "Bulk-LR over Dom-LR of each update rule, by three definitions")


@styled
def amplified(study: MomentumStudy) -> Picture:
    """Rate over η by eigendirection against its eigenvalue: measured, and predicted on the quadratic."""
    return _by_eigenvalue(study, _labels(study, adaptive=False), "eigenvalue λ of the Hessian")


@styled
def amplified_adaptive(study: MomentumStudy) -> Picture:
    """The same for Adam and its kin, in the coordinates of their preconditioner."""
    name = "eigenvalue of the preconditioned Hessian"
    return _by_eigenvalue(study, _labels(study, adaptive=True), name)


def _labels(study: MomentumStudy, adaptive: bool) -> list[str]:
    rules = study.parameters.labels().items()
    return [label for label, (optimizer, _) in rules if (optimizer in ADAPTIVE) == adaptive]


def _by_eigenvalue(study: MomentumStudy, labels: Sequence[str], name: str) -> Picture:
    figure, parts = panels(len(labels), height=0.6 + 1.9 * len(labels))
    for axes, label in zip(parts, labels, strict=True):
        runs = study.windows(label)
        since = study.parameters.switch_step
        found, rule = directions(runs, since), linear_rule(runs[0].experiment)
        axes.plot(
            found["eigenvalue"], found["measured"], "o", color=CYCLE[0], ms=3.5, label="measured"
        )
        axes.plot(
            found["eigenvalue"], found["predicted"], "x", color=CYCLE[1], ms=4, label="predicted"
        )
        slow = 0.0
        if rule is not None:
            slow = rule.slow_rate / rule.learning_rate
            axes.axhline(slow, color=INK, lw=0.8, ls="--")
            values = np.geomspace(found["eigenvalue"].min(), found["eigenvalue"].max(), 50)
            damped = [stationary_rate(rule, value) / rule.learning_rate for value in values]
            axes.plot(values, damped, color=INK, lw=0.8, ls=":")
        axes.set(xscale="log", yscale="log", ylabel="rate / η", title=label)
        inside = found["measured"][found["measured"] > 0]
        axes.set_ylim(min(0.3, 0.8 * inside.min()), max(1.5 * slow, 1.3 * inside.max()))
        log_ticks(axes)
    log_ticks(parts[-1], "x")
    parts[0].legend(fontsize=9, ncols=2)
    parts[-1].set_xlabel(name)
    return Picture(
        figure, "Effective rate by eigendirection, measured and predicted: " + ", ".join(labels)
    )


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
    top.legend(fontsize=9)
    return Picture(figure, "Damping and stationary variance over ηλ for several β")


@styled
def bulk_adam(study: MomentumStudy) -> Picture:
    """Training loss of Adam, and of Bulk-Adam by what is projected, first seed."""
    p, seed = study.parameters, study.parameters.seeds[0]
    figure, (axes,) = panels(1, height=3.8)
    runs = {"Adam": study.runs["Adam", "none", seed]}
    runs |= {f"Bulk-Adam, {name}": run for name, run in study.bulk_adam().items()}
    for name, colour, dashes in styles(runs):
        table = runs[name].table
        axes.plot(table["step"], table["train_loss"], color=colour, ls=dashes, label=name)
    axes.axvline(p.switch_step, color=INK, lw=0.8, ls=":")
    axes.set(yscale="log", xlabel="step", ylabel="training loss L(θ)")
    log_ticks(axes)
    axes.legend(fontsize=8)
    return Picture(figure, "Training loss of Adam, and of Bulk-Adam by what is projected")
