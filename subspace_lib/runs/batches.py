"""Minibatches: which samples a step sees."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Batches:
    """Minibatches as a pure function of (seed, step): a fresh permutation each epoch."""

    def __init__(self, samples: int, size: int, seed: int):
        self.samples, self.size, self.seed = samples, size, seed
        self.per_epoch = math.ceil(samples / size)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def rows(self, step: int) -> Tensor | None:
        """Indices of the step's minibatch; the last of an epoch may be smaller. None for all samples."""
        if self.size == self.samples:
            return None
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            # The CPU generator uses the low 32 bits of its seed only: keep seed and epoch in them.
            mixed = (self.seed * 1_000_003 + epoch + 1) % 2**32
            generator = torch.Generator().manual_seed(mixed)
            self._epoch, self._order = epoch, torch.randperm(self.samples, generator=generator)
        return self._order[position * self.size : (position + 1) * self.size]
