"""Artificial gradient noise: what SGD's noise is, without the minibatches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from subspace_lib.objective import Objective


class GradientNoise:
    """Gaussian noise for full-batch gradients, as a pure function of (θ, seed, step).

    Kind "sgd": ξ = c Σ_i z_i (∇ℓ_i − g), z_i independent standard normal, c² = (N − B)/((N − 1) B N):
    its covariance is that of the mean over B samples drawn without replacement. Kind "isotropic": a
    standard normal vector, scaled to ‖ξ‖ of the first kind at the same step: the same trace, but no
    direction is preferred.

    Args:
        objective: of N samples; kind: "sgd" or "isotropic"; batch: B, in samples.

    Source: the covariance of a sample mean, e.g. Cochran, Sampling Techniques, 1977, ch. 2.
    """

    def __init__(self, objective: Objective, kind: str, batch: int, seed: int):
        self.objective, self.kind, self.seed = objective, kind, seed
        samples = len(objective)
        self.scale = math.sqrt((samples - batch) / (max(1, samples - 1) * batch * samples))

    def draw(self, theta: Tensor, step: int) -> Tensor:
        """ξ of the step, shape (D,)."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step + 1) % 2**32)
        z = torch.randn(len(self.objective), generator=generator).to(theta)
        leaning = self.objective.weighted_gradient(theta, self.scale * (z - z.mean()))
        if self.kind == "sgd":
            return leaning
        even = torch.randn(len(theta), generator=generator).to(theta)
        return even * (leaning.norm() / even.norm())
