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
from subspace_lib.experiment import Experiment, InvalidParameter, Phase
from subspace_lib.noise import GradientNoise
from subspace_lib.objective import Objective
from subspace_lib.protocol import as_tensor, as_text
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

    def rows(self, step: int) -> Tensor | None:
        """Indices of the step's minibatch; the last of an epoch may be smaller. None for all samples."""
        if self.size == self.samples:
            return None
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
        dataset = data.load(e.dataset).first_classes(e.classes)
        model = models.build(e.model, dataset.shape, dataset.classes, e.seed)
        self.objective = Objective(
            model,
            e.loss,
            dataset.train_inputs,
            dataset.train_labels,
            chunk=e.chunk,
            device=e.device,
        )
        samples = len(self.objective)
        for size in (e.batch_size, *(phase.batch_size or 1 for phase in e.before)):
            if size > samples:
                raise InvalidParameter(
                    f"batch_size = {size} must be at most {samples}, the size of {e.dataset} with "
                    f"{e.classes} classes."
                )
        self.test = dataset.test_inputs.to(e.device), dataset.test_labels.to(e.device)
        self.subspaces = tuple(
            DominantSubspace(
                self.objective,
                e.k,
                guards=e.guards,
                refresh=e.refresh,
                target=e.target_angle,
                correction=e.correction,
                seed=e.seed,
            )
            for _ in range(e.period)
        )
        self.noise = None
        if e.noise != "none":
            self.noise = GradientNoise(self.objective, e.noise, e.noise_batch, e.seed)
        self.theta = self.objective.initial()
        self.ceiling = math.inf
        if e.stop_above is not None:
            self.ceiling = e.stop_above * float(self.objective.gradient(self.theta)[0])
        self.step = 0
        self._enter()
        self.rule_state = self.rule.init(self.theta)
        self.rows: list[list[float]] = []
        self.status = "running"
        self.trigger_step: int | None = None
        self.ema = math.nan
        self.refreshes = 0
        self.worst = [0.0, 0.0]
        self.seconds = 0.0
        self._spectrum_start: Tensor | None = None
        self._last_top: Tensor | None = None

    @property
    def subspace(self) -> DominantSubspace:
        """The one that follows steps like the present one: of even or odd steps with period 2."""
        return self.subspaces[self.step % len(self.subspaces)]

    def train(self, pause: Callable[[Run], None] = lambda run: None) -> None:
        """Train to the end, or until the loss diverges; ``pause`` is called after every step."""
        begun = time.perf_counter() - self.seconds
        while self.status == "running":
            self.advance()
            self.seconds = time.perf_counter() - begun
            pause(self)

    def advance(self) -> None:
        """One step, measured where the experiment says so; the status says whether it was the last."""
        try:
            if self.step < self.experiment.switch_step:
                self._plain_step()
            else:
                self._step()
        except ArithmeticError:  # NonFiniteProduct, _Diverged, a number too large for a float
            self.status = f"diverged at step {self.step}"

    def _enter(self) -> None:
        """Take up the rule and the batches of the phase that the step belongs to."""
        e = self.experiment
        phase = next((p for p in e.before if self.step < p.until), Phase(until=e.steps))
        self.rule = optimizers.build(
            phase.optimizer or e.optimizer, phase.learning_rate or e.learning_rate, e.beta, e.rho
        )
        self.batches = Batches(len(self.objective), phase.batch_size or e.batch_size, e.seed)

    def _gradient(self, displacement: Tensor | None = None) -> Tensor:
        """The gradient that the step uses, at θ or displaced from it, of the step's minibatch."""
        theta = self.theta if displacement is None else self.theta + displacement
        loss, gradient = self.objective.gradient(theta, self.batches.rows(self.step))
        if not torch.isfinite(loss):
            raise _Diverged
        if self.noise is not None and self.step >= self.experiment.switch_step:
            gradient = gradient + self.noise.draw(theta, self.step)
        return gradient

    def peek(self) -> tuple[Tensor, optimizers.State, Tensor]:
        """Minibatch gradient, next state of the rule and update of the next step, without taking it."""
        gradient = self._gradient()
        return gradient, *self._update(gradient)

    def _update(self, gradient: Tensor) -> tuple[optimizers.State, Tensor]:
        """The rule's next state and update, for the gradient at θ."""
        displacement = self.rule.lookahead(gradient)
        if displacement is not None:
            gradient = self._gradient(displacement)
        return self.rule.update(self.rule_state, gradient, self.theta)

    def _apply(self, state: optimizers.State, update: Tensor, projection: str) -> None:
        self.rule_state = state
        self.theta = self.theta + optimizers.restrict(update, projection, self.subspace)
        self.step += 1
        if any(self.step == phase.until for phase in self.experiment.before):
            rule = self.rule
            self._enter()
            if self.rule != rule:
                self.rule_state = self.rule.init(self.theta)

    def _plain_step(self) -> None:
        """A step of the common part: nothing is measured, nothing projected."""
        self._apply(*self.peek()[1:], "none")

    def _step(self) -> None:
        e, last = self.experiment, self.step == self.experiment.steps
        record = last or self.step == e.switch_step or self._row_due()
        gradient = self._gradient()
        if record or self.subspace.due(self.step):
            seen = self.subspace.refresh(self.theta, self.step, gradient, measure=record)
            self.refreshes += 1
            bound = 1.0 if math.isnan(seen.bound) else seen.bound
            self.worst = [max(self.worst[0], seen.turn), max(self.worst[1], bound)]
        if e.watch_alignment is not None and self.trigger_step is None:
            self._watch()
        used = gradient
        if e.project != "update":
            used = optimizers.restrict(gradient, e.projection, self.subspace)
        state, update = self._update(used)
        if record:
            self._record(gradient, update, seen)
            if seen.loss > self.ceiling:
                raise _Diverged
        if last:
            self.status = "complete"
        else:
            self._apply(state, update, "none" if e.project == "gradient" else e.projection)

    def _row_due(self) -> bool:
        e, spans = self.experiment, self.experiment.record_spans
        inside = not spans or any(first <= self.step <= end for first, end in spans)
        return inside and self.step % e.record_every == 0

    def _watch(self) -> None:
        _, full = self.objective.gradient(self.theta)
        alignment = self.subspace.alignment(full)
        self.ema = alignment if math.isnan(self.ema) else EMA * self.ema + (1 - EMA) * alignment
        if self.ema > self.experiment.watch_alignment:
            self.trigger_step = self.step

    def _record(self, gradient: Tensor, update: Tensor, seen: Refresh) -> None:
        e, o, s = self.experiment, self.objective, self.subspace
        full, dominant = seen.gradient, s.project(seen.gradient)
        row = dict.fromkeys(COLUMNS, math.nan)
        row["step"], row["train_loss"] = self.step, seen.loss
        _, row["train_accuracy"] = o.evaluate(self.theta, o.inputs, o.labels)
        row["test_loss"], row["test_accuracy"] = o.evaluate(self.theta, *self.test)
        row["alignment"], row["batch_alignment"] = s.alignment(full), s.alignment(gradient)
        if self.trigger_step in (None, self.step):
            row["alignment_ema"] = self.ema
        row["gradient_norm"] = float(full.norm())
        if e.optimizer == "sgd":
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
        values = seen.values[: min(SPECTRUM, s.k + e.guards)]
        if self.step % e.spectrum_every == 0:
            pairs = s.spectrum(self.theta, min(SPECTRUM, o.dim), self._spectrum_start)
            values, self._spectrum_start = pairs.values[:SPECTRUM], pairs.vectors.contiguous()
        row.update((f"eigenvalue_{i:02d}", float(v)) for i, v in enumerate(values, 1))
        row["products"], row["gradient_equivalents"] = o.products, o.gradient_equivalents
        row["seconds"] = self.seconds
        self.rows.append([float(row[c]) for c in COLUMNS])

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

    def state(self) -> dict[str, Tensor]:
        """Everything that the rest of the run depends on, as tensors."""
        trigger = -1 if self.trigger_step is None else self.trigger_step
        state = {
            "theta": self.theta,
            "status": as_tensor(self.status),
            "rows": torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(COLUMNS)),
            "counts": torch.tensor([self.step, trigger, self.refreshes, self.objective.products]),
            "numbers": torch.tensor(
                [self.ema, *self.worst, self.seconds, self.objective.gradient_equivalents],
                dtype=torch.float64,
            ),
        }
        state.update((f"rule.{name}", value) for name, value in self.rule_state.items())
        for i, subspace in enumerate(self.subspaces):
            if subspace.vectors is not None:
                name = f"subspace{i or ''}"
                state.update((f"{name}.{n}", v) for n, v in subspace.state().items())
        if self._spectrum_start is not None:
            state["spectrum_start"] = self._spectrum_start
        if self._last_top is not None:
            state["last_top"] = self._last_top
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        device = self.experiment.device
        self.theta = state["theta"].to(device)
        self.status = as_text(state["status"])
        self.rows = state["rows"].tolist()
        self.step, trigger, self.refreshes, self.objective.products = state["counts"].tolist()
        self.trigger_step = None if trigger < 0 else trigger
        self.ema, *self.worst, self.seconds, equivalents = state["numbers"].tolist()
        self.objective.gradient_equivalents = equivalents
        self._enter()
        self.rule_state = {n[5:]: v.to(device) for n, v in state.items() if n.startswith("rule.")}
        for i, subspace in enumerate(self.subspaces):
            name = f"subspace{i or ''}."
            saved = {n.removeprefix(name): v for n, v in state.items() if n.startswith(name)}
            if saved:
                saved.update({n: saved[n].to(device) for n in ("vectors", "spare")})
                subspace.load_state(saved)
        if "spectrum_start" in state:
            self._spectrum_start = state["spectrum_start"].to(device)
        if "last_top" in state:
            self._last_top = state["last_top"].to(device)


class _Diverged(ArithmeticError):
    """The minibatch loss is not finite, or the training loss above its ceiling."""
