"""What is checked of a model, a loss and labels before a number of theirs is used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from subspace_lib.objective.losses import CLASSIFIES, FUNCTIONS, Loss, cross_entropy, mse, partly

ELEMENTWISE = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
)
_NAMES = "mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy"
ELEMENTWISE_FUNCTIONS = (
    *(getattr(nn.functional, name) for name in _NAMES.split()),
    nn.functional.binary_cross_entropy_with_logits,
)


def plain_module(model: Any) -> nn.Module:
    """The module itself, out of ``torch.compile``.

    Raises:
        ValueError: it is no module, one that cannot be differentiated twice, or has no values yet.
    """
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}; give a torch.nn.Module.")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            "The model is traced or scripted, and has no second derivatives that can be trusted; give the "
            "nn.Module that it was made from."
        )
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise ValueError(f"The model is wrapped in {type(model).__name__}; give model.module.")
    for name, module in model.named_modules():
        if getattr(module, "max_norm", None) is not None:
            raise ValueError(
                f"{name or 'The model'} ({type(module).__name__}) has a max_norm: a forward pass changes "
                "its parameters, so that the loss is no function of θ; use max_norm=None."
            )
    for name, p in model.named_parameters():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"The parameter {name} has no shape yet: a lazy module gets it in its first forward pass."
            )
        if p.requires_grad and p.is_inference():
            raise ValueError(
                f"The parameter {name} was made in inference mode, and has no gradient; build the model "
                "outside of torch.inference_mode()."
            )
    return model


def place(
    model: nn.Module, device: str | torch.device | None, dtype: torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of θ: those asked for, or those of the model's parameters.

    Raises:
        ValueError: nothing to train, parameters on several devices, complex ones, a dtype below 32 bits.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            "The model has no parameter that requires a gradient, so there is no θ; "
            "model.requires_grad_(True) makes all of them so."
        )
    for name, p in model.named_parameters():
        if p.requires_grad and p.is_complex():
            raise ValueError(f"The parameter {name} is complex; θ is a vector of real numbers.")
    devices = {p.device for p in parameters}
    if device is None and len(devices) > 1:
        raise ValueError(
            f"The model's parameters lie on {len(devices)} devices; θ is one vector: move the model to one."
        )
    if dtype is None:
        wide = all(p.dtype == torch.float64 for p in parameters)
        dtype = torch.float64 if wide else torch.float32
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"dtype = {dtype} is not exact enough for eigenvalues; use torch.float32 or torch.float64."
        )
    return torch.empty(0, device=device or parameters[0].device).device, dtype


def noisy(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules whose output is random, or depends on the other samples, in training mode; by name."""
    return [(name, m) for name, m in model.named_modules() if _is_noisy(m)]


def _is_noisy(module: nn.Module) -> bool:
    if isinstance(module, (_DropoutNd, nn.RReLU)):
        return float(getattr(module, "p", 1.0)) > 0
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    if isinstance(module, _NormBase):
        return module.track_running_stats or not _by_sample(module)
    return False


def _by_sample(module: nn.Module) -> bool:
    """Whether a normalization takes its statistics from each sample alone."""
    return isinstance(module, nn.modules.instancenorm._InstanceNorm)


def refuse_noise(modules: list[tuple[str, nn.Module]]) -> None:
    """That none of the ``noisy`` modules is in training mode, and each batch norm has statistics.

    Raises:
        ValueError: one is.
    """
    for name, module in modules:
        batch = isinstance(module, _NormBase) and not _by_sample(module)
        if module.training:
            why = (
                "depends on the other samples of its batch and changes its running statistics"
                if isinstance(module, _NormBase)
                else "is random"
            )
            raise ValueError(
                f"{name or 'The model'} ({type(module).__name__}) is in training mode, where its output "
                f"{why}, so that there is no L(θ); call model.eval() first."
            )
        if batch and getattr(module, "running_mean", None) is None:
            raise ValueError(
                f"{name or 'The model'} ({type(module).__name__}) has no running statistics, so that its "
                "output depends on the other samples of its batch in eval mode too; there is no L(θ)."
            )


def class_numbers(loss: Loss, labels: Any) -> Any:
    """The labels as int64 where the loss takes class numbers and they are of another integer type."""
    if not (_classifies(loss) or loss is mse) or not isinstance(labels, Tensor):
        return labels
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return labels.long() if whole else labels


def check_labels(loss: Loss, outputs: Any, labels: Any) -> None:
    """That the labels are what the loss takes for these outputs, as far as the loss is known.

    Args:
        outputs: (n, C, …) of a few samples; labels: of all that are in memory, (N, …).

    Raises:
        ValueError: a class number out of range, or a shape that would be broadcast.
    """
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)) or not outputs.ndim:
        return
    fits = tuple(labels.shape[1:]) == tuple(outputs.shape[1:])
    function = getattr(loss, "func", loss)
    if loss is mse and not fits:
        _check_classes(outputs, labels, None, "mse")
    elif _classifies(loss) and not labels.is_floating_point():
        _check_classes(outputs, labels, partly(loss, "ignore_index", -100), "the loss")
    elif (isinstance(loss, ELEMENTWISE) or function in ELEMENTWISE_FUNCTIONS) and not fits:
        raise ValueError(
            broadcast(outputs, labels, getattr(function, "__name__", type(loss).__name__))
        )


def broadcasts(outputs: Any, labels: Any) -> bool:
    """Whether one output a sample, (n, 1), stands against numbers (n,)."""
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)):
        return False
    return outputs.shape[1:] == (1,) and labels.ndim == 1 and labels.is_floating_point()


def broadcast(outputs: Tensor, labels: Tensor, name: str = "The loss") -> str:
    """What is said where outputs and labels would be broadcast against each other."""
    return (
        f"The model returns {_shape(outputs)} and the labels are {_shape(labels)}; {name} would broadcast "
        "them against each other: give both the same shape."
    )


def _classifies(loss: Loss) -> bool:
    function = getattr(loss, "func", loss)
    return loss is cross_entropy or isinstance(loss, CLASSIFIES) or function in FUNCTIONS


def _check_classes(outputs: Tensor, labels: Tensor, ignored: int | None, name: str) -> None:
    if outputs.ndim < 2 and name != "mse":
        return
    if (
        (outputs.ndim != 2 and name == "mse")
        or labels.is_floating_point()
        or labels.ndim != outputs.ndim - 1
    ):
        raise ValueError(
            f"The model returns {_shape(outputs)} and the labels are {_shape(labels)} of {labels.dtype}; "
            f"{name} takes class numbers (N,) of int64, or targets of the outputs' shape."
        )
    classes = outputs.shape[1]
    wrong = (labels < 0) | (labels >= classes)
    if ignored is not None:
        wrong &= labels != ignored
    if bool(wrong.any()):
        raise ValueError(
            f"{int(wrong.sum())} of {labels.numel()} labels are out of range, the first is "
            f"{int(labels[wrong][0])}: the model has {classes} outputs, so labels are 0 … {classes - 1}."
        )


def _shape(tensor: Tensor) -> str:
    return (
        "("
        + ", ".join(["n", *map(str, tensor.shape[1:])])
        + ("," if tensor.ndim == 1 else "")
        + ")"
    )
