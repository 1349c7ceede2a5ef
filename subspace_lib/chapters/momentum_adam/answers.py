"""What the figures of chapters 07 and 07b show, in words that their numbers choose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.study import there
from subspace_lib.chapters.kit.switch import answers as switch_answers
from subspace_lib.chapters.kit.switch.frozen import rise, risen, what_is_left
from subspace_lib.chapters.kit.table import Row, table
from subspace_lib.chapters.momentum_adam import tables
from subspace_lib.chapters.momentum_adam.judge import CLAIMS, excess, judge, of_mean_rates
from subspace_lib.chapters.momentum_adam.study import JUDGED, MomentumStudy
from subspace_lib.evidence import criteria
from subspace_lib.optimizers import ADAPTIVE
from subspace_lib.results.store import MissingRun
from subspace_lib.runs.rates import mean_rates
from subspace_lib.runs.windows import DEFINITIONS, amplification, directions, error, part_rates
from subspace_lib.theory.quadratic import LinearRule, damping, stationary_rate, stationary_variance
from subspace_lib.trajectory import Trajectory, progress, tail, tail_loss

GOOD = 0.25  # median relative error up to which a prediction is said to be good
FIFTH = 0.2  # of the eigendirections: the steepest, the flattest


def opening(study: MomentumStudy) -> Markdown:
    """The chapter's answer: C8's verdict, by how much the bulk is amplified, what Dom- versions learn."""
    p, c8 = study.parameters, judge(study)[0]
    plain, told = study.first_steps("SGD"), []
    for name in JUDGED:
        runs = zip(study.first_steps(p.label(name)), plain, strict=True)
        over = [_ratio(run) / _ratio(sgd) for run, sgd in runs]
        starts = study.switches[name]
        stopped = [
            progress(*pair) for pair in zip(starts.of("none"), starts.of("dominant"), strict=True)
        ]
        told.append(
            f"{_title(p.label(name))}: mean Bulk-LR over mean Dom-LR is {says.mean_of(over, _two)} times "
            f"that of SGD (needed ≥ {criteria.FACTOR:g}); {starts.name('dominant')} makes "
            f"{says.mean_of(stopped, says.share)} of its progress (needed {criteria.DOM_RULES})."
        )
    return page.told(p, f"**{page.word(c8, p)}.** {CLAIMS[0].says}.", *told)


def _ratio(run: Trajectory) -> float:
    dominant, bulk = mean_rates(run)
    return bulk / dominant


def first_steps(study: MomentumStudy) -> Markdown:
    """Mean Bulk-LR over mean Dom-LR of SGD and of the judged rules, beside SGD's; Table 1 below."""
    p = study.parameters
    ratio = {
        label: [_ratio(run) for run in study.first_steps(label)]
        for label in map(p.label, ("sgd", *JUDGED))
    }
    plain = ratio["SGD"]
    told = [
        f"Over the first {p.table_steps:,} steps mean Bulk-LR over mean Dom-LR is "
        f"{says.each(ratio, _two)}. {says.over(len(plain))}"
    ]
    for label in list(ratio)[1:]:
        over = [own / sgd for own, sgd in zip(ratio[label], plain, strict=True)]
        pairs = zip(study.first_steps(label), study.first_steps("SGD"), strict=True)
        more = [excess(*pair) >= 0 for pair in pairs]  # as C8 says it: also for a Dom-LR near zero
        told.append(
            f"{_title(label)} has {says.mean_of(over, _two)} times the ratio of SGD. By C8's criterion it "
            f"amplifies the bulk part {criteria.FACTOR:g} times or more in {says.counted(more)}."
        )
    return says.answer(*told, _by_beta(study), table=tables.first_steps(study))


def _by_beta(study: MomentumStudy) -> str:
    """What momentum does to the ratio over SGD's, on the seed of the further rules, where they ran."""
    p, told = study.parameters, []
    betas = {beta: _over_sgd(study, f"heavy ball {beta:g}") for beta in sorted({p.beta, *p.betas})}
    known = {beta: over for beta, over in betas.items() if over is not None}
    if len(known) >= 3:
        each = says.listed(f"{_two(over)} with β = {beta:g}" for beta, over in known.items())
        grows = list(known.values()) == sorted(known.values())
        more = says.whether(
            grows, "more momentum amplifies more", "more momentum need not amplify more"
        )
        told.append(f"Heavy ball has {each} times the ratio of SGD (seed {p.shown}): {more}.")
    bare, whole = _over_sgd(study, "Adam, β₁ = 0"), _over_sgd(study, p.label("adam"))
    if bare is not None and whole is not None:
        less = says.whether(bare < whole, "less", "no less")
        told.append(
            f"Adam without momentum (β₁ = 0) has {_two(bare)} times the ratio of SGD, {less} than the "
            f"{_two(whole)} with it (seed {p.shown})."
        )
    return " ".join(told)


def _over_sgd(study: MomentumStudy, label: str) -> float | None:
    """A rule's Bulk-LR over Dom-LR over SGD's, on the seed that every rule has; None without its run."""
    p, runs = study.parameters, study.table | study.others
    run, plain = (runs.get((name, p.shown)) for name in (label, p.label("sgd")))
    return _ratio(run) / _ratio(plain) if run is not None and plain is not None else None


def _two(value: float) -> str:
    return says.number(value, 2)


def _title(name: str) -> str:
    return name[0].upper() + name[1:]


@says.known
def ratios(study: MomentumStudy) -> Markdown:
    """Late Bulk-LR/Dom-LR over that of SGD by definition, one seed; the rates in the table."""
    p, told = study.parameters, []
    for name in JUDGED:
        label = p.label(name)
        known, pooled = (_over(study, label, of) for of in (amplification, of_mean_rates))
        if known:
            told.append(
                f"In the geometric mean over windows, Bulk-LR/Dom-LR of {label} is, over that of SGD, "
                f"{_by_definition(known)}. With the mean rates of all windows, as C8 takes its ratio, it "
                f"is {_by_definition(pooled)}."
            )
        lacking = [how for how in DEFINITIONS if how not in known]
        told += [_undefined(study, label, how) for how in lacking]
        if len(known) > 1:
            high = [value >= criteria.FACTOR for value in [*known.values(), *pooled.values()]]
            agree = all(high) or not any(high)
            lasts = says.whether(
                high[0], "lasts", f"is below the {criteria.FACTOR:g} that C8 asks for"
            )
            told.append(
                f"So by {says.listed(known)} the amplification of {label} {lasts}."
                if agree
                else f"So whether it is {criteria.FACTOR:g}, as C8 asks for, depends on the definition and "
                "on the mean."
            )
    return says.answer(*told, f"Seed {p.shown}.", table=tables.later(study))


def _over(
    study: MomentumStudy, label: str, of: Callable[[Trajectory, str], float]
) -> dict[str, float]:
    """A rule's Bulk-LR/Dom-LR in all windows over that of SGD, by the definitions that give a number."""
    run, sgd = study.windows[label], study.windows["SGD"]
    over = {how: of(run, how) / of(sgd, how) for how in DEFINITIONS}
    return {how: value for how, value in over.items() if math.isfinite(value)}


def _by_definition(values: Mapping[str, float]) -> str:
    return says.listed(f"{_two(value)} by {how}" for how, value in values.items())


def _undefined(study: MomentumStudy, label: str, how: str) -> str:
    """Why a rule's ratio over that of SGD has no value by a definition: which run, in which windows."""
    reasons = []
    for name in (label, "SGD"):
        run = study.windows[name]
        rates = part_rates(run)[how]
        at = rates.index[~(rates["bulk"] / rates["dominant"] > 0)]
        if not run.complete:
            reasons.append(f"the run of {name} {run.status}")
        elif len(at):
            windows = says.whether(len(at) > 1, "windows", "window")
            steps = says.listed(f"{step:,}" for step in at)
            reasons.append(f"a rate of {name} is negative in the {windows} from step {steps}")
    return f"By {how} it is not defined for {label}: {says.listed(reasons)}."


@says.known
def ingredients(study: MomentumStudy) -> Markdown:
    """Which of Adam's ingredients alone has the larger Bulk-LR/Dom-LR; every window in the table."""
    rates = part_rates(study.windows["Adam"])
    larger = []
    for _, row in rates.iterrows():
        alone = [
            row[name, "bulk"] / row[name, "dominant"]
            for name in ("preconditioner alone", "mean of gradients alone")
        ]
        larger.append(bool(alone[0] > alone[1]))
    return says.answer(
        f"The preconditioner alone has the larger ratio of the two in {says.counted(larger, 'window')}.",
        table=tables.ingredients(study),
    )


def losses(study: MomentumStudy) -> Markdown:
    """What the Dom- and Bulk- versions of the judged rules make of the loss."""
    told = [
        f"*{_title(study.parameters.label(name))}.* {switch_answers.losses(switch).data} "
        f"{_meanwhile(study, name)}"
        for name, switch in study.switches.items()
    ]
    return Markdown("\n\n".join([*told, *_by_interval(study)]))


def _by_interval(study: MomentumStudy) -> list[str]:
    """What refreshes at fixed steps leave of the rise of Dom-heavy ball's loss; every run in the table."""
    p, refreshed = study.parameters, dict(sorted(there(study.refreshed).items()))
    switch = study.switches["momentum"]
    moving = switch.trajectories.get(("dominant", p.shown))
    if moving is None or not refreshed:
        return []
    told = ["*Rare refreshes.*"]
    if risen(moving):
        left = [
            f"{says.share(rise(run) / rise(moving))} every {every:,}"
            for every, run in refreshed.items()
        ]
        told.append(
            f"With a refresh only every so many steps, so much is left of the rise of "
            f"{switch.name('dominant')}: {says.listed(left)}."
        )
    told.append(
        "By chapter 07b, λ₁ falls like one over that number where it is large: the fall times the number "
        f"is in the table. Seed {p.shown}."
    )
    return [" ".join(told), tables.by_interval(study).data]


def _meanwhile(study: MomentumStudy, name: str) -> str:
    """How sharpness and alignment of the Dom- version move, where its loss rises, and why it does."""
    switch = study.switches[name]
    runs = [run for run in switch.of("dominant") if run.complete]
    starts = says.mean([float(run.table["train_loss"].iloc[0]) for run in runs])
    ends = says.mean([tail_loss(run) for run in runs])
    if not runs or says.compared(ends, starts, "rises", "falls", "") != "rises":
        return ""
    sharp, aligned = (
        says.moves(
            says.mean([float(run.table[column].dropna().iloc[0]) for run in runs]),
            says.mean([tail(run, column) for run in runs]),
            say,
        )
        for column, say in (("eigenvalue_01", says.number), ("alignment", says.share))
    )
    return (
        f"While the loss of {switch.name('dominant')} rises, its sharpness {sharp}, and its alignment "
        f"{aligned}. {_cause(study, name)}"
    )


def _cause(study: MomentumStudy, name: str) -> str:
    """What becomes of the rise of Dom-heavy ball where the subspace is frozen."""
    moving = study.switches[name].of("dominant")
    if name != "momentum":
        return "Why it rises is not examined."
    try:
        frozen = [study.frozen[seed] for seed in study.parameters.seeds]
    except MissingRun:
        return "Why it rises is not known: the runs with a frozen subspace are not stored yet."
    starts = [float(run.table["train_loss"].iloc[0]) for run in moving]
    return what_is_left(zip(starts, moving, frozen, strict=True))


@says.known
def bulk_ways(study: MomentumStudy) -> Markdown:
    """Progress of each way to project, one seed; every run in the table."""
    p, told = study.parameters, []
    for name in JUDGED:
        plain = study.switches[name].trajectories["none", p.shown]
        ways = study.ways(name)
        found = {way: progress(plain, run) for way, run in ways.items()}
        if not all(map(math.isfinite, found.values())):
            told.append(f"{_title(p.label(name))} itself made no progress, so nothing is compared.")
            continue
        good = [way for way, value in found.items() if value >= criteria.F3_BULK.at_least]
        each = [
            f"{says.share(found[way])} with {_the(way)}"
            + ("" if run.complete else " (it diverged, which counts as −1)")
            for way, run in ways.items()
        ]
        told.append(f"Bulk-{p.label(name)}: the progress is {says.listed(each)}.")
        alike = max(found.values()) - min(found.values()) <= says.LEVEL
        told.append(
            says.whether(
                alike,
                "The three ways give the same for this seed.",
                "The ways differ; as good as the whole rule: "
                f"{says.listed(map(_the, good)) if good else 'none of them'}.",
            )
        )
    return says.answer(*told, f"Seed {p.shown}.", table=tables.bulk_ways(study))


def _the(way: str) -> str:
    return way if way.startswith("both") else f"the {way}"


@says.known
def predicted(study: MomentumStudy) -> Markdown:
    """The answer of 07b: how far the predicted rates are from the measured ones (F4)."""
    found = {label: error(directions(run)) for label, (run, _) in study.with_theory().items()}
    others = [label for label, value in found.items() if not value <= GOOD]
    best, worst = (choose(found, key=lambda label: found[label]) for choose in (min, max))
    told = [
        "**F4, descriptive.** A quadratic with noise, without a fitted parameter, predicts the rates of "
        "the leading eigendirections. The median error over directions is "
        f"{says.percent(found[best])} for {best}"
        + says.whether(len(found) > 1, f" up to {says.percent(found[worst])} for {worst}.", ".")
    ]
    if others:
        told.append(f"The error is above {says.percent(GOOD)} for {says.listed(others)}.")
    return page.told(study.parameters, *told)


def transfer(study: MomentumStudy) -> Markdown:
    """By the formulas alone: damping of a slow direction, where the plateau begins, what it costs."""
    p = study.parameters
    rule, plain = LinearRule(p.learning_rate, p.beta), LinearRule(p.learning_rate)
    slow = 1e-4 / p.learning_rate
    faster = damping(rule, slow) / damping(plain, slow)
    wider = stationary_variance(rule, slow) / stationary_variance(plain, slow)
    plateau = (1 - np.sqrt(p.beta)) ** 2  # in ηλ
    level = damping(rule, plateau / p.learning_rate)
    return says.answer(
        f"Slow directions, at the left, are damped {_two(faster)} times as fast by heavy ball with "
        f"β = {p.beta:g} as by SGD: 1/(1 − β) is {_two(1 / (1 - p.beta))}.",
        f"Where ηλ is above {_two(plateau)}, heavy ball damps all directions alike: a step leaves "
        f"{_two(math.exp(-level))} of a deviation. The price: where ηλ is small, the same noise makes the "
        f"variance {_two(wider)} times that of SGD.",
    )


@says.known
def amplified(study: MomentumStudy) -> Markdown:
    """Rates of the steepest and of the flattest directions, beside the two limits of the theory."""
    return _by_direction(study, adaptive=False)


@says.known
def amplified_adaptive(study: MomentumStudy) -> Markdown:
    """The same in the coordinates of the preconditioner; every rule's error in the second table."""
    told = _by_direction(study, adaptive=True)
    return Markdown(f"{told.data}\n\n{tables.predictions(study).data}")


def _by_direction(study: MomentumStudy, adaptive: bool) -> Markdown:
    """Each rule's rates, and which of the two limits the flattest directions are nearer to."""
    rows, fluctuates, above = list[Row](), list[bool](), list[str]()
    for label, (run, rule) in study.with_theory().items():
        if (run.experiment.optimizer in ADAPTIVE) != adaptive:
            continue
        found = directions(run).sort_values("eigenvalue")
        found = found[found["measured"].notna()]
        if found.empty:
            continue
        count = max(1, round(FIFTH * len(found)))
        flat, steep = (
            float(part["measured"].median()) for part in (found.iloc[:count], found.iloc[-count:])
        )
        limits = _limits(rule, float(found["eigenvalue"].iloc[:count].median()))
        names = ("steepest fifth", "flattest fifth", "pure fluctuation", "gradient that persists")
        numbers = map(_two, (steep, flat, *limits))
        rows.append({"rule": label, **dict(zip(names, numbers, strict=True))})
        if rule.beta:  # as far as the figure's log axis shows it
            fluctuates.append(flat <= 0 or flat**2 < limits[0] * limits[1])
        elif flat > (1 + GOOD) * max(limits):
            above.append(f"{_two(flat)} under {label}")
    return says.answer(
        _nearer(fluctuates),
        says.whether(
            bool(above),
            f"Without momentum its rate is {says.listed(above)}, above either limit: the noise of an "
            "epoch's batches adds up to zero, which raises the rate (see below).",
            "",
        ),
        table=table(
            rows, note="Rates over η: medians of what was measured, and the theory's limits."
        ),
    )


def _limits(rule: LinearRule, value: float) -> tuple[float, float]:
    """Rate over η of pure fluctuation at λ = value, and of a gradient that persists."""
    rates = stationary_rate(rule, value), rule.slow_rate
    return rates[0] / rule.learning_rate, rates[1] / rule.learning_rate


def _nearer(fluctuates: list[bool]) -> str:
    """Whether the leading directions are where a bulk is amplified."""
    if not fluctuates:
        return ""
    return (
        "With momentum the flattest fifth is nearer to pure fluctuation than to a gradient that persists "
        f"in {says.counted(fluctuates, 'rule')}."
        + says.whether(
            any(fluctuates),
            f" {'So' if all(fluctuates) else 'In those'} momentum amplifies little along these leading "
            "directions. By the theory, what chapter 07 measures in the bulk as a whole has to come from "
            "flatter ones.",
            "",
        )
    )
