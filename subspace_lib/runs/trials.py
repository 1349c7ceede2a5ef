"""Steps along the dominant subspace that a plain run tries out now and then, and does not take."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from subspace_lib.experiment import TRAINING_ONLY, Count, Experiment
from subspace_lib.linalg.eigensolver import top_eigenpairs
from subspace_lib.parameters import ascending, quoted
from subspace_lib.runs.protocol import RunInProgress, State, as_rows, nested, within
from subspace_lib.runs.trainer import Trainer
from subspace_lib.trajectory import COMPLETE

FRACTIONS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of the critical learning rate
CHANGES = tuple(f"change_{100 * fraction:03.0f}" for fraction in FRACTIONS)
COLUMNS = (
    "step",
    "train_loss",
    "slope",  # mean of ⟨Pg, g_B⟩ over the minibatches
    "bend",  # mean of g_BᵀPHP g_B
    "critical",  # learning rate 2 slope/bend; NaN unless both are positive
    "change",  # mean of L(θ − η P g_B) − L(θ), η the run's own
    *CHANGES,  # likewise at fractions of the critical learning rate
    "gradient_equivalents",
    "seconds",
)


class Trials(Experiment):
    """Plain training of ``steps`` steps; at its ``anchors`` Dom-SGD's step is tried, with several η.

    The minibatches of the next ``batches`` steps each give a step −s P g_B from the same point. The table
    has the mean change of the training loss, for the run's η and for fractions of the critical learning
    rate: that at which this mean is 0 by the second-order expansion, 2 E⟨Pg, g_B⟩/E[g_BᵀPHP g_B].
    S_k is solved for up to ``target_angle``, or to residuals of a thousandth of λ₁; where the solve ends
    short of both the row has no numbers.

    Source: what arXiv 2601.11789 states of a critical step size, in the second-order form of our own.
    """

    kind: ClassVar[str] = "trials"

    anchors: tuple[int, ...] = Field(min_length=1)
    batches: Count = Field(20, description="minibatches at an anchor")

    @field_validator("anchors")
    @classmethod
    def _anchors_in_order(cls, anchors: tuple[int, ...]) -> tuple[int, ...]:
        return ascending(anchors)

    @model_validator(mode="after")
    def _within_the_run(self) -> Self:
        self._check_plain("noise", "optimizer", "before", *TRAINING_ONLY)
        if self.anchors[-1] > self.steps:
            raise ValueError(
                f"anchors = {quoted(list(self.anchors))} must be at most steps = {self.steps}"
            )
        return self

    @property
    def method(self) -> str:
        """The rule's name and "trials"."""
        return super().method + "-trials"


class TrialsRun(RunInProgress):
    """The run in progress."""

    experiment: Trials

    def __init__(self, experiment: Trials):
        super().__init__(experiment)
        self.trainer = Trainer(experiment)
        self.vectors: Tensor | None = None  # the last ones solved for, (D, k + guards)
        self.rows: list[list[float]] = []

    def _advance(self) -> None:
        e = self.experiment
        if self.step in e.anchors:
            self._look()
        if self.step == e.steps:
            self.status = COMPLETE
        else:
            self.trainer.advance()
            self.step = self.trainer.step

    def _look(self) -> None:
        e, run = self.experiment, self.trainer
        o, theta, row = run.objective, run.theta, dict.fromkeys(COLUMNS, math.nan)
        loss, full = o.gradient(theta)
        row["step"], row["train_loss"] = self.step, float(loss)
        found = self._solved(full)
        if found is not None:
            basis, values = found
            batches = [run.batches.rows(self.step + i) for i in range(e.batches)]
            parts = torch.stack([o.gradient(theta, rows)[1] for rows in batches]) @ basis
            row |= self._expanded(full @ basis, parts, values)
            steps = parts @ basis.T
            rates = {"change": e.learning_rate}
            if not math.isnan(row["critical"]):
                rates |= {c: f * row["critical"] for c, f in zip(CHANGES, FRACTIONS, strict=True)}
            before = o.evaluate(theta)[0]
            for name, rate in rates.items():
                after = [o.evaluate(theta - rate * step)[0] for step in steps]
                row[name] = sum(after) / len(after) - before
        row["gradient_equivalents"], row["seconds"] = o.gradient_equivalents, self.seconds
        self.rows.append([float(row[name]) for name in COLUMNS])

    def _solved(self, full: Tensor) -> tuple[Tensor, Tensor] | None:
        """Basis (D, k) and eigenvalues (k,) of S_k at the run's point; None where the solve ended short."""
        e, theta = self.experiment, self.trainer.theta
        start = self.vectors
        if start is None:
            generator = torch.Generator().manual_seed(e.seed)
            start = torch.randn(len(theta), e.k + e.guards, generator=generator).to(theta)
        # The gradient shows an eigenvector that the former block has lost.
        start = torch.cat([start, full[:, None]], 1)
        hessian = self.trainer.objective.hessian(theta)
        pairs = top_eigenpairs(hessian, e.k, start, angle=e.target_angle)
        self.vectors = pairs.vectors[:, : e.k + e.guards].contiguous()
        if not pairs.converged:
            return None
        return pairs.vectors[:, : e.k].contiguous(), pairs.values[: e.k]

    @staticmethod
    def _expanded(full: Tensor, parts: Tensor, values: Tensor) -> dict[str, float]:
        """Means over minibatches of the first- and second-order terms, by coordinates in the basis."""
        slope = float((parts @ full).mean())
        bend = float((parts.square() @ values.to(parts)).mean())
        critical = 2 * slope / bend if slope > 0 and bend > 0 else math.nan
        return {"slope": slope, "bend": bend, "critical": critical}

    def table(self) -> pd.DataFrame:
        """The measurements so far, one row an anchor."""
        return pd.DataFrame(self.rows, columns=list(COLUMNS)).astype({"step": "int64"})

    def _own_state(self) -> State:
        state = nested("trainer", self.trainer.state())
        if self.vectors is not None:
            state["vectors"] = self.vectors.T
        return state | {"rows": as_rows(self.rows, len(COLUMNS))}

    def _load_own_state(self, state: State) -> None:
        device = self.experiment.device
        self.trainer.load_state(within("trainer", state))
        if "vectors" in state:
            self.vectors = state["vectors"].to(device).T.contiguous()
        self.rows = state["rows"].tolist()
