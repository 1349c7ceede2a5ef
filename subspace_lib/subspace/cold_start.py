"""A block from nothing: a search from a few random vectors, and a look for what it has missed."""

from __future__ import annotations

import torch
from torch import Tensor

from subspace_lib.linalg.eigensolver import (
    Deflated,
    RitzPairs,
    direction_above,
    orthonormalize,
    repeated,
    rotate_,
    stack,
    top_eigenpairs,
)
from subspace_lib.objective import Hessian
from subspace_lib.subspace.advance import Multiplied
from subspace_lib.subspace.block import columnwise_copy

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
    return completed(hessian, pairs, k, guards, generator).vectors


def solved_anew(
    hessian: Hessian, multiplied: Multiplied, k: int, guards: int, generator: torch.Generator
) -> Tensor:
    """The leading eigenvectors of H, k + 1 at least, from a block where θ_k ≤ 0 forbids a power step.

    The first guard has to converge too, or it could hide an eigenvalue from the next certificate.
    """
    start = rotate_(columnwise_copy(multiplied.columns), multiplied.rotation)
    pairs = top_eigenpairs(hessian, k + 1, start)
    return completed(hessian, pairs, k, guards, generator, tolerance=1e-4).vectors


def completed(
    hessian: Hessian,
    pairs: RitzPairs,
    k: int,
    guards: int,
    generator: torch.Generator,
    tolerance: float = TOLERANCE,
) -> RitzPairs:
    """These pairs, or with what they have missed: until nothing outside of them exceeds λ_{k+1}."""
    for _ in range(k if len(pairs.values) > k else 0):
        found = directions_missed(hessian, pairs.vectors, _ceiling(pairs, k), generator)
        if found is None:
            break
        start = stack(pairs.vectors, found)
        del pairs, found  # memory
        pairs = top_eigenpairs(
            hessian, k + 1, start, tolerance=tolerance, max_basis=start.shape[1] + guards
        )
    return pairs


def _search(
    hessian: Hessian, theta: Tensor, k: int, guards: int, generator: torch.Generator
) -> RitzPairs:
    """k + guards pairs from a narrow random block.

    Three columns show no more than three of a cluster of eigenvalues. Where k is as small, or three of
    the k agree, the guards may hide the rest of it: then a full block is made to converge, all of it.
    """
    narrow, width = min(3, len(theta)), k + guards
    start = torch.randn(len(theta), narrow, generator=generator, device="cpu").to(theta)
    # With what is left of the products, and the first block: 3 (k + guards) vectors.
    most = max(2 * (width - narrow) - 1, width + narrow)
    pairs = top_eigenpairs(hessian, k, start, extra=guards, tolerance=TOLERANCE, max_basis=most)
    if k <= narrow or repeated(pairs.values[:k], narrow, TOLERANCE):
        start = torch.randn(len(theta), width, generator=generator, device="cpu").to(theta)
        pairs = top_eigenpairs(hessian, width, start, tolerance=TOLERANCE)
    return pairs


def directions_missed(
    hessian: Hessian, vectors: Tensor, ceiling: float, generator: torch.Generator
) -> Tensor | None:
    """Orthonormal vectors (D, b) outside of a block where H exceeds a ceiling; None if Lanczos finds none.

    Args:
        vectors: the block (D, m), orthonormal columns.
        ceiling: what nothing outside should exceed: λ_{k+1} at most, and more than rounding above it.

    Raises:
        NonFiniteProduct: a product has NaN or inf.
    """
    start = torch.randn(len(vectors), 1, generator=generator, device="cpu").to(vectors)
    start = orthonormalize(start, vectors)
    found = direction_above(Deflated(hessian, vectors), ceiling, start, max_basis=vectors.shape[1])
    if found is None:
        return None
    found = orthonormalize(found, vectors)
    return found if found.shape[1] else None


def _ceiling(pairs: RitzPairs, k: int) -> float:
    """λ_{k+1} at most, as these pairs show it, and some rounding more; no certificate takes less than 0."""
    rounding = 100 * torch.finfo(pairs.values.dtype).eps * float(pairs.values.abs().max())
    return max(0.0, float(pairs.values[k] + pairs.residuals[k])) + rounding
