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
from subspace_lib.runs.watch import Watch
from subspace_lib.subspace import DominantSubspace, Refresh, restrict
from subspace_lib.trajectory import COMPLETE

SPECTRUM = 20  # eigenvalues in a full spectrum row
KEPT = "kept"  # of points to go back to, in a state

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
    "descent",  # SGD and GD: predicted second-order loss decrease of the plain update, after a refresh
    "descent_dominant",  # and of its dominant part
    "turn",  # sin of the largest angle the basis had turned by, largest since the last row
    "angle_bound",  # of a basis in use to the exact one, likewise; 1 where it is not determined at k
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
    "angle",  # of the basis in use at the row to the exact one, as far as known (``DominantSubspace``)
    "refresh_step",  # of the last refresh: eigenvalues, cut and curvature are those seen there
)


class Run(RunInProgress):
    """A training run in progress: advance it, save its state, go on from there.

    Up to ``switch_step`` steps are plain and nothing is measured. ``follows``: whether the subspace is
    followed between rows whatever uses it there; otherwise only while it is projected on or watched.
    """

    experiment: Experiment

    def __init__(self, experiment: Experiment):
        super().__init__(experiment)
        e = experiment
        self.trainer = Trainer(e)
        self.subspaces = self._trackers()
        self.follows = e.projection != "none" or e.refresh_every != "adaptive"
        self.ceiling = math.inf
        if e.stop_above is not None:
            self.ceiling = e.stop_above * float(self.objective.gradient(self.theta)[0])
        self.rows: list[list[float]] = []
        self.watch: Watch | None = None
        if e.watch_alignment is not None:
            self.watch = Watch(e.watch_alignment, e.watch_from, e.switch_from, e.switch_by)
        self._kept: list[State] = []  # the last two points from which watching may go on once more
        self.refreshes = 0
        self._seen: Refresh | None = None  # the last refresh
        self._full: tuple[float, Tensor] | None = None  # loss and gradient of all data at this step
        self.worst = [0.0, 0.0]
        self._spectrum_start: Tensor | None = None
        self._last_top: Tensor | None = None

    def _trackers(self) -> tuple[DominantSubspace, ...]:
        """One that has seen nothing yet for each step of a period."""
        e = self.experiment
        return tuple(
            DominantSubspace(
                self.objective,
                e.k,
                guards=e.guards,
                refresh_every=e.refresh_every,
                target=e.target_angle,
                correction=e.correction,
                subset=e.subset,
                allowance=self._allowance(),
                seed=e.seed,
            )
            for _ in range(e.period)
        )

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

    def _allowance(self) -> float | None:
        """Gradient equivalents that each subspace may take per step."""
        e = self.experiment
        if e.budget is None:
            return None
        gradients = 2 if e.optimizer == "sam" else 1
        return (e.budget - 1) * gradients * e.batch_size / len(self.objective) / e.period

    def _step(self) -> None:
        e, trainer, last = self.experiment, self.trainer, self.step == self.experiment.steps
        if self._watching and self.watch is not None and self.watch.keeps(self.step, self._kept):
            here = {n: v for n, v in self.state().items() if not n.startswith(KEPT)}
            self._kept = [*self._kept[-1:], here]
        record = last or self.step == e.switch_step or self._row_due()
        gradient, self._full = trainer.gradient(), None
        self._follow(gradient, record)
        if self._watching and self._watched():
            return  # from an earlier step on
        state, update = trainer.update(self._used(gradient))
        if record:
            self._record(gradient, update)
            if self._whole()[0] > self.ceiling:
                raise Diverged
        if last:
            self.status = COMPLETE
            return
        trainer.move(state, self._applied(update))
        self.step = trainer.step

    def _used(self, gradient: Tensor) -> Tensor:
        """What the rule gets for its gradient."""
        e = self.experiment
        if e.projected == "update":
            return gradient
        return restrict(gradient, e.projection, self.subspace)

    def _applied(self, update: Tensor) -> Tensor:
        """What is added to θ for the rule's update."""
        e = self.experiment
        if e.projected == "gradient":
            return update
        return restrict(update, e.projection, self.subspace)

    @property
    def _watching(self) -> bool:
        return (
            self.watch is not None and self.trigger_step is None and self.step >= self.watch.begin
        )

    def _follow(self, gradient: Tensor, record: bool) -> None:
        """Bring the basis to θ where something needs it there, by the cheapest means that will do."""
        s, step = self.subspace, self.step
        if record and self._fresh():
            self._refreshed(s.refresh(self.theta, step, gradient, measure=True))
            return
        wanted = record or self.follows or self._watching
        # Rows do not wait for the schedule, as far as a look will do for them.
        row = record and s.schedule.looks and s.budget.may_look(step)
        if wanted and (s.due(step) or row):
            look = s.look(self.theta, step, gradient)
            self.worst[0] = max(self.worst[0], look.turn)
            self.worst[1] = max(self.worst[1], min(1.0, look.turn + look.angle))
            if look.refresh is not None:
                self._refreshed(look.refresh)

    def _fresh(self) -> bool:
        """Whether the row at this step asks for a refresh."""
        e = self.experiment
        spectrum = e.spectrum_every is not None and self.step % e.spectrum_every == 0
        return spectrum or any(first <= self.step <= end for first, end in e.fresh_spans)

    def _row_due(self) -> bool:
        e = self.experiment
        if e.record_every is None or self.step % e.record_every:
            return False
        return not e.record_spans or any(first <= self.step <= end for first, end in e.record_spans)

    def _refreshed(self, seen: Refresh) -> None:
        self.refreshes += 1
        bound = 1.0 if math.isnan(seen.bound) else seen.bound
        self.worst = [max(self.worst[0], seen.turn), max(self.worst[1], bound)]
        self._seen, self._full = seen, (seen.loss, seen.gradient)

    def _whole(self) -> tuple[float, Tensor]:
        """Loss and gradient of all data at this step, computed once."""
        if self._full is None:
            loss, gradient = self.objective.gradient(self.theta)
            self._full = float(loss), gradient
        return self._full

    def _watched(self) -> bool:
        """Watch the alignment at this step; whether the run has gone back to watch more closely."""
        watch = self.watch
        assert watch is not None
        if watch.due(self.step):
            alignment = self.subspace.alignment(self._whole()[1])
            if watch.note(self.step, alignment):
                self.trigger_step = self.step
            elif watch.alarmed:
                self._go_back()
                return True
        if self.trigger_step is None and self.step == watch.latest:
            self.trigger_step = self.step
        if self.trigger_step is not None:
            self._kept = []
        return False

    def _go_back(self) -> None:
        """To the older of the points kept; work and time that have been spent stay spent."""
        o, seconds = self.objective, self.seconds
        spent, products = o.gradient_equivalents, o.products
        self.subspaces = self._trackers()  # the point's state may have nothing of one
        self.load_state(self._kept[0])
        o.gradient_equivalents, o.products, self.seconds = spent, products, seconds
        self._kept = []
        assert self.watch is not None
        self.watch.sharpen(self.step)

    def _record(self, gradient: Tensor, update: Tensor) -> None:
        e, o, s, seen = self.experiment, self.objective, self.subspace, self._seen
        assert seen is not None  # since the first row
        loss, full = self._whole()
        dominant = s.project(full)
        row = dict.fromkeys(COLUMNS, math.nan)
        row["step"], row["train_loss"] = self.step, loss
        _, row["train_accuracy"] = o.evaluate(self.theta)
        row["test_loss"], row["test_accuracy"] = o.evaluate(self.theta, *self.trainer.test)
        row["alignment"], row["batch_alignment"] = s.alignment(full), s.alignment(gradient)
        if self.watch is not None and self.trigger_step in (None, self.step):
            row["alignment_ema"] = self.watch.average
        row["gradient_norm"] = float(full.norm())
        here = seen.step == self.step
        if e.optimizer == "sgd" and here and seen.curvature is not None:
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
        row["angle"], row["refresh_step"] = s.angle_at(self.step), seen.step
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
            "numbers": torch.tensor(self.worst, dtype=torch.float64),
            **nested("trainer", self.trainer.state()),
        }
        for i, subspace in enumerate(self.subspaces):
            state |= nested(f"subspace{i}", subspace.state())
        if self._spectrum_start is not None:
            state["spectrum_start"] = self._spectrum_start
        if self._last_top is not None:
            state["last_top"] = self._last_top
        if self.watch is not None:
            state["watch"] = self.watch.state()
        if self._seen is not None:
            state["seen"] = torch.tensor([self._seen.step, self._seen.cut])
            state["seen_values"] = self._seen.values
        for i, kept in enumerate(self._kept):
            state |= nested(f"{KEPT}{i}", kept)
        return state

    def _load_own_state(self, state: State) -> None:
        device = self.experiment.device
        self.trainer.load_state(within("trainer", state))
        self.rows = state["rows"].tolist()
        (self.refreshes,) = state["refreshes"].tolist()
        self.worst = state["numbers"].tolist()
        self._seen = None
        if "seen" in state:
            step, cut = state["seen"].tolist()
            self._seen = _known(step, state["seen_values"].to(device), cut)
        if self.watch is not None:
            self.watch.load_state(state["watch"])
        kept = (within(f"{KEPT}{i}", state) for i in range(2))
        self._kept = [point for point in kept if point]
        for i, subspace in enumerate(self.subspaces):
            subspace.load_state(within(f"subspace{i}", state))
        if "spectrum_start" in state:
            self._spectrum_start = state["spectrum_start"].to(device)
        if "last_top" in state:
            self._last_top = state["last_top"].to(device)


def _known(step: int, values: Tensor, cut: int) -> Refresh:
    """What later rows need of a refresh, from a state."""
    none = values.new_empty(0)
    return Refresh(step, values, none, math.nan, math.nan, cut, 0, math.nan, none, None)
