"""What a rule with momentum does to one eigendirection of a quadratic with noise: predictions (F4).

Along an eigenvector of eigenvalue λ the gradient is g = λx, a step uses g + ξ with noise ξ, and

    m ← β m + g + ξ,    x ← x − η (a (g + ξ) + b m).

Heavy ball has (a, b) = (0, 1), Nesterov's momentum (1, β), SGD β = 0. Adam with frozen second moments is
heavy ball with η (1 − β) in the coordinates θ̃ = √(√v̂ + ε) θ, RMSProp is SGD there; their Hessian is
√M H √M, with the preconditioner M = diag(1/(√v̂ + ε)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace_lib import optimizers


@dataclass(frozen=True)
class LinearRule:
    """m ← β m + g + ξ, x ← x − η (a (g + ξ) + b m); ``direct`` is a, ``carried`` is b."""

    learning_rate: float
    beta: float = 0.0
    direct: float = 0.0
    carried: float = 1.0

    def matrix(self, value: float) -> np.ndarray:
        """A (2, 2) with (x, m) ← A (x, m) + b ξ at λ = value."""
        eta, both = self.learning_rate, self.direct + self.carried
        moved = [1 - eta * both * value, -eta * self.carried * self.beta]
        return np.array([moved, [value, self.beta]])

    def kick(self) -> np.ndarray:
        """b (2,): what a unit of noise adds to (x, m)."""
        return np.array([-self.learning_rate * (self.direct + self.carried), 1.0])

    @property
    def edge(self) -> float:
        """λ above which the rule is unstable: 2 (1 + β)/(η (a + b + aβ)).

        There an eigenvalue of A passes −1. 2 (1 + β)/η for heavy ball, 2/η for SGD.
        """
        push = self.direct + self.carried + self.direct * self.beta
        return 2 * (1 + self.beta) / (self.learning_rate * push)

    @property
    def slow_rate(self) -> float:
        """−u/g where the gradient hardly changes: η (a + b/(1 − β)); η/(1 − β) for all with momentum."""
        return self.learning_rate * (self.direct + self.carried / (1 - self.beta))


class NoTheory(ValueError):
    """What the update rule does to an eigendirection of a quadratic is not among the forms known here."""


def linear(rule: optimizers.SGD) -> LinearRule:
    """The rule as it acts on an eigendirection, for Adam and RMSProp in preconditioned coordinates.

    AdamW is Adam here: what its decay takes off θ in a step, η w of it, is left out.

    Raises:
        NoTheory: the rule is none of ``FORMS``, such as SAM or Muon.
    """
    form = FORMS.get(type(rule))  # a subclass may do otherwise than its parent
    if form is None:
        raise NoTheory(
            f"{type(rule).__name__} has no theory on the quadratic; "
            f"{', '.join(known.__name__ for known in FORMS)} have one."
        )
    return form(rule)


FORMS: dict[type[optimizers.SGD], Callable[[Any], LinearRule]] = {
    optimizers.SGD: lambda rule: LinearRule(rule.learning_rate),
    optimizers.Momentum: lambda rule: LinearRule(rule.learning_rate, rule.beta),
    optimizers.Nesterov: lambda rule: LinearRule(rule.learning_rate, rule.beta, 1.0, rule.beta),
    optimizers.RMSProp: lambda rule: LinearRule(rule.learning_rate),
    optimizers.Adam: lambda rule: LinearRule(rule.learning_rate * (1 - rule.beta), rule.beta),
    optimizers.AdamW: lambda rule: LinearRule(rule.learning_rate * (1 - rule.beta), rule.beta),
}


def damping(rule: LinearRule, value: float) -> float:
    """−ln |z| a step, z the larger eigenvalue of A at λ = value: how fast a deviation dies out.

    About ``slow_rate`` · λ where that is small. Heavy ball swings from ηλ = (1 − √β)² on: −ln √β there,
    whatever λ. Below 0 beyond the edge.
    """
    return float(-np.log(np.abs(np.linalg.eigvals(rule.matrix(value))).max()))


def stationary_variance(rule: LinearRule, value: float) -> float:
    """Var x at λ = value for white noise of variance 1; infinite beyond the rule's edge.

    Solves P = A P Aᵀ + b bᵀ. For heavy ball η (1 + β)/(λ (1 − β)(2 (1 + β) − ηλ)).
    """
    if not 0 < value < rule.edge:
        return np.inf
    return rule.learning_rate**2 * float(_stationary(rule, value)[1][0, 0])


def stationary_rate(rule: LinearRule, value: float) -> float:
    """−E[u g]/E[g²] of pure fluctuation at λ = value, whatever the noise: the rule only damps it.

    As E x² stays, 2 E[xu] = −E[u²], so the rate is E[u²]/(2λ E[x²]). For heavy ball it is η/(1 + β) at
    every λ, against η/(1 − β) for a gradient that persists. NaN beyond the rule's edge.
    """
    if not 0 < value < rule.edge:
        return np.nan
    a, covariance = _stationary(rule, value)
    step = a[0] - np.array([1.0, 0.0])  # u = step · (x, ηm) + noise
    return float(-(step @ covariance[:, 0]) / (value * covariance[0, 0]))


def _stationary(rule: LinearRule, value: float) -> tuple[np.ndarray, np.ndarray]:
    """A in the coordinates (x, ηm), where its entries are near 1, and the covariance there over η²."""
    scale = np.array([1.0, rule.learning_rate])
    a, kick = rule.matrix(value) * np.outer(scale, 1 / scale), rule.kick() * scale
    forcing = np.outer(kick, kick) / rule.learning_rate**2
    # C = A C Aᵀ + forcing as one linear system for the four entries of C
    return a, np.linalg.solve(np.eye(a.size) - np.kron(a, a), forcing.ravel()).reshape(a.shape)


@dataclass(frozen=True)
class Noise:
    """Covariance of a step's noise over T steps: a I − b Σ 1_E 1_Eᵀ over the epochs E.

    Attributes:
        independent: a; shared: b; epochs: (epochs, T), 1 where the step belongs to the epoch.
    """

    independent: float
    shared: float
    epochs: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """All of it (T, T)."""
        own = self.independent * np.eye(self.epochs.shape[1])
        return own - self.shared * self.epochs.T @ self.epochs


def window(
    rule: LinearRule,
    values: np.ndarray,
    noise: Noise,
    variances: np.ndarray,
    x: np.ndarray,
    m: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Expected −Σ u g and Σ g² over a window of T steps, for n eigendirections at once; (n,) each.

    Exact for the quadratic: the mean path, and the covariance of the linear response r to the noise,
    x_t = mean_t + Σ_{j<t} r_{t−1−j} ξ_j.

    Args:
        values: λ (n,); noise: over the T steps, times ``variances`` (n,); x, m: (n,), at the first step.
    """
    count = noise.epochs.shape[1]
    mean, response = np.empty((count + 1, len(values))), np.empty((count, len(values)))
    mean[0], pulse = x, _step(rule, values, 0 * x, 0 * m, push=1.0)
    for t in range(count):
        response[t], pulse = pulse[0], _step(rule, values, *pulse)
        x, m = _step(rule, values, x, m)
        mean[t + 1] = x
    # E[x_t x_t] and E[x_{t+1} x_t] less the means' products, summed over the window's steps
    times = np.arange(count - 1, 0, -1)  # r_i is felt at so many of them
    same = noise.independent * times @ response[:-1] ** 2
    next_ = noise.independent * times @ (response[1:] * response[:-1])
    for epoch in noise.epochs:
        felt = _convolution(epoch) @ response
        same = same - noise.shared * (felt[:-1] ** 2).sum(0)
        next_ = next_ - noise.shared * (felt[1:] * felt[:-1]).sum(0)
    g, u = values * mean[:-1], np.diff(mean, axis=0)
    product = -(u * g).sum(0) - values * variances * (next_ - same)
    return product, (g * g).sum(0) + values**2 * variances * same


def _step(
    rule: LinearRule, values: np.ndarray, x: np.ndarray, m: np.ndarray, push: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The next (x, m) where the noise is ``push``."""
    used = values * x + push
    m = rule.beta * m + used
    return x - rule.learning_rate * (rule.direct * used + rule.carried * m), m


def _convolution(weights: np.ndarray) -> np.ndarray:
    """(T + 1, T), with Σ_{i<t} w_{t−1−i} r_i in row t of its product with r (T, n)."""
    count = len(weights)
    lag = np.subtract.outer(np.arange(count + 1), np.arange(count)) - 1
    return np.where(lag >= 0, weights[lag], 0.0)


def batch_noise(samples: int, size: int, start: int, count: int) -> Noise:
    """That of ``count`` minibatches from step ``start`` on, in units of a sample's.

    Without replacement: (N − B)/((N − 1) B) for one step, and within an epoch of n batches −1/(n − 1)
    of that between steps, so that the noise of an epoch adds up to nothing.
    """
    variance = (samples - size) / ((samples - 1) * size)
    per_epoch = -(-samples // size)
    epoch = np.arange(start, start + count) // per_epoch
    shared = variance / max(1, per_epoch - 1)
    return Noise(variance + shared, shared, np.equal.outer(np.unique(epoch), epoch).astype(float))
