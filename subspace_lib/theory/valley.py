"""The ill-conditioned valley in two dimensions: sample losses, paths, and what theory says of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import mpmath
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from subspace_lib import optimizers
from subspace_lib.subspace.projection import restrict

# Name on the page: rule, projection, whether the gradient is that of a sample.
METHODS = {
    "SGD": ("sgd", "none", True),
    "GD": ("sgd", "none", False),
    "Dom-SGD": ("sgd", "dominant", True),
    "Bulk-SGD": ("sgd", "bulk", True),
    "heavy ball": ("momentum", "none", True),
    "Adam": ("adam", "none", True),
    "SAM": ("sam", "none", True),
}


@dataclass(frozen=True)
class Valley:
    """L(x, y) = ½(κx² + y²), the mean of two sample losses L ± c xy.

    The steep direction x is the dominant subspace, k = 1; the floor of the valley is the y axis. A step of
    SGD takes one of the samples: its gradient is (κx ± cy, y ± cx). A batch of B samples is a mean of B
    signs, of variance 1/B: on average over paths the same as one sample with c/√B.

    All closed forms follow from the exact recursion of the mean squares X = E x² and Y = E y²,
    X ← (1 − ηκ)² X + η²c² Y, Y ← (1 − η)² Y + η²c² X (``moments``).

    Attributes:
        condition: κ > 0, the ratio of the curvatures.
        cross: c.

    Source: arXiv 2405.16002, section 4; the cross term 100 xy by the paper's public reviews, κ is ours.
    """

    condition: float = 1000.0
    cross: float = 100.0

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
        weights = np.asarray(signs * self.cross)
        return points[..., ::-1] * weights[..., None]

    def share(self, learning_rate: float) -> float:
        """a = ηc²/(2 − ηκ): the loss across the valley over that along it, κX/Y, once x has settled.

        X has settled where a step leaves it as it is, X = (1 − ηκ)² X + η²c² Y, while Y hardly changes.
        Infinite for ηκ ≥ 2, where x diverges.
        """
        slack = 2 - learning_rate * self.condition
        return learning_rate * self.cross**2 / slack if slack > 0 else math.inf

    def rate(self, share: float) -> float:
        """The η with that share a: η = 2a/(c² + aκ)."""
        return 2 * share / (self.cross**2 + share * self.condition)

    def stationary_variance(self, learning_rate: float, y: float) -> float:
        """Var x = η c² y²/(κ(2 − ηκ)) = a y²/κ of SGD while y hardly changes; infinite for ηκ ≥ 2."""
        return self.share(learning_rate) * y**2 / self.condition

    def typical_alignment(self, learning_rate: float) -> float:
        """√(A/(1 + A)), A = κ²X/Y = κa: the alignment of a gradient of typical steepness."""
        steepness = self.condition * self.share(learning_rate)
        return 1.0 if math.isinf(steepness) else math.sqrt(steepness / (1 + steepness))

    def mean_alignment(self, learning_rate: float) -> float:
        """E χ₁ = exp(1/2A) erfc(1/√(2A)) for Gaussian x, which is what small ηκ makes of many signs.

        The integral of |z|/√(z² + 1/A) over a normal z; 0 without noise.
        """
        steepness = self.condition * self.share(learning_rate)
        return float(_erfcx(1 / math.sqrt(2 * steepness))) if steepness > 0 else 0.0

    def feedback(self, learning_rate: float) -> float:
        """a · ηc²/(κ(2 − η)): how much of y's decay the noise that x feeds back undoes.

        Below 1 SGD converges in mean square, from 1 on it does not: det(1 − M) = 0 at 1, with M the matrix
        of the recursion.
        """
        back = learning_rate * self.cross**2 / (self.condition * (2 - learning_rate))
        return self.share(learning_rate) * back

    def bulk_progress(self, learning_rate: float) -> float:
        """(1 − f)/(1 + a) ≈ 1/(1 + a): progress of Bulk-SGD from where SGD has settled, in the long run.

        At the switch 2L = Y(1 + a). SGD goes to 0. Bulk-SGD keeps κX = aY, whose noise keeps y from the
        minimum: 2L → aY + fY with f the ``feedback``, about a²/κ. So it gains Y(1 − f) of SGD's Y(1 + a).

        NaN where SGD itself does not converge.
        """
        lost = self.feedback(learning_rate)
        return (1 - lost) / (1 + self.share(learning_rate)) if lost < 1 else math.nan

    def window(self, alignment: float, progress: float) -> tuple[float, float]:
        """The smallest share a with that ``mean_alignment``, the largest with that 1/(1 + a).

        Between them SGD's gradient is aligned and Bulk-SGD as good as SGD. The first falls with κ, the
        second does not depend on it: in a valley that is not steep enough they cross, and nothing is left.
        """
        between = (0, 1 / alignment)  # for erfcx(z) < 1/z
        inverse = float(
            mpmath.findroot(lambda z: _erfcx(z) - alignment, between, solver="anderson")
        )
        return 1 / (2 * inverse**2 * self.condition), 1 / progress - 1

    def moments(
        self,
        learning_rate: float,
        start: ArrayLike,
        steps: int,
        projection: str = "none",
        *,
        noisy: bool = True,
    ) -> np.ndarray:
        """E x² and E y² after 0 … steps steps from mean squares ``start``, exactly; shape (steps + 1, 2).

        Of SGD, or with ``projection`` of Dom-SGD, which leaves y, or Bulk-SGD, which leaves x; without
        noise of GD.
        """
        eta, spread = learning_rate, (learning_rate * self.cross) ** 2 if noisy else 0.0
        shrink = (1 - eta * self.values) ** 2
        step = np.array([[shrink[0], spread], [spread, shrink[1]]])
        for kept, row in (("bulk", 0), ("dominant", 1)):
            if projection == kept:
                step[row] = np.eye(2)[row]
        out = np.empty((steps + 1, 2))
        out[0] = start
        for t in range(steps):
            out[t + 1] = step @ out[t]
        return out


def signs(seed: int, count: int) -> np.ndarray:
    """``count`` random signs ±1.0 from a 32-bit seed, the same as those of the page's script.

    The generator is mulberry32 (T. Ettinger, public domain); a sign is −1 where its output is below 2³¹.
    """
    mask = np.uint64(0xFFFFFFFF)
    a, b, c = (np.uint64(shift) for shift in (15, 7, 14))
    state = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x6D2B79F5)) & mask
    state = (state + np.uint64(seed & 0xFFFFFFFF)) & mask
    t = (state ^ (state >> a)) * (state | np.uint64(1)) & mask
    t = (t ^ (t + (t ^ (t >> b)) * (t | np.uint64(61)))) & mask
    return np.where((t ^ (t >> c)) < 2**31, -1.0, 1.0)


class _Axis:
    """The dominant subspace of the valley: the x axis."""

    def project(self, v: Tensor) -> Tensor:
        """P₁ v for v (2,)."""
        return v * v.new_tensor([1.0, 0.0])


def _erfcx(z: float) -> mpmath.mpf:
    """exp(z²) erfc(z) for z ≥ 0, as Tricomi's U, whose digits do not cancel."""
    return mpmath.hyperu(0.5, 0.5, z**2) / mpmath.sqrt(mpmath.pi)


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
    drawn = signs(seed, steps) if noisy else np.zeros(steps)
    if name == "sgd":
        return _plain_path(valley, projection, learning_rate, start, drawn)
    rule = optimizers.build(name, learning_rate, beta, rho)

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


def _plain_path(
    valley: Valley, projection: str, eta: float, start: tuple[float, float], drawn: np.ndarray
) -> np.ndarray:
    """Points of the rule "sgd" in Python's own numbers: 200,000 steps with a tensor each take too long."""
    across = 0.0 if projection == "bulk" else eta
    along = 0.0 if projection == "dominant" else eta
    condition, (x, y) = valley.condition, start
    points = [(x, y)]
    for weight in (valley.cross * drawn).tolist():
        slope = y + weight * x
        x -= across * (condition * x + weight * y)
        y -= along * slope
        points.append((x, y))
    return np.array(points)
