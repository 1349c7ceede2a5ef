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

    A Krylov space that grows from one vector takes the fewest products, but it shows one vector of two
    whose eigenvalues are closer than its tolerance. The other one is an eigenvector of what is left of H
    outside of the block, with an eigenvalue near one of the first k. So that is searched until nothing can
    be above the middle between λ_{k+1} and λ_k. Where something is, a wider search begins anew.

    Raises:
        NonFiniteProduct: a product has NaN or inf.
    """
    pairs = _grown(hessian, theta, k, guards, 1, generator)
    ceiling = _ceiling(pairs, k)
    middle = (ceiling + max(ceiling, float(pairs.values[k - 1]))) / 2
    if missed(hessian, pairs.vectors, ceiling, generator, surely=middle) is None:
        return pairs.vectors
    del pairs  # memory
    return completed(
        hessian, _wide(hessian, theta, k, guards, generator), k, guards, generator
    ).vectors


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
        found = missed(hessian, pairs.vectors, _ceiling(pairs, k), generator)
        if found is None:
            break
        start = stack(pairs.vectors, found)
        del pairs, found  # memory
        pairs = top_eigenpairs(
            hessian, k + 1, start, tolerance=tolerance, max_basis=start.shape[1] + guards
        )
    return pairs


def _wide(
    hessian: Hessian, theta: Tensor, k: int, guards: int, generator: torch.Generator
) -> RitzPairs:
    """k + guards pairs where eigenvalues come in clusters.

    Three columns show no more than three of a cluster. Where k is as small, or three of the k agree, the
    guards may hide the rest of it: then a full block is made to converge, all of it.
    """
    narrow, width = min(3, len(theta)), k + guards
    pairs = _grown(hessian, theta, k, guards, narrow, generator)
    if k <= narrow or comes(pairs.values[:k], narrow, TOLERANCE):
        start = torch.randn(len(theta), width, generator=generator).to(theta)
        pairs = top_eigenpairs(hessian, width, start, tolerance=TOLERANCE)
    return pairs


def _grown(
    hessian: Hessian, theta: Tensor, k: int, guards: int, start: int, generator: torch.Generator
) -> RitzPairs:
    """k pairs, and guards not waited for, from as many random columns as ``start``."""
    width = k + guards
    block = torch.randn(len(theta), start, generator=generator).to(theta)
    # With what is left of the products, and the first block: 3 (k + guards) vectors.
    most = max(2 * (width - start) - 1, width + start)
    return top_eigenpairs(hessian, k, block, extra=guards, tolerance=TOLERANCE, max_basis=most)


def missed(
    hessian: Hessian,
    vectors: Tensor,
    ceiling: float,
    generator: torch.Generator,
    surely: float | None = None,
) -> Tensor | None:
    """Orthonormal vectors (D, b) outside of a block where H exceeds a ceiling; None if Lanczos finds none.

    Args:
        vectors: the block (D, m), orthonormal columns.
        ceiling: what nothing outside should exceed: λ_{k+1} at most, and more than rounding above it.
        surely: a higher level, if it is enough that nothing exceeds that for sure (``exceeds``).

    Raises:
        NonFiniteProduct: a product has NaN or inf.
    """
    start = torch.randn(len(vectors), 1, generator=generator).to(vectors)
    start = orthonormalize(start, vectors)
    found = exceeds(
        Deflated(hessian, vectors), ceiling, start, max_basis=vectors.shape[1], surely=surely
    )
    if found is None:
        return None
    found = orthonormalize(found, vectors)
    return found if found.shape[1] else None


def _ceiling(pairs: RitzPairs, k: int) -> float:
    """λ_{k+1} at most, as these pairs show it, and some rounding more; no certificate takes less than 0."""
    rounding = 100 * torch.finfo(pairs.values.dtype).eps * float(pairs.values.abs().max())
    return max(0.0, float(pairs.values[k] + pairs.residuals[k])) + rounding
