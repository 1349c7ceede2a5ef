"""What looks and refreshes may cost: gradient equivalents a step."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Budget:
    """Gradient equivalents that following the subspace may take per step, the cold start apart.

    Looks may take half of it, so that a refresh comes within reach; a refresh waits until there is enough
    for one. What is due and not affordable is left out: the angle in use then says so.

    Args:
        allowance: a step, > 0; ∞ for no limit.

    Raises:
        ValueError: allowance ≤ 0.
    """

    def __init__(self, allowance: float = math.inf):
        if not allowance > 0:
            raise ValueError(
                f"allowance = {allowance} must be above 0 gradient equivalents a step, or None."
            )
        self.allowance = allowance
        self.first = -1  # step of the cold start
        self.looks = self.refreshes = self.price = 0.0

    def may_look(self, step: int) -> bool:
        """Whether a look is affordable at this step, of the half that is there for looks."""
        return self.looks <= self.allowance * (step - self.first) / 2

    def may_refresh(self, step: int) -> bool:
        """Whether there is enough for a refresh at the price of the last one."""
        if math.isinf(self.allowance):
            return True
        return self.looks + self.refreshes + self.price <= self.allowance * (step - self.first)

    def begin(self, step: int) -> None:
        """Count from this step, that of a cold start."""
        if self.first < 0:
            self.first = step

    def note(self, look: float, refresh: float) -> None:
        """A look has taken so many gradient equivalents, a refresh so many."""
        self.looks, self.refreshes = self.looks + look, self.refreshes + refresh
        self.price = refresh or self.price

    def state(self) -> Tensor:
        """What the answers depend on, float64 (4,)."""
        return torch.tensor(
            [self.first, self.looks, self.refreshes, self.price], dtype=torch.float64, device="cpu"
        )

    def load_state(self, state: Tensor) -> None:
        """Continue from ``state()``."""
        first, self.looks, self.refreshes, self.price = state.tolist()
        self.first = int(first)
