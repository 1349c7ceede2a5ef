"""What training costs more than plain SGD, once the subspace is followed, projected on, and recorded.

All runs go on from one point after the switch, in one process, by turns of ``TURN`` steps: what disturbs
the machine disturbs them alike. Their cold start is done once, and counted apart.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subspace_lib import data, models
from subspace_lib.benchmark.problem import K
from subspace_lib.experiment import Experiment
from subspace_lib.linalg.eigensolver import sin_largest_angle, top_eigenpairs
from subspace_lib.objective import Objective
from subspace_lib.results.checkpoint import read_tensors, write_tensors
from subspace_lib.results.store import REPOSITORY
from subspace_lib.runs.protocol import RUNNING, State
from subspace_lib.runs.trainer import Trainer
from subspace_lib.runs.training import Run
from subspace_lib.subspace import DominantSubspace

TURN = 100  # steps
ROWS = 90  # steps from one recorded row to the next, where there are rows
SEED = 0  # of pilots: nothing is judged here
POINTS = REPOSITORY / ".benchmark"  # where training has come before; not part of the repository
DESCRIBED = ("dataset", "model", "preprocessing", "learning_rate")


@dataclass(frozen=True)
class Way:
    """One way to train that needs the subspace.

    Attributes:
        projection: of the updates; rows: whether there are recorded rows.
        follows: at every step, or at rows only.
        budget: at most so many times the price of SGD, as far as the subspace goes; None for no limit.
        checks: random steps at which its basis is compared with the exact one.
    """

    projection: str
    rows: bool
    follows: bool = True
    budget: float | None = None
    checks: int = 0


@dataclass(frozen=True)
class Price:
    """A network after its switch, and the ways to go on from there.

    Attributes:
        start: step to which plain SGD has trained; steps: measured from there on.
        k: of the subspace; exact: precision of the solves that the bases are compared with.
    """

    dataset: str
    model: str
    preprocessing: str
    learning_rate: float
    start: int
    steps: int
    ways: tuple[Way, ...]
    exact: torch.dtype = torch.float32
    k: int = K

    def experiment(self, **fields: Any) -> Experiment:
        """A run of this network. It ends after what is measured: no last row falls into that."""
        own = {name: getattr(self, name) for name in DESCRIBED}
        span = {"switch_step": self.start, "steps": self.start + self.steps + 2}
        no_rows = {"record_every": None, "spectrum_every": None}
        return Experiment.parse(**{**own, **span, **no_rows, "k": self.k, "seed": SEED, **fields})


BUDGETS = (2.0, 4.0, 8.0)
BARE = tuple(Way(name, rows=False, checks=17) for name in ("none", "dominant", "bulk"))
ONCE = tuple(Way(way.projection, rows=False, checks=1) for way in BARE)
WITHIN = tuple(Way(way.projection, rows=False, budget=10.0, checks=1) for way in BARE)
PRICES = {
    "mlp": Price(
        "mnist5k",
        "mlp",
        "unit",
        0.01,
        2500,
        2000,
        (
            Way("none", rows=True, follows=False),
            *BARE,
            *(Way(way.projection, rows=True) for way in BARE[1:]),
            *(Way("dominant", rows=False, budget=b, checks=2) for b in BUDGETS),
        ),
        torch.float64,
    ),
    # A refresh takes as long as a thousand steps and more: rows on one way only.
    "cnn": Price(
        "cifar10_5k",
        "cnn",
        "per_pixel",
        0.001,
        3500,
        2000,
        (
            *ONCE,
            Way("dominant", rows=True),
        ),
    ),
    "transformer": Price(
        "sst2_1k",
        "transformer",
        "tokens",
        0.001,
        1200,
        500,
        ONCE,
        k=2,
    ),
    # As in the chapter on other networks: a thousand images, after the step of its switch, with its budget.
    **{
        name: Price("cifar10_1k", name, "per_pixel", 0.01, 1000, 300, WITHIN)
        for name in ("vgg11_quarter", "resnet8_quarter")
    },
}


class Timed(Run):
    """A run that keeps apart what its process seconds go into.

    Attributes:
        total: seconds of all steps so far; following: of looks and refreshes; recording: of rows.
        looks: steps at which the basis was looked at or refreshed.
    """

    def __init__(self, experiment: Experiment, *, follows: bool = True):
        super().__init__(experiment)
        self.follows = follows
        self.total = self.following = self.recording = 0.0
        self.looks = 0
        self._before = 0.0

    @property
    def spent(self) -> float:
        """Gradient equivalents since the state that was loaded."""
        return self.objective.gradient_equivalents - self._before

    def load_state(self, state: State) -> None:
        """Continue from ``state()``."""
        super().load_state(state)
        self._before = self.objective.gradient_equivalents

    def go(self, steps: int) -> Tensor:
        """So many steps, timed; returns the θ that the last one started from.

        Raises:
            RuntimeError: the run has come to an end before.
        """
        theta, begun = self.theta, time.process_time()
        for _ in range(steps):
            theta = self.theta
            self.advance()
        self.total += time.process_time() - begun
        if self.status != RUNNING:
            raise RuntimeError(f"{self.experiment.method}: {self.status}; it cannot be priced.")
        return theta

    def _follow(self, gradient: Tensor, record: bool) -> None:
        begun = time.process_time()
        super()._follow(gradient, record)
        self.following += time.process_time() - begun
        self.looks += self.subspace.last_look == self.step

    def _record(self, gradient: Tensor, update: Tensor) -> None:
        begun = time.process_time()
        super()._record(gradient, update)
        self.recording += time.process_time() - begun


class Truth:
    """The exact dominant subspace, by products of its own: to a sine of 3e-3, or residuals of 1e-3 λ_1."""

    def __init__(self, setting: Price):
        dataset, self.dtype = data.load(setting.dataset, setting.preprocessing), setting.exact
        self.k = setting.k
        inputs = dataset.train_inputs
        self.objective = Objective(
            # The inputs: batch normalization takes its statistics from them.
            models.build(
                setting.model, dataset.shape, dataset.classes, SEED, inputs, dataset.prepare
            ),
            "mse",
            inputs,
            dataset.train_labels,
            chunk=models.CHUNKS[setting.model],
            dtype=setting.exact,
        )
        self._generator = torch.Generator().manual_seed(SEED)

    def check(self, theta: Tensor, used: DominantSubspace, step: int) -> dict[str, float]:
        """How far the basis used at this step is from the exact one at θ, and what it was known to be."""
        start, k = used.vectors, self.k
        assert start is not None  # the step has used it
        # A random column, lest what the tracker has missed be missed once more.
        more = torch.randn(len(theta), 1, generator=self._generator) / len(theta) ** 0.5
        hessian = self.objective.hessian(theta.to(self.dtype))
        block = torch.cat([start[:, : k + 2], more], 1).to(self.dtype)
        pairs = top_eigenpairs(hessian, k, block, tolerance=1e-3, angle=3e-3)
        if not pairs.converged:
            raise RuntimeError(f"Step {step}: the exact subspace was not found.")
        exact, gradient = pairs.vectors[:, :k], hessian.gradient
        assert gradient is not None  # it comes with the first product
        true = float((exact.T @ gradient).norm() / gradient.norm())
        return {
            "step": step,
            "angle": sin_largest_angle(used.basis.to(exact), exact),
            "known": used.angle_at(step),
            "alignment_error": abs(used.alignment(gradient.to(theta)) - true),
        }


class Lap:
    """A way being measured: turn by turn, and at its marks against the exact subspace, off the clock."""

    def __init__(self, run: Timed, truth: Truth, marks: list[int]):
        self.run, self.truth, self.marks = run, truth, marks
        self.seen: list[dict[str, float]] = []

    def turn(self, steps: int) -> None:
        """So many steps, and the checks that fall into them."""
        run, end = self.run, self.run.step + steps
        while run.step < end:
            mark = next((m for m in self.marks if run.step <= m < end), None)
            theta = run.go((end if mark is None else mark + 1) - run.step)
            if mark is not None:
                self.seen.append(self.truth.check(theta, run.subspace, mark))


class Plain:
    """Plain SGD in the same turns."""

    def __init__(self, trainer: Trainer):
        self.trainer, self.total = trainer, 0.0

    def turn(self, steps: int) -> None:
        """So many steps, timed."""
        begun = time.process_time()
        for _ in range(steps):
            self.trainer.advance()
        self.total += time.process_time() - begun


def price(setting: Price, folder: Path = POINTS) -> dict[str, Any]:
    """Process seconds of every way over those of plain SGD, and how true its basis was at random steps.

    Plain SGD runs twice, before the first half of the ways in each turn and before the second.
    """
    begun, cold = cold_start(setting, folder)
    start, truth = begun.state(), Truth(setting)
    plain = [Plain(_trainer(setting, begun)) for _ in range(2)]
    laps = [
        Lap(_run(setting, way, begun, start), truth, _marks(setting, i))
        for i, way in enumerate(setting.ways)
    ]
    half = len(laps) // 2
    order: list[Plain | Lap] = [plain[0], *laps[:half], plain[1], *laps[half:]]
    for done in range(0, setting.steps, TURN):
        for lap in order:
            lap.turn(min(TURN, setting.steps - done))
    seconds = statistics.mean(each.total for each in plain)
    rows = [_row(setting, way, lap, seconds) for way, lap in zip(setting.ways, laps, strict=True)]
    gradients = [_seconds_of_a_gradient(begun) for _ in range(3)]
    return {
        **{name: getattr(setting, name) for name in (*DESCRIBED, "k", "start", "steps")},
        "parameters": truth.objective.dim,
        "exact": str(setting.exact).removeprefix("torch."),
        "plain_seconds": [each.total for each in plain],
        "gradient_seconds": statistics.median(gradients),
        "cold_start": cold,
        "rows": rows,
    }


def point(setting: Price, folder: Path = POINTS) -> State:
    """The state of plain SGD at ``start``: as it is kept in the folder, or trained now and kept there."""
    experiment = setting.experiment(switch_step=0, steps=setting.start)
    path = folder / f"{experiment.key}.safetensors"
    if not path.exists():
        trainer = Trainer(experiment)
        while trainer.step < setting.start:
            trainer.advance()
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(path, trainer.state())
    return read_tensors(path)


def cold_start(setting: Price, folder: Path = POINTS) -> tuple[Timed, dict[str, float]]:
    """A run that has taken the step at ``start``, with its cold start, and what that has cost."""
    run = Timed(setting.experiment())
    run.trainer.load_state(point(setting, folder))
    run.step, o = setting.start, run.objective
    before, products = o.gradient_equivalents, o.products
    run.go(1)
    spent = o.gradient_equivalents - before - run.experiment.batch_size / len(o)
    cost = {"gradient_equivalents": spent, "products": o.products - products}
    return run, {"seconds": run.following, **cost}


def _run(setting: Price, way: Way, begun: Timed, start: State) -> Timed:
    """A run that goes its own way from the cold start on, with the same data in memory."""
    fields = {"projection": way.projection, "budget": way.budget}
    run = Timed(
        setting.experiment(record_every=ROWS if way.rows else None, **fields), follows=way.follows
    )
    run.objective.inputs, run.trainer.test = begun.objective.inputs, begun.trainer.test
    run.load_state(start)
    return run


def _trainer(setting: Price, begun: Timed) -> Trainer:
    trainer = Trainer(setting.experiment())
    trainer.objective.inputs, trainer.test = begun.objective.inputs, begun.trainer.test
    trainer.load_state(begun.trainer.state())
    return trainer


def _marks(setting: Price, number: int) -> list[int]:
    """Random steps of the way of this number, in their order."""
    first = setting.start + 1
    steps = range(first, first + setting.steps)
    return sorted(random.Random(number).sample(steps, setting.ways[number].checks))


def _row(setting: Price, way: Way, lap: Lap, seconds: float) -> dict[str, Any]:
    run = lap.run
    return {
        "method": run.experiment.method,
        **{name: getattr(way, name) for name in ("projection", "rows", "follows", "budget")},
        "ratio": run.total / seconds,
        "following": run.following / seconds,
        "recording": run.recording / seconds,
        "refreshes": run.refreshes - 1,  # without the cold start
        "looks": run.looks,
        "gradient_equivalents": run.spent / setting.steps,
        "checks": lap.seen,
    }


def _seconds_of_a_gradient(run: Timed) -> float:
    begun = time.process_time()
    run.objective.gradient(run.theta)
    return time.process_time() - begun
