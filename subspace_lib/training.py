"""The training loop: one experiment in, its trajectory of measurements out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from subspace_lib import data, models, optimizers
from subspace_lib.eigensolver import NonFiniteProduct
from subspace_lib.experiment import Experiment
from subspace_lib.objective import Objective
from subspace_lib.subspace import DominantSubspace, Refresh

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
    "descent",  # predicted second-order loss decrease of the plain update
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
)


@dataclass(frozen=True)
class Trajectory:
    """What a run has measured.

    Attributes:
        experiment: its description.
        table: one row per recorded step; see ``COLUMNS``. Losses are those before the step's update.
        status: "complete" or "diverged at step n".
        trigger_step: first step at which the watched alignment exceeded its threshold, or None.
        provenance: commit, versions, machine, wall time, date.
    """

    experiment: Experiment
    table: pd.DataFrame
    status: str
    trigger_step: int | None
    provenance: dict[str, Any]


class Batches:
    """Minibatches as a pure function of (seed, step): a fresh permutation each epoch."""

    def __init__(self, samples: int, size: int, seed: int):
        self.samples, self.size, self.seed = samples, size, seed
        self.per_epoch = math.ceil(samples / size)
        self._epoch, self._order = -1, None

    def rows(self, step: int) -> Tensor:
        """Indices of the step's minibatch; the last one of an epoch may be smaller."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            # The CPU generator uses the low 32 bits of its seed only: keep seed and epoch in them.
            mixed = (self.seed * 1_000_003 + epoch + 1) % 2**32
            generator = torch.Generator().manual_seed(mixed)
            self._epoch, self._order = epoch, torch.randperm(self.samples, generator=generator)
        return self._order[position * self.size : (position + 1) * self.size]


class Run:
    """A training run in progress: advance it, save its state, go on from there."""

    def __init__(self, experiment: Experiment):
        self.experiment = e = experiment
        dataset = data.load(e.dataset)
        model = models.build(e.model, dataset.shape, dataset.classes, e.seed)
        self.objective = Objective(
            model,
            e.loss,
            dataset.train_inputs,
            dataset.train_labels,
            chunk=e.chunk,
            device=e.device,
        )
        self.test = dataset.test_inputs.to(e.device), dataset.test_labels.to(e.device)
        self.subspace = DominantSubspace(
            self.objective,
            e.k,
            guards=e.guards,
            refresh=e.refresh,
            target=e.target_angle,
            correction=e.correction,
            seed=e.seed,
        )
        self.batches = Batches(len(self.objective), e.batch_size, e.seed)
        self.rule = optimizers.SGD(e.learning_rate)
        self.theta = self.objective.initial()
        self.rule_state = self.rule.init(self.theta)
        self.step = 0
        self.rows: list[list[float]] = []
        self.status = "running"
        self.trigger_step: int | None = None
        self.ema = math.nan
        self.refreshes = 0
        self.worst = [0.0, 0.0]
        self.seconds = 0.0
        self._spectrum_start: Tensor | None = None

    def train(self, pause: Callable[[Run], None] = lambda run: None) -> None:
        """Train to the end, or until the loss diverges; ``pause`` is called after every step."""
        begun = time.perf_counter() - self.seconds
        while self.status == "running":
            try:
                if self.step < self.experiment.switch_step:
                    self._plain_step()
                else:
                    self._step()
            except (NonFiniteProduct, _Diverged):
                self.status = f"diverged at step {self.step}"
            self.seconds = time.perf_counter() - begun
            pause(self)

    def _gradient(self) -> Tensor:
        loss, gradient = self.objective.gradient(self.theta, self.batches.rows(self.step))
        if not torch.isfinite(loss):
            raise _Diverged
        return gradient

    def _apply(self, gradient: Tensor, projection: str) -> None:
        self.rule_state, update = self.rule.update(self.rule_state, gradient)
        self.theta = self.theta + optimizers.restrict(update, projection, self.subspace)
        self.step += 1

    def _plain_step(self) -> None:
        """A step of the common part: nothing is measured, nothing projected."""
        self._apply(self._gradient(), "none")

    def _step(self) -> None:
        e, last = self.experiment, self.step == self.experiment.steps
        record = last or self.step == e.switch_step or self.step % e.record_every == 0
        gradient = self._gradient()
        if record or self.subspace.due(self.step):
            seen = self.subspace.refresh(self.theta, self.step, gradient, measure=record)
            self.refreshes += 1
            bound = 1.0 if math.isnan(seen.bound) else seen.bound
            self.worst = [max(self.worst[0], seen.turn), max(self.worst[1], bound)]
        if e.watch_alignment is not None and self.trigger_step is None:
            self._watch()
        if record:
            self._record(gradient, seen)
        if last:
            self.status = "complete"
        else:
            self._apply(gradient, e.projection)

    def _watch(self) -> None:
        _, full = self.objective.gradient(self.theta)
        alignment = self.subspace.alignment(full)
        self.ema = alignment if math.isnan(self.ema) else EMA * self.ema + (1 - EMA) * alignment
        if self.ema > self.experiment.watch_alignment:
            self.trigger_step = self.step

    def _record(self, gradient: Tensor, seen: Refresh) -> None:
        e, o, s = self.experiment, self.objective, self.subspace
        eta = e.learning_rate
        full, dominant = seen.gradient, s.project(seen.gradient)
        row = dict.fromkeys(COLUMNS, math.nan)
        row["step"], row["train_loss"] = self.step, seen.loss
        _, row["train_accuracy"] = o.evaluate(self.theta, o.inputs, o.labels)
        row["test_loss"], row["test_accuracy"] = o.evaluate(self.theta, *self.test)
        row["alignment"], row["batch_alignment"] = s.alignment(full), s.alignment(gradient)
        if self.trigger_step in (None, self.step):
            row["alignment_ema"] = self.ema
        row["gradient_norm"] = float(full.norm())
        curvature, curvature_dominant = seen.curvature
        row["descent"] = eta * float(full @ gradient) - eta**2 / 2 * curvature
        row["descent_dominant"] = eta * float(dominant @ gradient) - eta**2 / 2 * curvature_dominant
        row["turn"], row["angle_bound"] = self.worst
        row["cut"] = seen.cut
        self.worst = [0.0, 0.0]
        row["refresh_interval"], row["refreshes"] = s.interval, self.refreshes
        values = seen.values[: min(SPECTRUM, s.k + e.guards)]
        if self.step % e.spectrum_every == 0:
            pairs = s.spectrum(self.theta, min(SPECTRUM, o.dim), self._spectrum_start)
            values, self._spectrum_start = pairs.values[:SPECTRUM], pairs.vectors.contiguous()
        row.update((f"eigenvalue_{i:02d}", float(v)) for i, v in enumerate(values, 1))
        row["products"], row["gradient_equivalents"] = o.products, o.gradient_equivalents
        row["seconds"] = self.seconds
        self.rows.append([float(row[c]) for c in COLUMNS])

    def table(self) -> pd.DataFrame:
        """The measurements so far."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        return table.astype({"step": "int64", "refreshes": "int64", "products": "int64"})

    def state(self) -> dict[str, Tensor]:
        """Everything that the rest of the run depends on, as tensors."""
        trigger = -1 if self.trigger_step is None else self.trigger_step
        state = {
            "theta": self.theta,
            "rows": torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(COLUMNS)),
            "counts": torch.tensor([self.step, trigger, self.refreshes, self.objective.products]),
            "numbers": torch.tensor(
                [self.ema, *self.worst, self.seconds, self.objective.gradient_equivalents],
                dtype=torch.float64,
            ),
        }
        state.update((f"rule.{name}", value) for name, value in self.rule_state.items())
        if self.subspace.vectors is not None:
            state.update((f"subspace.{n}", v) for n, v in self.subspace.state().items())
        if self._spectrum_start is not None:
            state["spectrum_start"] = self._spectrum_start
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        device = self.experiment.device
        self.theta = state["theta"].to(device)
        self.rows = state["rows"].tolist()
        self.step, trigger, self.refreshes, self.objective.products = state["counts"].tolist()
        self.trigger_step = None if trigger < 0 else trigger
        self.ema, *self.worst, self.seconds, equivalents = state["numbers"].tolist()
        self.objective.gradient_equivalents = equivalents
        self.rule_state = {n[5:]: v.to(device) for n, v in state.items() if n.startswith("rule.")}
        subspace = {n[9:]: v for n, v in state.items() if n.startswith("subspace.")}
        if subspace:
            subspace.update({n: subspace[n].to(device) for n in ("vectors", "spare")})
            self.subspace.load_state(subspace)
        if "spectrum_start" in state:
            self._spectrum_start = state["spectrum_start"].to(device)


class _Diverged(ArithmeticError):
    """The minibatch loss is not finite."""
