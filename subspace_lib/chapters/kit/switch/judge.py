"""C2's and C3's criteria on any switch study: progress of Dom-X and of Bulk-X; C1's gap."""

from __future__ import annotations

import math
from collections.abc import Sequence

from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.evidence.verdicts import Part, part
from subspace_lib.runs.training import SPECTRUM
from subspace_lib.trajectory import Trajectory, progress

BOUNDS = {"dominant": criteria.DOM_PROGRESS, "bulk": criteria.BULK_PROGRESS}


def progress_part(
    study: SwitchStudy,
    projection: str,
    where: str = "",
    criterion: Criterion | None = None,
    at_switch: Sequence[float | None] = (),
) -> Part:
    """Progress of Dom-X or of Bulk-X, one number per seed; by C2's or C3's criterion if none is given.

    ``at_switch`` are the losses L_s by seed where they are not those of the branches' first rows.
    """
    names = study.name("none"), study.name(projection)
    return part_of_pairs(
        f"progress({names[1]}){where}",
        list(zip(study.of("none"), study.of(projection), strict=True)),
        criterion or BOUNDS[projection],
        names,
        at_switch,
    )


def part_of_pairs(
    says: str,
    pairs: Sequence[tuple[Trajectory, Trajectory]],
    criterion: Criterion | None,
    names: tuple[str, str],
    at_switch: Sequence[float | None] = (),
) -> Part:
    """Progress of each pair of X and its branch; the note says where a run diverged or X stood still."""
    starts = at_switch or [None] * len(pairs)
    found = [progress(*pair, start) for pair, start in zip(pairs, starts, strict=True)]
    told = []
    for name, runs in zip(names, zip(*pairs, strict=True), strict=True):
        diverged = sum(not run.complete for run in runs)
        if diverged:
            told.append(f"{diverged} of {len(runs)} runs of {name} diverged")
    idle = sum(
        math.isnan(value) and plain.complete for (plain, _), value in zip(pairs, found, strict=True)
    )
    if idle:
        least = f"less than {criteria.MINIMUM_GAIN:.0%} of the loss at the switch"
        told.append(f"{names[0]} gained {least} in {idle} of {len(found)} runs")
    return part(says, found, criterion, "; ".join(told))


def late_gap(run: Trajectory) -> float:
    """λ_k/λ_{k+1} at the last row that has a full spectrum; NaN where none has."""
    k, table = run.experiment.k, run.table
    beyond = k + run.experiment.guards + 1  # what a refresh alone does not see
    spectra = table[table[f"eigenvalue_{min(SPECTRUM, beyond):02d}"].notna()]
    if spectra.empty:
        return math.nan
    last = spectra.iloc[-1]
    return float(last[f"eigenvalue_{k:02d}"] / last[f"eigenvalue_{k + 1:02d}"])
