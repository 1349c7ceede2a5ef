"""How far the basis in use can be from the dominant subspace: residuals, and a bound on the angle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from subspace_lib.linalg.eigensolver import (
    angle_bound,
    apart,
    poor_guard,
    residual_gram,
    sin_largest_angle,
)
from subspace_lib.subspace.advance import Multiplied


class Certificate:
    """Bounds the angle of the basis from the product of its block, and remembers what lies behind λ_k.

    A bound on the angle needs one on λ_{k+1}, the ceiling: the Ritz value of the first guard and its
    residual. Where no guard was multiplied, the ceiling is assumed to have risen since it was last seen.

    Attributes:
        last: λ_k as last seen.
        seen: upper bound on λ_{k+1} when a guard was last multiplied; ∞ where the next refresh should look.
        behind: upper bound on λ_{k+2} when all guards were last multiplied.
        ceiling: what the last certificate took λ_{k+1} to be at most.
        unresolved: whether θ_k and θ_{k+1} stand apart, but by less than twice the guard's residual: a gap
            that the last certificate could not show may be there all the same.

    Source: Davis and Kahan 1970 (``angle_bound``).
    """

    def __init__(self, k: int):
        self.k = k
        self.last, self.seen, self.behind, self.ceiling = 1.0, math.inf, 0.0, math.inf
        self.unresolved = False

    def gap_clear(self, ratio: float) -> bool:
        """Whether λ_{k+1} < ratio · λ_k, as last seen."""
        return self.seen < ratio * self.last

    def certify(self, multiplied: Multiplied) -> tuple[Tensor, float]:
        """Residual norms of the k leading Ritz vectors, and the bound on the angle of the old basis.

        The Ritz vectors are certified by their residual, and the old basis, the first k columns of the
        block, is at a known angle to them: sines of angles that add up add up to more than the sine
        of the sum. Nothing is certified by a guard whose residual exceeds half its distance to θ_k.

        Returns:
            ‖H v − θ v‖ (k,) in float64, and the sine of the largest angle at most, in 0 … 1; NaN where
            θ_k is not above the ceiling.
        """
        k, values, rotation = self.k, multiplied.values, multiplied.rotation
        leading = rotation[:, : k + 2].double()
        gram = leading.T @ residual_gram(multiplied.columns, multiplied.image) @ leading
        norms = gram.diagonal().clamp_min(0).sqrt()
        self._update_ceiling(values, norms)
        poor = len(values) > k and poor_guard(values, norms, k)
        self.unresolved = poor and apart(values, k)
        bound = angle_bound(values[:k], gram[:k, :k], self.ceiling)
        if math.isnan(bound):
            self.seen = math.inf
            return norms[:k], bound
        old = torch.eye(len(rotation), k, dtype=rotation.dtype, device=rotation.device)
        bound = min(1.0, bound + sin_largest_angle(old, rotation[:, :k]))
        return norms[:k], 1.0 if poor else bound

    def _update_ceiling(self, values: Tensor, norms: Tensor) -> None:
        """What the guards show; where there are none, half way from what they showed last to λ_k."""
        k = self.k
        self.last = float(values[k - 1])
        if len(values) == k:
            self.ceiling = max(self.seen, (self.seen + self.last) / 2)
            return
        above = [float(value) for value in values[k : k + 2] + norms[k:]]
        if len(above) > 1:
            self.behind = min(above)
        # There always are eigenvalues near zero.
        self.seen = self.ceiling = max(0.0, above[0], self.behind)

    def state(self) -> Tensor:
        """What the next certificate depends on, float64 (3,)."""
        return torch.tensor([self.seen, self.last, self.behind], dtype=torch.float64, device="cpu")

    def load_state(self, state: Tensor) -> None:
        """Continue from ``state()``."""
        self.seen, self.last, self.behind = state.tolist()
