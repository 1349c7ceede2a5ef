"""What the figures of chapter 08 show, in words that their numbers choose."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.switch.answers import gained, short
from subspace_lib.chapters.threshold import tables
from subspace_lib.chapters.threshold.cuts import GAP, Case, height, ratio
from subspace_lib.chapters.threshold.judge import Q2, Q5, judge, unresolved
from subspace_lib.chapters.threshold.spaces import FOLLOWED, RANDOM, SpaceStudy
from subspace_lib.chapters.threshold.study import ThresholdStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import INCONCLUSIVE, judge as judged

MANY = 4  # spaces from which on it is said whether the angle separates them
STILL, GOOD = criteria.Q2_DOM.at_most, criteria.Q2_BULK.at_least


def opening(study: ThresholdStudy) -> Markdown:
    """Both answers, a sentence each, of the first case."""
    told, p = [], study.parameters
    first = next(iter(p.cases()))
    head = page.heads(judge(study), p, Q2="How many dimensions", Q5="How exact")
    if first in study.cases:
        told.append(
            f"{head['Q2']} {page.asked(Q2)} {first}: {_learns(study.cases[first])}"
            f"{_vague(study.cases[first])} {_control(study)}"
        )
    if study.spaces is not None:
        told.append(f"{head['Q5']} {page.asked(Q5)} {_exact(study.spaces)}")
    return page.told(p, "\n\n".join(told))


def _control(study: ThresholdStudy) -> str:
    """That a random space does as well by progress, where it does."""
    spaces = study.spaces
    if spaces is None or RANDOM not in spaces.names() or not as_good_as_s_k(spaces, RANDOM):
        return ""
    dom, bulk = (says.share(says.mean(spaces.progress(RANDOM, s))) for s in ("dominant", "bulk"))
    return (
        f"In a random space of {study.parameters.dimensions[0]} dimensions Dom-SGD makes {dom} and "
        f"Bulk-SGD {bulk}. So that Dom-SGD fails says something only where the gradient lies in the "
        "subspace."
    )


def cuts(study: ThresholdStudy) -> Markdown:
    """Case by case: from which k on Dom-SGD learns, up to which Bulk-SGD does, what the spectrum says."""
    told = []
    for name, case in study.cases.items():
        parts = [
            _learns(case),
            _bulk(case),
            _late(case),
            unresolved(case),
            _limited(case),
            _spectrum(study, case),
        ]
        if absent := study.lacking(name):
            parts.append(f"*k = {says.listed(map(str, absent))}: not stored yet.*")
        alone = " (one seed)" if len(case.parameters.seeds) == 1 else ""
        told.append(f"**{name}**{alone}: {' '.join(filter(None, parts))}")
    told += says.not_yet(study.parameters.cases(), study.cases)
    return says.answer("\n\n".join(told), table=tables.cuts(study) if study.cases else None)


def _learns(case: Case) -> str:
    """Whether there is a k at which Dom-SGD learns, and what the spectrum says there."""
    found = {k: says.mean(case.progress(k, "dominant")) for k in case.parameters.cuts}
    known = {k: value for k, value in found.items() if math.isfinite(value)}
    if not known:
        return _too_little(case)
    learning = {k: value for k, value in known.items() if value > STILL}
    if not learning:
        most = max(known, key=lambda k: known[k])
        return (
            f"with none of k = {', '.join(map(str, known))} does Dom-SGD learn: it makes "
            f"{says.share(min(known.values()))} to {says.share(known[most])} of SGD's progress."
        )
    k, spectrum = min(learning), case.spectrum(case.parameters.seeds[0])
    more = says.listed(f"k = {n} ({says.share(value)})" for n, value in learning.items())
    told = f"Dom-SGD makes more than {STILL:g} of SGD's progress at {more}."
    if not spectrum:
        return f"{told} The spectrum there is {says.UNKNOWN}."
    return (
        f"{told} At the smallest of them "
        f"{says.eigenvalue(k)}/{says.eigenvalue(k + 1)} is {says.number(ratio(spectrum, k))}, and "
        f"{says.eigenvalue(k)} is {says.number(height(spectrum, k))} of λ₁."
    )


def _late(case: Case) -> str:
    """SGD's late alignment with the smallest and with the largest space."""
    ends = [
        (k, says.mean(case.alignment(k)))
        for k in {*case.parameters.cuts[:1], *case.parameters.cuts[-1:]}
    ]
    return (
        "SGD's late alignment with Sₖ is "
        + says.listed(f"{says.share(value)} at k = {k}" for k, value in sorted(ends))
        + "."
        + _followed(case)
    )


def _followed(case: Case) -> str:
    """With which k the basis that SGD was followed with is not known to be near S_k."""
    vague = [f"{k}" for k in case.plain_unresolved()]
    return (
        f" With k = {says.listed(vague)} its basis may be far from the exact Sₖ." if vague else ""
    )


def _vague(case: Case) -> str:
    """With which k alone the space in use is near the exact one, where that is not so with all."""
    alone = case.only_near()
    told = (
        f" The basis in use is known to be near the exact Sₖ {alone} (the table's *angle in use*)."
    )
    return told if alone else ""


def _too_little(case: Case) -> str:
    """What Dom-SGD and Bulk-SGD gain of the little that SGD gains."""
    ks = case.parameters.cuts
    share, *_ = gained(case.at(ks[0]))
    if not share >= criteria.MINIMUM_GAIN / 10:
        return "SGD gained next to nothing after the switch, so there is nothing to compare with."
    told = [f"{says.listed(map(says.share, gained(case.at(k))[1:]))} with k = {k}" for k in ks]
    return (
        f"in these steps {short(case.at(ks[0]), share)} Of what SGD gains, Dom-SGD and Bulk-SGD gain "
        f"{says.listed(told)}."
    )


def _bulk(case: Case) -> str:
    found = {k: says.mean(case.progress(k, "bulk")) for k in case.parameters.cuts}
    good = [k for k, value in found.items() if value >= GOOD]
    bad = {k: value for k, value in found.items() if value < GOOD}
    if not bad:
        return (
            f"Bulk-SGD makes at least {GOOD:g} of SGD's progress at each of them." if good else ""
        )
    less = says.listed(f"k = {k} ({says.share(value)})" for k, value in bad.items())
    return f"Bulk-SGD makes less than {GOOD:g} of SGD's progress at {less}."


def _limited(case: Case) -> str:
    """Where following the subspace had a budget, and how exact it was there."""
    p = case.parameters
    wide = [k for k in p.cuts if p.wide(k)]
    if not wide:
        return ""
    angles = [angle for k in wide for angle in case.angle(k)]
    return (
        f"With k = {says.listed(map(str, wide))} following the subspace had a budget of {p.cut_budget:g} "
        f"times the price of SGD. The sine of the angle in use was {says.mean_of(angles, says.share)} "
        "there, in the median over rows."
    )


def _spectrum(study: ThresholdStudy, case: Case) -> str:
    spectrum = case.spectrum(case.parameters.seeds[0])
    if not spectrum:
        told = f"The spectrum at the switch is {says.UNKNOWN} for the first seed"
        return f"{told}: its solve did not converge."
    rules = {rule: places[0] for rule, places in case.rules(study.parameters.fractions).items()}
    cut = rules[GAP]
    where = says.listed(
        f"{rule} chooses {'no k' if k is None else f'k = {k}'}" for rule, k in rules.items()
    )
    gap = math.nan if cut is None else ratio(spectrum, cut)
    return f"From the spectrum at the switch, first seed, {where} (the gap's ratio: {says.number(gap)})."


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
            f"In a random space Dom-SGD makes {dom} and Bulk-SGD {bulk} of SGD's progress, and the "
            f"gradient's alignment with it is {inside}."
        )
        if as_good_as_s_k(found, RANDOM) and not as_in_s_k(found, RANDOM):
            told.append(
                "So progress alone does not tell a random space from Sₖ; the alignment does. A random "
                "space would pass Q2 too, which does not ask for the alignment."
            )
    return says.answer(*told, table=tables.spaces(study))


def as_in_s_k(study: SpaceStudy, name: str) -> bool:
    """Whether means over seeds are within the bounds of Q5's criteria, judged or not."""
    return as_good_as_s_k(study, name) and _inside(study, name) >= criteria.Q5_INSIDE.at_least


def as_good_as_s_k(study: SpaceStudy, name: str) -> bool:
    """The same of the two bounds on progress alone."""
    dom, bulk = (says.mean(study.progress(name, side)) for side in ("dominant", "bulk"))
    return dom <= criteria.Q5_DOM.at_most and bulk >= criteria.Q5_BULK.at_least


def _inside(study: SpaceStudy, name: str) -> float:
    return says.mean(study.inside(name, "dominant"))


def _exact(study: SpaceStudy) -> str:
    """Which spaces are within all three bounds, and why the others are not; S_k itself first."""
    names = [name for name in study.names() if name != FOLLOWED]
    if not any(math.isfinite(x) for n in names for x in study.progress(n, "bulk")):
        return "SGD gained too little after the switch to say in which spaces all is as in Sₖ."
    close = [name for name in names if _undecided(study, name)]
    good = [name for name in names if as_in_s_k(study, name) and name not in close]
    bad = [name for name in names if not as_in_s_k(study, name)]
    told = (
        f"A space passes if projecting on it does as projecting on the dominant subspace Sₖ: progress of "
        f"Dom-SGD {criteria.Q5_DOM}, of Bulk-SGD {criteria.Q5_BULK}, alignment of Dom-SGD's late gradient "
        f"with the space {criteria.Q5_INSIDE}."
    )
    if FOLLOWED in study.names() and not as_in_s_k(study, FOLLOWED):
        told += f" Sₖ itself fails ({_short(study, FOLLOWED)}), so this does not rank the others."
    single = {name for name in names if len(study.progress(name, "dominant")) == 1}
    passed = [f"{name}{' (one seed)' if name in single else ''}" for name in good]
    told += f" These pass: {'; '.join(passed) if good else 'none'}."
    few = {name: ", one seed" if name in single else "" for name in bad}
    if failed := [
        f"{name} ({_short(study, name)}{few[name]})" for name in bad if name not in close
    ]:
        told += f" These fail: {'; '.join(failed)}."
        if any(says.mean(study.progress(n, "dominant")) < -criteria.Q5_DOM.at_most for n in bad):
            told += " A progress below 0 is a loss that rises."
    if close:
        near = [f"{name} ({_short(study, name) or 'just within'})" for name in close]
        told += f" Undecided, with an interval on both sides of a bound: {'; '.join(near)}."
    return told


def _undecided(study: SpaceStudy, name: str) -> bool:
    """Whether the interval of one of the three numbers lies on both sides of its bound."""
    numbers = (
        (study.progress(name, "dominant"), criteria.Q5_DOM),
        (study.progress(name, "bulk"), criteria.Q5_BULK),
        (study.inside(name, "dominant"), criteria.Q5_INSIDE),
    )
    many = len(study.progress(name, "dominant")) >= criteria.MINIMUM_SEEDS
    return many and any(judged(found, bound) == INCONCLUSIVE for found, bound in numbers)


def _short(study: SpaceStudy, name: str) -> str:
    """Which of the three numbers misses its bound, and Dom-SGD's progress where its loss rises."""
    dom, bulk = (says.mean(study.progress(name, side)) for side in ("dominant", "bulk"))
    inside = _inside(study, name)
    missed = {
        f"Dom {says.share(dom)}": not abs(dom) <= criteria.Q5_DOM.at_most,
        f"Bulk {says.share(bulk)}": not bulk >= criteria.Q5_BULK.at_least,
        f"alignment {says.share(inside)}": not inside >= criteria.Q5_INSIDE.at_least,
    }
    return ", ".join(text for text, is_missed in missed.items() if is_missed)


def _angles(study: SpaceStudy) -> str:
    """The largest angle at which all is as in S_k, and the smallest at which it is not."""
    found = {
        name: says.mean(tables.apart(study, name, "dominant"))
        for name in study.names()
        if name != FOLLOWED
    }
    good = {name: x for name, x in found.items() if as_in_s_k(study, name)}
    bad = {name: x for name, x in found.items() if name not in good}
    if not good or not bad or len(found) < MANY:
        return ""
    far, near = max(good, key=lambda n: good[n]), min(bad, key=lambda n: bad[n])
    word = says.whether(good[far] < bad[near], "decides", "alone does not decide")
    return (
        f"Under Dom-SGD, a space at a sine (rms) of {says.number(good[far], 2)} meets the bounds ({far}), "
        f"and {says.whether(good[far] < bad[near], 'the nearest that does not is at', 'one does not at')} "
        f"{says.number(bad[near], 2)} ({near}). So the angle {word}."
    )
