"""How the cost of one refresh grows with k, samples, width and chunk size, and what memory it takes."""

from __future__ import annotations

import statistics
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from subspace_lib import data, models
from subspace_lib.benchmark.problem import seconds
from subspace_lib.objective import Objective
from subspace_lib.subspace import DominantSubspace
from subspace_lib.training import Batches

AFTER, STEPS = 300, 4  # SGD steps before the first refresh, and refreshes measured per setting


def growth() -> list[dict]:
    """Seconds and products of a refresh, and of a gradient, one parameter varied at a time.

    At each setting of (k, samples, width, chunk) the network has trained for 300 steps of SGD (η = 0.01,
    batch size 50) and goes on, with a refresh at every step.
    """
    base = {"k": 10, "samples": 5000, "width": 200, "chunk": 1000}
    varied = {
        "k": (1, 5, 10, 20, 40),
        "samples": (500, 1000, 2500, 5000),
        "width": (50, 100, 200, 400, 800),
        "chunk": (125, 250, 500, 1000, 2500, 5000),
    }
    return [
        {"varied": name, **base, name: value, **_refreshes(**{**base, name: value})}
        for name, values in varied.items()
        for value in values
    ]


def _refreshes(k: int, samples: int, width: int, chunk: int) -> dict:
    dataset = data.load("mnist5k")
    torch.manual_seed(0)
    model = models.mlp(784, 10, width)
    inputs, labels = dataset.train_inputs[:samples], dataset.train_labels[:samples]
    objective = Objective(model, "mse", inputs, labels, chunk=chunk)
    batches, theta = Batches(samples, 50, seed=0), objective.initial()
    tracker = DominantSubspace(objective, k, refresh=1)
    times, products = [], []
    for step in range(AFTER + STEPS + 1):
        _, probe = objective.gradient(theta, batches.rows(step))
        if step >= AFTER:
            begun = objective.products
            times.append(seconds(lambda: tracker.refresh(theta, step, probe)))  # noqa: B023
            products.append(objective.products - begun)
        theta = theta - 0.01 * probe
    gradient = statistics.median(seconds(lambda: objective.gradient(theta)) for _ in range(5))
    block = tracker.vectors
    product = statistics.median(seconds(lambda: objective.hessian(theta) @ block) for _ in range(3))
    return {
        "parameters": objective.dim,
        "refresh_seconds": statistics.median(times[1:]),  # the first one is the cold start
        "products": statistics.median(products[1:]),
        "gradient_seconds": gradient,
        "product_seconds": product / block.shape[1],  # the graph shared out over the block
    }


class PeakMemory(TorchDispatchMode):
    """The largest number of bytes that tensors made inside have held at one time."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage):
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key, size):
        self._seen.discard(key)
        self.live -= size


class Diagonal:
    """A diagonal Hessian in the role of an objective: memory without any network."""

    def __init__(self, dim: int):
        self.dim, self.products = dim, 0
        self.values = 10.0 ** -torch.linspace(0, 4, dim)
        self.values[:10] = torch.linspace(50, 25, 10)
        self.loss, self.gradient = torch.zeros(()), torch.zeros(1)

    def hessian(self, theta):
        return self

    def __matmul__(self, block):
        self.products += block.shape[1]
        return (block.T * self.values).T


def memory(dim: int = 199_210, k: int = 10) -> dict:
    """Peak memory during a refresh, in vectors of length D, all that the tracker holds included."""
    objective, found = Diagonal(dim), {"parameters": dim, "k": k, "guards": 3}
    theta = torch.zeros(dim)
    probe = torch.randn(dim, generator=torch.Generator().manual_seed(0))
    with PeakMemory() as memory:
        tracker = DominantSubspace(objective, k, refresh=1)
        for step, (name, measure) in enumerate(
            (("cold start", True), ("full", True), ("lean", False))
        ):
            memory.peak = memory.live
            tracker.refresh(theta, step, probe, measure=measure)
            found[name] = memory.peak / (4 * dim)
    return found
