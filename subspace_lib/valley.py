"""X and Bulk-X side by side from one point: is Bulk-X the path down the middle of the valley?"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from subspace_lib.experiment import Experiment
from subspace_lib.protocol import as_tensor, as_text
from subspace_lib.training import Run

COLUMNS = (
    "step",
    "loss",  # L(θ) of X
    "loss_bulk",  # L(θ) of Bulk-X
    "loss_average",  # L of the mean of X's last iterates
    "distance",  # ‖θ_X − θ_Bulk‖
    "distance_average",  # ‖mean of X's last iterates − θ_Bulk‖
    "travelled",  # ‖θ_Bulk − θ at the switch‖
    "dominant_share",  # ‖P_k (θ_X − θ_Bulk)‖² / ‖θ_X − θ_Bulk‖², P_k that of Bulk-X
    "dominant_share_average",
    "gradient_equivalents",
    "seconds",
)


class Valley(Experiment):
    """A comparison of X with Bulk-X after ``switch_step``; the fields are those of the Bulk-X run."""

    average: int = Field(20, ge=2, description="iterates of X that are averaged, an even number")

    @property
    def method(self) -> str:
        """The rule's name and "valley"."""
        return super().method + "-valley"


class ValleyRun:
    """The two runs, a step of the one and a step of the other; ``train`` as in ``Run``."""

    def __init__(self, experiment: Valley):
        self.experiment = e = experiment
        fields = {name: getattr(e, name) for name in Experiment.model_fields}
        never = 10**6 * e.record_every
        self.bulk = Run(Experiment(**fields | {"spectrum_every": never, "record_every": never}))
        self.plain = Run(Experiment(**fields | {"projection": "none", "switch_step": e.steps - 1}))
        self.start = self.bulk.theta
        self.last: deque[Tensor] = deque(maxlen=e.average)
        self.rows: list[list[float]] = []
        self.status, self.trigger_step, self.seconds, self.step = "running", None, 0.0, 0

    def train(self, pause: Callable[[ValleyRun], None] = lambda run: None) -> None:
        """Both runs to the end, or until one diverges; ``pause`` is called after every step."""
        begun, e = time.perf_counter() - self.seconds, self.experiment
        while self.status == "running":
            self._advance()
            self.step = self.bulk.step
            self.seconds = time.perf_counter() - begun
            if self.bulk.status != "running" or self.plain.status != "running":
                self.status = f"diverged at step {self.step}"
            elif self.step == e.switch_step or (
                self.step > e.switch_step and self.step % e.record_every == 0
            ):
                self._record()  # at the switch in any case: a short run has a row too
            if self.status == "running" and self.step == e.steps - 1:
                self.status = "complete"
            pause(self)

    def _advance(self) -> None:
        self.bulk.advance()
        if self.bulk.step <= self.experiment.switch_step:  # the common part, computed once
            self.start = self.plain.theta = self.bulk.theta
            self.plain.step, self.plain.rule_state = self.bulk.step, self.bulk.rule_state
        else:
            self.plain.advance()
        self.last.append(self.plain.theta)

    def _record(self) -> None:
        objective, bulk, plain = self.bulk.objective, self.bulk.theta, self.plain.theta
        average = torch.stack(list(self.last)).mean(0)
        apart, apart_average = plain - bulk, average - bulk
        losses = [
            objective.evaluate(theta, objective.inputs, objective.labels)[0]
            for theta in (plain, bulk, average)
        ]
        followed = self.bulk.subspace.vectors is not None
        shares = [
            self.bulk.subspace.alignment(v) ** 2 if followed else math.nan
            for v in (apart, apart_average)
        ]
        work = objective.gradient_equivalents + self.plain.objective.gradient_equivalents
        self.rows.append([
            float(self.step), *losses, float(apart.norm()), float(apart_average.norm()),
            float((bulk - self.start).norm()), *shares, work, self.seconds,
        ])  # fmt: skip

    def table(self) -> pd.DataFrame:
        """The measurements so far."""
        return pd.DataFrame(self.rows, columns=list(COLUMNS)).astype({"step": "int64"})

    def state(self) -> dict[str, Tensor]:
        """Everything that the rest depends on, as tensors."""
        state = {f"bulk.{name}": value for name, value in self.bulk.state().items()}
        state.update((f"plain.{name}", value) for name, value in self.plain.state().items())
        state["start"], state["last"] = self.start.cpu(), torch.stack(list(self.last)).cpu()
        # In the common part the two runs hold the same tensor, which a file must not share.
        state = {name: value.clone() for name, value in state.items()}
        state["rows"] = torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(COLUMNS))
        state["seconds"] = torch.tensor([self.seconds], dtype=torch.float64)
        state["status"] = as_tensor(self.status)
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        device = self.experiment.device
        self.bulk.load_state({n[5:]: v for n, v in state.items() if n.startswith("bulk.")})
        self.plain.load_state({n[6:]: v for n, v in state.items() if n.startswith("plain.")})
        self.start = state["start"].to(device)
        self.last.extend(state["last"].to(device).unbind())
        self.rows, self.step = state["rows"].tolist(), self.bulk.step
        self.seconds = float(state["seconds"])
        self.status = as_text(state["status"])
