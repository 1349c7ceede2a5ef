"""The ill-conditioned valley in two dimensions: sample losses, paths, and what theory says of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from subspace_lib import optimizers
from subspace_lib.subspace.projection import restrict

# Name on the page: rule, projection, whether the gradient is that of a sample.
METHODS = {
    "SGD": ("sgd", "none", True),
    "GD": ("sgd", "none", False),
    "Dom-SGD": ("sgd", "dominant", True),
    "Bulk-SGD": ("sgd", "bulk", True),
    "momentum": ("momentum", "none", True),
    "Adam": ("adam", "none", True),
    "SAM": ("sam", "none", True),
}


@dataclass(frozen=True)
class Valley:
    """L(x, y) = ½(κx² + y²), the mean of two sample losses L ± (c xy + s x).

    The steep direction x is the dominant subspace, k = 1; the floor of the valley is the y axis. A step of
    SGD takes one of the samples: its gradient is (κx ± (cy + s), y ± cx). The noise in the steep direction
    grows with the distance y along the valley for s = 0, and stays where s alone makes it.

    Attributes:
        condition: κ > 0, the ratio of the curvatures; cross: c; shift: s.

    Source: after arXiv 2405.16002, section 4, where the sample losses differ by a cross term.
    """

    condition: float = 1000.0
    cross: float = 10.0
    shift: float = 0.0

    k: ClassVar[int] = 1
    floor: ClassVar[float] = 0.0  # the loss at the minimum

    @property
    def values(self) -> np.ndarray:
        """Eigenvalues of the Hessian, (2,)."""
        return np.array([self.condition, 1.0])

    def loss(self, points: np.ndarray) -> np.ndarray:
        """L at points (…, 2); shape (…)."""
        return (self.condition * points[..., 0] ** 2 + points[..., 1] ** 2) / 2

    def gradient(self, points: np.ndarray) -> np.ndarray:
        """∇L at points (…, 2); the same shape."""
        return points * self.values

    def alignment(self, points: np.ndarray) -> np.ndarray:
        """χ₁ = |κx|/‖∇L‖ at points (…, 2), shape (…); NaN at the minimum."""
        gradient = self.gradient(points)
        norm = np.hypot(gradient[..., 0], gradient[..., 1])
        return np.abs(gradient[..., 0]) / np.where(norm > 0, norm, np.nan)

    def draw(self, generator: np.random.Generator, batch: int, paths: int) -> np.ndarray:
        """Mean of the ``batch`` signs of a minibatch for each path; shape (paths,)."""
        return 2 * generator.binomial(batch, 0.5, paths) / batch - 1

    def noise(self, points: np.ndarray, signs: np.ndarray | float) -> np.ndarray:
        """Sample gradient less ∇L at points (…, 2) for signs (…) in −1 … 1; a mean of signs is a batch."""
        x, y = points[..., 0], points[..., 1]
        return np.stack([signs * (self.cross * y + self.shift), signs * self.cross * x], -1)

    def stationary_variance(self, learning_rate: float, y: float) -> float:
        """Var x = η (cy + s)²/(κ(2 − ηκ)) of SGD while y hardly changes; infinite for ηκ ≥ 2.

        From x ← (1 − ηκ) x ∓ η (cy + s): V = (1 − ηκ)² V + η² (cy + s)².
        """
        slack = 2 - learning_rate * self.condition
        scatter = learning_rate * (self.cross * y + self.shift) ** 2
        return scatter / (self.condition * slack) if slack > 0 else np.inf

    def stationary_alignment(self, learning_rate: float, y: float) -> float:
        """√(A/(1 + A)), A = κ² Var x/y²: the alignment of a gradient of typical steepness at y.

        High where ηκ (c + s/y)²/(2 − ηκ) is far above 1. For s = 0 it does not depend on y.
        """
        ratio = self._steepness(learning_rate, y)
        return 1.0 if np.isinf(ratio) else float(np.sqrt(ratio / (1 + ratio)))

    def steps_to_appear(self, learning_rate: float, y: float, level: float) -> float:
        """Steps of SGD from the floor, x = 0, until the alignment of typical steepness is ``level``.

        The first t with A (1 − (1 − ηκ)²ᵗ) ≥ a, a = χ²/(1 − χ²); infinite where A < a, or A = a.
        """
        wanted, ratio = level**2 / (1 - level**2), self._steepness(learning_rate, y)
        if ratio <= wanted:
            return math.inf
        return _first_step(learning_rate * self.condition, 1 - wanted / ratio)

    def steps_to_vanish(self, learning_rate: float, y: float, level: float) -> float:
        """Steps of GD from where SGD settles until that alignment is ``level``.

        The first t with A (1 − ηκ)²ᵗ ≤ a; 0 where A ≤ a, infinite for ηκ ≥ 2.
        """
        wanted, ratio = level**2 / (1 - level**2), self._steepness(learning_rate, y)
        if ratio <= wanted:
            return 0.0
        if math.isinf(ratio):
            return math.inf
        return _first_step(learning_rate * self.condition, wanted / ratio)

    def _steepness(self, learning_rate: float, y: float) -> float:
        """A = κ² Var x/y²."""
        return self.condition**2 * self.stationary_variance(learning_rate, y) / y**2

    def moments(self, learning_rate: float, start: tuple[float, float], steps: int) -> np.ndarray:
        """E x², E y² and E y of SGD, exactly, after 0 … steps steps; shape (steps + 1, 3).

        X ← (1 − ηκ)² X + η² (c² Y + 2cs E y + s²), Y ← (1 − η)² Y + η² c² X, E y ← (1 − η) E y.
        """
        eta, c, s = learning_rate, self.cross, self.shift
        step = np.array([
            [(1 - eta * self.condition) ** 2, (eta * c) ** 2, 2 * c * s * eta**2],
            [(eta * c) ** 2, (1 - eta) ** 2, 0.0],
            [0.0, 0.0, 1 - eta],
        ])  # fmt: skip
        out = np.empty((steps + 1, 3))
        out[0] = start[0] ** 2, start[1] ** 2, start[1]
        for t in range(steps):
            out[t + 1] = step @ out[t]
            out[t + 1, 0] += (eta * s) ** 2
        return out


def _first_step(sharp: float, left: float) -> float:
    """The first t ≥ 1 with (1 − sharp)²ᵗ ≤ left, for 0 < left < 1 and 0 < sharp < 2."""
    if sharp == 1:
        return 1.0
    return max(1.0, math.ceil(math.log(left) / (2 * math.log(abs(1 - sharp)))))


def signs(seed: int, count: int) -> np.ndarray:
    """``count`` random signs ±1.0 from a 32-bit seed, the same as those of the page's script.

    The generator is mulberry32 (T. Ettinger, public domain); a sign is −1 where its output is below 2³¹.
    """
    mask, state, out = 0xFFFFFFFF, seed & 0xFFFFFFFF, np.empty(count)
    for i in range(count):
        state = (state + 0x6D2B79F5) & mask
        t = (state ^ (state >> 15)) * (state | 1) & mask
        t = (t ^ (t + (t ^ (t >> 7)) * (t | 61))) & mask
        out[i] = -1.0 if (t ^ (t >> 14)) < 2**31 else 1.0
    return out


class _Axis:
    """The dominant subspace of the valley: the x axis."""

    def project(self, v: Tensor) -> Tensor:
        """P₁ v for v (2,)."""
        return v * v.new_tensor([1.0, 0.0])


def path(
    valley: Valley,
    method: str,
    learning_rate: float,
    start: tuple[float, float],
    steps: int,
    seed: int = 0,
    *,
    beta: float = 0.9,
    rho: float = 0.05,
) -> np.ndarray:
    """Points (steps + 1, 2), float64, of a method of ``METHODS`` with one sample a step.

    The rules are those of ``subspace_lib.optimizers``. SAM takes both gradients of a step from the same
    sample.

    Raises:
        ValueError: the method is not known.
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r} is not known; use {', '.join(METHODS)}.")
    name, projection, noisy = METHODS[method]
    rule = optimizers.build(name, learning_rate, beta, rho)
    drawn = signs(seed, steps) if noisy else np.zeros(steps)

    def gradient(theta: Tensor, sign: float) -> Tensor:
        point = theta.numpy()
        return torch.from_numpy(valley.gradient(point) + valley.noise(point, sign))

    theta = torch.tensor(start, dtype=torch.float64)
    state, points = rule.init(theta), [theta]
    for sign in drawn:
        slope = gradient(theta, sign)
        displacement = rule.lookahead(slope)
        if displacement is not None:
            slope = gradient(theta + displacement, sign)
        state, update = rule.update(state, slope, theta)
        theta = theta + restrict(update, projection, _Axis())
        points.append(theta)
    return torch.stack(points).numpy()
