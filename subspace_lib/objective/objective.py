"""The training loss L(θ) on a flat parameter vector, with its gradient and Hessian products."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from subspace_lib.linalg.matmul import fast_matmul
from subspace_lib.objective import selftest
from subspace_lib.objective.calls import Call
from subspace_lib.objective.curvature import GaussNewton, Graph, Hessian
from subspace_lib.objective.inputs import (
    check_labels,
    class_numbers,
    place,
    plain_module,
    refuse_noise,
)
from subspace_lib.objective.losses import Loss, Weighing, named
from subspace_lib.objective.network import Network, settled, uncached
from subspace_lib.objective.ranks import Ranks
from subspace_lib.objective.samples import Loaded, Prepare, Rows, Samples, chunks, drawn
from subspace_lib.objective.single import SingleSamples


class Objective(SingleSamples):
    """L(θ) = (1/N) Σ_i ℓ(f(x_i; θ), y_i) over all N samples, for θ of shape (D,).

    θ holds the parameters that require a gradient. The model's own values, buffers, mode, dtype and device
    are the same after every call as before it.

    Float32 matrices on the CPU are multiplied by the faster of PyTorch's libraries (``matmul``).
    Sums over the data run in chunks weighted by what they count: their numbers of samples, the class
    weights of their labels, those that are not ignored. ``gradient_equivalents`` counts the work done so
    far in units of one full-data gradient: a batch of b samples adds b/N, a Hessian product counts as 1.2
    and building its graph as 0.9 (measured on the MNIST-5k MLP).

    Args:
        model: any module whose output for a sample depends on that sample alone, and on no random number:
            dropout and batch normalization in eval mode.
        loss: a key of ``LOSSES``, or a function of outputs (n, C) and labels (n, …) that returns
            the mean over its samples, twice differentiable; or their sum, which is then L.
        inputs: (N, ...), or a tuple, list or dict of such tensors, given to the model as ``Call`` says;
            floating ones are cast to ``dtype``. Or a DataLoader of pairs, in a fixed order: ``labels`` is
            None then, and a batch is a chunk.
        labels: (N,) int64, or whatever the loss takes.
        prepare: makes what the model takes of some of the inputs, as bytes to pixels, each time when their
            turn comes: of data that do not fit in memory as floats. None: they are ready.
        together: each process of ``torch.distributed`` has all of the data and sums over its share; all
            must call the same methods. Else a process is on its own.
        chunk: samples held in one autograd graph, > 0; of a DataLoader its batches are.
        device, dtype: where θ and the data live; float32 for runs, float64 for references. None: those of
            the model's parameters, float32 where they have less.
        batch_products: multiply all columns of a block at once (vmap) or one after the other. None: one
            after the other on the CPU, where that is faster and a run must repeat bit by bit; elsewhere
            what is faster at the first product, measured once.
        graph_memory: bytes up to which a Hessian keeps its graphs for later products at the same θ.
        check: try derivatives and data once, on a few samples (``selftest``), for less than three
            gradients.

    Attributes:
        model: as it was given; loss: as a function.
        samples: the data; weighing: how its parts add up; ranks: who shares them.
        network: the model at any θ; dim: D; gradient_equivalents, products: the work done so far.
        subset_seed: of the draw of samples that stand for all; None: every so-manieth, as in stored runs.

    Raises:
        ValueError: one sentence about the argument that is wrong, or about what the self-test has found.
    """

    GRAPH_COST = 0.9
    PRODUCT_COST = 1.2

    def __init__(
        self,
        model: nn.Module,
        loss: str | Loss,
        inputs: Any,
        labels: Any = None,
        *,
        prepare: Prepare | None = None,
        together: bool = False,
        chunk: int = 5000,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        batch_products: bool | None = None,
        graph_memory: int = 2**30,
        check: bool = True,
    ):
        if isinstance(chunk, bool) or not hasattr(chunk, "__index__") or chunk < 1:
            raise ValueError(f"chunk = {chunk!r} must be a whole number of samples, at least 1.")
        self.model = plain_module(model)
        self.loss = named(loss)
        self.device, self.dtype = place(self.model, device, dtype)
        self.chunk = chunk
        classes = functools.partial(class_numbers, self.loss)
        self.samples: Samples | Loaded = (
            Loaded(inputs, self.device, self.dtype, prepare, classes)
            if labels is None
            else Samples(inputs, classes(labels), chunk, self.device, self.dtype, prepare)
        )
        few, _ = self.samples.rows(self.samples.parts()[0])
        call = Call.of(self.model, few)
        self.network = Network(self.model, self.loss, call, self.device, self.dtype)
        self.dim = sum(self.network.sizes)
        self.gradient_equivalents = 0.0
        self.products = 0
        self.subset_seed: int | None = 0
        if batch_products is None and self.device.type == "cpu":
            batch_products = False
        self._batch_products = batch_products
        self.graph_memory = graph_memory
        self.graph_bytes: dict[type[Hessian], float] = {}
        self.weighing = Weighing(self.loss)
        if isinstance(self.samples, Samples):
            self.weighing.settle(self.samples.labels)
        self.additive = True  # whether L is made up of single samples' losses, as far as known
        self._parts: list[tuple[slice, float]] | None = None
        self.ranks = Ranks(together)
        refuse_noise(self.network.noisy)
        if check:
            selftest.run(self)
        # Asked after the self-test, which sees whether a function is a sum or depends on other samples.
        if self.ranks.count > 1 and not (self.weighing.uniform and self.additive):
            raise ValueError(
                "Several ranks share samples only where the loss is a plain mean over them: no sum, no "
                "class weights, no ignored labels; use one process."
            )

    def __len__(self) -> int:
        return len(self.samples)

    def subset(self, count: int) -> Tensor:
        """Numbers (count,), ascending, of a fixed draw of samples: every so-manieth may be of one class."""
        return drawn(count, len(self), self.subset_seed)

    @property
    def inputs(self) -> Any:
        """The inputs as they are used, of data in memory."""
        return self._in_memory().inputs

    @inputs.setter
    def inputs(self, inputs: Any) -> None:
        self._in_memory().inputs = inputs

    @property
    def labels(self) -> Any:
        """The labels as they are used, of data in memory."""
        return self._in_memory().labels

    def _in_memory(self) -> Samples:
        if isinstance(self.samples, Samples):
            return self.samples
        raise ValueError("The data are read by a data loader, and are not in memory as a whole.")

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Name and shape of each parameter, in the order in which they lie in θ."""
        network = self.network
        shapes = (tuple(shape) for shape in network.shapes)
        return tuple(zip(network.names, shapes, strict=True))

    def initial(self) -> Tensor:
        """The model's current parameters as one vector θ of shape (D,), a copy."""
        return self.network.initial()

    def flatten(self, tensors: Mapping[str, Tensor] | Iterable[Tensor | None]) -> Tensor:
        """One vector (D,) of named tensors, or of tensors in the order of the parameters.

        ``model.parameters()``, their gradients (None for zeros), or ``dict(model.named_parameters())``;
        frozen parameters among them are left out.

        Raises:
            ValueError: a name is missing, or the shapes are others than in ``layout``.
        """
        return self.network.flatten(tensors)

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """The parameters by name, as views of θ (D,) in their shapes."""
        self.check_vector(theta)
        return dict(zip(self.network.names, self.network.parts(theta), strict=True))

    def assign(self, theta: Tensor) -> None:
        """Write θ into the model's own parameters, in place: for a training loop of one's own."""
        self.check_vector(theta)
        self.network.check_parameters()
        with torch.no_grad():
            for p, part in zip(self.network.parameters, self.network.parts(theta), strict=True):
                p.copy_(part)

    def check_vector(self, vector: Tensor, *, block: bool = False) -> None:
        """That a vector (D,), or a block (D, m) where that may be one, is of θ's space.

        Raises:
            ValueError: no tensor, or another length, dtype or device.
        """
        if not isinstance(vector, Tensor):
            raise ValueError(
                f"A {type(vector).__name__} stands where a tensor is meant; torch.as_tensor(…) makes one."
            )
        if vector.ndim not in ((1, 2) if block else (1,)) or len(vector) != self.dim:
            raise ValueError(
                f"A vector has the shape {tuple(vector.shape)}, θ has D = {self.dim} entries: the "
                "parameters that require a gradient; objective.initial() and objective.flatten(…) give "
                "such vectors."
            )
        if vector.dtype != self.dtype or vector.device != self.device:
            raise ValueError(
                f"A vector is {vector.dtype} on {vector.device}, the objective computes in {self.dtype} on "
                f"{self.device}; convert it with vector.to({str(self.device)!r}, {self.dtype})."
            )

    def outputs(self, theta: Tensor, inputs: Any) -> Any:
        """Network outputs f(x; θ) of shape (n, C), differentiable in θ; inputs as the model takes them.

        Parameters that the model reaches by other ways than its own attributes keep the model's values.
        """
        self.check_vector(theta)
        with self.network.as_given(), uncached():
            return self.network.functional(theta, inputs)

    @fast_matmul()
    @settled()
    def evaluate(
        self, theta: Tensor, inputs: Any = None, labels: Any = None
    ) -> tuple[float, float]:
        """Loss and accuracy (a fraction) of θ on any data set, forward passes only.

        Without inputs and labels, on the data of the objective. Those given are as the model takes them:
        ``prepare`` is not applied.

        The accuracy is that of class numbers, per position where there are several: labels (n, …),
        outputs (n, C, …). It is NaN for everything else: regression, several labels at once, soft labels.
        """
        self.check_vector(theta)
        samples = self.samples
        if inputs is not None or labels is not None:
            labels = class_numbers(self.loss, labels)
            chunk = self.chunk if self.additive else sys.maxsize
            samples = Samples(inputs, labels, chunk, self.device, self.dtype)
        weighing, total, loss = Weighing(self.loss), 0.0, 0.0
        weighing.sums = self.weighing.sums
        correct = counted = 0.0
        with self.network.forward_only(), self.network.at(theta):
            for part in samples.parts():
                x, y = samples.rows(part)
                amount = weighing.amount(y, part.stop - part.start)
                if not amount:
                    continue
                outputs = self.network.outputs(x)
                if samples is not self.samples and not part.start:
                    check_labels(self.loss, outputs, getattr(samples, "labels", y))
                loss += float(self.loss(outputs, y).detach()) * (1.0 if weighing.sums else amount)
                total += amount
                right, count = hits(outputs, y, weighing.ignored)
                correct, counted = correct + right, counted + count
        loss = loss if weighing.sums else loss / total if total else math.nan
        return loss, correct / counted if counted else math.nan

    @fast_matmul()
    @settled()
    def gradient(self, theta: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Loss (scalar) and gradient (D,) over the given rows, or over all data in chunks."""
        self.check_vector(theta)
        if rows is not None and self.ranks.count == 1:
            self.gradient_equivalents += len(rows) / len(self)
            with self.network.at(theta):
                return self._gradient(rows)
        self.gradient_equivalents += 1 if rows is None else len(rows) / len(self)
        loss, gradient = theta.new_zeros(()), torch.zeros_like(theta)
        with self.network.at(theta):
            for part, weight in self.weights() if rows is None else self._own(rows):
                part_loss, part_gradient = self._gradient(part)
                loss += weight * part_loss
                gradient.add_(part_gradient, alpha=weight)
        self.ranks.add_up(loss, gradient)
        return loss, gradient

    def _own(self, rows: Tensor) -> list[tuple[Rows, float]]:
        """This rank's share of a minibatch, with its weight in the mean."""
        own = self.ranks.rows(rows)
        return [(own, len(own) / len(rows))] if len(own) else []

    def _gradient(self, rows: Rows) -> tuple[Tensor, Tensor]:
        loss = self.network.value(*self.samples.rows(rows))
        return loss.detach(), self.network.gradient(loss)

    def weights(self, rows: Tensor | None = None) -> list[tuple[slice, float]]:
        """Chunks of all data, or of some rows, with their weights in L, or in its estimate from those rows.

        A chunk that does not count, as one of ignored labels alone, is left out, and those of other ranks.
        """
        self.weighing.check()
        if rows is None:
            if self._parts is None:
                parts = self.samples.parts(self.ranks.chunk(len(self), self.chunk))
                self._parts = self.ranks.share(self._weighed(parts, None))
            return self._parts
        size = self.ranks.chunk(len(rows), self.chunk)
        return self.ranks.share(self._weighed(chunks(len(rows), size), rows))

    def _weighed(self, parts: list[slice], rows: Tensor | None) -> list[tuple[slice, float]]:
        weighing, whole = self.weighing, parts[-1].stop
        if weighing.sums:
            return [(part, len(self) / whole) for part in parts]
        if weighing.uniform:
            return [(part, (part.stop - part.start) / whole) for part in parts]
        amounts = []
        for part in parts:
            labels = self.samples.rows(part if rows is None else rows[part])[1]
            amounts.append(weighing.amount(labels, part.stop - part.start))
        total = sum(amounts)
        if not total:
            raise ValueError("Every label is an ignored one, so that there is no loss.")
        return [(part, n / total) for part, n in zip(parts, amounts, strict=True) if n]

    def hessian(self, theta: Tensor) -> Hessian:
        """The Hessian H(θ) of the full training loss as an operator."""
        return Hessian(self, theta)

    def gauss_newton(self, theta: Tensor) -> GaussNewton:
        """The Gauss–Newton matrix G(θ) of the full training loss as an operator."""
        return GaussNewton(self, theta)

    def batches_products(self, hessian: Hessian, graph: Graph, columns: Tensor) -> bool:
        """Whether block products are to be batched, measured on the first block of several columns."""
        if self._batch_products is None and len(columns) > 1:
            seconds = {}
            for self._batch_products in (True, False, True, False):  # the first two warm up
                begun = self._clock()
                hessian.add_products(graph, columns, 0.0, torch.zeros_like(columns))
                seconds[self._batch_products] = self._clock() - begun
            self._batch_products = seconds[True] < seconds[False]
        return bool(self._batch_products)

    def measured(self, hessian: Hessian, rows: Rows, count: int) -> Graph:
        """The graph on some samples.

        The bytes per sample that it keeps beside θ and the data are measured once, on a first graph.
        """
        kind = type(hessian)
        if kind not in self.graph_bytes:
            leaves = tree_leaves(
                (getattr(self.samples, "inputs", ()), getattr(self.samples, "labels", ()))
            )
            apart = {t.untyped_storage().data_ptr() for t in (hessian.theta, *leaves)}
            saved: dict[int, int] = {}

            def note(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in apart:
                    saved[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                hessian.build(rows)
            self.graph_bytes[kind] = sum(saved.values()) / count
        return hessian.build(rows)

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def hits(outputs: Any, labels: Any, ignored: int | None) -> tuple[float, float]:
    """How many class numbers are right, and of how many that count; (0, 0) where labels are none."""
    if (
        not (isinstance(outputs, Tensor) and isinstance(labels, Tensor))
        or labels.is_floating_point()
    ):
        return 0, 0
    if outputs.ndim != labels.ndim + 1 or outputs.shape[1] < 2:
        return 0, 0
    if (outputs.shape[0], *outputs.shape[2:]) != tuple(labels.shape) or labels.dtype == torch.bool:
        return 0, 0
    counted = torch.ones_like(labels, dtype=torch.bool) if ignored is None else labels != ignored
    right = (outputs.argmax(1) == labels) & counted
    return float(right.sum()), float(counted.sum())
