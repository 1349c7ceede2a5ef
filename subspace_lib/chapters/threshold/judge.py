"""Q2: for which k does what C2 and C3 say hold; Q5: how exact must the subspace be."""

from __future__ import annotations

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.switch.judge import part_of_pairs
from subspace_lib.chapters.kit.switch.panel import not_near
from subspace_lib.chapters.threshold.cuts import Case
from subspace_lib.chapters.threshold.spaces import RANDOM, SpaceStudy, hessian_of, kept
from subspace_lib.chapters.threshold.study import ThresholdStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import DESCRIPTIVE, FINDING, Claim, Part, Verdict, part, verdict

EXACT = (kept(criteria.Q5_KEPT), hessian_of(criteria.Q5_SAMPLES))
(Q2, Q5) = CLAIMS = (
    Claim(
        "Q2",
        "Dom-SGD does not learn with half, once or twice as many dimensions as classes, and Bulk-SGD does "
        "with up to as many",
        f"first case, three seeds: progress(Dom-SGD) {criteria.Q2_DOM} with k = "
        f"{', '.join(f'{ratio:g}' for ratio in criteria.Q2_RATIOS)} × the number of classes, "
        f"progress(Bulk-SGD) {criteria.Q2_BULK} with every smaller or equal k; the rest shown",
        name="how many dimensions",
        plain=(
            "With half, once and twice as many dimensions as classes Dom-SGD does not learn; with up to as "
            "many as classes Bulk-SGD does."
        ),
        seen="with half as many dimensions as classes Dom-SGD made {n} of SGD's progress",
        kind=FINDING,
    ),
    Claim(
        "Q5",
        "The subspace need not be exact",
        f"{EXACT[0]}, and {EXACT[1]}: progress(Dom-SGD) {criteria.Q5_DOM}, progress(Bulk-SGD) "
        f"{criteria.Q5_BULK}, and Dom-SGD's late gradient inside {criteria.Q5_INSIDE}, where that of a "
        f"random space is {criteria.Q5_RANDOM}; the rest shown",
        name="how exact a subspace",
        plain=(
            "With an old dominant subspace, or one of fewer samples, Dom-SGD stands still and Bulk-SGD "
            "learns as with the exact one. Spaces of other matrices, of Adam, and a random one are shown "
            "beside it."
        ),
        seen="with a basis that is seldom found anew Dom-SGD made {n} of SGD's progress",
        kind=FINDING,
    ),
)


def judge(study: ThresholdStudy) -> list[Verdict]:
    """Of Q2 the first case, of Q5 two spaces and the random one; what is beside them is shown."""
    found = []
    first, asked = next(iter(study.parameters.cases().items()))
    judged = {k for k in asked.cuts if k <= asked.k or k in _doubted(asked.k)}
    if first in study.cases and judged <= {*study.cases[first].parameters.cuts}:
        parts = [
            part for name, case in study.cases.items() for part in _cuts(name, case, name == first)
        ]
        runs = [run for case in study.cases.values() for run in case.stored()]
        found.append(verdict(Q2, _judged_first(parts), study.parameters, runs, _note(study)))
    if study.spaces is not None and _is_whole(study):
        parts = _judged_first(_spaces(study.spaces))
        found.append(verdict(Q5, parts, study.parameters, study.spaces.stored()))
    return found


def _doubted(classes: int) -> list[int]:
    """The k at which Dom-SGD is judged: half, once and twice the number of classes."""
    return [round(ratio * classes) for ratio in criteria.Q2_RATIOS]


def _judged_first(parts: list[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: part.verdict == DESCRIPTIVE)


def _cuts(name: str, case: Case, judged: bool) -> list[Part]:
    """Progress of both branches at every k, by criterion where one is asked of it."""
    classes, parts, where = case.parameters.k, [], "" if judged else f", {name}"
    for side, bound in (("dominant", criteria.Q2_DOM), ("bulk", criteria.Q2_BULK)):
        names = case.switch.name("none"), case.switch.name(side)
        for k in case.parameters.cuts:
            asked = k in _doubted(classes) if side == "dominant" else k <= classes
            criterion = bound if judged and asked else None
            says = f"progress({names[1]}){where}, k = {k}"
            parts.append(part_of_pairs(says, case.pairs(k, side), criterion, names))
    return parts


def _note(study: ThresholdStudy) -> str:
    """What a reader must know: fallbacks, and which runs are older than the question."""
    notes = {name: case.switch.note() for name, case in study.cases.items()}
    told = [f"{name}: {note}" for name, note in notes.items() if note]
    own = next(iter(study.cases.values())).parameters
    first = next(iter(study.cases))
    told.append(unresolved(study.cases[first]))
    if absent := study.lacking(first):
        told.append(f"k = {says.listed(map(str, absent))} is not run yet.")
    if own.profile == "paper" and own.k in own.cuts and own.steps > own.cut_steps:
        told.append(
            f"The runs with k = {own.k} are the first {own.cut_steps:,} steps of chapter 02's, seeds "
            f"{says.listed(map(str, own.seeds))}: they were known when the criterion was written."
        )
    return " ".join(filter(None, told))


def unresolved(case: Case) -> str:
    """At which k the spectrum has no gap that tells the subspace of k from its neighbours."""
    return not_near({f"k = {k}": angle for k, angle in case.unresolved().items()})


def _is_whole(study: ThresholdStudy) -> bool:
    """Whether the runs of every space that is to be judged are there."""
    asked = {name for part in study.parameters.spaces() for name in part.spaces()}
    there = set(study.spaces.names()) if study.spaces is not None else set()
    return ({*EXACT, RANDOM} & asked) <= there


def _spaces(study: SpaceStudy) -> list[Part]:
    """Progress in every space, and the gradient's share inside, by criterion for the judged ones."""
    parts, asked = [], {*EXACT} & {*study.names()}
    for name in study.names():
        exact = name in EXACT
        for side, bound in (("dominant", criteria.Q5_DOM), ("bulk", criteria.Q5_BULK)):
            names = study.switch.name("none"), study.switch.name(side)
            says = f"progress({names[1]}), {name}"
            criterion = bound if exact else None
            parts.append(part_of_pairs(says, study.pairs(name, side), criterion, names))
        inside = criteria.Q5_INSIDE if exact else None
        if name == RANDOM and asked:
            inside = criteria.Q5_RANDOM
        says = f"late alignment of {study.switch.name('dominant')}, {name}"
        parts.append(part(says, study.inside(name, "dominant"), inside))
    return parts
