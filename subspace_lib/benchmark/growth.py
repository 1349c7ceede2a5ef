"""What one product costs, how a refresh grows with k, samples, width and chunk size, and its memory."""

from __future__ import annotations

import contextlib
import functools
import statistics
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from subspace_lib import data, models
from subspace_lib.benchmark.problem import CHUNKS, PIXELS, best_gradient, seconds
from subspace_lib.linalg import matmul
from subspace_lib.linalg.eigensolver import orthonormalize
from subspace_lib.models.mlp import mlp
from subspace_lib.objective import Objective
from subspace_lib.runs.batches import Batches
from subspace_lib.subspace import DominantSubspace

AFTER, STEPS = 300, 4  # SGD steps before the first refresh, and refreshes measured per setting


def products(block: int = 11) -> list[dict[str, Any]]:
    """Seconds of one Hessian product, taken in every way at hand, over those of the best-chunked gradient.

    A block is multiplied on all 5,000 samples: vector after vector (what ``Objective`` does on a CPU), all
    at once (vmap), and by forward over reverse mode compiled with ``torch.compile``, alone and under vmap.
    Each way at the best of the chunks tried; with PyTorch's own choice of matrix products as well.
    """
    rows = []
    for dataset, model in (("mnist5k", "mlp"), ("cifar10_5k", "cnn")):
        # Convolutions are oneDNN's anyway.
        for fast in (True, False) if model == "mlp" else (True,):
            with contextlib.nullcontext() if fast else matmul.default_matmul():
                objective = next(_objectives(dataset, model, (1000,)))
                gradient = best_gradient(objective, objective.initial(), model)
                head = {
                    "dataset": dataset,
                    "model": model,
                    "block": block,
                    "gradient_seconds": gradient,
                    "matmul": "fast" if fast and matmul.onednn_is_exact() else "default",
                }
                for way in WAYS if fast else ("one after the other",):
                    best = _best(dataset, model, way, block)
                    rows.append(head | {"way": way} | best)
                    print(rows[-1], flush=True)
    return rows


WAYS = ("one after the other", "vmap", "compiled", "compiled, vmap")


def _objectives(
    dataset: str, model: str, chunks: tuple[int, ...], batch: bool = False
) -> Iterator[Objective]:
    loaded = data.load(dataset, PIXELS)
    inputs, labels = loaded.train_inputs, loaded.train_labels
    for chunk in chunks:
        network = models.build(model, loaded.shape, loaded.classes, seed=0)
        yield Objective(network, "mse", inputs, labels, chunk=chunk, batch_products=batch)


def _best(dataset: str, model: str, way: str, block: int) -> dict[str, Any]:
    """The chunk at which this way to multiply is fastest; or why it does not work."""
    # Blocks want small chunks. On the CNN a block takes half a minute: it is measured once.
    chunks = CHUNKS[model] if way == WAYS[0] else CHUNKS[model][: 2 if model == "mlp" else 1]
    repeats = 5 if model == "mlp" else 1
    found: dict[int, float] = {}
    for objective in _objectives(dataset, model, chunks, batch=way == "vmap"):
        theta = objective.initial()
        columns = torch.randn(block, objective.dim, generator=torch.Generator().manual_seed(0))
        call: Callable[[], object]
        try:
            if "compiled" in way:
                call = _compiled(objective, theta, columns, together="vmap" in way)
            else:
                call = functools.partial(_product, objective, theta, columns)
            if repeats > 1 or "compiled" in way:
                call()  # warm
            times = [seconds(call) for _ in range(repeats)]
            found[objective.chunk] = statistics.median(times) / block
        except Exception as error:  # no compiler, or no memory: that is a result
            return {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    chunk = min(found, key=lambda size: found[size])
    return {"chunk": chunk, "product_seconds": found[chunk]}


def _product(objective: Objective, theta: Tensor, columns: Tensor) -> Tensor:
    return objective.hessian(theta) @ columns.T


def _compiled(
    objective: Objective, theta: Tensor, columns: Tensor, together: bool
) -> Callable[[], None]:
    """Products by torch.compile: the derivative of the gradient along a vector, or along all of a block."""
    slope = torch.func.grad(lambda t, x, y: objective.loss(objective.outputs(t, x), y))

    def along(v: Tensor, t: Tensor, x: Tensor, y: Tensor) -> Any:
        return torch.func.jvp(lambda p: slope(p, x, y), (t,), (v,))[1]

    step = torch.compile(torch.func.vmap(along, (0, None, None, None)) if together else along)

    @matmul.fast_matmul()
    @torch.no_grad()
    def call() -> None:
        for start in range(0, len(objective), objective.chunk):
            rows = slice(start, start + objective.chunk)
            inputs, labels = objective.inputs[rows], objective.labels[rows]
            for block in (columns,) if together else columns:
                step(block, theta, inputs, labels)

    return call


def growth() -> list[dict[str, Any]]:
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


def _refreshes(k: int, samples: int, width: int, chunk: int) -> dict[str, Any]:
    dataset = data.load("mnist5k", PIXELS)
    torch.manual_seed(0)
    model = mlp(784, 10, width)
    inputs, labels = dataset.train_inputs[:samples], dataset.train_labels[:samples]
    objective = Objective(model, "mse", inputs, labels, chunk=chunk)
    batches, theta = Batches(samples, 50, seed=0), objective.initial()
    tracker = DominantSubspace(objective, k, refresh_every=1)
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
    assert block is not None  # it has been refreshed
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

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


class Diagonal:
    """A diagonal Hessian in the role of an objective: memory without any network."""

    def __init__(self, dim: int):
        self.dim, self.products = dim, 0
        self.values = 10.0 ** -torch.linspace(0, 4, dim)
        self.values[:10] = torch.linspace(50, 25, 10)
        self.loss, self.gradient = torch.zeros(()), torch.zeros(1)

    def hessian(self, theta: Tensor) -> Diagonal:
        """Itself, at any θ."""
        return self

    def __matmul__(self, block: Tensor) -> Tensor:
        self.products += block.shape[1]
        return (block.T * self.values).T


REFRESHES = ("cold start", "full", "lean", "second pass", "solved again")


def memory(dim: int = 199_210, k: int = 10) -> dict[str, Any]:
    """Peak memory during a refresh, in vectors of length D, all that the tracker holds included.

    The subspace jumps before the last two: one pass is not enough, and where the second one is not either,
    the solver goes on. For that the last aims at an angle that float32 cannot certify.
    """
    objective: Any = Diagonal(dim)
    found: dict[str, Any] = {"parameters": dim, "k": k, "guards": 3}
    theta, generator = torch.zeros(dim), torch.Generator().manual_seed(0)
    probe = torch.randn(dim, generator=generator)
    with PeakMemory() as memory:
        tracker = DominantSubspace(objective, k, refresh_every=1)
        for step, name in enumerate(REFRESHES):
            if step > 2:
                assert tracker.vectors is not None
                far = torch.randn(tracker.vectors.shape, generator=generator) * 2 / dim**0.5
                tracker.vectors = orthonormalize(tracker.vectors + far)
                del far
            tracker.target = 1e-7 if name == "solved again" else 0.05
            memory.peak = memory.live
            tracker.refresh(theta, step, probe, measure=name == "full")
            found[name] = memory.peak / (4 * dim)
    return found
