"""C4: the alignment of the full-batch gradient under SGD, GD, SGD again, and other batch sizes."""

from __future__ import annotations

from subspace_lib.chapters.full_batch_gd.study import BatchStudy
from subspace_lib.chapters.kit.noise import alignment_parts
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Verdict, verdict
from subspace_lib.trajectory import tail

(C4,) = CLAIMS = (
    Claim(
        "C4",
        "Minibatch noise causes the alignment while λ₁ < 2/η",
        f"alignment: SGD {criteria.ALIGNED}, GD {criteria.UNALIGNED} within {criteria.UNALIGNED_WITHIN} "
        f"steps, back {criteria.ALIGNED}; falling with batch size",
        name="noise causes the alignment",
        plain=(
            "While the sharpness λ₁ stays below 2/η, the noise of minibatches is what makes the "
            "gradient lie in the dominant subspace."
        ),
        seen="below the edge of stability, minibatch noise is what aligns the gradient",
    ),
)


def judge(study: BatchStudy) -> list[Verdict]:
    """C4 on the branches of the study."""
    p = study.parameters
    sizes = [
        [tail(study.sizes[size, seed], "alignment") for size in study.batch_sizes()]
        for seed in p.seeds
    ]
    runs = (study.of("SGD"), study.of("GD"), study.of("back"))
    parts = alignment_parts(*runs, p.switch_step, sizes)
    return [verdict(C4, parts, p, [*study.runs.values(), *study.sizes.values()])]
