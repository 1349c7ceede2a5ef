"""From the product of a block to the columns of the next one: a power step, and its correction."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from subspace_lib.linalg.eigensolver import (
    angle_bound,
    check_range,
    multiply,
    nearest_orthonormal,
    power_step,
    rayleigh_ritz,
    stack,
)
from subspace_lib.objective import Hessian
from subspace_lib.subspace.block import columnwise_copy


@dataclass(frozen=True)
class Multiplied:
    """A block V with its product H V, and what Rayleigh–Ritz sees in them.

    Attributes:
        columns: V (D, m), orthonormal; image: H V (D, m), which ``advance`` overwrites.
        values: Ritz values θ (m,), descending; rotation: Y (m, m) to the Ritz vectors V Y.
    """

    columns: Tensor
    image: Tensor
    values: Tensor
    rotation: Tensor

    @classmethod
    def by(cls, hessian: Hessian, columns: Tensor) -> Multiplied:
        """Multiply the columns.

        Raises:
            NonFiniteProduct: the product has NaN or inf.
        """
        image = multiply(hessian, columns)
        values, rotation = rayleigh_ritz(columns, image)
        check_range(values)
        return cls(columns, image, values, rotation)

    def powerless(self, k: int) -> bool:
        """Whether θ_k is too small or negative for a power step."""
        return bool(self.values[k - 1] <= 1e-3 * self.values[0].clamp_min(0))

    def curvature(self, probe: Tensor, k: int) -> tuple[float, float]:
        """uᵀHu of a vector u (D,) within the block, and of its part among the first k Ritz vectors."""
        terms = self.values * (self.rotation.T @ (self.columns.T @ probe)).square()
        return float(terms.sum()), float(terms[:k].sum())


def negative_is_larger(values: Tensor, k: int) -> bool:
    """Whether among Ritz values (m,), descending, a negative curvature is larger than θ_k."""
    return bool(values[-1] < -values[k - 1])


@dataclass(frozen=True)
class Correction:
    """A second power step outside of the block V, from H V' ≈ H V C + H_sub (V' − V C), C = VᵀV'.

    What the first step has added to the span, V' − V C, is small, so the Hessian of a subset of the
    data will do for it. Inside of the block all data have spoken, and a subset would mix vectors
    whose eigenvalues are close.

    Attributes:
        samples: of the subset.
        ceiling: λ_{k+1} at most.
        target: sine of the angle that V' may have, as far as the subset can tell.
    """

    samples: int
    ceiling: float
    target: float

    def __call__(
        self, hessian: Hessian, columns: Tensor, image: Tensor, moved: Tensor, k: int
    ) -> Tensor | None:
        """Columns (D, m') for V (D, m), H V (D, m) and V' (D, m'), whose first k count.

        None where too much is left to be seen on a subset.
        """
        first = moved[:, :k]
        overlap = columns.T @ first
        seen = image @ overlap + hessian.on(self.samples) @ (first - columns @ overlap)
        values = (first * seen).sum(0)
        seen -= moved @ (moved.T @ seen)
        if not angle_bound(values, (seen.T @ seen).double(), self.ceiling) <= self.target:
            return None
        first = nearest_orthonormal(first + seen / values)
        guards = moved[:, k:]
        guards = nearest_orthonormal(guards - first @ (first.T @ guards))
        return stack(first, guards)


def advance(
    hessian: Hessian, multiplied: Multiplied, k: int, correction: Correction | None
) -> tuple[Tensor, bool]:
    """The columns for θ by a power step, and whether they are known to be near enough as they are.

    θ_k must be positive. Where a negative curvature is larger, a power step would feed it: there H is
    shifted by it.

    Returns:
        Orthonormal columns (D, m or fewer), mostly in the memory of ``multiplied.image``. Near enough is
        what the correction has found so.

    Source: ``power_step``; the correction is this project's.
    """
    columns, image = multiplied.columns, multiplied.image
    values, rotation = multiplied.values, multiplied.rotation
    unshifted = columnwise_copy(image) if correction else image
    if negative_is_larger(values, k):
        shift = float(-values[-1])
        image.add_(columns, alpha=shift)
        values = values + shift
    moved = power_step(columns, image, values, rotation, k)[1]
    corrected = correction(hessian, columns, unshifted, moved, k) if correction else None
    return (moved, False) if corrected is None else (corrected, True)
