"""Top eigenpairs of a symmetric operator given by its block products. Linear algebra only.

An operator is anything with ``operator @ V`` of shape (D, m) for V of shape (D, m): a matrix, or a
``Hessian``. Vectors stay in torch, on the device and in the dtype of the start block. "Largest" is
meant algebraically: −50 is below 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

SLICE = 8192  # rows at a time where a second block would cost memory


class Operator(Protocol):
    """A symmetric linear map of R^D."""

    def __matmul__(self, block: Tensor) -> Tensor: ...


class NonFiniteProduct(ArithmeticError):
    """A block product has NaN or inf: the loss has diverged, or the operator is broken."""


@dataclass(frozen=True)
class RitzPairs:
    """Approximate eigenpairs, largest Ritz value first.

    Attributes:
        values: Ritz values (m,).
        vectors: orthonormal Ritz vectors (D, m).
        residuals: ‖A v − λ v‖ of each pair (m,).
        products: single-vector products spent.
        converged: whether the first k residuals are within the tolerance asked for.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    converged: bool


def multiply(operator: Operator, block: Tensor) -> Tensor:
    """``operator @ block``, checked to be finite.

    Raises:
        NonFiniteProduct: the product has NaN or inf.
    """
    product = operator @ block
    if not torch.isfinite(product.sum()):  # a sum is finite only where all terms are
        raise NonFiniteProduct(
            "A Hessian product has NaN or inf: the loss has diverged; lower learning_rate."
        )
    return product


def orthonormalize(block: Tensor, against: Tensor | None = None) -> Tensor:
    """Orthonormal basis of ``block`` (D, m), orthogonal to the columns of ``against`` (D, q).

    Directions that depend on the rest to working precision are dropped, so the result may have fewer
    columns than m. Two sweeps: one loses orthogonality where columns nearly depend.
    """
    tiny = 100 * torch.finfo(block.dtype).eps
    norms = block.norm(dim=0)
    block = block[:, norms > 0] / norms[norms > 0]
    for _ in range(2):
        if against is not None and against.shape[1]:
            block = block - against @ (against.T @ block)
        if not block.shape[1]:
            return block
        values, vectors = torch.linalg.eigh(block.T @ block)
        keep = values > tiny * values.max().clamp_min(tiny)
        if (
            against is not None
        ):  # what is left of a unit column after projection must be more than noise
            keep &= values > tiny**1.5
        block = block @ (vectors[:, keep] / values[keep].sqrt())
    return block


def rayleigh_ritz(basis: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """Ritz values, and the rotation Y to Ritz vectors, from an orthonormal basis Q and A Q (D, q).

    Solves (QᵀAQ) y = θ y; returns θ (q,) in descending order and Y (q, q): the Ritz vectors are Q Y,
    their products A Q Y.
    """
    small = (basis.T @ product).double()
    values, rotation = torch.linalg.eigh((small + small.T) / 2)
    return values.flip(0).to(basis.dtype), rotation.flip(1).to(basis.dtype)


def rotate_(block: Tensor, rotation: Tensor) -> Tensor:
    """``block @ rotation`` in the memory of ``block`` (D, m), rotation (m, c) with c ≤ m; returns (D, c).

    Done in slices of rows, so that no second block is needed.
    """
    columns = rotation.shape[1]
    for rows in block.split(SLICE):
        rows[:, :columns] = rows @ rotation
    return block[:, :columns]


def residual_gram(basis: Tensor, product: Tensor) -> Tensor:
    """EᵀE in float64 (q, q) for E = A Q − Q (QᵀAQ), from an orthonormal basis Q and A Q (D, q).

    The residuals of Ritz pairs θ, Q Y are E Y, so that their squared norms are the diagonal of YᵀEᵀE Y.
    """
    small = basis.T @ product
    small = (small + small.T) / 2
    gram = small.new_zeros(small.shape, dtype=torch.float64)
    for q, w in zip(basis.split(SLICE), product.split(SLICE), strict=True):
        rest = w - q @ small
        gram += rest.T @ rest
    return gram


def top_eigenpairs(
    operator: Operator,
    k: int,
    start: Tensor,
    *,
    extra: int = 0,
    tolerance: float = 1e-3,
    angle: float | None = None,
    max_products: int = 2000,
    max_basis: int | None = None,
) -> RitzPairs:
    """The k algebraically largest eigenpairs by a block Krylov method with thick restart.

    The basis grows by the principal directions of the wanted pairs' residuals (full
    reorthogonalization, two sweeps), as many as still exceed the tolerance, and is cut back to the
    leading Ritz vectors when it reaches ``max_basis`` columns. From a random start of b columns this is
    the block Lanczos method: b = 3 takes the fewest products that still see a triple eigenvalue. A warm
    start is a block of k or more columns near the wanted vectors.

    Args:
        operator: symmetric A of shape (D, D), given by its products.
        k: how many pairs, 1 ≤ k ≤ D.
        start: (D, b), b ≥ 1; need not be orthonormal. A Krylov space of b columns holds no more than b
            vectors of a multiple eigenvalue: where 1 < b < k and one of the k values comes b times, the
            search begins anew with a random block of k columns or more. b = 1 cannot tell.
        extra: pairs to return beyond the first k, not waited for.
        tolerance: on ‖A v − λ v‖, relative to the largest |λ| seen; it must be below |λ|/10 as well.
        angle: stop earlier, when ``angle_bound`` certifies this sine for the first k vectors.
        max_products: budget; when it is spent, what has been reached is returned with
            ``converged=False``.
        max_basis: columns kept at most, default 3 (max(b, k + extra) + 4).

    Returns:
        max(b, k + extra) pairs, or D if that is less.

    Raises:
        ValueError: k outside 1 … D, or an empty start block.
        NonFiniteProduct: a product has NaN or inf.

    Source: Davidson 1975 without preconditioner; thick restart as in Stathopoulos, Saad, Wu 1998.
    """
    dim, width = start.shape
    if not 1 <= k <= dim:
        raise ValueError(f"k = {k} must lie between 1 and D = {dim}.")
    if width < 1:
        raise ValueError("The start block has no columns; it needs at least one.")
    wanted = min(dim, max(width, k + extra))
    limit = min(dim, max_basis or 3 * (wanted + 4))
    generator = torch.Generator(device="cpu").manual_seed(0)
    basis = _fill(orthonormalize(start), min(width, dim), generator)
    product = multiply(operator, basis)
    products = basis.shape[1]
    while True:
        values, rotation = rayleigh_ritz(basis, product)
        basis, product = rotate_(basis, rotation), rotate_(product, rotation)
        size = basis.shape[1]
        gram = residual_gram(basis, product)
        norms = gram.diagonal().sqrt()
        goal = _goal(values, k, tolerance)
        done = size >= min(k, dim) and bool((norms[:k] <= goal[:k]).all())
        if angle is not None and not done and size > k:
            ceiling = float(values[k]) + float(norms[k])
            done = angle_bound(values[:k], gram[:k, :k], ceiling) <= angle
        if done and 1 < width < k and comes(values[:k], width, tolerance):
            wide = _fill(basis[:, :0], wanted, generator)
            again = top_eigenpairs(
                operator, k, wide, extra=extra, tolerance=tolerance, angle=angle,
                max_products=max(wanted, max_products - products), max_basis=max_basis,
            )  # fmt: skip
            return replace(again, products=again.products + products)
        if (done and size >= wanted) or products >= max_products or size >= dim:
            kept = slice(0, min(wanted, size))
            return RitzPairs(values[kept], basis[:, kept], norms[kept].to(values), products, done)
        if done or (
            size < k and not (norms > goal).any()
        ):  # too few pairs, and nothing left to improve
            fresh = _fill(basis, size + 1, generator)[:, size:]
        else:
            fresh = _directions(basis, product, values, gram, goal, k)
            if not fresh.shape[1]:  # residuals at the limit of precision: look elsewhere once
                fresh = _fill(basis, size + 1, generator)[:, size:]
        if size + fresh.shape[1] > limit:
            keep = min(wanted + 4, size, limit - fresh.shape[1])
            basis, product = basis[:, :keep], product[:, :keep]
        fresh = fresh[:, : max_products - products]
        basis = stack(basis, fresh)
        product = stack(product, multiply(operator, fresh))
        products += fresh.shape[1]


def comes(values: Tensor, times: int, tolerance: float) -> bool:
    """Whether one of these values (m,), descending, comes that many times, to tolerance · max |value|."""
    apart = values[: len(values) - times + 1] - values[times - 1 :]
    return bool((apart <= tolerance * values.abs().max()).any())


def _goal(values: Tensor, k: int, tolerance: float) -> Tensor:
    """The residual norm that each pair has to reach."""
    scale = values.abs().max().clamp_min(torch.finfo(values.dtype).tiny)
    # A random vector of a large operator has a small residual too, but a Ritz value smaller still.
    own = 0.1 * values.abs() + 100 * torch.finfo(values.dtype).eps * scale
    return own.clamp_max(tolerance * float(scale)).double()


def _directions(
    basis: Tensor, product: Tensor, values: Tensor, gram: Tensor, goal: Tensor, k: int
) -> Tensor:
    """Where to expand: the principal directions of the first k residuals that miss their goals."""
    k = min(k, len(gram))
    relative = gram[:k, :k] / goal[:k, None] / goal[:k]
    sizes, mix = torch.linalg.eigh(relative)
    mix = (mix[:, sizes > 0.25] / goal[:k, None]).to(basis.dtype)
    residual = product[:, :k] @ mix - basis[:, :k] @ (values[:k, None] * mix)
    return orthonormalize(residual, against=basis)


def power_step(
    basis: Tensor, product: Tensor, values: Tensor, rotation: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Advance a basis V of the dominant subspace by the product W = A V that ``rayleigh_ritz`` has seen.

    Solves the pencil (VᵀAV) z = μ (WᵀW) z and returns 1/μ and W Z, orthonormal: one product per vector
    where an expansion by residuals takes two. It is a Rayleigh–Ritz step for the inverse of A on
    span(A V). That overrates a direction in which large positive and negative curvatures cancel: a Ritz
    vector v beyond the first k takes part only when its own estimate ‖A v‖²/(vᵀAv) stays below θ_k; the
    others advance to A v + ‖A v‖ v, which damps what is negative.

    Args:
        basis: V (D, m), orthonormal columns; product: W (D, m), overwritten.
        values, rotation: what ``rayleigh_ritz(basis, product)`` gives.
        k: size of the dominant part; θ_k must be positive.

    Returns:
        Eigenvalue estimates (m,), and vectors (D, m), orthonormal; the first k descend.

    Source: subspace iteration, Saad, Numerical Methods for Large Eigenvalue Problems, 2011, ch. 5.
    """
    turn = rotation.double()
    gram = turn.T @ (product.T @ product).double() @ turn
    norms = gram.diagonal().clamp_min(0).sqrt()
    kept = (values > 1e-3 * values[0]) & (norms.square() / values < values[k - 1])
    kept[:k] = True
    other = None
    if not kept.all():
        left = rotation[:, ~kept]
        other = product @ left + basis @ (left * norms[~kept].to(left.dtype))
    # In the coordinates V Y θ^(-1/2) the pencil is an ordinary eigenproblem.
    scale = values[kept].double().rsqrt()
    estimates, mix = torch.linalg.eigh(gram[kept][:, kept] * scale * scale[:, None])
    estimates, mix = estimates.flip(0), mix.flip(1)
    mix = turn[:, kept] @ (scale[:, None] * mix / estimates.sqrt())
    moved = rotate_(product, mix.to(product.dtype))
    estimates = estimates.to(values.dtype)
    if other is None:
        return estimates, moved
    # Members of a cluster around θ_k go right behind the first k, what has little curvature last.
    near = int((values[~kept] > 0.85 * values[k - 1]).sum())
    front = orthonormalize(other[:, :near], against=moved)
    back = orthonormalize(other[:, near:], against=stack(moved, front))
    moved = stack(moved[:, :k], front, moved[:, k:], back)
    rest = values[~kept]
    rest = rest[: front.shape[1]], rest[near : near + back.shape[1]]
    return torch.cat([estimates[:k], rest[0], estimates[k:], rest[1]]), moved


def angle_bound(values: Tensor, gram: Tensor, ceiling: float) -> float:
    """Bound on the sine of the largest angle between k Ritz vectors and the exact eigenvectors.

    With R = A V − V Θ (D, k), μ ≥ λ_{k+1}, Δ = Θ − μ > 0 and δ its smallest entry, the part of the
    Ritz vectors outside the exact subspace is Y = X⊥ᵀ V and solves (X⊥ᵀ A X⊥ − μ) Y − Y Δ = X⊥ᵀ R. Hence

    - ‖Y‖₂ ≤ ‖Y‖_F ≤ ‖R Δ⁻¹‖_F, and
    - ‖Y‖₂ ≤ ‖R diag(γ (2Δ_i − γ))^(−1/2)‖₂ for every 0 < γ < 2δ (write 1/(Δ_i + b) as the integral of
      e^{−s(Δ_i + b)} and apply Cauchy–Schwarz with weight e^{−sγ}); γ = δ and equal Δ_i give
      Davis–Kahan's ‖R‖₂/δ.

    The smallest of these is returned. Rounding of the products, which the residual cannot show, enters
    as 10 ε θ_1 added to each column.

    Args:
        values: Ritz values Θ (k,), descending; gram: RᵀR (k, k), float64.
        ceiling: μ, usually θ_{k+1} plus its residual norm: the bound rests on the block not missing an
            eigenvalue above that; guard vectors and probes are there to see to it. −inf for k = D.

    Returns:
        The bound, at most 1; NaN where Δ is not positive beyond rounding: the subspace is not
        determined at k.

    Source: Davis and Kahan 1970 (sin Θ theorem), with a weight per column.
    """
    if ceiling == -math.inf:
        return 0.0
    delta = values.double() - ceiling
    smallest, scale = float(delta.min()), float(values.abs().max())
    rounding = torch.finfo(values.dtype).eps * scale
    if not smallest > 100 * rounding:
        return math.nan
    gram = gram + torch.diag(torch.full_like(delta, (10 * rounding) ** 2))
    bounds = [float((gram.diagonal() / delta.square()).sum().sqrt())]
    for gamma in (smallest * f for f in (1.0, 1.25, 1.5, 1.75)):
        weight = (gamma * (2 * delta - gamma)).rsqrt()
        scaled = gram * weight[:, None] * weight
        bounds.append(float(torch.linalg.eigvalsh(scaled)[-1].clamp_min(0).sqrt()))
    return min(1.0, *bounds)


def clearest_cut(values: Tensor, k: int, within: int = 5) -> int:
    """Where to cut instead of k: the j ∈ k − within … k + within with the largest θ_j/θ_{j+1}.

    Only positive Ritz values (m,), descending, are looked at; k where there are not two of them.
    """
    top = values[values > 0].double()
    first, last = max(1, k - within), min(len(top) - 1, k + within)
    if last < first:
        return k
    return first + int((top[first - 1 : last] / top[first : last + 1]).argmax())


def sin_largest_angle(first: Tensor, second: Tensor) -> float:
    """Sine of the largest principal angle between two subspaces, given by orthonormal bases (D, k).

    ‖(I − V Vᵀ) U‖₂, accurate for small angles where √(1 − cos²) is not.
    """
    overlap = second.T @ first
    gram = torch.zeros(first.shape[1], first.shape[1], dtype=torch.float64, device=first.device)
    for u, v in zip(first.split(SLICE), second.split(SLICE), strict=True):
        rest = u - v @ overlap
        gram += rest.T @ rest
    return min(1.0, float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0).sqrt()))


def stack(*blocks: Tensor) -> Tensor:
    """The columns of several blocks (D, m_i) as one, each column contiguous in memory."""
    return torch.cat([block.T for block in blocks]).T


def _fill(block: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Add random orthonormal columns until the block has ``width`` of them."""
    while block.shape[1] < width:
        extra = torch.randn(block.shape[0], width - block.shape[1], generator=generator)
        extra = orthonormalize(extra.to(block), against=block)
        block = stack(block, extra)
    return block
