"""C6: GD at the edge, Dom-GD, Bulk-GD; F5: the sharpness of Bulk-GD; F7: when the alignment comes."""

from __future__ import annotations

import contextlib

from subspace_lib.chapters.edge_of_stability.approach import NAMES, approach, briefly
from subspace_lib.chapters.edge_of_stability.study import EdgeStudy
from subspace_lib.chapters.kit.edge import edge_parts
from subspace_lib.chapters.kit.study import there
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Part, Verdict, part, verdict
from subspace_lib.results.store import MissingRun
from subspace_lib.trajectory import Trajectory, tail, window

C6, F5, F7 = CLAIMS = (
    Claim(
        "C6",
        "At the edge of stability the gradient aligns without noise; Dom-GD fails, Bulk-GD does not",
        f"over the {criteria.EDGE_WINDOW} steps before the switch λ₁ η/2 within {criteria.EDGE} and "
        f"alignment {criteria.EDGE_ALIGNED}; gain of Dom-GD after its bounce {criteria.DOM_EDGE_GAIN} of "
        f"GD's; progress(Bulk-GD) {criteria.BULK_PROGRESS}",
        name="the edge of stability",
        plain=(
            "At the edge of stability the gradient lies in the dominant subspace without any noise; "
            "still Dom-GD fails, and Bulk-GD is as good as GD or better. (The paper's explanation, "
            "self-stabilization, is not judged.)"
        ),
        seen="at the edge of stability GD's gradient aligns without noise, Dom-GD fails, Bulk-GD does not",
    ),
    Claim(
        "F5",
        "Without the dominant part, the sharpness passes 2/η",
        f"λ₁ η/2 of Bulk-GD at the end {criteria.BEYOND_EDGE}",
        name="sharpness of Bulk-GD",
        plain="Without the dominant part nothing holds λ₁ at 2/η: the sharpness of Bulk-GD goes past it.",
        seen="the sharpness of Bulk-GD passes 2/η",
        kind="finding",
    ),
    Claim(
        "F7",
        "With a small η GD's gradient aligns soon after λ₁ has reached 2/η, and hardly on the way there",
        f"mean alignment below the edge {criteria.F7_BEFORE}; highest in the {criteria.F7_WITHIN:,} steps "
        f"from the edge on {criteria.F7_AT_EDGE}; mean squared error and cross-entropy",
        name="the way to the edge",
        plain=(
            "On its way to the edge of stability the gradient of GD with a small learning rate does not "
            "lie in the dominant subspace, once the first tenth of that way is over. Soon after GD has "
            "reached the edge it does, at least for a while. Both losses are asked."
        ),
        seen=(
            f"within {criteria.F7_WITHIN:,} steps at λ₁ = 2/η GD's gradient is aligned at one recorded "
            "step or more (so F7 is judged), and on the way there hardly, its first tenth left out"
        ),
        kind="finding",
    ),
)
AT_THE_EDGE = f"mean alignment in the {criteria.F7_WITHIN:,} steps from the edge on"


def judge(study: EdgeStudy) -> list[Verdict]:
    """C6 and F5 on the runs of the switch, F7 on those that come to the edge, if they are stored."""
    s, p = study.switch, study.parameters
    factor = p.learning_rate / 2
    before = [
        (run, s.switch_steps[seed] - criteria.EDGE_WINDOW, s.switch_steps[seed] - 1)
        for seed, run in zip(p.seeds, s.of("none"), strict=True)
    ]
    sharpness = [factor * window(run, "eigenvalue_01", *steps) for run, *steps in before]
    aligned = [window(run, "alignment", *steps) for run, *steps in before]
    parts = [
        part("λ₁η/2 of GD before the switch", sharpness, criteria.EDGE),
        part("alignment of GD before the switch", aligned, criteria.EDGE_ALIGNED),
        *edge_parts(s),
    ]
    verdicts = [
        verdict(C6, parts, p, s.trajectories.values(), s.doubts()),
        verdict(F5, _beyond(study), p, s.of("bulk")),
    ]
    with contextlib.suppress(MissingRun):
        verdicts.append(verdict(F7, _approaching(study), p, _judged(study), briefly(study)))
    return verdicts


def _judged(study: EdgeStudy) -> list[Trajectory]:
    """The runs with the largest η of their loss."""
    largest = study.parameters.largest
    return [run for (loss, rate, _), run in study.approaches.items() if rate == largest(loss)]


def _beyond(study: EdgeStudy) -> list[Part]:
    bulk, p = study.switch.of("bulk"), study.parameters
    first, next_one = (
        [p.learning_rate / 2 * tail(run, f"eigenvalue_{i:02d}") for run in bulk]
        for i in (1, p.k + 1)
    )
    following = f"eigenvalue_{p.k + 1:02d}"
    onward = [p.learning_rate / 2 * tail(run, following) for run in there(study.onward).values()]
    where = f"λₖ₊₁η/2 of Bulk-GD after {p.onward_steps:,} steps, first seed"
    return [
        part("λ₁η/2 of Bulk-GD at the end", first, criteria.BEYOND_EDGE),
        part("λₖ₊₁η/2 of Bulk-GD at the end, the first outside of the subspace", next_one, None),
        *([part(where, onward, None)] if onward else []),
    ]


def _approaching(study: EdgeStudy) -> list[Part]:
    """Of each loss and η: the alignment below the edge, and at it where that is to be reached."""
    parts: list[Part] = []
    p = study.parameters
    for loss, rate in zip(p.approach_losses, p.approach_rates, strict=True):
        found = [approach(run) for way, run in study.approaches.items() if way[:2] == (loss, rate)]
        where = f", {NAMES[loss]}, η = {rate:g}"
        below = [each.before for each in found]
        if rate < p.largest(loss):
            parts.append(part(f"mean alignment below the edge{where}", below, None))
            continue
        absent = sum(each.arrival is None for each in found)
        note = f"λ₁ did not reach 2/η in {absent} of {len(found)} runs" if absent else ""
        highest = [each.highest for each in found]
        parts += [
            part(f"mean alignment below the edge{where}", below, criteria.F7_BEFORE),
            part(f"highest alignment at the edge{where}", highest, criteria.F7_AT_EDGE, note),
            part(
                f"{AT_THE_EDGE}{where}",
                [each.mean for each in found],
                None,
            ),
        ]
    return parts
