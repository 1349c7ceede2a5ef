"""The dominant subspace of the training-loss Hessian, followed along a trajectory and certified."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from subspace_lib.eigensolver import (
    Deflated,
    NonFiniteProduct,
    RitzPairs,
    angle_bound,
    clearest_cut,
    comes,
    exceeds,
    multiply,
    nearest_orthonormal,
    orthonormalize,
    poor_guard,
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
        turn: angle between the basis used until now and the refreshed one, after two passes at most. It
            is so much closer to the exact subspace that this measures the error of the old one.
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
    not taken on trust: a second pass at the same θ has to certify it, or the solver goes on until it can.

    Guards and probe look for eigenvalues that rise from outside. Within ``LEAN`` steps of a refresh
    that had all of them, and while λ_{k+1} < ``CLEAR`` λ_k, a refresh is lean: it multiplies the k vectors
    and one watcher, the first guard with a tenth of the probe. Where the gap is small, guards are added
    one at a refresh until the last is below ``CLEAR`` λ_k. With ``watch`` above 1, while λ_{k+1} is below
    ``WIDE`` λ_k, the watcher too takes part only every so many steps; the certificates in between assume
    that λ_{k+1} has risen half way to λ_k since it was last seen.

    What no certificate can show is an eigenvalue above the guards that the block does not hold at all. A
    cold start can merge two that lie closer than its tolerance of 1e-3 λ_1; it looks for the other one by a
    few Lanczos steps outside of the block. Later ones have to be brought in by the probe, and that takes
    steps: one that rises by more than about a twentieth of λ_k a step, or with ``watch=4`` a fiftieth, can
    pass λ_k before it is seen.

    With ``refresh="adaptive"`` the interval to the next refresh follows the measured turn: it grows, by
    at most 2, while the turn stays below 0.6 of the target, and shrinks when it does not.
    With ``refresh=n`` every n-th step is a refresh; the paper's protocol is n = 1.

    Args:
        objective: supplies H(θ); k: dimension, 1 ≤ k < D.
        guards: Ritz vectors kept beyond k at least, for the gap and against eigenvalues that rise.
        target: sine of the largest angle that is aimed for.
        max_interval: the longest adaptive interval, in steps.
        correction: samples of a fixed subset of the data on which each refresh takes a second power
            step for what lies outside of the block: their Hessian sees only what the first step has moved.
            k more products at that size. Where they say that the first step was enough, a turn beyond
            the target costs no second pass. 0 for none.
        watch: steps after which the watcher takes part again, ≥ 1.
        seed: of the cold start's random block.

    Raises:
        ValueError: k + guards ≥ D, or watch < 1.
    """

    LEAN = 20
    CLEAR = 0.85
    WIDE = 0.6
    MAX_GUARDS = 10
    BUDGET = 6  # products per column of the block, for a refresh whose certificate fails

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
        watch: int = 1,
        seed: int = 0,
    ):
        if watch < 1:
            raise ValueError(f"watch = {watch} must be at least 1 step.")
        if k + guards >= objective.dim:
            raise ValueError(f"k + guards = {k + guards} must be below D = {objective.dim}.")
        self.objective, self.k, self.guards = objective, k, guards
        self.policy, self.target, self.max_interval = refresh, target, max_interval
        self.correction, self.watch = correction, watch
        self._generator = torch.Generator().manual_seed(seed)
        # (D, k + guards); after a lean refresh (D, k + 1) or (D, k), and the other guards as they were.
        self.vectors: Tensor | None = None
        self._spare: Tensor | None = None
        self.interval = 1
        self.last_step = -1
        # Upper bound on λ_{k+1} when a guard was last multiplied; λ_k as last seen.
        self._seen, self._last = math.inf, 1.0
        self._behind = 0.0  # upper bound on λ_{k+2} when all guards were last multiplied
        self._ceiling = math.inf  # what the last certificate took λ_{k+1} to be at most
        # Of the last refresh that was not lean, and of the last with a watcher or all guards.
        self._full_step = self._watch_step = 0

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
            self.vectors, self._spare = self._cold_start(hessian, theta), None
        lean, watched = self._kind(step, measure or cold)
        block, width = self._block(probe, lean, watched)
        # In the block's memory, and still whole if the product fails.
        self.vectors = block[:, :width]
        product = multiply(hessian, block)
        values, rotation = rayleigh_ritz(block, product)
        norms, bound = self._certificate(block, product, values, rotation)
        curvature = None if lean else self._curvature(probe, block, values, rotation)
        width = width if lean else self._width(values, width)
        moved, settled = self._advance(hessian, block, product, values, rotation)
        self.vectors = moved[:, :width]
        del product, moved
        if watched:
            self._watch_step = step
        if not lean:
            self._full_step = step
        determined = not math.isnan(bound)
        slow = self._below(values) and bound > self.target  # then the turn does not show the error
        old = block[:, : self.k]
        turn = sin_largest_angle(old, self.basis if determined else self.vectors)
        if not determined and watched and self._lost(values):
            old, block = _copy(old), None  # memory
            self.vectors, self._spare = old, None
            self.vectors = self._cold_start(hessian, theta)
            turn = sin_largest_angle(old, self.basis)
        elif (turn > self.target or slow) and not settled if determined else not watched:
            old, block = _copy(old), None  # memory
            enough = self._second_pass(hessian)
            turn = sin_largest_angle(old, self.basis)
            if not enough:
                del old  # memory
                self._go_on(hessian)
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
                [self.interval, self.last_step, self._full_step, self._watch_step]
            ),
            "ceilings": torch.tensor([self._seen, self._last, self._behind], dtype=torch.float64),
            "generator": self._generator.get_state(),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        self.vectors, spare = state["vectors"].T, state["spare"].T
        self._spare = spare if spare.shape[1] else None
        schedule = state["schedule"].tolist()
        self.interval, self.last_step, self._full_step, self._watch_step = schedule
        self._seen, self._last, self._behind = state["ceilings"].tolist()
        self._generator.set_state(state["generator"])

    def _cold_start(self, hessian: Hessian, theta: Tensor) -> Tensor:
        """k + guards columns from a narrow random block.

        Three columns show no more than three of a cluster of eigenvalues. Where k is as small, or three of
        the k agree, the guards may hide the rest of it: then a full block is made to converge, all of it.
        """
        narrow = min(3, len(theta))
        start = torch.randn(len(theta), narrow, generator=self._generator).to(theta)
        width = self.k + self.guards
        pairs = top_eigenpairs(
            hessian, self.k, start, extra=self.guards, tolerance=1e-3,
            # With what is left of the products, and the first block: 3 (k + guards) vectors.
            max_basis=max(2 * (width - narrow) - 1, width + narrow),
        )  # fmt: skip
        if self.k <= narrow or comes(pairs.values[: self.k], narrow, 1e-3):
            start = torch.randn(len(theta), width, generator=self._generator).to(theta)
            pairs = top_eigenpairs(hessian, width, start, tolerance=1e-3)
        return self._complete(hessian, pairs)

    def _complete(self, hessian: Hessian, pairs: RitzPairs) -> Tensor:
        """The vectors of these pairs, and what they have missed.

        A Krylov space shows one vector of two whose eigenvalues are closer than its tolerance. The other
        one is the leading eigenvector of what is left of H outside of the block.
        """
        k, values = self.k, pairs.values
        for _ in range(k if len(values) > k else 0):
            vectors, rounding = pairs.vectors, 100 * torch.finfo(values.dtype).eps
            # No certificate takes less than 0 for λ_{k+1}.
            ceiling = max(0.0, float(values[k] + pairs.residuals[k]))
            ceiling += rounding * float(values.abs().max())
            start = torch.randn(len(vectors), 1, generator=self._generator).to(vectors)
            start = orthonormalize(start, vectors)
            missed = exceeds(Deflated(hessian, vectors), ceiling, start, max_basis=vectors.shape[1])
            missed = None if missed is None else orthonormalize(missed, vectors)
            if missed is None or not missed.shape[1]:
                break
            start = stack(vectors, missed)
            del pairs, vectors  # memory
            pairs = top_eigenpairs(
                hessian, k + 1, start, tolerance=1e-3, max_basis=start.shape[1] + self.guards
            )
            values = pairs.values
        return pairs.vectors

    def _kind(self, step: int, thorough: bool) -> tuple[bool, bool]:
        """Whether the refresh at this step is lean, and whether it has a watcher or all guards."""
        lean = self._seen < self.CLEAR * self._last and step - self._full_step < self.LEAN
        if thorough or not lean:
            return False, True
        if self._seen < self.WIDE * self._last and step - self._watch_step < self.watch:
            return True, False
        if self.vectors.shape[1] == self.k:
            self._take_back(1)
        return self.vectors.shape[1] > self.k, True  # else the basis has absorbed the guard

    def _block(self, probe: Tensor, lean: bool, watched: bool) -> tuple[Tensor, int]:
        """Orthonormal columns to multiply, the basis first, and how many of them to keep."""
        k = self.k
        if not watched:
            self._set_aside(k)
            return self.vectors, k
        if lean:
            self._set_aside(k + 1)
            watcher = self.vectors[:, k] + 0.1 * probe / probe.norm().clamp_min(1e-30)
            return stack(self.basis, orthonormalize(watcher[:, None], self.basis)), k + 1
        self._take_back()
        vectors = self.vectors
        return stack(vectors, orthonormalize(probe[:, None], vectors)), vectors.shape[1]

    def _set_aside(self, count: int) -> None:
        """Keep all but the first ``count`` columns as they are, for a later refresh."""
        rest = self.vectors[:, count:]
        if rest.shape[1]:
            self._spare = _copy(rest) if self._spare is None else stack(rest, self._spare)
            self.vectors = self.vectors[:, :count]

    def _take_back(self, count: int | None = None) -> None:
        """Add the first ``count`` guards that were set aside, or all of them."""
        if self._spare is not None:
            guards, rest = self._spare[:, :count], self._spare[:, count:] if count else None
            self.vectors = stack(self.vectors, orthonormalize(guards, self.vectors))
            self._spare = rest if rest is not None and rest.shape[1] else None

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
        leading = rotation[:, : k + 2].double()
        gram = leading.T @ residual_gram(block, product) @ leading
        norms, self._last = gram.diagonal().clamp_min(0).sqrt(), float(values[k - 1])
        if len(values) > k:
            above = [float(value) for value in values[k : k + 2] + norms[k:]]
            if len(above) > 1:
                self._behind = min(above)
            # There always are eigenvalues near zero.
            self._seen = self._ceiling = max(0.0, above[0], self._behind)
            poor = poor_guard(values, norms, k)
        else:  # no guard: see ``watch``
            self._ceiling, poor = max(self._seen, (self._seen + self._last) / 2), False
        ceiling = self._ceiling
        bound = angle_bound(values[:k], gram[:k, :k], ceiling)
        if not math.isnan(bound):
            old = torch.eye(len(rotation), k, dtype=rotation.dtype, device=rotation.device)
            bound = min(1.0, bound + sin_largest_angle(old, rotation[:, :k]))
            if poor:
                bound = 1.0
        else:
            self._seen = math.inf  # all guards at the next refresh
        return norms[:k], bound

    def _curvature(
        self, probe: Tensor, block: Tensor, values: Tensor, rotation: Tensor
    ) -> tuple[float, float]:
        terms = values * (rotation.T @ (block.T @ probe)).square()
        return float(terms.sum()), float(terms[: self.k].sum())

    def _advance(
        self, hessian: Hessian, block: Tensor, product: Tensor, values: Tensor, rotation: Tensor
    ) -> tuple[Tensor, bool]:
        """The columns for θ, and whether they are known to be near enough without a further pass.

        They come by a power step, or where θ_k ≤ 0 forbids that, by solving anew. Where a negative
        curvature is larger than θ_k, a power step would feed it: there A is shifted by it.
        """
        if values[self.k - 1] <= 1e-3 * values[0].clamp_min(0):
            start = rotate_(_copy(block), rotation)
            # The first guard has to converge too, or it could hide an eigenvalue from the next certificate.
            return top_eigenpairs(hessian, self.k + 1, start).vectors, False
        whole = _copy(product) if self.correction else None
        if self._below(values):
            shift = float(-values[-1])
            product.add_(block, alpha=shift)
            values = values + shift
        moved = power_step(block, product, values, rotation, self.k)[1]
        if whole is None:
            return moved, False
        return self._correct(hessian, block, whole, moved)

    def _correct(
        self, hessian: Hessian, block: Tensor, product: Tensor, moved: Tensor
    ) -> tuple[Tensor, bool]:
        """A second power step outside of the block, from H V' ≈ H V C + H_sub (V' − V C), C = VᵀV'.

        What the first step has added to the span, V' − V C, is small, so the Hessian of a subset of the
        data will do for it. Inside of the block all data have spoken, and a subset would mix vectors
        whose eigenvalues are close. Says whether the angle of V' itself, as far as the subset can tell,
        is within the target; where it is not, V' stays as it is.
        """
        first = moved[:, : self.k]
        overlap = block.T @ first
        image = product @ overlap + hessian.on(self.correction) @ (first - block @ overlap)
        values = (first * image).sum(0)
        image -= moved @ (moved.T @ image)
        bound = angle_bound(values, (image.T @ image).double(), self._ceiling)
        if not bound <= self.target:  # too much is left to be seen on a subset
            return moved, False
        first = nearest_orthonormal(first + image / values)
        guards = moved[:, self.k :]
        guards = nearest_orthonormal(guards - first @ (first.T @ guards))
        return stack(first, guards), True

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

    def _lost(self, values: Tensor) -> bool:
        """Whether a missing bound is the block's fault, not that of the gap, which looks clear.

        What such a block has missed it would miss again: the search has to begin anew.
        """
        last = float(values[self.k - 1])
        hidden = len(values) == self.k  # by a block without guard
        return last > 0 and (hidden or float(values[self.k]) < self.CLEAR * last)

    def _below(self, values: Tensor) -> bool:
        """Whether a negative curvature is larger than θ_k."""
        return bool(values[-1] < -values[self.k - 1])

    def _second_pass(self, hessian: Hessian) -> bool:
        """Whether a second pass at the same θ certifies the basis; it moves it on as well."""
        if self.vectors.shape[1] == self.k:
            self._take_back()
        block = self.vectors
        product = multiply(hessian, block)
        values, rotation = rayleigh_ritz(block, product)
        _, bound = self._certificate(block, product, values, rotation)
        self.vectors = self._advance(hessian, block, product, values, rotation)[0]
        return bound <= self.target

    def _go_on(self, hessian: Hessian) -> None:
        """Solve at the same θ until a certificate holds or the budget is spent.

        If that is interrupted, the next refresh is a cold start.
        """
        width = self.vectors.shape[1]
        held, self.vectors = [self.vectors], None  # given away, not shared: memory
        pairs = top_eigenpairs(
            hessian, self.k, held.pop(), angle=self.target, max_products=self.BUDGET * width,
            max_basis=3 * width // 2,
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
