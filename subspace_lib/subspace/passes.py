"""What a refresh does at one θ: products of a block over all data, pass after pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from subspace_lib.linalg.eigensolver import clearest_cut, sin_largest_angle, top_eigenpairs
from subspace_lib.objective import Hessian, Objective
from subspace_lib.subspace.advance import Correction, Multiplied, advance, negative_is_larger
from subspace_lib.subspace.block import CLEAR, GuardedBlock, Kind, columnwise_copy
from subspace_lib.subspace.certificate import Certificate
from subspace_lib.subspace.cold_start import cold_start, completed, solved_anew
from subspace_lib.subspace.drift import Drift
from subspace_lib.subspace.refresh import Refresh, Verdict, by_products, judge, turned

LEAN = 20  # steps after a full refresh within which others may be lean
WIDE = 0.6  # of λ_k: while λ_{k+1} is below, the watcher may stay away
BUDGET = 6  # products per column of the block, for a refresh whose certificate fails
EASY = 4  # of them; a search that takes more counts as failed, once its result is lost again


class Passes:
    """The block of the dominant subspace, its certificate, and the passes that bring it to a θ.

    Args:
        objective, k, guards, target, correction, watch: as in ``DominantSubspace``.
        drift: is told of each block and its product.
        once: whether a refresh is one pass, whatever it shows: its price is known beforehand.
        spares: whether to search less often where a search has failed.
        generator: of random starts.

    Attributes:
        block, certificate: what the passes have made.
        certified: sine of the largest angle of the basis after the last refresh, at most; 1 where nothing
            is certified.
        failed: refreshes in a row without a certificate from a failed search on; 0 if there is none.
    """

    def __init__(
        self,
        objective: Objective,
        k: int,
        guards: int,
        target: float,
        correction: int,
        watch: int,
        drift: Drift,
        once: bool,
        spares: bool,
        generator: torch.Generator,
    ):
        self.objective, self.k, self.guards, self.target = objective, k, guards, target
        self.correction, self.watch = correction, watch
        self.drift, self.once, self.spares, self.generator = drift, once, spares, generator
        self.block = GuardedBlock(k, guards, objective.dim)
        self.certificate = Certificate(k)
        self.certified = 1.0
        self.failed = 0

    def refresh(self, theta: Tensor, step: int, probe: Tensor, measure: bool) -> Refresh:
        """Multiply, certify, advance; then accept that, certify it by a second pass, or search anew."""
        k, block, hessian = self.k, self.block, self.objective.hessian(theta)
        before, cold = self.objective.products, block.empty
        if cold:
            block.begin(self._cold_start(hessian, theta))
        kind = Kind.FULL if cold or measure else self._kind(step)

        first = Multiplied.by(hessian, block.prepare(kind, probe))
        residuals, bound = self.certificate.certify(first)
        curvature = first.curvature(probe, k) if kind is Kind.FULL else None
        values, old = first.values, first.columns[:, :k]
        width = block.kept(kind, values)
        self.drift.begin(theta, first)
        powerless = first.powerless(k)
        moved, settled = self._advance(hessian, first)
        block.replace(moved[:, :width], kind, step)
        unresolved = self.certificate.unresolved
        del first, moved  # memory

        turn = turned(old, block.columns, values, k, probe if math.isnan(bound) else None)
        verdict = judge(kind, values, k, turn, bound, self.target, settled, unresolved)
        self._note(bound, values)
        if self.once or (verdict is Verdict.SECOND_PASS and self._in_vain(bound)):
            verdict = Verdict.ACCEPT
        if self.once and powerless:
            self.drift.forget()  # no second pass multiplies the basis that was solved for
        if verdict is not Verdict.ACCEPT:
            old = columnwise_copy(old)  # memory: it was part of all that had been multiplied
            self.drift.forget()
        if verdict is Verdict.SEARCH_ANEW:
            block.begin(old)
            block.begin(self._cold_start(hessian, theta))
            turn = sin_largest_angle(old, block.basis)
        elif verdict is Verdict.SECOND_PASS:
            certified = self._second_pass(hessian, theta)
            turn = sin_largest_angle(old, block.basis)
            del old  # memory
            if not certified:
                self.drift.forget()
                self._go_on(hessian)

        block.lay_columnwise()
        cut = clearest_cut(values[:width], k) if kind is Kind.FULL else k
        products = self.objective.products - before
        seen = (values, residuals, turn, bound, cut, products)
        return Refresh(step, *seen, *by_products(hessian), curvature)

    def _cold_start(self, hessian: Hessian, theta: Tensor) -> Tensor:
        return cold_start(hessian, theta, self.k, self.guards, self.generator)

    def _kind(self, step: int) -> Kind:
        """What the refresh at this step multiplies: less than everything while the gap is clear."""
        block, certificate = self.block, self.certificate
        if not certificate.gap_clear(CLEAR) or step - block.full_step >= LEAN:
            return Kind.FULL
        if certificate.gap_clear(WIDE) and step - block.watch_step < self.watch:
            return Kind.BARE
        if block.width == self.k:
            block.take_back(1)
        return Kind.LEAN if block.width > self.k else Kind.FULL  # the basis has absorbed the guard

    def _advance(self, hessian: Hessian, multiplied: Multiplied) -> tuple[Tensor, bool]:
        """The next columns, and whether the correction has found them near enough."""
        k, correction = self.k, None
        if multiplied.powerless(k):
            return solved_anew(hessian, multiplied, k, self.guards, self.generator), False
        if self.correction:
            correction = Correction(self.correction, self.certificate.ceiling, self.target)
        return advance(hessian, multiplied, k, correction)

    def _second_pass(self, hessian: Hessian, theta: Tensor) -> bool:
        """Whether a second pass at the same θ is enough: it certifies the basis, and moves it on.

        Where no gap can be seen, it is enough if the block as a whole has come to rest.
        """
        block, k = self.block, self.k
        if block.width == k:
            block.take_back()
        second, old = Multiplied.by(hessian, block.columns), block.basis
        _, bound = self.certificate.certify(second)
        self.drift.begin(theta, second)
        block.columns = self._advance(hessian, second)[0]
        self._note(bound, second.values)
        if math.isnan(bound):
            return turned(old, block.columns, second.values, k) <= self.target
        return bound <= self.target

    def _in_vain(self, bound: float) -> bool:
        """Whether to leave it at one pass, as a search has failed not long ago.

        An angle that no search can bring to the target is no reason for another. Of refreshes in a row that
        certify nothing, after a failure the first, third, seventh, 15th and then every 16th search again.
        """
        if not (self.spares and self.failed) or bound < 1:
            return False
        self.failed = self.failed + 1 if self.failed < 31 else 16
        return self.failed & (self.failed - 1) != 0

    def _note(self, bound: float, values: Tensor) -> None:
        """Keep the angle after a pass that has certified: a power step shortens what lies outside."""
        c = self.certificate
        if bound <= self.target:
            self.failed = 0
        self.certified = 1.0 if math.isnan(bound) else bound
        if bound <= 1 and c.last > 0 and not negative_is_larger(values, self.k):
            self.certified *= max(0.0, min(1.0, c.ceiling / c.last))

    def _go_on(self, hessian: Hessian) -> None:
        """Solve at the same θ until certified or out of products; then look for what was missed.

        If that is interrupted, the next refresh is a cold start.
        """
        width = self.block.width
        pairs = top_eigenpairs(
            hessian,
            self.k,
            self.block.give_away(),
            angle=self.target,
            max_products=BUDGET * width,
            max_basis=3 * width // 2,
        )
        self.certified = self.target if pairs.converged else 1.0
        easy = pairs.converged and pairs.products <= EASY * width
        self.failed = 0 if easy else max(1, self.failed)
        self.block.begin(completed(hessian, pairs, self.k, self.guards, self.generator).vectors)
