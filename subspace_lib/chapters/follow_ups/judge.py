"""Q6, Q8, Q9: three claims of papers that followed, in our protocol."""

from __future__ import annotations

import contextlib
import math

from subspace_lib.chapters.follow_ups.study import FASTER, METHODS, SGD, TWICE, FollowUpStudy
from subspace_lib.chapters.kit.study import stored
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import FINDING, Claim, Verdict, part, verdict
from subspace_lib.results.store import MissingRun
from subspace_lib.trajectory import Trajectory, tail, tail_loss, window

Q6 = Claim(
    "Q6",
    "With twice the bulk part of each update SGD is faster, at the same dominant part",
    f"gain in training loss with α = {FASTER[0]:g}, β = {FASTER[1]:g} over that of SGD in as many steps "
    f"{criteria.Q6_FASTER}",
    name="weighted updates",
    plain="SGD is faster when only the bulk part of its updates gets more weight.",
    seen="with twice the bulk part SGD gains {n} times as much",
    kind=FINDING,
)
Q8 = Claim(
    "Q8",
    "Minibatch noise lowers the sharpness, and its mean effect in the dominant directions explains it",
    f"λ₁ of SGD over that of GD {criteria.Q8_LOWER}, over the last {criteria.Q8_TAIL:.0%} of the steps; "
    f"share of the difference that averaged GD makes {criteria.Q8_SHARE}",
    name="noise and sharpness",
    plain=(
        "Minibatch noise lowers the sharpness. Gradient descent on the loss averaged over that noise, in "
        "the dominant directions alone, does the same."
    ),
    seen="the λ₁ of SGD is {n} times that of GD",
    kind=FINDING,
)
Q9 = Claim(
    "Q9",
    "The alignment of the gradient first falls, then rises",
    f"alignment at the start less its lowest within {criteria.Q9_EARLY:,} steps {criteria.Q9_FALLS}; at "
    f"the end {criteria.Q9_RISES}",
    name="fall and rise of the alignment",
    plain=(
        "The gradient first leaves the dominant subspace, then comes back to it. Below which step size a "
        "step of Dom-SGD lowers the loss is shown in the chapter, not judged."
    ),
    seen="the alignment falls by {n} before it rises",
    kind=FINDING,
)
CLAIMS = (Q6, Q8, Q9)
AT_TWICE_THE_RATE = "gain of SGD at 2η, over that of SGD, first seed"


def judge(study: FollowUpStudy) -> list[Verdict]:
    """The verdicts on those findings whose runs are stored."""
    verdicts = []
    for finding in (_faster, _sharper, _falls):
        with contextlib.suppress(MissingRun):
            verdicts.append(finding(study))
    return verdicts


def gain(run: Trajectory) -> float:
    """Training loss at the switch less that over the last 2% of the steps; NaN where the run diverged."""
    return float(run.table["train_loss"].iloc[0]) - tail_loss(run) if run.complete else math.nan


def sharpness(run: Trajectory, which: int = 1) -> float:
    """An eigenvalue over the last tenth of the steps after the switch; NaN where the run diverged."""
    e = run.experiment
    if not run.complete:
        return math.nan
    late = criteria.Q8_TAIL * (e.steps - e.switch_step)
    return window(run, f"eigenvalue_{which:02d}", e.steps - late, e.steps)


def fall(run: Trajectory) -> float:
    """Alignment of the first row less the lowest of the rows within the first steps."""
    rows = run.table[run.table["step"] <= criteria.Q9_EARLY]["alignment"]
    return float(rows.iloc[0] - rows.min())


def _faster(study: FollowUpStudy) -> Verdict:
    runs, seeds = study.weighted, study.repeated
    found = [gain(runs[FASTER, seed]) / gain(runs[SGD, seed]) for seed in seeds]
    parts = [part("gain with twice the bulk, over that of SGD", found, criteria.Q6_FASTER)]
    twice = [gain(runs[w, s]) / gain(runs[SGD, s]) for w, s in runs if w == TWICE and s in seeds]
    if twice:
        parts.append(part(AT_TWICE_THE_RATE, twice, None))
    return verdict(Q6, parts, study.parameters, stored(runs))


def _sharper(study: FollowUpStudy) -> Verdict:
    sgd, gd, averaged = (
        [sharpness(study.noise[method, seed]) for seed in study.repeated] for method in METHODS
    )
    lower = [s / g for s, g in zip(sgd, gd, strict=True)]
    share = [
        (g - a) / (g - s) if g != s else math.nan for s, g, a in zip(sgd, gd, averaged, strict=True)
    ]
    parts = [
        part("λ₁ of SGD over that of GD", lower, criteria.Q8_LOWER),
        part(
            "share of the difference between GD and SGD that averaged GD makes",
            share,
            criteria.Q8_SHARE,
        ),
    ]
    return verdict(Q8, parts, study.parameters, stored(study.noise))


def _falls(study: FollowUpStudy) -> Verdict:
    runs = list(study.plain.values())
    parts = [
        part("fall of the alignment", [fall(run) for run in runs], criteria.Q9_FALLS),
        part("alignment at the end", [tail(run, "alignment") for run in runs], criteria.Q9_RISES),
    ]
    return verdict(Q9, parts, study.parameters, runs)
