"""Float32 matrix products on the CPU by the faster of PyTorch's two libraries, where nothing is lost.

PyTorch multiplies float32 matrices with MKL by default. Its precision setting "bf16" (the "medium" of
``torch.set_float32_matmul_precision``) hands them to oneDNN, which may round to bfloat16 inside, and does
on processors that multiply bfloat16 matrices in hardware. On others it computes in float32 all the same,
on some AMD processors more than twice as fast as MKL.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch

LOSS = 1e-6  # relative error of a product that still counts as float32
SHAPES = ((1000, 784, 200), (50, 200, 200), (200, 1000, 784), (10, 250, 2048))


@functools.cache
def onednn_is_exact() -> bool:
    """Whether oneDNN's products have the accuracy of float32 here: tried once, by error, not by time.

    A decision by time could differ between two halves of a run that was interrupted.
    """
    generator = torch.Generator().manual_seed(0)
    for m, k, n in SHAPES:
        first, second = (
            torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")
            for shape in ((m, k), (n, k))
        )
        with _onednn():
            product = first @ second.T
        exact = first.double() @ second.double().T
        if not float((product - exact).norm() / exact.norm()) < LOSS:
            return False
    return True


@contextlib.contextmanager
def fast_matmul() -> Iterator[None]:
    """Within it, float32 products on the CPU are that, by oneDNN if that loses nothing; a decorator too."""
    global decided
    if _switched_off:
        yield
        return
    before, decided = decided, True
    try:
        with _onednn("bf16" if onednn_is_exact() else "ieee"):
            yield
    finally:
        decided = before


_switched_off = decided = False  # decided: whether ``fast_matmul`` has at present


@contextlib.contextmanager
def default_matmul() -> Iterator[None]:
    """Within it, ``fast_matmul`` leaves PyTorch's own choice in place: for comparisons."""
    global _switched_off
    before, _switched_off = _switched_off, True
    try:
        yield
    finally:
        _switched_off = before


@contextlib.contextmanager
def _onednn(precision: str = "bf16") -> Iterator[None]:
    onednn: Any = torch.backends.mkldnn  # an object in the module's place, with more than it says
    before = onednn.matmul.fp32_precision
    onednn.matmul.fp32_precision = precision
    try:
        yield
    finally:
        onednn.matmul.fp32_precision = before
