"""A study: the runs that one question needs, over methods and seeds, from validated parameters.

``python -m subspace_lib.study`` computes all studies that the book shows; what is stored already is
loaded, what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, field_validator

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
    "target_angle", "record_every", "spectrum_every", "device",
)  # fmt: skip
QUICK = {
    "dataset": "digits",
    "steps": 200,
    "switch_step": 100,
    "seeds": (0,),
    "target_angle": 0.15,
    "record_every": 20,
    "spectrum_every": 200,
}


class SwitchParameters(Description):
    """Parameters of a switch study: train with X, then go on with X, Dom-X and Bulk-X.

    ``profile="quick"`` replaces every parameter that stands at its paper value by one for a run of
    seconds on scikit-learn's digits.
    """

    dataset: DatasetName = "mnist5k"
    model: ModelName = "mlp"
    loss: LossName = "mse"
    k: int = 10
    learning_rate: float = 0.01
    batch_size: int = 50
    steps: int = 20_000
    switch_alignment: float | None = Field(0.95, gt=0, lt=1)
    switch_step: int = Field(3000, ge=1)
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    refresh: Refresh = "adaptive"
    target_angle: float = 0.05
    record_every: int = 90
    spectrum_every: int = 900
    device: Literal["cpu", "cuda"] = "cpu"
    profile: Literal["paper", "quick"] = "paper"

    @field_validator("seeds", mode="before")
    @classmethod
    def _from_text(cls, seeds):
        """Papermill's ``-p seeds 0,1`` and ``-p seeds "[0, 1]"`` are text, ``-p seeds 0`` a number."""
        if isinstance(seeds, str):
            return [part for part in re.split(r"[\s,\[\]]+", seeds) if part]
        return [seeds] if isinstance(seeds, int) else seeds

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds):
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds = {list(seeds)} must differ from each other")
        return seeds

    def resolved(self) -> SwitchParameters:
        """The parameters in force, after the profile."""
        return self.in_profile(QUICK)

    def experiment(self, seed: int, **fields: Any) -> Experiment:
        """One run of the study.

        Raises:
            InvalidParameter: a value is out of bounds.
        """
        shared = {name: getattr(self, name) for name in SHARED}
        return Experiment.parse(**shared, seed=seed, **fields)


@dataclass(frozen=True)
class SwitchStudy:
    """The trajectories of a switch study.

    Attributes:
        parameters: those in force; trajectories: by method ("SGD", "Dom-SGD", "Bulk-SGD") and seed.
        switch_steps: by seed; triggered: whether the alignment reached its threshold, by seed.
    """

    parameters: SwitchParameters
    trajectories: dict[tuple[str, int], Trajectory]
    switch_steps: dict[int, int]
    triggered: dict[int, bool]

    def of(self, method: str) -> list[Trajectory]:
        """The trajectories of one method, in the order of the seeds."""
        return [self.trajectories[method, seed] for seed in self.parameters.seeds]


def switch_step(parameters: SwitchParameters, plain: Trajectory) -> tuple[int, bool]:
    """Where to switch, and whether the alignment's moving average asked for it there."""
    if parameters.switch_alignment is not None and plain.trigger_step is not None:
        return plain.trigger_step, True
    return parameters.switch_step, False


def switch_study(
    parameters: SwitchParameters, store: Store | None = None, *, compute: bool = True
) -> SwitchStudy:
    """Load a switch study, or compute what is missing of it.

    Raises:
        InvalidParameter: a parameter is out of bounds, before anything runs.
        MissingRun: with ``compute=False``, when a run is not stored.
        Corrupted: with ``compute=False``, when a stored file is incomplete or altered.
    """
    parameters, store = parameters.resolved(), store or Store()
    if parameters.switch_step >= parameters.steps:
        raise InvalidParameter(
            f"switch_step = {parameters.switch_step} must be below steps = {parameters.steps}."
        )
    watch = parameters.switch_alignment
    plain = [parameters.experiment(seed, watch_alignment=watch) for seed in parameters.seeds]
    get = _run if compute else _load
    trajectories, switch_steps, triggered = {}, {}, {}
    for seed, experiment in zip(parameters.seeds, plain, strict=True):
        trajectory = get(store, experiment)
        trajectories[experiment.method, seed] = trajectory
        switch_steps[seed], triggered[seed] = switch_step(parameters, trajectory)
        for projection in ("dominant", "bulk"):
            branch = parameters.experiment(
                seed, projection=projection, switch_step=switch_steps[seed]
            )
            trajectories[branch.method, seed] = get(store, branch)
    return SwitchStudy(parameters, trajectories, switch_steps, triggered)


def _load(store: Store, experiment: Experiment) -> Trajectory:
    trajectory = store.load(experiment)
    if trajectory is None:
        raise MissingRun(f"{experiment.key} is not in {store.root.name}/; run `make results`.")
    return trajectory


def _run(store: Store, experiment: Experiment) -> Trajectory:
    progress, begun = Progress(f"{experiment.method}, seed {experiment.seed}"), time.monotonic()
    stored = store.folder(experiment).exists()
    trajectory = store.run(experiment, progress)
    if not stored:
        progress.close(f"{trajectory.status}, {time.monotonic() - begun:.0f} s, {experiment.key}")
    return trajectory


REPLICATION_SWITCH = 1950  # the step near which the public replication switches
STALE = 500  # steps for which the stale basis is left as it is


def replication_study(
    parameters: SwitchParameters, store: Store | None = None, *, compute: bool = True
) -> dict[str, Trajectory]:
    """Dom-SGD at twice the learning rate: does its loss rise, and does a stale basis make it rise?

    A loss without ½ at η, as in the public replication, is ours at 2η. The first seed, by kind of basis:
    certified, or left as it is for 500 steps. Twice the rate doubles the jitter that turns the subspace
    at every step, so the target angle is doubled. The switch is at step 1,950, or halfway in runs that
    are too short for that.
    """
    parameters, store = parameters.resolved(), store or Store()
    get = _run if compute else _load
    switch = min(REPLICATION_SWITCH, parameters.steps // 2)
    stale = min(STALE, parameters.steps // 10)
    # A recorded row refreshes the basis, so rows must be as rare as refreshes.
    rare = {"refresh": stale, "record_every": stale, "spectrum_every": 2 * stale}
    runs = {}
    for kind, changes in {"certified": {}, f"stale by up to {stale} steps": rare}.items():
        faster = {
            "learning_rate": 2 * parameters.learning_rate,
            "target_angle": min(0.5, 2 * parameters.target_angle),
            **changes,
        }
        experiment = parameters.model_copy(update=faster).experiment(
            parameters.seeds[0], projection="dominant", switch_step=switch
        )
        runs[kind] = get(store, experiment)
    return runs


BOOK = {"02_dom_vs_bulk": SwitchParameters()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute every study of the book whose results are missing, several seeds at a time."""
    parser = argparse.ArgumentParser(prog="python -m subspace_lib.study", description=main.__doc__)
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes, of one share of the cores each"
    )
    jobs = parser.parse_args(arguments).jobs
    tasks = [
        (switch_study, parameters.model_copy(update={"seeds": (seed,)}))
        for parameters in BOOK.values()
        for seed in parameters.seeds
    ]
    tasks += [(replication_study, parameters) for parameters in BOOK.values()]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # One thread a process beats all threads in one: minibatch steps are too small to share.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, torch.set_num_threads, (threads,)) as pool:
        for done in [pool.submit(study, parameters) for study, parameters in tasks]:
            done.result()


if __name__ == "__main__":
    main()
