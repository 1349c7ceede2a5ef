"""From one point of SGD: other batch sizes, full-batch GD and back, artificial noise (C4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import by_seed, check_switch, numbers, source
from subspace_lib.chapters.kit.switch.study import SwitchParameters
from subspace_lib.experiment import Experiment
from subspace_lib.results.store import Store
from subspace_lib.runs.survey import Survey
from subspace_lib.runs.training import SPECTRUM
from subspace_lib.trajectory import Trajectory

AROUND = 2000  # steps after the branch over which alignments are averaged


class BatchParameters(SwitchParameters):
    """Parameters of the batch study.

    The SGD runs are those of the switch study with the same parameters, whose ``batch_size`` is that of
    the start. ``batch_sizes`` branch off at ``switch_step`` and go on to ``steps``, with rows in the 2,000
    steps after the branch and in the last 2% of the steps. GD, with and without noise, goes on for
    ``full_steps``, and SGD after it for as many; GD from the initialisation takes ``full_steps`` too.
    The ``_every`` are steps between rows; that of minibatch branches shares no factor with the steps in
    an epoch.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "learning_rate": 0.06,
        "steps": 200,
        "switch_step": 150,
        "seeds": (0, 1, 2),
        "target_angle": 0.5,
        "record_every": 50,
        "spectrum_every": None,
        "branch_every": 33,
        "batch_sizes": (),
        "full_steps": 40,
        "full_every": 40,
        "start_every": 40,
        "back_every": 39,
        "switch_alignment": None,
    }

    k: int = Field(10, ge=1, le=SPECTRUM, description="at most the length of a recorded spectrum")
    batch_sizes: tuple[int, ...] = (10, 250, 1000)
    branch_every: int = Field(91, ge=1)
    full_steps: int = Field(1000, ge=1)
    full_every: int = Field(20, ge=1)
    start_every: int = Field(50, ge=1)
    back_every: int = Field(21, ge=1)

    @field_validator("batch_sizes", mode="before")
    @classmethod
    def _sizes_from_text(cls, sizes: Any) -> Any:
        return numbers(sizes)


@dataclass(frozen=True)
class BatchStudy:
    """Trajectories of the batch study.

    Attributes:
        parameters: those in force.
        runs: by name and seed: "SGD", "GD", "back", "sgd noise", "isotropic noise", "GD from the start".
        sizes: by batch size and seed, the study's own and the full batch among them.
        surveys: by seed, the noise of single samples at the branch point.
    """

    parameters: BatchParameters
    runs: dict[tuple[str, int], Trajectory]
    sizes: dict[tuple[int, int], Trajectory]
    surveys: dict[int, Trajectory]

    def of(self, name: str) -> list[Trajectory]:
        """The trajectories of that name, in the order of the seeds."""
        return [self.runs[name, seed] for seed in self.parameters.seeds]

    def batch_sizes(self) -> list[int]:
        """In ascending order."""
        return sorted({size for size, _ in self.sizes})

    def point(self, seed: int, quantity: str) -> pd.Series:
        """A quantity of the survey at the branch point, by index."""
        table = self.surveys[seed].table
        rows = table[table["quantity"] == quantity]
        return rows.set_index("index")["value"].sort_index()

    def predicted(self, seed: int, batch: int) -> float:
        """Alignment of the full-batch gradient that the quadratic model predicts at the branch point.

        Along an eigenvector of eigenvalue λ, SGD on a quadratic with independent gradient noise of
        variance c S settles at gradients of variance η λ c S/(2 − η λ), c = (N − B)/((N − 1) B). S is
        measured along the leading eigenvectors, and proportional to λ, with the measured trace, beyond
        them. The mean gradient is that of GD, at the last row within 100 steps of the change.
        """
        p, eta = self.parameters, self.parameters.learning_rate
        share = (p.samples - batch) / ((p.samples - 1) * batch)
        values, noise = self.point(seed, "eigenvalue"), self.point(seed, "noise")
        total, noise = noise.loc[0], noise.loc[1:]
        settled = share * eta * values * noise / (2 - eta * values)
        slope = (total - noise.sum()) / (self.point(seed, "trace").loc[0] - values.sum())
        squares = self.point(seed, "square").loc[0] - (values**2).sum()
        beyond = share * eta / 2 * slope * max(0.0, squares)
        rows = self.runs["GD", seed].table
        mean = rows[rows["step"] <= p.switch_step + 100]["gradient_norm"].iloc[-1]
        dominant = settled.loc[1 : p.k].sum()
        return float(np.sqrt(dominant / (settled.sum() + beyond + mean**2)))


def batch_study(
    parameters: BatchParameters, store: Store | None = None, *, compute: bool = True
) -> BatchStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does."""
    parameters, get = parameters.resolved(), source(store, compute)
    p = parameters
    check_switch(p.switch_step, p.steps)
    runs, sizes, surveys = {}, {}, {}
    # All descriptions first: a bad value is an error before anything runs.
    wanted = {
        (name, seed): experiment for seed in p.seeds for name, experiment in _runs(p, seed).items()
    }
    branches = {(size, seed): _branch(p, seed, size) for seed in p.seeds for size in p.batch_sizes}
    at = {"steps": p.switch_step + 1, "anchors": (p.switch_step,)}
    points = {seed: Survey.parse(**p.fields(seed, **at)) for seed in p.seeds}
    for name, experiment in wanted.items():
        runs[name] = get(experiment)
    for seed, survey in points.items():
        surveys[seed] = get(survey)
        sizes[runs["SGD", seed].experiment.batch_size, seed] = runs["SGD", seed]
        sizes[p.samples, seed] = runs["GD", seed]
    for branch, experiment in branches.items():
        sizes[branch] = get(experiment)
    return BatchStudy(p, runs, sizes, surveys)


def _runs(p: BatchParameters, seed: int) -> dict[str, Experiment]:
    """The runs by name."""
    start, end = p.switch_step, p.switch_step + p.full_steps
    sgd = {"until": start, "batch_size": p.batch_size}
    full = {"batch_size": "full", "before": [sgd], "switch_step": start, "steps": end}
    full |= _rows(p.full_every)
    back = {"before": [sgd, {"until": end, "batch_size": p.samples}], "switch_step": end}
    back |= {"steps": end + p.full_steps, **_rows(p.back_every)}
    begin = {"batch_size": "full", "steps": p.full_steps, **_rows(p.start_every)}
    noise = {"noise_batch": p.batch_size}
    return {
        "SGD": p.run(seed, "none"),
        "GD": p.experiment(seed, **full),
        "back": p.experiment(seed, **back),
        "sgd noise": p.experiment(seed, **full, noise="sgd", **noise),
        "isotropic noise": p.experiment(seed, **full, noise="isotropic", **noise),
        "GD from the start": p.experiment(seed, **begin),
    }


def _branch(p: BatchParameters, seed: int, size: int) -> Experiment:
    before = [{"until": p.switch_step, "batch_size": p.batch_size}]
    rows = _rows(p.branch_every)
    rows["record_spans"] = (
        (p.switch_step, p.switch_step + AROUND),
        (p.steps - p.steps // 50, p.steps),
    )
    return p.experiment(seed, batch_size=size, before=before, switch_step=p.switch_step, **rows)


def _rows(every: int) -> dict[str, Any]:
    return {"record_every": every, "spectrum_every": None}


def tasks(parameters: BatchParameters) -> Stages:
    """What all branches share, seed by seed; then the branches."""
    core = [(batch_study, p) for p in by_seed(parameters, batch_sizes=())]
    return core, [(batch_study, p) for p in by_seed(parameters)]
