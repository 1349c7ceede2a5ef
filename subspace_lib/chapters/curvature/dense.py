"""How far the density is from the whole spectrum, on a network so small that all of it can be had."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from subspace_lib import data
from subspace_lib.chapters.curvature.study import CurvatureParameters
from subspace_lib.linalg.quadrature import Quadrature, random_signs, spectral_quadrature
from subspace_lib.models.mlp import mlp
from subspace_lib.objective import Objective

DATA, WIDTH = "digits_300", 4  # units of a hidden layer
STEPS, RATE, BATCH = 500, 0.15, 50
K = 10
THRESHOLDS = 20  # at which the share of larger eigenvalues is compared


@dataclass(frozen=True)
class Compared:
    """A density beside the spectrum that it is the density of.

    Attributes:
        values: all eigenvalues of the dense matrix (D,), descending, in float64; found: the density.
    """

    values: Tensor
    found: Quadrature

    @property
    def cut(self) -> float:
        """Half way between λ_k and λ_{k+1}."""
        return float((self.values[K - 1] + self.values[K]) / 2)

    def thresholds(self) -> list[float]:
        """In the middle of the widest gaps: on which side a node falls is then no chance."""
        gaps = self.values[:-1] - self.values[1:]
        places = gaps.topk(min(THRESHOLDS, len(gaps))).indices
        return ((self.values[places] + self.values[places + 1]) / 2).tolist()

    def off(self) -> float:
        """The largest difference between the share of eigenvalues above a threshold and the density's."""
        return max(
            abs(float(self.found.share_above(t).mean()) - float((self.values > t).double().mean()))
            for t in self.thresholds()
        )


def compared(p: CurvatureParameters) -> Compared:
    """The density of the study's settings, after a short training of the small network by SGD."""
    seed, known = p.seeds[0], data.load(DATA)
    torch.manual_seed(seed)
    model = mlp(known.train_inputs[0].numel(), known.classes, width=WIDTH)
    # In float64: the page is to say the same on every machine.
    inputs, labels = known.train_inputs, known.train_labels
    objective = Objective(model, "mse", inputs, labels, dtype=torch.float64)
    theta, generator = objective.initial(), torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = torch.randperm(len(objective), generator=generator)[:BATCH]
        theta = theta - RATE * objective.gradient(theta, rows)[1]
    hessian, dim = objective.hessian(theta), objective.dim
    dense = hessian @ torch.eye(dim, dtype=torch.float64)
    values = torch.linalg.eigvalsh((dense + dense.T) / 2).flip(0)
    probes = random_signs(dim, p.probes, generator).to(theta)
    return Compared(values, spectral_quadrature(hessian, probes, min(p.lanczos_steps, dim)))
