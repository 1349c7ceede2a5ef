"""C6: the edge and the alignment before the switch, C2 and C3 for GD, sharpness of Bulk-GD."""

from __future__ import annotations

from subspace_lib.chapters.edge_of_stability.study import EdgeStudy
from subspace_lib.chapters.kit.switch.judge import progress_part
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Verdict, part, verdict
from subspace_lib.trajectory import tail

(C6,) = CLAIMS = (
    Claim(
        "C6",
        "At the edge of stability, self-stabilization causes the alignment",
        f"λ₁ η/2 within {criteria.EDGE} before the switch; alignment {criteria.EDGE_ALIGNED}; C2, C3 for "
        "GD; sharpness of Bulk-GD rises past 2/η, beyond that band",
        name="the edge of stability",
        plain=(
            "At the edge of stability the gradient lies in the dominant subspace without any noise, "
            "by self-stabilization; still Dom-GD fails, and Bulk-GD is as good as GD."
        ),
        seen="at the edge of stability, GD aligns without noise, Dom-GD fails and Bulk-GD does not",
    ),
)


def judge(study: EdgeStudy) -> list[Verdict]:
    """C6 on the runs of the switch."""
    s = study.switch
    sharpness, aligned = [], []
    factor = s.parameters.learning_rate / 2
    for seed, run in zip(s.parameters.seeds, s.of("none"), strict=True):
        before = s.switch_steps[seed] - run.table["step"]
        rows = run.table[(before >= 0) & (before <= criteria.EDGE_WINDOW)]
        sharpness.append(factor * rows["eigenvalue_01"].mean())
        aligned.append(rows["alignment"].mean())
    risen = [factor * tail(run, "eigenvalue_01") for run in s.of("bulk")]
    parts = [
        part("λ₁η/2 of GD before the switch", sharpness, criteria.EDGE),
        part("alignment of GD before the switch", aligned, criteria.EDGE_ALIGNED),
        progress_part(s, "dominant"),
        progress_part(s, "bulk"),
        part("λ₁η/2 of Bulk-GD at the end", risen, criteria.BEYOND_EDGE),
    ]
    return [verdict(C6, parts, s.parameters, s.trajectories.values())]
