"""The small convolutional network."""

from __future__ import annotations

from torch import nn

from subspace_lib.models.convolution import Conv2d, MaxPool2d


def cnn(channels: int, side: int, classes: int, width: int = 32) -> nn.Sequential:
    """Three-layer ReLU CNN: two 3×3 convolutions, each with 2×2 max pooling, and one linear layer.

    Input (n, channels, side, side), output (n, classes). The ReLU comes after the pooling: it does not
    change which value is the largest, so that this is the same network with a quarter of the work for it.
    Source: arXiv 2405.16002, section 3 (CNN on CIFAR10-5k); that its three layers are two convolutions and
    a linear one is what its code says, very probably.
    """
    return nn.Sequential(
        Conv2d(channels, width, 3, padding=1),
        MaxPool2d(2),
        nn.ReLU(),
        Conv2d(width, width, 3, padding=1),
        MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * (side // 4) ** 2, classes),
    )
