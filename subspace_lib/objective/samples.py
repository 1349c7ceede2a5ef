"""Inputs and labels of all samples: tensors in memory, or what a DataLoader reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

Rows = slice | Tensor
Prepare = Callable[[Any], Any]


class Samples:
    """N samples as tensors. Inputs, and labels, are a tensor or a tuple, list or dict of tensors.

    Floating tensors are cast to the dtype of θ; integers and truth values stay what they are.

    Args:
        inputs, labels: (N, …) each; chunk: samples in a part.
        prepare: makes what the model takes of some of the inputs, each time when their turn comes.

    Raises:
        ValueError: no tensors, no data, lengths that differ, NaN or inf.
    """

    def __init__(
        self,
        inputs: Any,
        labels: Any,
        chunk: int,
        device: torch.device,
        dtype: torch.dtype,
        prepare: Prepare | None = None,
    ):
        check(inputs, labels)
        self.device, self.dtype = device, dtype
        self.inputs = to(inputs, device, dtype)
        self.labels = to(labels, device, dtype)
        self.chunk, self.prepare = chunk, prepare
        self._samples = len(tree_leaves(labels)[0])

    def __len__(self) -> int:
        return self._samples

    def parts(self, size: int | None = None) -> list[slice]:
        """The data cut into chunks of that size, the last may be smaller."""
        return chunks(len(self), size or self.chunk)

    def rows(self, rows: Rows) -> tuple[Any, Any]:
        """Inputs and labels of some samples."""
        inputs, labels = self.inputs, self.labels
        if isinstance(inputs, Tensor) and isinstance(labels, Tensor):
            inputs, labels = inputs[rows], labels[rows]
        else:
            inputs, labels = (tree_map(lambda t: t[rows], side) for side in (inputs, labels))
        if self.prepare is not None:
            inputs = to(self.prepare(inputs), self.device, self.dtype)
        return inputs, labels


class Loaded:
    """The samples of a DataLoader, or of anything that gives batches (inputs, labels) in a fixed order.

    A batch is a chunk, read when its turn comes; what has been read is compared with the first pass.

    Args:
        prepare: makes what the model takes of some of the inputs; classes: what the loss takes, of labels.

    Attributes:
        values: every whole number that is a label, (n,); None where labels are something else.

    Raises:
        ValueError: no data, a batch that is no pair, or another pass that gives other data.
    """

    def __init__(
        self,
        loader: Any,
        device: torch.device,
        dtype: torch.dtype,
        prepare: Prepare | None = None,
        classes: Prepare | None = None,
    ):
        if isinstance(loader, Tensor):
            raise ValueError(
                "There are no labels; give inputs and labels, or a DataLoader of both."
            )
        self.loader, self.device, self.dtype = loader, device, dtype
        self.prepare, self.classes = prepare, classes
        self.values: Tensor | None = None
        self._marks: list[float] = []
        self._parts: list[slice] = []
        self._position = 0
        self._reading: Iterator[Any] | None = None
        _refuse_shuffling(loader)
        for inputs, labels in map(_pair, self.loader):
            check(inputs, labels)
            start = len(self)
            self._parts.append(slice(start, start + len(tree_leaves(labels)[0])))
            self._marks.append(_mark(inputs, labels))
            if isinstance(labels, Tensor) and not labels.is_floating_point():
                seen = (
                    [labels.flatten()] if self.values is None else [self.values, labels.flatten()]
                )
                self.values = torch.cat(seen).unique()
        if not self._parts:
            raise ValueError(
                "The data loader gives no batch; an objective needs at least one sample."
            )
        for part in self._parts:
            self.rows(part)

    def __len__(self) -> int:
        return self._parts[-1].stop if self._parts else 0

    def parts(self, size: int | None = None) -> list[slice]:
        """The samples of each batch, whatever size is asked for."""
        return self._parts

    def rows(self, rows: Rows) -> tuple[Any, Any]:
        """Inputs and labels of a batch, a slice of ``parts``; or of some samples, by reading all."""
        if isinstance(rows, slice):
            inputs, labels = self._read(self._parts.index(rows))
            return self._ready(inputs, labels)
        rows, found = _numbers(rows, len(self)), []
        for number, part in enumerate(self._parts):
            inside = (rows >= part.start) & (rows < part.stop)
            if bool(inside.any()):
                index = (rows[inside] - part.start).cpu()
                found.append(tree_map(lambda t, i=index: t[i], self._read(number)))
        order = torch.argsort(torch.cat([_where(rows, part) for part in self._parts]))
        joined = [
            tree_map(lambda *ts: torch.cat(ts)[order.cpu()], *side)
            for side in zip(*found, strict=True)
        ]
        return self._ready(*joined)

    def _read(self, number: int) -> tuple[Any, Any]:
        if self._reading is None or number < self._position:
            self._reading, self._position = iter(self.loader), 0
        while True:
            batch = next(self._reading, None)
            if batch is None:
                raise ValueError(_OTHERWISE)
            self._position += 1
            if self._position > number:
                break
        inputs, labels = _pair(batch)
        # The last digits of a sum change with the number of threads.
        if not math.isclose(_mark(inputs, labels), self._marks[number], rel_tol=1e-9):
            raise ValueError(_OTHERWISE)
        if self._position == len(self._parts):
            self._reading = None  # ends its workers
        return inputs, labels

    def _ready(self, inputs: Any, labels: Any) -> tuple[Any, Any]:
        inputs, labels = (to(side, self.device, self.dtype) for side in (inputs, labels))
        if self.prepare is not None:
            inputs = to(self.prepare(inputs), self.device, self.dtype)
        return inputs, labels if self.classes is None else self.classes(labels)


_OTHERWISE = (
    "A second pass over the data loader gives other data than the first; L(θ) needs the same samples in "
    "the same order each time: shuffle=False, and no random transform."
)


def chunks(total: int, size: int) -> list[slice]:
    """Slices of so many rows, the last may be smaller."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def drawn(count: int, whole: int, seed: int | None) -> Tensor:
    """Numbers of so many samples, ascending: at random, or evenly over all of them where seed is None."""
    if seed is None:
        return torch.arange(count, device="cpu") * whole // count
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randperm(whole, generator=generator, device="cpu")[:count].sort().values


def to(tree: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The tensors on that device, floating ones in that dtype, and none that inference mode has made."""

    def move(tensor: Tensor) -> Tensor:
        moved = tensor.detach().to(device, dtype if tensor.is_floating_point() else tensor.dtype)
        return moved.clone() if moved.is_inference() else moved

    with torch.inference_mode(False):
        return tree_map(move, tree)


def check(inputs: Any, labels: Any) -> None:
    """That inputs and labels are tensors of the same number of samples, and finite.

    Raises:
        ValueError: one sentence for the first thing that is wrong.
    """
    lengths = {}
    for name, tree in (("inputs", inputs), ("labels", labels)):
        leaves = tree_leaves(tree)
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                kind = f"{type(leaf).__module__}.{type(leaf).__name__}".removeprefix("builtins.")
                raise ValueError(
                    f"{name} holds a {kind} where a tensor is meant; torch.as_tensor({name}) makes one."
                )
            if not leaf.ndim:
                raise ValueError(
                    f"{name} holds a single number; the first dimension is the samples."
                )
            _check_finite(name, leaf)
        if not leaves:
            raise ValueError(f"{name} holds no tensor; give one of shape (N, …).")
        lengths[name] = sorted({len(leaf) for leaf in leaves})
    if len({*lengths["inputs"], *lengths["labels"]}) > 1:
        counts = {name: " and ".join(map(str, n)) for name, n in lengths.items()}
        raise ValueError(
            f"There are {counts['inputs']} inputs and {counts['labels']} labels; the first dimension of "
            "each tensor is the samples, and there must be as many of each."
        )
    if not lengths["labels"][0]:
        raise ValueError("There are no data: inputs and labels have 0 samples; give at least one.")


def _check_finite(name: str, tensor: Tensor) -> None:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    if bool(torch.isfinite(tensor.sum())):
        return  # a finite sum has only finite terms, and takes a tenth of the time
    finite = torch.isfinite(tensor)
    if name == "inputs" and not tensor.is_complex():
        finite |= tensor == -torch.inf  # a mask of attention
    if not bool(finite.all()):
        bad = finite.numel() - int(finite.sum())
        rows = int((~finite).reshape(len(tensor), -1).any(1).sum())
        raise ValueError(
            f"{bad} of {finite.numel()} numbers in the {name} are NaN or inf, in {rows} of "
            f"{len(tensor)} samples; the loss is not finite there: leave them out or fill them in."
        )


def _pair(batch: Any) -> tuple[Any, Any]:
    """Inputs and labels of a batch."""
    if isinstance(batch, dict) and "labels" in batch:
        return {name: value for name, value in batch.items() if name != "labels"}, batch["labels"]
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    raise ValueError(
        f"The data loader gives a {type(batch).__name__} where a pair (inputs, labels) is meant, or a "
        "dict with the key labels; a collate_fn can make one."
    )


def _refuse_shuffling(loader: Any) -> None:
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, (torch.utils.data.RandomSampler, torch.utils.data.SubsetRandomSampler)):
        raise ValueError(
            f"The data loader shuffles ({type(sampler).__name__}); L(θ) is a sum over all samples in a "
            "fixed order: use shuffle=False."
        )


def _mark(inputs: Any, labels: Any) -> float:
    """A number that changes with the data of a batch and their order."""
    mark = 0.0
    for tensor in tree_leaves((inputs, labels)):
        flat = tensor.detach().reshape(-1).double()
        mark = 0.9 * mark + float(flat @ torch.linspace(1, 2, len(flat)).to(flat))
    return mark


def _numbers(rows: Tensor, total: int) -> Tensor:
    """Numbers 0 … total − 1 of the rows that a tensor is an index of, negative ones and truth values too.

    Raises:
        IndexError: one is out of range.
    """
    rows = torch.nonzero(rows)[:, 0] if rows.dtype == torch.bool else rows
    wrong = (rows < -total) | (rows >= total)
    if bool(wrong.any()):
        raise IndexError(f"Row {int(rows[wrong][0])} is out of range; there are {total} samples.")
    return torch.where(rows < 0, rows + total, rows)


def _where(rows: Tensor, part: slice) -> Tensor:
    return torch.nonzero((rows >= part.start) & (rows < part.stop))[:, 0]
