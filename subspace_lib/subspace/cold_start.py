"""A block from nothing: a search from a few random vectors, and a look for what it has missed."""

from __future__ import annotations

import torch
from torch import Tensor

from subspace_lib.linalg.eigensolver import (
    Deflated,
    RitzPairs,
    comes,
    exceeds,
    orthonormalize,
    stack,
    top_eigenpairs,
)
from subspace_lib.objective import Hessian

TOLERANCE = 1e-3  # residual over λ_1; eigenvalues closer than that can be merged


def cold_start(
    hessian: Hessian, theta: Tensor, k: int, guards: int, generator: torch.Generator
) -> Tensor:
    """The k leading eigenvectors of H(θ) to a tolerance of 1e-3 λ_1, and guards: (D, k + guards or more).

    A Krylov space shows one vector of two whose eigenvalues are closer than its tolerance. The other one
    is the leading eigenvector of what is left of H outside of the block: the search goes on with it until
    nothing out there exceeds λ_{k+1}.

    Raises:
        NonFiniteProduct: a product has NaN or inf.
    """
    pairs = _search(hessian, theta, k, guards, generator)
    for _ in range(k if len(pairs.values) > k else 0):
        missed = _missed(hessian, pairs, k, generator)
        if missed is None:
            break
        start = stack(pairs.vectors, missed)
        del pairs, missed  # memory
        pairs = top_eigenpairs(
            hessian, k + 1, start, tolerance=TOLERANCE, max_basis=start.shape[1] + guards
        )
    return pairs.vectors


def _search(
    hessian: Hessian, theta: Tensor, k: int, guards: int, generator: torch.Generator
) -> RitzPairs:
    """k + guards pairs from a narrow random block.

    Three columns show no more than three of a cluster of eigenvalues. Where k is as small, or three of
    the k agree, the guards may hide the rest of it: then a full block is made to converge, all of it.
    """
    narrow, width = min(3, len(theta)), k + guards
    start = torch.randn(len(theta), narrow, generator=generator).to(theta)
    # With what is left of the products, and the first block: 3 (k + guards) vectors.
    most = max(2 * (width - narrow) - 1, width + narrow)
    pairs = top_eigenpairs(hessian, k, start, extra=guards, tolerance=TOLERANCE, max_basis=most)
    if k <= narrow or comes(pairs.values[:k], narrow, TOLERANCE):
        start = torch.randn(len(theta), width, generator=generator).to(theta)
        pairs = top_eigenpairs(hessian, width, start, tolerance=TOLERANCE)
    return pairs


def _missed(
    hessian: Hessian, pairs: RitzPairs, k: int, generator: torch.Generator
) -> Tensor | None:
    """A unit vector (D, 1) outside of these pairs where H exceeds λ_{k+1}; None if Lanczos finds none."""
    vectors, values = pairs.vectors, pairs.values
    # No certificate takes less than 0 for λ_{k+1}.
    ceiling = max(0.0, float(values[k] + pairs.residuals[k]))
    ceiling += 100 * torch.finfo(values.dtype).eps * float(values.abs().max())
    start = torch.randn(len(vectors), 1, generator=generator).to(vectors)
    start = orthonormalize(start, vectors)
    missed = exceeds(Deflated(hessian, vectors), ceiling, start, max_basis=vectors.shape[1])
    if missed is None:
        return None
    missed = orthonormalize(missed, vectors)
    return missed if missed.shape[1] else None
