"""What the figures of chapter 13 show, in words that their numbers choose."""

from __future__ import annotations

import math

import numpy as np
from IPython.display import Markdown

from subspace_lib.chapters.follow_ups.judge import fall, gain, sharpness
from subspace_lib.chapters.follow_ups.study import FASTER, METHODS, SGD, FollowUpStudy
from subspace_lib.chapters.follow_ups.tables import critical
from subspace_lib.chapters.kit import page, says
from subspace_lib.evidence import criteria
from subspace_lib.trajectory import tail


def opening(study: FollowUpStudy) -> Markdown:
    """What was seen of the three, in a sentence each."""
    runs = list(study.plain.values())
    late = [tail(run, "alignment") for run in runs]
    told = [
        f"The alignment of SGD's gradient falls by {says.mean_of(map(fall, runs), says.share)} within "
        f"{criteria.Q9_EARLY:,} steps. At the end it is {says.mean_of(late, says.share)}."
    ]
    return page.told(study.parameters, *told)


@says.known
def weights(study: FollowUpStudy) -> Markdown:
    """Which weights gain most, which diverge, and what twice the bulk brings."""
    p, seed = study.parameters, study.parameters.seeds[0]
    base = gain(study.weighted[SGD, seed])
    gains = {w: gain(run) / base for (w, s), run in study.weighted.items() if s == seed}
    lost = [w for w, value in gains.items() if not math.isfinite(value)]
    best = max((w for w in gains if w not in lost), key=lambda w: gains[w])
    twice = [gain(study.weighted[FASTER, s]) / gain(study.weighted[SGD, s]) for s in study.repeated]
    return says.answer(
        f"After {p.weighted_steps:,} steps the largest gain is {says.number(gains[best])} times that of "
        f"SGD, with α = {best[0]:g} and β = {best[1]:g}.",
        f"Twice the bulk part alone gives {says.mean_of(twice)} times.",
        f"{len(lost)} of the {len(gains)} runs diverged, with "
        f"{says.listed(f'({a:g}, {b:g})' for a, b in lost)}."
        if lost
        else "None diverged.",
        "A run with weights costs what Bulk-SGD costs: chapter 12 has it over plain SGD.",
    )


@says.known
def noise(study: FollowUpStudy) -> Markdown:
    """Where the sharpness of the three ends."""
    ends = {m: [sharpness(study.noise[m, seed]) for seed in study.repeated] for m in METHODS}
    sgd, gd, averaged = (says.mean(ends[m]) for m in METHODS)
    lower = says.compared(sgd, gd, "raises", "lowers", "does not change")
    told = f"λ₁ ends at {says.each(ends)}. Minibatch noise {lower} it here."
    if abs(sgd - gd) <= says.LEVEL * gd:
        return says.answer(told)
    share = (gd - averaged) / (gd - sgd)
    return says.answer(
        told,
        f"Averaging over the noise in the dominant directions makes up {says.percent(max(0.0, share))} of "
        "the difference.",
        says.whether(
            criteria.Q8_SHARE.at_least <= share <= criteria.Q8_SHARE.at_most,
            "So it is the noise along the steep directions that does it.",
            "So more than the second-order mean of the noise along the steep directions is at work.",
        ),
    )


def early(study: FollowUpStudy) -> Markdown:
    """Fall and rise of the alignment, and on which side of the critical learning rate SGD is."""
    runs = list(study.plain.values())
    found = [critical(run) for run in runs]
    sides = {
        "before": [r[r.index < s].median() for r, s in zip(found, _switches(study), strict=True)],
        "after": [r[r.index >= s].median() for r, s in zip(found, _switches(study), strict=True)],
    }
    first = [float(run.table["alignment"].iloc[0]) for run in runs]
    late = [tail(run, "alignment") for run in runs]
    low = [a - fall(run) for a, run in zip(first, runs, strict=True)]
    after = says.mean(sides["after"])
    return says.answer(
        f"The alignment begins at {says.mean_of(first, says.share)}, falls to "
        f"{says.mean_of(low, says.share)} and ends at {says.mean_of(late, says.share)}.",
        f"The critical learning rate is {says.mean_of(sides['before'])} η before the switch and "
        f"{says.mean_of(sides['after'])} η after it (medians over rows)."
        if np.isfinite(after)
        else "",
        says.whether(
            after > 1,
            "So after the switch a dominant step of one batch lowers the loss in most rows.",
            "So after the switch a dominant step of one batch raises the loss in most rows.",
        )
        if np.isfinite(after)
        else "",
    )


def _switches(study: FollowUpStudy) -> list[int]:
    return [study.switches[seed] for seed in study.plain]
