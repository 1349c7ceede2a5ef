"""What the figures of chapter 09 show, in words that their numbers choose."""

from __future__ import annotations

import math
from collections.abc import Mapping

from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.losses_and_networks import tables
from subspace_lib.chapters.losses_and_networks.judge import CLAIMS, CROSS_ENTROPY, judge, unresolved
from subspace_lib.chapters.losses_and_networks.study import AS_IT_IS, LossesStudy
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory

LESS_NOISE, FIXED = ("batch × 10", "full batch"), "fixed basis"
CLEAR = 2  # times what the loss moves by from a row to the next: a change that shows


def opening(study: LossesStudy) -> Markdown:
    """The cases with cross-entropy, which are those that can be judged; else the first."""
    cases = {name: c for name, c in study.cases.items() if c.parameters.loss == CROSS_ENTROPY}
    told = [_case(name, case) for name, case in (cases or study.cases).items()]
    told.insert(0, "From the switch on the training loss changes by this much.")
    head = page.heads(judge(study), study.parameters, Q1="Shown, not judged")
    return page.told(
        study.parameters,
        head["Q1"],
        page.asked(CLAIMS[0]),
        *(told if cases else told[:2]),
        *(_risen(name, runs) for name, runs in study.causes.items()),
    )


def _risen(name: str, runs: Mapping[str, Trajectory]) -> str:
    """Where noise is what makes the loss rise: by how much, and that it is."""
    found = _noise(runs)
    by = tables.change(tables.risen(runs[AS_IT_IS]) - 1)
    told = f"{name}, where one thing at a time is changed: without a change Dom-SGD's loss rises, {by}."
    return f"{told} {found}" if found else ""


def _case(name: str, case: SwitchStudy) -> str:
    """By how much of that at the switch the loss changes under each of the three."""
    told, starts = [], [float(run.table["train_loss"].iloc[0]) for run in case.of("dominant")]
    for side in PROJECTIONS:
        runs = zip(case.of(side), starts, strict=True)
        changes = [tables.risen(run, start) - 1 for run, start in runs]
        lost = says.whether(all(map(math.isnan, changes)), "diverges", "")
        told.append(f"{case.name(side)} {lost or says.mean_of(changes, tables.change)}")
    return f"{name}: {', '.join(told)}."


def losses(study: LossesStudy) -> Markdown:
    """Whether Dom-SGD's loss rises and Bulk-SGD learns, case by case; the table below."""
    told = [
        "Change of the training loss from the switch to the last 2% of the steps.",
        *(_case(name, case) for name, case in study.cases.items()),
    ]
    told.append(unresolved(study))
    told += says.not_yet(study.parameters.cases(), study.cases)
    return says.answer(*told, table=tables.overview(study))


def causes(study: LossesStudy) -> Markdown:
    """Which changes stop the rise, which make it worse, and what the expansion says of it, case by case."""
    if not study.parameters.origins():
        return Markdown("*Left out: `cause_cases` names no case.*")
    if not study.causes:
        return says.missing("The interventions are")
    told = [_changes(name, runs) for name, runs in study.causes.items()]
    told += [
        f"*{name}: not stored yet.*" for name in study.parameters.origins().keys() - study.causes
    ]
    told.append(
        "What this does not show: it is one seed of each case, and a larger batch changes the noise, and "
        "also how close training is to the edge of stability."
    )
    return Markdown("\n\n".join(told))


def _changes(case: str, runs: Mapping[str, Trajectory]) -> str:
    base = runs[AS_IT_IS]
    words = []
    for name, run in runs.items():
        ended = tables.change(tables.risen(run) - 1) if run.complete else run.status
        words.append(f"{name} {ended}")
    told = says.answer(
        f"**{case}.** Change of the loss from the switch to the last 2% of the steps: {', '.join(words)}.",
        _rise(runs),
        _balance(base),
        f"As it is, λ₁ {_sharpness(base)}, and the sine of the angle in use was {says.share(_angle(base))} "
        "in the median over rows.",
        _noise(runs),
        table=tables.expansion(runs),
    )
    return str(told.data)


def _rise(runs: Mapping[str, Trajectory]) -> str:
    """Whether there is a rise as it is; if so, what is left of it with each change."""
    base, noise = tables.rise(runs[AS_IT_IS]), tables.wobble(runs[AS_IT_IS])
    if not base > CLEAR * noise:
        return (
            f"As it is, the loss ends {says.number(abs(base), 2)} "
            f"{says.whether(base > 0, 'above', 'below')} where it began, and from a row to the next it "
            f"moves by {says.number(noise, 2)}: nothing rises here that a change could stop."
        )
    left = {name: tables.rise(run) for name, run in runs.items() if name != AS_IT_IS}
    shares = ", ".join(f"{name} {says.share(rise / base)}" for name, rise in left.items())
    stopped = [name for name, rise in left.items() if rise <= CLEAR * noise]
    worse = [name for name, rise in left.items() if not rise <= base + CLEAR * noise]
    return (
        f"As it is, the loss rises by {says.number(base, 2)}, and from a row to the next it moves by "
        f"{says.number(noise, 2)}. With a change it rises by so many times that: {shares}. The rise is "
        f"gone with: {', '.join(stopped) or 'none of them'}; larger with: "
        f"{', '.join(worse) or 'none of them'}."
    )


def _noise(runs: Mapping[str, Trajectory]) -> str:
    """That the rise needs noise, where less of it stops it; and a turning basis, where a fixed one does."""
    base = runs[AS_IT_IS]
    bound = CLEAR * tables.wobble(base)
    less = [name for name in LESS_NOISE if name in runs]
    calm = [n for n in less if tables.rise(runs[n]) <= bound and _level(runs[n])]
    falls = says.compared(*_tops(base)[::-1], below="falls") == "falls"
    if not (tables.rise(base) > bound and falls and less and calm == less):
        return ""
    told = (
        f"Where there is less noise ({', '.join(less)}), λ₁ stays, and so does the loss. So without the "
        "minibatch noise in the dominant directions the loss does not rise; with it Dom-SGD drifts to "
        "where the loss is higher and flatter."
    )
    if FIXED in runs and tables.rise(runs[FIXED]) <= bound:
        told += (
            " With a fixed basis, under the same minibatches, the loss ends where it began too. So the "
            "rise seems to need a subspace that turns along the way as well; it is one seed. Chapter 07b "
            "derives how noise and turn together lower the sharpness."
        )
    return told


def _level(run: Trajectory) -> bool:
    return says.compared(*_tops(run)[::-1], near="stays") == "stays"


def _tops(run: Trajectory) -> tuple[float, float]:
    """λ₁ at the first and at the last row that has measured it."""
    values = tables.sharpness(run)
    return float(values.iloc[0]), float(values.iloc[-1])


def _balance(base: Trajectory) -> str:
    """The two terms of the expansion, and whether their sum says anything."""
    found = tables.terms(base)
    slope, bend = found["slope"].mean(), found["bend"].mean()
    if not (len(found) > 1 and bend > 0):
        return ""
    noise = 1 - min(1.0, found["signal"].mean() / bend)
    whole, measured = found["slope"] + found["bend"], tables.a_step(base)
    error = 2 * float(whole.std() / math.sqrt(len(whole)))
    return (
        f"By the expansion, in millionths a step, the first-order term is {says.number(1e6 * slope)}, the "
        f"second-order term {says.number(1e6 * bend)}, and their sum "
        f"{says.number(1e6 * float(whole.mean()))} ± {says.number(1e6 * error, 2)} (twice its standard "
        f"error). At least {says.percent(noise)} of the second-order term is the minibatch noise's. "
        + says.whether(
            error > abs(measured),
            "The rows are too few to tell the sign of the sum: measured is "
            f"{says.number(1e6 * measured, 2)}.",
            f"Measured is {says.number(1e6 * measured, 2)}.",
        )
    )


def _sharpness(run: Trajectory) -> str:
    return says.moves(*_tops(run))


def _angle(run: Trajectory) -> float:
    return float(run.table["angle"].median())
