"""What the figures of a switch study show, in words that its numbers choose."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown

from subspace_lib import data
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.edge import bounce as bounce_table, gains, level_at_switch
from subspace_lib.chapters.kit.switch.judge import late_gap
from subspace_lib.chapters.kit.switch.panel import angle_in_use, not_near, unresolved
from subspace_lib.chapters.kit.switch.study import SwitchStudy, uncertified
from subspace_lib.chapters.kit.switch.tables import cost, exactness
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import interval
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import progress, tail, tail_loss

BRANCHES = PROJECTIONS[1:]
BOUNCES = 0.75  # of the steps at which the gradient changes its sign
BEGUN = 0.9  # of the loss of a constant answer, below which something has been learned


def losses(study: SwitchStudy) -> Markdown:
    """Loss at the switch and at the end, progress of either branch, and what lowers the loss."""
    starts = [float(run.table["train_loss"].iloc[0]) for run in study.of("dominant")]
    found = {side: _progress(study, side, starts) for side in BRANCHES}
    return says.answer(
        f"At the switch the training loss is {says.mean_of(starts)}. At the end it is {_ends(study)}.",
        says.over(len(starts)),
        _hardly_begun(study, starts),
        _stands_still(study, starts, found["dominant"]),
        _as_good(study, found["bulk"]),
        _meaning(study, says.mean(found["dominant"]), says.mean(found["bulk"])),
        _loose(study),
        ended_early(study),
    )


def _loose(study: SwitchStudy) -> str:
    """With which method the basis in use is not known to have been near the dominant subspace."""
    sines = {study.name(side): [angle_in_use(run) for run in study.of(side)] for side in BRANCHES}
    return not_near(unresolved(sines, study.parameters.target_angle))


def _hardly_begun(study: SwitchStudy, starts: list[float]) -> str:
    """Where the loss at the switch is near that of 1/C for each of the C classes, with one-hot labels."""
    p = study.parameters
    if p.loss != "mse":
        return ""
    classes = data.classes(p.dataset)
    constant = (1 - 1 / classes) / 2
    if not says.mean(starts) >= BEGUN * constant:
        return ""
    return (
        f"An answer of 1/{classes} for each of the {classes} classes has a loss of "
        f"{says.number(constant)}: at the switch little has been learned."
    )


def edge_losses(study: SwitchStudy) -> Markdown:
    """The same where the loss bounces: what Dom-X gains from its bounce is told apart from learning."""
    seeds, dom, plain = study.parameters.seeds, study.name("dominant"), study.name("none")
    starts = [level_at_switch(study, seed) for seed in seeds]
    runs = zip(study.of("none"), study.of("dominant"), starts, strict=True)
    bounce, later = zip(*(gains(*each) for each in runs), strict=True)
    bulk = _progress(study, "bulk", starts)
    told = [
        f"Over the last {criteria.EDGE_START} steps before the switch the training loss of {plain} is "
        f"{says.mean_of(starts)} in the mean. At the end it is {_ends(study)}. {says.over(len(seeds))}"
    ]
    if math.isfinite(says.mean(later)):
        told.append(
            f"{_jumps(study)} {dom} inherits that. In "
            f"units of what {plain} gains, the loss of {dom} {_moved(bounce)} in the first "
            f"{criteria.BOUNCE[1]} steps, in which its bounce dies out, and {_moved(later)} after that. "
            "Only what comes after the bounce is judged."
        )
    told += [
        _as_good(study, bulk),
        _meaning(study, says.mean(later), says.mean(bulk)),
    ]
    return says.answer(*told, ended_early(study), table=bounce_table(study))


def _jumps(study: SwitchStudy) -> str:
    """How often the gradient along the top eigenvector changes its sign, where each step has a row."""
    shares, plain = [], study.name("none")
    for seed, run in zip(study.parameters.seeds, study.of("none"), strict=True):
        switch = study.switch_steps[seed]
        rows = run.table[run.table["step"].between(switch - criteria.EDGE_WINDOW, switch)]
        changed = (np.sign(rows["gradient_top"]).diff() != 0)[rows["step"].diff() == 1]
        shares.append(float(changed.mean()))
    told = f"Along the top eigenvector the gradient of {plain} changes its sign at "
    told += f"{says.mean_of(shares, says.percent)} of the {criteria.EDGE_WINDOW} steps before the switch"
    if not says.mean(shares) >= BOUNCES:
        return f"{told}."
    return f"{told}: it bounces from one wall of a valley to the other."


def _moved(gained: Sequence[float]) -> str:
    """ "falls by 0.03", "rises by 0.01"."""
    falls = says.mean(gained) >= 0
    word, sign = says.whether(falls, "falls", "rises"), 1 if falls else -1
    return f"{word} by {says.mean_of([sign * value for value in gained], says.share)}"


def _progress(study: SwitchStudy, side: str, starts: list[float]) -> list[float]:
    pairs = zip(study.of("none"), study.of(side), starts, strict=True)
    return [progress(*each) for each in pairs]


def _ends(study: SwitchStudy) -> str:
    """Losses at the end by method; of runs that came to their end."""
    ends = {
        study.name(side): [tail_loss(run) for run in study.of(side) if run.complete]
        for side in PROJECTIONS
    }
    return says.each({name: found for name, found in ends.items() if found})


def _stands_still(study: SwitchStudy, starts: list[float], found: list[float]) -> str:
    """How the loss of Dom-X moves after the switch, beside that of X."""
    name, plain = study.name("dominant"), study.name("none")
    part = says.mean(found)
    if not math.isfinite(part):
        return _too_little(study)
    ratios = [
        tail_loss(run) / start
        for run, start in zip(study.of("dominant"), starts, strict=True)
        if run.complete
    ]
    made = f"it makes {says.mean_of(found, says.share)} of the progress of {plain}"
    if part > criteria.DOM_PROGRESS.at_most:
        return f"{name} goes on learning: {made}."
    rises = says.compared(says.mean(ratios), 1, "rises", "falls a little", "stays level")
    return f"The loss of {name} {rises}: {made}."


def _too_little(study: SwitchStudy) -> str:
    """What is seen where X gained less than a verdict needs."""
    plain, (share, *parts) = study.name("none"), gained(study)
    if not share >= criteria.MINIMUM_GAIN / 10:
        return (
            f"{plain} gained next to nothing after the switch, so there is nothing to compare with."
        )
    dom, bulk = (says.share(p) if math.isfinite(p) else "nothing (it diverged)" for p in parts)
    return (
        f"{short(study, share)} Of what {plain} gains, {study.name('dominant')} gains {dom} and "
        f"{study.name('bulk')} {bulk}."
    )


def short(study: SwitchStudy, share: float) -> str:
    """That X has gained such a share of the loss at the switch, which is less than a verdict needs."""
    return (
        f"{study.name('none')} lowers the loss by {100 * share:.3g}% of that at the switch; below "
        f"{says.percent(criteria.MINIMUM_GAIN)} there is no verdict."
    )


def gained(study: SwitchStudy) -> tuple[float, float, float]:
    """What X gains of the loss at the switch, what Dom-X and Bulk-X gain of that; means over seeds.

    NaN where a run of that method diverged.
    """
    starts = [float(run.table["train_loss"].iloc[0]) for run in study.of("dominant")]
    gains = dict.fromkeys(PROJECTIONS, math.nan)
    for side in PROJECTIONS:
        if all(run.complete for run in study.of(side)):
            ends = map(tail_loss, study.of(side))
            gains[side] = says.mean(s - end for s, end in zip(starts, ends, strict=True))
    whole = gains["none"] or math.nan  # of nothing there is no part
    return gains["none"] / says.mean(starts), gains["dominant"] / whole, gains["bulk"] / whole


def _as_good(study: SwitchStudy, found: list[float]) -> str:
    """How Bulk-X does beside X."""
    name, plain = study.name("bulk"), study.name("none")
    part = says.mean(found)
    if not math.isfinite(part):
        return ""
    if not any(run.complete for run in study.of("bulk")):
        return f"{name} diverges in {says.counted([True] * len(found))}: that counts as a progress of −1."
    good = criteria.BULK_PROGRESS.at_least
    does = says.compared(part, 1, f"does better than {plain}", "", f"learns as {plain} does")
    does = does or says.whether(
        part >= good, f"learns nearly as {plain} does", f"falls behind {plain}"
    )
    more, near = "", says.compared(part, 1, near="") == ""
    if len(found) > 1 and interval(found)[0] > 1 and near:
        more = f" It gains a little more than {plain}: the 95% interval over seeds lies above 1."
    if len(found) > 1 and interval(found)[0] <= 1 < part and not near:
        does = f"does at least about as well as {plain}"
        more = (
            f" Whether it does better is open at {len(found)} seeds: the 95% interval reaches down to 1 or "
            "below."
        )
    if len(found) > 1 and part < good and interval(found)[1] >= 1:
        more = " But that is not sure: the 95% interval over seeds reaches up to 1 or above."
    return f"{name} {does}: its progress is {says.mean_of(found, says.share)}.{more}"


def _meaning(study: SwitchStudy, dom: float, bulk: float) -> str:
    """What the two progresses together mean."""
    if not (math.isfinite(dom) and math.isfinite(bulk)):
        return ""
    still = dom <= criteria.DOM_PROGRESS.at_most
    good = bulk >= criteria.BULK_PROGRESS.at_least
    if still and good:
        return "So the part of the update outside the dominant subspace does the learning."
    if still:
        return f"So here neither part of the update does by itself what {study.name('none')} does."
    if good:
        return "So here either part of the update learns by itself."
    return "So here the dominant part learns by itself, and the bulk part alone falls short."


def ended_early(study: SwitchStudy) -> str:
    """Which runs did not come to their end."""
    told = []
    for side in PROJECTIONS:
        runs = study.of(side)
        early = [not run.complete for run in runs]
        if any(early):
            told.append(f"{study.name(side)} ended early in {says.counted(early)}")
    return f"{says.listed(told)}; a cross in the figure marks where." if told else ""


def alignments(study: SwitchStudy) -> Markdown:
    """Late alignments of the full-batch and of the minibatch gradient, beside what each run learns."""
    full, mini = (
        {study.name(side): [tail(run, column) for run in study.of(side)] for side in PROJECTIONS}
        for column in ("alignment", "batch_alignment")
    )
    starts = [float(run.table["train_loss"].iloc[0]) for run in study.of("dominant")]
    dom = says.mean(_progress(study, "dominant", starts))
    high = criteria.ALIGNED.at_least
    values = [says.mean(found) for found in full.values()]
    told = [
        f"Over the last {says.percent(criteria.TAIL)} of the steps the full-batch gradient's alignment is "
        f"{says.each(full, says.share)}; that of the minibatch gradient is "
        f"{says.each(mini, says.share)}."
    ]
    if math.isfinite(values[1]) and values[1] >= high and dom <= criteria.DOM_PROGRESS.at_most:
        least = min(full[study.name("dominant")])
        some = f"On average (lowest seed: {says.share(least)}) the" if least < high else "The"
        told.append(
            f"{some} gradient of {study.name('dominant')} lies mostly in the subspace that it may move "
            "in, and still its loss does not fall. So a high alignment does not say where the "
            "learning happens."
        )
    elif math.isfinite(values[0]):
        told.append(
            f"The gradient of {study.name('none')} lies "
            f"{says.whether(values[0] >= high, 'mostly', 'only in part')} in the dominant subspace."
        )
    return says.answer(*told)


def spectra(study: SwitchStudy) -> Markdown:
    """The gap at k at the end, and the sharpness at the switch and at the end, first seed."""
    k, seed = study.parameters.k, study.parameters.seeds[0]
    edge, told = 2 / study.parameters.learning_rate, []
    gaps = {study.name(side): [late_gap(study.of(side)[0])] for side in PROJECTIONS}
    if any(math.isfinite(gap) for (gap,) in gaps.values()):
        told.append(
            f"At the last full spectrum {says.eigenvalue(k)}/{says.eigenvalue(k + 1)} is "
            f"{says.each(gaps)} (seed {seed})."
        )
    # At the switch all are at one point, but only the branches begin with a refresh there.
    tops = {side: study.of(side)[0].table["eigenvalue_01"].dropna() for side in PROJECTIONS}
    if all(map(len, tops.values())):
        ends = {study.name(side): [float(found.iloc[-1])] for side, found in tops.items()}
        start = says.number(float(tops["dominant"].iloc[0]))
        told.append(
            f"The sharpness λ₁ is {start} at the switch, and at the end {says.each(ends)} (seed {seed})."
        )
    above = []
    for side in PROJECTIONS:
        peaks = [float(run.table["eigenvalue_01"].max()) >= edge for run in study.of(side)]
        above += [f"{study.name(side)} in {says.counted(peaks, 'run')}"] if any(peaks) else []
    over = f"λ₁ comes up to it in {says.listed(above)}" if above else "no run comes to it"
    return says.answer(*told, f"2/η is {says.number(edge)}; {over}.")


def angles(study: SwitchStudy, costs: bool = False) -> Markdown:
    """How exact the basis was, and how much of that a refresh has certified; what it cost below."""
    told = [
        "A refresh's bound is a worst case; between refreshes the angle in use is an estimate, no bound."
    ]
    for side in PROJECTIONS:
        found = [uncertified(run) for run in study.of(side)]
        if any(found):
            told.append(
                f"{study.name(side)}: in {says.mean_of(found, says.percent)} of the steps there is no "
                "bound on the basis's error: the eigenvalues on either side of the cut are too close, or "
                "were not resolved."
            )
    target = study.parameters.target_angle
    turned = {
        side: pd.concat([run.table["turn"].iloc[1:] for run in study.of(side)]).dropna()
        for side in PROJECTIONS
    }
    shares = [
        f"{says.percent((found > target).mean())} of {study.name(side)}'s"
        for side, found in turned.items()
        if len(found)
    ]
    if shares:
        told.append(
            f"Between two rows the basis turned by more than the target, {target:g}, at "
            f"{says.listed(shares)} rows."
        )
    tables = [exactness(study), *([cost(study)] if costs else [])]
    return says.answer(*told, table=Markdown("\n\n".join(t.data for t in tables)))


def _beside(losses: dict[str, list[float]]) -> str:
    """How the losses of Dom-X and Bulk-X stand to that of X: "Dom-SGD is above that of SGD, that of …".

    Near it, the ranges over seeds tell whether there is a difference.
    """
    (plain, base), *others = (
        (name, [value for value in found if math.isfinite(value)]) for name, found in losses.items()
    )
    words = []
    for _, found in others:
        near = says.compared(says.mean(found), says.mean(base), "", "", "near") == "near"
        apart = len(found) > 1 and (min(found) > max(base) or max(found) < min(base))
        where = says.whether(says.mean(found) > says.mean(base), "above", "below")
        little = says.whether(near, "a little ", "")
        words.append(
            says.whether(near and not apart, "about", f"{little}{where}") + f" that of {plain}"
        )
    names = list(losses)
    return f"{names[1]} is {words[0]}, that of {names[2]} {words[1]}"


def test_losses(study: SwitchStudy) -> Markdown:
    """Test loss and accuracy at the end, and whether the order is that of the training loss."""
    loss, accuracy, train = (
        {study.name(side): [tail(run, column) for run in study.of(side)] for side in PROJECTIONS}
        for column in ("test_loss", "test_accuracy", "train_loss")
    )
    percent = {name: [100 * value for value in found] for name, found in accuracy.items()}
    told = [
        f"At the end the test loss is {says.each(loss)}, and the test accuracy in per cent "
        f"{says.each(percent)}."
    ]
    known = (math.isfinite(says.mean(found)) for part in (loss, train) for found in part.values())
    if all(known):
        on_test, on_train = _beside(loss), _beside(train)
        told.append(f"The test loss of {on_test}.")
        told.append(
            says.whether(
                on_train.replace("a little ", "") == on_test.replace("a little ", ""),
                "The training loss says the same.",
                f"The training loss of {on_train}.",
            )
        )
    return says.answer(*told)
