"""Update rules on flat vectors as pure functions: (state, gradient) → (state, update), θ ← θ + update."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from subspace_lib.subspace import DominantSubspace

OPTIMIZERS = ("sgd", "momentum", "adam", "sam")
PROJECTIONS = ("none", "dominant", "bulk")

State = dict[str, Tensor]


@dataclass(frozen=True)
class SGD:
    """u = −η g. Source: Robbins and Monro 1951."""

    learning_rate: float

    def init(self, theta: Tensor) -> State:
        """The state before the first step: empty."""
        return {}

    def lookahead(self, gradient: Tensor) -> Tensor | None:
        """Displacement (D,) from θ to where the gradient of the update is taken; None: θ itself."""
        return None

    def update(self, state: State, gradient: Tensor) -> tuple[State, Tensor]:
        """The update (D,) for a gradient (D,)."""
        return state, -self.learning_rate * gradient


@dataclass(frozen=True)
class Momentum(SGD):
    """Heavy ball: m ← β m + g, u = −η m, as ``torch.optim.SGD(momentum=β)``. Source: Polyak 1964."""

    beta: float = 0.9

    def init(self, theta: Tensor) -> State:
        """The state before the first step: m = 0."""
        return {"momentum": torch.zeros_like(theta)}

    def update(self, state: State, gradient: Tensor) -> tuple[State, Tensor]:
        """The update (D,) for a gradient (D,)."""
        momentum = self.beta * state["momentum"] + gradient
        return {"momentum": momentum}, -self.learning_rate * momentum


@dataclass(frozen=True)
class Adam(SGD):
    """u = −η m̂/(√v̂ + ε) with bias-corrected moving averages m of g and v of g².

    Source: Kingma and Ba 2015, algorithm 1, with its β₁ = 0.9, β₂ = 0.999, ε = 1e-8.
    """

    beta: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def init(self, theta: Tensor) -> State:
        """The state before the first step: m = v = 0, t = 0."""
        zero = torch.zeros_like(theta)
        return {"first": zero, "second": zero, "count": torch.zeros((), dtype=torch.int64)}

    def update(self, state: State, gradient: Tensor) -> tuple[State, Tensor]:
        """The update (D,) for a gradient (D,)."""
        first = self.beta * state["first"] + (1 - self.beta) * gradient
        second = self.beta2 * state["second"] + (1 - self.beta2) * gradient.square()
        count = state["count"] + 1
        scale = (second / (1 - self.beta2 ** int(count))).sqrt() + self.epsilon
        step = self.learning_rate / (1 - self.beta ** int(count))
        return {"first": first, "second": second, "count": count}, -step * first / scale


@dataclass(frozen=True)
class SAM(SGD):
    """u = −η ∇L_B(θ + ρ g/‖g‖) with g = ∇L_B(θ), both of the same minibatch B; u = 0 where g = 0.

    Source: Foret et al. 2021 (2010.01412), algorithm 1 with p = 2.
    """

    rho: float = 0.05

    def lookahead(self, gradient: Tensor) -> Tensor | None:
        """The ascent ρ g/‖g‖ (D,)."""
        return self.rho * gradient / gradient.norm().clamp_min(1e-30)


def build(name: str, learning_rate: float, beta: float, rho: float) -> SGD:
    """The named update rule; β and ρ go to those rules that have them."""
    if name == "momentum":
        return Momentum(learning_rate, beta)
    if name == "adam":
        return Adam(learning_rate, beta)
    return SAM(learning_rate, rho) if name == "sam" else SGD(learning_rate)


def sam_edge(gradient_norm, learning_rate: float, rho: float):
    """Sharpness above which SAM is unstable along the top eigenvector, in the units of λ.

    On a quadratic with the gradient g along an eigenvector of eigenvalue λ, SAM's update is
    −η λ (1 + ρ λ/‖g‖) times the coordinate. It turns around without growing where
    η λ (1 + ρ λ/‖g‖) = 2, that is at λ = ‖g‖/(2ρ) · (√(1 + 8ρ/(η‖g‖)) − 1); 2/η for ρ → 0.
    Takes floats, arrays and series of ‖g‖ > 0.

    Source: Long and Bartlett 2024 (2309.12488).
    """
    if rho == 0:
        return 2 / learning_rate + 0 * gradient_norm
    root = (1 + 8 * rho / (learning_rate * gradient_norm)) ** 0.5
    return gradient_norm / (2 * rho) * (root - 1)


def restrict(update: Tensor, projection: str, subspace: DominantSubspace) -> Tensor:
    """Project an update: P_k u for Dom-X, (I − P_k) u for Bulk-X, u itself for X.

    Source: arXiv 2405.16002, section 3 (Dom-SGD and Bulk-SGD).
    """
    if projection == "none":
        return update
    dominant = subspace.project(update)
    return dominant if projection == "dominant" else update - dominant
