"""What every kind of run in progress can do: advance, be measured, be kept in a checkpoint and go on."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor

RUNNING = "running"
State = dict[str, Tensor]


class RunInProgress(ABC):
    """A run of one kind. Subclasses say what a step is, what the table has, and what a checkpoint needs.

    Attributes:
        experiment: what is run; step: the next step.
        status: "running", "complete" or "diverged at step n".
        trigger_step: first step at which the watched alignment exceeded its threshold, or None.
        seconds: wall time so far, those before an interruption included.
        machines: processors that computed the parts before interruptions, each once.
    """

    def __init__(self, experiment: Any):
        self.experiment = experiment
        self.step = 0
        self.status = RUNNING
        self.trigger_step: int | None = None
        self.seconds = 0.0
        self.machines: list[str] = []

    def train(self, pause: Callable[[Self], object] = lambda run: None) -> None:
        """To the end, or until it diverges; ``pause`` is called after every step."""
        begun = time.perf_counter() - self.seconds
        while self.status == RUNNING:
            self.advance()
            self.seconds = time.perf_counter() - begun
            pause(self)

    def advance(self) -> None:
        """One step, measured where the description says so; the status says whether it was the last."""
        try:
            self._advance()
        except ArithmeticError:  # Diverged, NonFiniteProduct, a number too large for a float
            self.status = f"diverged at step {self.step}"

    @abstractmethod
    def _advance(self) -> None:
        """One step; sets the status where it was the last.

        Raises:
            ArithmeticError: the run has diverged.
        """

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """The measurements so far."""

    @abstractmethod
    def _own_state(self) -> State:
        """What this kind needs to go on, as tensors."""

    @abstractmethod
    def _load_own_state(self, state: State) -> None:
        """Continue from ``_own_state()``."""

    def state(self) -> State:
        """Everything that the rest of the run depends on, as tensors on the CPU that share no memory."""
        trigger = -1 if self.trigger_step is None else self.trigger_step
        shared = {
            "step": torch.tensor([self.step, trigger]),
            "status": as_tensor(self.status),
            "seconds": torch.tensor([self.seconds], dtype=torch.float64),
        }
        state = shared | self._own_state()
        return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}

    def load_state(self, state: State) -> None:
        """Continue from ``state()``."""
        self.step, trigger = state["step"].tolist()
        self.trigger_step = None if trigger < 0 else trigger
        self.status, self.seconds = as_text(state["status"]), float(state["seconds"])
        self._load_own_state(state)


class Diverged(ArithmeticError):
    """The minibatch loss is not finite, or the training loss above its ceiling."""


def nested(prefix: str, state: State) -> State:
    """The state of a part, under names of its own."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def within(prefix: str, state: State) -> State:
    """What ``nested`` has put under the prefix."""
    start = f"{prefix}."
    return {n.removeprefix(start): v for n, v in state.items() if n.startswith(start)}


def as_rows(rows: list[list[float]], columns: int) -> Tensor:
    """Rows of numbers as one float64 tensor (rows, columns)."""
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, columns)


def as_tensor(text: str) -> Tensor:
    """The text's UTF-8 bytes, uint8: a checkpoint holds tensors only."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def as_text(tensor: Tensor) -> str:
    """The text of ``as_tensor``."""
    return bytes(tensor.tolist()).decode()
