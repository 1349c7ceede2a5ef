"""Two quadratics with noise, the valley and a regression: do they show what the networks show? (C5)"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import Profiled, distinct, numbers, source
from subspace_lib.results.store import Store
from subspace_lib.runs.simulation import RegressionSimulation, Simulation, ValleySimulation
from subspace_lib.theory.valley import Valley
from subspace_lib.trajectory import COMPLETE, Trajectory

PROBLEMS = ("valley", "regression")
FULL = "full"  # the batch of all samples: GD
SHARED = ("learning_rate", "batch_sizes", "steps", "switch_step", "full_steps", "paths")
VALLEY = ("condition", "cross", "shift", "sharpnesses", "crosses", "distances", "distance_shift")
REGRESSION = ("dimension", "samples", "outliers", "signal", "label_noise")
LISTS = ("batch_sizes", "sharpnesses", "crosses", "distances", "regression_batch_sizes", "seeds")


class ValleyParameters(Profiled):
    """Parameters of the study: of the valley, of the regression (``regression_`` where both have one).

    ``sharpnesses`` are values of ηκ, ``crosses`` of c, ``distances`` of y, for the last with the sample
    losses shifted by ``distance_shift``. Bounds are those of ``subspace_lib.runs.simulation``.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "seeds": (0, 1, 2),
        "steps": 4000,
        "paths": 50,
        "settle_paths": 1000,
        "regression_steps": 1000,
        "regression_paths": 5,
        "regression_settle_paths": 300,
    }

    condition: float = 1000.0
    cross: float = 10.0
    shift: float = 0.0
    learning_rate: float = 5e-4
    batch_sizes: tuple[int, ...] = (10, 100, 1000)
    steps: int = 20_000
    switch_step: int = 500
    full_steps: int = 500
    paths: int = 200
    sharpnesses: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 1.8, 1.9)
    crosses: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0)
    distances: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    distance_shift: float = 1.0
    settle_paths: int = 5000
    dimension: int = 200
    samples: int = 1000
    outliers: int = 10
    signal: float = 0.5
    label_noise: float = 1.0
    regression_learning_rate: float = 1e-3
    regression_batch_size: int = 10
    regression_batch_sizes: tuple[int, ...] = (1, 40, 160)
    regression_steps: int = 2000
    regression_switch_step: int = 200
    regression_full_steps: int = 200
    regression_paths: int = 20
    regression_settle_paths: int = 500
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _numbers_from_text(cls, values: Any) -> Any:
        return numbers(values)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return distinct(seeds)

    def simulation(self, problem: str, seed: int) -> Simulation:
        """The run of a problem and a seed.

        Raises:
            InvalidParameter: a value is out of bounds.
        """
        if problem == "valley":
            return ValleySimulation.parse(
                **self._fields((*SHARED, *VALLEY, "settle_paths")), seed=seed, batch_size=1
            )
        own = (*SHARED, "batch_size", "settle_paths")
        return RegressionSimulation.parse(
            **self._fields(REGRESSION), **self._fields(own, "regression_"), seed=seed
        )

    def _fields(self, names: Iterable[str], prefix: str = "") -> dict[str, Any]:
        return {name: getattr(self, prefix + name) for name in names}


@dataclass(frozen=True)
class ValleyStudy:
    """The simulations of the study, by problem ("valley", "regression") and seed."""

    parameters: ValleyParameters
    runs: dict[tuple[str, int], Trajectory]

    def first(self, problem: str) -> Simulation:
        """The description of the problem's first run."""
        return self.runs[problem, self.parameters.seeds[0]].experiment

    @property
    def valley(self) -> ValleySimulation:
        """The description of the first run in the valley."""
        return cast(ValleySimulation, self.first("valley"))

    def k(self, problem: str) -> int:
        """The size of the problem's dominant subspace."""
        return Valley.k if problem == "valley" else self.parameters.outliers

    def values(self, problem: str, seed: int, case: str, quantity: str) -> pd.Series:
        """A quantity of a case by its index (``runs.simulation``); empty where there is none."""
        table = self.runs[problem, seed].table
        rows = table[(table["case"] == case) & (table["quantity"] == quantity)]
        return rows.set_index("index")["value"]

    def branch(self, problem: str, case: str, seed: int) -> Trajectory:
        """A case as a run of its own, a row a step, its first row that of the switch."""
        run = self.runs[problem, seed]
        rows = run.table[run.table["case"] == case]
        table = rows.pivot(index="index", columns="quantity", values="value")
        table = table.rename_axis("step").reset_index().astype({"step": "int64"})
        status = COMPLETE if table["step"].max() == run.experiment.steps else run.status
        return Trajectory(run.experiment, table, status, None, run.provenance)

    def of(self, problem: str, case: str) -> list[Trajectory]:
        """A case of each seed, in the order of the seeds."""
        return [self.branch(problem, case, seed) for seed in self.parameters.seeds]

    def by_batch_size(self, problem: str) -> dict[int | str, str]:
        """The cases by batch size, in ascending order, the full batch last."""
        e = self.first(problem)
        sizes = {size: f"batch {size}" for size in e.batch_sizes} | {e.batch_size: "SGD"}
        return {size: sizes[size] for size in sorted(sizes)} | {FULL: "GD"}

    def predicted_alignment(self, problem: str, seed: int, size: int | str) -> float:
        """√(E‖P_k∇L‖²/E‖∇L‖²) by the closed forms at the end of the run, by batch size.

        In the valley a batch of B divides the noise's variance by B: c and s by √B.
        """
        if size == FULL:
            return 0.0
        if problem == "regression":
            return float(self.values(problem, seed, "predicted", "energy")[size])
        e, root = self.valley, np.sqrt(size)
        valley = Valley(e.condition, e.cross / root, e.shift / root)
        return valley.stationary_alignment(e.learning_rate, _distance(e))

    def error(self, seed: int, part: str) -> float:
        """Relative error of simulated stationary variances against their closed form.

        ``part`` "valley": the largest over ηκ, c and y. "dominant": the largest over the dominant
        eigenvectors of the regression. "bulk": that of the mean of simulated over expected in the bulk,
        whose directions have not all settled: against the exact moments over the same steps.
        """
        if part == "valley":
            cases = [self.ratios("valley", seed, case, "expected") for case in ("ηκ", "c", "y")]
            return float(pd.concat(cases).sub(1).abs().max(skipna=False))
        kind = "stationary" if part == "dominant" else "expected"
        ratios, k = self.ratios("regression", seed, "settled", kind), self.parameters.outliers
        if part == "dominant":
            return float(ratios.iloc[:k].sub(1).abs().max(skipna=False))
        return abs(float(ratios.iloc[k:].mean()) - 1)

    def ratios(self, problem: str, seed: int, case: str, expected: str) -> pd.Series:
        """Simulated variance over what was expected, by the case's index."""
        variance = self.values(problem, seed, case, "variance")
        return variance / self.values(problem, seed, case, expected)


def _distance(e: ValleySimulation) -> float:
    """y of SGD on average at the end of the run."""
    return e.start[1] * (1 - e.learning_rate) ** e.steps


def valley_study(
    parameters: ValleyParameters, store: Store | None = None, *, compute: bool = True
) -> ValleyStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does."""
    parameters, get = parameters.resolved(), source(store, compute)
    # All descriptions first: a bad value is an error before anything runs.
    wanted = {
        (problem, seed): parameters.simulation(problem, seed)
        for seed in parameters.seeds
        for problem in PROBLEMS
    }
    return ValleyStudy(parameters, {key: get(simulation) for key, simulation in wanted.items()})


def tasks(parameters: ValleyParameters) -> Stages:
    """Seed by seed."""
    seeds = [parameters.model_copy(update={"seeds": (seed,)}) for seed in parameters.seeds]
    return ([(valley_study, p) for p in seeds],)
