"""Networks in the paper's sizes, as plain ``nn.Module``s that know nothing of data or training.

A model of this book is a function of (shape of an input, classes) in ``ARCHITECTURES``; to add one, write
its module and name it there. In place of a name stands the import path of one of your own,
``module:function``. The shape of an image is (channels, height, width), that of a sentence of tokens
(positions, vocabulary), as if each token were a one-hot vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from subspace_lib.models.cnn import cnn
from subspace_lib.models.mlp import mlp
from subspace_lib.models.resnet import ResNet8, Statistics
from subspace_lib.models.transformer import Transformer
from subspace_lib.models.vgg import SIDE, vgg11
from subspace_lib.own import CONTRACT, Own, called, find, is_path

VECTOR, SENTENCE, IMAGE = 1, 2, 3  # dimensions of an input


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and what it takes.

    Attributes:
        build: of the shape of one input and the number of classes.
        dimensions: how many dimensions one input may have; none for any.
        chunk: samples in one autograd graph that are fastest on a CPU.
        side: height and width of an image must be multiples of it.
    """

    build: Callable[[tuple[int, ...], int], nn.Module]
    dimensions: tuple[int, ...]
    chunk: int
    side: int = 1

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether it can be built for inputs of this shape."""
        fits = len(shape) != IMAGE or all(size % self.side == 0 for size in shape[1:])
        return (not self.dimensions or len(shape) in self.dimensions) and fits


def _transformer(chunk: int, **sizes: int) -> Architecture:
    build = lambda shape, classes: Transformer(shape[1], shape[0], classes, **sizes)  # noqa: E731
    return Architecture(build, (SENTENCE,), chunk)


def _resnet8(width: int, statistics: Statistics = "fixed") -> Architecture:
    build = lambda shape, classes: ResNet8(shape[0], classes, width, statistics)  # noqa: E731
    return Architecture(build, (IMAGE,), 250)


def _vgg11(width: int) -> Architecture:
    build = lambda shape, classes: vgg11(shape[0], shape[1], classes, width)  # noqa: E731
    return Architecture(build, (IMAGE,), 250, SIDE)


ARCHITECTURES = {
    "mlp": Architecture(
        lambda shape, classes: mlp(math.prod(shape), classes), (VECTOR, IMAGE), chunk=1000
    ),
    "mlp_small": Architecture(
        lambda shape, classes: mlp(math.prod(shape), classes, width=32), (VECTOR, IMAGE), chunk=1000
    ),
    "cnn": Architecture(lambda shape, classes: cnn(shape[0], shape[1], classes), (IMAGE,), 250),
    "cnn_small": Architecture(
        lambda shape, classes: cnn(shape[0], shape[1], classes, width=4), (IMAGE,), 1000
    ),
    "transformer": _transformer(50),
    "transformer_small": _transformer(1000, width=8, heads=2, hidden=32),
    "vgg11": _vgg11(64),
    "vgg11_quarter": _vgg11(16),
    "resnet8": _resnet8(16),
    "resnet8_quarter": _resnet8(4),
    "resnet8_chunk": _resnet8(16, "chunk"),
    "resnet8_quarter_chunk": _resnet8(4, "chunk"),
}
MODELS = tuple(ARCHITECTURES)
CHUNKS = {name: architecture.chunk for name, architecture in ARCHITECTURES.items()}


def fitting(shape: tuple[int, ...], tokens: bool = True) -> tuple[str, ...]:
    """Names of the networks that take inputs of this shape; of two dimensions ``tokens`` alone."""
    if len(shape) == SENTENCE and not tokens:
        return ()
    return tuple(name for name, known in ARCHITECTURES.items() if known.takes(shape))


def architecture(name: str | Own) -> Architecture:
    """The architecture of that name, or by a function of your own, which takes any input.

    Raises:
        ValueError: unknown ``name``, or an import path that leads to no function (``find``).
    """
    if isinstance(name, str) and name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if isinstance(name, str) and not is_path(name):
        raise ValueError(
            f"model = {name!r} is not known; choose one of {', '.join(MODELS)}, or give 'module:function'."
        )
    own = name if isinstance(name, Own) else find("model", name)

    def build(shape: tuple[int, ...], classes: int) -> nn.Module:
        model = called("model", own, shape, classes)
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"model = {own.path!r} returned something of type {type(model).__name__}; give "
                f"{CONTRACT['model']}"
            )
        return model

    return Architecture(build, (), chunk=1000)


def build(
    name: str | Own,
    shape: tuple[int, ...],
    classes: int,
    seed: int,
    inputs: Tensor | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> nn.Module:
    """Build the named network for inputs of ``shape``, by a seed.

    Weights and biases begin as each network's own description says; the global random state stays as it
    is. A network with statistics of its data takes them from ``inputs`` (N, ...), where they are given;
    ``prepare`` makes what it takes of some of them (``Dataset``).

    Raises:
        ValueError: unknown ``name``, inputs that the network does not take, or a function of your own that
            fails or returns no module.
    """
    known = architecture(name)
    if not known.takes(shape):
        raise ValueError(
            f"model = {name!r} does not take inputs of shape {shape}; choose one of "
            f"{', '.join(fitting(shape)) or 'none'}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = known.build(shape, classes)
    if inputs is not None and isinstance(model, ResNet8):
        model.settle(inputs, prepare)
    return model
