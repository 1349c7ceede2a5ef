"""The dominant subspace of the training-loss Hessian, followed along a trajectory and certified."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from subspace_lib.eigensolver import (
    NonFiniteProduct,
    RitzPairs,
    angle_bound,
    clearest_cut,
    comes,
    multiply,
    orthonormalize,
    power_step,
    rayleigh_ritz,
    residual_gram,
    rotate_,
    sin_largest_angle,
    stack,
    top_eigenpairs,
)
from subspace_lib.objective import Hessian, Objective


@dataclass(frozen=True)
class Refresh:
    """What one refresh at θ has seen. Angles are sines of the largest principal angle.

    Attributes:
        step: the training step.
        values: Ritz values at θ, descending; k of them, and those of the guards where they took part.
        residuals: ‖H v − θ v‖ of the k Ritz vectors in the span of the block used until now.
        turn: angle between the basis used until now and the refreshed one. The refreshed one is so
            much closer to the exact subspace that this measures the error of the old one.
        bound: upper bound on that error (``angle_bound``); NaN where λ_k ≈ λ_{k+1} leaves the
            subspace undetermined at k.
        cut: where the nearest clear gap is, in place of k (``clearest_cut``); k where k is as good.
        products: single-vector Hessian products spent.
        loss, gradient: those of the full data at θ, by-products.
        curvature: uᵀHu of the probe u, and of its dominant part; None where the probe took no part.
    """

    step: int
    values: Tensor
    residuals: Tensor
    turn: float
    bound: float
    cut: int
    products: int
    loss: float
    gradient: Tensor
    curvature: tuple[float, float] | None


class DominantSubspace:
    """The span of the top-k eigenvectors of H(θ), followed with one block product per refresh.

    A refresh multiplies the block [k vectors, guards, probe] by H(θ). That certifies the basis used
    until then (``angle_bound``) and gives the next one (``power_step``), whose error is smaller by
    about λ_{k+1}/λ_k or better. When the old basis had turned by more than the target, the next one is
    not taken on trust: the solver goes on at the same θ until its own bound holds.

    Guards and probe look for eigenvalues that rise from outside. Within ``LEAN`` steps of a refresh
    that had all of them, and while λ_{k+1} < ``CLEAR`` λ_k, a refresh is lean: it multiplies the k vectors
    and one watcher, the first guard with a tenth of the probe. Where the gap is small, guards are added
    one at a refresh until the last is below ``CLEAR`` λ_k.

    With ``refresh="adaptive"`` the interval to the next refresh follows the measured turn: it grows, by
    at most 2, while the turn stays below 0.6 of the target, and shrinks when it does not.
    With ``refresh=n`` every n-th step is a refresh; the paper's protocol is n = 1.

    Args:
        objective: supplies H(θ); k: dimension, 1 ≤ k < D.
        guards: Ritz vectors kept beyond k at least, for the gap and against eigenvalues that rise.
        target: sine of the largest angle that is aimed for.
        max_interval: the longest adaptive interval, in steps.
        correction: samples of a fixed subset of the data on which each refresh takes a second power
            step: their Hessian sees only what the first has moved. k more products at that size; it
            helps where the gap is clear, not where it is small (chapter 12). 0 for none.
        seed: of the cold start's random block.

    Raises:
        ValueError: k + guards ≥ D.
    """

    LEAN = 20
    CLEAR = 0.85
    MAX_GUARDS = 10
    BUDGET = 6  # times k + guards products, for a refresh whose certificate fails

    def __init__(
        self,
        objective: Objective,
        k: int,
        *,
        guards: int = 3,
        refresh: str | int = "adaptive",
        target: float = 0.05,
        max_interval: int = 100,
        correction: int = 0,
        seed: int = 0,
    ):
        if k + guards >= objective.dim:
            raise ValueError(f"k + guards = {k + guards} must be below D = {objective.dim}.")
        self.objective, self.k, self.guards = objective, k, guards
        self.policy, self.target, self.max_interval = refresh, target, max_interval
        self.correction = correction
        self._generator = torch.Generator().manual_seed(seed)
        self.vectors: Tensor | None = None  # (D, k + guards); after a lean refresh (D, k + 1)
        self._spare: Tensor | None = None  # then the other guards, as they were
        self.interval = 1
        self.last_step = -1
        self._clear, self._full_step = False, 0  # is the gap clear, and the last refresh not lean

    @property
    def basis(self) -> Tensor:
        """Orthonormal basis V_k in use, (D, k)."""
        return self.vectors[:, : self.k]

    def project(self, v: Tensor) -> Tensor:
        """P_k v = V_k V_kᵀ v, of shape (D,)."""
        return self.basis @ (self.basis.T @ v)

    def alignment(self, v: Tensor) -> float:
        """χ_k(v) = ‖P_k v‖ / ‖v‖, a norm ratio in 0 … 1; NaN for v = 0 (section 2)."""
        norm = float(v.norm())
        return float((self.basis.T @ v).norm()) / norm if norm > 0 else math.nan

    def due(self, step: int) -> bool:
        """Whether the basis has to be refreshed before it is used at this step."""
        every = self.interval if self.policy == "adaptive" else int(self.policy)
        return self.vectors is None or step - self.last_step >= every

    def refresh(self, theta: Tensor, step: int, probe: Tensor, *, measure: bool = False) -> Refresh:
        """Bring the basis to θ and certify the one used so far.

        Args:
            theta: (D,); step: its number.
            probe: (D,), a vector that may show an eigenvector missed so far: the minibatch gradient.
            measure: take guards and probe along in any case, so that ``curvature`` is known (exactly).

        Raises:
            NonFiniteProduct: the loss has diverged; the message names the step.
        """
        try:
            return self._refresh(theta, step, probe, measure)
        except NonFiniteProduct as error:
            raise NonFiniteProduct(f"Step {step}: {error}") from None

    def _refresh(self, theta: Tensor, step: int, probe: Tensor, measure: bool) -> Refresh:
        hessian = self.objective.hessian(theta)
        before = self.objective.products
        cold = self.vectors is None
        if cold:
            self.vectors = self._cold_start(hessian, theta)
        lean = self._clear and step - self._full_step < self.LEAN and not (measure or cold)
        block, width = self._block(probe, lean)
        old = self.vectors = _copy(block[:, : self.k])
        product = multiply(hessian, block)
        values, rotation = rayleigh_ritz(block, product)
        norms, bound = self._certificate(block, product, values, rotation)
        curvature = None if lean else self._curvature(probe, block, values, rotation)
        width = width if lean else self._width(values, width)
        self.vectors = self._advance(hessian, block, product, values, rotation)[:, :width]
        if not lean:
            self._full_step = step
        determined = not math.isnan(bound)
        turn = sin_largest_angle(old, self.basis if determined else self.vectors)
        if determined and turn > self.target:
            self._solve(hessian)
            turn = sin_largest_angle(old, self.basis)
        self.vectors = _columnwise(self.vectors)
        self._schedule(step, turn, cold)
        cut = self.k if lean else clearest_cut(values[:width], self.k)
        products = self.objective.products - before
        loss, gradient = float(hessian.loss), hessian.gradient
        return Refresh(
            step, values, norms, turn, bound, cut, products, loss, gradient, curvature
        )  # fmt: skip

    def spectrum(self, theta: Tensor, count: int, start: Tensor | None = None) -> RitzPairs:
        """The top ``count`` eigenpairs of H(θ), residuals ≤ 1e-2 λ_1; ``start`` warms it up."""
        start = self.vectors if start is None else start
        missing = count - start.shape[1]
        if missing > 0:
            extra = torch.randn(len(theta), missing, generator=self._generator).to(theta)
            start = torch.cat([start, extra], 1)
        return top_eigenpairs(self.objective.hessian(theta), count, start, tolerance=1e-2)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next refresh depends on, as tensors."""
        return {
            "vectors": self.vectors.T,
            "spare": self.vectors.T[:0] if self._spare is None else self._spare.T,
            "schedule": torch.tensor(
                [self.interval, self.last_step, self._full_step, int(self._clear)]
            ),
            "generator": self._generator.get_state(),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        self.vectors, spare = state["vectors"].T, state["spare"].T
        self._spare = spare if spare.shape[1] else None
        self.interval, self.last_step, self._full_step, clear = state["schedule"].tolist()
        self._clear = bool(clear)
        self._generator.set_state(state["generator"])

    def _cold_start(self, hessian: Hessian, theta: Tensor) -> Tensor:
        """k + guards columns from a narrow random block.

        Three columns show no more than three of a cluster of eigenvalues. Where k is as small, or three of
        the k agree, the guards may hide the rest of it: then a full block is made to converge, all of it.
        """
        narrow = min(3, len(theta))
        start = torch.randn(len(theta), narrow, generator=self._generator).to(theta)
        pairs = top_eigenpairs(hessian, self.k, start, extra=self.guards, tolerance=1e-3)
        if self.k <= narrow or comes(pairs.values[: self.k], narrow, 1e-3):
            width = self.k + self.guards
            start = torch.randn(len(theta), width, generator=self._generator).to(theta)
            pairs = top_eigenpairs(hessian, width, start, tolerance=1e-3)
        return pairs.vectors

    def _block(self, probe: Tensor, lean: bool) -> tuple[Tensor, int]:
        """Orthonormal columns to multiply, the basis first, and how many of them to keep."""
        k, vectors = self.k, self.vectors
        if lean:
            if self._spare is None:
                self._spare = _copy(vectors[:, k + 1 :])
            watcher = vectors[:, k] + 0.1 * probe / probe.norm().clamp_min(1e-30)
            return stack(self.basis, orthonormalize(watcher[:, None], self.basis)), k + 1
        if self._spare is not None:
            vectors = stack(vectors, orthonormalize(self._spare, vectors))
            self._spare = None
        return stack(vectors, orthonormalize(probe[:, None], vectors)), vectors.shape[1]

    def _certificate(
        self, block: Tensor, product: Tensor, values: Tensor, rotation: Tensor
    ) -> tuple[Tensor, float]:
        """Residual norms of the k leading Ritz vectors, and the bound on the angle of the old basis.

        Nothing is certified by a guard whose residual exceeds half its distance to θ_k. The Ritz vectors
        are certified by their residual, and the old basis, the first k columns of the
        block, is at a known angle to them: sines of angles that add up add up to more than the sine
        of the sum.
        """
        k = self.k
        leading = rotation[:, : k + 1].double()
        gram = leading.T @ residual_gram(block, product) @ leading
        norms = gram.diagonal().sqrt()
        # Guards that sit among negative eigenvalues say nothing of those near zero, which there always are.
        ceiling = max(0.0, float(values[k]) + float(norms[k]))
        bound = angle_bound(values[:k], gram[:k, :k], ceiling)
        if not math.isnan(bound):
            old = torch.eye(len(rotation), k, dtype=rotation.dtype, device=rotation.device)
            bound = min(1.0, bound + sin_largest_angle(old, rotation[:, :k]))
            if float(norms[k]) > (float(values[k - 1]) - float(values[k])) / 2:
                bound = 1.0  # a guard as poor as this may hide an eigenvalue above the ceiling
        self._clear = ceiling < self.CLEAR * float(values[k - 1])
        return norms[:k], bound

    def _curvature(
        self, probe: Tensor, block: Tensor, values: Tensor, rotation: Tensor
    ) -> tuple[float, float]:
        terms = values * (rotation.T @ (block.T @ probe)).square()
        return float(terms.sum()), float(terms[: self.k].sum())

    def _advance(
        self, hessian: Hessian, block: Tensor, product: Tensor, values: Tensor, rotation: Tensor
    ) -> Tensor:
        """The columns for θ, by a power step, or where θ_k ≤ 0 forbids that, by solving anew."""
        if values[self.k - 1] <= 1e-3 * values[0].clamp_min(0):
            start = rotate_(block, rotation)
            return top_eigenpairs(hessian, self.k, start).vectors
        whole = _copy(product) if self.correction else None
        moved = power_step(block, product, values, rotation, self.k)[1]
        return self._correct(hessian, block, whole, moved) if self.correction else moved

    def _correct(self, hessian: Hessian, block: Tensor, product: Tensor, moved: Tensor) -> Tensor:
        """A second power step for the k vectors, from H V' ≈ H V C + H_sub (V' − V C), C = VᵀV'.

        What the first step has added to the span, V' − V C, is small, so the Hessian of a subset of the
        data will do for it.
        """
        first = _copy(moved[:, : self.k])
        overlap = block.T @ first
        added = first - block @ overlap
        product = _columnwise(product @ overlap + hessian.on(self.correction) @ added)
        values, rotation = rayleigh_ritz(first, product)
        first = power_step(first, product, values, rotation, self.k)[1]
        return stack(first, orthonormalize(moved[:, self.k :], first))

    def _width(self, values: Tensor, width: int) -> int:
        """Columns to keep of a block of ``width`` vectors and the probe.

        One guard more while the last is not clearly below θ_k, one less when the one before it is.
        """
        k = self.k
        clear = self.CLEAR * float(values[k - 1])
        most = min(k + self.MAX_GUARDS, self.objective.dim - 1)
        if float(values[width - 1]) > clear and width < most:
            return width + 1
        if width > k + self.guards and float(values[width - 2]) < clear:
            return width - 1
        return width

    def _solve(self, hessian: Hessian) -> None:
        """Go on at the same θ until the certificate holds, or the budget is spent."""
        pairs = top_eigenpairs(
            hessian, self.k, self.vectors, angle=self.target,
            max_products=self.BUDGET * self.vectors.shape[1],
        )  # fmt: skip
        self.vectors = pairs.vectors

    def _schedule(self, step: int, turn: float, cold: bool) -> None:
        """Aim at 0.6 of the target; the turn grows like the square root of the interval or slower."""
        elapsed = 1 if cold else max(1, step - self.last_step)
        factor = min(2.0, max(0.5, (0.6 * self.target / max(turn, 1e-12)) ** 2))
        self.last_step = step
        if cold:
            self.interval = 1
        elif elapsed >= self.interval or factor < 1:  # an early refresh that went well says nothing
            self.interval = max(1, min(self.max_interval, round(elapsed * factor)))


def _columnwise(block: Tensor) -> Tensor:
    """The block with contiguous columns: one layout, so that a resumed run rounds alike."""
    return block.T.contiguous().T


def _copy(block: Tensor) -> Tensor:
    """A copy whose columns are contiguous."""
    return block.T.clone(memory_format=torch.contiguous_format).T
