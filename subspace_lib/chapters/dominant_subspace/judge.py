"""C1: late alignment of the full-batch gradient, and the late ratio of eigenvalues at the cut."""

from __future__ import annotations

from subspace_lib.chapters.dominant_subspace.study import AlignmentStudy
from subspace_lib.chapters.kit.switch.judge import late_gap
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Verdict, part, verdict
from subspace_lib.trajectory import tail

(C1,) = CLAIMS = (
    Claim(
        "C1",
        "Gradients align with the dominant subspace of k outlier eigenvalues",
        f"late alignment of the full-batch gradient {criteria.ALIGNED}, and late λₖ/λₖ₊₁ {criteria.GAP}",
        name="alignment with outlier eigenvalues",
        plain=(
            "The gradient lies mostly in the dominant subspace, and the k eigenvalues of that "
            "subspace stand out from the rest."
        ),
        seen="the gradient lies mostly in the dominant subspace, whose eigenvalues stand out",
    ),
)


def judge(study: AlignmentStudy) -> list[Verdict]:
    """C1 on the plain runs of the study."""
    runs = list(study.plain.values())
    parts = [
        part(
            "alignment of the gradient", [tail(run, "alignment") for run in runs], criteria.ALIGNED
        ),
        part("λₖ/λₖ₊₁ at the last full spectrum", [late_gap(run) for run in runs], criteria.GAP),
    ]
    return [verdict(C1, parts, study.parameters, runs)]
