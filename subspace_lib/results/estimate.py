"""About how long runs will take here: from what stored runs have cost, and the speed of this machine."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from functools import cached_property

from subspace_lib.experiment import Experiment, RunDescription
from subspace_lib.results.files import Corrupted
from subspace_lib.results.store import COMMITTED, Store
from subspace_lib.runs import described
from subspace_lib.runs.protocol import RunInProgress
from subspace_lib.runs.trainer import Trainer
from subspace_lib.runs.training import Run
from subspace_lib.trajectory import Trajectory


class Estimator:
    """Seconds that a run will take here, as far as stored runs tell.

    A training run costs its own minibatches and, as the median stored run has spent it beyond those, its
    cold start and so much for every measured step, all in gradients over all data; a row evaluates the
    training and the test data, which is about one more. One such gradient, and one plain step, are timed
    here. A run of another kind takes what stored ones of its kind have taken, by steps.
    """

    def __init__(self) -> None:
        self._speeds: dict[tuple[object, ...], tuple[float, float]] = {}

    @cached_property
    def stored(self) -> Sequence[Trajectory]:
        """The runs that the repository holds."""
        store, found = Store(COMMITTED), []
        for path in sorted(COMMITTED.glob("*/description.json")):
            try:
                run = store.load(described(json.loads(path.read_text())))
            except (Corrupted, ValueError):
                continue
            if run is not None:
                found.append(run)
        return found

    def seconds(self, experiments: Iterable[RunDescription]) -> float:
        """The sum over runs; NaN where there is nothing to go by."""
        return sum(self._of(experiment) for experiment in experiments)

    def _of(self, e: RunDescription) -> float:
        if not isinstance(e, Experiment) or e.kind != Experiment.kind:
            return self._by_kind(e)
        alike = [
            run
            for run in self.stored
            if run.experiment.kind == e.kind and similar(run.experiment, e)
        ]
        if not alike:
            return math.nan
        step, gradient = self._speed(e)
        measured = e.steps - e.switch_step
        rows = 1 + measured // (e.record_every or measured or 1)
        spent = e.steps * e.batch_size / e.samples + rows
        spent += statistics.median(map(cold_start, alike))
        allowed = math.inf if e.budget is None else (e.budget - 1) * _own(e)
        spent += min(statistics.median(map(overhead, alike)), allowed) * measured
        return e.steps * step + spent * gradient

    def _by_kind(self, e: RunDescription) -> float:
        rates = [
            run.provenance["wall_seconds"] / steps_of(run.experiment)
            for run in self.stored
            if run.experiment.kind == e.kind and run.provenance["machine"]["device"] == e.device
        ]
        return statistics.median(rates) * steps_of(e) if rates else math.nan

    def _speed(self, e: Experiment) -> tuple[float, float]:
        """Seconds of a plain step beyond its gradient, and of a gradient over all data, timed here."""
        kind = (e.dataset, e.model, e.loss, e.batch_size, e.optimizer)
        if kind not in self._speeds:
            trainer = Trainer(e)
            trainer.advance()
            times = []
            for call in (trainer.advance, lambda: trainer.objective.gradient(trainer.theta)):
                call()
                begun = time.perf_counter()
                call()
                times.append(time.perf_counter() - begun)
            step, gradient = times
            share = e.batch_size / e.samples
            self._speeds[kind] = (max(0.0, step - share * gradient), gradient)
        return self._speeds[kind]


def cold_start(run: Trajectory) -> float:
    """Gradients over all data that a stored run spent up to its first row beyond its own minibatches."""
    first = run.table.iloc[0]
    spent = float(first["gradient_equivalents"]) - float(first["step"]) * _own(run.experiment)
    return max(0.0, spent)


def overhead(run: Trajectory) -> float:
    """The same a step from the first row on."""
    first, last = run.table.iloc[0], run.table.iloc[-1]
    steps = float(last["step"] - first["step"])
    spent = float(last["gradient_equivalents"] - first["gradient_equivalents"])
    return max(0.0, spent / steps - _own(run.experiment)) if steps else 0.0


def _own(e: Experiment) -> float:
    """Gradient equivalents of a step alone."""
    return (2 if e.optimizer == "sam" else 1) * e.batch_size / e.samples


def similar(one: Experiment, other: Experiment) -> bool:
    """Whether both follow the subspace between rows or both do not, with minibatches or without."""
    return _traits(one) == _traits(other)


def _traits(e: Experiment) -> tuple[bool, bool, bool]:
    full = e.batch_size == e.samples
    return e.projection != "none", e.watch_alignment is not None, full


def price(run: RunInProgress) -> float:
    """Gradient equivalents that following the subspace has taken, over those of the steps alone.

    The cold start is not counted. 0 where a budget is in force, and where none would help: in runs that
    look at the subspace at their rows only.
    """
    if not isinstance(run, Run) or run.experiment.budget is not None:
        return 0.0
    if not (run.follows or run.watch):
        return 0.0
    budgets = [s.budget for s in run.subspaces if s.budget.first >= 0]
    steps = run.step - min((b.first for b in budgets), default=run.step)
    if steps <= 0:
        return 0.0
    followed = sum(b.looks + b.refreshes for b in budgets)
    e, samples = run.experiment, len(run.objective)
    return followed / (steps * (2 if e.optimizer == "sam" else 1) * e.batch_size / samples)


def steps_of(e: RunDescription) -> int:
    """The number of steps of any kind of run."""
    return int(getattr(e, "steps", 1))
