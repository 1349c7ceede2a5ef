"""What a tracker is given: refused in one sentence where it makes no sense."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from subspace_lib.linalg.eigensolver import NonFiniteProduct
from subspace_lib.subspace.schedule import Schedule


def numbers(k: int, target: float, dim: int, **counts: int) -> None:
    """That a tracker can be made of them; ``watch`` is at least 1, other counts 0.

    Raises:
        ValueError: one sentence for the first that makes no sense.
    """
    for name, value in (("k", k), *counts.items()):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(f"{name} = {value!r} must be a whole number.")
    if not 1 <= k < dim:
        raise ValueError(f"k = {k} must be at least 1 and below D = {dim}.")
    for name, value in counts.items():
        if value < (least := int(name == "watch")):
            raise ValueError(f"{name} = {value} must be at least {least}.")
    if isinstance(target, str) or not 0 < target <= 1:
        raise ValueError(f"target = {target!r} must be a sine above 0, at most 1.")


def step(number: int, last: int) -> None:
    """That steps go on.

    Raises:
        ValueError: this one comes before the last.
    """
    if number < last:
        raise ValueError(
            f"step = {number} comes before the last one, {last}; number the steps through, across epochs."
        )


def vector(v: Any, basis: Tensor) -> None:
    """That a vector (D,), or a block of them, can be projected on a basis (D, k).

    Raises:
        ValueError: no tensor, another length or dtype.
    """
    if not isinstance(v, Tensor) or v.shape[:1] != basis.shape[:1] or v.dtype != basis.dtype:
        raise ValueError(
            f"A vector is {_kind(v)}; the basis is {_kind(basis)}, and projects vectors of as many entries "
            "in that dtype."
        )


def probe(v: Any, theta: Tensor, number: int) -> Tensor:
    """A probe without its graph.

    Raises:
        ValueError: it is not of θ's shape and dtype; NonFiniteProduct: it has NaN or inf.
    """
    if not isinstance(v, Tensor) or (v.shape, v.dtype) != (theta.shape, theta.dtype):
        raise ValueError(
            f"The probe is {_kind(v)}, θ is {_kind(theta)}; a gradient is such a vector, or zeros."
        )
    if not torch.isfinite(v.sum()):
        raise NonFiniteProduct(
            f"Step {number}: The probe has NaN or inf; give a finite vector, or zeros."
        )
    return v.detach()


def _kind(v: Any) -> str:
    return f"{tuple(v.shape)} of {v.dtype}" if isinstance(v, Tensor) else f"a {type(v).__name__}"


def state(
    state: dict[str, Tensor],
    own: dict[str, Tensor],
    k: int,
    guards: int,
    dim: int,
    schedule: Schedule,
) -> None:
    """The state of a tracker that was made in the same way; own: that of its schedule.

    Raises:
        ValueError: another k, other guards, another D or another kind of schedule.
    """
    if "made" in state and state["made"].tolist() != [k, guards]:  # older ones do not say
        of, beside = state["made"].tolist()
        raise ValueError(
            f"The state is of k = {of} with {beside} guards; this tracker has k = {k} with {guards}."
        )
    entries = state["vectors"].shape[1]
    if entries != dim:
        raise ValueError(
            f"The state is of θ with D = {entries} entries; this objective has D = {dim}."
        )
    if own.keys() != schedule.state().keys():
        raise ValueError(
            f"The state is that of another schedule than {type(schedule).__name__}; use the refresh_every "
            "that it was saved with."
        )
