"""Defaults of parameters that follow from others: rows of a short run, the watch for an early switch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def spaced(every: int, parts: int, steps: str = "steps") -> Callable[[dict[str, Any]], int]:
    """A default of steps from a row to the next: ``every``; a shorter run has so many ``parts``.

    ``steps``: name of the parameter that says how long the runs are; of a list, the longest counts.
    """

    def default(given: dict[str, Any]) -> int:
        longest = given.get(steps, every * parts)
        longest = max(longest, default=1) if isinstance(longest, tuple) else longest
        return every if longest >= every * parts else max(1, longest // parts)

    return default


def before_switch(
    usual: int, by: int = 0, switch: str = "switch_step", steps: str = "steps"
) -> Callable[[dict[str, Any]], int]:
    """A default step of the watch for the switch, so many steps before its latest; else half way to it.

    ``switch``, ``steps``: names of the parameters that say when a run switches at the latest, and when it
    ends; of lists, the earliest counts.
    """

    def default(given: dict[str, Any]) -> int:
        ends = [given.get(name, 2 * usual) for name in (switch, steps)]
        latest = min(min(end) if isinstance(end, tuple) and end else end or usual for end in ends)
        return usual if usual + by <= latest else int(latest // 2)

    return default
