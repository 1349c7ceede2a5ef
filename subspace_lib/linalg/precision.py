"""Products in the dtype that vectors have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_backends: Any = torch.backends  # objects in the modules' places, with more than they say
# What a GPU may compute in TF32, with 10 bits of mantissa. Convolutions do so unless told otherwise.
ROUNDED = (_backends.cuda.matmul, _backends.cudnn.conv, _backends.cudnn.rnn)
FLOAT32 = "ieee"


@contextmanager
def full_precision() -> Iterator[None]:
    """Within it products keep the precision of their factors: no autocast, no TF32. Also a decorator."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        for operation in ROUNDED:
            before = operation.fp32_precision
            if before != FLOAT32:
                operation.fp32_precision = FLOAT32
                stack.callback(setattr, operation, "fp32_precision", before)
        yield
