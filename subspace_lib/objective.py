"""The training loss L(θ) on a flat parameter vector, with its gradient and Hessian products.

This is the only module that touches autograd.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from subspace_lib.linalg.matmul import fast_matmul


def mse(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples of ½ Σ_c (f_c − onehot_c)². Outputs (n, C), labels (n,) int64; a scalar."""
    # Not one_hot: it looks at the labels' values, which vmap does not allow.
    classes = torch.arange(outputs.shape[1], device=labels.device)
    onehot = (labels[:, None] == classes).to(outputs.dtype)
    return 0.5 * (outputs - onehot).square().sum() / len(labels)


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples of −log softmax(f)_label, in nats. Outputs (n, C), labels (n,) int64."""
    return nn.functional.cross_entropy(outputs, labels)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "cross_entropy": cross_entropy}
Graph = tuple[Any, ...]  # loss and gradient, then what else the products of a matrix are made from


class Objective:
    """L(θ) = (1/N) Σ_i ℓ(f(x_i; θ), y_i) over all N samples, for θ of shape (D,).

    Float32 matrices on the CPU are multiplied by the faster of PyTorch's libraries (``matmul``).
    Sums over the data run in chunks weighted by their sizes, so that a ragged last chunk counts as
    it should. ``gradient_equivalents`` counts the work done so far in units of one full-data gradient:
    a batch of b samples adds b/N, a Hessian product counts as 1.2 and building its graph as 0.9
    (measured on the MNIST-5k MLP).

    Args:
        model: any module without buffers that change (no batch normalisation in training mode).
        loss: a key of ``LOSSES``, or a function of outputs (n, C) and labels (n, …) that returns
            the mean over its samples, twice differentiable.
        inputs: (N, ...); labels: (N,) int64, or whatever the loss takes.
        chunk: samples held in one autograd graph, > 0.
        device, dtype: where θ and the data live; float32 for runs, float64 for references.
        batch_products: multiply all columns of a block at once (vmap) or one after the other. None: one
            after the other on the CPU, where that is faster and a run must repeat bit by bit; elsewhere
            what is faster at the first product, measured once.
        graph_memory: bytes up to which a Hessian keeps its graphs for later products at the same θ.

    Raises:
        ValueError: unknown loss, or chunk < 1.
    """

    GRAPH_COST = 0.9
    PRODUCT_COST = 1.2

    def __init__(
        self,
        model: nn.Module,
        loss: str | Callable[[Tensor, Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
        *,
        chunk: int = 5000,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        batch_products: bool | None = None,
        graph_memory: int = 2**30,
    ):
        if not callable(loss) and loss not in LOSSES:
            raise ValueError(f"loss = {loss!r} is not known; choose one of {', '.join(LOSSES)}.")
        if chunk < 1:
            raise ValueError(f"chunk = {chunk} must be at least 1 sample.")
        self.model = model.to(device=device, dtype=dtype)
        self.loss = loss if callable(loss) else LOSSES[loss]
        self.inputs = inputs.to(device=device, dtype=dtype)
        self.labels = labels.to(device=device)
        self.chunk = chunk
        named = [(name, p) for name, p in self.model.named_parameters()]
        self._names = [name for name, _ in named]
        self._shapes = [p.shape for _, p in named]
        self._sizes = [p.numel() for _, p in named]
        self.dim = sum(self._sizes)
        self.gradient_equivalents = 0.0
        self.products = 0
        if batch_products is None and torch.device(device).type == "cpu":
            batch_products = False
        self._batch_products = batch_products
        self.graph_memory = graph_memory
        self._graph_bytes: dict[type[Hessian], float] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Name and shape of each parameter, in the order in which they lie in θ."""
        shapes = (tuple(shape) for shape in self._shapes)
        return tuple(zip(self._names, shapes, strict=True))

    def initial(self) -> Tensor:
        """The model's current parameters as one vector θ of shape (D,), a copy."""
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])

    def outputs(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """Network outputs f(x; θ) of shape (n, C)."""
        parts = theta.split(self._sizes)
        parameters = {
            name: part.view(shape)
            for name, part, shape in zip(self._names, parts, self._shapes, strict=True)
        }
        return functional_call(self.model, parameters, (inputs,))

    def value(self, theta: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Mean loss over the given rows of the data (differentiable in θ)."""
        return self.loss(self.outputs(theta, self.inputs[rows]), self.labels[rows])

    @fast_matmul()
    @torch.no_grad()
    def evaluate(self, theta: Tensor, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
        """Mean loss and accuracy (a fraction) of θ on any data set, forward passes only."""
        loss, correct = 0.0, 0
        for rows in _chunks(len(labels), self.chunk):
            outputs, y = self.outputs(theta, inputs[rows]), labels[rows]
            loss += float(self.loss(outputs, y)) * len(y)
            correct += int((outputs.argmax(1) == y).sum())
        return loss / len(labels), correct / len(labels)

    @fast_matmul()
    def gradient(self, theta: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Loss (scalar) and gradient (D,) over the given rows, or over all data in chunks."""
        if rows is not None:
            self.gradient_equivalents += len(rows) / len(self)
            return self._gradient(theta, rows)
        self.gradient_equivalents += 1
        loss, gradient = theta.new_zeros(()), torch.zeros_like(theta)
        for part in _chunks(len(self), self.chunk):
            weight = (part.stop - part.start) / len(self)
            part_loss, part_gradient = self._gradient(theta, part)
            loss += weight * part_loss
            gradient.add_(part_gradient, alpha=weight)
        return loss, gradient

    @fast_matmul()
    def weighted_gradient(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Σ_i w_i ∇ℓ_i(θ) over all data, for weights (N,) of any sign; shape (D,)."""
        self.gradient_equivalents += 1
        total = torch.zeros_like(theta)
        for part in _chunks(len(self), self.chunk):
            point = theta.detach().requires_grad_()
            outputs = self.outputs(point, self.inputs[part])
            losses = self._each(outputs, self.labels[part])
            (gradient,) = torch.autograd.grad(losses @ weights[part], point)
            total += gradient
        return total

    @fast_matmul()
    def gradient_variance(self, theta: Tensor, basis: Tensor) -> tuple[Tensor, float]:
        """How the gradients of single samples scatter: S = (1/N) Σ_i (∇ℓ_i − g)(∇ℓ_i − g)ᵀ.

        Args:
            basis: (D, m), orthonormal columns v_j.

        Returns:
            v_jᵀ S v_j, shape (m,), and the trace of S. A minibatch of B samples drawn without
            replacement has the covariance (N − B)/((N − 1) B) · S.
        """
        self.gradient_equivalents += 3  # measured on the MNIST-5k MLP
        mean, squares, along = torch.zeros_like(theta), 0.0, 0.0
        single = torch.func.vmap(
            torch.func.grad(lambda t, x, y: self.loss(self.outputs(t, x[None]), y[None])),
            in_dims=(None, 0, 0),
        )
        for part in _chunks(len(self), 50):  # as many gradients of length D are held at a time
            gradients = single(theta, self.inputs[part], self.labels[part])
            mean += gradients.sum(0) / len(self)
            squares += float(gradients.double().square().sum()) / len(self)
            along = along + (gradients @ basis).double().square().sum(0) / len(self)
        return along - (basis.T @ mean).double().square(), squares - float(
            mean.double() @ mean.double()
        )

    @fast_matmul()
    @torch.no_grad()
    def slopes(self, theta: Tensor, block: Tensor) -> Tensor:
        """v_jᵀ∇ℓ_i(θ) of every sample i along every column v_j of a block (D, m); shape (N, m).

        By forward mode: a pass over the data for each column, and no gradient of a single sample is held.
        """
        self.gradient_equivalents += block.shape[1]
        found = theta.new_empty(len(self), block.shape[1])
        for part in _chunks(len(self), self.chunk):
            inputs, labels = self.inputs[part], self.labels[part]
            losses = lambda t, x=inputs, y=labels: self._each(self.outputs(t, x), y)  # noqa: E731
            for j, column in enumerate(block.T):
                found[part, j] = torch.func.jvp(losses, (theta,), (column.contiguous(),))[1]
        return found

    @fast_matmul()
    def mean_output_gradients(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of mean outputs: ∇ mean_i f_c (D, C), and ∇ mean over each class a of f_c (D, C²).

        Labels must be class numbers (N,) int64. The columns of the second come class by class; those
        of a class without samples are left out.
        """
        present = self.labels.unique()
        sums: Tensor | None = None
        for part in _chunks(len(self), self.chunk):
            point = theta.detach().requires_grad_()
            outputs = self.outputs(point, self.inputs[part])
            onehot = (self.labels[part][:, None] == present).to(outputs.dtype)
            heads = torch.eye(outputs.shape[1]).to(outputs)
            columns = [
                torch.autograd.grad(outputs, point, onehot[:, a, None] * head, retain_graph=True)[0]
                for a in range(len(present))
                for head in heads
            ]
            block = torch.stack(columns, 1)
            sums = block if sums is None else sums + block
        assert sums is not None  # no data, no objective
        counts = (self.labels[:, None] == present).sum(0).to(theta)
        classes = len(present)
        by_class = sums.reshape(len(theta), classes, -1)
        self.gradient_equivalents += by_class.shape[1] * by_class.shape[2]
        return by_class.sum(1) / len(self), (by_class / counts[:, None]).flatten(1)

    def _each(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Losses of the single samples (n,), whatever the loss is."""
        return torch.func.vmap(lambda f, y: self.loss(f[None], y[None]))(outputs, labels)

    def _gradient(self, theta: Tensor, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        theta = theta.detach().requires_grad_()
        loss = self.value(theta, rows)
        (gradient,) = torch.autograd.grad(loss, theta)
        return loss.detach(), gradient

    def hessian(self, theta: Tensor) -> Hessian:
        """The Hessian H(θ) of the full training loss as an operator."""
        return Hessian(self, theta)

    def batches_products(self, hessian: Hessian, graph: Graph, columns: Tensor) -> bool:
        """Whether block products are to be batched, measured on the first block of several columns."""
        if self._batch_products is None and len(columns) > 1:
            seconds = {}
            for self._batch_products in (True, False, True, False):  # the first two warm up
                begun = self._clock()
                hessian._add_products(graph, columns, 0.0, torch.zeros_like(columns))
                seconds[self._batch_products] = self._clock() - begun
            self._batch_products = seconds[True] < seconds[False]
        return bool(self._batch_products)

    def graph_bytes(self, hessian: Hessian, rows: slice | Tensor) -> float:
        """Bytes per sample that a graph keeps beside θ and the data: measured once, on a first graph."""
        kind = type(hessian)
        if kind not in self._graph_bytes:
            apart = {
                t.untyped_storage().data_ptr() for t in (hessian.theta, self.inputs, self.labels)
            }
            saved: dict[int, int] = {}

            def note(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in apart:
                    saved[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                hessian._build(rows)
            self._graph_bytes[kind] = sum(saved.values()) / len(self.labels[rows])
        return self._graph_bytes[kind]

    def _clock(self) -> float:
        if self.inputs.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def gauss_newton(self, theta: Tensor) -> GaussNewton:
        """The Gauss–Newton matrix G(θ) of the full training loss as an operator."""
        return GaussNewton(self, theta)


class Hessian:
    """H(θ) of an ``Objective``, given by its block products: ``hessian @ V`` is (D, m) for V (D, m).

    Products come from double backward. The graph of the gradient is built chunk by chunk and kept for
    later products at the same θ, as far as ``graph_memory`` goes; what is left is built anew for each
    block. ``loss`` and ``gradient`` (over the same data) fall out of every product.

    Args:
        objective, theta: whose, and where.
        samples: of a fixed subset, spread evenly over the data; None for all of them.

    Source: Pearlmutter, Fast exact multiplication by the Hessian, 1994.
    """

    def __init__(self, objective: Objective, theta: Tensor, samples: int | None = None):
        self.objective = objective
        self.theta = theta.detach().clone().requires_grad_()
        self.loss: Tensor | None = None
        self.gradient: Tensor | None = None
        self._kept: dict[int, Graph] = {}  # by the first sample of their chunk
        self._free = float(objective.graph_memory)  # bytes
        self._rows: Tensor | None = None
        self._samples = whole = len(objective)
        if samples is not None and samples < whole:
            self._rows = torch.arange(samples) * whole // samples
            self._samples = samples

    def on(self, samples: int) -> Hessian:
        """The Hessian at the same θ of the loss on a fixed subset of the data."""
        return type(self)(self.objective, self.theta, samples)

    @fast_matmul()
    def __matmul__(self, block: Tensor) -> Tensor:
        objective, share = self.objective, self._samples / len(self.objective)
        if self._rows is None:
            objective.products += block.shape[1]
        objective.gradient_equivalents += Objective.PRODUCT_COST * block.shape[1] * share
        columns = block.T.contiguous()
        result = torch.zeros_like(columns)
        loss = gradient = self.theta.new_zeros(())
        for part in _chunks(self._samples, objective.chunk):
            weight = (part.stop - part.start) / self._samples
            graph = self._graph(part, weight * share)
            loss = loss + weight * graph[0].detach()
            gradient = gradient + weight * graph[1].detach()
            self._add_products(graph, columns, weight, result)
        self.loss, self.gradient = loss, gradient
        return result.T

    def _add_products(self, graph: Graph, columns: Tensor, weight: float, result: Tensor) -> None:
        gradient = graph[1]
        if self.objective.batches_products(self, graph, columns):
            (products,) = torch.autograd.grad(
                gradient, self.theta, columns, retain_graph=True, is_grads_batched=True
            )
            result.add_(products, alpha=weight)
            return
        for i, column in enumerate(columns):
            (product,) = torch.autograd.grad(gradient, self.theta, column, retain_graph=True)
            result[i].add_(product, alpha=weight)

    def _graph(self, part: slice, share: float) -> Graph:
        """Loss and gradient on a chunk, which makes up this share of all data, with their graph."""
        objective = self.objective
        if part.start in self._kept:
            return self._kept[part.start]
        rows = part if self._rows is None else self._rows[part]
        size = (part.stop - part.start) * objective.graph_bytes(self, rows)
        objective.gradient_equivalents += Objective.GRAPH_COST * share
        graph = self._build(rows)
        if size <= self._free:
            self._free -= size
            self._kept[part.start] = graph
        return graph

    def _build(self, rows: slice | Tensor) -> Graph:
        loss = self.objective.value(self.theta, rows)
        (gradient,) = torch.autograd.grad(loss, self.theta, create_graph=True)
        return loss, gradient


class GaussNewton(Hessian):
    """G(θ) = (1/N) Σ_i J_iᵀ ∇²ℓ_i J_i with J_i = ∂f(x_i)/∂θ: the part of H(θ) without ∂²f/∂θ².

    Positive semidefinite where ℓ is convex in f. A product is J v by forward mode, then one backward
    pass, exact and counted like a Hessian product.

    Source: Schraudolph, Fast curvature matrix-vector products for second-order gradient descent, 2002.
    """

    def _build(self, rows: slice | Tensor) -> Graph:
        o = self.objective
        outputs = o.outputs(self.theta, o.inputs[rows])
        leaf = outputs.detach().requires_grad_()
        loss = o.loss(leaf, o.labels[rows])
        (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
        (gradient,) = torch.autograd.grad(outputs, self.theta, slope.detach(), retain_graph=True)
        return loss, gradient, rows, outputs, leaf, slope

    def _add_products(self, graph: Graph, columns: Tensor, weight: float, result: Tensor) -> None:
        o, (_, _, rows, outputs, leaf, slope) = self.objective, graph
        theta = self.theta.detach()
        for i, column in enumerate(columns):
            change = torch.func.jvp(lambda t: o.outputs(t, o.inputs[rows]), (theta,), (column,))[1]
            (bent,) = torch.autograd.grad(slope, leaf, change, retain_graph=True)
            (product,) = torch.autograd.grad(outputs, self.theta, bent, retain_graph=True)
            result[i].add_(product, alpha=weight)


def _chunks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
