"""A criterion: bounds within which a measured number must lie, when they were fixed, whose they are."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """Bounds for one number per seed.

    Attributes:
        date: when they were fixed, before the runs that are judged by them.
        source: whose demand it is: "paper", or "own" where we ask it; with a word on why.
        at_least, at_most: the bounds themselves, in the units of the number.
    """

    date: str
    source: str
    at_least: float = -math.inf
    at_most: float = math.inf

    def __str__(self) -> str:
        """As it stands in a table: "≥ 0.8", "≤ 0.1" or "0.9 … 1.15"."""
        if math.isinf(self.at_most):
            return f"≥ {self.at_least:g}"
        if math.isinf(self.at_least):
            return f"≤ {self.at_most:g}"
        return f"{self.at_least:g} … {self.at_most:g}"
