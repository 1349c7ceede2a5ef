"""How a rule's updates compare with the gradient, part by part and eigendirection by eigendirection."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from subspace_lib import optimizers
from subspace_lib.experiment import TRAINING_ONLY, Experiment
from subspace_lib.linalg.eigensolver import top_eigenpairs
from subspace_lib.objective import Hessian
from subspace_lib.parameters import ascending, quoted
from subspace_lib.runs.protocol import RunInProgress, State, as_rows, nested, within
from subspace_lib.runs.rates import inner_products
from subspace_lib.runs.survey import mean_squared_cosine
from subspace_lib.runs.trainer import Trainer
from subspace_lib.theory.quadratic import LinearRule, NoTheory, linear
from subspace_lib.trajectory import COMPLETE

TOLERANCE = 5e-3  # residual of the eigendirections, relative to λ₁
NARROW = 8  # columns of the random block that the eigensolver starts from
COLUMNS = ("anchor", "quantity", "index", "value")
# Of every direction v, over the window's steps; those of preconditioned coordinates begin with "p_".
DIRECTION = (
    "eigenvalue",
    "noise",  # vᵀSv, S the covariance of single-sample gradients
    "gradient_start",  # vᵀg at the window's first step
    # vᵀm of the rule's mean of gradients there, in the units of Σ βʲ g; 0 without one, NaN for rules that
    # the quadratic model does not know
    "state_start",
    "product",  # −Σ (vᵀu)(vᵀg)
    "square",  # Σ (vᵀg)²
    "update_square",
    # the same sums in the quadratic model, driven by the noise that the batches had; NaN likewise
    "driven_product",
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
QUANTITIES = (
    *DIRECTION,
    *(f"p_{name}" for name in DIRECTION),
    *PART,
    "overlap",  # mean squared cosine of S_k at the window's middle and at its end
    # Younger than the oldest stored runs, whose tables lack it.
    "unconverged",  # solves of the window that ended short of what they were to reach
)


class Amplification(Experiment):
    """Windows along a plain run: effective learning rates of its updates while they are taken.

    The eigendirections are those at the middle of a window: the run is taken there, and back. What rests on
    a solve that has not converged is NaN.
    """

    kind: ClassVar[str] = "amplification"

    anchors: tuple[int, ...] = Field(min_length=1, description="first steps of the windows")
    window: int = Field(200, ge=2, description="steps")
    directions: int = Field(50, ge=1, le=200, description="leading eigendirections")

    @field_validator("anchors")
    @classmethod
    def _anchors_in_order(cls, anchors: tuple[int, ...]) -> tuple[int, ...]:
        return ascending(anchors)

    @model_validator(mode="after")
    def _windows_apart(self) -> Self:
        self._check_plain(*TRAINING_ONLY)
        for first, following in pairwise((*self.anchors, self.steps)):
            if first + self.window > following:
                raise ValueError(
                    f"anchors = {quoted(list(self.anchors))} must be window = {self.window} steps apart, "
                    f"the last not beyond steps - window = {self.steps - self.window}"
                )
        return self

    @model_validator(mode="after")
    def _basis_among_directions(self) -> Self:
        if self.directions < self.k:
            raise ValueError(
                f"directions = {self.directions} must be at least k = {self.k}: the first k span S_k"
            )
        return self

    @property
    def method(self) -> str:
        """The rule's name and "amplification"."""
        return super().method + "-amplification"


@dataclass
class _Directions:
    """Vectors that gradients (D,) and updates (D,) are measured along: columns (D, m) for each.

    All NaN where the solve has not converged, and so is what is measured along them.
    """

    prefix: str
    values: Tensor
    for_gradients: Tensor
    for_updates: Tensor
    converged: bool


class AmplificationRun(RunInProgress):
    """The run and its windows in progress. A step is one of training, or a whole window."""

    experiment: Amplification

    def __init__(self, experiment: Amplification):
        super().__init__(experiment)
        self.trainer = Trainer(experiment)
        self.starts = list(experiment.anchors)
        self.rows: list[list[float]] = []

    def _advance(self) -> None:
        try:
            if self.step in self.starts:
                self._window()
            elif any(self.step < start for start in self.starts):
                self.trainer.advance()
            else:
                self.status = COMPLETE
        finally:  # a window that diverges has come to some step
            self.step = self.trainer.step

    def _window(self) -> None:
        """Measure the updates of one window, in directions of its middle, and leave the run at its end."""
        e, trainer, anchor = self.experiment, self.trainer, self.trainer.step
        start = trainer.theta, trainer.rule_state
        while trainer.step < anchor + e.window // 2:
            trainer.advance()
        hessian = trainer.objective.hessian(trainer.theta)
        scale = trainer.rule.preconditioner(trainer.rule_state)
        sets = [self._directions("", hessian, None)]
        if scale is not None:
            sets.append(self._directions("p_", hessian, scale))
        for found in sets:
            slopes = trainer.objective.slopes(trainer.theta, found.for_gradients).double()
            self._note(anchor, f"{found.prefix}eigenvalue", found.values)
            self._note(anchor, f"{found.prefix}noise", slopes.var(0, correction=0))
        (trainer.theta, trainer.rule_state), trainer.step = start, anchor
        self._measure(anchor, sets, sets[0].for_gradients[:, : e.k].contiguous())

    def _directions(self, prefix: str, hessian: Hessian, scale: Tensor | None) -> _Directions:
        """Leading eigendirections of H, or of √M H √M for the preconditioner M = diag(scale)."""
        e, dim = self.experiment, len(self.trainer.theta)
        generator = torch.Generator().manual_seed(e.seed + self.trainer.step)
        block = torch.randn(dim, min(NARROW, dim), generator=generator).to(self.trainer.theta)
        count, root = min(e.directions, dim), None if scale is None else scale.sqrt()[:, None]
        operator = hessian if root is None else _Scaled(hessian, root)
        found = top_eigenpairs(operator, count, block, tolerance=TOLERANCE)
        values, vectors = found.values[:count], found.vectors[:, :count].contiguous()
        if not found.converged:
            values, vectors = values * math.nan, vectors * math.nan
        if root is None:
            return _Directions(prefix, values, vectors, vectors, found.converged)
        return _Directions(prefix, values, root * vectors, vectors / root, found.converged)

    def _measure(self, anchor: int, sets: list[_Directions], basis: Tensor) -> None:
        """Take the window's steps, and sum up what they do along each direction and in each part."""
        run, parts, lines = self.trainer, _PartSums(basis), [_LineSums(found) for found in sets]
        carried = run.rule.carried(run.rule_state)
        for _ in range(self.experiment.window):
            _, gradient = run.objective.gradient(run.theta)
            batch, state, update = run.peek()
            form = model_of(run.rule)
            for line in lines:
                line.add(gradient, batch, update, form, carried)
            carried = run.rule.carried(state)
            parts.add(gradient, update, *_ingredients(run.rule, batch, state))
            run.move(state, update)
        for line in lines:
            for name, values in line.sums().items():
                self._note(anchor, line.directions.prefix + name, values)
        for name, values in parts.means().items():
            self._note(anchor, name, values, first=0)
        unconverged = sum(not found.converged for found in sets)
        overlap = math.nan
        if sets[0].converged:
            k, hessian = self.experiment.k, run.objective.hessian(run.theta)
            end = top_eigenpairs(hessian, k, basis, extra=3, tolerance=TOLERANCE)
            unconverged += not end.converged
            if end.converged:
                overlap = mean_squared_cosine(end.vectors[:, :k], basis)
        self._note(anchor, "overlap", [overlap], first=0)
        self._note(anchor, "unconverged", [unconverged], first=0)

    def _note(
        self, anchor: int, quantity: str, values: Iterable[float | Tensor], first: int = 1
    ) -> None:
        number = QUANTITIES.index(quantity)
        self.rows += [[anchor, number, i, float(v)] for i, v in enumerate(values, first)]

    def table(self) -> pd.DataFrame:
        """The measurements so far, one a row."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        table["quantity"] = [QUANTITIES[int(i)] for i in table["quantity"]]
        return table.astype({"anchor": "int64", "index": "int64", "value": "float64"})

    def _own_state(self) -> State:
        rows = as_rows(self.rows, len(COLUMNS))
        return nested("trainer", self.trainer.state()) | {"rows": rows}

    def _load_own_state(self, state: State) -> None:
        self.trainer.load_state(within("trainer", state))
        self.rows = state["rows"].tolist()


class _Scaled:
    """√M H √M, given by its block products."""

    def __init__(self, hessian: Hessian, root: Tensor):
        self.hessian, self.root = hessian, root

    def __matmul__(self, block: Tensor) -> Tensor:
        return self.root * (self.hessian @ (self.root * block))


class _LineSums:
    """Sums over steps along directions, measured, and in the quadratic model driven by the same noise."""

    def __init__(self, directions: _Directions):
        self.directions, count = directions, len(directions.values)
        self.values = directions.values.double().cpu()
        self.totals = torch.zeros(5, count, dtype=torch.float64)
        self.start: tuple[Tensor, ...] = ()

    def add(
        self,
        gradient: Tensor,
        batch: Tensor,
        update: Tensor,
        form: LinearRule | None,
        carried: Tensor | None,
    ) -> None:
        """One more step: full and minibatch gradient, the update, and the rule's mean before it."""
        d = self.directions
        g, felt = self._along(d.for_gradients, gradient), self._along(d.for_gradients, batch)
        u = self._along(d.for_updates, update)
        if not self.start:
            m = 0 * g if carried is None else self._along(d.for_gradients, carried)
            self.start = g, m if form is not None else m * math.nan
            self.x, self.m = g / self.values, m
        driven = 2 * [g * math.nan]
        if form is not None:
            model = self.values * self.x
            moved = self._model_step(form, model + felt - g)
            driven = [-moved * model, model * model]
        self.totals += torch.stack([-u * g, g * g, u * u, *driven])

    def _model_step(self, form: LinearRule, used: Tensor) -> Tensor:
        """The model's update for the gradient that it uses; see ``subspace_lib.theory.quadratic``."""
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
        self.basis, self.count = basis.double(), 0
        self.totals = torch.zeros(5, 2, dtype=torch.float64)
        self.moved = self.felt = torch.zeros_like(basis[:, 0])

    def add(
        self, gradient: Tensor, update: Tensor, preconditioned: Tensor, carried: Tensor
    ) -> None:
        """One more step; the last two are the updates of each ingredient alone."""
        square = inner_products(self.basis, gradient, gradient)
        product = -inner_products(self.basis, update, gradient)
        alone = [inner_products(self.basis, a, gradient) for a in (preconditioned, carried)]
        self.totals += torch.stack([product, square, product / square, *alone])
        self.moved, self.felt = self.moved + update, self.felt + gradient
        self.count += 1

    def means(self) -> dict[str, Tensor]:
        """By quantity, for the dominant and the bulk part."""
        product, square, ratio, preconditioned, carried = self.totals
        displacement = -inner_products(self.basis, self.moved, self.felt)
        felt = inner_products(self.basis, self.felt, self.felt)
        values = (product, square, ratio / self.count, displacement, felt, preconditioned, carried)
        return dict(zip(PART, values, strict=True))


def _ingredients(
    rule: optimizers.SGD, batch: Tensor, state: optimizers.State
) -> tuple[Tensor, Tensor]:
    """What the preconditioner alone would move against, M g_B, and what the mean of gradients alone, m.

    Without the learning rate and the sign. Zero for rules that have only one of the two.
    """
    scale, carried = rule.preconditioner(state), rule.carried(state)
    if carried is None or scale is None:
        return torch.zeros_like(batch), torch.zeros_like(batch)
    return scale * batch, carried


def model_of(rule: optimizers.SGD) -> LinearRule | None:
    """The rule as it acts on an eigendirection; None where there is no theory of it."""
    try:
        return linear(rule)
    except NoTheory:
        return None
