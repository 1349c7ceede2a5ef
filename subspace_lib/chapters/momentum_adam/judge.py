"""C8: the bulk part amplified over the first 1,000 steps, Dom- versions that stop; F2, F3, F4 and F8."""

from __future__ import annotations

import contextlib
import math

from subspace_lib.chapters.kit.switch.frozen import rise, risen
from subspace_lib.chapters.kit.switch.judge import part_of_pairs, progress_part
from subspace_lib.chapters.momentum_adam.study import JUDGED, MomentumStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Part, Verdict, part, verdict
from subspace_lib.results.store import MissingRun
from subspace_lib.runs.rates import mean_rates
from subspace_lib.runs.windows import DEFINITIONS, amplification, directions, error, part_rates
from subspace_lib.trajectory import Trajectory

C8, F2, F3, F4, F8 = CLAIMS = (
    Claim(
        "C8",
        "Momentum and Adam amplify the bulk part of the update",
        f"for heavy ball and for Adam: mean Bulk-LR over mean Dom-LR, both over the first "
        f"{criteria.TABLE_STEPS:,} steps, at least {criteria.FACTOR:g} × that of SGD; progress of the Dom- "
        f"version {criteria.DOM_RULES}",
        name="momentum and Adam",
        plain=(
            f"Over the first {criteria.TABLE_STEPS:,} steps momentum and Adam amplify the bulk part of the "
            "update. Projected on the dominant part they stop lowering the loss."
        ),
        seen=(
            f"over the first {criteria.TABLE_STEPS:,} steps momentum and Adam amplify the bulk part of the "
            "update; projected on the dominant part they stop lowering the loss"
        ),
    ),
    Claim(
        "F2",
        "Effective learning rates later in training",
        "none: Bulk-LR/Dom-LR over that of SGD in late windows, by three definitions",
        name="effective rates over time",
        plain="What heavy ball and Adam do to the bulk part later than Table 1 looks.",
        kind="finding",
    ),
    Claim(
        "F3",
        "Bulk- versions of heavy ball and Adam are as effective as the whole rule",
        "C3, for each way to project",
        name="Bulk-heavy ball and Bulk-Adam",
        plain="Bulk-heavy ball and Bulk-Adam learn as heavy ball and Adam do.",
        seen="Bulk-heavy ball and Bulk-Adam learn as the whole rules do",
        kind="finding",
    ),
    Claim(
        "F4",
        "A quadratic with noise predicts the effective rates of momentum and adaptive rules",
        "none: relative error of the predicted rates, median over eigendirections",
        name="theory of the rates",
        plain="How well a quadratic with noise predicts the effective rates.",
        kind="finding",
    ),
    Claim(
        "F8",
        "Why the loss of Dom-heavy ball rises",
        "none: what is left of the rise with the subspace of the switch frozen",
        name="why a loss rises under Dom-X",
        plain="How much of the rise of Dom-heavy ball's loss a subspace that does not turn leaves.",
        kind="finding",
    ),
)
# What links the ratios that a reader sees to the differences that are judged.
EXCESS = (
    "Dom-LR and Bulk-LR are the effective learning rates of the two parts of the update. The amplification "
    "is judged by a difference, in units of η. It is 0 where the rule's Bulk-LR/Dom-LR is "
    f"{criteria.FACTOR:g} times SGD's. The ratio itself is not judged: Dom-LR may be near zero."
)


def judge(study: MomentumStudy) -> list[Verdict]:
    """C8 on Table 1 and on the Dom- versions; then those of our findings whose runs are stored."""
    verdicts = [_table(study)]
    for finding in (_later, _bulk, _theory, _frozen):
        with contextlib.suppress(MissingRun):
            verdicts.append(finding(study))
    return verdicts


def excess(run: Trajectory, plain: Trajectory) -> float:
    """By how much mean Bulk-LR exceeds FACTOR × SGD's Bulk-LR/Dom-LR × mean Dom-LR, in units of η."""
    (dominant, bulk), (sgd_dominant, sgd_bulk) = mean_rates(run), mean_rates(plain)
    wanted = criteria.FACTOR * sgd_bulk / sgd_dominant * dominant
    return (bulk - wanted) / run.experiment.learning_rate


def of_mean_rates(run: Trajectory, definition: str) -> float:
    """Bulk-LR/Dom-LR with either rate's mean over the windows; NaN where one is not positive."""
    rates = part_rates(run)[definition]
    dominant, bulk = (float(rates[part].mean()) for part in ("dominant", "bulk"))
    return bulk / dominant if run.complete and min(dominant, bulk) > 0 else math.nan


def _table(study: MomentumStudy) -> Verdict:
    p, plain = study.parameters, study.first_steps("SGD")
    runs, amplified, stopped = [*plain], list[Part](), list[Part]()
    for name in JUDGED:
        own, switch = study.first_steps(p.label(name)), study.switches[name]
        found = [excess(run, sgd) for run, sgd in zip(own, plain, strict=True)]
        asked = (
            f"(mean Bulk-LR − {criteria.FACTOR:g} r · mean Dom-LR)/η, with r = SGD's Bulk-LR/Dom-LR"
        )
        amplified.append(part(f"{p.label(name)}: {asked}", found, criteria.AMPLIFIED))
        stopped.append(progress_part(switch, "dominant", criterion=criteria.DOM_RULES))
        runs += [*own, *switch.of("none"), *switch.of("dominant")]
    return verdict(C8, amplified + stopped, p, runs, f"{EXCESS} {study.note()}".strip())


def _later(study: MomentumStudy) -> Verdict:
    p, plain, parts = study.parameters, study.windows["SGD"], list[Part]()
    for name in JUDGED:
        run = study.windows[p.label(name)]
        for how in DEFINITIONS:
            over = amplification(run, how) / amplification(plain, how)
            parts.append(part(f"Bulk-LR/Dom-LR of {p.label(name)} over SGD's, {how}", [over], None))
    runs = [study.windows[p.label(name)] for name in ("sgd", *JUDGED)]
    return verdict(F2, parts, p, runs)


def _bulk(study: MomentumStudy) -> Verdict:
    p, parts, runs = study.parameters, list[Part](), list[Trajectory]()
    for name in JUDGED:
        switch = study.switches[name]
        where = ", update projected"
        parts.append(progress_part(switch, "bulk", where, criteria.F3_BULK))
        runs += [*switch.of("none"), *switch.of("bulk")]
    for (name, way), run in study.alternatives.items():
        plain = study.switches[name].trajectories["none", p.shown]
        names = study.switches[name].name("none"), study.switches[name].name("bulk")
        says = f"progress({names[1]}), {way} projected"
        parts.append(part_of_pairs(says, [(plain, run)], criteria.F3_BULK, names))
        runs.append(run)
    return verdict(F3, parts, p, runs, study.note())


def _theory(study: MomentumStudy) -> Verdict:
    p = study.parameters
    labels = [p.label(name) for name in ("sgd", *JUDGED)]
    runs = [study.windows[label] for label in labels]
    parts = [
        part(f"median error of the predicted rates, {label}", [error(directions(run))], None)
        for label, run in zip(labels, runs, strict=True)
    ]
    return verdict(F4, parts, p, runs)


def _frozen(study: MomentumStudy) -> Verdict:
    p, switch = study.parameters, study.switches["momentum"]
    name, found, runs = switch.name("dominant"), list[float](), list[Trajectory]()
    for seed in p.seeds:
        moving, still = switch.trajectories["dominant", seed], study.frozen[seed]
        shows = still.complete and risen(moving)
        found.append(rise(still) / rise(moving) if shows else math.nan)
        runs += [moving, still]
    level = sum(map(math.isnan, found))
    why = f"{level} of {len(found)} pairs of {name} have no rise to compare" if level else ""
    says = f"rise of {name} left with its subspace frozen"
    return verdict(F8, [part(says, found, None, why)], p, runs)
