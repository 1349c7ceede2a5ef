"""Losses by name, and how the losses of parts of the data add up to that of the whole."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Loss = Callable[[Any, Any], Tensor]


def mse(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples of ½ Σ_c (f_c − t_c)², where t is one-hot for class numbers; a scalar.

    Outputs (n, C); labels (n,) int64, or targets of the outputs' shape.
    """
    if labels.shape == outputs.shape:
        return 0.5 * (outputs - labels.to(outputs.dtype)).square().sum() / len(labels)
    # Not one_hot: it looks at the labels' values, which vmap does not allow.
    classes = torch.arange(outputs.shape[1], device=labels.device)
    onehot = (labels[:, None] == classes).to(outputs.dtype)
    return 0.5 * (outputs - onehot).square().sum() / len(labels)


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples of −log softmax(f)_label, in nats. Outputs (n, C), labels (n,) int64."""
    return nn.functional.cross_entropy(outputs, labels)


LOSSES: dict[str, Loss] = {"mse": mse, "cross_entropy": cross_entropy}
CLASSIFIES = (nn.CrossEntropyLoss, nn.NLLLoss)
FUNCTIONS = (nn.functional.cross_entropy, nn.functional.nll_loss)


def named(loss: str | Loss) -> Loss:
    """The loss of that name, or the function as it is.

    Raises:
        ValueError: it is none of ``LOSSES`` and no function, or returns more than one number.
    """
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    if not callable(loss):
        raise ValueError(f"loss = {loss!r} is not known; choose one of {', '.join(LOSSES)}.")
    if partly(loss, "reduction", None) == "none":
        raise ValueError(
            f"loss = {type(loss).__name__} with reduction='none' returns a number per sample; the loss "
            "must be one number, their mean: use reduction='mean'."
        )
    return loss


def partly(loss: Any, option: str, default: Any) -> Any:
    """An option of a loss: an attribute of a module, or a keyword of ``functools.partial``."""
    if isinstance(loss, functools.partial):
        return loss.keywords.get(option, default)
    return getattr(loss, option, default)


@dataclass(frozen=True)
class Classes:
    """How a loss of class numbers weighs samples: ω_i = weight[y_i], 0 for the ignored label.

    Attributes:
        weight: of the classes (C,), or None for 1; ignored: a label that does not count.
    """

    weight: Tensor | None
    ignored: int

    @classmethod
    def of(cls, loss: Loss) -> Classes | None:
        """As PyTorch's losses define it, with ``reduction="mean"``, or "sum"; None for any other loss."""
        if loss is cross_entropy:
            return cls(None, -100)
        function = loss.func if isinstance(loss, functools.partial) and not loss.args else loss
        known = isinstance(loss, CLASSIFIES) or function in FUNCTIONS
        if not known or partly(loss, "reduction", "mean") not in ("mean", "sum"):
            return None
        return cls(partly(loss, "weight", None), partly(loss, "ignore_index", -100))

    def counts(self, labels: Tensor) -> Tensor:
        """ω_i of each sample, summed over its positions; labels (n, …) of integers; float64 (n,)."""
        counted = labels != self.ignored
        weights = counted.double()
        if self.weight is not None:
            weight = self.weight.detach().to(labels.device, torch.float64)
            weights = weight[labels.clamp(0, len(weight) - 1)] * weights
        return weights.reshape(len(labels), -1).sum(1)


class Weighing:
    """L on all samples as Σ_parts c_part L_part: what c is, for a part of the data.

    A mean over samples has c = n_part/N, a sum 1, and a mean weighted by labels Σ_part ω / Σ ω.

    Attributes:
        sums: whether the loss is a sum over samples.
        uniform: whether it is a plain mean over samples.
    """

    def __init__(self, loss: Loss):
        self.sums = partly(loss, "reduction", None) == "sum"
        classes = Classes.of(loss)
        self._ignored = None if classes is None else classes.ignored
        weight = None if classes is None else classes.weight
        self._loss, self._weight = loss, None if weight is None else weight.detach().cpu().clone()
        self._classes = None if self.sums else classes

    def check(self) -> None:
        """That the class weights are those at the start; raises ValueError where they are not."""
        now = Classes.of(self._loss)
        weight = None if now is None or now.weight is None else now.weight.detach()
        before = self._weight
        same = (
            before is None if weight is None else before is not None and before.equal(weight.cpu())
        )
        if not same:
            raise ValueError(
                "The loss has other class weights than when the Objective was made of it; make a new one."
            )

    @property
    def uniform(self) -> bool:
        """Whether all samples count alike, in a mean."""
        return not self.sums and self._classes is None

    def settle(self, labels: Any) -> None:
        """Be a plain mean, with its rounding, where that makes no difference to these labels of all."""
        if self._classes is not None:
            counts = self.counts(labels)
            if counts is None or bool((counts == counts[:1]).all()):
                self._classes = None

    @property
    def ignored(self) -> int | None:
        """The label that does not count, if the loss has one."""
        return self._ignored

    def amount(self, labels: Any, samples: int) -> float:
        """What a part of the data counts: its number of samples, or Σ ω of them."""
        counts = self.counts(labels)
        return float(samples) if counts is None else float(counts.sum())

    def scale(self, labels: Any, samples: int, total: float, whole: int) -> Tensor | None:
        """Factors (n,) that make L the plain mean of single losses: N ω_i / Σ ω; None where all are 1.

        Args:
            labels: of n = samples samples; total: the amount of all; whole: N.
        """
        counts = self.counts(labels)
        if self.sums:
            where = tree_leaves(labels)[0].device
            return torch.full((samples,), float(whole), dtype=torch.float64, device=where)
        return None if counts is None else counts * (whole / total)

    def counts(self, labels: Any) -> Tensor | None:
        """ω_i of each sample, float64 (n,); None where all are 1."""
        classes = self._classes
        if classes is None or not isinstance(labels, Tensor) or labels.is_floating_point():
            return None
        return classes.counts(labels)
