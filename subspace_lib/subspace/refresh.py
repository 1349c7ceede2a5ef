"""What a refresh of the dominant subspace has seen, and what its first pass is good for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from subspace_lib.linalg.eigensolver import apart, clearest_cut, sin_largest_angle
from subspace_lib.objective import Hessian
from subspace_lib.subspace.advance import negative_is_larger
from subspace_lib.subspace.block import CLEAR, Kind


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


@dataclass(frozen=True)
class Look:
    """What a look at a subset of the data has seen, or a refresh in its place.

    Attributes:
        step: the training step.
        turn: sine of the largest angle by which the basis has turned since the last look, as far as seen.
        angle: that of the basis in use from now on to the exact one, as far as known.
        values: Ritz values at θ, descending, as the look estimates them, also beside a refresh; NaN where
            neither was possible.
        refresh: the one that the look has called for, or that has taken its place, or None.
    """

    step: int
    turn: float
    angle: float
    values: Tensor
    refresh: Refresh | None


def turned(old: Tensor, new: Tensor, values: Tensor, k: int, probe: Tensor | None = None) -> float:
    """Sine of the largest angle between a basis (D, k) and that in a new block (D, m).

    Where θ_{k+1} comes within ``CLEAR`` of θ_k, vectors near the cut turn among each other, which nothing
    can follow and little depends on. There it is the angle at the nearest clear cut of the block, and for
    a probe u how much its projection has changed, ‖(P_new − P_old) u‖/‖u‖, where that is larger; never
    more than the angle at k.
    """
    basis = new[:, :k]
    plain = sin_largest_angle(old, basis)
    if len(values) <= k or float(values[k]) < CLEAR * float(values[k - 1]):
        return plain
    cut = min(clearest_cut(values, k), new.shape[1])
    around = (
        sin_largest_angle(old, new[:, :cut]) if cut >= k else sin_largest_angle(new[:, :cut], old)
    )
    if probe is not None:
        change = basis @ (basis.T @ probe) - old @ (old.T @ probe)
        around = max(around, float(change.norm() / probe.norm().clamp_min(1e-30)))
    return min(plain, around)


def by_products(hessian: Hessian) -> tuple[float, Tensor]:
    """Loss and gradient (D,) of the full data at θ, which fell out of the products there."""
    loss, gradient = hessian.loss, hessian.gradient
    if loss is None or gradient is None:
        raise RuntimeError("A Hessian has no loss and no gradient before its first product.")
    return float(loss), gradient


class Verdict(Enum):
    """What becomes of the columns that the first pass of a refresh gives."""

    ACCEPT = "they are near enough"
    SECOND_PASS = "a second pass at the same θ has to certify them"
    SEARCH_ANEW = "the block has lost an eigenvector, and would miss it again"


def judge(
    kind: Kind,
    values: Tensor,
    k: int,
    turn: float,
    bound: float,
    target: float,
    settled: bool,
    unresolved: bool = False,
) -> Verdict:
    """What becomes of the first pass.

    Args:
        kind: what it has multiplied; values: the Ritz values that it saw (m,), descending, m ≥ k.
        turn: sine of the angle from the old basis to the new one; bound: certified for the old one, NaN
            where the subspace is not determined; target: what either may be.
        settled: whether the correction has found the new columns near enough.
        unresolved: whether a missing bound is the fault of residuals, not of the gap.
    """
    if math.isnan(bound):
        if kind is Kind.BARE:  # without a guard λ_{k+1} was but assumed
            return Verdict.SECOND_PASS
        if unresolved and turn > target:
            return Verdict.SECOND_PASS
        return Verdict.SEARCH_ANEW if _lost(values, k) else Verdict.ACCEPT
    # Where a negative curvature is larger, columns advance slowly: their turn does not show the error.
    slow = negative_is_larger(values, k) and bound > target
    far = turn > target or slow
    return Verdict.SECOND_PASS if far and not settled else Verdict.ACCEPT


def _lost(values: Tensor, k: int) -> bool:
    """Whether a missing bound is the block's fault, not that of the gap, which looks clear."""
    last = float(values[k - 1])
    if len(values) == k:  # hidden by a block whose watcher has vanished
        return last > 0
    return last > 0 and float(values[k]) < CLEAR * last and apart(values, k)
