"""The three-layer perceptron."""

from __future__ import annotations

from torch import nn


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
