"""Linear regression with a spiked spectrum: the smallest problem with data, and what theory says of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

OUTLIERS = (100.0, 40.0)  # largest and smallest variance of the spiked features
BULK = (1.0, 0.01)  # of the others, geometrically spaced like those


@dataclass(frozen=True)
class Regression:
    """L(w) = ½ mean (xₙ·w − yₙ)² around its minimum, in coordinates along the eigenvectors of H.

    A point is δ = w − w* (…, D) along the eigenvectors of H = XᵀX/N, so that ∇L = λδ. A step of SGD takes
    B samples *with replacement*: independent batches, whose gradient has the covariance S/B.

    Attributes:
        values: λ (D,), in descending order; k: the size of the dominant subspace.
        features: xₙ along the eigenvectors (N, D); residuals: xₙ·w* − yₙ (N,).
        start: the point w = 0 (D,).
    """

    values: np.ndarray
    features: np.ndarray
    residuals: np.ndarray
    start: np.ndarray
    k: int

    @property
    def floor(self) -> float:
        """L(w*)."""
        return float(np.mean(self.residuals**2) / 2)

    def gradient(self, points: np.ndarray) -> np.ndarray:
        """∇L at points (…, D); the same shape."""
        return points * self.values

    def draw(self, generator: np.random.Generator, batch: int, paths: int) -> np.ndarray:
        """Rows of a minibatch for each path; shape (paths, batch)."""
        return generator.integers(len(self.residuals), size=(paths, batch))

    def noise(self, points: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Minibatch gradient less ∇L at points (cases, paths, D) for rows (paths, B)."""
        inputs = self.features[rows]
        moved = np.moveaxis(points, 0, -1)  # (paths, D, cases)
        errors = self.residuals[rows][..., None] + inputs @ moved
        gradients = inputs.transpose(0, 2, 1) @ errors / rows.shape[1]
        return np.moveaxis(gradients, -1, 0) - self.gradient(points)

    @cached_property
    def fourth(self) -> np.ndarray:
        """K (D, D), K_ij = mean xₙᵢ² xₙⱼ²: how a variance along j feeds the noise along i."""
        squares = self.features**2
        return squares.T @ squares / len(squares)

    def noise_variance(self, point: np.ndarray | float = 0.0) -> np.ndarray:
        """sᵢ = vᵢᵀSvᵢ of single samples at a point; shape (D,)."""
        errors = self.residuals + self.features @ np.broadcast_to(point, self.values.shape)
        gradient = self.values * point
        return (self.features**2).T @ errors**2 / len(errors) - gradient**2

    def stationary_variance(
        self,
        learning_rate: float,
        batch: int,
        *,
        feedback: bool = True,
    ) -> np.ndarray:
        """Var δᵢ = η sᵢ/(B λᵢ(2 − ηλᵢ)) of SGD around the minimum; shape (D,).

        From δᵢ ← (1 − ηλᵢ) δᵢ − η ξᵢ with Var ξᵢ = sᵢ/B. Without ``feedback`` sᵢ is that at the minimum.
        SGD's own variance m adds to it: with ``feedback`` sᵢ + Σⱼ Kᵢⱼ mⱼ − λᵢ² mᵢ takes its place, a
        linear system for m. Covariances between eigenvectors are left out: noise proportional to H has
        none.
        """
        eta, noise = learning_rate, self.noise_variance()
        system = np.diag(self.values * (2 - eta * self.values) * batch / eta)
        if feedback:
            system -= self.fourth - np.diag(self.values**2)
        return np.linalg.solve(system, noise)

    def moments(self, learning_rate: float, batch: int, steps: int) -> np.ndarray:
        """Var δᵢ after 0 … steps steps from the minimum; shape (steps + 1, D).

        m ← (1 − ηλ)² m + (η²/B)(s + Km − λ²m), whose fixed point is the stationary variance.
        """
        spread = learning_rate**2 / batch
        decay = (1 - learning_rate * self.values) ** 2 - spread * self.values**2
        noise = self.noise_variance()
        out = np.zeros((steps + 1, len(self.values)))
        for t in range(steps):
            out[t + 1] = decay * out[t] + spread * (noise + self.fourth @ out[t])
        return out


def spiked(
    seed: int, dimension: int, samples: int, outliers: int, signal: float, label_noise: float
) -> Regression:
    """Gaussian features with a few large variances, a gap, and a tail that decays geometrically.

    y = x·w + noise with w ~ N(0, signal²), noise ~ N(0, label_noise²). Eigenvectors of H by eigh.
    """
    generator = np.random.default_rng([seed, dimension, samples])
    variances = np.concatenate(
        [np.geomspace(*OUTLIERS, outliers), np.geomspace(*BULK, dimension - outliers)]
    )
    inputs = generator.standard_normal((samples, dimension)) * np.sqrt(variances)
    weights = signal * generator.standard_normal(dimension)
    labels = inputs @ weights + label_noise * generator.standard_normal(samples)
    values, vectors = np.linalg.eigh(inputs.T @ inputs / samples)
    values, vectors = values[::-1].copy(), vectors[:, ::-1]
    features = inputs @ vectors
    minimum = features.T @ labels / (samples * values)
    return Regression(values, features, features @ minimum - labels, -minimum, outliers)
