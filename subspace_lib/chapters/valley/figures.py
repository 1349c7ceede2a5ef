"""Figures of the valley in two dimensions and of the regression (chapter 04)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subspace_lib.chapters.kit.style import (
    COLOURS,
    CYCLE,
    INK,
    LINES,
    Picture,
    band,
    log_ticks,
    panels,
    series,
    styled,
    styles,
)
from subspace_lib.chapters.valley.study import PROBLEMS, ValleyStudy
from subspace_lib.evidence import criteria
from subspace_lib.theory.valley import Valley, path
from subspace_lib.trajectory import tail

METHODS = {"SGD": "none", "Dom-SGD": "dominant", "Bulk-SGD": "bulk"}
SHOWN = 1500  # steps after the switch for which a single path is drawn


@styled
def plane(study: ValleyStudy) -> Picture:
    """A single path of SGD, and what GD, Dom-SGD and Bulk-SGD make of it from the switch on."""
    figure, (axes,) = panels(1, height=3.6)
    e, seed = study.valley, study.parameters.seeds[0]
    steps = min(SHOWN, e.steps - e.switch_step)
    common = path(e.valley, "SGD", e.learning_rate, e.start, e.switch_step, seed)
    at = tuple(common[-1])
    reach = 2.6 * np.abs(common[e.switch_step // 2 :, 0]).max()
    contours(axes, e.valley, reach, common[0, 1])
    axes.plot(common[:, 1], common[:, 0], color=INK, lw=0.5, alpha=0.6, label="before the switch")
    for name, projection in {**METHODS, "GD": None}.items():
        points = path(e.valley, name, e.learning_rate, at, steps, seed + 1)
        colour = CYCLE[4] if projection is None else COLOURS[projection]
        axes.plot(
            points[:, 1],
            points[:, 0],
            color=colour,
            lw=0.5 if name == "SGD" else 1.8,
            ls="-" if projection is None else LINES[projection],
            label=name,
        )
    axes.plot(at[1], at[0], "o", color=INK, ms=4)
    axes.set(xlabel="y, along the valley", ylabel="x, across the valley")
    axes.set(ylim=(-reach, reach), xlim=(1.02 * common[0, 1], 0))
    legend = axes.legend(
        fontsize=8,
        ncols=5,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        columnspacing=1.2,
        handlelength=1.6,
    )
    for line in legend.get_lines():
        line.set_linewidth(1.5)
    return Picture(figure, "Paths of SGD, GD, Dom-SGD and Bulk-SGD in the plane of the valley")


def contours(axes: Axes, valley: Valley, reach: float, length: float) -> None:
    """Thin level lines of the loss, across the valley to −reach … reach, along it to its length."""
    y, x = np.meshgrid(np.linspace(0, length, 120), np.linspace(-reach, reach, 80))
    levels = np.geomspace(0.003, 1, 8)
    axes.contour(y, x, valley.loss(np.stack([x, y], -1)), levels, colors="#888888", linewidths=0.4)


@styled
def losses(study: ValleyStudy) -> Picture:
    """Training loss of SGD, Dom-SGD and Bulk-SGD in both problems."""
    figure, parts = panels(2, height=5.6, share=False)
    for axes, problem in zip(parts, PROBLEMS, strict=True):
        band(axes, series(study.of(problem, "start"), "train_loss"), COLOURS["none"], "-", "")
        for name, projection in METHODS.items():
            curves = series(study.of(problem, name), "train_loss")
            band(axes, curves, COLOURS[projection], LINES[projection], name)
        axes.axvline(study.first(problem).switch_step, color=INK, lw=0.8, ls=":")
        axes.set(yscale="log", ylabel="training loss L", title=problem)
        axes.locator_params(axis="x", nbins=5)
    parts[0].legend()
    parts[1].set_xlabel("step")
    log_ticks(parts[1])
    return Picture(
        figure, "Training loss of SGD, Dom-SGD and Bulk-SGD in the valley and the regression"
    )


@styled
def there_and_back(study: ValleyStudy) -> Picture:
    """Alignment of the full gradient around the changes SGD → GD → SGD in both problems."""
    figure, parts = panels(2, height=5.2, share=False)
    for axes, problem in zip(parts, PROBLEMS, strict=True):
        e = study.first(problem)
        start, back = e.switch_step, e.switch_step + e.full_steps
        names = {"SGD": "SGD", "GD": "full batch", "back": "minibatches again"}
        for (name, label), colour, dashes in styles(names.items()):
            first = back if name == "back" else start
            curves = [
                curve.loc[first : back + e.full_steps]
                for curve in series(study.of(problem, name), "alignment")
            ]
            band(axes, curves, colour, dashes, label)
        for step in (start, back):
            axes.axvline(step, color=INK, lw=0.8, ls=":")
        axes.set(ylim=(-0.02, 1.02), ylabel=f"χ$_{{{study.k(problem)}}}$ of ∇L", title=problem)
    parts[0].legend(loc="center right", fontsize=9)
    parts[1].set_xlabel("step")
    return Picture(figure, "Alignment of the full gradient under SGD, GD and SGD again")


@styled
def batch_sizes(study: ValleyStudy) -> Picture:
    """Late alignment by batch size in both problems, measured and predicted."""
    figure, parts = panels(2, height=5.4, share=False)
    for axes, problem in zip(parts, PROBLEMS, strict=True):
        frame = alignment_table(study, problem)
        sizes = list(study.by_batch_size(problem))
        for column, colour, dashes in styles(["predicted", "typical gradient", "mean of χ"]):
            groups = frame.groupby("batch")[column]
            mean, low, high = (f().loc[sizes] for f in (groups.mean, groups.min, groups.max))
            # The mean of equal values may be a rounding error above the highest of them.
            reach = np.maximum([mean - low, high - mean], 0)
            marker = "" if column == "predicted" else "o"
            axes.errorbar(
                range(len(sizes)),
                mean,
                reach,
                color=colour,
                ls=dashes,
                marker=marker,
                ms=4,
                capsize=3,
                label=column,
            )
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axes.set(ylim=(-0.02, 1.02), ylabel="alignment of ∇L", title=problem)
    parts[0].legend()
    parts[1].set_xlabel("batch size (samples)")
    return Picture(figure, "Alignment of the full gradient against batch size")


def alignment_table(study: ValleyStudy, problem: str) -> pd.DataFrame:
    """Per batch size and seed: alignment over the last 2% of the steps, and the closed form's."""
    rows = []
    for size, case in study.by_batch_size(problem).items():
        for seed in study.parameters.seeds:
            run = study.branch(problem, case, seed)
            rows.append(
                {
                    "batch": size,
                    "seed": seed,
                    "mean of χ": tail(run, "alignment"),
                    "typical gradient": tail(run, "energy"),
                    "predicted": study.predicted_alignment(problem, seed, size),
                }
            )
    return pd.DataFrame(rows)


@styled
def settled(study: ValleyStudy) -> Picture:
    """What x settles at in the valley, simulated and in closed form, over ηκ, c and y."""
    figure = Figure(figsize=(5.6, 7.2), layout="constrained")
    grid = figure.subplots(3, 2)
    e = study.valley
    own, y = e.learning_rate, 1.0
    shifted = Valley(e.condition, e.cross, e.distance_shift)
    sweeps: dict[str, tuple[str, Callable[[float], tuple[Valley, float, float]]]] = {
        "ηκ": ("ηκ", lambda v: (e.valley, v / e.condition, y)),
        "c": ("c", lambda v: (Valley(e.condition, v, e.shift), own, y)),
        "y": (f"distance y, s = {e.distance_shift:g}", lambda v: (shifted, own, v)),
    }
    for row, (case, (label, at)) in zip(grid, sweeps.items(), strict=True):
        _sweep(row, study, case, at)
        for axes in row:
            axes.set_xlabel(label)
    grid[0, 1].legend(fontsize=8, loc="lower right")
    return Picture(figure, "Stationary variance and alignment in the valley over ηκ, c and y")


def _sweep(
    row: np.ndarray,
    study: ValleyStudy,
    case: str,
    at: Callable[[float], tuple[Valley, float, float]],
) -> None:
    left, right = row
    scale = "linear" if case == "ηκ" else "log"
    where = study.values("valley", study.parameters.seeds[0], case, "energy").index
    points = np.linspace if scale == "linear" else np.geomspace
    fine = points(where.min(), where.max(), 200)
    chi = np.array([valley.stationary_alignment(eta, y) for valley, eta, y in map(at, fine)])
    left.plot(fine, chi**2 / (1 - chi**2), color=CYCLE[0], label="closed form")
    right.plot(fine, chi, color=CYCLE[0], label="closed form")
    for i, seed in enumerate(study.parameters.seeds):
        energy = study.values("valley", seed, case, "energy")
        mean = study.values("valley", seed, case, "alignment")
        once = i == 0
        left.plot(energy.index, energy**2 / (1 - energy**2), "o", color=CYCLE[1], ms=4)
        right.plot(
            energy.index,
            energy,
            "o",
            color=CYCLE[1],
            ms=4,
            label="typical gradient" if once else None,
        )
        right.plot(
            mean.index,
            mean,
            "s",
            color=CYCLE[2],
            ms=4,
            mfc="none",
            label="mean of χ" if once else None,
        )
    left.set(xscale=scale, yscale="log", ylabel="A = κ² Var x / y²")
    right.set(xscale=scale, ylim=(0, 1.04), ylabel="alignment of ∇L")


@styled
def moments(study: ValleyStudy) -> Picture:
    """E x² and E y² of SGD in the valley: means over the paths, and the exact recursion."""
    figure, parts = panels(2, height=5.0)
    e = study.valley
    exact = e.valley.moments(e.learning_rate, e.start, e.steps)
    fine = np.unique(np.geomspace(1, e.steps + 1, 300).astype(int)) - 1
    names = (("steep", "E x²"), ("flat", "E y²"))
    for i, (axes, (quantity, label)) in enumerate(zip(parts, names, strict=True)):
        for j, seed in enumerate(study.parameters.seeds):
            found = pd.concat(
                [study.values("valley", seed, case, quantity) for case in ("start", "SGD")]
            )
            near = np.searchsorted(found.index, np.geomspace(1, e.steps + 1, 50) - 1)
            found = found.iloc[np.unique(near)]  # evenly spaced on the axis
            axes.plot(
                1 + found.index,
                found,
                "o",
                color=CYCLE[1],
                ms=3,
                label="simulated" if j == 0 else None,
            )
        axes.plot(1 + fine, exact[fine, i], color=CYCLE[0], label="exact")
        axes.set(xscale="log", yscale="log", ylabel=label)
    parts[0].legend()
    parts[1].set_xlabel("1 + step")
    return Picture(figure, "Second moments of SGD in the valley, simulated and exact")


@styled
def regression_settled(study: ValleyStudy) -> Picture:
    """Variance of SGD along each eigenvector of the regression, simulated and in closed form."""
    figure, (top, bottom) = panels(2, height=5.8, share=False)
    p = study.parameters
    names = ("eigenvalue", "variance", "expected", "stationary")
    settled = {
        name: study.values("regression", p.seeds[0], "settled", name).to_numpy() for name in names
    }
    values = settled["eigenvalue"]
    top.plot(values, settled["variance"], "o", color=CYCLE[1], ms=3, label="simulated")
    top.plot(values, settled["stationary"], color=CYCLE[0], label="stationary")
    top.plot(values, settled["expected"], color=CYCLE[2], ls="--", label="recursion, same steps")
    top.set(xscale="log", yscale="log", xlabel="eigenvalue λ$_i$", ylabel="Var δ$_i$")
    log_ticks(top, "x")
    top.legend()
    for name, colour, marker in (
        ("stationary", CYCLE[0], "o"),
        ("at minimum", CYCLE[3], "s"),
    ):
        for i, seed in enumerate(p.seeds):
            ratio = study.ratios("regression", seed, "settled", name).iloc[: p.outliers]
            says = "with" if name == "stationary" else "without"
            label = f"{says} SGD's own share in the noise" if i == 0 else None
            bottom.plot(
                ratio.index + 0.12 * (i - 1),
                ratio,
                marker,
                color=colour,
                ms=4,
                mfc=colour if says == "with" else "none",
                label=label,
            )
    bottom.axhspan(
        1 - criteria.CLOSED_FORM.at_most,
        1 + criteria.CLOSED_FORM.at_most,
        color="#888888",
        alpha=0.15,
        lw=0,
    )
    bottom.axhline(1, color=INK, lw=0.8, ls=":")
    bottom.set(xlabel="dominant eigenvector", ylabel="simulated / closed form")
    bottom.legend(fontsize=9)
    return Picture(figure, "Variance of SGD along the eigenvectors of the regression")
