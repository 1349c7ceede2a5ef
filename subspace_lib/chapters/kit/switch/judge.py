"""C2's and C3's criteria on any switch study: progress of Dom-X and of Bulk-X."""

from __future__ import annotations

import math
from collections.abc import Sequence

from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.evidence.verdicts import Part, part
from subspace_lib.trajectory import Trajectory, progress

BOUNDS = {"dominant": criteria.DOM_PROGRESS, "bulk": criteria.BULK_PROGRESS}


def progress_part(
    study: SwitchStudy, projection: str, where: str = "", criterion: Criterion | None = None
) -> Part:
    """Progress of Dom-X or of Bulk-X, one number per seed; by C2's or C3's criterion if none is given."""
    names = study.name("none"), study.name(projection)
    return part_of_pairs(
        f"progress({names[1]}){where}",
        list(zip(study.of("none"), study.of(projection), strict=True)),
        criterion or BOUNDS[projection],
        names,
    )


def part_of_pairs(
    says: str,
    pairs: Sequence[tuple[Trajectory, Trajectory]],
    criterion: Criterion,
    names: tuple[str, str],
) -> Part:
    """Progress of each pair of X and its branch; where it is undefined, the part's note says why."""
    found = [progress(*pair) for pair in pairs]
    told = []
    for name, runs in zip(names, zip(*pairs, strict=True), strict=True):
        diverged = sum(not run.complete for run in runs)
        if diverged:
            told.append(f"{diverged} of {len(runs)} runs of {name} diverged")
    idle = sum(
        math.isnan(value) and all(run.complete for run in pair)
        for pair, value in zip(pairs, found, strict=True)
    )
    if idle:
        told.append(f"{names[0]} gained nothing after the switch in {idle} of {len(found)} runs")
    return part(says, found, criterion, "; ".join(told))
