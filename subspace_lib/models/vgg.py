"""VGG-11 for small images."""

from __future__ import annotations

import math

from torch import nn

from subspace_lib.models.convolution import Conv2d, MaxPool2d

# Channels of the eight convolutions, in units of the width; after which of them images are halved.
CHANNELS = (1, 2, 4, 4, 8, 8, 8, 8)
HALVED = (0, 1, 3, 5, 7)
SIDE = 2 ** len(HALVED)  # of the smallest image


def vgg11(channels: int, side: int, classes: int, width: int = 64) -> nn.Sequential:
    """VGG-11 without normalization and without dropout; two hidden layers of 8 · width.

    Input (n, channels, side, side), side a multiple of 32; output (n, classes). Convolutions begin as
    N(0, √(2/n)), n being kernel area times output channels, with biases 0; linear layers as PyTorch has
    them. Width 64 is the paper's. Each ReLU before a pooling comes after it, which is the same network.
    Source: Simonyan and Zisserman 2014; the initialization is that of arXiv 2405.16002's code, very
    probably.
    """
    layers: list[nn.Module] = []
    for i, factor in enumerate(CHANNELS):
        convolution = Conv2d(channels, factor * width, 3, padding=1)
        nn.init.normal_(convolution.weight, 0, math.sqrt(2 / (9 * factor * width)))
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
        channels = factor * width
        layers += [convolution, *([MaxPool2d(2)] if i in HALVED else []), nn.ReLU()]
    hidden = channels
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(channels * (side // SIDE) ** 2, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
