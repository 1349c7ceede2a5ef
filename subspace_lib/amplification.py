"""How a rule's updates compare with the gradient, part by part and eigendirection by eigendirection."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import Tensor

from subspace_lib import data, optimizers
from subspace_lib.eigensolver import top_eigenpairs
from subspace_lib.experiment import Experiment, ascending
from subspace_lib.protocol import as_tensor, as_text
from subspace_lib.quadratic import LinearRule, batch_noise, linear, window
from subspace_lib.survey import mean_squared_cosine
from subspace_lib.training import Run, Trajectory

TOLERANCE = 5e-3  # residual of the eigendirections, relative to λ₁
NARROW = 8  # columns of the random block that the eigensolver starts from
PARTS = ("dominant", "bulk")
COLUMNS = ("anchor", "quantity", "index", "value")
# Of every direction v, over the window's steps; those of preconditioned coordinates begin with "p_".
DIRECTION = (
    "eigenvalue",
    "noise",  # vᵀSv, S the covariance of single-sample gradients
    "gradient_start",  # vᵀg at the window's first step
    "state_start",  # vᵀm of the rule's mean of gradients there, in the units of Σ βʲ g; 0 without one
    "product",  # −Σ (vᵀu)(vᵀg)
    "square",  # Σ (vᵀg)²
    "update_square",
    "driven_product",  # the same sums in the quadratic model, driven by the noise that the batches had
    "driven_square",
)
# Of the two parts, index 0 dominant and 1 bulk.
PART = (
    "part_product",  # −Σ ⟨Pu, Pg⟩
    "part_square",  # Σ ‖Pg‖²
    "part_ratio",  # mean over steps of −⟨Pu, Pg⟩/‖Pg‖²
    "part_displacement",  # −⟨PΣu, PΣg⟩
    "part_gradient_square",  # ‖PΣg‖²
    "part_preconditioned",  # −Σ ⟨Pu', Pg⟩, u' the update from the preconditioner and this step's gradient
    "part_carried",  # the same, u' from the rule's mean of gradients without the preconditioner
)
QUANTITIES = (*DIRECTION, *(f"p_{name}" for name in DIRECTION), *PART, "overlap")


class Amplification(Experiment):
    """Windows along a plain run: effective learning rates of its updates while they are taken.

    The eigendirections are those at the middle of a window: the run is taken there, and back.
    """

    anchors: tuple[int, ...] = Field(min_length=1, description="first steps of the windows")
    window: int = Field(200, ge=2, description="steps")
    directions: int = Field(50, ge=1, le=200, description="leading eigendirections")

    @field_validator("anchors")
    @classmethod
    def _anchors_in_order(cls, anchors):
        return ascending(anchors)

    @property
    def method(self) -> str:
        """The rule's name and "amplification"."""
        return super().method + "-amplification"


@dataclass
class _Directions:
    """Vectors that gradients (D,) and updates (D,) are measured along: columns (D, m) for each."""

    prefix: str
    values: Tensor
    for_gradients: Tensor
    for_updates: Tensor


class AmplificationRun:
    """The run and its windows in progress; ``train`` as in ``Run``."""

    def __init__(self, experiment: Amplification):
        self.experiment = e = experiment
        fields = {name: getattr(e, name) for name in Experiment.model_fields}
        self.run = Run(Experiment(**fields | {"steps": e.steps + 2, "switch_step": e.steps + 1}))
        self.rows: list[list[float]] = []
        self.status, self.trigger_step, self.seconds, self.step = "running", None, 0.0, 0

    def train(self, pause: Callable[[AmplificationRun], None] = lambda run: None) -> None:
        """Along the run to the end of the last window; ``pause`` is called after steps and windows."""
        begun, e = time.perf_counter() - self.seconds, self.experiment
        starts = [a for a in e.anchors if a + e.window <= e.steps]
        while self.status == "running":
            if self.step in starts:
                self._window()
            elif any(self.step < a for a in starts):
                self.run.advance()
            else:
                self.status = "complete"
            if self.run.status != "running":
                self.status = self.run.status
            self.step = self.run.step
            self.seconds = time.perf_counter() - begun
            pause(self)

    def _window(self) -> None:
        """Measure the updates of one window, in directions of its middle, and leave the run at its end."""
        e, run, anchor = self.experiment, self.run, self.run.step
        start = run.theta, run.rule_state
        while run.step < anchor + e.window // 2 and run.status == "running":
            run.advance()
        if run.status != "running":
            return
        hessian, scale = run.objective.hessian(run.theta), run.rule.preconditioner(run.rule_state)
        sets = [self._directions("", hessian, None)]
        if scale is not None:
            sets.append(self._directions("p_", hessian, scale))
        for found in sets:
            slopes = run.objective.slopes(run.theta, found.for_gradients).double()
            self._note(anchor, f"{found.prefix}eigenvalue", found.values)
            self._note(anchor, f"{found.prefix}noise", slopes.var(0, correction=0))
        (run.theta, run.rule_state), run.step = start, anchor
        self._measure(anchor, sets, sets[0].for_gradients[:, : e.k].contiguous())

    def _directions(self, prefix: str, hessian, scale: Tensor | None) -> _Directions:
        """Leading eigendirections of H, or of √M H √M for the preconditioner M = diag(scale)."""
        e, dim = self.experiment, len(self.run.theta)
        generator = torch.Generator().manual_seed(e.seed + self.run.step)
        block = torch.randn(dim, min(NARROW, dim), generator=generator).to(self.run.theta)
        count, root = min(e.directions, dim), None if scale is None else scale.sqrt()[:, None]
        operator = hessian if scale is None else _Scaled(hessian, root)
        found = top_eigenpairs(operator, count, block, tolerance=TOLERANCE)
        vectors = found.vectors[:, :count].contiguous()
        if scale is None:
            return _Directions(prefix, found.values[:count], vectors, vectors)
        return _Directions(prefix, found.values[:count], root * vectors, vectors / root)

    def _measure(self, anchor: int, sets: list[_Directions], basis: Tensor) -> None:
        """Take the window's steps, and sum up what they do along each direction and in each part."""
        run, parts, lines = self.run, _PartSums(basis), [_LineSums(found) for found in sets]
        carried = _carried(run.rule, run.rule_state)
        for _ in range(self.experiment.window):
            _, gradient = run.objective.gradient(run.theta)
            batch, state, update = run.peek()
            for line in lines:
                line.add(gradient, batch, update, run.rule, carried)
            carried = _carried(run.rule, state)
            parts.add(gradient, update, *_ingredients(run.rule, batch, state))
            run.advance()
            if run.status != "running":
                return
        for line in lines:
            for name, values in line.sums().items():
                self._note(anchor, line.directions.prefix + name, values)
        for name, values in parts.means().items():
            self._note(anchor, name, values, first=0)
        k = self.experiment.k
        hessian = run.objective.hessian(run.theta)
        end = top_eigenpairs(hessian, k, basis, extra=3, tolerance=TOLERANCE).vectors[:, :k]
        self._note(anchor, "overlap", [mean_squared_cosine(end, basis)], first=0)

    def _note(self, anchor: int, quantity: str, values, first: int = 1) -> None:
        number = QUANTITIES.index(quantity)
        self.rows += [[anchor, number, i, float(v)] for i, v in enumerate(values, first)]

    def table(self) -> pd.DataFrame:
        """The measurements so far, one a row."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        table["quantity"] = [QUANTITIES[int(i)] for i in table["quantity"]]
        return table.astype({"anchor": "int64", "index": "int64", "value": "float64"})

    def state(self) -> dict[str, Tensor]:
        """Everything that the rest depends on, as tensors."""
        state = {f"run.{name}": value for name, value in self.run.state().items()}
        state["rows"] = torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(COLUMNS))
        state["seconds"] = torch.tensor([self.seconds], dtype=torch.float64)
        state["status"] = as_tensor(self.status)
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        self.run.load_state({n[4:]: v for n, v in state.items() if n.startswith("run.")})
        self.rows, self.step = state["rows"].tolist(), self.run.step
        self.seconds = float(state["seconds"])
        self.status = as_text(state["status"])


class _Scaled:
    """√M H √M, given by its block products."""

    def __init__(self, hessian, root: Tensor):
        self.hessian, self.root = hessian, root

    def __matmul__(self, block: Tensor) -> Tensor:
        return self.root * (self.hessian @ (self.root * block))


class _LineSums:
    """Sums over steps along directions, measured, and in the quadratic model driven by the same noise."""

    def __init__(self, directions: _Directions):
        self.directions, count = directions, len(directions.values)
        self.values = directions.values.double().cpu()
        self.totals = torch.zeros(5, count, dtype=torch.float64)
        self.start: tuple[Tensor, Tensor] | None = None

    def add(self, gradient: Tensor, batch: Tensor, update: Tensor, rule, carried: Tensor | None):
        """One more step: full and minibatch gradient, the update, and the rule's mean before it."""
        d = self.directions
        g, felt = self._along(d.for_gradients, gradient), self._along(d.for_gradients, batch)
        u = self._along(d.for_updates, update)
        if self.start is None:
            m = 0 * g if carried is None else self._along(d.for_gradients, carried)
            self.start = g, m
            self.x, self.m = g / self.values, m
        model = self.values * self.x
        moved = self._model_step(linear(rule), model + felt - g)
        self.totals += torch.stack([-u * g, g * g, u * u, -moved * model, model * model])

    def _model_step(self, form: LinearRule, used: Tensor) -> Tensor:
        """The model's update for the gradient that it uses; see ``subspace_lib.quadratic``."""
        self.m = form.beta * self.m + used
        update = -form.learning_rate * (form.direct * used + form.carried * self.m)
        self.x = self.x + update
        return update

    def sums(self) -> dict[str, Tensor]:
        """By quantity of ``DIRECTION``."""
        names = ("product", "square", "update_square", "driven_product", "driven_square")
        found = dict(zip(names, self.totals, strict=True))
        return dict(zip(("gradient_start", "state_start"), self.start, strict=True)) | found

    @staticmethod
    def _along(block: Tensor, vector: Tensor) -> Tensor:
        return (block.T @ vector).double().cpu()


class _PartSums:
    """Sums over steps of what updates and gradients have in common, in S_k and outside."""

    def __init__(self, basis: Tensor):
        self.basis, self.count = basis, 0
        self.totals = torch.zeros(5, 2, dtype=torch.float64)
        self.moved = self.felt = torch.zeros_like(basis[:, 0])

    def add(self, gradient: Tensor, update: Tensor, preconditioned: Tensor, carried: Tensor):
        """One more step; the last two are the updates of each ingredient alone."""
        square = self._inner(gradient, gradient)
        product = -self._inner(update, gradient)
        self.totals += torch.stack([
            product, square, product / square,
            self._inner(preconditioned, gradient), self._inner(carried, gradient),
        ])  # fmt: skip
        self.moved, self.felt, self.count = (
            self.moved + update,
            self.felt + gradient,
            self.count + 1,
        )

    def _inner(self, a: Tensor, b: Tensor) -> Tensor:
        """⟨Pa, Pb⟩ and ⟨(I − P)a, (I − P)b⟩."""
        inside = float((self.basis.T @ a).double() @ (self.basis.T @ b).double())
        return torch.tensor([inside, float(a.double() @ b.double()) - inside])

    def means(self) -> dict[str, Tensor]:
        """By quantity, for the dominant and the bulk part."""
        product, square, ratio, preconditioned, carried = self.totals
        displacement = -self._inner(self.moved, self.felt)
        values = (product, square, ratio / self.count, displacement,
                  self._inner(self.felt, self.felt), preconditioned, carried)  # fmt: skip
        return dict(zip(PART, values, strict=True))


def _carried(rule, state: dict[str, Tensor]) -> Tensor | None:
    """Σ βʲ g of the gradients so far (D,), or None where the rule keeps no such mean."""
    if "momentum" in state:
        return state["momentum"]
    return state["first"] / (1 - rule.beta) if "first" in state else None


def _ingredients(rule, batch: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the preconditioner alone would move against, M g_B, and what the mean of gradients alone, m.

    Without the learning rate and the sign. Zero for rules that have only one of the two.
    """
    scale, carried = rule.preconditioner(state), _carried(rule, state)
    if carried is None or scale is None:
        return torch.zeros_like(batch), torch.zeros_like(batch)
    return scale * batch, carried


def part_rates(run: Trajectory) -> pd.DataFrame:
    """Effective learning rates by window: a row an anchor, columns (definition, part).

    "slope" is −Σ⟨Pu, Pg⟩/Σ‖Pg‖², the regression of u on −g through the origin; "mean" the mean over steps
    of −⟨Pu, Pg⟩/‖Pg‖²; "displacement" −⟨PΣu, PΣg⟩/‖PΣg‖², in which what fluctuates cancels.
    """
    wide = run.table[run.table["quantity"].isin(PART)]
    wide = wide.pivot(index="anchor", columns=["quantity", "index"], values="value")
    found = {}
    for i, part in enumerate(PARTS):
        found["slope", part] = wide["part_product", i] / wide["part_square", i]
        found["mean", part] = wide["part_ratio", i]
        found["displacement", part] = wide["part_displacement", i] / wide["part_gradient_square", i]
        found["preconditioner alone", part] = (
            wide["part_preconditioned", i] / wide["part_square", i]
        )
        found["mean of gradients alone", part] = wide["part_carried", i] / wide["part_square", i]
    return pd.DataFrame(found)


def amplification(run: Trajectory, definition: str, since: int = 0) -> float:
    """Bulk-LR/Dom-LR of a run, by a definition of ``part_rates``.

    The geometric mean over its windows that begin at the step ``since`` or later. NaN where the run
    diverged, or where a rate is not positive.
    """
    rates = part_rates(run).loc[since:, definition]
    ratios = rates["bulk"] / rates["dominant"]
    if run.status != "complete" or not (ratios > 0).all():
        return math.nan
    return float(np.exp(np.log(ratios).mean()))


def directions(runs: Sequence[Trajectory], since: int = 0) -> pd.DataFrame:
    """Rates over η by eigendirection, pooled over windows and runs of one rule: sums over sums.

    Of the windows that begin at the step ``since`` or later.

    Columns: eigenvalue (mean), measured, predicted from λ, the single-sample noise and the window's start
    (``quadratic.window``), and driven, the quadratic model with the noise that the batches had. Rules
    with a preconditioner in its coordinates, η being that of the equivalent heavy ball.
    """
    frames = [_by_direction(run).loc[since:] for run in runs]
    rule = linear_rule(runs[0].experiment)
    sums = pd.concat(frames).groupby(level="index")
    total, found = sums.sum(), pd.DataFrame({"eigenvalue": sums["eigenvalue"].mean()})
    names = {"measured": "", "predicted": "predicted_", "driven": "driven_"}
    for name, kind in names.items():
        found[name] = total[f"{kind}product"] / total[f"{kind}square"] / rule.learning_rate
    return found


def linear_rule(e: Experiment) -> LinearRule:
    """The experiment's rule as it acts on an eigendirection."""
    return linear(optimizers.build(e.optimizer, e.learning_rate, e.beta, e.rho))


def _by_direction(run: Trajectory) -> pd.DataFrame:
    """Sums by anchor and direction, with those that the quadratic model predicts."""
    e = run.experiment
    prefix = "p_" if e.optimizer in optimizers.ADAPTIVE else ""
    wanted = {prefix + name: name for name in DIRECTION}
    rows = run.table[run.table["quantity"].isin(wanted)]
    wide = rows.pivot(index=["anchor", "index"], columns="quantity", values="value")
    wide = wide.rename(columns=wanted).astype(float)
    samples, rule = data.SOURCES[e.dataset].train, linear_rule(e)
    for anchor in wide.index.unique("anchor"):
        noise = batch_noise(samples, e.batch_size, anchor, e.window)
        for i, row in wide.loc[anchor].iterrows():
            start = row["gradient_start"] / row["eigenvalue"], row["state_start"]
            sums = window(rule, row["eigenvalue"], row["noise"] * noise, *start)
            wide.loc[(anchor, i), ["predicted_product", "predicted_square"]] = (
                sums.product, sums.square,
            )  # fmt: skip
    return wide
