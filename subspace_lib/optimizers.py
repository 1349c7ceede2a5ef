"""Update rules on flat vectors as pure functions: (state, gradient) → (state, update), θ ← θ + update."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from subspace_lib.subspace import DominantSubspace

OPTIMIZERS = ("sgd", "momentum", "adam", "sam", "nesterov", "rmsprop", "adamw")
ADAPTIVE = ("adam", "adamw", "rmsprop")  # those with a preconditioner
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

    def preconditioner(self, state: State) -> Tensor | None:
        """The diagonal (D,) that multiplies the rule's mean of gradients; None: all ones."""
        return None

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """The next state and the update (D,) for a gradient (D,) and the θ (D,) to be updated."""
        return state, -self.learning_rate * gradient


@dataclass(frozen=True)
class Momentum(SGD):
    """Heavy ball: m ← β m + g, u = −η m, as ``torch.optim.SGD(momentum=β)``. Source: Polyak 1964."""

    beta: float = 0.9

    def init(self, theta: Tensor) -> State:
        """The state before the first step: m = 0."""
        return {"momentum": torch.zeros_like(theta)}

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        momentum = self.beta * state["momentum"] + gradient
        return {"momentum": momentum}, -self.learning_rate * momentum


@dataclass(frozen=True)
class Nesterov(Momentum):
    """m ← β m + g, u = −η (g + β m), as ``torch.optim.SGD(momentum=β, nesterov=True)``.

    Source: Nesterov 1983, in the form of Sutskever et al. 2013.
    """

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        state, _ = super().update(state, gradient, theta)
        return state, -self.learning_rate * (gradient + self.beta * state["momentum"])


@dataclass(frozen=True)
class RMSProp(SGD):
    """u = −η g/(√v + ε) with the moving average v of g²; α = 0.99, ε = 1e-8 as in ``torch.optim``.

    Source: Tieleman and Hinton 2012.
    """

    alpha: float = 0.99
    epsilon: float = 1e-8

    def init(self, theta: Tensor) -> State:
        """The state before the first step: v = 0."""
        return {"second": torch.zeros_like(theta)}

    def preconditioner(self, state: State) -> Tensor | None:
        """1/(√v + ε)."""
        return 1 / (state["second"].sqrt() + self.epsilon)

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        second = self.alpha * state["second"] + (1 - self.alpha) * gradient.square()
        state = {"second": second}
        return state, -self.learning_rate * gradient * self.preconditioner(state)


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
        # Two tensors, not one twice: a checkpoint takes no memory that is shared.
        return {
            "first": torch.zeros_like(theta),
            "second": torch.zeros_like(theta),
            "count": torch.zeros((), dtype=torch.int64),
        }

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        first = self.beta * state["first"] + (1 - self.beta) * gradient
        second = self.beta2 * state["second"] + (1 - self.beta2) * gradient.square()
        count = state["count"] + 1
        state = {"first": first, "second": second, "count": count}
        step = self.learning_rate / (1 - self.beta ** int(count))
        return state, -step * first * self.preconditioner(state)

    def preconditioner(self, state: State) -> Tensor | None:
        """1/(√v̂ + ε)."""
        correction = 1 - self.beta2 ** int(state["count"])
        return 1 / ((state["second"] / correction).sqrt() + self.epsilon)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam's update less η w θ, with the weight decay w = 0.01 of ``torch.optim``.

    Source: Loshchilov and Hutter 2019, algorithm 2.
    """

    weight_decay: float = 0.01

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        state, update = super().update(state, gradient, theta)
        return state, update - self.learning_rate * self.weight_decay * theta


@dataclass(frozen=True)
class SAM(SGD):
    """u = −η ∇L_B(θ + ρ g/‖g‖) with g = ∇L_B(θ), both of the same minibatch B; u = 0 where g = 0.

    Source: Foret et al. 2021 (2010.01412), algorithm 1 with p = 2.
    """

    rho: float = 0.05

    def lookahead(self, gradient: Tensor) -> Tensor | None:
        """The ascent ρ g/‖g‖ (D,)."""
        return self.rho * gradient / gradient.norm().clamp_min(1e-30)


WITH_BETA = {"momentum": Momentum, "nesterov": Nesterov, "adam": Adam, "adamw": AdamW}


def build(name: str, learning_rate: float, beta: float, rho: float) -> SGD:
    """The named update rule; β and ρ go to those rules that have them."""
    if name in WITH_BETA:
        return WITH_BETA[name](learning_rate, beta)
    if name == "sam":
        return SAM(learning_rate, rho)
    return RMSProp(learning_rate) if name == "rmsprop" else SGD(learning_rate)


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
