"""The problems: consecutive points of a training run, with float64 references of their top eigenvectors."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from subspace_lib import data, models
from subspace_lib.linalg.eigensolver import (
    rayleigh_ritz,
    residual_gram,
    sin_largest_angle,
    top_eigenpairs,
)
from subspace_lib.objective import Objective
from subspace_lib.runs.batches import Batches

K = 10
CHUNKS = {"mlp": (250, 500, 1000, 2500, 5000), "cnn": (125, 250, 500)}  # tried for a gradient
PIXELS = "standardized"  # of everything but the price, as when the aims were set
RESIDUAL, ANGLE = 1e-3, 1e-2  # the target: relative to λ_1, and the sine of the largest angle


@dataclass(frozen=True)
class Case:
    """Where on which trajectory to measure, and how often."""

    name: str
    dataset: str
    model: str
    learning_rate: float
    after: int  # SGD steps before the first point
    points: int  # consecutive points at which solvers are measured
    batch_size: int = 50
    device: str = "cpu"
    preprocessing: str = PIXELS


CASES = {
    case.name: case
    for case in (
        Case("mnist", "mnist5k", "mlp", 0.01, 500, 5),
        Case("near the edge", "mnist5k", "mlp", 0.03, 500, 5),
        Case("small gap", "fashion_mnist5k", "mlp", 0.01, 3000, 5),
        Case("cnn", "cifar10_5k", "cnn", 0.001, 500, 1),
    )
}


@dataclass
class Point:
    """θ at one step, the minibatch gradient there, and the exact dominant subspace."""

    step: int
    theta: Tensor
    probe: Tensor
    values: Tensor
    exact: Tensor  # (D, K), float64 solution stored in float32


@dataclass
class Problem:
    """A case made concrete. ``points[0]`` only supplies the warm start; solvers run at the others."""

    case: Case
    objective: Objective
    points: list[Point]
    gradient_seconds: float = 0.0

    @property
    def model(self) -> torch.nn.Module:
        """The network, for peers that want one."""
        return self.objective.model

    def random(self, columns: int) -> Tensor:
        """A random start block (D, columns), always the same."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.objective.dim, columns, generator=generator).to(
            self.points[0].theta
        )

    def judge(self, point: Point, vectors: Tensor) -> tuple[float, float]:
        """Largest residual relative to λ_1, and the true sine, of any basis (D, K) or Ritz vectors."""
        vectors = torch.linalg.qr(vectors)[0]
        product = self.objective.hessian(point.theta) @ vectors
        _, rotation = rayleigh_ritz(vectors, product)
        rotation = rotation.double()
        gram = rotation.T @ residual_gram(vectors, product) @ rotation
        residual = float(gram.diagonal().max().clamp_min(0).sqrt() / point.values[0])
        return residual, sin_largest_angle(vectors, point.exact)


def prepare(case: Case) -> Problem:
    """Train to the case's points and solve for their references in float64."""
    dataset = data.load(case.dataset, case.preprocessing)
    chunk = models.architecture(case.model).chunk

    def objective(dtype: torch.dtype) -> Objective:
        model = models.build(case.model, dataset.shape, dataset.classes, seed=0)
        inputs, labels = dataset.train_inputs, dataset.train_labels
        return Objective(model, "mse", inputs, labels, chunk=chunk, dtype=dtype, device=case.device)

    single, double = objective(torch.float32), objective(torch.float64)
    batches = Batches(len(single), case.batch_size, seed=0)
    theta, points = single.initial(), []
    start = torch.randn(len(theta), 4, generator=torch.Generator().manual_seed(1)).to(theta)
    for step in range(case.after + case.points + 1):
        _, gradient = single.gradient(theta, batches.rows(step))
        if step >= case.after:
            # Nearly there in float32, where products are cheap; float64 then says how near, and goes on.
            near = top_eigenpairs(single.hessian(theta), K, start, extra=2, tolerance=3e-5)
            start, exact = near.vectors, near.vectors.double()
            pairs = top_eigenpairs(double.hessian(theta.double()), K, exact, tolerance=1e-4)
            exact = pairs.vectors[:, :K].float().T.contiguous().T
            points.append(Point(step, theta, gradient, pairs.values, exact))
        theta = theta - case.learning_rate * gradient
    problem = Problem(case, single, points)
    problem.gradient_seconds = best_gradient(single, theta, case.model)
    return problem


def best_gradient(objective: Objective, theta: Tensor, model: str) -> float:
    """Seconds of a full-data gradient at the chunk where it is fastest: the unit of all costs."""
    chunk, found = objective.chunk, []
    for objective.chunk in CHUNKS[model]:
        objective.gradient(theta)  # warm
        repeats = 9 if model == "mlp" else 2
        times = [seconds(lambda: objective.gradient(theta)) for _ in range(repeats)]
        found.append(statistics.median(times))
    objective.chunk = chunk
    return min(found)


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call, until the device has done it."""
    begun = clock()
    call()
    return clock() - begun


def clock() -> float:
    """Now, once all that was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
