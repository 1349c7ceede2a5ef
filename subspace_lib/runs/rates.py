"""Effective learning rates of a rule's updates, at every step from its own initialization on (Table 1)."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import pandas as pd
import torch
from pydantic import model_validator
from torch import Tensor

from subspace_lib.experiment import TRAINING_ONLY, Experiment
from subspace_lib.runs.protocol import RunInProgress, State, as_rows, nested, within
from subspace_lib.runs.trainer import Trainer
from subspace_lib.subspace import DominantSubspace
from subspace_lib.trajectory import COMPLETE, Trajectory

PARTS = ("dominant", "bulk")
COLUMNS = (
    "step",
    "train_loss",
    *(f"{part}_rate" for part in PARTS),
    *(f"{part}_square" for part in PARTS),  # ‖Pg‖² and ‖(I − P)g‖²
    "turn",  # sine of the angle that the last refresh turned the basis by; NaN before the second
    "products",
    "gradient_equivalents",
    "seconds",
)


def inner_products(basis: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """⟨P a, P b⟩ and ⟨(I − P) a, (I − P) b⟩ with P = V Vᵀ; float64 (2,), on the CPU.

    Args:
        basis: orthonormal V (D, k); a, b: (D,).
    """
    v, a, b = basis.double(), a.double(), b.double()
    inside = (v.T @ a) @ (v.T @ b)
    return torch.stack([inside, a @ b - inside]).cpu()


def effective_rates(basis: Tensor, update: Tensor, gradient: Tensor) -> Tensor:
    """Dom-LR and Bulk-LR of an update: −⟨Pu, Pg⟩/‖Pg‖², P onto S_k and onto the rest; float64 (2,).

    Gradient descent has η in both. NaN in a part in which the gradient is zero.

    Args:
        basis: orthonormal V_k (D, k); update: u (D,); gradient: g (D,), of the full batch.

    Source: arXiv 2405.16002, Table 1, as in the code that is very probably the paper's.
    """
    v = basis.double()
    return -inner_products(v, update, gradient) / inner_products(v, gradient, gradient)


class EffectiveRates(Experiment):
    """A plain run that is measured at every step: Dom-LR and Bulk-LR of the minibatch update.

    The gradient and the subspace are those of the full batch at the point that the update leaves. Table 1
    has ``refresh_every = 1``, the subspace anew at every step. A row has no other measurements than
    ``COLUMNS``, so rows in spans, spectra and watching have no meaning here.
    """

    kind: ClassVar[str] = "rates"

    @model_validator(mode="after")
    def _plain(self) -> Self:
        self._check_plain(*TRAINING_ONLY)
        return self

    @property
    def method(self) -> str:
        """The rule's name and "rates"."""
        return super().method + "-rates"


class RatesRun(RunInProgress):
    """The run in progress: measured, then moved, step by step."""

    experiment: EffectiveRates

    def __init__(self, experiment: EffectiveRates):
        super().__init__(experiment)
        e = experiment
        self.trainer = Trainer(e)
        self.subspace = DominantSubspace(
            self.trainer.objective,
            e.k,
            guards=e.guards,
            refresh_every=e.refresh_every,
            target=e.target_angle,
            correction=e.correction,
            seed=e.seed,
        )
        self.turn = math.nan
        self.rows: list[list[float]] = []

    def _advance(self) -> None:
        trainer = self.trainer
        batch, state, update = trainer.peek()
        if self.step >= self.experiment.switch_step:
            self._measure(batch, update)
        trainer.move(state, update)
        self.step = trainer.step
        if self.step == self.experiment.steps:
            self.status = COMPLETE

    def _measure(self, batch: Tensor, update: Tensor) -> None:
        """A row for the update that leaves the present point; a refresh has the full gradient too."""
        o, theta = self.trainer.objective, self.trainer.theta
        if self.subspace.due(self.step):
            seen = self.subspace.refresh(theta, self.step, batch)
            loss, gradient = seen.loss, seen.gradient
            self.turn = seen.turn if self.rows else math.nan
        else:
            value, gradient = o.gradient(theta)
            loss = float(value)
        basis = self.subspace.basis.double()
        rates = effective_rates(basis, update, gradient)
        squares = inner_products(basis, gradient, gradient)
        own = [self.step, loss, *rates.tolist(), *squares.tolist(), self.turn]
        self.rows.append([*own, o.products, o.gradient_equivalents, self.seconds])

    def table(self) -> pd.DataFrame:
        """The measurements so far, a row a step."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        return table.astype({"step": "int64", "products": "int64"})

    def _own_state(self) -> State:
        return {
            "rows": as_rows(self.rows, len(COLUMNS)),
            "turn": torch.tensor([self.turn], dtype=torch.float64),
            **nested("trainer", self.trainer.state()),
            **nested("subspace", self.subspace.state()),
        }

    def _load_own_state(self, state: State) -> None:
        self.trainer.load_state(within("trainer", state))
        self.subspace.load_state(within("subspace", state))
        self.rows, (self.turn,) = state["rows"].tolist(), state["turn"].tolist()


def mean_rates(run: Trajectory) -> tuple[float, float]:
    """Mean Dom-LR and Bulk-LR over the steps of a run of effective rates; NaN where it diverged."""
    if not run.complete:
        return math.nan, math.nan
    dominant, bulk = (
        float(run.table[f"{part}_rate"].astype(float).mean(skipna=False)) for part in PARTS
    )
    return dominant, bulk
