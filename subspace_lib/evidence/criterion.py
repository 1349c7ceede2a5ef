"""A criterion: bounds within which a measured number must lie, when they were fixed, whose they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

# How the paper's statements are known: its running text was not at hand. Each ends "known from …".
MARKS = {
    "code": "the paper's code, very probably",
    "rev": "the paper's public reviews",
    "rep": "the public replication",
    "cap": "a figure caption quoted elsewhere",
}


@dataclass(frozen=True)
class Criterion:
    """Bounds for one number per seed.

    Attributes:
        date: when they were fixed, before the runs that are judged by them.
        source: whose demand it is: "paper", or "own" where we ask it; after the colon what is demanded.
        at_least, at_most: the bounds themselves, in the units of the number.
        marks: how the paper's statement is known, names of ``MARKS``; none for a demand of ours.
    """

    date: str
    source: str
    at_least: float = -math.inf
    at_most: float = math.inf
    marks: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As it stands in a table: "≥ 0.8", "≤ 0.1" or "0.9 … 1.15"."""
        low, high = (f"{bound:g}".replace("-", "−") for bound in (self.at_least, self.at_most))
        if math.isinf(self.at_most):
            return f"≥ {low}"
        return f"≤ {high}" if math.isinf(self.at_least) else f"{low} … {high}"

    @property
    def known_from(self) -> str:
        """How the paper's statement is known, in words; empty for a demand of ours."""
        return " and ".join(MARKS[mark] for mark in self.marks)
