"""C1: late alignment of the full-batch gradient, and the late ratio of eigenvalues at the cut."""

from __future__ import annotations

from subspace_lib.chapters.dominant_subspace.study import AlignmentStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Verdict, part, verdict
from subspace_lib.runs.training import SPECTRUM
from subspace_lib.trajectory import Trajectory, tail

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


def late_gap(run: Trajectory) -> float:
    """λ_k/λ_{k+1} at the last row that has a full spectrum."""
    k, table = run.experiment.k, run.table
    beyond = run.experiment.k + run.experiment.guards + 1  # what a refresh alone does not see
    spectra = table[table[f"eigenvalue_{min(SPECTRUM, beyond):02d}"].notna()]
    last = spectra.iloc[-1]
    return float(last[f"eigenvalue_{k:02d}"] / last[f"eigenvalue_{k + 1:02d}"])
