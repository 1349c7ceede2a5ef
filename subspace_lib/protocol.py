"""What every kind of run in progress has in common, and how its outcome is kept in a checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor


def as_tensor(text: str) -> Tensor:
    """The text's UTF-8 bytes, uint8: a checkpoint holds tensors only."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def as_text(tensor: Tensor) -> str:
    """The text of ``as_tensor``."""
    return bytes(tensor.tolist()).decode()
