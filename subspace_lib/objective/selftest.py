"""Whether an objective is one: tried once on a few samples, before anything is computed with it.

The derivatives are compared with differences in float64, at a θ that is not the model's own; the loss of a
set of samples with those of its parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from subspace_lib.objective.inputs import broadcast, broadcasts, check_labels
from subspace_lib.objective.network import Network, settled
from subspace_lib.objective.samples import to

if TYPE_CHECKING:
    from subspace_lib.objective.objective import Objective

SAMPLES = 16
TILED = 2**24  # numbers that outputs of all samples may be, for the test of chunks
ANYWAY = "check=False goes on regardless"


@dataclass(frozen=True)
class Accuracy:
    """How exact differences are: steps (of the parameters' scale) to be tried, and what may be left."""

    steps: tuple[float, ...]
    tolerance: float


# A kink, of a ReLU or a maximum, can lie between two points, the more seldom the closer they are.
DOUBLE = Accuracy((1e-6, 1e-7, 1e-8), 1e-4)
SINGLE = Accuracy((3e-3, 1e-2, 1e-3), 3e-2)


class Trial:
    """A few samples of an objective, at a θ near the model's own.

    Args:
        objective: whose; rows: inputs and labels of n samples; dtype: to compute in.

    Attributes:
        network, inputs, labels: in that dtype; theta: (D,).
    """

    def __init__(self, objective: Objective, rows: tuple[Any, Any], dtype: torch.dtype):
        o = objective
        self.network = Network(o.model, o.loss, o.network.call, o.device, dtype)
        self.inputs, self.labels = (to(side, o.device, dtype) for side in rows)
        self.count = len(tree_leaves(self.labels)[0])
        own = self.network.initial()
        generator = torch.Generator(device="cpu").manual_seed(0)
        scale = self.network.flat(
            [_scale(part).expand(part.shape) for part in self.network.parts(own)]
        )
        noise, along = torch.randn(2, len(own), generator=generator, device="cpu", dtype=dtype).to(
            own
        )
        self.along = along * scale
        self.theta = own + 0.05 * scale * noise
        if not torch.isfinite(self.loss(self.theta)):
            self.theta = own

    def loss(self, theta: Tensor, rows: slice = slice(None)) -> Tensor:
        """L on these samples, or some of them, without a graph."""
        inputs, labels = tree_map(lambda t: t[rows], (self.inputs, self.labels))
        with self.network.at(theta):
            return self.network.value(inputs, labels).detach().double()

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """L and its gradient (D,)."""
        with self.network.at(theta):
            loss = self.network.value(self.inputs, self.labels)
            return loss.detach().double(), self.network.gradient(loss)

    def product(self) -> tuple[Tensor, Tensor]:
        """The gradient at θ, and H v by double backward; (D,) each."""
        network, pieces = self.network, self.network.parts(self.along)
        with network.at(self.theta):
            loss = network.value(self.inputs, self.labels)
            found = torch.autograd.grad(
                loss, network.parameters, create_graph=True, allow_unused=True
            )
            known = [
                (g, p)
                for g, p in zip(found, pieces, strict=True)
                if g is not None and g.requires_grad
            ]
            gradient = network.flat([None if g is None else g.detach() for g in found])
            if not known:
                return gradient, torch.zeros_like(gradient)
            products = torch.autograd.grad(
                [g for g, _ in known],
                network.parameters,
                [p for _, p in known],
                allow_unused=True,
            )
            return gradient, network.flat(products)

    def rounds(self) -> bool:
        """Whether something in the model computes in less than float64: a tiny step shows steps."""
        step = 1e-9 * self.along
        here = self.loss(self.theta)
        second = self.loss(self.theta + step) + self.loss(self.theta - step) - 2 * here
        return float(second.abs()) > 1e-13 * max(float(here.abs()), 1e-30)


@settled(second=True)
def run(objective: Objective) -> None:
    """Try an objective on a few of its samples.

    Raises:
        ValueError: one sentence: the loss cannot be computed, is no finite number, is another one the
            second time, does not add up over chunks, or has wrong derivatives.
    """
    rows = _few(objective)
    with _unchanged(objective.model):
        outputs = _first(objective, rows)
        objective.network.differentiates = _differentiates(objective, rows)
        trial = _trial(objective, rows)
        loss = trial.loss(trial.theta)
        if not torch.isfinite(loss):
            raise ValueError(
                f"The loss of the first samples is {float(loss)} at the model's own parameters; a "
                "parameter is NaN or inf, or the outputs are too large."
            )
        _twice(trial, loss)
        _adds_up(objective, trial, loss, outputs)
        _derivatives(trial)


def _few(objective: Objective) -> tuple[Any, Any]:
    """Inputs and labels of a few samples that count, less than an eighth of all."""
    o = objective
    part = o.samples.parts()[0]
    inputs, labels = o.samples.rows(part)
    counts = o.weighing.counts(labels)
    index = torch.arange(part.stop, device="cpu") if counts is None else torch.nonzero(counts)[:, 0]
    if not len(index):
        index = torch.arange(part.stop, device="cpu")
    size = max(1, min(SAMPLES, len(o) // 8), min(2, len(index)))
    index = index[torch.arange(size, device="cpu") * len(index) // size]
    return tree_map(lambda t: t[index.to(t.device)], (inputs, labels))


def _first(objective: Objective, rows: tuple[Any, Any]) -> Any:
    """The outputs on a few samples; whatever goes wrong there becomes a sentence."""
    network, (inputs, labels) = objective.network, rows
    with network.at(network.initial()):
        try:
            outputs = network.outputs(inputs)
        except Exception as error:
            raise ValueError(f"The model cannot take the inputs: {_said(error)}") from error
        known = getattr(objective.samples, "labels", labels)
        check_labels(objective.loss, outputs, known)
        values = getattr(objective.samples, "values", None)  # of all batches of a data loader
        if values is not None and isinstance(outputs, Tensor) and labels.ndim == outputs.ndim - 1:
            check_labels(objective.loss, outputs, values.reshape(-1, *[1] * (labels.ndim - 1)))
        try:
            loss = network.loss(outputs, labels)
        except Exception as error:
            raise ValueError(
                f"The loss cannot take the model's outputs and the labels: {_said(error)}"
            ) from error
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            f"The loss returns something of {what}; it must return one number, the mean over its samples."
        )
    if not loss.requires_grad:
        raise ValueError(
            "The loss has no gradient by any parameter: there is a detach() or no_grad() in the model, or "
            "none of its parameters takes part."
        )
    return tree_map(lambda t: t.detach() if isinstance(t, Tensor) else t, outputs)


def _differentiates(objective: Objective, rows: tuple[Any, Any]) -> bool:
    """Whether the model works in its forward pass with a gradient of its own."""
    network = objective.network
    with torch.no_grad(), network.at(network.initial()):
        try:
            network.outputs(rows[0])
        except RuntimeError:
            return True
    return False


def _trial(objective: Objective, rows: tuple[Any, Any]) -> Trial:
    """In float64 if the model can be computed in it."""
    try:
        return Trial(objective, rows, torch.float64)
    except (RuntimeError, TypeError, ValueError):  # a tensor that the model makes in float32
        return Trial(objective, rows, objective.dtype)


def _twice(trial: Trial, loss: Tensor) -> None:
    again = trial.loss(trial.theta)
    if float((again - loss).abs()) > 1e-6 * float(loss.abs()):
        raise ValueError(
            f"Two evaluations of the loss at the same θ and samples give {float(loss):.6g} and "
            f"{float(again):.6g}: the model uses random numbers (dropout?) or remembers the last call."
        )


def _adds_up(objective: Objective, trial: Trial, loss: Tensor, outputs: Any) -> None:
    """That L on some samples is made up of L on parts of them, as chunks and minibatches suppose."""
    o, half = objective, trial.count // 2
    if half:
        parts = [slice(0, half), slice(half, trial.count)]
        losses = [trial.loss(trial.theta, part) for part in parts]
        _settle(o, losses, [_take(trial.labels, part) for part in parts], parts, loss)
    if not o.additive and broadcasts(outputs, trial.labels):
        raise ValueError(broadcast(outputs, trial.labels))
    if o.additive:
        _settle_chunks(o, outputs)
    if not o.additive and len(o.samples.parts()) > 1:
        raise ValueError(
            "The loss of all samples is not the mean of those of its chunks: class weights, ignored labels "
            "or samples that depend on each other; take chunk = len(labels), or a loss that is a mean."
        )


def _settle(
    o: Objective, losses: list[Tensor], labels: list[Any], parts: list[slice], whole: Tensor
) -> None:
    """Note whether the loss is a mean, a sum or neither, from losses on parts and on the whole of them."""
    weighing = o.weighing
    amounts = [weighing.amount(y, p.stop - p.start) for y, p in zip(labels, parts, strict=True)]
    counted = [(loss, n) for loss, n in zip(losses, amounts, strict=True) if n]
    mean = sum(loss * n for loss, n in counted) / max(sum(n for _, n in counted), 1e-30)
    total = sum(losses[1:], losses[0])
    largest = max(float(loss.abs()) for loss in (*losses, whole))
    right = {
        name: float((value - whole).abs()) <= 1e-5 * largest
        for name, value in (("mean", mean), ("sum", total))
    }
    if weighing.uniform and right["sum"] and not right["mean"]:
        weighing.sums = True
    o.additive = right["sum"] if weighing.sums else right["mean"]


def _settle_chunks(o: Objective, outputs: Any) -> None:
    """The same for the chunks of all labels, on outputs that repeat those of the few samples."""
    leaves = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    rows = {len(leaf) if leaf.ndim else 0 for leaf in leaves}
    if len(rows) != 1 or 0 in rows:  # something that is not of one sample each
        return
    (few,) = rows
    count = min(len(o), TILED // max(1, sum(leaf[0].numel() for leaf in leaves)))
    every = o.samples.parts()
    if len(every) == 1 and hasattr(
        o.samples, "labels"
    ):  # the data that evaluate is given may have several
        every = [slice(0, len(o) // 2), slice(len(o) // 2, len(o))]
    parts = [part for part in every if part.start < part.stop <= count]
    if len(parts) < 2:
        return
    labels = [o.samples.rows(part)[1] for part in parts]
    shapes = {tuple(y.shape[1:]) for y in tree_leaves(labels)}
    if len(shapes) > len(
        tree_leaves(labels[0])
    ):  # batches of several lengths: outputs of one fit no other
        return

    def tiled(part: slice) -> Any:
        index = torch.arange(part.start, part.stop, device="cpu") % few
        return tree_map(lambda t: t[index.to(t.device)] if isinstance(t, Tensor) else t, outputs)

    with torch.no_grad(), o.network.at(o.network.initial()):
        losses = [o.loss(tiled(p), y).detach().double() for p, y in zip(parts, labels, strict=True)]
        joined = tree_map(lambda *ys: torch.cat(ys), *labels)
        whole = o.loss(tiled(slice(0, parts[-1].stop)), joined)
        _settle(o, losses, labels, parts, whole.detach().double())


def _derivatives(trial: Trial) -> None:
    """gᵀv against differences of the loss, H v against differences of the gradient."""
    try:
        gradient, product = trial.product()
    except RuntimeError as error:
        raise ValueError(
            f"The loss has no second derivative: {_said(error)} ({ANYWAY}, for gradients alone)"
        ) from error
    double = trial.theta.dtype == torch.float64
    wrong = _wrong(trial, gradient, product, DOUBLE if double else SINGLE)
    if wrong and double and trial.rounds():
        wrong = _wrong(trial, gradient, product, SINGLE)
    if wrong:
        raise ValueError(wrong)


def _wrong(trial: Trial, gradient: Tensor, product: Tensor, accuracy: Accuracy) -> str:
    """What is wrong at all steps, as a sentence; empty if nothing is."""
    slope = float(gradient.double() @ trial.along.double())
    usual = float((gradient * trial.along).double().norm())
    said = ""
    for step in accuracy.steps:
        (above, up), (below, down) = (
            trial.gradient(trial.theta + sign * step * trial.along) for sign in (1, -1)
        )
        rounding = torch.finfo(trial.theta.dtype).eps / step
        difference = float(above - below) / (2 * step)
        floor = 10 * rounding * float(above.abs())
        if not abs(difference - slope) <= accuracy.tolerance * usual + floor:
            said = said or (
                f"The gradient does not fit the loss: along a random direction it is {slope:.4g}, and by "
                f"differences of the loss {difference:.4g}; {_why(trial, False)} ({ANYWAY})."
            )
            continue
        bent = (up - down).double() / (2 * step)
        off, size = float((bent - product).norm()), float(bent.norm())
        if off <= accuracy.tolerance * size + 10 * rounding * float(gradient.norm()):
            return ""
        said = (
            f"The Hessian does not fit the gradient: H v is off by {off / max(size, 1e-30):.2g} of itself "
            f"from differences of gradients; {_why(trial, True)} ({ANYWAY})."
        )
    return said


def _why(trial: Trial, second: bool) -> str:
    """What in the model is known to have no such derivative, else what may be wrong."""
    for name, module in trial.network.model.named_modules():
        if not second and getattr(module, "padding_idx", None) is not None:
            return f"{name} has a padding_idx, whose row PyTorch gives no gradient: use padding_idx=None"
        if second and type(module).__name__ == "_WeightNorm":
            return f"{name} is PyTorch's weight_norm, whose second derivative is wrong: remove it"
    if second:
        return "a custom function has no right second derivative"
    return "a custom backward is wrong, a part is detached, or one computes in less than float32"


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Random state and buffers are the same afterwards.

    Raises:
        ValueError: a forward pass has changed a buffer or a parameter.
    """
    state = torch.get_rng_state()
    held = [
        (f"{name}.{key}".lstrip("."), owner, key, tensor, tensor.detach().clone())
        for name, module in model.named_modules()
        for owner in (module._buffers, module._parameters)
        for key, tensor in owner.items()
        if tensor is not None
    ]
    changed = []
    try:
        yield
    finally:
        torch.set_rng_state(state)
        for name, owner, key, tensor, before in held:
            if owner.get(key) is not tensor or not _same(tensor, before):
                changed.append(name)
                owner[key] = tensor
                with torch.no_grad():
                    tensor.data.copy_(before)
    if changed:
        raise ValueError(
            f"A forward pass changes {changed[0]}, so that the loss is no function of θ; model.eval() "
            "switches off what is made for training."
        )


def _same(tensor: Tensor, before: Tensor) -> bool:
    return torch.equal(tensor.detach(), before) or bool(
        torch.equal(tensor.detach().nan_to_num(), before.nan_to_num())
    )


def _scale(part: Tensor) -> Tensor:
    """The size of a parameter's entries, 0.05 where they are 0."""
    size = part.square().mean().sqrt()
    return torch.where((size > 0) & torch.isfinite(size), size, torch.full_like(size, 0.05))


def _take(tree: Any, rows: slice) -> Any:
    return tree_map(lambda t: t[rows], tree)


def _said(error: Exception) -> str:
    """The first line of an error's message, shortened."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return text[:200].rstrip(" .") + "."
