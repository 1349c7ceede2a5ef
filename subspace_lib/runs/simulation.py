"""Problems small enough for many paths of SGD at once: the valley and the regression, and their branches.

A simulation measures in one long table: case, quantity, index, value. The index of a run's quantities is
its step, that of other quantities is named below. All values are means over ``paths`` independent paths: a
single path's loss at the switch depends on where its last noise has left it, and theory speaks of means.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from subspace_lib.experiment import RunDescription
from subspace_lib.runs.protocol import RUNNING, RunInProgress, State, as_tensor, as_text
from subspace_lib.theory.regression import Regression, spiked
from subspace_lib.theory.valley import Valley
from subspace_lib.trajectory import COMPLETE

COLUMNS = ("case", "quantity", "index", "value")
Row = tuple[str, str, float, float]
BRANCHES = ("SGD", "Dom-SGD", "Bulk-SGD", "GD", "back")  # they see the same batches
CLOSE = 100  # steps after the start and each change that are recorded one by one
RELAXATIONS = 10  # of a steep direction, before it counts as settled, and as many of measuring
BEYOND = 1e50  # a coordinate that large, or none at all, has diverged; its square is still a number
APPEARS, VANISHES = 0.8, 0.1  # levels of alignment whose first crossing is timed


class Simulation(RunDescription):
    """SGD up to ``switch_step``; from there SGD, Dom-SGD, Bulk-SGD, GD, and GD that goes ``back``.

    "back" is GD for ``full_steps``, then SGD again. Further branches take other batch sizes; the full batch
    is GD. All branches of the study's own batch size see the same batches.
    """

    learning_rate: float = Field(5e-4, gt=0, description="η")
    batch_size: int = Field(1, ge=1, description="samples")
    batch_sizes: tuple[int, ...] = (10, 100, 1000)
    steps: int = Field(20_000, ge=2, le=1_000_000)
    switch_step: int = Field(500, ge=1)
    full_steps: int = Field(500, ge=1, description="of GD before it goes back to SGD")
    paths: int = Field(200, ge=1, le=100_000)
    record_every: int = Field(100, ge=1)
    settle_paths: int = Field(5000, ge=1, le=1_000_000, description="for stationary variances")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.switch_step + self.full_steps >= self.steps:
            raise ValueError(
                f"switch_step + full_steps = {self.switch_step + self.full_steps} must be below "
                f"steps = {self.steps}"
            )
        sizes = self.batch_sizes
        if min(sizes, default=1) < 1 or len({*sizes, self.batch_size}) <= len(sizes):
            raise ValueError(
                f"batch_sizes = {list(sizes)} must be numbers of samples, different from each other and "
                f"from batch_size = {self.batch_size}"
            )
        return self

    def moments(self) -> list[int]:
        """Steps that are recorded."""
        changes = (0, self.switch_step, self.switch_step + self.full_steps)
        close = {c + i for c in changes for i in range(CLOSE + 1) if c + i <= self.steps}
        return sorted({*range(0, self.steps, self.record_every), self.steps, *close})

    @abstractmethod
    def problem(self) -> tuple[Valley | Regression, np.ndarray]:
        """The problem, and where its paths start."""

    @abstractmethod
    def settled(self) -> list[Row]:
        """Rows of what it settles at."""

    def random(self, *purpose: int) -> np.random.Generator:
        """Random numbers of the seed for a purpose."""
        return np.random.default_rng([self.seed, *purpose])


class ValleySimulation(Simulation):
    """Simulation of the two-dimensional valley (``subspace_lib.theory.valley``), from (x, y) = ``start``.

    What it settles at is measured at several ``sharpnesses`` (values of ηκ), ``crosses`` (c), and at
    several ``distances`` (y) with the sample losses shifted by ``distance_shift`` (s): cases "ηκ", "c" and
    "y", the index the value that varies. Quantities: "variance" of x and "expected", its closed form at the
    paths' own y; "energy" and "alignment", see ``SimulationRun``; for ηκ also "appears", the steps that SGD
    takes from the floor to alignment 0.8, and "vanishes", those of GD from there to 0.1.
    """

    kind: ClassVar[str] = "valley"

    condition: float = Field(1000.0, gt=1, description="κ")
    cross: float = Field(10.0, description="c")
    shift: float = Field(0.0, description="s")
    start: tuple[float, float] = (0.02, 1.0)
    sharpnesses: tuple[float, ...] = ()
    crosses: tuple[float, ...] = ()
    distances: tuple[float, ...] = ()
    distance_shift: float = 1.0

    k: ClassVar[int] = Valley.k

    @model_validator(mode="after")
    def _stable(self) -> Self:
        sharp = self.learning_rate * self.condition
        if not all(0.01 <= s < 2 for s in (sharp, *self.sharpnesses)):
            raise ValueError(
                f"learning_rate × condition = {sharp:g} and sharpnesses = {list(self.sharpnesses)} must be "
                "at least 0.01 and below 2, where SGD diverges"
            )
        if not all(self.distances):
            raise ValueError(f"distances = {list(self.distances)} must differ from 0, the minimum")
        return self

    @property
    def valley(self) -> Valley:
        """The problem."""
        return Valley(self.condition, self.cross, self.shift)

    def problem(self) -> tuple[Valley, np.ndarray]:
        """The valley, and where its paths start."""
        return self.valley, np.array(self.start)

    def settled(self) -> list[Row]:
        """Rows of what the valley settles at."""
        rows: list[Row] = []
        own = self.learning_rate
        for i, sharp in enumerate(self.sharpnesses):
            eta = sharp / self.condition
            rows += _settle(
                self, self.valley, eta, 1.0, ("ηκ", sharp), self.random(1, i), timed=True
            )
        for i, cross in enumerate(self.crosses):
            valley = Valley(self.condition, cross, self.shift)
            rows += _settle(self, valley, own, 1.0, ("c", cross), self.random(2, i))
        for i, distance in enumerate(self.distances):
            valley = Valley(self.condition, self.cross, self.distance_shift)
            rows += _settle(self, valley, own, distance, ("y", distance), self.random(3, i))
        return rows


def _settle(
    e: ValleySimulation,
    valley: Valley,
    eta: float,
    y: float,
    at: tuple[str, float],
    generator: np.random.Generator,
    *,
    timed: bool = False,
) -> list[Row]:
    """SGD from the floor at a distance y until x has settled, then what it settles at; then GD if timed."""
    relaxation = 1 / (1 - abs(1 - eta * valley.condition))
    wait = math.ceil(RELAXATIONS * relaxation)
    points = np.broadcast_to([0.0, y], (e.settle_paths, 2)).copy()
    sums, count, appears = np.zeros(5), 0, math.nan
    unit = Valley(valley.condition, 1.0).stationary_variance(eta, 1.0)  # for noise of variance 1
    for step in range(1, 2 * wait + 1):
        signs = valley.draw(generator, 1, e.settle_paths)
        points = points - eta * (valley.gradient(points) + valley.noise(points, signs))
        gradient = np.square(valley.gradient(points)).mean(0)
        if math.isnan(appears) and gradient[0] >= APPEARS**2 * gradient.sum():
            appears = step
        if step > wait:
            expected = unit * (valley.cross * points[:, 1] + valley.shift) ** 2
            measured = (points[:, 0] ** 2).mean(), expected.mean(), *gradient
            sums += *measured, valley.alignment(points).mean()
            count += 1
    variance, expected, steep, flat, aligned = sums / count
    found = {"variance": variance, "expected": expected, "alignment": aligned}
    found["energy"] = math.sqrt(steep / (steep + flat))
    if timed:
        found |= {"appears": appears, "vanishes": _vanishes(valley, eta, points, 2 * wait)}
    return [(at[0], name, at[1], value) for name, value in found.items()]


def _vanishes(valley: Valley, eta: float, points: np.ndarray, limit: int) -> float:
    """Steps of GD until the alignment is at most 0.1; NaN beyond the limit."""
    for step in range(limit + 1):
        gradient = np.square(valley.gradient(points)).mean(0)
        if gradient[0] <= VANISHES**2 * gradient.sum():
            return step
        points = points - eta * valley.gradient(points)
    return math.nan


class RegressionSimulation(Simulation):
    """Simulation of the regression (``theory.regression``), from w = 0, its data drawn by the seed.

    Case "settled", the index the direction 1 … D: "eigenvalue"; "variance" of SGD along it on
    ``settle_paths`` paths from the minimum, as a mean over the second half of ``settle_steps``; "expected",
    its exact moments over the same steps; "at minimum" and "stationary", the closed forms without and with
    the feedback of SGD's own variance. Case "predicted", the index the batch size: "energy" at the end.
    """

    kind: ClassVar[str] = "regression"

    learning_rate: float = Field(1e-3, gt=0, description="η")
    batch_size: int = Field(10, ge=1, description="samples, drawn with replacement")
    batch_sizes: tuple[int, ...] = (1, 40, 160)
    steps: int = Field(2000, ge=2, le=1_000_000)
    switch_step: int = Field(200, ge=1)
    full_steps: int = Field(200, ge=1)
    paths: int = Field(20, ge=1, le=1000)
    record_every: int = Field(10, ge=1)
    settle_paths: int = Field(500, ge=1, le=10_000)
    settle_steps: int = Field(1500, ge=2, le=100_000)
    dimension: int = Field(200, ge=2, le=2000)
    samples: int = Field(1000, ge=2, le=100_000)
    outliers: int = Field(10, ge=1)
    signal: float = Field(0.5, gt=0, description="standard deviation of the true weights")
    label_noise: float = Field(1.0, gt=0, description="standard deviation")

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if not self.outliers < self.dimension < self.samples:
            raise ValueError(
                f"outliers = {self.outliers} must be below dimension = {self.dimension}, and that below "
                f"samples = {self.samples}"
            )
        return self

    @property
    def k(self) -> int:
        """The size of the dominant subspace."""
        return self.outliers

    def problem(self) -> tuple[Regression, np.ndarray]:
        """The regression with the seed's data, and where its paths start."""
        problem = spiked(
            self.seed, self.dimension, self.samples, self.outliers, self.signal, self.label_noise
        )
        return problem, problem.start

    def settled(self) -> list[Row]:
        """Rows of what the regression settles at, and of the predicted alignment."""
        (problem, _), eta, batch = self.problem(), self.learning_rate, self.batch_size
        generator, half = self.random(1), self.settle_steps // 2
        points = np.zeros((1, self.settle_paths, self.dimension))
        variance = np.zeros(self.dimension)
        for step in range(1, self.settle_steps + 1):
            drawn = problem.draw(generator, batch, self.settle_paths)
            points = points - eta * (problem.gradient(points) + problem.noise(points, drawn))
            if step > half:
                variance += np.square(points[0]).mean(0) / (self.settle_steps - half)
        moments = problem.moments(eta, batch, self.settle_steps)
        found = {
            "eigenvalue": problem.values,
            "variance": variance,
            "expected": moments[half + 1 :].mean(0),
            "at minimum": problem.stationary_variance(eta, batch, feedback=False),
            "stationary": problem.stationary_variance(eta, batch),
        }
        rows: list[Row] = [
            ("settled", name, i, value)
            for name, values in found.items()
            for i, value in enumerate(values, 1)
        ]
        for size in sorted({batch, *self.batch_sizes}):
            energy = problem.predicted_alignment(eta, size, self.steps)
            rows.append(("predicted", "energy", size, energy))
        return rows


class SimulationRun(RunInProgress):
    """A simulation in progress. It takes seconds, is one step, and keeps nothing in a checkpoint.

    Quantities of a case, "start" up to the switch and one of ``BRANCHES`` or "batch B" after it:
    "train_loss"; "alignment", the mean of χ_k of the full gradient; "energy", √(mean‖P_k∇L‖²/mean‖∇L‖²);
    for "start" and "SGD" "steep" and "flat", the mean squared distance from the minimum in the dominant
    subspace and outside.
    """

    experiment: Simulation

    def __init__(self, experiment: Simulation):
        super().__init__(experiment)
        self.problem, self.start = experiment.problem()
        self.moments = set(experiment.moments())
        self.rows: list[Row] = []

    def _advance(self) -> None:
        """All branches, then the closer look."""
        self.rows = []
        with np.errstate(all="ignore"):  # a branch that diverges says so in the status
            self._branch()
            self.rows += self.experiment.settled()
        self.step = self.experiment.steps
        if self.status == RUNNING:
            self.status = COMPLETE

    def _branch(self) -> None:
        e = self.experiment
        start = np.broadcast_to(self.start, (1, e.paths, len(self.start)))
        point = self._follow(("start",), e.batch_size, start, 0, e.switch_step)
        groups = [(BRANCHES, e.batch_size), *[((f"batch {b}",), b) for b in e.batch_sizes]]
        for names, batch in groups:
            points = np.repeat(point, len(names), 0)
            self._follow(names, batch, points, e.switch_step, e.steps)

    def _follow(
        self, names: Sequence[str], batch: int, points: np.ndarray, first: int, last: int
    ) -> np.ndarray:
        """Points (cases, paths, D) from a step to another, in steps of the same batches."""
        e, problem = self.experiment, self.problem
        generator = e.random(0, batch, first)
        keep = np.stack([self._kept(name) for name in names])[:, None, :]
        for step in range(first, last):
            if step in self.moments:
                self._record(names, step, points)
            noisy = np.array([self._noisy(name, step) for name in names])[:, None, None]
            noise = problem.noise(points, problem.draw(generator, batch, e.paths))
            gradient = problem.gradient(points) + noisy * noise
            points = points - e.learning_rate * keep * gradient
            if not np.abs(points).max() < BEYOND:
                if self.status == RUNNING:
                    self.status = f"diverged at step {step + 1}"
                return points
        self._record(names, last, points)
        return points

    def _kept(self, name: str) -> np.ndarray:
        dominant = np.arange(len(self.start)) < self.problem.k
        whole = np.ones(len(dominant))
        return {"Dom-SGD": dominant, "Bulk-SGD": ~dominant}.get(name, whole).astype(float)

    def _noisy(self, name: str, step: int) -> float:
        e = self.experiment
        quiet = name == "GD" or (name == "back" and step < e.switch_step + e.full_steps)
        return 0.0 if quiet else 1.0

    def _record(self, names: Sequence[str], step: int, points: np.ndarray) -> None:
        k, squares = self.problem.k, points**2
        losses = self.problem.floor + (squares * self.problem.values).sum(-1).mean(-1) / 2
        energy = np.square(self.problem.gradient(points))
        steep, whole = energy[..., :k].sum(-1), energy.sum(-1)
        for i, name in enumerate(names):
            found = {
                "train_loss": losses[i],
                "alignment": np.sqrt(steep[i] / whole[i]).mean(),
                "energy": math.sqrt(steep[i].mean() / whole[i].mean()),
            }
            if name in ("start", "SGD"):
                found["steep"] = squares[i, :, :k].sum(-1).mean()
                found["flat"] = squares[i, :, k:].sum(-1).mean()
            self.rows += [(name, quantity, step, value) for quantity, value in found.items()]

    def table(self) -> pd.DataFrame:
        """The measurements, one a row, in the order case, quantity, index."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        table = table.astype({"index": "float64", "value": "float64"})
        return table.sort_values(list(COLUMNS[:3]), kind="stable", ignore_index=True)

    def _own_state(self) -> State:
        return {"rows": as_tensor(json.dumps(self.rows))}

    def _load_own_state(self, state: State) -> None:
        rows = json.loads(as_text(state["rows"]))
        self.rows = [(case, quantity, index, value) for case, quantity, index, value in rows]
