"""What the figures of chapter 03 show, in words that their numbers choose."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.full_batch_gd import tables
from subspace_lib.chapters.full_batch_gd.figures import alignment_by_size
from subspace_lib.chapters.full_batch_gd.study import BatchStudy
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.noise import alignment_again, alignment_before, alignment_without
from subspace_lib.evidence import criteria
from subspace_lib.trajectory import tail

CLOSE = 0.1  # difference of two alignments that is said to be small
HALF = 0.5  # an alignment above it is said to last


def there_and_back(study: BatchStudy) -> Markdown:
    """The alignment under SGD, GD, SGD again, and under GD with either noise."""
    before, without, again = (
        [read(run) for run in study.of(name)]
        for name, read in (
            ("before", alignment_before),
            ("GD", alignment_without),
            ("back", alignment_again),
        )
    )
    lengths = [run.experiment.steps - run.experiment.switch_step for run in study.of("GD")]
    goes, returns = says.mean(without), says.mean(again)
    edge = 2 / study.parameters.learning_rate
    sharp = [float(run.table["eigenvalue_01"].dropna().iloc[-1]) for run in study.of("before")]
    told = [
        f"At the switch λ₁ is {says.mean_of(sharp)}, {says.compared(says.mean(sharp), edge)} 2/η = "
        f"{says.number(edge)}.",
        f"The alignment is {says.mean_of(before, says.share)} under SGD. After "
        f"{says.mean_of(lengths, _whole)} steps of GD it is {says.mean_of(without, _two)}, and after "
        f"{study.parameters.back_steps:,} steps of SGD again {says.mean_of(again, says.share)}. "
        f"{says.over(len(before))}",
    ]
    gone = goes <= criteria.UNALIGNED.at_most
    back = says.whether(
        returns >= criteria.ALIGNED_AGAIN.at_least,
        "comes back with it",
        says.whether(returns > goes + CLOSE, "comes back in part", "does not come back with it"),
    )
    if math.isfinite(goes) and math.isfinite(returns):
        told.append(
            f"So the alignment {says.whether(gone, 'goes', 'does not go')} with the noise, and {back}."
        )
    shaped, isotropic = (
        [alignment_again(run) for run in study.of(name)] for name in ("shaped", "isotropic")
    )
    told.append(
        f"GD with Gaussian noise of SGD's covariance ends at {says.mean_of(shaped, says.share)}, with "
        f"isotropic noise of the same size at {says.mean_of(isotropic, says.share)}."
    )
    difference = says.mean(shaped) - says.mean(isotropic)
    if math.isfinite(difference):
        told.append(
            "So it matters where the noise points, not only how large it is."
            if difference > CLOSE
            else "So isotropic noise aligns the gradient as much as noise of SGD's shape."
        )
    return says.answer(*told)


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _two(value: float) -> str:
    return says.number(value, 2)


def single_sample_noise(study: BatchStudy) -> Markdown:
    """How the noise grows with the curvature: its slope in logarithms, and its share in S_k."""
    k, slopes, within, shares, expected, over = study.parameters.k, [], [], [], [], []
    for seed in study.parameters.seeds:
        values, noise = study.point(seed, "eigenvalue"), study.point(seed, "noise")
        trace, total, noise = (
            study.point(seed, "trace").loc[0],
            noise.loc[0],
            noise.loc[values.index],
        )
        slopes.append(_slope(values, noise))
        within.append(_slope(values.loc[:k], noise.loc[:k]))
        shares.append(float(noise.loc[1:k].sum() / total))
        expected.append(float(values.loc[1:k].sum() / trace))
        over.append(noise / (values * total / trace))
    grows, share, proportional = map(says.mean, (slopes, shares, expected))
    word = says.compared(share, proportional, "more than", "less than", "about as much as")
    return says.answer(
        f"Over the {len(over[0])} leading eigenvectors the noise "
        f"{says.whether(grows > 0, 'grows', 'does not grow')} with the curvature: a line through all of "
        f"them goes like λ to the power {says.mean_of(slopes, says.share)}; noise proportional to the "
        f"Hessian would have the power 1. Through the {k} dominant ones alone the power is "
        f"{says.mean_of(within, says.share)}.",
        _least_noise(over),
        f"The dominant subspace has {says.mean_of(shares, says.share)} of its variance, {word} the "
        f"{says.mean_of(expected, says.share)} that noise proportional to the Hessian would put there.",
    )


def _slope(values: pd.Series, noise: pd.Series) -> float:
    """Slope of the noise against the eigenvalue, in logarithms; NaN of fewer than three points."""
    known = (values > 0) & (noise > 0)
    if known.sum() < 3:
        return math.nan
    return float(np.polyfit(np.log(values[known]), np.log(noise[known]), 1)[0])


def _least_noise(over: list[pd.Series]) -> str:
    """The eigenvector with the least noise beside its eigenvalue, where all seeds agree on it."""
    least = {str(ratio.idxmin()) for ratio in over if ratio.notna().any()}
    if len(least) != 1:
        return ""
    (which,) = least
    ratios = [float(ratio.loc[int(which)]) for ratio in over]
    return (
        f"Farthest below noise proportional to the Hessian, with {says.mean_of(ratios, _two)} times as "
        f"much, is that along eigenvector {which}, in {says.counted([True] * len(over))}."
    )


def _largest_fall(known: pd.Series) -> str:
    """Between which neighbouring batch sizes the alignment falls most."""
    falls = -np.diff(known.to_numpy())
    at = int(np.argmax(falls))
    return (
        f"the largest fall is {says.share(float(falls[at]))}, from {known.index[at]:,} to "
        f"{known.index[at + 1]:,}"
    )


def by_batch_size(study: BatchStudy) -> Markdown:
    """How the late alignment moves with batch size, and how far the prediction carries."""
    if not study.has_sizes:
        return says.missing("The runs of other batch sizes are")
    frame = alignment_by_size(study).groupby("batch").mean().drop(columns="seed")
    told = []
    for column in ("after the switch", "at the end"):
        known = frame[column].dropna()
        if len(known) > 1:
            steps = np.diff(known.to_numpy())
            moved = says.moves(known.iloc[0], known.iloc[-1], says.share)
            level = bool(np.abs(steps).max() <= CLOSE)
            steady = says.whether(
                level,
                "no step between neighbours is large",
                says.whether(
                    bool((steps <= CLOSE).all()),
                    "from each size to the next it falls or is level",
                    "not from each size to the next",
                ),
            )
            told.append(
                f"From batch size {known.index[0]:,} to {known.index[-1]:,} the alignment {column} "
                f"{moved}; {steady}; {_largest_fall(known)}."
            )
    told += _later(study, frame["at the end"] - frame["after the switch"])
    off = (frame["predicted"] - frame["after the switch"]).abs().dropna()
    if len(off):
        told.append(
            f"The prediction is within {CLOSE:g} of what was measured after the switch at "
            f"{says.counted(off <= CLOSE, 'batch size')}; it is farthest off, by "
            f"{says.share(float(off.max()))}, at {off.idxmax():,}."
        )
    return says.answer(*told, table=tables.batch_sizes(study))


def _later(study: BatchStudy, rose: pd.Series) -> list[str]:
    """At which batch sizes the alignment rises later on, and what becomes of the gradient without noise."""
    rose = rose[rose > CLOSE]
    if rose.empty:
        return []
    sizes = says.listed(f"{size:,} (by {says.share(more)})" for size, more in rose.items())
    told = [f"Later on it rises at batch size {sizes}."]
    first, last = [], []
    for seed in study.parameters.seeds:
        run = study.sizes.get((study.parameters.samples, seed))
        if run is not None:
            first.append(float(study.runs["GD", seed].table["gradient_norm"].iloc[-1]))
            last.append(tail(run, "gradient_norm"))
    before, after = says.mean(first), says.mean(last)
    if math.isfinite(before) and math.isfinite(after):
        weighs = says.whether(after < before, ": noise of the same size weighs more", "")
        moved = says.moves(before, after)
        told.append(f"Meanwhile the norm of GD's own gradient {moved}{weighs}.")
    return told


def learning(study: BatchStudy) -> Markdown:
    """What the noise costs: losses over the last steps that all runs of the first seed have."""
    p, seed = study.parameters, study.parameters.seeds[0]
    runs = {
        "SGD": study.switch.trajectories["none", seed],
        "GD": study.sizes.get((p.samples, seed)),
        "GD with noise of SGD's covariance": study.runs["shaped", seed],
        "GD with isotropic noise": study.runs["isotropic", seed],
    }
    start = float(study.runs["shaped", seed].table["train_loss"].iloc[0])
    fell, aligned, lacking = {}, {}, []
    for name, run in runs.items():
        rows = (
            None if run is None else _late_means(run.table, study.since_switch(run), p.back_steps)
        )
        if rows is None:
            lacking.append(name)
        else:
            fell[name], aligned[name] = start - rows["train_loss"], rows["alignment"]
    if len(fell) < 2:
        return says.answer("Too few rows for a comparison.")
    told = [
        f"In the last fifth of the {p.back_steps:,} steps after the switch the training loss is below its "
        f"{says.number(start)} at the switch by "
        f"{says.each({name: [value] for name, value in fell.items()})} (one seed: {seed}).",
        f"Their alignments lie between {says.share(min(aligned.values()))} and "
        f"{says.share(max(aligned.values()))}.",
    ]
    told += _beside_gd(fell)
    if lacking:
        told.append(f"{says.listed(lacking)}: not run for so long, so not compared.")
    return says.answer(*told)


def _late_means(table: pd.DataFrame, since: pd.Series, end: int) -> dict[str, float] | None:
    """Means of loss and alignment over the last fifth of the steps; None where the run ends before.

    At the same steps for every run, between rows on a line: some have a row a step and some one in 90.
    """
    if not len(since) or since.iloc[-1] < end or since.iloc[0] > 0.8 * end:
        return None
    at = np.linspace(0.8 * end, end, 101)
    return {
        name: float(np.interp(at, since, table[name]).mean())
        for name in ("train_loss", "alignment")
    }


def _beside_gd(fell: dict[str, float]) -> list[str]:
    """How much less or more the loss has fallen than that of GD, which has no noise."""
    plain = fell.get("GD", math.nan)
    if not plain > 0:
        return []
    more = {name: value / plain - 1 for name, value in fell.items() if name != "GD"}
    if all(abs(value) <= says.LEVEL for value in more.values()):
        return ["So the runs learn alike, whatever the alignment of their gradient."]
    each = says.listed(
        f"{says.percent(abs(value))} {says.whether(value < 0, 'less', 'more')} under {name}"
        for name, value in more.items()
    )
    noisy = more.get("SGD", math.nan)
    word = "hurts" if noisy < -says.LEVEL else "helps" if noisy > says.LEVEL else ""
    return [
        f"Beside GD, which has no noise, it has fallen {each}.",
        f"So over these steps, and with this seed, the noise of SGD {word}." if word else "",
    ]


def from_the_start(study: BatchStudy) -> Markdown:
    """How long the alignment of GD from the initialization lasts, and how far from 2/η it is."""
    runs = study.of("start")
    first, last, peak = ([], [], [])
    for run in runs:
        alignment = run.table["alignment"].dropna()
        first.append(float(alignment.iloc[0]))
        last.append(float(alignment.iloc[-1]))
        peak.append(float(run.table["eigenvalue_01"].max()))
    edge, ends = 2 / study.parameters.learning_rate, says.mean(last)
    return says.answer(
        f"The alignment is {says.mean_of(first, says.share)} at the initialization and "
        f"{says.mean_of(last, says.share)} after {study.parameters.start_steps:,} steps.",
        f"The sharpness reaches {says.mean_of(peak)}, "
        f"{says.compared(says.mean(peak), edge, 'above', 'below', 'about')} 2/η = {says.number(edge)}.",
        says.whether(
            says.mean(peak) >= edge,
            "So these runs come to the edge of stability, where the alignment has another cause.",
            says.whether(
                ends <= HALF,
                "So without noise, and below the edge of stability, the alignment does not last.",
                "So here the alignment lasts without noise, below the edge of stability.",
            ),
        ),
    )
