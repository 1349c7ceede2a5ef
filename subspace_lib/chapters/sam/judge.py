"""C7: C2 and C3 for SAM with minibatches, C6's two for the full batch at SAM's edge."""

from __future__ import annotations

from subspace_lib.chapters.kit.edge import edge_parts
from subspace_lib.chapters.kit.switch.judge import progress_part
from subspace_lib.chapters.sam.study import SamStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Verdict, verdict

(C7,) = CLAIMS = (
    Claim(
        "C7",
        "Dom-SAM fails and Bulk-SAM does not, below SAM's edge of stability and at it",
        f"with minibatches, progress(Dom-SAM) {criteria.DOM_PROGRESS} and progress(Bulk-SAM) "
        f"{criteria.BULK_PROGRESS}; with the full batch, what Dom-SAM gains once its bounce has died out "
        f"{criteria.DOM_EDGE_GAIN} of what SAM gains, and progress(Bulk-SAM) {criteria.BULK_PROGRESS}",
        name="SAM",
        plain=(
            "Dom-SAM stops and Bulk-SAM goes on, with minibatches and, at SAM's edge of stability, "
            "with the full batch."
        ),
        seen="with SAM, Dom-SAM fails and Bulk-SAM does as well as SAM",
    ),
)


def judge(study: SamStudy) -> list[Verdict]:
    """C7 on the runs of both switches; not on the pilot."""
    mini, edge = study.minibatch, study.edge
    asked = {"dominant": criteria.SAM_DOM, "bulk": criteria.SAM_BULK}
    parts = [progress_part(mini, side, ", minibatch", bound) for side, bound in asked.items()]
    parts += edge_parts(edge, ", full batch", criteria.SAM_EDGE_GAIN, criteria.SAM_BULK)
    runs = [*mini.trajectories.values(), *edge.trajectories.values()]
    notes = (mini.note(), mini.doubts(", minibatch"), edge.doubts(", full batch"))
    return [verdict(C7, parts, mini.parameters, runs, " ".join(filter(None, notes)))]
