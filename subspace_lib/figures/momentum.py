"""Figures of the study of momentum and Adam (chapters 07 and 07b)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from subspace_lib.amplification import directions, linear_rule, part_rates
from subspace_lib.figures.style import (
    COLOURS,
    CYCLE,
    INK,
    Picture,
    log_ticks,
    panels,
    styled,
    styles,
)
from subspace_lib.optimizers import ADAPTIVE
from subspace_lib.quadratic import LinearRule, damping, stationary_rate, stationary_variance
from subspace_lib.studies.momentum import JUDGED, MomentumStudy

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
                    rates = part_rates(run).loc[anchor, name]
                    x.append(i + 0.7 * ((j + 0.5) / len(anchors) - 0.5))
                    y.append(rates["bulk"] / rates["dominant"] if rates.min() > 0 else np.nan)
            axes.plot(x, y, MARKERS[j % len(MARKERS)], color=colour, ms=5, label=f"from {anchor:,}")
        axes.axhline(1, color=INK, lw=0.8, ls=":")
        axes.set(yscale="log", ylabel="Bulk-LR / Dom-LR", title=name)
        log_ticks(axes)
    parts[-1].set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=9)
    parts[-1].set_xlabel("update rule")
    parts[0].legend(fontsize=9)
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
        top.plot(sharp, [damping(rule, v) for v in values], color=colour, ls=dashes,
                 label="SGD" if beta == 0 else f"β = {beta:g}")  # fmt: skip
        scatter = [v * stationary_variance(rule, v) / p.learning_rate for v in values]
        bottom.plot(sharp, scatter, color=colour, ls=dashes)
    top.set(yscale="log", ylabel="damping a step, −ln|z|")
    bottom.set(xscale="log", yscale="log", xlabel="ηλ", ylabel="λ Var x / (η σ²)")
    top.legend(fontsize=9)
    return Picture(figure, "Damping and stationary variance over ηλ for several β")


def _curve(axes: Axes, run, colour: str, dashes, label: str) -> None:
    axes.plot(run.table["step"], run.table["train_loss"], color=colour, ls=dashes, label=label)


@styled
def bulk_adam(study: MomentumStudy) -> Picture:
    """Training loss of Adam and of Bulk-Adam, projected in all ways and at half the angle, first seed."""
    p, seed = study.parameters, study.parameters.seeds[0]
    figure, (axes,) = panels(1, height=3.8)
    _curve(axes, study.runs["Adam", "none", seed], COLOURS["none"], "-", "Adam")
    runs = study.bulk_adam()
    for (name, run), (_, colour, dashes) in zip(runs.items(), styles(runs), strict=True):
        _curve(axes, run, colour, dashes, name)
    axes.axvline(p.switch_step, color=INK, lw=0.8, ls=":")
    axes.set(yscale="log", xlabel="step", ylabel="training loss L(θ)")
    log_ticks(axes)
    axes.legend(fontsize=8)
    return Picture(figure, "Training loss of Bulk-Adam by what is projected, and at half the angle")


@styled
def projected(study: MomentumStudy) -> Picture:
    """Training loss by what is projected: the update, the gradient before the rule, or both, first seed."""
    p, seed = study.parameters, study.parameters.seeds[0]
    figure, parts = panels(2, height=5.5)
    for axes, optimizer in zip(parts, JUDGED, strict=True):
        label = p.label(optimizer)
        _curve(axes, study.runs[label, "none", seed], COLOURS["none"], "-", label)
        for projection, name in (("dominant", "Dom-"), ("bulk", "Bulk-")):
            colour = COLOURS[projection]
            _curve(axes, study.runs[label, projection, seed], colour, "-", f"{name} {p.project}")
            for way, dashes in zip(p.alternatives, (":", "--"), strict=True):
                other = study.runs[f"{label}, {way}", projection, seed]
                _curve(axes, other, colour, dashes, f"{name} {way}")
        axes.set(yscale="log", ylabel="training loss L(θ)", title=label)
        axes.set_xlim(p.switch_step, p.alternative_end)
        seen = [y for line in axes.lines for x, y in line.get_xydata()
                if p.switch_step <= x <= p.alternative_end]  # fmt: skip
        axes.set_ylim(0.8 * min(seen), 1.5 * max(seen))
        log_ticks(axes)
        axes.legend(fontsize=8, ncols=2)
    parts[-1].set_xlabel("step")
    return Picture(
        figure, "Training loss: the update projected, the gradient before the rule, or both"
    )
