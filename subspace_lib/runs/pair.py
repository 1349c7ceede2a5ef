"""X and Bulk-X side by side from one point: is Bulk-X the path down the middle of the valley?"""

from __future__ import annotations

import math
from collections import deque
from typing import ClassVar, Self

import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from subspace_lib.experiment import Experiment
from subspace_lib.runs.protocol import (
    RUNNING,
    Diverged,
    RunInProgress,
    State,
    as_rows,
    nested,
    within,
)
from subspace_lib.runs.trainer import Trainer
from subspace_lib.runs.training import Run
from subspace_lib.trajectory import COMPLETE

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


UNUSED = ("watch_alignment", "record_spans", "fresh_spans", "stop_above")


class Pair(Experiment):
    """A comparison of X with Bulk-X after ``switch_step``; the fields are those of the Bulk-X run."""

    kind: ClassVar[str] = "pair"

    average: int = Field(
        20, ge=2, le=1000, multiple_of=2, description="iterates of X that are averaged"
    )

    @model_validator(mode="after")
    def _ignores_nothing(self) -> Self:
        for name in UNUSED:
            if getattr(self, name) != Experiment.model_fields[name].default:
                raise ValueError(
                    f"{name} has no meaning in a run of the kind {self.kind}; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _with_bulk(self) -> Self:
        if self.projection != "bulk":
            raise ValueError(
                f"projection = {self.projection!r}: a pair compares a rule with its Bulk- version; use bulk"
            )
        return self

    @property
    def method(self) -> str:
        """The rule's name and "pair"."""
        return super().method + "-pair"


class PairRun(RunInProgress):
    """The two runs, a step of the one and a step of the other."""

    experiment: Pair

    def __init__(self, experiment: Pair):
        super().__init__(experiment)
        # Copies: one described anew would look up functions of the user's own as they are by now.
        unrecorded = {"spectrum_every": None, "record_every": None}
        self.bulk = Run(experiment.model_copy(update=unrecorded))
        self.plain = Trainer(experiment.model_copy(update={"projection": "none"}))
        self.start = self.bulk.theta
        self.last: deque[Tensor] = deque(maxlen=experiment.average)
        self.rows: list[list[float]] = []

    def _advance(self) -> None:
        e = self.experiment
        self.bulk.advance()
        self.step = self.bulk.step
        if self.bulk.status != RUNNING:
            raise Diverged
        if self.step <= e.switch_step:  # the common part, computed once
            self.start = self.plain.theta = self.bulk.theta
            self.plain.step, self.plain.rule_state = self.step, self.bulk.trainer.rule_state
        else:
            self.plain.advance()
        self.last.append(self.plain.theta)
        if self.step == e.switch_step or self._row_due():
            self._record()  # at the switch in any case: a short run has a row too
        if self.step == e.steps - 1:
            self.status = COMPLETE

    def _row_due(self) -> bool:
        every = self.experiment.record_every
        return (
            every is not None and self.step > self.experiment.switch_step and self.step % every == 0
        )

    def _record(self) -> None:
        objective, bulk, plain = self.bulk.objective, self.bulk.theta, self.plain.theta
        average = torch.stack(list(self.last)).mean(0)
        apart, apart_average = plain - bulk, average - bulk
        losses = [objective.evaluate(theta)[0] for theta in (plain, bulk, average)]
        followed = self.bulk.subspace.vectors is not None
        shares = [
            self.bulk.subspace.alignment(v) ** 2 if followed else math.nan
            for v in (apart, apart_average)
        ]
        work = objective.gradient_equivalents + self.plain.objective.gradient_equivalents
        distances = (apart.norm(), apart_average.norm(), (bulk - self.start).norm())
        row = (self.step, *losses, *distances, *shares, work, self.seconds)
        self.rows.append([float(value) for value in row])

    def table(self) -> pd.DataFrame:
        """The measurements so far."""
        return pd.DataFrame(self.rows, columns=list(COLUMNS)).astype({"step": "int64"})

    def _own_state(self) -> State:
        state = nested("bulk", self.bulk.state()) | nested("plain", self.plain.state())
        last = (
            torch.stack(list(self.last))
            if self.last
            else self.start[:0].reshape(0, len(self.start))
        )
        rows = as_rows(self.rows, len(COLUMNS))
        return state | {"start": self.start, "last": last, "rows": rows}

    def _load_own_state(self, state: State) -> None:
        device = self.experiment.device
        self.bulk.load_state(within("bulk", state))
        self.plain.load_state(within("plain", state))
        self.start = state["start"].to(device)
        self.last.extend(state["last"].to(device).unbind())
        self.rows = state["rows"].tolist()
