"""C4's criterion, for networks and small problems: alignment with noise, without, and with it again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Part, part
from subspace_lib.trajectory import Trajectory, tail


def alignment_parts(
    sgd: Sequence[Trajectory],
    gd: Sequence[Trajectory],
    back: Sequence[Trajectory],
    switch_step: int,
    sizes: Sequence[Sequence[float]],
    where: str = "",
) -> list[Part]:
    """SGD, GD and SGD again, and by seed the late alignment in the order of the batch sizes."""
    within = criteria.UNALIGNED_WITHIN
    fallen = []
    for run in gd:
        since = run.table["step"] - switch_step
        rows = run.table[(since > 0) & (since <= within)]
        fallen.append(rows["alignment"].min())
    late, late_back = ([tail(run, "alignment") for run in runs] for runs in (sgd, back))
    falls = [float(-np.diff(by_size).max()) for by_size in sizes]
    return [
        part(f"alignment under SGD{where}", late, criteria.ALIGNED),
        part(f"under GD, lowest within {within} steps{where}", fallen, criteria.UNALIGNED),
        part(f"under SGD again{where}", late_back, criteria.ALIGNED),
        part(f"smallest fall from a batch size to the next{where}", falls, criteria.FALLING),
    ]
