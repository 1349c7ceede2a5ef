"""Convolution and max pooling of which Hessian products cost little more than gradients.

PyTorch's own are differentiated a second time by convolutions as large as the image, with zeros and copies
in between. Here every derivative, of any order, is again one of the three kernels that a training step
uses. Memory is laid out channels last, as oneDNN wants it. Values and gradients are those of PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class _Geometry:
    """How a kernel moves over its input: each as ``torch.nn.Conv2d`` has it."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class _Convolution(torch.autograd.Function):
    """A derivative of t(g, x, w) = ⟨g, conv(x, w)⟩ by one of its three slots.

    t is linear in each slot, so that its derivatives by g, x and w are the convolution, what it hands back
    to its input, and the gradient of its kernel; and the derivative of any of them is another of them with
    the incoming vector in the slot that it belongs to.

    Slots: g like the output (n, o, h', w'); x like the input (n, i, h, w); w like the kernel. The tensor in
    the slot by which is derived counts for its shape alone.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(slot: int, geometry: _Geometry, *slots: Any) -> Tensor:
        g, x, w = slots
        moves = (geometry.stride, geometry.padding, geometry.dilation)
        if slot == 0:
            return functional.conv2d(x, w, None, *moves, geometry.groups)
        wanted = [slot == 1, slot == 2, False]
        found = torch.ops.aten.convolution_backward(
            g, x, w, None, *moves, False, [0, 0], geometry.groups, wanted
        )
        return found[slot - 1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.slot, ctx.geometry, *slots = inputs
        if ctx.slot == 2 and not ctx.needs_input_grad[3]:
            slots[0] = None  # memory: of the first layer, as large as all others together
        ctx.save_for_backward(*slots)
        ctx.save_for_forward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, *incoming: Any) -> Any:
        slots = list(ctx.saved_tensors)
        slots[ctx.slot] = incoming[0]
        needed = [i != ctx.slot and ctx.needs_input_grad[i + 2] for i in range(3)]
        apply = _Convolution.apply
        parts = [apply(i, ctx.geometry, *slots) if needed[i] else None for i in range(3)]
        return None, None, *parts

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        parts = []
        for i, tangent in enumerate(tangents[2:]):
            if tangent is not None and i != ctx.slot:
                slots = list(ctx.saved_tensors)
                slots[i] = tangent
                parts.append(_Convolution.apply(ctx.slot, ctx.geometry, *slots))
        return sum(parts[1:], parts[0])


def _channels_last(images: Tensor) -> Tensor:
    """Images (n, c, h, w) as they are, their channels next to each other in memory (also under vmap)."""
    return images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` with numeric padding by zeros: the same parameters, values and gradients.

    Raises:
        ValueError: padding is a word, or pads by anything but zeros.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if isinstance(self.padding, str) or self.padding_mode != "zeros":
            raise ValueError(
                f"padding = {self.padding!r}, padding_mode = {self.padding_mode!r}: only zeros, and "
                "as many as a number says."
            )
        self._geometry = _Geometry(self.stride, self.padding, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of images (n, channels, height, width)."""
        x = _channels_last(input)
        outputs: Tensor = _Convolution.apply(0, self._geometry, None, x, self.weight)
        return outputs if self.bias is None else outputs + self.bias[:, None, None]


class _Selection(torch.autograd.Function):
    """Values (n, s) at their places (n, p); or each of p values put at its place among s zeros.

    Either is the derivative of the other. PyTorch's ``gather`` would keep the values for that.
    """

    @staticmethod
    def forward(back: bool, size: int, places: Tensor, values: Tensor) -> Tensor:
        if not back:
            return values.gather(1, places)
        return values.new_zeros(len(values), size).scatter_(1, places, values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.back, ctx.size, places, _ = inputs
        ctx.save_for_backward(places)
        ctx.save_for_forward(places)

    @staticmethod
    def backward(ctx: Any, *incoming: Any) -> Any:
        (places,) = ctx.saved_tensors
        return None, None, None, _Selection.apply(not ctx.back, ctx.size, places, incoming[0])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        (places,) = ctx.saved_tensors
        return _Selection.apply(ctx.back, ctx.size, places, tangents[3])

    @staticmethod
    def vmap(info: Any, in_dims: Any, back: bool, size: int, *rows: Tensor) -> tuple[Tensor, int]:
        """A batch of blocks of rows is a block of more rows."""
        count, flat = info.batch_size, []
        for block, dim in zip(rows, in_dims[2:], strict=True):
            whole = block.expand(count, *block.shape) if dim is None else block.movedim(dim, 0)
            flat.append(whole.flatten(0, 1))
        return _Selection.apply(back, size, *flat).unflatten(0, (count, -1)), 0


class MaxPool2d(nn.Module):
    """Maxima over windows of size × size that do not overlap, as ``torch.nn.MaxPool2d(size)``."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c, h // size, w // size)."""
        x = _channels_last(input)
        channels = x.shape[1]
        _, places = functional.max_pool2d(x.detach(), self.size, return_indices=True)
        places = places.permute(0, 2, 3, 1)  # (n, h', w', c), as it lies in memory
        flat = (places * channels + torch.arange(channels, device=x.device)).flatten(1)
        values = x.permute(0, 2, 3, 1).flatten(1)
        maxima = _Selection.apply(False, values.shape[1], flat, values)
        return maxima.view(places.shape).permute(0, 3, 1, 2)
