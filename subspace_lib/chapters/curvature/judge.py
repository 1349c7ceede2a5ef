"""Q7: is the dominant subspace that of the Gauss–Newton matrix?"""

from __future__ import annotations

from subspace_lib.chapters.curvature.study import CurvatureStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import FINDING, Claim, Verdict, part, verdict

CLAIMS = (
    Claim(
        "Q7",
        "The dominant subspace is that of the Gauss–Newton matrix",
        f"at the last anchor: mean squared cosine between the top-k spaces of H and of G "
        f"{criteria.Q7_OVERLAP}, and alignment of the gradient with that of G {criteria.Q7_ALIGNED}",
        name="Gauss–Newton or functional Hessian",
        plain=(
            "The Hessian is a Gauss–Newton matrix and a rest, which holds the second derivatives of the "
            "network. On the MLP, at the end of its training, the first makes the dominant subspace."
        ),
        seen="on the MLP the Gauss–Newton matrix has the dominant subspace of the Hessian",
        kind=FINDING,
    ),
)


def judge(study: CurvatureStudy) -> list[Verdict]:
    """Judged is what the Gauss–Newton matrix has of the space; the other alignments are shown."""
    end = study.at_end
    parts = [
        part("mean squared cosine, H and G", end("overlap", "G"), criteria.Q7_OVERLAP),
        part(
            "alignment of the gradient with G's space", end("alignment", "G"), criteria.Q7_ALIGNED
        ),
        part("alignment with H's space", end("alignment", "H"), None),
        part("alignment with F's space", end("alignment", "F"), None),
    ]
    return [verdict(CLAIMS[0], parts, study.parameters, study.runs.values())]
