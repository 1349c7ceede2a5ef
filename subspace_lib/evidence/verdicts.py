"""How one number per seed becomes a verdict, and the parts of a claim or a finding its verdict."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import mpmath
import numpy as np

from subspace_lib.evidence.criteria import CONFIDENCE, MINIMUM_SEEDS
from subspace_lib.evidence.criterion import Criterion

if TYPE_CHECKING:
    from subspace_lib.trajectory import Trajectory

CLAIM: Final = "claim"
FINDING: Final = "finding"
REPRODUCED, INCONCLUSIVE, NOT_REPRODUCED = "reproduced", "inconclusive", "not reproduced"
HOLDS, FAILS = "holds", "does not hold"  # of a finding, which reproduces nothing
DESCRIPTIVE = "descriptive"  # shown without a criterion
MISSING = "missing"
OF_A_FINDING = {REPRODUCED: HOLDS, NOT_REPRODUCED: FAILS}
MET, NOT_MET = (REPRODUCED, HOLDS), (NOT_REPRODUCED, FAILS)
WORST_FIRST = (*NOT_MET, INCONCLUSIVE, *MET, DESCRIPTIVE)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or a finding: a question of ours beyond the paper, which decides no claim.

    Attributes:
        id: its name in this book; says: the claim; criterion: what must be seen, in a line.
        name, plain, seen: for the front page: in a few words; a plain sentence; what was seen where it is
            reproduced, {n} standing for the number. Without them ``says`` does.
        kind: "claim" or "finding".
    """

    id: str
    says: str
    criterion: str
    name: str = ""
    plain: str = ""
    seen: str = ""
    kind: Literal["claim", "finding"] = "claim"


@dataclass(frozen=True)
class Part:
    """One quantity that a claim is judged by, with one value per seed.

    Attributes:
        verdict: "reproduced": the whole interval is on the criterion's side; "not reproduced": none
            of it is; "inconclusive": otherwise, or fewer than three seeds, or an undefined value. In a
            finding "holds" and "does not hold"; "descriptive" where it has no criterion.
        measured: mean over seeds; interval: its 95% Student-t interval over seeds.
        source, date: of its criterion: whose demand it is ("paper: …" or "own: …"), when it was fixed.
        note: what a reader must know of it: why there is no number or no verdict, which runs diverged.
        known_from: how the paper's statement is known.
    """

    says: str
    verdict: str
    criterion: str
    measured: float | None
    interval: tuple[float, float] | None
    values: tuple[float, ...]
    source: str = ""
    date: str = ""
    note: str = ""
    known_from: str = ""

    @property
    def own(self) -> bool:
        """Whether it is a demand of ours, beyond what the paper states."""
        return self.source.startswith("own")


@dataclass(frozen=True)
class Verdict:
    """A claim or a finding, judged.

    Attributes:
        kind: "claim" or "finding".
        verdict: the worst of its parts', in the order "not reproduced", "inconclusive", "reproduced" (of a
            finding "does not hold", "inconclusive", "holds", or "descriptive"); "missing" where there are
            no results.
        measured, interval: those of the part that decides, the first with that verdict.
        parts: every quantity that it is judged by.
        results: keys of the runs in the store; oldest: the date of the oldest of them.
        seeds: those of the runs.
        note: what the protocol did that a reader must know, such as a switch by the fallback.
    """

    claim: str
    verdict: str
    criterion: str
    measured: float | None = None
    interval: tuple[float, float] | None = None
    seeds: tuple[int, ...] = ()
    steps: int | None = None
    dataset: str | None = None
    model: str | None = None
    results: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    kind: str = CLAIM
    oldest: str = ""
    note: str = ""


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95% Student-t interval of the mean over seeds; (NaN, NaN) for fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = _student(len(values) - 1) * error
    return mean - half, mean + half


@functools.cache
def _student(freedom: int) -> float:
    """What |t| of so many degrees of freedom stays below with probability CONFIDENCE.

    SciPy has it too, but weighs 140 MB in an environment that is to build the book alone.
    """

    def excess(t: float) -> float:
        outside = mpmath.betainc(
            freedom / 2, 1 / 2, 0, freedom / (freedom + t**2), regularized=True
        )
        return outside - (1 - CONFIDENCE)

    return float(mpmath.findroot(excess, 2))


def judge(values: Sequence[float], criterion: Criterion) -> str:
    """The verdict on one number per seed by a criterion."""
    if len(values) < MINIMUM_SEEDS or not np.isfinite(values).all():
        return INCONCLUSIVE
    low, high = interval(values)
    if criterion.at_least <= low and high <= criterion.at_most:
        return REPRODUCED
    outside = high < criterion.at_least or low > criterion.at_most
    return NOT_REPRODUCED if outside else INCONCLUSIVE


def part(says: str, values: Sequence[float], criterion: Criterion | None, note: str = "") -> Part:
    """Judge one number per seed by a criterion; ``note`` says what a reader must know of it.

    Without a criterion the number is shown and not judged: "descriptive".
    """
    known = len(values) > 0 and bool(np.isfinite(values).all())
    if not known and not note:
        note = f"undefined in {len(values) - np.isfinite(values).sum()} of {len(values)} runs"
    elif known and len(values) < MINIMUM_SEEDS and criterion is not None:
        few = f"{len(values)} of the {MINIMUM_SEEDS} seeds that a verdict needs"
        note = "; ".join(dict.fromkeys(filter(None, [*note.split("; "), few])))
    judged = Part(
        says,
        DESCRIPTIVE,
        "none",
        float(np.mean(values)) if known else None,
        interval(values) if known and len(values) > 1 else None,
        tuple(float(v) for v in values),
        note=note,
    )
    if criterion is None:
        return judged
    return replace(
        judged,
        verdict=judge(values, criterion),
        criterion=str(criterion),
        source=criterion.source,
        date=criterion.date,
        known_from=criterion.known_from,
    )


def verdict(
    claim: Claim,
    parts: Sequence[Part],
    parameters: Any,
    runs: Iterable[Trajectory],
    note: str = "",
) -> Verdict:
    """The verdict on a claim or a finding from its parts: that of the worst."""
    runs = list(runs)
    if claim.kind == FINDING:
        parts = [replace(p, verdict=OF_A_FINDING.get(p.verdict, p.verdict)) for p in parts]
    deciding = min(parts, key=lambda p: WORST_FIRST.index(p.verdict))
    steps = {getattr(run.experiment, "steps", None) for run in runs} or {parameters.steps}
    dataset, model = (getattr(parameters, name, None) for name in ("dataset", "model"))
    return Verdict(
        claim=claim.id,
        verdict=deciding.verdict,
        criterion=claim.criterion,
        measured=deciding.measured,
        interval=deciding.interval,
        seeds=tuple(sorted({run.experiment.seed for run in runs})) or parameters.seeds,
        steps=steps.pop() if len(steps) == 1 else None,
        dataset=dataset,
        model=model,
        results=tuple(run.experiment.key for run in runs),
        parts=tuple(parts),
        kind=claim.kind,
        oldest=min((run.provenance.get("date", "") for run in runs), default=""),
        note=note,
    )


def missing(claim: Claim) -> Verdict:
    """The verdict on a claim or a finding for which there are no results."""
    return Verdict(claim.id, MISSING, claim.criterion, kind=claim.kind)
