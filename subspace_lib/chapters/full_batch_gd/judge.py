"""C4: the alignment under SGD, GD and SGD again; F1: by batch size, and under artificial noise."""

from __future__ import annotations

import math

import numpy as np

from subspace_lib.chapters.full_batch_gd.study import BatchStudy
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.noise import (
    alignment_again,
    alignment_before,
    alignment_without,
    noise_parts,
)
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Part, Verdict, part, verdict
from subspace_lib.trajectory import tail

C4, F1 = CLAIMS = (
    Claim(
        "C4",
        "Minibatch noise causes the alignment while λ₁ < 2/η",
        f"alignment: SGD up to the switch {criteria.ALIGNED_BEFORE}; GD from there "
        f"{criteria.UNALIGNED} after {criteria.WITHOUT_NOISE:g}/(η λₖ) steps; SGD again "
        f"{criteria.ALIGNED_AGAIN}",
        name="noise causes the alignment",
        plain=(
            "While the sharpness λ₁ stays below 2/η, the noise of minibatches is what makes the "
            "gradient lie in the dominant subspace."
        ),
        seen="below the edge of stability, minibatch noise is what aligns the gradient",
    ),
    Claim(
        "F1",
        "The alignment falls with batch size; it takes noise of SGD's shape",
        f"late alignment at small batch sizes above that at large ones by {criteria.F1_FALLING}; GD with "
        f"noise of SGD's covariance {criteria.F1_SHAPED}, with isotropic noise {criteria.F1_ISOTROPIC}",
        name="batch size, and the noise's shape",
        plain=(
            "Smaller batches align the gradient more, and Gaussian noise does as minibatches do if it "
            "has their covariance, but not if it is isotropic."
        ),
        seen="the alignment falls with batch size, and noise of SGD's shape is what it takes",
        kind="finding",
    ),
)


def judge(study: BatchStudy) -> list[Verdict]:
    """C4 on the runs of the study; F1 where those of all batch sizes are there."""
    p = study.parameters
    c4 = noise_parts(
        [alignment_before(run) for run in study.of("before")],
        [alignment_without(run) for run in study.of("GD")],
        [alignment_again(run) for run in study.of("back")],
    )
    there = [run for name in ("before", "GD", "back") for run in study.of(name)]
    noisy = [run for name in ("shaped", "isotropic") for run in study.of(name)]
    note = study.switch.note()
    verdicts = [verdict(C4, c4, p, there, note)]
    if study.has_sizes:
        told = " ".join(filter(None, [_large_batches(study), note]))
        verdicts.append(verdict(F1, _f1(study), p, [*study.sizes.values(), *noisy], told))
    return verdicts


def _large_batches(study: BatchStudy) -> str:
    """The alignment at the end at each of the large batch sizes: the highest of them decides."""
    large = [size for size in study.batch_sizes() if size >= min(criteria.F1_LARGE)]
    ends = {
        size: says.mean([tail(study.sizes[size, s], "alignment") for s in study.parameters.seeds])
        for size in large
    }
    if len(ends) < 2 or not all(map(math.isfinite, ends.values())):
        return ""
    each = says.listed(
        f"{says.share(value)} at batch size {size:,}" for size, value in ends.items()
    )
    return f"At the end the alignment is {each}."


def _f1(study: BatchStudy) -> list[Part]:
    small, large = max(criteria.F1_SMALL), min(criteria.F1_LARGE)
    falls, lacking = [], False
    for seed in study.parameters.seeds:
        late = {s: tail(study.sizes[s, seed], "alignment") for s in study.batch_sizes()}
        low = [value for size, value in late.items() if size <= small]
        high = [value for size, value in late.items() if size >= large]
        lacking = lacking or not (low and high)
        # Of numpy, whose NaN stays NaN: no run that has diverged is left out.
        falls.append(math.nan if lacking else float(np.min(low) - np.max(high)))
    note = f"no batch size up to {small}, or none from {large:,} on"
    shaped, isotropic = (
        [alignment_again(run) for run in study.of(name)] for name in ("shaped", "isotropic")
    )
    return [
        part(
            f"alignment at the end, its lowest at batch sizes up to {small} less its highest from "
            f"{large:,} on",
            falls,
            criteria.F1_FALLING,
            note if lacking else "",
        ),
        part("alignment under GD with noise of SGD's covariance", shaped, criteria.F1_SHAPED),
        part("under GD with isotropic noise", isotropic, criteria.F1_ISOTROPIC),
    ]
