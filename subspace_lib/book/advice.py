"""What to use when: recommendations, each made from the results that it rests on; as HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any

from subspace_lib.book.followed import branches, followed
from subspace_lib.book.made import judged
from subspace_lib.chapters import ledger
from subspace_lib.chapters.cost.study import prices, stored
from subspace_lib.chapters.curvature.study import CurvatureStudy
from subspace_lib.chapters.follow_ups.judge import AT_TWICE_THE_RATE
from subspace_lib.chapters.front import stored_study
from subspace_lib.chapters.generalization.answers import points
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.names import title, trained
from subspace_lib.chapters.outcome import NETWORKS
from subspace_lib.chapters.threshold.answers import as_in_s_k
from subspace_lib.chapters.threshold.cuts import GAP, Case, ratio
from subspace_lib.chapters.threshold.spaces import NAMES, SpaceStudy, hessian_of, kept
from subspace_lib.chapters.threshold.study import ThresholdStudy
from subspace_lib.chapters.threshold.tables import apart
from subspace_lib.evidence.criteria import BULK_PROGRESS, DIVERGED_PROGRESS, DOM_PROGRESS
from subspace_lib.evidence.verdicts import CLAIM, Part, Verdict
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.trajectory import Trajectory

TEST, WEIGHTS, RULES = "Q4", "Q6", "F3"
WAY = re.compile(r"progress\((?P<rule>.+)\), (?P<way>.+)")  # as chapter 07 names its parts
NOT_YET = "Not measured yet: the runs of chapter {} are missing."
MOST = 0.9  # of the gradient inside: "most of it"


@dataclass(frozen=True)
class Evidence:
    """What the recommendations are made from.

    Attributes:
        judged: the verdicts by claim; found: the benchmark, {} where there is none.
        threshold, curvature: the studies of chapters 08 and 11; None where they have no runs.
        runs: Dom- and Bulk- runs of judged claims.
    """

    judged: Mapping[str, Verdict]
    found: Mapping[str, Any]
    threshold: ThresholdStudy | None
    curvature: CurvatureStudy | None = None
    runs: Sequence[Trajectory] = field(default=())


@cache
def evidence() -> Evidence:
    """What recommendations are made from, read once a build."""
    store = Store()
    keys = dict.fromkeys(key for v in ledger.of_kind(CLAIM, judged()) for key in v.results)
    try:
        found = stored()
    except MissingRun:
        found = {}
    return Evidence(
        {v.claim: v for v in judged()},
        found,
        stored_study("08_threshold", store),
        stored_study("11_curvature", store),
        branches(store.of(key) for key in keys),
    )


def saving(e: Evidence) -> str:
    """Whether restricted updates save anything: progress of both branches, and what they cost."""
    told, doms, bulks = [], [], []
    for claims in NETWORKS:
        dom, bulk = (_first(e.judged.get(claim)) for claim in claims)
        if dom is None or bulk is None:
            continue
        v = e.judged[claims[0]]
        doms.append(dom.measured or 0.0)
        bulks.append(bulk.measured or 0.0)
        told.append(
            f"On the {title(v.model)} Dom-SGD made {says.share(doms[-1])} of SGD's progress and Bulk-SGD "
            f"{says.share(bulks[-1])} ({', '.join(claims)})."
        )
    if not told:
        return NOT_YET.format("02")
    if max(doms) <= DOM_PROGRESS.at_most:
        told.insert(0, "<strong>Do not train in the subspace alone.</strong>")
    if min(bulks) >= BULK_PROGRESS.at_least:
        told.append(
            "With SGD, removing the dominant part of each update did no harm to the training loss here; in "
            "a noisy valley with a larger η it does (chapter 04). It saves nothing either: the subspace "
            "has to be known first."
        )
    told += [
        _tested(e),
        _weighted(e),
    ]
    return _paragraph(*told)


def _tested(e: Evidence) -> str:
    part = _first(e.judged.get(TEST))  # of accuracies, Bulk-SGD's less SGD's
    if part is None or part.measured is None:
        return ""
    where = points(part.measured, "SGD")
    network = title(e.judged[TEST].model)
    return f"On the test data of the {network} the accuracy of Bulk-SGD ends {where} ({TEST})."


def _weighted(e: Evidence) -> str:
    part = _first(e.judged.get(WEIGHTS))  # of gains, that with twice the bulk part over SGD's
    if part is None or part.measured is None:
        return ""
    way = says.whether(part.measured >= 0, "falls", "rises")
    told = (
        f"With the bulk part of each update doubled, the loss {way} by "
        f"{says.number(abs(part.measured))} times what SGD gains in as many steps ({WEIGHTS})."
    )
    larger = [p for p in e.judged[WEIGHTS].parts if p.says == AT_TWICE_THE_RATE]
    if larger and larger[0].measured is not None:
        few = says.whether(len(larger[0].values) == 1, ", on the first seed,", "")
        times = says.number(larger[0].measured)
        own = f"; doubling the bulk alone gains {says.number(part.values[0])} there" if few else ""
        told += f" SGD at 2η, which needs no subspace, gains{few} {times} times as much{own}."
    return told


def rules(e: Evidence) -> str:
    """What to project with momentum and Adam: progress of their Bulk- versions by way, from F3."""
    verdict = e.judged.get(RULES)
    ways: dict[str, dict[str, Part]] = {}
    for part in verdict.parts if verdict is not None else ():
        if part.measured is not None and (found := WAY.fullmatch(part.says)):
            ways.setdefault(found["rule"], {})[found["way"]] = part
    if not ways:
        return NOT_YET.format("07")
    told = []
    for rule, by_way in ways.items():
        numbers = [f"{way} {_made(part)}" for way, part in by_way.items()]
        good = [w for w, part in by_way.items() if _mean(part) >= BULK_PROGRESS.at_least]
        advice = (
            "all of these did as well as the rule"
            if len(good) == len(by_way)
            else f"it did as well as the rule only with {says.listed(good)}"
            if good
            else "none of these did as well as the rule"
        )
        told.append(
            f"{escape(rule)}, its progress over that of the rule itself, by what is projected: "
            f"{'; '.join(numbers)}. So {advice}."
        )
    alone = any(len(part.values) == 1 for part in verdict.parts) if verdict is not None else False
    few = says.whether(alone, "; some of these numbers are of one seed", "")
    stands = f"{RULES}, whose verdict is: {verdict.verdict}" if verdict is not None else RULES
    return _paragraph(*told, f"({stands}{few}.)")


def _mean(part: Part) -> float:
    return part.measured if part.measured is not None else math.nan


def _made(part: Part) -> str:
    """A progress; where every run diverged that alone is said."""
    if part.note and set(part.values) == {DIVERGED_PROGRESS}:
        return f"({escape(part.note)})"
    return says.share(_mean(part)) + (f" ({escape(part.note)})" if part.note else "")


def dimensions(e: Evidence) -> str:
    """How large k, case by case: where Dom-SGD learns, how much of the gradient is inside."""
    if e.threshold is None or not e.threshold.cases:
        return NOT_YET.format("08")
    return "".join(
        _paragraph(
            f"<em>{escape(name)}</em>{_alone(case)}:",
            *_dimensions(case, e.threshold.parameters.fractions),
        )
        for name, case in e.threshold.cases.items()
    )


def _alone(case: Case) -> str:
    return " (one seed)" if len(case.parameters.seeds) == 1 else ""


def _dimensions(case: Case, fractions: Sequence[float]) -> list[str]:
    classes, cuts = case.parameters.k, case.parameters.cuts
    inside = {k: says.mean(case.alignment(k)) for k in cuts}
    much = [k for k in cuts if inside[k] >= MOST]
    told = [
        f"k = {min(much)} is the smallest that was run at which SGD's late alignment is {MOST:g} or more "
        f"({says.share(inside[min(much)])}){_loose(case, min(much))}."
        if much
        else f"at no k up to {max(cuts)} is SGD's late alignment {MOST:g} or more."
    ]
    made = {k: says.mean(case.progress(k, "dominant")) for k in cuts}
    learns = [k for k, value in made.items() if value > DOM_PROGRESS.at_most]
    if not any(map(math.isfinite, made.values())):
        told.append(
            "In these runs, shorter than those of other chapters, SGD gained too little to say whether "
            "Dom-SGD learns."
            if case.parameters.cut_steps < case.parameters.steps
            else "SGD gained too little in these runs to say whether Dom-SGD learns."
        )
    elif learns:
        told.append(f"Dom-SGD begins to learn at k = {min(learns)} (classes: {classes}).")
    else:
        alone = case.only_near()
        told.append(
            f"Dom-SGD does not learn at any k that was run, up to {max(cuts)} (classes: {classes})"
            + (f"; the basis in use is known to be near the exact Sₖ {alone}." if alone else ".")
        )
    spectrum = case.spectrum(case.parameters.seeds[0])
    cut = case.rules(fractions)[GAP][0]
    seed = says.whether(len(case.parameters.seeds) > 1, " (first seed)", "")
    if cut is None:
        return [*told, f"The largest gap of the spectrum is {says.UNKNOWN}."]
    told.append(
        f"The largest gap of the spectrum is behind {says.eigenvalue(cut)}, a ratio of "
        f"{says.number(ratio(spectrum, cut), 2)}{seed}"
        + says.whether(
            cut == classes,
            ".",
            f"; behind {says.eigenvalue(classes)} it is {says.number(ratio(spectrum, classes), 2)}.",
        )
    )
    return told


def _loose(case: Case, k: int) -> str:
    if k not in case.plain_unresolved():
        return ""
    return f", though its space is not known to be exact (sine {says.share(case.plain_angle(k))})"


def refreshes(e: Evidence) -> str:
    """For how long an old basis does, and how often the tracker took a new one."""
    if e.threshold is None or e.threshold.spaces is None:
        told = f"For how long an old basis does: {NOT_YET.format('08').lower()}"
    else:
        p = e.threshold.parameters
        ages = {kept(n): f"{n:,} steps" for n in p.kept}
        told = _enough(e.threshold.spaces, ages, "kept for", max)
        if {*ages} & {*e.threshold.spaces.names()}:
            told += f" The runs go on for {p.space_steps:,} steps after the switch. {_turned(e)}"
    own = followed(e.runs)
    if own:
        own = _paragraph("How often the tracker refreshed by itself:") + own
    return _paragraph(told) + own


def _turned(e: Evidence) -> str:
    """How far the oldest basis was from S_k, of which progress does not tell."""
    assert e.threshold is not None and e.threshold.spaces is not None
    spaces, p = e.threshold.spaces, e.threshold.parameters
    steps = max(n for n in p.kept if kept(n) in spaces.names())
    dom, bulk = (says.mean(apart(spaces, kept(steps), side)) for side in ("dominant", "bulk"))
    told = (
        f"Kept for up to {steps:,} steps, a basis is at a sine of {says.number(dom, 2)} to S<sub>k</sub> "
        f"under Dom-SGD and of {says.number(bulk, 2)} under Bulk-SGD, the root mean square over directions "
        "and rows."
    )
    far = max(dom, bulk) > 2 * p.target_angle
    return told + (
        " So an old basis is good enough to project on, but does not say where S<sub>k</sub> is."
        if far
        else ""
    )


def outputs(e: Evidence) -> str:
    """How much of S_k the gradients of the mean outputs hold, and whether projecting on them does."""
    if e.curvature is None:
        return NOT_YET.format("11")
    p = e.curvature.parameters
    held = e.curvature.over_anchors("mean_outputs", "H").dropna(how="all").mean(axis=1)
    if not len(held):
        return NOT_YET.format("11")
    first, later = held.iloc[0], held.iloc[1:]
    since = (
        f", and at least {math.floor(100 * later.min()) / 100:.2f} from step {later.index[0]:,} on"
        if len(later)
        else ""
    )
    told = [
        f"On the {title(p.model)}, {title(p.dataset)}, the gradients of the mean outputs, one a class, "
        f"span {says.share(first)} of S<sub>k</sub> at step {held.index[0]:,}{since} (mean squared cosine)."
    ]
    told.append(
        "So where k is the number of classes they are a first look at the subspace, without one "
        "Hessian-vector product; there is no bound on their error."
        if held.min() >= MOST
        else "So they do not stand in for it all along."
    )
    name = NAMES["mean_outputs"]
    spaces = e.threshold.spaces if e.threshold is not None else None
    if spaces is not None and name in spaces.names():
        dom, bulk = (says.share(says.mean(spaces.progress(name, s))) for s in ("dominant", "bulk"))
        told.append(f"Projected on it, Dom-SGD makes {dom} and Bulk-SGD {bulk} of SGD's progress.")
    return _paragraph(*told)


def samples(e: Evidence) -> str:
    """How few samples give a space in which all is as in S_k."""
    if e.threshold is None:
        return NOT_YET.format("08")
    names = {hessian_of(n): f"{n:,} samples" for n in e.threshold.parameters.subsets}
    if e.threshold.spaces is None or not {*names} & {*e.threshold.spaces.names()}:
        return f"Not measured yet: chapter 08's runs with {says.listed(names)} are missing."
    return _paragraph(_enough(e.threshold.spaces, names, "of", min))


def _enough(
    study: SpaceStudy, names: Mapping[str, str], word: str, best: Callable[[Iterable[int]], int]
) -> str:
    """The most forgiving of the spaces, in their order, that meets what Q5 asks; and those that do not."""
    there = [name for name in names if name in study.names()]
    if not there:
        return NOT_YET.format("08")
    good = [i for i, name in enumerate(there) if as_in_s_k(study, name)]
    bad = [names[name] for i, name in enumerate(there) if i not in good]
    told = (
        f"a basis {word} {names[there[best(good)]]} still met Q5's bounds: Dom-SGD stands still, Bulk-SGD "
        "learns, the gradient lies inside."
        if good
        else "no basis that was tried met Q5's bounds."
    )
    p, seeds = study.switch.parameters, len(study.of(there[best(good) if good else 0], "dominant"))
    many = f"mean over {seeds} seeds" if seeds > 1 else "one seed"
    where = f"<em>{escape(trained(p.model, p.dataset))}</em>, η = {p.learning_rate:g}, {many}: "
    return where + told + (f" Not so {word} {says.listed(bad)}." if good and bad else "")


def price(e: Evidence) -> str:
    """Seconds over those of plain SGD, without recording, and the cold start, by network."""
    try:
        parts = prices(dict(e.found)).values()
    except MissingRun:
        return NOT_YET.format("12")
    told = []
    for part in parts:
        bare = [row for row in part["rows"] if not row["rows"]]
        free = {_way(row): row["ratio"] for row in bare if row["budget"] is None}
        given = {row["budget"]: row["ratio"] for row in bare if row["budget"] is not None}
        allowed = ""
        if not free:  # every way has a budget, the same
            allowed, given = f"with a budget of {bare[0]['budget']:g}, ", {}
            free = {str(row["method"]): row["ratio"] for row in bare}
        start = part["cold_start"]
        lines = [
            f"<em>{trained(part['model'], part['dataset'])}</em>: {allowed}"
            + says.listed(f"{says.number(value, 2)} × for {name}" for name, value in free.items())
            + f", after a cold start of {says.number(start['gradient_equivalents'], 2)} gradients."
        ]
        if given:
            lines.append(
                "With a budget: "
                + says.listed(f"{says.number(v, 2)} × at {b:g}" for b, v in given.items())
                + ". It limits gradients, so the seconds may exceed it; where it is not needed it changes "
                "nothing."
            )
        told.append(_paragraph(*lines))
    return "".join(told)


def _way(row: Mapping[str, Any]) -> str:
    return (
        f"{row['method']} whose subspace is followed"
        if row["projection"] == "none"
        else str(row["method"])
    )


def _first(verdict: Verdict | None) -> Part | None:
    parts = verdict.parts if verdict is not None else ()
    return parts[0] if parts and parts[0].measured is not None else None


def _paragraph(*sentences: str) -> str:
    return f"<p>{' '.join(filter(None, sentences))}</p>"


TOPICS: dict[str, Callable[[Evidence], str]] = {
    "saving": saving,
    "rules": rules,
    "dimensions": dimensions,
    "refreshes": refreshes,
    "samples": samples,
    "outputs": outputs,
    "price": price,
}
