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

from subspace_lib.linalg.precision import full_precision

OVERFLOW = (
    "Hessian products are too large or too small to be squared: the loss has diverged, or it needs another "
    "unit, or dtype=torch.float64."
)
SLICE = 8192  # rows at a time where a second block would cost memory
ASYMMETRY = 1e-2  # of the largest |λ|: more than any rounding leaves


class Operator(Protocol):
    """A symmetric linear map of R^D; its products are new tensors, which callers overwrite."""

    def __matmul__(self, block: Tensor) -> Tensor: ...


class NonFiniteProduct(ArithmeticError):
    """A block product has NaN or inf: the loss has diverged, or the operator is broken."""


class NotSymmetric(NonFiniteProduct):
    """Block products are finite, and not those of a symmetric operator: as useless as if they were not."""


@dataclass(frozen=True)
class RitzPairs:
    """Approximate eigenpairs, largest Ritz value first.

    Attributes:
        values: Ritz values (m,).
        vectors: orthonormal Ritz vectors (D, m).
        residuals: ‖A v − λ v‖ of each pair (m,).
        products: single-vector products spent.
        converged: whether the first k residuals are within the tolerance asked for, or the angle within
            that asked for, and the products are symmetric to that.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    converged: bool


def multiply(operator: Operator, block: Tensor) -> Tensor:
    """``operator @ block``, checked to be finite, in memory of its own: callers overwrite it.

    Raises:
        NonFiniteProduct: the product has NaN or inf.
    """
    product = operator @ block
    if product.untyped_storage().data_ptr() == block.untyped_storage().data_ptr():
        product = product.clone()
    if not torch.isfinite(product.sum()):  # a sum is finite only where all terms are
        raise NonFiniteProduct(
            "A Hessian product has NaN or inf: the loss or its gradient is not finite at this θ."
        )
    return product


def _finite(matrix: Tensor) -> Tensor:
    """A small matrix made of products, as it is.

    Raises:
        NonFiniteProduct: it has NaN or inf, as where finite products are too large to be multiplied.
    """
    if not torch.isfinite(matrix).all():  # LAPACK may return NaN without a word
        raise NonFiniteProduct(OVERFLOW)
    return matrix


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """``torch.linalg.eigh`` of a small symmetric matrix; NonFiniteProduct where it cannot be done."""
    try:
        return torch.linalg.eigh(_finite(matrix))
    except torch.linalg.LinAlgError as error:
        raise NonFiniteProduct(OVERFLOW) from error


def _eigvalsh(matrix: Tensor) -> Tensor:
    """The eigenvalues alone, as ``_eigh``."""
    try:
        return torch.linalg.eigvalsh(_finite(matrix))
    except torch.linalg.LinAlgError as error:
        raise NonFiniteProduct(OVERFLOW) from error


def _check_symmetric(skew: float, scale: float) -> None:
    """That vᵀAw and wᵀAv differ by no more than rounding.

    Args:
        skew: half of the largest difference seen; scale: the largest |λ|.

    Raises:
        NotSymmetric: they differ by more.
    """
    if skew > ASYMMETRY * scale:
        raise NotSymmetric(
            f"The operator is not symmetric: vᵀAw and wᵀAv differ by {2 * skew / scale:.1g} of the largest "
            "eigenvalue; a second derivative is wrong, or random numbers take part."
        )


class Deflated:
    """(I − V Vᵀ) A (I − V Vᵀ) for an orthonormal V (D, q): what A is outside of a subspace.

    Products are projected twice, so that their rounding does not lead back inside.
    """

    def __init__(self, operator: Operator, vectors: Tensor):
        self.operator, self.vectors = operator, vectors

    def __matmul__(self, block: Tensor) -> Tensor:
        return self._outside(self._outside(self.operator @ self._outside(block)))

    def _outside(self, block: Tensor) -> Tensor:
        return block - self.vectors @ (self.vectors.T @ block)


def orthonormalize(block: Tensor, against: Tensor | None = None) -> Tensor:
    """Orthonormal basis of ``block`` (D, m), orthogonal to the columns of ``against`` (D, q).

    Directions that depend on the rest to working precision are dropped, so the result may have fewer
    columns than m. Two sweeps: one loses orthogonality where columns nearly depend.
    """
    tiny = 100 * torch.finfo(block.dtype).eps
    norms = block.norm(dim=0)
    block = block.T[norms > 0].T  # a copy, columns contiguous, in whose memory the rest happens
    block /= norms[norms > 0]
    for _ in range(2):
        if against is not None and against.shape[1]:
            block.T.addmm_((against.T @ block).T, against.T, alpha=-1)
        if not block.shape[1]:
            return block
        values, vectors = _eigh(block.T @ block)
        keep = values > tiny * values.max().clamp_min(tiny)
        if against is not None:
            # what is left of a unit column after projection must be more than noise
            keep &= values > tiny**1.5
        block = rotate_(block, vectors[:, keep] / values[keep].sqrt())
    return block


def nearest_orthonormal(block: Tensor) -> Tensor:
    """The orthonormal columns nearest to those of a block (D, m) of full rank, in the same order.

    V (VᵀV)^(−1/2). Source: Löwdin 1950.
    """
    if not block.shape[1]:
        return block
    values, vectors = _eigh(_gram(block))
    return block @ ((vectors * values.rsqrt()) @ vectors.T).to(block.dtype)


def rayleigh_ritz(basis: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """Ritz values, and the rotation Y to Ritz vectors, from an orthonormal basis Q and A Q (D, q).

    Solves (QᵀAQ) y = θ y; returns θ (q,) in descending order and Y (q, q): the Ritz vectors are Q Y,
    their products A Q Y.

    Raises:
        NonFiniteProduct: QᵀAQ has NaN or inf; NotSymmetric: it is not symmetric to rounding.
    """
    small = (basis.T @ product).double()
    values, rotation = _eigh((small + small.T) / 2)
    skew = (small - small.T).abs().max() / 2
    _check_symmetric(float(skew), float(values.abs().max()))
    return values.flip(0).to(basis.dtype), rotation.flip(1).to(basis.dtype)


def check_range(values: Tensor) -> None:
    """That Ritz values (m,) can be squared in their dtype.

    Raises:
        NonFiniteProduct: the largest is too large or too small for that.
    """
    largest, width = float(values.abs().max()), 56 if values.dtype == torch.float32 else 450
    if largest and abs(math.log2(largest)) > width:
        raise NonFiniteProduct(OVERFLOW)


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


class Columns:
    """Columns B of length D, each block in the memory that it came with: none is copied to add more."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []  # (m_i, D), a row for each column

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def add(self, block: Tensor) -> None:
        """The columns of a block (D, m), which now belong here, as the last ones."""
        if block.shape[1]:
            self._parts.append(block.T)

    def between(self, first: int, last: int) -> list[Tensor]:
        """Columns first … last − 1 as rows (m_i, D), in the memory that they have."""
        found = []
        for part in self._parts:
            found.append(part[max(first, 0) : max(last, 0)])
            first, last = first - len(part), last - len(part)
        return [part for part in found if len(part)]

    def block(self, first: int, last: int) -> Tensor:
        """Columns first … last − 1 as one block (D, m); a copy unless they lie together."""
        parts = self.between(first, last)
        return parts[0].T if len(parts) == 1 else torch.cat(parts).T

    def row(self, column: int) -> Tensor:
        """One column (D,), in the memory that it has."""
        return self.between(column, column + 1)[0][0]

    def cut(self, count: int) -> None:
        """Forget all but the first ``count`` columns."""
        self._parts = self.between(0, count)

    def coefficients(self, block: Tensor) -> Tensor:
        """BᵀW for a block W (D, m)."""
        return torch.cat([part @ block for part in self._parts])

    def subtract_(self, block: Tensor, coefficients: Tensor) -> None:
        """W ← W − B C, in the memory of W."""
        sizes = [len(part) for part in self._parts]
        for part, own in zip(self._parts, coefficients.split(sizes), strict=True):
            block.T.addmm_(own.T, part, alpha=-1)  # so, because the columns are contiguous

    def rotate_(self, rotation: Tensor, first: int, last: int) -> None:
        """Columns first … last − 1 times a rotation (last − first, c), into the first c of them."""
        rotation = rotation.T.to(self._parts[0].dtype)
        sources = self.between(first, last)
        targets = self.between(first, first + len(rotation))
        sizes = [len(part) for part in targets]
        for begin in range(0, sources[0].shape[1] if sources else 0, SLICE):
            some = slice(begin, begin + SLICE)
            turned = rotation @ torch.cat([part[:, some] for part in sources])
            for part, rows in zip(targets, turned.split(sizes), strict=True):
                part[:, some] = rows


class Krylov:
    """What a block Krylov method knows of A: ``A Q = B T`` with B = [Q, F], all columns orthonormal.

    Q (D, q) has been multiplied, F (D, b) holds what is left of the products, T = BᵀAQ (q + b, q) is small
    and in float64. The residual of a Ritz pair θ, Q y is F T_F y with T_F the last b rows of T: how good
    a pair is needs no vector of length D, memory is that of B alone, and rotations wait for a restart.
    The difference of the two halves of T shows whether A is symmetric.

    Args:
        operator: A; start: the first F, (D, b), orthonormal; its memory is used.

    Source: Stewart, A Krylov–Schur algorithm for large eigenproblems, 2001, with blocks.
    """

    def __init__(self, operator: Operator, start: Tensor):
        self.operator, self.columns, self.multiplied = operator, Columns(), 0
        self.unit: float | None = None  # a power of two that products are multiplied by
        self.skew = 0.0  # half of the largest difference |T_ij − T_ji| so far
        self.table = start.new_zeros(0, 0, dtype=torch.float64)
        self.add(start)

    def add(self, block: Tensor) -> None:
        """New directions (D, m), orthonormal to each other and to B, as the last columns of F."""
        self.columns.add(block)
        self.table = torch.cat([self.table, self.table.new_zeros(block.shape[1], self.multiplied)])

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values θ (q,), descending; rotation Y (q, q) to Ritz vectors Q Y; residuals T_F Y (b, q)."""
        small = self.table[: self.multiplied]
        values, rotation = _eigh((small + small.T) / 2)
        values, rotation = values.flip(0), rotation.flip(1)
        return values, rotation, self.table[self.multiplied :] @ rotation

    @property
    def symmetric(self) -> bool:
        """Whether vᵀAw and wᵀAv have differed by no more than rounding."""
        rounding = 1e3 * torch.finfo(self.columns.row(0).dtype).eps
        return self.skew <= rounding * float(self.table.abs().max())

    def residuals(self, values: Tensor, vectors: Tensor) -> Tensor:
        """‖A v − θ v‖ of some Ritz pairs (m,), by products."""
        product = multiply(self.operator, vectors)
        if self.unit is not None:
            product *= self.unit
        return (product - vectors * values).norm(dim=0)

    def advance(self, count: int) -> None:
        """Multiply the first ``count`` columns of F, which join Q; what is new in the products joins F."""
        end = self.multiplied + count
        product = multiply(self.operator, self.columns.block(self.multiplied, end))
        if self.unit is None:
            self.unit = _unit(product)
        if self.unit != 1:
            product *= self.unit
        fresh, inside, left = _split(product, self.columns)
        self.add(fresh)
        self.multiplied = end
        self.table = torch.cat([self.table, torch.cat([inside, left])], 1)
        small = self.table[:end]
        self.skew = max(self.skew, float((small - small.T).abs().max()) / 2)

    def turn_rest(self, rotation: Tensor) -> None:
        """F ← F R for an orthogonal R (b, b)."""
        self.columns.rotate_(rotation, self.multiplied, len(self.columns))
        self.table[self.multiplied :] = rotation.T @ self.table[self.multiplied :]

    def put_in_front(self, column: Tensor) -> None:
        """A new direction (D, 1), orthonormal to B, as the first column of F."""
        self.add(column)
        first, last = self.multiplied, len(self.columns) - 1
        front, behind = self.columns.row(first), self.columns.row(last)
        other = front.clone()
        front.copy_(behind)
        behind.copy_(other)
        self.table[[first, last]] = self.table[[last, first]]

    def restart(self, values: Tensor, rotation: Tensor, keep: int) -> None:
        """Q ← Q Y for the first ``keep`` Ritz vectors; the rest is forgotten, and the relation holds."""
        rotation = rotation[:, :keep]
        self.columns.rotate_(rotation, 0, self.multiplied)
        left = self.table[self.multiplied :] @ rotation
        self.table = torch.cat([torch.diag(values[:keep]), left])
        for to, source in enumerate(range(self.multiplied, len(self.columns)), keep):
            self.columns.row(to).copy_(self.columns.row(source))
        self.multiplied = keep
        self.columns.cut(keep + len(left))


def _unit(product: Tensor) -> float:
    """A power of two by which products are neither too small nor too large to be squared; mostly 1."""
    least, most = torch.aminmax(product)  # product.abs() would be a second block
    largest, width = max(-float(least), float(most)), 40 if product.dtype == torch.float32 else 400
    if not largest or abs(math.log2(largest)) < width:
        return 1.0
    return 2.0 ** -round(math.log2(largest))


def _split(block: Tensor, basis: Columns) -> tuple[Tensor, Tensor, Tensor]:
    """W = B C + F L for a block W (D, m), overwritten, and an orthonormal basis B (D, q).

    F (D, b), b ≤ m, is orthonormal and orthogonal to B. What is below 10 ε of the largest column is
    rounding and left out of F. C (q, m) and L (b, m) are in float64.
    """
    inside = block.new_zeros(len(basis), block.shape[1], dtype=torch.float64)
    left = torch.eye(block.shape[1], device=inside.device, dtype=inside.dtype)
    floor = (10 * torch.finfo(block.dtype).eps * float(block.norm(dim=0).max())) ** 2
    for _ in range(2):  # one sweep loses orthogonality where columns nearly depend
        overlap = basis.coefficients(block)
        basis.subtract_(block, overlap)
        inside += overlap.double() @ left
        squares, mix = _eigh(_gram(block))
        keep = squares > floor
        root, mix = squares[keep].sqrt(), mix[:, keep]
        block = rotate_(block, (mix / root).to(block.dtype))
        left = (root[:, None] * mix.T) @ left
        floor = 0.25  # of a unit column that was no rounding, more than this is left
    return block, inside, left


@full_precision()
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
    reorthogonalization, two sweeps), as many as still exceed the tolerance: pairs that have converged
    stay and cost nothing more (soft locking). It is cut back to the leading Ritz vectors when it reaches
    ``max_basis`` columns. From a random start of b columns this is
    the block Lanczos method: b = 3 takes the fewest products that still see a triple eigenvalue. A warm
    start is a block of k or more columns near the wanted vectors.

    Args:
        operator: symmetric A of shape (D, D), given by its products.
        k: how many pairs, 1 ≤ k ≤ D.
        start: (D, b), b ≥ 1; need not be orthonormal. A Krylov space of b columns holds no more than b
            vectors of a multiple eigenvalue: where 1 < b < k and one of the k values comes b times, the
            search begins anew with a random block of k columns or more. b = 1 cannot tell.
        extra: pairs to return beyond the first k, not waited for.
        tolerance: on ‖A v − λ v‖, relative to the largest ``|λ|`` seen; it must be below ``|λ|/10`` too.
        angle: stop earlier, when ``angle_bound`` certifies this sine for the first k vectors.
        max_products: budget; when it is spent, what has been reached is returned with
            ``converged=False``.
        max_basis: columns multiplied and kept at most, default 3 (max(b, k + extra) + 4). The memory is
            that of so many columns and b more, and of those being multiplied.

    Returns:
        max(b, k + extra) pairs, or D if that is less.

    Raises:
        ValueError: k outside 1 … D, an empty start block, or a tolerance that is no positive number.
        NonFiniteProduct: a product has NaN or inf; NotSymmetric: A is not symmetric.

    Source: Stewart 2001 (see ``Krylov``); thick restart as in Stathopoulos, Saad, Wu 1998.
    """
    if start.ndim != 2 or not start.is_floating_point():
        raise ValueError(
            f"start has shape {tuple(start.shape)}; it must be a block (D, b) of floats."
        )
    if not tolerance > 0:
        raise ValueError(f"tolerance = {tolerance} must be a number above 0.")
    dim, width = start.shape
    if not 1 <= k <= dim:
        raise ValueError(f"k = {k} must lie between 1 and D = {dim}.")
    if width < 1:
        raise ValueError("The start block has no columns; it needs at least one.")
    wanted = min(dim, max(width, k + extra))
    limit = min(dim, max(wanted + 1, max_basis or 3 * (wanted + 4)))
    generator = torch.Generator(device="cpu").manual_seed(0)
    empty = start.new_empty(dim, 0)
    start = orthonormalize(start.detach())  # this may have been the last hold on the old one
    krylov = Krylov(operator, _fill(start, min(width, dim), generator))
    del start
    krylov.advance(len(krylov.columns))
    products = krylov.multiplied
    while True:
        exact, rotation, left = krylov.ritz()
        size, values = krylov.multiplied, exact.to(empty.dtype)
        _check_symmetric(krylov.skew, float(exact.abs().max()))
        norms = left.norm(dim=0)
        goal = _goal(values, tolerance)
        done = size >= min(k, dim) and bool((norms[:k] <= goal[:k]).all())
        if angle is not None and not done and size > k:
            ceiling = float(values[k]) + float(norms[k])
            done = angle_bound(values[:k], left[:, :k].T @ left[:, :k], ceiling) <= angle
            done &= not poor_guard(values, norms, k)
        if done and 1 < width < k and repeated(values[:k], width, tolerance):
            del krylov
            wide = _fill(empty, wanted, generator)
            again = top_eigenpairs(
                operator,
                k,
                wide,
                extra=extra,
                tolerance=tolerance,
                angle=angle,
                max_products=max(wanted, max_products - products),
                max_basis=max_basis,
            )
            return replace(again, products=again.products + products)
        if (done and size >= wanted) or products >= max_products or size >= dim:
            kept = min(wanted, size)
            krylov.restart(exact, rotation, kept)
            krylov.columns.cut(kept)
            vectors = krylov.columns.block(0, kept)
            values, norms = values[:kept], norms[:kept]
            if not krylov.symmetric:  # T shows no true residuals then
                norms = krylov.residuals(values, vectors)
                products += kept
                done &= bool((norms[:k] <= goal[:k]).all())
            unit = krylov.unit or 1.0
            return RitzPairs(values / unit, vectors, (norms / unit).to(values), products, done)
        count = 0 if done else _directions(krylov, left[:, :k] / goal[:k])
        if not count:  # too few pairs, and nothing left to improve
            count = _elsewhere(krylov, generator)
        count = min(count, max_products - products, max(1, limit - wanted))
        if size + count > limit:
            krylov.restart(exact, rotation, min(wanted + 4, size, limit - count))
        krylov.advance(count)
        products += count


def direction_above(
    operator: Operator, ceiling: float, start: Tensor, *, max_basis: int
) -> Tensor | None:
    """A unit vector (D, 1) in whose direction a symmetric operator exceeds a ceiling, if Lanczos finds one.

    From a random start of length D, m steps see an eigenvalue above the ceiling μ when

        T_m(1 + 2 (μ − θ)/(θ − ν)) ≫ √D,

    with θ and ν the largest and the smallest Ritz value and T_m the Chebyshev polynomial. The search ends
    when T_m is 10⁴ √D: a component that many times smaller than usual has a chance of 1e-4.

    Args:
        start: (D, 1), random, a unit vector, whose memory is used; without a column there is nothing to
            search.
        max_basis: columns kept at most, or 12 if that is more; multiplied are no more than 50.

    Source: Kuczyński and Woźniakowski 1992; Saad, Numerical Methods for Large Eigenvalue Problems, 2011,
    section 6.6.
    """
    if not start.shape[1]:
        return None
    krylov, wanted = Krylov(operator, start), math.log(2e4 * len(start) ** 0.5)
    for step in range(1, 51):
        krylov.advance(1)
        values, rotation, _ = krylov.ritz()
        if step == 1:
            ceiling *= krylov.unit or 1.0
        if values[0] > ceiling:
            krylov.restart(values, rotation, 1)
            return krylov.columns.block(0, 1)
        spread = max(float(values[0] - values[-1]), 1e-30)
        rate = math.acosh(1 + 2 * (ceiling - float(values[0])) / spread)
        if krylov.multiplied == len(krylov.columns) or (step > 2 and step * rate > wanted):
            break
        if krylov.multiplied >= max(12, max_basis):
            krylov.restart(values, rotation, 3 * krylov.multiplied // 4)
    return None


def poor_guard(values: Tensor, norms: Tensor, k: int) -> bool:
    """Whether pair k + 1 tells nothing of λ_{k+1}.

    It is negative, or its residual exceeds half its distance to θ_k.
    """
    last, guard = float(values[k - 1]), float(values[k])
    negative = guard < -1e-3 * float(values.abs().max()) and last > 0
    return negative or float(norms[k]) > (last - guard) / 2


def apart(values: Tensor, k: int) -> bool:
    """Whether θ_k − θ_{k+1} is more than rounding, by the measure of ``angle_bound``."""
    rounding = torch.finfo(values.dtype).eps * float(values.abs().max())
    return float(values[k - 1]) - float(values[k]) > 1000 * rounding


def repeated(values: Tensor, times: int, tolerance: float) -> bool:
    """Whether one of these values (m,), descending, is there that often, to tolerance · max |value|."""
    apart = values[: len(values) - times + 1] - values[times - 1 :]
    return bool((apart <= tolerance * values.abs().max()).any())


def _goal(values: Tensor, tolerance: float) -> Tensor:
    """The residual norm that each pair has to reach."""
    scale = values.abs().max().clamp_min(torch.finfo(values.dtype).tiny)
    # A random vector of a large operator has a small residual too, but a Ritz value smaller still.
    own = 0.1 * values.abs() + 100 * torch.finfo(values.dtype).eps * scale
    return own.clamp_max(tolerance * float(scale)).double()


def _directions(krylov: Krylov, missed: Tensor) -> int:
    """Turn F so that its first columns are where to expand, and say how many of them.

    These are the principal directions of the wanted pairs' residuals over their goals, (b, k), as many as
    exceed a half.
    """
    sizes, mix = _eigh(missed @ missed.T)
    krylov.turn_rest(mix.flip(1))
    return int((sizes > 0.25).sum())


def _elsewhere(krylov: Krylov, generator: torch.Generator) -> int:
    """A random direction to expand by, or one of F where B spans the whole space already."""
    like = krylov.columns.row(0)
    column = like.new_empty(len(like), 0)
    while not column.shape[1] and len(krylov.columns) < len(like):
        column = _split(
            torch.randn(len(like), 1, generator=generator, device="cpu").to(like), krylov.columns
        )[0]
    if column.shape[1]:
        krylov.put_in_front(column)
    return 1


def power_step(
    basis: Tensor, product: Tensor, values: Tensor, rotation: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Advance a basis V of the dominant subspace by the product W = A V that ``rayleigh_ritz`` has seen.

    Solves the pencil (VᵀAV) z = μ (WᵀW) z and takes W Z, orthonormal: one product per vector
    where an expansion by residuals takes two. It is a Rayleigh–Ritz step for the inverse of A on
    span(A V). That overrates a direction in which large curvatures cancel or that has a little of them: a
    Ritz vector v beyond the first k takes part only when its own estimate ‖A v‖²/(vᵀAv) stays below θ_k,
    and its residual below its Ritz value; the
    others advance to A v + ‖A v‖ v, which damps what is negative. For the same reason the columns behind
    the first k are put in the order of the Rayleigh quotients that they had in span(V).

    Args:
        basis: V (D, m), orthonormal columns; product: W (D, m), overwritten.
        values, rotation: what ``rayleigh_ritz(basis, product)`` gives.
        k: size of the dominant part; θ_k must be positive.

    Returns:
        Estimates 1/μ of the first k eigenvalues, descending, and vectors (D, m or fewer), orthonormal.

    Source: subspace iteration, Saad, Numerical Methods for Large Eigenvalue Problems, 2011, ch. 5.
    """
    turn = rotation.double()
    gram = turn.T @ (product.T @ product).double() @ turn
    norms = gram.diagonal().clamp_min(0).sqrt()
    kept = (values > 1e-3 * values[0]) & (norms.square() / values < values[k - 1])
    kept &= norms.square() < 2 * values.square()
    kept[:k] = True
    other = None
    if not kept.all():
        left = rotation[:, ~kept]
        other = product @ left + basis @ (left * norms[~kept].to(left.dtype))
    # In the coordinates V Y θ^(-1/2) the pencil is an ordinary eigenproblem.
    scale = values[kept].double().rsqrt()
    estimates, mix = _eigh(gram[kept][:, kept] * scale * scale[:, None])
    estimates, mix = estimates.flip(0), mix.flip(1)
    mix = scale[:, None] * mix / estimates.sqrt()
    weights = mix.square() / mix.square().sum(0)
    quotients = weights.T @ values[kept].double()  # of what was multiplied
    moved = rotate_(product, (turn[:, kept] @ mix).to(product.dtype))
    if other is not None:
        # Members of a cluster around θ_k first, so that they are not mixed with what has little curvature.
        near = values[~kept] > 0.85 * values[k - 1]
        for part in (near, ~near):
            fresh = orthonormalize(other[:, part], against=moved)
            known, count = moved.shape[1], moved.shape[1] + fresh.shape[1]
            product[:, known:count] = fresh  # there is room for what took no part
            moved = product[:, :count]
            quotients = torch.cat([quotients, values[~kept][part][: fresh.shape[1]].double()])
    behind = moved[:, k:]
    behind.copy_(behind[:, quotients[k:].argsort(descending=True)])
    return estimates[:k].to(values.dtype), moved


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
    if not smallest > 1000 * rounding:
        return math.nan
    gram = gram + torch.diag(torch.full_like(delta, (10 * rounding) ** 2))
    bounds = [float((gram.diagonal() / delta.square()).sum().sqrt())]
    for gamma in (smallest * f for f in (1.0, 1.25, 1.5, 1.75)):
        weight = (gamma * (2 * delta - gamma)).rsqrt()
        scaled = gram * weight[:, None] * weight
        bounds.append(float(_eigvalsh(scaled)[-1].clamp_min(0).sqrt()))
    return min(1.0, *bounds)


def clearest_cut(values: Tensor, k: int) -> int:
    """Where to cut instead of k: the j ∈ k − 5 … k + 5 with the largest θ_j/θ_{j+1}.

    Only positive Ritz values (m,), descending, are looked at; k where there are not two of them.
    """
    top = values[values > 0].double()
    first, last = max(1, k - 5), min(len(top) - 1, k + 5)
    if last < first:
        return k
    return first + int((top[first - 1 : last] / top[first : last + 1]).argmax())


def _gram(block: Tensor) -> Tensor:
    """VᵀV of a block (D, m), multiplied and added in float64."""
    gram = block.new_zeros(block.shape[1], block.shape[1], dtype=torch.float64)
    for rows in block.split(SLICE):
        rows = rows.double()
        gram += rows.T @ rows
    return gram


def sin_largest_angle(first: Tensor, second: Tensor) -> float:
    """Sine of the largest principal angle between two subspaces, given by orthonormal bases (D, k).

    ‖(I − V Vᵀ) U‖₂, accurate for small angles where √(1 − cos²) is not.
    """
    overlap = second.T @ first
    gram = torch.zeros(first.shape[1], first.shape[1], dtype=torch.float64, device=first.device)
    for u, v in zip(first.split(SLICE), second.split(SLICE), strict=True):
        rest = u - v @ overlap
        gram += rest.T @ rest
    return min(1.0, float(_eigvalsh(gram)[-1].clamp_min(0).sqrt()))


def stack(*blocks: Tensor) -> Tensor:
    """The columns of several blocks (D, m_i) as one, each column contiguous in memory."""
    return torch.cat([block.T for block in blocks]).T


def _fill(block: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Add random orthonormal columns until the block has ``width`` of them."""
    while block.shape[1] < width:
        extra = torch.randn(
            block.shape[0], width - block.shape[1], generator=generator, device="cpu"
        )
        extra = orthonormalize(extra.to(block), against=block)
        block = stack(block, extra)
    return block
