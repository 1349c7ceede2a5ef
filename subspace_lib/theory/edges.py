"""Edges of stability: sharpness above which a rule is unstable."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Norms = TypeVar("Norms", float, np.ndarray, pd.Series)


def sam_edge(gradient_norm: Norms, learning_rate: float, rho: float) -> Norms:
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
