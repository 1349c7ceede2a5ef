"""Two quadratics with noise, the valley and a regression: do they show what the networks show (C5)?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import pandas as pd
from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import Plan, Profiled, described_first, source
from subspace_lib.chapters.kit.typed import distinct, numbers
from subspace_lib.evidence import criteria
from subspace_lib.experiment import Seed
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store
from subspace_lib.runs.simulation import RegressionSimulation, Simulation, ValleySimulation, case_of
from subspace_lib.trajectory import COMPLETE, Trajectory, progress

PROBLEMS = ("valley", "regression")
SHARED = ("learning_rate", "steps", "switch_step", "paths", "record_every", "settle_paths")
VALLEY = ("condition", "cross", "sharpnesses", "crosses")
REGRESSION = ("dimension", "samples", "outliers", "signal", "label_noise")


class ValleyParameters(Profiled):
    """Parameters of the study: of the valley, of the regression (``regression_`` where both have one).

    ``sharpnesses`` are values of ηκ, ``crosses`` of c, for each of which the valley's closed forms are
    simulated. Bounds are those of ``subspace_lib.runs.simulation``.
    """

    # A steeper step, and a cross term with the same ηc²: a tenth of the steps for the same picture.
    QUICK: ClassVar[dict[str, Any]] = {
        "seeds": (0, 1, 2),
        "learning_rate": 1e-4,
        "cross": 31.6,
        "steps": 20_000,
        "switch_step": 500,
        "record_every": 100,
        "paths": 100,
        "sharpnesses": (0.5, 1.0),
        "settle_paths": 500,
        "regression_steps": 1000,
        "regression_paths": 10,
        "regression_settle_paths": 300,
    }

    condition: float = 1000.0
    cross: float = 100.0
    learning_rate: float = 1e-5
    steps: int = 200_000
    switch_step: int = 2000
    paths: int = 200
    record_every: int = 1000
    sharpnesses: tuple[float, ...] = Field((0.1, 0.2, 0.5, 1.0), min_length=1)
    crosses: tuple[float, ...] = Field((3.0, 10.0, 30.0, 100.0), min_length=1)
    settle_paths: int = 1000
    dimension: int = 200
    samples: int = 1000
    outliers: int = 10
    signal: float = 0.5
    label_noise: float = 1.0
    regression_learning_rate: float = 1e-3
    regression_batch_size: int = 10
    regression_steps: int = 2000
    regression_switch_step: int = 200
    regression_paths: int = 20
    regression_record_every: int = 10
    regression_settle_paths: int = 500
    seeds: tuple[Seed, ...] = Field((11, 12, 13), min_length=1)

    @field_validator("sharpnesses", "crosses", "seeds", mode="before")
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
            return ValleySimulation.parse(**self._fields((*SHARED, *VALLEY)), seed=seed)
        own = (*SHARED, "batch_size")
        try:
            return RegressionSimulation.parse(
                **self._fields(REGRESSION), **self._fields(own, "regression_"), seed=seed
            )
        except InvalidParameter as error:  # of a parameter by the name that it has here
            mine = str(error).partition(" ")[0] in own
            raise InvalidParameter(f"regression_{error}" if mine else str(error)) from None

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

    def values(self, problem: str, seed: int, case: str, quantity: str) -> pd.Series:
        """A quantity of a case by its index (``runs.simulation``); empty where there is none."""
        table = self.runs[problem, seed].table
        rows = table[(table["case"] == case) & (table["quantity"] == quantity)]
        return rows.set_index("index")["value"]

    def branch(self, problem: str, case: str, seed: int) -> Trajectory:
        """A case as a run of its own, a row a recorded step; one that ended early has diverged."""
        run = self.runs[problem, seed]
        rows = run.table[run.table["case"] == case]
        table = rows.pivot(index="index", columns="quantity", values="value")
        table = table.rename_axis("step").reset_index().astype({"step": "int64"})
        status = COMPLETE if table["step"].max() == run.experiment.steps else run.status
        return Trajectory(run.experiment, table, status, None, run.provenance)

    def of(self, problem: str, case: str) -> list[Trajectory]:
        """A case of each seed, in the order of the seeds."""
        return [self.branch(problem, case, seed) for seed in self.parameters.seeds]

    def progresses(self, problem: str, case: str) -> list[float]:
        """Progress of a case by seed."""
        pairs = zip(self.of(problem, "SGD"), self.of(problem, case), strict=True)
        return [progress(*pair) for pair in pairs]

    def alignments(self, problem: str, seed: int) -> tuple[float, float, float]:
        """C4's three: SGD before the switch, GD at its end, SGD again at its end; NaN if SGD diverged."""
        start, gd, back = (
            self.values(problem, seed, case, "alignment") for case in ("start", "GD", "back")
        )
        if not len(back):
            return (math.nan,) * 3
        first, last = gd.index[0], gd.index[-1]
        without = gd[gd.index >= last - criteria.WITHOUT_NOISE_TAIL * (last - first)]
        before = start.iloc[-criteria.BEFORE_WINDOW - 1 : -1]
        again = back.iloc[-criteria.AGAIN_WINDOW :]
        return float(before.mean()), float(without.mean()), float(again.mean())

    def ratios(self, seed: int, of: str) -> pd.Series:
        """Simulated stationary variances over their closed form.

        ``of`` "valley": for every ηκ and c, and for SGD of the valley itself. "dominant", "at minimum": for
        each dominant eigenvector of the regression, with and without SGD's own share in the noise. "bulk":
        for each of the others, which do not all settle in a run, over the exact moments of the same steps.
        """
        if of == "valley":
            cases = [case_of(sharp) for sharp in self.valley.sharpnesses]
            swept = [self._ratio("valley", seed, case, "expected") for case in cases]
            return pd.concat([*swept, self._own_ratio(seed)])
        expected = {"dominant": "stationary", "bulk": "expected"}.get(of, of)
        ratios, k = self._ratio("regression", seed, "settled", expected), self.parameters.outliers
        return ratios.iloc[k:] if of == "bulk" else ratios.iloc[:k]

    def _ratio(self, problem: str, seed: int, case: str, expected: str) -> pd.Series:
        simulated = self.values(problem, seed, case, "variance")
        return simulated / self.values(problem, seed, case, expected)

    def _own_ratio(self, seed: int) -> pd.Series:
        """The mean over SGD's rows, without those that follow each other too closely to differ."""
        e = self.valley
        steep, flat = (self.values("valley", seed, "SGD", name) for name in ("steep", "flat"))
        ratio = steep / (flat * e.valley.stationary_variance(e.learning_rate, 1.0))
        return pd.Series({e.cross: ratio[ratio.index % e.record_every == 0].mean()})

    def error(self, seed: int, of: str) -> float:
        """The largest relative error of ``ratios``; "bulk": that of their mean."""
        errors = self.ratios(seed, of) - 1
        return float(abs(errors.mean()) if of == "bulk" else errors.abs().max(skipna=False))


@described_first
def valley_study(
    parameters: ValleyParameters, store: Store | None = None, *, compute: bool | Plan = True
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
