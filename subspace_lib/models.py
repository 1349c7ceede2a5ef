"""Networks in the paper's sizes, as plain ``nn.Module``s that know nothing of data or training."""

from __future__ import annotations

import math

import torch
from torch import nn

MODELS = ("mlp", "cnn")
CHUNKS = {"mlp": 1000, "cnn": 250}  # samples per autograd graph that are fastest on a CPU


def mlp(inputs: int, classes: int, width: int = 200) -> nn.Sequential:
    """Three-layer tanh perceptron ``inputs–width–width–classes``.

    Input (n, ...) is flattened to (n, inputs); output (n, classes). With 784 inputs, 10 classes and
    width 200 it has D = 199,210 parameters. Source: arXiv 2405.16002, section 3 (MLP on MNIST-5k).
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, width),
        nn.Tanh(),
        nn.Linear(width, width),
        nn.Tanh(),
        nn.Linear(width, classes),
    )


def cnn(channels: int, side: int, classes: int, width: int = 32) -> nn.Sequential:
    """Three-layer ReLU CNN: two 3×3 convolutions, each with 2×2 max pooling, and one linear layer.

    Input (n, channels, side, side), output (n, classes). Source: arXiv 2405.16002, section 3 (CNN on
    CIFAR10-5k); that its three layers are two convolutions and a linear one is our reading.
    """
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(width * (side // 4) ** 2, classes),
    )


def build(name: str, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """Build the named network for inputs of ``shape`` (channels, height, width), initialised by seed.

    Weights and biases have the bounds of ``torch.nn.Linear`` / ``torch.nn.Conv2d``, uniform in
    ±1/√fan_in, drawn from a generator of their own, so that the global random state stays as it is.

    Raises:
        ValueError: unknown ``name``.
    """
    if name not in MODELS:
        raise ValueError(f"model = {name!r} is not known; choose one of {', '.join(MODELS)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "mlp":
            return mlp(math.prod(shape), classes)
        return cnn(shape[0], shape[1], classes)
