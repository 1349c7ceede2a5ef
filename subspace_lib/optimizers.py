"""Update rules on flat vectors as pure functions: (state, gradient) → (state, update), θ ← θ + update."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

State = dict[str, Tensor]
# Name and shape of each parameter, in the order of θ.
Layout = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class SGD:
    """u = −η g. Source: Robbins and Monro 1951."""

    title: ClassVar[str] = "SGD"
    # Whether there is a preconditioner; whether the update stays, but for ε, where all gradients are
    # multiplied by a number, so that η is of another kind than SGD's.
    adaptive: ClassVar[bool] = False
    scale_free: ClassVar[bool] = False

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

    def carried(self, state: State) -> Tensor | None:
        """Σ βʲ g of the gradients so far (D,); None: the rule keeps no such mean, or has not one β."""
        return None

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """The next state and the update (D,) for a gradient (D,) and the θ (D,) to be updated."""
        return state, -self.learning_rate * gradient


@dataclass(frozen=True)
class Momentum(SGD):
    """Heavy ball: m ← β m + g, u = −η m, as ``torch.optim.SGD(momentum=β)``. Source: Polyak 1964."""

    title: ClassVar[str] = "Momentum"

    beta: float = 0.9

    def init(self, theta: Tensor) -> State:
        """The state before the first step: m = 0."""
        return {"momentum": torch.zeros_like(theta)}

    def carried(self, state: State) -> Tensor | None:
        """m."""
        return state["momentum"]

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        momentum = self.beta * state["momentum"] + gradient
        return {"momentum": momentum}, -self.learning_rate * momentum


@dataclass(frozen=True)
class Nesterov(Momentum):
    """m ← β m + g, u = −η (g + β m), as ``torch.optim.SGD(momentum=β, nesterov=True)``.

    Source: Nesterov 1983, in the form of Sutskever et al. 2013.
    """

    title: ClassVar[str] = "Nesterov"

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        state, _ = super().update(state, gradient, theta)
        return state, -self.learning_rate * (gradient + self.beta * state["momentum"])


@dataclass(frozen=True)
class RMSProp(SGD):
    """u = −η g/(√v + ε) with the moving average v of g²; α = 0.99, ε = 1e-8 as in ``torch.optim``.

    Source: Tieleman and Hinton 2012.
    """

    title: ClassVar[str] = "RMSProp"
    adaptive: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True

    alpha: float = 0.99
    epsilon: float = 1e-8

    def init(self, theta: Tensor) -> State:
        """The state before the first step: v = 0."""
        return {"second": torch.zeros_like(theta)}

    def preconditioner(self, state: State) -> Tensor:
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

    title: ClassVar[str] = "Adam"
    adaptive: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True

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

    def carried(self, state: State) -> Tensor | None:
        """m/(1 − β₁), without the bias correction."""
        return state["first"] / (1 - self.beta)

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        first = self.beta * state["first"] + (1 - self.beta) * gradient
        second = self.beta2 * state["second"] + (1 - self.beta2) * gradient.square()
        count = state["count"] + 1
        state = {"first": first, "second": second, "count": count}
        step = self.learning_rate / (1 - self.beta ** int(count))
        return state, -step * first * self.preconditioner(state)

    def preconditioner(self, state: State) -> Tensor:
        """1/(√v̂ + ε)."""
        correction = 1 - self.beta2 ** int(state["count"])
        return 1 / ((state["second"] / correction).sqrt() + self.epsilon)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam's update less η w θ, with the weight decay w = 0.01 of ``torch.optim``.

    Source: Loshchilov and Hutter 2019, algorithm 2.
    """

    title: ClassVar[str] = "AdamW"

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

    title: ClassVar[str] = "SAM"

    rho: float = 0.05

    def lookahead(self, gradient: Tensor) -> Tensor | None:
        """The ascent ρ g/‖g‖ (D,)."""
        return self.rho * gradient / gradient.norm().clamp_min(1e-30)


@dataclass(frozen=True)
class Orthogonalized(SGD):
    """Muon's update of one matrix W (a, b), given row by row: its mean gradient without singular values.

    m ← β m + (1 − β) g, u = −0.2 η √max(a, b) · O((1 − β) g + β m) − η w W with O as in
    ``orthogonalized`` and β = 0.95, w = 0.1 as in ``torch.optim.Muon(adjust_lr_fn="match_rms_adamw")``.
    The factor of η makes the entries of an update as large as Adam's usually are.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); for the factor Liu et al. 2025
    (2502.16982).
    """

    shape: tuple[int, ...]
    momentum: float = 0.95
    weight_decay: float = 0.1

    def init(self, theta: Tensor) -> State:
        """The state before the first step: m = 0."""
        return {"momentum": torch.zeros_like(theta)}

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        mean = torch.lerp(state["momentum"], gradient, 1 - self.momentum)
        used = torch.lerp(gradient, mean, self.momentum)
        step = 0.2 * self.learning_rate * math.sqrt(max(self.shape))
        direction = orthogonalized(used.view(self.shape)).reshape(-1)
        decay = self.learning_rate * self.weight_decay * theta
        return {"momentum": mean}, -step * direction - decay


def orthogonalized(matrix: Tensor) -> Tensor:
    """About U Vᵀ of a matrix U S Vᵀ (a, b): five Newton–Schulz steps, in bfloat16 as in ``torch.optim``.

    X ← aX + (bA + cA²)X with A = XXᵀ, from X = matrix/‖matrix‖_F. The coefficients a, b, c lift small
    singular values fast and do not converge: those above 0.01 ‖matrix‖_F end between 0.68 and 1.14, but for
    rounding. Zero for a matrix of zeros.

    Source: Jordan et al. 2024.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.bfloat16() if matrix.shape[0] <= matrix.shape[1] else matrix.bfloat16().T
    x = wide / wide.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if matrix.shape[0] <= matrix.shape[1] else x.T).to(matrix.dtype)


@dataclass(frozen=True)
class Muon(SGD):
    """``Orthogonalized`` for the parameters of two dimensions, AdamW for all others, at one η.

    A user's β is neither's: 0.95 and (0.9, 0.999) are those that Muon is run with. Which parameters are
    matrices the layout says; a convolution's kernels, of four dimensions, are AdamW's. The state has the
    entries of each parameter's rule, as ``<parameter>.<entry>``.

    Source: as ``Orthogonalized``, and ``torch.optim.Muon``, whose users add AdamW likewise.
    """

    title: ClassVar[str] = "Muon"
    scale_free: ClassVar[bool] = True

    layout: Layout = ()

    def init(self, theta: Tensor) -> State:
        """The states of all rules before the first step.

        Raises:
            ValueError: the layout is not that of θ.
        """
        size = sum(self._sizes)
        if size != len(theta):
            raise ValueError(
                f"optimizer = 'muon' needs the shapes of all {len(theta)} parameters, and has those of "
                f"{size}."
            )
        return {
            f"{name}.{entry}": value
            for (name, shape), part in zip(self.layout, theta.split(self._sizes), strict=True)
            for entry, value in self._rule(shape).init(part).items()
        }

    def update(self, state: State, gradient: Tensor, theta: Tensor) -> tuple[State, Tensor]:
        """As in ``SGD``."""
        states: State = {}
        updates = []
        slopes, parts = gradient.split(self._sizes), theta.split(self._sizes)
        for (name, shape), slope, part in zip(self.layout, slopes, parts, strict=True):
            start = f"{name}."
            own = {n.removeprefix(start): v for n, v in state.items() if n.startswith(start)}
            own, update = self._rule(shape).update(own, slope, part)
            states |= {start + entry: value for entry, value in own.items()}
            updates.append(update)
        return states, torch.cat(updates)

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(shape) for _, shape in self.layout]

    def _rule(self, shape: tuple[int, ...]) -> SGD:
        """The rule of a parameter of this shape."""
        if len(shape) == 2:
            return Orthogonalized(self.learning_rate, shape)
        return AdamW(self.learning_rate)


RULES: dict[str, type[SGD]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "adam": Adam,
    "sam": SAM,
    "nesterov": Nesterov,
    "rmsprop": RMSProp,
    "adamw": AdamW,
    "muon": Muon,
}
OPTIMIZERS = tuple(RULES)
ADAPTIVE = tuple(name for name, rule in RULES.items() if rule.adaptive)
SCALE_FREE = tuple(name for name, rule in RULES.items() if rule.scale_free)
WITH_BETA = tuple(name for name, rule in RULES.items() if hasattr(rule, "beta"))


def build(name: str, learning_rate: float, beta: float, rho: float, layout: Layout = ()) -> SGD:
    """The named update rule; β, ρ and the shapes of the parameters go to those rules that have them.

    Raises:
        ValueError: unknown name.
    """
    if name not in RULES:
        raise ValueError(
            f"optimizer = {name!r} is not known; choose one of {', '.join(OPTIMIZERS)}."
        )
    given: dict[str, Any] = {"beta": beta, "rho": rho, "layout": layout}
    own = {field.name for field in fields(RULES[name])}
    return RULES[name](learning_rate, **{n: value for n, value in given.items() if n in own})
