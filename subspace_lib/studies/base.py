"""What every study shares: validated parameters over seeds, runs that are loaded or computed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, field_validator

from subspace_lib import data
from subspace_lib.experiment import (
    DatasetName,
    Description,
    Experiment,
    InvalidParameter,
    LossName,
    ModelName,
    Refresh,
)
from subspace_lib.progress import Progress
from subspace_lib.store import MissingRun, Store
from subspace_lib.training import Trajectory

SHARED = (
    "dataset", "model", "loss", "k", "learning_rate", "batch_size", "steps", "refresh",
    "target_angle", "period", "record_every", "spectrum_every", "device",
)  # fmt: skip


class StudyParameters(Description):
    """Parameters that all studies have. ``batch_size="full"`` is full-batch training.

    ``profile="quick"`` replaces every parameter that stands at its paper value by one for a run of
    seconds on scikit-learn's digits: a study's ``QUICK``.
    """

    dataset: DatasetName = "mnist5k"
    model: ModelName = "mlp"
    loss: LossName = "mse"
    k: int = 10
    learning_rate: float = 0.01
    batch_size: int | Literal["full"] = 50
    steps: int = 20_000
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    refresh: Refresh = "adaptive"
    target_angle: float = 0.05
    period: int = 1
    record_every: int = 90
    spectrum_every: int = 900
    device: Literal["cpu", "cuda"] = "cpu"
    profile: Literal["paper", "quick"] = "paper"

    @field_validator("batch_size", mode="before")
    @classmethod
    def _number_or_full(cls, size):
        if isinstance(size, str) and size != "full" and not size.isdecimal():
            raise ValueError(f"batch_size = {size!r} must be a number of samples, or 'full'")
        return size

    @field_validator("seeds", mode="before")
    @classmethod
    def _from_text(cls, seeds):
        """Papermill's ``-p seeds 0,1`` and ``-p seeds "[0, 1]"`` are text, ``-p seeds 0`` a number."""
        return numbers(seeds)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds):
        return distinct(seeds)

    @property
    def samples(self) -> int:
        """Size of the training set."""
        return data.SOURCES[self.dataset].train

    def experiment(self, seed: int, **fields: Any) -> Experiment:
        """One run of the study: its shared parameters, changed by ``fields``.

        Raises:
            InvalidParameter: a value is out of bounds.
        """
        return Experiment.parse(**self.fields(seed, **fields))

    def fields(self, seed: int, **fields: Any) -> dict[str, Any]:
        """The parameters of a run by name."""
        merged = {name: getattr(self, name) for name in SHARED} | {"seed": seed} | fields
        if merged["batch_size"] == "full":
            merged["batch_size"] = self.samples
        return merged


def numbers(value: Any) -> Any:
    """A tuple parameter as papermill may give it: text, a single number, or a list."""
    if isinstance(value, str):
        return [part for part in re.split(r"[\s,\[\]]+", value) if part]
    return [value] if isinstance(value, (int, float)) else value


def distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds; raises ValueError where two are the same."""
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds = {list(seeds)} must differ from each other")
    return seeds


def check_switch(switch_step: int, steps: int) -> None:
    """Raises InvalidParameter where the switch lies beyond the end."""
    if switch_step >= steps:
        raise InvalidParameter(f"switch_step = {switch_step} must be below steps = {steps}.")


def compute(experiment: Experiment) -> Trajectory:
    """One run: loaded from the results, or computed and kept there."""
    return getter(None, True)(experiment)


Getter = Callable[[Experiment], Trajectory]


def getter(store: Store | None, compute: bool) -> Getter:
    """A function that loads a run, or computes it where that is allowed.

    It raises MissingRun with ``compute=False`` when a run is not stored, and Corrupted when a stored
    file is incomplete or altered.
    """
    store = store or Store()

    def load(experiment: Experiment) -> Trajectory:
        trajectory = store.load(experiment)
        if trajectory is None:
            raise MissingRun(f"{experiment.key} is not in {store.root.name}/; run `make results`.")
        return trajectory

    def run(experiment: Experiment) -> Trajectory:
        progress = Progress(f"{experiment.method}, seed {experiment.seed}")
        begun, stored = time.monotonic(), store.folder(experiment).exists()
        trajectory = store.run(experiment, progress)
        if not stored:
            seconds = time.monotonic() - begun
            progress.close(f"{trajectory.status}, {seconds:.0f} s, {experiment.key}")
        return trajectory

    return run if compute else load
