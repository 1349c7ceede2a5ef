"""Processes that share the samples of one objective, by ``torch.distributed``."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

Weighted = list[tuple[slice, float]]  # chunks, and their weights in a sum


class Ranks:
    """Which part of each sum over samples is this process's, and how the parts come together.

    One process alone has all of it. Under ``torch.distributed`` each rank sums over its own share, and then
    all have the same total, bit by bit: so they take the same steps without a further word.

    Args:
        together: False for a process on its own, whatever others there are.

    Attributes:
        rank, count: which of how many.
    """

    def __init__(self, together: bool = True) -> None:
        together = together and dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.count = dist.get_world_size() if together else 1

    def chunk(self, samples: int, chunk: int) -> int:
        """Samples in a chunk, at most ``chunk``, such that all ranks have equally many chunks."""
        if self.count == 1:
            return chunk
        rounds = -(-samples // (chunk * self.count))
        return max(1, -(-samples // (rounds * self.count)))

    def share(self, parts: Weighted) -> Weighted:
        """This rank's of the chunks of a sum."""
        return parts[self.rank :: self.count]

    def rows(self, rows: Tensor) -> Tensor:
        """This rank's of some rows."""
        return rows[self.rank :: self.count]

    def add_up(self, *sums: Tensor) -> None:
        """Replace what this rank has summed by what all of them have; all of it is one message."""
        if self.count == 1:
            return
        flat = torch.cat([s.reshape(-1) for s in sums])
        dist.all_reduce(flat)
        for s, piece in zip(sums, flat.split([s.numel() for s in sums]), strict=True):
            s.copy_(piece.view_as(s))
