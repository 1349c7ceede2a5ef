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
from typing import Annotated, ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from subspace_lib.evidence import windows
from subspace_lib.experiment import Count, Every, Rate, RunDescription
from subspace_lib.runs.protocol import RUNNING, RunInProgress, State, as_tensor, as_text
from subspace_lib.theory.regression import OUTLIERS, Regression, spiked
from subspace_lib.theory.valley import Valley
from subspace_lib.trajectory import COMPLETE

COLUMNS = ("case", "quantity", "index", "value")
Row = tuple[str, str, float, float]
Cross = Annotated[float, Field(ge=-1e9, le=1e9)]
BRANCHES = ("SGD", "Dom-SGD", "Bulk-SGD")  # they see the same batches
CLOSE = 100  # steps after a start that are recorded one by one
OFTEN = 10  # of so many steps of GD and back one is recorded
RELAXATIONS = 10  # of a steep direction, before it counts as settled
MEASURED = 50  # relaxations over which it is then measured
BEYOND = 1e50  # a coordinate that large, or none at all, has diverged; its square is still a number
LONGEST = 1_000_000  # steps of any part, as of other kinds of run
VALLEY_TIMES = 2  # in units of 1/η, after which y is down to e⁻²


class Simulation(RunDescription):
    """SGD up to ``switch_step``; from there SGD, Dom-SGD and Bulk-SGD on the same batches; and GD and back.

    GD at the same η takes so many relaxation times of the dominant direction that relaxes last, 1/(ηλ_k),
    then SGD follows: by default as C4 is judged.
    """

    learning_rate: Rate = Field(1e-5, description="η")
    batch_size: Count = Field(1, description="samples")
    steps: int = Field(200_000, ge=2, le=LONGEST)
    switch_step: int = Field(2000, ge=windows.BEFORE_WINDOW)
    paths: int = Field(200, ge=1, le=100_000)
    record_every: Every = 1000
    settle_paths: int = Field(1000, ge=1, le=1_000_000, description="for stationary variances")
    without_noise: float = Field(
        windows.WITHOUT_NOISE, gt=0, description="GD, in units of 1/(ηλ_k)"
    )
    again: int = Field(windows.AGAIN, ge=1, le=LONGEST, description="steps of SGD after GD")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.switch_step >= self.steps:
            raise ValueError(f"switch_step = {self.switch_step} must be below steps = {self.steps}")
        steps = self.without_noise / (self.learning_rate * self.steepness)
        if not steps <= LONGEST:
            raise ValueError(
                f"learning_rate = {self.learning_rate:g}: GD would take {steps:.0e} steps for "
                f"without_noise = {self.without_noise:g}, and {LONGEST:,} are the most; choose a larger η"
            )
        return self

    @property
    @abstractmethod
    def steepness(self) -> float:
        """λ_k, at least about."""

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

    What it settles at, and what Bulk-SGD makes of it, is measured for each of ``sharpnesses`` (ηκ) and
    ``crosses`` (c): cases "ηκ = …", the index c. Quantities: "share", a in closed form; "variance" of x
    and "expected", its closed form at the paths' own y; "alignment", the mean of χ₁ of the full gradient,
    and "typical", √(mean‖P₁∇L‖²/mean‖∇L‖²); "progress" of Bulk-SGD from there on, over 2/η steps.
    """

    kind: ClassVar[str] = "valley"

    condition: float = Field(1000.0, gt=1, le=1e9, description="κ")
    cross: Cross = Field(100.0, description="c")
    start: tuple[float, float] = (0.02, 1.0)
    sharpnesses: tuple[Annotated[float, Field(ge=1e-9, le=2)], ...] = ()
    crosses: tuple[Cross, ...] = ()

    k: ClassVar[int] = Valley.k

    @model_validator(mode="after")
    def _converges(self) -> Self:
        for sharp, cross in [
            (self.learning_rate * self.condition, self.cross),
            *((sharp, cross) for sharp in self.sharpnesses for cross in self.crosses),
        ]:
            eta = sharp / self.condition
            lost = Valley(self.condition, cross).feedback(eta) if sharp > 0 else math.nan
            if not lost < 1:
                raise ValueError(
                    f"ηκ = {sharp:.12g} with cross = {cross:g} is not possible: SGD must converge in mean "
                    "square (ηκ below 2, the noise not too large); choose other values of learning_rate, "
                    "condition, cross, sharpnesses or crosses"
                )
        return self

    @model_validator(mode="after")
    def _settles(self) -> Self:
        for sharp in self.sharpnesses:  # below 2, or ``_converges`` has refused them
            steps = (RELAXATIONS + MEASURED) / (1 - abs(1 - sharp))
            steps = max(steps, VALLEY_TIMES * self.condition / sharp)
            if not steps <= LONGEST:
                raise ValueError(
                    f"sharpnesses = {sharp:.12g}: x and y would take {steps:.0e} steps to settle, and "
                    f"{LONGEST:,} are the most; choose values well within 0 … 2, or a smaller condition"
                )
        return self

    @property
    def steepness(self) -> float:
        """λ₁."""
        return self.condition

    @property
    def valley(self) -> Valley:
        """The problem."""
        return Valley(self.condition, self.cross)

    def problem(self) -> tuple[Valley, np.ndarray]:
        """The valley, and where its paths start."""
        return self.valley, np.array(self.start)

    def settled(self) -> list[Row]:
        """Rows of what the valley settles at."""
        rows: list[Row] = []
        for i, sharp in enumerate(self.sharpnesses if self.crosses else ()):
            found = _settle(self, sharp / self.condition, self.random(1, i))
            rows += [
                (case_of(sharp), name, cross, float(value))
                for name, values in found.items()
                for cross, value in zip(self.crosses, values, strict=True)
            ]
        return rows


def case_of(sharpness: float) -> str:
    """The case of a value of ηκ."""
    return f"ηκ = {sharpness:g}"


def _settle(
    e: ValleySimulation, eta: float, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """SGD from the floor at y = 1 until x has settled, measured for a while; then Bulk-SGD beside SGD.

    All ``crosses`` (C,) at once: every quantity has shape (C,).
    """
    valley, cross = Valley(e.condition, 1.0), np.array(e.crosses)[:, None]
    wait = math.ceil(1 / (1 - abs(1 - eta * e.condition)))
    points = np.broadcast_to([0.0, 1.0], (len(cross), e.settle_paths, 2))
    sums = np.zeros((3, len(cross)))
    for step in range((RELAXATIONS + MEASURED) * wait):
        points = points - eta * _sample_gradient(valley, cross, points, generator)
        if step >= RELAXATIONS * wait:
            sums[:2] += np.square(points).mean(1).T
            sums[2] += valley.alignment(points).mean(1)
    steep, flat, aligned = sums / (MEASURED * wait)
    energy = steep * e.condition**2
    return {
        "share": valley.share(eta) * cross[:, 0] ** 2,
        "variance": steep,
        "expected": valley.stationary_variance(eta, 1.0) * cross[:, 0] ** 2 * flat,
        "typical": np.sqrt(energy / (energy + flat)),
        "alignment": aligned,
        "progress": _bulk_progress(valley, cross, eta, points, generator),
    }


def _bulk_progress(
    valley: Valley, cross: np.ndarray, eta: float, points: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Progress of Bulk-SGD from points (C, paths, 2), on the same samples as SGD; shape (C,)."""
    kept = np.array([[1.0, 1.0], [0.0, 1.0]])[:, None, None, :]  # SGD, Bulk-SGD
    at_switch = valley.loss(points).mean(-1)
    steps = math.ceil(VALLEY_TIMES / eta)
    last = math.ceil(windows.TAIL * steps)
    losses = np.zeros((2, len(cross)))
    for step in range(steps):
        points = points - eta * kept * _sample_gradient(valley, cross, points, rng)
        if step >= steps - last:
            losses += valley.loss(points).mean(-1) / last
    gained = at_switch - losses
    return np.asarray(gained[1] / gained[0])


def _sample_gradient(
    unit: Valley, cross: np.ndarray, points: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """At points (…, C, paths, 2) of valleys with ``cross`` (C, 1) in place of 1; a sample for each path."""
    signs = cross * unit.draw(generator, 1, points.shape[-2])
    return unit.gradient(points) + unit.noise(points, signs)


class RegressionSimulation(Simulation):
    """Simulation of the regression (``theory.regression``), from w = 0, its data drawn by the seed.

    Case "settled", the index the direction 1 … D: "eigenvalue"; "variance" of SGD along it on
    ``settle_paths`` paths from the minimum, as a mean over the second half of ``settle_steps``; "expected",
    its exact moments over the same steps; "at minimum" and "stationary", the closed forms without and with
    the feedback of SGD's own variance.
    """

    kind: ClassVar[str] = "regression"

    learning_rate: Rate = Field(1e-3, description="η")
    batch_size: Count = Field(10, description="samples, drawn with replacement")
    steps: int = Field(2000, ge=2, le=LONGEST)
    switch_step: int = Field(200, ge=windows.BEFORE_WINDOW)
    paths: int = Field(20, ge=1, le=1000)
    record_every: Every = 10
    settle_paths: int = Field(500, ge=1, le=10_000)
    settle_steps: int = Field(1500, ge=2, le=100_000)
    dimension: int = Field(200, ge=2, le=2000)
    samples: int = Field(1000, ge=2, le=100_000)
    outliers: int = Field(10, ge=1)
    signal: float = Field(0.5, gt=0, le=1e9, description="standard deviation of the true weights")
    label_noise: float = Field(1.0, gt=0, le=1e9, description="standard deviation")

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if not self.outliers < self.dimension < self.samples:
            raise ValueError(
                f"outliers = {self.outliers} must be below dimension = {self.dimension}, and that below "
                f"samples = {self.samples}"
            )
        if self.batch_size > self.samples:
            raise ValueError(
                f"batch_size = {self.batch_size} must be at most {self.samples} samples"
            )
        return self

    @property
    def steepness(self) -> float:
        """λ_k of the features' covariance; that of the samples is near it."""
        return OUTLIERS[1]

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
        """Rows of what the regression settles at."""
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
        return [
            ("settled", name, i, value)
            for name, values in found.items()
            for i, value in enumerate(values, 1)
        ]


class SimulationRun(RunInProgress):
    """A simulation in progress. It takes seconds, is one step, and keeps nothing in a checkpoint.

    Cases: "start" up to the switch, then each of ``BRANCHES``, and "GD" and after it "back". Quantities:
    "train_loss"; "alignment", the mean of χ_k of the full gradient;
    "steep" and "flat", the mean squared distance from the minimum in the dominant subspace and outside.
    """

    experiment: Simulation

    def __init__(self, experiment: Simulation):
        super().__init__(experiment)
        self.problem, self.start = experiment.problem()
        self.rows: list[Row] = []

    def _advance(self) -> None:
        """All branches, then what it settles at."""
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
        point = self._follow(("start",), start, 0, e.switch_step, windows.BEFORE_WINDOW)
        if self.status != RUNNING:
            return
        self._follow(BRANCHES, np.repeat(point, len(BRANCHES), 0), e.switch_step, e.steps)
        steepness = e.learning_rate * self.problem.values[self.problem.k - 1]
        steps = math.ceil(e.without_noise / steepness)
        tail = math.ceil(windows.WITHOUT_NOISE_TAIL * steps)
        last = e.switch_step + steps
        point = self._follow(("GD",), point, e.switch_step, last, tail, OFTEN)
        self._follow(("back",), point, last, last + e.again, windows.AGAIN_WINDOW, OFTEN)

    def _follow(
        self,
        names: Sequence[str],
        points: np.ndarray,
        first: int,
        last: int,
        at_end: int = 0,
        every: int | None = None,
    ) -> np.ndarray:
        """Points (cases, paths, D) from a step to another on the same batches; its end recorded closely."""
        e, problem = self.experiment, self.problem
        generator, noisy = e.random(0, first), "GD" not in names
        keep = np.stack([self._kept(name) for name in names])[:, None, :]
        every = every or e.record_every
        for step in range(first, last):
            if step % every == 0 or step <= first + CLOSE or step >= last - at_end:
                self._record(names, step, points)
            gradient = problem.gradient(points)
            if noisy:
                drawn = problem.draw(generator, e.batch_size, e.paths)
                gradient = gradient + problem.noise(points, drawn)
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

    def _record(self, names: Sequence[str], step: int, points: np.ndarray) -> None:
        k, squares = self.problem.k, points**2
        losses = self.problem.floor + (squares * self.problem.values).sum(-1).mean(-1) / 2
        energy = np.square(self.problem.gradient(points))
        steep, whole = energy[..., :k].sum(-1), energy.sum(-1)
        for i, name in enumerate(names):
            found = {
                "train_loss": losses[i],
                "alignment": np.sqrt(steep[i] / whole[i]).mean(),
                "steep": squares[i, :, :k].sum(-1).mean(),
                "flat": squares[i, :, k:].sum(-1).mean(),
            }
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
