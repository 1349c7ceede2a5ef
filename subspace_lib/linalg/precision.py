"""Products in the dtype that vectors have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from subspace_lib.linalg import matmul

_backends: Any = torch.backends  # objects in the modules' places, with more than they say
# What a GPU may compute in TF32, with 10 bits of mantissa. Convolutions do so unless told otherwise.
ROUNDED = (_backends.cuda.matmul, _backends.cudnn.conv, _backends.cudnn.rnn)
# What a CPU may compute in bfloat16, where it has been told to.
ON_CPU = (_backends.mkldnn.conv, _backends.mkldnn.rnn)
FLOAT32, UNTOLD = "ieee", "none"


@contextmanager
def full_precision() -> Iterator[None]:
    """Within it products keep the precision of their factors: no autocast, TF32, bfloat16. A decorator too.

    Within ``fast_matmul``, that has decided about matrices on the CPU.
    """
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        here = ON_CPU if matmul.decided else (*ON_CPU, _backends.mkldnn.matmul)
        for operation in (*ROUNDED, *here):
            before = operation.fp32_precision
            if before != FLOAT32 and not (before == UNTOLD and operation in here):
                operation.fp32_precision = FLOAT32
                stack.callback(setattr, operation, "fp32_precision", before)
        yield
