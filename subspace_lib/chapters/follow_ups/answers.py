"""What the figures of chapter 13 show, in words that their numbers choose."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.follow_ups.judge import fall, gain, sharpness
from subspace_lib.chapters.follow_ups.study import FASTER, METHODS, SGD, FollowUpStudy
from subspace_lib.chapters.follow_ups.tables import critical, dominant_steps, resolved, tried
from subspace_lib.chapters.kit import says
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import interval
from subspace_lib.trajectory import tail

Weights = tuple[float, float]  # α and β


@says.known
def weights(study: FollowUpStudy) -> Markdown:
    """Which weights gain most, which diverge, and what twice the bulk brings."""
    p, seed = study.parameters, study.parameters.seeds[0]
    base = gain(study.weighted[SGD, seed])
    if not math.isfinite(base):
        return says.answer("SGD itself diverged, so there is nothing to compare with.")
    gains = {w: gain(run) / base for (w, s), run in study.weighted.items() if s == seed}
    lost = [w for w, value in gains.items() if not math.isfinite(value)]
    best = max((w for w in gains if w not in lost), key=lambda w: gains[w])
    edge = ", the largest β of the map" if best[1] == max(b for _, b in gains) else ""
    twice = [gain(study.weighted[FASTER, s]) / gain(study.weighted[SGD, s]) for s in study.repeated]
    return says.answer(
        f"After {p.weighted_steps:,} steps the largest gain is {says.number(gains[best])} times that of "
        f"SGD, with α = {best[0]:g} and β = {best[1]:g}{edge}.",
        f"With α = {FASTER[0]:g} and β = {FASTER[1]:g} it is {says.mean_of(twice)} times that of SGD.",
        f"{len(lost)} of the {len(gains)} runs diverged: {says.listed(_where(lost, gains))}."
        if lost
        else "None diverged: where stability ends is not seen.",
        _without_dominant(lost, gains),
        _at_twice_the_rate(gains),
    )


def _where(lost: Sequence[Weights], gains: Mapping[Weights, float]) -> list[str]:
    """Which combinations: whole rows of the map, whole columns of what is left, then one by one."""
    rows = _whole(0, lost, gains)
    left = [w for w in gains if w[0] not in rows]
    columns = _whole(1, lost, left)
    single = [f"({a:g}, {b:g})" for a, b in lost if a not in rows and b not in columns]
    told = [f"all with α = {says.listed(f'{a:g}' for a in rows)}"] if rows else []
    if columns:
        told.append(
            f"{'the others' if rows else 'all'} with β = {says.listed(f'{b:g}' for b in columns)}"
        )
    return [*told, f"{'also ' if told else ''}{says.listed(single)}"] if single else told


def _whole(axis: int, lost: Collection[Weights], among: Iterable[Weights]) -> list[float]:
    """The weights of one part with which all combinations diverged."""
    among = list(among)
    values = dict.fromkeys(w[axis] for w in among)
    return [v for v in values if all(w in lost for w in among if w[axis] == v)]


def _without_dominant(lost: Collection[Weights], gains: Iterable[Weights]) -> str:
    """The bulk's weight at which the run without the dominant part diverges, and which α does not."""
    grid = list(gains)
    for bulk in sorted(b for a, b in lost if a == 0):
        kept = sorted(a for a, b in grid if b == bulk and (a, b) not in lost)
        if kept:
            alphas = says.listed(f"{a:g}" for a in kept)
            return (
                f"With β = {bulk:g} a run without the dominant part, α = 0, diverges; with α = {alphas} it "
                "does not (first seed). So large a bulk part seems to need some of the dominant one."
            )
    return ""


def _at_twice_the_rate(gains: dict[tuple[float, float], float]) -> str:
    """SGD at 2η beside twice the bulk alone: whether the dominant part adds to what a larger η gains."""
    both, bulk = gains.get((2.0, 2.0), math.nan), gains.get((1.0, 2.0), math.nan)
    if not (math.isfinite(both) and math.isfinite(bulk)):
        return ""
    means = says.compared(
        both,
        bulk,
        "So there twice the dominant part adds to it.",
        "So there twice the dominant part takes from it.",
        "So there a larger η gains in the bulk; twice the dominant part adds nothing.",
    )
    return (
        f"SGD at 2η, weights (2, 2), gains {says.number(both)} times as much as SGD, twice the bulk alone, "
        f"(1, 2), {says.number(bulk)} (first seed). {means}"
    )


@says.known
def noise(study: FollowUpStudy) -> Markdown:
    """Where the sharpness of the three ends."""
    ends = {m: [sharpness(study.noise[m, seed]) for seed in study.repeated] for m in METHODS}
    sgd, gd, averaged = (says.mean(ends[m]) for m in METHODS)
    late = says.percent(criteria.Q8_TAIL)
    told = (
        f"λ₁ ends at {says.each(ends)}, means over the last {late} of the steps after the switch."
        f"{_others(study)}"
    )
    if not math.isfinite(sgd + gd + averaged):
        return says.answer(told, "Where a run has no end, nothing can be said of the noise.")
    ratios = [a / b for a, b in zip(ends["SGD"], ends["GD"], strict=True)]
    low, high = interval(ratios)
    if not (high < 1 or low > 1):
        return says.answer(f"{told} Between SGD and GD no difference is shown.")
    word = says.whether(high < 1, "lowers", "raises")
    asked = "" if high < 1 - says.LEVEL or low > 1 + says.LEVEL else ", which is little"
    told += f" Minibatch noise {word} λ₁ by {says.percent(abs(1 - says.mean(ratios)))}{asked}."
    share = (gd - averaged) / (gd - sgd)
    if share <= 0:
        return says.answer(told, "Averaged GD goes the other way.")
    low, high = criteria.Q8_SHARE.at_least, criteria.Q8_SHARE.at_most
    return says.answer(
        told,
        f"Averaged GD makes {says.share(share)} of the difference between GD and SGD.",
        "So it goes further than SGD, and the second-order mean of the noise is not all."
        if share > high
        else says.whether(
            share >= low,
            "So the noise along the dominant directions accounts for most of it.",
            "So the noise along the dominant directions accounts for a part of it at most.",
        ),
    )


def _others(study: FollowUpStudy) -> str:
    """Whether the other leading eigenvalues end lower than under GD, in the means over seeds."""
    k = study.parameters.k
    sgd, gd, averaged = (
        [
            says.mean([sharpness(study.noise[m, seed], i) for seed in study.repeated])
            for i in range(2, k + 1)
        ]
        for m in METHODS
    )
    if not math.isfinite(sum(sgd + gd + averaged)) or not sum(gd):
        return ""
    lower, also = (
        f"{sum(own < plain for own, plain in zip(ends, gd, strict=True))} of {k - 1}"
        for ends in (sgd, averaged)
    )
    sums = says.listed(says.number(sum(ends) / sum(gd)) for ends in (sgd, averaged))
    return (
        f" Of λ₂ … {says.eigenvalue(k)}, {lower} end lower under SGD than under GD, and {also} under "
        f"averaged GD (means over seeds); their sums are {sums} times that of GD."
    )


def early(study: FollowUpStudy) -> Markdown:
    """Fall and rise of the alignment, and on which side of the critical learning rate SGD is."""
    runs = list(study.plain.values())
    found = [critical(run) for run in runs]
    sides = {
        "before": [r[r.index < s].median() for r, s in zip(found, _switches(study), strict=True)],
        "after": [r[r.index >= s].median() for r, s in zip(found, _switches(study), strict=True)],
    }
    first = [float(run.table["alignment"].iloc[0]) for run in runs]
    late = [tail(run, "alignment") for run in runs]
    low = [a - fall(run) for a, run in zip(first, runs, strict=True)]
    steps = [dominant_steps(run) for run in runs]
    later = pd.concat([s[s.index >= at] for s, at in zip(steps, _switches(study), strict=True)])
    lowers, against = (int(later[name].sum()) for name in ("lowers", "against"))
    return says.answer(
        f"The alignment begins at {says.mean_of(first, says.share)}, falls to "
        f"{says.mean_of(low, says.share)} and ends at {says.mean_of(late, says.share)}.",
        f"The critical learning rate is {says.mean_of(sides['before'])} η before the switch and "
        f"{says.mean_of(sides['after'])} η after it: the median over the rows that have one, in the mean "
        f"over seeds, with the range. After the switch {against} of the {len(later)} rows with a refresh "
        "have none: there the batch's gradient and the full gradient point opposite ways along the "
        "dominant subspace."
        if math.isfinite(says.mean(sides["after"]))
        else "",
        "By the second-order expansion, the dominant part of one batch's update lowers the loss in "
        f"{lowers} of these {len(later)} rows and raises it in the others, those without a critical rate "
        "among them. The verdict is on the alignment alone."
        if len(later)
        else "",
    )


@says.known
def trials(study: FollowUpStudy) -> Markdown:
    """Whether the loss falls below the critical learning rate and rises above it, where steps are tried."""
    points, eta = tried(study), study.parameters.learning_rate
    if points.empty:
        return says.answer("All runs diverged.")
    points = resolved(points)
    solved = points[points["slope"].notna()]
    against = solved["slope"] <= 0
    known = solved[solved["critical"].notna()].dropna(subset=["change_050", "change_200"])
    if known.empty:
        return says.answer("At none of the points there is a critical learning rate.")
    falls, rises = known["change_050"] < 0, known["change_200"] > 0
    sides = {"before": known[~known["after"]], "after": known[known["after"]]}
    own = [
        f"at {_of(some['critical'] < eta)} points {name} the switch"
        for name, some in sides.items()
        if len(some)
    ]
    felt = known.dropna(subset=["change"])
    agree = (felt["change"] > 0) == (felt["critical"] < eta)
    size = known["change_200"] / (2 * known["critical"] * known["slope"])
    return says.answer(
        f"At {_of(points.index.isin(known.index))} points there is a critical learning rate, and steps "
        "change the loss by more than rounding.",
        f"At {int(against.sum())} the mean slope is not positive: no learning rate lowers the loss there."
        if against.any()
        else "",
        f"In the mean over minibatches Dom-SGD's step with half of it lowers the loss at {_of(falls)}, and "
        f"with twice it raises the loss at {_of(rises)}.",
        f"SGD's own η is above the critical one {says.listed(own)}; whether the step with that η raises or "
        f"lowers the loss is as the expansion says at {_of(agree)}.",
        says.whether(
            bool(falls.all() and rises.all()),
            "So, where there is a critical step size, a step of Dom-SGD well below it lowers the loss in "
            "the mean, and one well above it raises it.",
            "So the second-order expansion does not tell everywhere which step lowers the loss.",
        ),
        f"The size is predicted less well: at twice the critical rate the change is "
        f"{says.share(size.min())} to {says.share(size.max())} times the prediction.",
    )


def _of(hits: Any) -> str:
    """At how many of how many points."""
    return f"all {len(hits)}" if hits.all() else f"{int(hits.sum())} of {len(hits)}"


def _switches(study: FollowUpStudy) -> list[int]:
    return [study.switches[seed] for seed in study.plain]
