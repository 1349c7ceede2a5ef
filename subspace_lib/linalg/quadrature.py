"""The whole spectrum of a symmetric operator, from a few Lanczos steps: its density, with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from subspace_lib.linalg.eigensolver import Operator, multiply
from subspace_lib.linalg.precision import full_precision

ROUNDING = 10  # times ε of the largest entry of T: a residual below it is no new direction


@dataclass(frozen=True)
class Quadrature:
    """Gauss quadratures of a spectral density, one a probe: Σ_j w_j f(θ_j) ≈ vᵀ f(A) v, ‖v‖ = 1.

    The mean over probes estimates tr f(A)/D; what differs between probes is its error (``mean_error``).

    Attributes:
        nodes: θ, (p, m), ascending; weights: w ≥ 0, (p, m), of sum 1 for each probe. Both in float64.
    """

    nodes: Tensor
    weights: Tensor

    def moment(self, power: int) -> Tensor:
        """Σ_j w_j θ_j^power of each probe, (p,): vᵀ A^power v, exact in exact arithmetic up to 2m − 1."""
        return (self.weights * self.nodes**power).sum(1)

    def share_above(self, threshold: float) -> Tensor:
        """Share of the eigenvalues above a threshold by each probe, (p,)."""
        return (self.weights * (self.nodes > threshold)).sum(1)

    def width(self, share: float) -> float:
        """So large a share of the distance from the smallest node to the largest, above 0."""
        low, high = self._ends()
        return max(share * (high - low), 1e-30)

    def grid(self, count: int, margin: float) -> Tensor:
        """So many points from the smallest node to the largest, with a margin at both ends, (count,)."""
        low, high = self._ends()
        return torch.linspace(low - margin, high + margin, count, dtype=torch.float64)

    def _ends(self) -> tuple[float, float]:
        """Smallest and largest node; one without weight stands where a recurrence has ended early."""
        found = self.nodes[self.weights > 0]
        return float(found.min()), float(found.max())

    def density(self, points: Tensor, width: float) -> Tensor:
        """Σ_j w_j N(t; θ_j, width²) at points t (g,), by each probe: (p, g); width > 0."""
        away = (points.to(self.nodes) - self.nodes[:, :, None]) / width
        bumps = torch.exp(-away.square() / 2) / (width * math.sqrt(2 * math.pi))
        return torch.einsum("pm,pmg->pg", self.weights, bumps)


def mean_error(values: Tensor) -> Tensor:
    """Standard error of the mean over probes, of values (p, …); NaN for a single probe."""
    if len(values) < 2:
        return torch.full_like(values[0], math.nan)
    return values.std(0) / math.sqrt(len(values))


def random_signs(dim: int, probes: int, generator: torch.Generator) -> Tensor:
    """Probes of ±1, (D, p), on the CPU: of all independent entries those of least variance for a trace."""
    return 2.0 * torch.randint(0, 2, (dim, probes), generator=generator) - 1.0


@full_precision()
def spectral_quadrature(operator: Operator, probes: Tensor, steps: int) -> Quadrature:
    """Stochastic Lanczos quadrature: the spectral density of A as p probes see it.

    m Lanczos steps from v give Q (D, m) with Qᵀ A Q = T, tridiagonal. With T = Y Θ Yᵀ the nodes are Θ and
    the weights the squares of Y's first row. The p recurrences run at the same time, one block product a
    step; each is reorthogonalized in full, by two sweeps, and T is in float64.

    Args:
        operator: symmetric A of shape (D, D), given by its block products.
        probes: (D, p), independent of each other and of any length, such as ``random_signs``.
        steps: m; no more than D are taken. The memory is that of p m vectors.

    Raises:
        ValueError: no probe, a probe that is zero, or no step.
        NonFiniteProduct: a product has NaN or inf.

    Source: Golub and Welsch 1969 for the weights; Ubaru, Chen, Saad 2017; Ghorbani, Krishnan, Xiao 2019.
    """
    if probes.ndim != 2 or not probes.shape[1] or not bool((probes.norm(dim=0) > 0).all()):
        raise ValueError(
            f"probes has shape {tuple(probes.shape)}; it must be a block (D, p) without a zero column."
        )
    if steps < 1:
        raise ValueError(f"steps = {steps} must be at least 1 Lanczos step.")
    vectors = (probes / probes.norm(dim=0)).T.contiguous()
    count, dim = vectors.shape
    steps = min(steps, dim)
    basis = vectors.new_empty(count, steps, dim)
    table = torch.zeros(count, steps, steps, dtype=torch.float64, device=vectors.device)
    for j in range(steps):
        basis[:, j] = vectors
        rest = multiply(operator, vectors.T).T
        table[:, j, j] = (vectors.double() * rest.double()).sum(1)
        for _ in range(2):  # one sweep loses orthogonality where little is left
            rest = _outside(rest, basis[:, : j + 1])
        sizes = rest.double().norm(dim=1)
        # A probe whose Krylov space is exhausted goes on as zero: nothing couples to its further rows of
        # T, and their nodes have no weight.
        floor = ROUNDING * torch.finfo(rest.dtype).eps * table.abs().amax((1, 2))
        sizes = sizes.where(sizes > floor, 0.0)
        if j + 1 == steps:
            break
        table[:, j, j + 1] = table[:, j + 1, j] = sizes
        inverse = sizes.reciprocal().where(sizes > 0, 0.0)
        vectors = rest * inverse.to(rest.dtype)[:, None]
    nodes, rows = torch.linalg.eigh(table)
    return Quadrature(nodes, rows[:, 0].square())


def _outside(rest: Tensor, known: Tensor) -> Tensor:
    """What is left of each vector (p, D) outside of its own orthonormal rows (p, j, D)."""
    inside = torch.bmm(known, rest[:, :, None])
    return rest - torch.bmm(inside.mT, known)[:, 0]
