"""A training run: one experiment in, its trajectory of measurements out."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor

from subspace_lib.experiment import Experiment
from subspace_lib.objective import Objective
from subspace_lib.runs.protocol import Diverged, RunInProgress, State, as_rows, nested, within
from subspace_lib.runs.trainer import Trainer
from subspace_lib.subspace import DominantSubspace, Refresh, restrict
from subspace_lib.trajectory import COMPLETE

SPECTRUM = 20  # eigenvalues in a full spectrum row
EMA = 0.9  # factor per step of the watched alignment

COLUMNS = (
    "step",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "alignment",  # χ_k of the full-batch gradient
    "batch_alignment",  # χ_k of the minibatch gradient
    "alignment_ema",  # of the full-batch one, while it is watched
    "gradient_norm",
    "descent",  # SGD and GD: predicted second-order loss decrease of the plain update
    "descent_dominant",  # and of its dominant part
    "turn",  # sin of the largest angle the basis had turned by, largest since the last row
    "angle_bound",  # its certified bound, likewise; 1 where the subspace is not determined at k
    "cut",  # where the nearest clear gap is: k, unless another is clearer
    "refresh_interval",
    "refreshes",
    "products",
    "gradient_equivalents",
    "seconds",
    *(f"eigenvalue_{i:02d}" for i in range(1, SPECTRUM + 1)),
    # Younger than the oldest stored runs, whose tables lack them. The update is the one before projection.
    "gradient_top",  # vᵀg of the full-batch gradient, v the top eigenvector, its sign kept from row to row
    "batch_gradient_norm",
    "update_norm",
    "update_alignment",  # χ_k of the update
    "dominant_rate",  # effective learning rates −⟨Pu, Pg⟩/‖Pg‖², −⟨(I−P)u, (I−P)g⟩/‖(I−P)g‖²
    "bulk_rate",
)


class Run(RunInProgress):
    """A training run in progress: advance it, save its state, go on from there.

    Up to ``switch_step`` steps are plain and nothing is measured. ``follows``: whether the subspace is
    followed between rows; where nothing uses it there, it is refreshed for rows only.
    """

    experiment: Experiment

    def __init__(self, experiment: Experiment):
        super().__init__(experiment)
        e = experiment
        self.trainer = Trainer(e)
        self.subspaces = tuple(
            DominantSubspace(
                self.objective,
                e.k,
                guards=e.guards,
                refresh_every=e.refresh_every,
                target=e.target_angle,
                correction=e.correction,
                seed=e.seed,
            )
            for _ in range(e.period)
        )
        used = e.projection != "none" or e.watch_alignment is not None
        self.follows = used or e.refresh_every != "adaptive"
        self.ceiling = math.inf
        if e.stop_above is not None:
            self.ceiling = e.stop_above * float(self.objective.gradient(self.theta)[0])
        self.rows: list[list[float]] = []
        self.ema = math.nan
        self.refreshes = 0
        self.worst = [0.0, 0.0]
        self._spectrum_start: Tensor | None = None
        self._last_top: Tensor | None = None

    @property
    def objective(self) -> Objective:
        """L(θ), with the counts of the work done."""
        return self.trainer.objective

    @property
    def theta(self) -> Tensor:
        """The present point (D,)."""
        return self.trainer.theta

    @property
    def subspace(self) -> DominantSubspace:
        """The one that follows steps like the present one: of even or odd steps with period 2."""
        return self.subspaces[self.step % len(self.subspaces)]

    def _advance(self) -> None:
        if self.step < self.experiment.switch_step:
            self.trainer.advance()
            self.step = self.trainer.step
        else:
            self._step()

    def _step(self) -> None:
        e, trainer, last = self.experiment, self.trainer, self.step == self.experiment.steps
        record = last or self.step == e.switch_step or self._row_due()
        gradient = trainer.gradient()
        seen = None
        if record or (self.follows and self.subspace.due(self.step)):
            seen = self._refresh(gradient, record)
        if e.watch_alignment is not None and self.trigger_step is None:
            self._watch(e.watch_alignment)
        used = gradient
        if e.projected != "update":
            used = restrict(gradient, e.projection, self.subspace)
        state, update = trainer.update(used)
        if record and seen is not None:
            self._record(gradient, update, seen)
            if seen.loss > self.ceiling:
                raise Diverged
        if last:
            self.status = COMPLETE
            return
        if e.projected != "gradient":
            update = restrict(update, e.projection, self.subspace)
        trainer.move(state, update)
        self.step = trainer.step

    def _row_due(self) -> bool:
        e = self.experiment
        if e.record_every is None or self.step % e.record_every:
            return False
        return not e.record_spans or any(first <= self.step <= end for first, end in e.record_spans)

    def _refresh(self, gradient: Tensor, record: bool) -> Refresh:
        seen = self.subspace.refresh(self.theta, self.step, gradient, measure=record)
        self.refreshes += 1
        bound = 1.0 if math.isnan(seen.bound) else seen.bound
        self.worst = [max(self.worst[0], seen.turn), max(self.worst[1], bound)]
        return seen

    def _watch(self, threshold: float) -> None:
        _, full = self.objective.gradient(self.theta)
        alignment = self.subspace.alignment(full)
        self.ema = alignment if math.isnan(self.ema) else EMA * self.ema + (1 - EMA) * alignment
        if self.ema > threshold:
            self.trigger_step = self.step

    def _record(self, gradient: Tensor, update: Tensor, seen: Refresh) -> None:
        e, o, s = self.experiment, self.objective, self.subspace
        full, dominant = seen.gradient, s.project(seen.gradient)
        row = dict.fromkeys(COLUMNS, math.nan)
        row["step"], row["train_loss"] = self.step, seen.loss
        _, row["train_accuracy"] = o.evaluate(self.theta, o.inputs, o.labels)
        row["test_loss"], row["test_accuracy"] = o.evaluate(self.theta, *self.trainer.test)
        row["alignment"], row["batch_alignment"] = s.alignment(full), s.alignment(gradient)
        if self.trigger_step in (None, self.step):
            row["alignment_ema"] = self.ema
        row["gradient_norm"] = float(full.norm())
        if e.optimizer == "sgd" and seen.curvature is not None:
            eta, (curvature, curvature_dominant) = e.learning_rate, seen.curvature
            row["descent"] = eta * (float(full @ gradient) - eta / 2 * curvature)
            row["descent_dominant"] = eta * (
                float(dominant @ gradient) - eta / 2 * curvature_dominant
            )
        row.update(self._rates(update, full, dominant))
        row["batch_gradient_norm"] = float(gradient.norm())
        row["gradient_top"] = float(full @ self._top())
        row["turn"], row["angle_bound"] = self.worst
        row["cut"] = seen.cut
        self.worst = [0.0, 0.0]
        row["refresh_interval"], row["refreshes"] = s.interval, self.refreshes
        values = self._eigenvalues(seen)
        row.update((f"eigenvalue_{i:02d}", float(v)) for i, v in enumerate(values, 1))
        row["products"], row["gradient_equivalents"] = o.products, o.gradient_equivalents
        row["seconds"] = self.seconds
        self.rows.append([float(row[c]) for c in COLUMNS])

    def _eigenvalues(self, seen: Refresh) -> Tensor:
        """Those that the refresh has seen, or the full spectrum where it is due."""
        e, dim = self.experiment, self.objective.dim
        if e.spectrum_every is None or self.step % e.spectrum_every:
            return seen.values[: min(SPECTRUM, e.k + e.guards)]
        pairs = self.subspace.spectrum(self.theta, min(SPECTRUM, dim), self._spectrum_start)
        if not pairs.converged:  # what is not known is left empty
            return seen.values[: min(SPECTRUM, e.k + e.guards)]
        self._spectrum_start = pairs.vectors.contiguous()
        return pairs.values[:SPECTRUM]

    def _rates(self, update: Tensor, full: Tensor, dominant: Tensor) -> dict[str, float]:
        """Size and alignment of the update, and its effective learning rates."""
        bulk, inside = full - dominant, self.subspace.project(update)
        return {
            "update_norm": float(update.norm()),
            "update_alignment": self.subspace.alignment(update),
            "dominant_rate": -float(update @ dominant / (dominant @ dominant)),
            "bulk_rate": -float((update - inside) @ bulk / (bulk @ bulk)),
        }

    def _top(self) -> Tensor:
        """The top eigenvector, with the sign that agrees with that of the last row's."""
        top = self.subspace.basis[:, 0].clone()
        if self._last_top is not None and float(top @ self._last_top) < 0:
            top = -top
        self._last_top = top
        return top

    def table(self) -> pd.DataFrame:
        """The measurements so far."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        return table.astype({"step": "int64", "refreshes": "int64", "products": "int64"})

    def _own_state(self) -> State:
        state = {
            "rows": as_rows(self.rows, len(COLUMNS)),
            "refreshes": torch.tensor([self.refreshes]),
            "numbers": torch.tensor([self.ema, *self.worst], dtype=torch.float64),
            **nested("trainer", self.trainer.state()),
        }
        for i, subspace in enumerate(self.subspaces):
            state |= nested(f"subspace{i}", subspace.state())
        if self._spectrum_start is not None:
            state["spectrum_start"] = self._spectrum_start
        if self._last_top is not None:
            state["last_top"] = self._last_top
        return state

    def _load_own_state(self, state: State) -> None:
        device = self.experiment.device
        self.trainer.load_state(within("trainer", state))
        self.rows = state["rows"].tolist()
        (self.refreshes,) = state["refreshes"].tolist()
        self.ema, *self.worst = state["numbers"].tolist()
        for i, subspace in enumerate(self.subspaces):
            subspace.load_state(within(f"subspace{i}", state))
        if "spectrum_start" in state:
            self._spectrum_start = state["spectrum_start"].to(device)
        if "last_top" in state:
            self._last_top = state["last_top"].to(device)
