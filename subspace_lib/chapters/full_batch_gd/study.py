"""From the switch of SGD: full-batch GD and back (C4), other batch sizes, artificial noise (F1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.noise import there_and_back
from subspace_lib.chapters.kit.rows import rows, thinned
from subspace_lib.chapters.kit.study import (
    SMALL,
    Plan,
    by_seed,
    check_switch,
    described_first,
    optional,
    source,
    there,
)
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy, switch_step
from subspace_lib.chapters.kit.typed import numbers
from subspace_lib.evidence import criteria
from subspace_lib.experiment import Count, Experiment
from subspace_lib.results.store import Store
from subspace_lib.runs.survey import Survey
from subspace_lib.runs.training import SPECTRUM
from subspace_lib.trajectory import Trajectory

AROUND = 2000  # steps after the switch over which alignments are averaged
NOISES = {"shaped": "sgd", "isotropic": "isotropic"}  # names of the runs, and of their noise


class BatchParameters(SwitchParameters):
    """Parameters of the batch study.

    The SGD runs are those of the switch study with the same parameters, whose ``batch_size`` is that of
    the start. ``batch_sizes`` leave at the switch and go on to ``steps``. GD is followed for 10/(η λ_k)
    steps, and SGD after it, and GD with noise, for ``back_steps``; GD from the initialization for
    ``start_steps``. The ``_every`` are steps between rows; that of minibatch branches shares no factor
    with the steps in an epoch.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "preprocessing": "standardized",
        "model": SMALL,
        "learning_rate": 0.12,
        "steps": 300,
        "switch_step": 200,
        "seeds": (0, 1, 2),
        "target_angle": 0.5,
        "record_every": 50,
        "spectrum_every": None,
        "branch_every": 33,
        "batch_sizes": (1500,),
        "back_steps": 120,
        "back_every": 40,
        "start_steps": 80,
        "start_every": 20,
        "window_every": 10,
        "switch_alignment": None,
    }

    k: int = Field(10, ge=1, le=SPECTRUM, description="at most the length of a recorded spectrum")
    batch_sizes: tuple[Count, ...] = (10, 1000, 5000)
    branch_every: int = Field(91, ge=1, le=1_000_000)
    back_steps: int = Field(criteria.AGAIN, ge=1, le=1_000_000)
    back_every: int = Field(21, ge=1, le=1_000_000)
    start_steps: int = Field(1000, ge=1, le=1_000_000)
    start_every: int = Field(50, ge=1, le=1_000_000)
    window_every: int = Field(1, ge=1, le=1_000_000)

    @field_validator("batch_sizes", mode="before")
    @classmethod
    def _sizes_from_text(cls, sizes: Any) -> Any:
        return numbers(sizes)


@dataclass(frozen=True)
class BatchStudy:
    """Trajectories of the batch study.

    Attributes:
        parameters: those in force.
        switch: SGD to the end, and where it switches; without branches.
        runs: by name and seed: "before", "GD", "back" (``kit.noise``); GD with noise, "shaped" as SGD's or
            "isotropic"; "start", GD from the initialization.
        sizes: by batch size and seed, from the switch to the end, the study's own among them.
        surveys: by seed, the noise of single samples at the switch.
    """

    parameters: BatchParameters
    switch: SwitchStudy
    runs: dict[tuple[str, int], Trajectory]
    sizes: dict[tuple[int, int], Trajectory]
    surveys: dict[int, Trajectory]

    def of(self, name: str) -> list[Trajectory]:
        """The trajectories of that name, in the order of the seeds."""
        return [self.runs[name, seed] for seed in self.parameters.seeds]

    @property
    def has_sizes(self) -> bool:
        """Whether the runs of all batch sizes are there."""
        return set(self.parameters.batch_sizes) <= set(self.batch_sizes())

    def batch_sizes(self) -> list[int]:
        """In ascending order."""
        return sorted({size for size, _ in self.sizes})

    def trajectories(self) -> list[Trajectory]:
        """All of them."""
        return [*self.runs.values(), *self.surveys.values(), *self.sizes.values()]

    def since_switch(self, run: Trajectory) -> pd.Series:
        """Steps from the switch to each row of the run."""
        return run.table["step"] - self.switch.switch_steps[run.experiment.seed]

    def point(self, seed: int, quantity: str) -> pd.Series:
        """A quantity of the survey at the switch, by index."""
        table = self.surveys[seed].table
        found = table[table["quantity"] == quantity]
        return found.set_index("index")["value"].sort_index()

    def predicted(self, seed: int, batch: int) -> float:
        """Alignment of the full-batch gradient that the quadratic model predicts at the switch.

        Along an eigenvector of eigenvalue λ, SGD on a quadratic with independent gradient noise of
        variance c S settles at gradients of variance η λ c S/(2 − η λ), c = (N − B)/((N − 1) B). S is
        measured along the leading eigenvectors, and proportional to λ, with the measured trace, beyond
        them. The mean gradient is that of GD at its end.
        """
        p, eta = self.parameters, self.parameters.learning_rate
        share = (p.samples - batch) / ((p.samples - 1) * batch)
        values, noise = self.point(seed, "eigenvalue"), self.point(seed, "noise")
        total, noise = noise.loc[0], noise.loc[1:]
        settled = share * eta * values * noise / (2 - eta * values)
        slope = (total - noise.sum()) / (self.point(seed, "trace").loc[0] - values.sum())
        squares = self.point(seed, "square").loc[0] - (values**2).sum()
        beyond = share * eta / 2 * slope * max(0.0, squares)
        mean = self.runs["GD", seed].table["gradient_norm"].iloc[-1]
        dominant = settled.loc[1 : p.k].sum()
        return float(np.sqrt(dominant / (settled.sum() + beyond + mean**2)))


@described_first
def batch_study(
    parameters: BatchParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> BatchStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does.

    With ``compute=False`` C4 does not wait for F1: other batch sizes are left out until all are there.
    """
    p, get = parameters.resolved(), source(store, compute)
    check_switch(p.switch_step, p.steps)
    for size in p.batch_sizes:  # before anything runs: a bad value is an error
        p.experiment(p.seeds[0], batch_size=size)
    plain, steps, asked, surveys = {}, {}, {}, {}
    runs: dict[tuple[str, int], Trajectory] = {}
    sizes: dict[tuple[int, int], Trajectory] = {}
    for seed in p.seeds:
        sgd = plain["none", seed] = get(p.run(seed, "none"))
        steps[seed], asked[seed] = start, _ = switch_step(p, sgd)
        found = there_and_back(p, get, seed, start, p.back_steps, p.window_every)
        found |= {name: get(e) for name, e in _with_noise(p, seed, start).items()}
        found["start"] = get(_from_the_start(p, seed))
        runs |= {(name, seed): run for name, run in found.items()}
        at = {"steps": start + 1, "anchors": (start,), "period": 1}
        surveys[seed] = get(Survey.parse(**p.fields(seed, **at)))
        sizes[sgd.experiment.batch_size, seed] = sgd
    others = {
        (size, seed): _branch(p, seed, steps[seed], size)
        for seed in p.seeds
        for size in p.batch_sizes
        if (size, seed) not in sizes
    }
    sizes |= there(optional(lambda: {key: get(branch) for key, branch in others.items()}))
    return BatchStudy(p, SwitchStudy(p, plain, steps, asked), runs, sizes, surveys)


def _with_noise(p: BatchParameters, seed: int, start: int) -> dict[str, Experiment]:
    """GD from the switch with artificial noise, of each kind; every step of the last 100 has a row."""
    end = start + p.back_steps
    window = (max(start, end - criteria.AGAIN_WINDOW), end)
    fields = {
        "batch_size": "full",
        "before": [{"until": start, "batch_size": p.batch_size}],
        "switch_step": start,
        "steps": end,
        "noise_batch": p.batch_size,
        "spectrum_every": None,
        **rows(p.back_every, (start, end), *thinned(p.window_every, window)),
    }
    return {name: p.experiment(seed, noise=noise, **fields) for name, noise in NOISES.items()}


def _from_the_start(p: BatchParameters, seed: int) -> Experiment:
    own = {"record_every": p.start_every, "spectrum_every": None, "steps": p.start_steps}
    return p.experiment(seed, batch_size="full", fresh_spans=((0, p.start_steps),), **own)


def _branch(p: BatchParameters, seed: int, start: int, size: int) -> Experiment:
    every = {"record_every": p.branch_every, "spectrum_every": None}
    before = [{"until": start, "batch_size": p.batch_size}]
    return p.experiment(seed, batch_size=size, before=before, switch_step=start, **every)


def tasks(parameters: BatchParameters) -> Stages:
    """SGD and what leaves it at the switch, seed by seed; then the other batch sizes."""
    core = [(batch_study, p) for p in by_seed(parameters, batch_sizes=())]
    return core, [(batch_study, p) for p in by_seed(parameters)]
