"""Dom-X and Bulk-X: an update projected onto the dominant subspace, or out of it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

PROJECTIONS = ("none", "dominant", "bulk")


class Projector(Protocol):
    """Whatever has a P_k, such as ``DominantSubspace``."""

    def project(self, v: Tensor) -> Tensor:
        """P_k v, of shape (D,)."""
        ...


def restrict(update: Tensor, projection: str, subspace: Projector) -> Tensor:
    """Project an update: P_k u for Dom-X, (I − P_k) u for Bulk-X, u itself for X.

    Raises:
        ValueError: the projection is none of ``PROJECTIONS``.

    Source: arXiv 2405.16002, section 3 (Dom-SGD and Bulk-SGD).
    """
    if projection not in PROJECTIONS:
        raise ValueError(f"projection = {projection!r} must be one of {', '.join(PROJECTIONS)}.")
    if projection == "none":
        return update
    dominant = subspace.project(update)
    return dominant if projection == "dominant" else update - dominant
