"""Networks in the paper's sizes, as plain ``nn.Module``s that know nothing of data or training.

A model of this book is a function of (shape of an input, classes) in ``ARCHITECTURES``; to add one, write
its module and name it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from subspace_lib.models.cnn import cnn
from subspace_lib.models.mlp import mlp


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and what it takes.

    Attributes:
        build: of the shape of one input and the number of classes.
        dimensions: how many dimensions one input has; None for any.
        chunk: samples in one autograd graph that are fastest on a CPU.
    """

    build: Callable[[tuple[int, ...], int], nn.Module]
    dimensions: int | None
    chunk: int


ARCHITECTURES = {
    "mlp": Architecture(lambda shape, classes: mlp(math.prod(shape), classes), None, chunk=1000),
    "cnn": Architecture(lambda shape, classes: cnn(shape[0], shape[1], classes), 3, chunk=250),
}
MODELS = tuple(ARCHITECTURES)
CHUNKS = {name: architecture.chunk for name, architecture in ARCHITECTURES.items()}


def build(name: str, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Build the named network for inputs of ``shape``, images (channels, height, width), by a seed.

    Weights and biases have the bounds of ``torch.nn.Linear`` / ``torch.nn.Conv2d``, uniform in
    ±1/√fan_in; the global random state stays as it is.

    Raises:
        ValueError: unknown ``name``, or inputs that the network does not take.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"model = {name!r} is not known; choose one of {', '.join(MODELS)}.")
    architecture = ARCHITECTURES[name]
    if architecture.dimensions not in (None, len(shape)):
        raise ValueError(
            f"model = {name!r} takes inputs of {architecture.dimensions} dimensions, not of shape {shape}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.build(shape, classes)
