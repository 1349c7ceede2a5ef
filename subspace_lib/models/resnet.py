"""ResNet-8 with batch normalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from subspace_lib.models.convolution import Conv2d

PASS = 1000  # images at a time that statistics are taken from
Statistics = Literal["fixed", "chunk"]


class ChunkNorm(nn.Module):
    """Batch normalization by the statistics of what is computed together, in either mode; no buffers.

    A class of its own: ``Objective`` refuses ``torch.nn.BatchNorm2d`` without fixed statistics, because the
    loss is no mean over samples then. Whoever names this one has chosen that.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the same shape."""
        return functional.batch_norm(x, None, None, self.weight, self.bias, training=True)


NORMS: dict[Statistics, Callable[[int], nn.Module]] = {"fixed": nn.BatchNorm2d, "chunk": ChunkNorm}


class Block(nn.Module):
    """Two 3×3 convolutions, each with a normalization, beside a shortcut without weights of its own.

    The last normalization begins with weight 0, so that the block begins as its shortcut. Where channels
    double and images are halved, the shortcut takes every second pixel, normalizes, and adds zero channels.
    """

    def __init__(self, inputs: int, outputs: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first = Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = norm(outputs)
        self.second = Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = norm(outputs)
        nn.init.zeros_(self.second_norm.weight)  # type: ignore[arg-type]
        self.shortcut_norm = None if stride == 1 else norm(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the same shape, or to (n, 2 c, h/2, w/2)."""
        y = self.second_norm(self.second(functional.relu(self.first_norm(self.first(x)))))
        if self.shortcut_norm is not None:
            x = self.shortcut_norm(x[:, :, ::2, ::2])
            x = torch.cat([x, torch.zeros_like(x)], 1)
        return functional.relu(x + y)


class ResNet8(nn.Module):
    """Eight layers: a convolution, three blocks of ``width``, 2 and 4 times that, a linear layer.

    Input (n, channels, h, w), output (n, classes). Convolutions have no bias and begin as N(0, √(2/n)), n
    being kernel area times output channels. Width 16 is the paper's.

    Args:
        batch_statistics: "fixed": normalization by statistics that training leaves as they are, each
            output depending on its own image alone; ``settle`` takes them from data, and without it they
            are mean 0 and variance 1. "chunk": by those of the images that are computed together, as in
            the paper's code very probably; this is another loss for each way to cut up the data.

    Source: He et al. 2016; sizes by arXiv 2405.16002's code, very probably.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        width: int = 16,
        batch_statistics: Statistics = "fixed",
    ):
        super().__init__()
        norm = NORMS[batch_statistics]
        self.first = Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = norm(width)
        self.blocks = nn.Sequential(
            Block(width, width, norm),
            Block(width, 2 * width, norm),
            Block(2 * width, 4 * width, norm),
        )
        self.head = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Images to outputs (n, classes)."""
        x = self.blocks(functional.relu(self.norm(self.first(x))))
        return self.head(x.mean((2, 3)))

    @torch.no_grad()
    def settle(self, inputs: Tensor, prepare: Callable[[Tensor], Tensor] | None = None) -> None:
        """Fix the statistics: means over one pass over the inputs, 1,000 at a time, as the network is."""
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.reset_running_stats()
                norm.momentum = None  # the mean over all batches so far
        self.train()
        for start in range(0, len(inputs), PASS):
            some = inputs[start : start + PASS]
            self(some if prepare is None else prepare(some))
        self.eval()
