"""C7: C2 and C3 for SAM, with minibatches and with the full batch."""

from __future__ import annotations

from subspace_lib.chapters.kit.switch.judge import progress_part
from subspace_lib.chapters.sam.study import SamStudy
from subspace_lib.evidence.verdicts import Claim, Part, Verdict, verdict
from subspace_lib.trajectory import Trajectory

(C7,) = CLAIMS = (
    Claim(
        "C7",
        "The same holds for SAM, below its edge of stability and at it",
        "C2, C3 for SAM with minibatches and with the full batch",
        name="SAM",
        plain=(
            "Dom-SAM stops and Bulk-SAM goes on, with minibatches and, at SAM's edge of stability, "
            "with the full batch."
        ),
        seen="the same holds for SAM",
    ),
)


def judge(study: SamStudy) -> list[Verdict]:
    """C7 on the runs of both switches."""
    parts: list[Part] = []
    runs: list[Trajectory] = []
    for where, s in ((", minibatch", study.minibatch), (", full batch", study.edge)):
        parts += [progress_part(s, projection, where) for projection in ("dominant", "bulk")]
        runs += s.trajectories.values()
    return [verdict(C7, parts, study.minibatch.parameters, runs)]
