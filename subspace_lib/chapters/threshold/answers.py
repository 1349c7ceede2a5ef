"""What the figures of chapter 08 show, in words that their numbers choose."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.threshold import tables
from subspace_lib.chapters.threshold.cuts import GAP, Case, ratio
from subspace_lib.chapters.threshold.spaces import FOLLOWED, RANDOM, SpaceStudy
from subspace_lib.chapters.threshold.study import ThresholdStudy
from subspace_lib.evidence import criteria

STILL, GOOD = criteria.Q2_DOM.at_most, criteria.Q2_BULK.at_least


def opening(study: ThresholdStudy) -> Markdown:
    """Both answers, a sentence each, of the first case."""
    told = []
    first = next(iter(study.parameters.cases()))
    if first in study.cases:
        told.append(f"**How many dimensions** ({first}): {_learns(study.cases[first])}")
    if study.spaces is not None:
        told.append(f"**How exact**: {_exact(study.spaces)}")
    return page.told(study.parameters, *told)


def cuts(study: ThresholdStudy) -> Markdown:
    """Case by case: from which k on Dom-SGD learns, up to which Bulk-SGD does, what the spectrum says."""
    told = []
    for name, case in study.cases.items():
        told += [f"*{name}*: {_learns(case)}", _bulk(case), _spectrum(study, case)]
    told += [
        f"*{name}: not stored yet.*" for name in study.parameters.cases() if name not in study.cases
    ]
    return says.answer(*told, table=tables.cuts(study) if study.cases else None)


def _learns(case: Case) -> str:
    """Whether there is a k at which Dom-SGD learns, and what the spectrum says there."""
    found = {k: says.mean(case.progress(k, "dominant")) for k in case.parameters.cuts}
    known = {k: value for k, value in found.items() if math.isfinite(value)}
    if not known:
        return "SGD made no progress after the switch, so there is nothing to compare with."
    learning = {k: value for k, value in known.items() if value > STILL}
    if not learning:
        most = max(known, key=lambda k: known[k])
        return (
            f"at no k from {min(known)} to {max(known)} does Dom-SGD make more than {STILL:g} of "
            f"SGD's progress; the most is {says.share(known[most])}, at k = {most}."
        )
    k, spectrum = min(learning), case.spectrum(case.parameters.seeds[0])
    more = says.listed(f"k = {n} ({says.share(value)})" for n, value in learning.items())
    return (
        f"Dom-SGD makes more than {STILL:g} of SGD's progress at {more}. At the smallest of them "
        f"{says.eigenvalue(k)}/{says.eigenvalue(k + 1)} is {says.number(ratio(spectrum, k))}, and "
        f"{says.eigenvalue(k)} is {says.number(spectrum[k - 1] / spectrum[0])} of λ₁."
    )


def _bulk(case: Case) -> str:
    found = {k: says.mean(case.progress(k, "bulk")) for k in case.parameters.cuts}
    good = [k for k, value in found.items() if value >= GOOD]
    short = {k: value for k, value in found.items() if value < GOOD}
    if not short:
        return f"Bulk-SGD makes at least {GOOD:g} of it at each k." if good else ""
    less = says.listed(f"k = {k} ({says.share(value)})" for k, value in short.items())
    return f"Bulk-SGD makes less than {GOOD:g} of it at {less}."


def _spectrum(study: ThresholdStudy, case: Case) -> str:
    rules = case.rules(study.parameters.fractions)
    where = says.listed(f"{rule} cuts at {places[0]}" for rule, places in rules.items())
    gap = ratio(case.spectrum(case.parameters.seeds[0]), rules[GAP][0])
    return f"By the spectrum at the switch, first seed, {where}, a ratio of {says.number(gap)}."


def spaces(study: ThresholdStudy) -> Markdown:
    """In which spaces all is as in S_k, in which not, and whether the angle tells them apart."""
    if study.spaces is None:
        return says.missing("The runs in other spaces are")
    found = study.spaces
    told = [_exact(found), _angles(found)]
    if RANDOM in found.names():
        dom, bulk, inside = (
            says.mean_of(values, says.share)
            for values in (
                *(found.progress(RANDOM, side) for side in ("dominant", "bulk")),
                found.inside(RANDOM, "dominant"),
            )
        )
        told.append(
            f"In a random space Dom-SGD makes {dom} and Bulk-SGD {bulk} of SGD's progress, with {inside} "
            "of the gradient inside: progress alone does not tell a subspace that holds the gradient from "
            "one that holds nothing."
        )
    return says.answer(*told, table=tables.spaces(study))


def as_in_s_k(study: SpaceStudy, name: str) -> bool:
    """Whether means over seeds are within the bounds of Q5's criteria, judged or not."""
    dom, bulk = (says.mean(study.progress(name, side)) for side in ("dominant", "bulk"))
    inside = says.mean(study.inside(name, "dominant"))
    return (
        dom <= criteria.Q5_DOM.at_most
        and bulk >= criteria.Q5_BULK.at_least
        and inside >= criteria.Q5_INSIDE.at_least
    )


def _exact(study: SpaceStudy) -> str:
    names = [name for name in study.names() if name != FOLLOWED]
    good = [name for name in names if as_in_s_k(study, name)]
    bad = [name for name in names if name not in good]
    if not good:
        return f"in none of the {len(names)} spaces is it as it should be in Sₖ."
    rest = f"; not so {says.listed(bad)}" if bad else ""
    return (
        "Dom-SGD stands still, Bulk-SGD learns and the gradient lies inside with "
        f"{says.listed(good)}{rest}."
    )


def _angles(study: SpaceStudy) -> str:
    """The largest angle at which all is as in S_k, and the smallest at which it is not."""
    found = {
        name: says.mean(tables.apart(study, name, "dominant"))
        for name in study.names()
        if name != FOLLOWED
    }
    good = {name: x for name, x in found.items() if as_in_s_k(study, name)}
    bad = {name: x for name, x in found.items() if name not in good}
    if not good or not bad:
        return ""
    far, near = max(good, key=lambda n: good[n]), min(bad, key=lambda n: bad[n])
    word = says.whether(good[far] < bad[near], "tells them apart", "alone does not tell them apart")
    return (
        f"The angle {word}: the farthest space in which all is so has a mean sine of "
        f"{says.number(good[far], 2)} ({far}), the nearest in which it is not "
        f"{says.number(bad[near], 2)} ({near})."
    )
