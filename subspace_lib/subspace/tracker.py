"""The dominant subspace of the training-loss Hessian, followed along a trajectory and certified."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from subspace_lib.linalg.eigensolver import NonFiniteProduct, RitzPairs, top_eigenpairs
from subspace_lib.linalg.precision import full_precision
from subspace_lib.objective import Objective
from subspace_lib.subspace import given
from subspace_lib.subspace.block import CLEAR
from subspace_lib.subspace.budget import Budget
from subspace_lib.subspace.drift import Drift, Seen
from subspace_lib.subspace.passes import Passes
from subspace_lib.subspace.refresh import Look, Refresh, turned
from subspace_lib.subspace.schedule import Schedule, as_schedule

REFRESHED = 1000  # steps within which a refresh comes, whatever the looks in between see
HOPELESS = 16  # steps at least from one refresh to the next for a turn, where a search has failed
PREFIX = "schedule."  # of what the schedule remembers, in a state


class DominantSubspace:
    """The span of the top-k eigenvectors of H(θ), followed with one block product per refresh.

    A refresh multiplies the block [k vectors, guards, probe] by H(θ). That certifies the basis used
    until then (``angle_bound``) and gives the next one (``power_step``), whose error is smaller by
    about λ_{k+1}/λ_k or better. When the old basis had turned by more than the target, the next one is
    not taken on trust: a second pass at the same θ has to certify it, or the solver goes on until it can.
    Where that fails too, an adaptive schedule tries again at the first, third, seventh and 15th refresh
    after it, then at every 16th; until it succeeds, looks ask for one after ``HOPELESS`` steps at least.

    Guards and probe look for eigenvalues that rise from outside. Within ``LEAN`` steps of a refresh
    that had all of them, and while λ_{k+1} < ``CLEAR`` λ_k, a refresh is lean: it multiplies the k vectors
    and one watcher, the first guard with a tenth of the probe. Where the gap is small, guards are added
    one at a refresh until the last is below ``CLEAR`` λ_k. With ``watch`` above 1, while λ_{k+1} is below
    ``WIDE`` λ_k, the watcher too takes part only every so many steps; the certificates in between assume
    that λ_{k+1} has risen half way to λ_k since it was last seen.

    Between refreshes come looks (``Drift``): a subset of the data shows how H has changed since the last
    product over all of them, and the basis moves on by that, at a thirtieth of the price. What the subset
    does not see of the turn is measured at each refresh. The next one comes when that share of the turn
    exceeds 0.6 of the target, when the gap seems to close, when something large shows outside of the
    block, or after ``REFRESHED`` steps. ``angle`` is what is known about the basis in use: the last
    certificate and the unseen share of the turn since.

    What no certificate can show is an eigenvalue above the guards that the block does not hold at all:
    each bound assumes that there is none. A cold start can merge two that lie closer than its tolerance of
    1e-3 λ_1; it looks for the other one by a few Lanczos steps outside of the block. Later ones have to be
    brought in by the probe, and that takes refreshes, the more the nearer guards are to λ_k. With guards
    at half of λ_k or below, one that rises by more than about λ_k/20 a refresh (λ_k/50 with ``watch=4``)
    can pass λ_k before it is seen; with guards at 0.6 of λ_k and above, one that rises by λ_k/30 often
    does, and by λ_k/100 did in no trial.

    With ``refresh_every="adaptive"`` the interval to the next look follows the measured turn: it grows, by
    at most 2, while the turn stays below 0.6 of the target, and shrinks when it does not.
    With ``refresh_every=n`` every n-th step is a refresh; the paper's protocol is n = 1.

    Args:
        objective: supplies H(θ); k: dimension, 1 ≤ k < D.
        guards: Ritz vectors kept beyond k at least, for the gap and against eigenvalues that rise, ≥ 0;
            fewer where D leaves no room.
        refresh_every: "adaptive", that is ``Adaptive(target)``; n ≥ 1, that is ``Every(n)``; or a
            ``Schedule`` of this tracker's own.
        target: sine of the largest angle that is aimed for.
        correction: samples of a fixed subset of the data on which each refresh takes a second power
            step for what lies outside of the block: their Hessian sees only what the first step has moved.
            k more products at that size. Where they say that the first step was enough, a turn beyond
            the target costs no second pass. 0 for none.
        subset: samples that looks see, drawn once; None for a twentieth, 50 to 250; 0 for no looks:
            every one is a refresh. Without looks less memory is needed: two blocks less.
        allowance: gradient equivalents a step that looks and refreshes may take, the cold start apart;
            None for no limit. A refresh is one pass then, and ``angle`` says how exact the basis is.
        watch: steps after which the watcher takes part again, ≥ 1.
        seed: of the cold start's random block.

    Attributes:
        schedule: says when the next look or refresh is due; last_step: of the last refresh, −1 before the
            first; last_look: of the last look or refresh.
        angle: sine of the largest angle that the basis had to the exact one at ``last_look``, as far as
            known: certified at a refresh, with the unseen share of the turn at a look; 1 where the
            subspace is not determined at k.

    Raises:
        ValueError: k outside 1 … D − 1, a target outside 0 … 1, watch < 1, another number below 0, or
            refresh_every is none of the three.
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
        subset: int | None = None,
        allowance: float | None = None,
        watch: int = 1,
        seed: int = 0,
    ):
        counts = {"guards": guards, "watch": watch, "correction": correction, "subset": subset or 0}
        given.numbers(k, target, objective.dim, **counts)
        guards = min(guards, objective.dim - k - 1)
        self.objective, self.k, self.guards = objective, k, guards
        self.schedule = as_schedule(refresh_every, target)
        self.last_step = self.last_look = -1
        self.angle = 1.0
        self._turn, self._span = 0.0, 1  # of the last interval
        self.budget = Budget(math.inf if allowance is None else allowance)
        self._drift = Drift(_subset(objective) if subset is None else subset)
        self._start: Tensor | None = None  # the basis right after the last refresh
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        own = (self._drift, allowance is not None, self.schedule.looks, self._generator)
        self._passes = Passes(objective, k, guards, target, correction, watch, *own)
        self._block, self._certificate = self._passes.block, self._passes.certificate

    @property
    def interval(self) -> int:
        """Steps from the last refresh to the next, as far as the schedule knows."""
        return self.schedule.interval

    @property
    def target(self) -> float:
        """Sine of the largest angle that is aimed for."""
        return self._passes.target

    @target.setter
    def target(self, target: float) -> None:
        self._passes.target = target

    @property
    def vectors(self) -> Tensor | None:
        """The basis and the guards that took part in the last refresh (D, k or more); None before it."""
        return None if self._block.empty else self._block.columns

    @vectors.setter
    def vectors(self, vectors: Tensor) -> None:
        self._block.columns = vectors

    @property
    def basis(self) -> Tensor:
        """Orthonormal basis V_k in use, (D, k); ValueError before the first refresh."""
        return self._block.basis

    @full_precision()
    def project(self, v: Tensor) -> Tensor:
        """P_k v = V_k V_kᵀ v, of shape (D,)."""
        given.vector(v, self.basis)
        self._block.to_(v.device)
        return self.basis @ (self.basis.T @ v)

    @full_precision()
    def alignment(self, v: Tensor) -> float:
        """χ_k(v) = ‖P_k v‖ / ‖v‖, a norm ratio in 0 … 1; NaN for v = 0 (section 2)."""
        given.vector(v, self.basis)
        self._block.to_(v.device)
        largest = v.abs().max()
        if not 1e-10 < largest < 1e10:  # squares would leave the range of float32
            v = v / largest
        norm = float(v.norm())
        return float((self.basis.T @ v).norm()) / norm if norm > 0 else math.nan

    def due(self, step: int) -> bool:
        """Whether the basis has to be looked at, or refreshed, before it is used at this step.

        Raises:
            ValueError: the step comes before the last one that was looked at.
        """
        if self._block.empty:
            return True
        given.step(step, self.last_look)
        looks = self.schedule.looks and self._drift.known
        return self.schedule.due(step) and (
            self.budget.may_look(step) if looks else self.budget.may_refresh(step)
        )

    def angle_at(self, step: int) -> float:
        """Sine of the largest angle of the basis in use at this step, as far as known.

        ``angle``, and after the last look as much more as the basis had turned in the interval before it,
        growing like a root: a turn that begins after a look is not known before the next one. NaN where
        nothing can look between refreshes: H may have jumped since the last one.
        """
        behind = step - self.last_look
        if behind and not (self.schedule.looks and self._drift.known):
            return math.nan
        later = math.sqrt(max(1.0, behind / self._span)) if behind else 0.0
        return min(1.0, self.angle + self._turn * later)

    @full_precision()
    def look(self, theta: Tensor, step: int, probe: Tensor) -> Look:
        """Bring the basis to θ by what a subset shows, or by a refresh where that is not enough.

        Where nothing can look and the allowance has no refresh either, the basis stays, with an angle of 1.

        Args:
            theta: (D,); step: its number.
            probe: (D,), a vector that may show an eigenvector missed so far: the minibatch gradient.

        Raises:
            NonFiniteProduct: the loss has diverged; the message names the step.
            ValueError: the step comes before the last one, or the probe is not of θ's shape and dtype.
        """
        given.step(step, self.last_look)
        probe = given.probe(probe, theta, step)
        seen = self._seen(theta, step, probe)
        if seen is None:
            return self._without_looking(theta, step, probe)
        turn, fresh = self._take(seen, step, probe), None
        if self._stale(seen, step) and self.budget.may_refresh(step):
            turned_by = self._drift.turn
            fresh = self._refresh_at(theta, step, probe, measure=False, again=True)
            self._drift.measured(fresh.turn, turned_by)
            if float(fresh.values[self.k - 1]) > 2 * seen.outside:
                self._drift.alarm = 1.2 * seen.outside
        return Look(step, turn, self.angle, seen.values, fresh)

    def _seen(self, theta: Tensor, step: int, probe: Tensor) -> Seen | None:
        """What a subset shows at θ; None with nothing to look by, or where no power step is possible."""
        if self._block.empty or not (self.schedule.looks and self._drift.known):
            return None
        self._to(theta.device)
        before = self._work()
        try:
            seen = self._drift.look(self.objective, self.objective.hessian(theta), self.k, probe)
        except NonFiniteProduct as error:
            raise type(error)(f"Step {step}: {error}") from None
        self.budget.note(self._work() - before, 0.0)
        if seen is None:
            self._drift.forget()  # nor is it at the steps to come: a refresh is what is due
        return seen

    def _without_looking(self, theta: Tensor, step: int, probe: Tensor) -> Look:
        """A refresh, or where the allowance has none the same basis, of which nothing is known."""
        if not self._block.empty and not self.budget.may_refresh(step):
            self.last_look, self.angle, self._turn = step, 1.0, 0.0
            return Look(step, 0.0, 1.0, theta.new_full((self.k,), math.nan), None)
        fresh = self.refresh(theta, step, probe)
        return Look(step, fresh.turn, self.angle, fresh.values, fresh)

    def _take(self, seen: Seen, step: int, probe: Tensor) -> float:
        """Go on with the columns that a look has found; returns by how much the basis has turned."""
        block, old = self._block, self.basis
        new = seen.columns[:, : block.width]
        turn = turned(old, new, seen.values, self.k, probe)
        assert self._start is not None
        self._drift.turn = turned(self._start, new, seen.values, self.k, probe)
        block.columns = new
        block.lay_columnwise()
        self.schedule.note(step, turn, False)
        self._turn, self._span = turn, max(1, step - self.last_look)
        self.last_look = step
        self.angle = min(1.0, self._passes.certified + self._drift.unseen * self._drift.turn)
        return turn

    def _stale(self, seen: Seen, step: int) -> bool:
        """Whether what a look has seen calls for a refresh."""
        k, values, clear = self.k, seen.values, self._certificate.gap_clear(CLEAR)
        last = float(values[k - 1])
        closes = clear and len(values) > k and float(values[k]) > CLEAR * last
        rises = clear and seen.outside > max(CLEAR * last, self._drift.alarm)
        far = self._drift.unseen * self._drift.turn > 0.6 * self.target
        hopeless = self._passes.failed and step - self.last_step < HOPELESS
        return (far and not hopeless) or closes or rises or step - self.last_step >= REFRESHED

    @full_precision()
    def refresh(self, theta: Tensor, step: int, probe: Tensor, *, measure: bool = False) -> Refresh:
        """Bring the basis to θ by products over all data, and certify the one used so far.

        Args:
            theta: (D,); step: its number.
            probe: (D,), a vector that may show an eigenvector missed so far: the minibatch gradient.
            measure: take guards and probe along in any case, so that ``curvature`` is known (exactly).

        Raises:
            NonFiniteProduct: the loss has diverged; the message names the step.
            ValueError: the step comes before the last one, or the probe is not of θ's shape and dtype.
        """
        given.step(step, self.last_look)
        probe = given.probe(probe, theta, step)
        self._to(theta.device)
        return self._refresh_at(theta, step, probe, measure=measure, again=False)

    def _refresh_at(
        self, theta: Tensor, step: int, probe: Tensor, *, measure: bool, again: bool
    ) -> Refresh:
        before, cold = self._work(), self._block.empty
        try:
            seen = self._passes.refresh(theta, step, probe, measure)
        except NonFiniteProduct as error:
            raise type(error)(f"Step {step}: {error}") from None
        if cold:
            self.budget.begin(step)
        else:
            self.budget.note(0.0, self._work() - before)
        if not again:
            self._turn = 0.0 if cold else seen.turn
            self._span = max(1, step - self.last_look)
            self.schedule.note(step, seen.turn, cold)
        self.last_step = self.last_look = step
        self.angle = self._passes.certified
        self._start = self.basis if self._drift.known else None
        return seen

    def _work(self) -> float:
        """Gradient equivalents spent so far; products, of an operator without gradients."""
        return float(getattr(self.objective, "gradient_equivalents", self.objective.products))

    def _to(self, device: torch.device) -> None:
        self._block.to_(device)
        self._drift.to_(device)
        if self._start is not None:
            self._start = self._start.to(device)

    @full_precision()
    def spectrum(self, theta: Tensor, count: int, start: Tensor | None = None) -> RitzPairs:
        """The top ``count`` eigenpairs of H(θ), residuals ≤ 1e-2 λ_1, and more where ``start`` is wider."""
        self._to(theta.device)
        start = self._block.columns if start is None else start
        missing = count - start.shape[1]
        if missing > 0:
            extra = torch.randn(len(theta), missing, generator=self._generator, device="cpu")
            start = torch.cat([start, extra.to(theta)], 1)
        return top_eigenpairs(self.objective.hessian(theta), count, start, tolerance=1e-2)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next refresh depends on, as tensors; empty before the first refresh."""
        if self._block.empty:
            return {}
        p = self._passes
        angles = [self.angle, p.certified, self._turn, self._span]
        start = torch.empty(0, 0, device="cpu") if self._start is None else self._start.T.clone()
        return {
            **self._block.state(),
            **self._drift.state(),
            **{f"{PREFIX}{name}": value for name, value in self.schedule.state().items()},
            "last_step": torch.tensor([self.last_step, self.last_look, p.failed], device="cpu"),
            "angles": torch.tensor(angles, dtype=torch.float64, device="cpu"),
            "start": start,
            "made": torch.tensor([self.k, self.guards], device="cpu"),
            "budget": self.budget.state(),
            "ceilings": self._certificate.state(),
            "generator": self._generator.get_state(),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``, of a tracker that was made in the same way; {} changes nothing.

        Raises:
            ValueError: that one had another k, other guards, another schedule or another D.
        """
        if not state:
            return
        own = {n.removeprefix(PREFIX): v for n, v in state.items() if n.startswith(PREFIX)}
        given.state(state, own, self.k, self.guards, self.objective.dim, self.schedule)
        self.schedule.load_state(own)
        self._block.load_state(state)
        self._drift.load_state(state)
        self.last_step, self.last_look, *failed = state["last_step"].tolist()
        self._passes.failed = sum(failed)  # states of older code count none
        self.angle, self._passes.certified, self._turn, self._span = state["angles"].tolist()
        self._start = state["start"].T if len(state["start"]) else None
        self.budget.load_state(state["budget"])
        self._certificate.load_state(state["ceilings"])
        self._generator.set_state(state["generator"])


def _subset(objective: Objective) -> int:
    """How many samples looks see by default; none where these do not tell of the others."""
    known = hasattr(objective, "__len__") and getattr(objective, "additive", True)
    samples = len(objective) if known else 0
    subset = min(250, max(50, samples // 20))
    if 2 * subset > samples:
        return 0
    weighing = getattr(objective, "weighing", None)
    if weighing is not None and weighing.ignored is not None:
        try:
            objective.weights(objective.subset(subset))
        except ValueError:  # none of them counts
            return 0
    return subset
