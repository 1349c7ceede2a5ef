"""C4's protocol and criteria: alignment under SGD, under GD from the same point, and under SGD again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from subspace_lib.chapters.kit.rows import SPARSE, rows, thinned
from subspace_lib.chapters.kit.study import Source, StudyParameters
from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.evidence.verdicts import Part, part
from subspace_lib.trajectory import Trajectory, window

C4 = (criteria.ALIGNED_BEFORE, criteria.UNALIGNED, criteria.ALIGNED_AGAIN)


def there_and_back(
    p: StudyParameters,
    get: Source,
    seed: int,
    switch_step: int,
    again: int = criteria.AGAIN,
    every: int = 1,
) -> dict[str, Trajectory]:
    """The three runs of C4 by name, each measured from its own start on; a row at every step that counts.

    Or at one in so many (``every``) of these.

    "before": SGD in the 100 steps up to the switch. "GD": at the same η from there, for 10/(η λ_k) steps,
    λ_k as it is at the switch: the slowest of the dominant directions has then shrunk by e⁻¹⁰. Where λ_k
    is small or not positive, for ``p.steps`` steps, or a thousand. "back": SGD again, for ``again`` steps.
    """
    each: dict[str, Any] = {"record_every": every, "spectrum_every": None}
    first = max(0, switch_step - criteria.BEFORE_WINDOW)
    fresh = ((switch_step, switch_step),)  # λ_k of the switch itself
    before = get(
        p.experiment(seed, steps=switch_step, switch_step=first, fresh_spans=fresh, **each)
    )
    end = switch_step + steps_without_noise(before, max(criteria.AGAIN, p.steps))
    sgd = {"until": switch_step, "batch_size": before.experiment.batch_size}
    gd = {"until": end, "batch_size": p.samples}
    full = {"batch_size": p.samples, "before": [sgd], "switch_step": switch_step, "steps": end}
    last = end + again
    back = {"before": [sgd, gd], "switch_step": end, "steps": last}
    window = (max(end, last - criteria.AGAIN_WINDOW), last)
    late = each | rows(max(SPARSE, every), (end, last), *thinned(every, window))
    return {
        "before": before,
        "GD": get(p.experiment(seed, **full, **each)),
        "back": get(p.experiment(seed, **back, **late)),
    }


def steps_without_noise(before: Trajectory, longest: int) -> int:
    """Steps of GD, 10/(η λ_k), λ_k that of the last row, at most ``longest``; of a planned run, a guess."""
    e = before.experiment
    if before.table.empty:
        return criteria.AGAIN
    value = float(before.table[f"eigenvalue_{e.k:02d}"].iloc[-1])
    if not value > criteria.WITHOUT_NOISE / (e.learning_rate * longest):  # NaN too
        return longest
    return math.ceil(criteria.WITHOUT_NOISE / (e.learning_rate * value))


def alignment_before(run: Trajectory) -> float:
    """Mean alignment of SGD's full-batch gradient over the 100 steps before the switch."""
    switch_step = run.experiment.steps
    return window(run, "alignment", switch_step - criteria.BEFORE_WINDOW, switch_step - 1)


def alignment_without(run: Trajectory) -> float:
    """The same of GD over the last tenth of its steps."""
    first, last = run.experiment.switch_step, run.experiment.steps
    return window(run, "alignment", last - criteria.WITHOUT_NOISE_TAIL * (last - first), last)


def alignment_again(run: Trajectory) -> float:
    """The same of SGD again over its last 100 steps."""
    last = run.experiment.steps
    return window(run, "alignment", last - criteria.AGAIN_WINDOW + 1, last)


def noise_parts(
    before: Sequence[float],
    without: Sequence[float],
    again: Sequence[float],
    where: str = "",
    asked: Sequence[Criterion] = C4,
) -> list[Part]:
    """C4's three quantities by seed, judged: SGD, GD, SGD again."""
    aligned, unaligned, returned = asked
    return [
        part(f"alignment under SGD{where}", before, aligned),
        part(f"alignment under GD from there{where}", without, unaligned),
        part(f"alignment under SGD again{where}", again, returned),
    ]
