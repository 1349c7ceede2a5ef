"""When the dominant subspace is refreshed again: schedules as objects."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import SupportsIndex

import torch
from torch import Tensor


class Schedule(ABC):
    """Says before which steps the basis is refreshed; each ``DominantSubspace`` needs one of its own.

    A schedule of your own has ``due``; ``note`` where it depends on what the refreshes have seen; and
    ``state`` with ``load_state`` where it remembers something, or a resumed run would forget it.

    Attributes:
        interval: steps from the last refresh to the next as far as is known. It is there for the record (a
            run's ``refresh_interval``); only ``due`` is asked.
        looks: whether a look at a subset of the data will do at a step that is due, as long as it shows
            nothing that calls for a refresh.
    """

    interval: int = 1
    looks: bool = False

    @abstractmethod
    def due(self, step: int) -> bool:
        """Whether the basis is refreshed, or looked at, before it is used at this step.

        Not asked before the first refresh. Either can come although it is not due.
        """

    # Not abstract: a schedule that depends on the step alone has nothing to note or to remember.
    def note(self, step: int, turn: float, cold: bool) -> None:  # noqa: B027
        """A refresh has ended.

        Args:
            step: of the refresh.
            turn: sine of the largest angle that the basis had turned by, ``Refresh.turn``.
            cold: whether there was no basis before, so that ``turn`` says nothing.
        """

    def state(self) -> dict[str, Tensor]:
        """All that the answers of ``due`` depend on, as tensors."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Continue from ``state()``."""


class Adaptive(Schedule):
    """An interval that follows the measured turn and aims at 0.6 of the target.

    At its end comes a look, or where there is nothing to look at, a refresh.

    After e steps and a turn by t, the next interval is e · (0.6 target / t)², within e/2 … 2e and
    1 … longest: the turn grows like the square root of the interval or slower. One before its time can
    shorten the interval, not lengthen it: that it went well says nothing.

    Args:
        target: sine of the largest angle that is aimed for, > 0; usually that of the ``DominantSubspace``.
        longest: the longest interval, ≥ 1 steps.

    Raises:
        ValueError: target ≤ 0, or longest < 1.
    """

    looks = True

    def __init__(self, target: float, longest: int = 100):
        if not target > 0:
            raise ValueError(f"target = {target} must be above 0.")
        if longest < 1:
            raise ValueError(f"longest = {longest} must be at least 1 step.")
        self.target, self.longest = target, longest
        self.interval = 1
        self._last_step = -1

    def due(self, step: int) -> bool:
        """Whether ``interval`` steps have passed since the last."""
        return step - self._last_step >= self.interval

    def note(self, step: int, turn: float, cold: bool) -> None:
        """Adapt the interval to the turn; 1 after a cold start."""
        elapsed, self._last_step = max(1, step - self._last_step), step
        factor = min(2.0, max(0.5, (0.6 * self.target / max(turn, 1e-12)) ** 2))
        if cold:
            self.interval = 1
        elif elapsed >= self.interval or factor < 1:
            self.interval = max(1, min(self.longest, round(elapsed * factor)))

    def state(self) -> dict[str, Tensor]:
        """The interval, and the step that it counts from."""
        return {"interval": torch.tensor([self.interval, self._last_step], device="cpu")}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        self.interval, self._last_step = state["interval"].tolist()


class Every(Schedule):
    """A refresh n steps after the last one; n = 1 is the protocol of arXiv 2405.16002.

    Raises:
        ValueError: n < 1.
    """

    def __init__(self, n: int):
        if n < 1:
            raise ValueError(f"n = {n} must be at least 1 step.")
        self.interval = n
        self._last_step = -1

    def due(self, step: int) -> bool:
        """Whether n steps have passed since the last refresh."""
        return step - self._last_step >= self.interval

    def note(self, step: int, turn: float, cold: bool) -> None:
        """Count from this step."""
        self._last_step = step

    def state(self) -> dict[str, Tensor]:
        """The step that is counted from."""
        return {"last_step": torch.tensor([self._last_step], device="cpu")}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        (self._last_step,) = state["last_step"].tolist()


def as_schedule(refresh_every: str | int | Schedule, target: float) -> Schedule:
    """What ``DominantSubspace(refresh_every=…)`` means: "adaptive", a number of steps, or a schedule.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(refresh_every, Schedule):
        return refresh_every
    if refresh_every == "adaptive":
        return Adaptive(target)
    # True is a number as well.
    if isinstance(refresh_every, SupportsIndex) and refresh_every is not True:
        steps = operator.index(refresh_every)
        if steps >= 1:
            return Every(steps)
    raise ValueError(
        f"refresh_every = {refresh_every!r} must be 'adaptive', a number of steps of at least 1, or a "
        "Schedule."
    )
