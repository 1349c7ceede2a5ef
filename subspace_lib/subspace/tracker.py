"""The dominant subspace of the training-loss Hessian, followed along a trajectory and certified."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from subspace_lib.linalg.eigensolver import (
    NonFiniteProduct,
    RitzPairs,
    clearest_cut,
    sin_largest_angle,
    top_eigenpairs,
)
from subspace_lib.objective import Hessian, Objective
from subspace_lib.subspace.advance import Correction, Multiplied, advance
from subspace_lib.subspace.block import CLEAR, GuardedBlock, Kind, columnwise_copy
from subspace_lib.subspace.certificate import Certificate
from subspace_lib.subspace.cold_start import cold_start
from subspace_lib.subspace.refresh import Refresh, Verdict, by_products, judge
from subspace_lib.subspace.schedule import Schedule, as_schedule

LEAN = 20  # steps after a full refresh within which others may be lean
WIDE = 0.6  # of λ_k: while λ_{k+1} is below, the watcher may stay away
BUDGET = 6  # products per column of the block, for a refresh whose certificate fails
PREFIX = "schedule."  # of what the schedule remembers, in a state


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

    With ``refresh_every="adaptive"`` the interval to the next refresh follows the measured turn: it grows,
    by at most 2, while the turn stays below 0.6 of the target, and shrinks when it does not.
    With ``refresh_every=n`` every n-th step is a refresh; the paper's protocol is n = 1.

    Args:
        objective: supplies H(θ); k: dimension, 1 ≤ k < D.
        guards: Ritz vectors kept beyond k at least, for the gap and against eigenvalues that rise.
        refresh_every: "adaptive", that is ``Adaptive(target)``; n ≥ 1, that is ``Every(n)``; or a
            ``Schedule`` of this tracker's own.
        target: sine of the largest angle that is aimed for.
        correction: samples of a fixed subset of the data on which each refresh takes a second power
            step for what lies outside of the block: their Hessian sees only what the first step has moved.
            k more products at that size. Where they say that the first step was enough, a turn beyond
            the target costs no second pass. 0 for none.
        watch: steps after which the watcher takes part again, ≥ 1.
        seed: of the cold start's random block.
        refresh: the former name of ``refresh_every``.

    Attributes:
        schedule: says when the next refresh is due; last_step: of the last refresh, −1 before the first.

    Raises:
        ValueError: k + guards ≥ D, watch < 1, or refresh_every is none of the three.
    """

    def __init__(
        self,
        objective: Objective,
        k: int,
        *,
        guards: int = 3,
        refresh_every: str | int | Schedule = "adaptive",
        target: float = 0.05,
        correction: int = 0,
        watch: int = 1,
        seed: int = 0,
        refresh: str | int | None = None,
    ):
        if refresh is not None:
            warnings.warn("refresh is now called refresh_every", DeprecationWarning, stacklevel=2)
            refresh_every = refresh
        if watch < 1:
            raise ValueError(f"watch = {watch} must be at least 1 step.")
        if k + guards >= objective.dim:
            raise ValueError(f"k + guards = {k + guards} must be below D = {objective.dim}.")
        self.objective, self.k, self.guards = objective, k, guards
        self.schedule, self.target = as_schedule(refresh_every, target), target
        self.correction, self.watch = correction, watch
        self.last_step = -1
        self._generator = torch.Generator().manual_seed(seed)
        self._block = GuardedBlock(k, guards, objective.dim)
        self._certificate = Certificate(k)

    @property
    def interval(self) -> int:
        """Steps from the last refresh to the next, as far as the schedule knows."""
        return self.schedule.interval

    @property
    def vectors(self) -> Tensor | None:
        """The basis and the guards that took part in the last refresh (D, k or more); None before it."""
        return None if self._block.empty else self._block.columns

    @vectors.setter
    def vectors(self, vectors: Tensor) -> None:
        self._block.columns = vectors

    @property
    def basis(self) -> Tensor:
        """Orthonormal basis V_k in use, (D, k); RuntimeError before the first refresh."""
        return self._block.basis

    def project(self, v: Tensor) -> Tensor:
        """P_k v = V_k V_kᵀ v, of shape (D,)."""
        self._block.to_(v.device)
        return self.basis @ (self.basis.T @ v)

    def alignment(self, v: Tensor) -> float:
        """χ_k(v) = ‖P_k v‖ / ‖v‖, a norm ratio in 0 … 1; NaN for v = 0 (section 2)."""
        self._block.to_(v.device)
        norm = float(v.norm())
        return float((self.basis.T @ v).norm()) / norm if norm > 0 else math.nan

    def due(self, step: int) -> bool:
        """Whether the basis has to be refreshed before it is used at this step."""
        return self._block.empty or self.schedule.due(step)

    def refresh(self, theta: Tensor, step: int, probe: Tensor, *, measure: bool = False) -> Refresh:
        """Bring the basis to θ and certify the one used so far.

        Args:
            theta: (D,); step: its number.
            probe: (D,), a vector that may show an eigenvector missed so far: the minibatch gradient.
            measure: take guards and probe along in any case, so that ``curvature`` is known (exactly).

        Raises:
            NonFiniteProduct: the loss has diverged; the message names the step.
        """
        self._block.to_(theta.device)
        try:
            return self._refresh(theta, step, probe, measure)
        except NonFiniteProduct as error:
            raise NonFiniteProduct(f"Step {step}: {error}") from None

    def _refresh(self, theta: Tensor, step: int, probe: Tensor, measure: bool) -> Refresh:
        """Multiply, certify, advance; then accept that, certify it by a second pass, or search anew."""
        k, block, hessian = self.k, self._block, self.objective.hessian(theta)
        before, cold = self.objective.products, block.empty
        if cold:
            block.begin(self._cold_start(hessian, theta))
        kind = Kind.FULL if cold or measure else self._kind(step)

        first = Multiplied.by(hessian, block.prepare(kind, probe))
        residuals, bound = self._certificate.certify(first)
        curvature = first.curvature(probe, k) if kind is Kind.FULL else None
        values, old = first.values, first.columns[:, :k]
        width = block.kept(kind, values)
        moved, settled = self._advance(hessian, first)
        block.replace(moved[:, :width], kind, step)
        del first, moved  # memory

        turn = sin_largest_angle(old, block.columns if math.isnan(bound) else block.basis)
        verdict = judge(kind, values, k, turn, bound, self.target, settled)
        if verdict is not Verdict.ACCEPT:
            old = columnwise_copy(old)  # memory: it was part of all that had been multiplied
        if verdict is Verdict.SEARCH_ANEW:
            block.begin(old)
            block.begin(self._cold_start(hessian, theta))
            turn = sin_largest_angle(old, block.basis)
        elif verdict is Verdict.SECOND_PASS:
            certified = self._second_pass(hessian)
            turn = sin_largest_angle(old, block.basis)
            del old  # memory
            if not certified:
                self._go_on(hessian)

        block.lay_columnwise()
        self.schedule.note(step, turn, cold)
        self.last_step = step
        cut = clearest_cut(values[:width], k) if kind is Kind.FULL else k
        products = self.objective.products - before
        loss, gradient = by_products(hessian)
        return Refresh(
            step, values, residuals, turn, bound, cut, products, loss, gradient, curvature
        )

    def _cold_start(self, hessian: Hessian, theta: Tensor) -> Tensor:
        return cold_start(hessian, theta, self.k, self.guards, self._generator)

    def _kind(self, step: int) -> Kind:
        """What the refresh at this step multiplies: less than everything while the gap is clear."""
        block, certificate = self._block, self._certificate
        if not certificate.gap_clear(CLEAR) or step - block.full_step >= LEAN:
            return Kind.FULL
        if certificate.gap_clear(WIDE) and step - block.watch_step < self.watch:
            return Kind.BARE
        if block.width == self.k:
            block.take_back(1)
        return Kind.LEAN if block.width > self.k else Kind.FULL  # the basis has absorbed the guard

    def _advance(self, hessian: Hessian, multiplied: Multiplied) -> tuple[Tensor, bool]:
        """The next columns, and whether the correction has found them near enough."""
        correction = None
        if self.correction:
            correction = Correction(self.correction, self._certificate.ceiling, self.target)
        return advance(hessian, multiplied, self.k, correction)

    def _second_pass(self, hessian: Hessian) -> bool:
        """Whether a second pass at the same θ certifies the basis; it moves it on as well."""
        block = self._block
        if block.width == self.k:
            block.take_back()
        second = Multiplied.by(hessian, block.columns)
        _, bound = self._certificate.certify(second)
        block.columns = self._advance(hessian, second)[0]
        return bound <= self.target

    def _go_on(self, hessian: Hessian) -> None:
        """Solve at the same θ until a certificate holds or the budget is spent.

        If that is interrupted, the next refresh is a cold start.
        """
        width = self._block.width
        pairs = top_eigenpairs(
            hessian,
            self.k,
            self._block.give_away(),
            angle=self.target,
            max_products=BUDGET * width,
            max_basis=3 * width // 2,
        )
        self._block.columns = pairs.vectors

    def spectrum(self, theta: Tensor, count: int, start: Tensor | None = None) -> RitzPairs:
        """The top ``count`` eigenpairs of H(θ), residuals ≤ 1e-2 λ_1; ``start`` warms it up."""
        self._block.to_(theta.device)
        start = self._block.columns if start is None else start
        missing = count - start.shape[1]
        if missing > 0:
            extra = torch.randn(len(theta), missing, generator=self._generator).to(theta)
            start = torch.cat([start, extra], 1)
        return top_eigenpairs(self.objective.hessian(theta), count, start, tolerance=1e-2)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next refresh depends on, as tensors; empty before the first refresh."""
        if self._block.empty:
            return {}
        return {
            **self._block.state(),
            **{f"{PREFIX}{name}": value for name, value in self.schedule.state().items()},
            "last_step": torch.tensor([self.last_step]),
            "ceilings": self._certificate.state(),
            "generator": self._generator.get_state(),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``, of a tracker that was made in the same way; {} changes nothing."""
        if not state:
            return
        self.schedule.load_state(
            {n.removeprefix(PREFIX): v for n, v in state.items() if n.startswith(PREFIX)}
        )
        self._block.load_state(state)
        (self.last_step,) = state["last_step"].tolist()
        self._certificate.load_state(state["ceilings"])
        self._generator.set_state(state["generator"])
