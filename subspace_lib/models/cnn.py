"""The small convolutional network."""

from __future__ import annotations

from torch import nn


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
