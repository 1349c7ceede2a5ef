"""A closer look at a plain run from a few of its points: how the subspace turns, what its parts do."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from subspace_lib.experiment import TRAINING_ONLY, Experiment
from subspace_lib.linalg.eigensolver import orthonormalize, sin_largest_angle, top_eigenpairs
from subspace_lib.objective import Hessian
from subspace_lib.parameters import ascending, quoted
from subspace_lib.runs.protocol import RunInProgress, State, as_rows, nested, within
from subspace_lib.runs.trainer import Trainer
from subspace_lib.runs.training import SPECTRUM
from subspace_lib.trajectory import COMPLETE

ANGLE = 0.01  # certified sine up to which bases are solved for that are compared
PROBES = 10  # random vectors for the trace of the Hessian
COLUMNS = ("anchor", "quantity", "index", "value")
QUANTITIES = (
    "angle",  # sine of the largest principal angle between S_k at the anchor and `index` steps later
    "overlap",  # mean squared cosine of the principal angles, likewise
    "final_overlap",  # with S_k at the end of the run
    "final_angle",
    "eigenvalue",  # λ_i at the anchor, i = index
    "trace",  # tr H: exact on the leading eigenvectors, Hutchinson's estimate on the rest
    "noise",  # v_iᵀ S v_i, S the covariance of single-sample gradients; i = 0: tr S
    "mean_outputs",  # mean squared cosine of S_k to span{∇ mean f_c, c = 1 … C}
    "class_means",  # to span{∇ mean over class a of f_c}, C² directions
    "random_span",  # to as many random directions as C²
    "first_dominant",  # gᵀPu at `index` steps after the anchor, u the update of the run
    "first_bulk",  # gᵀ(I−P)u
    "second_dominant",  # ½ (Pu)ᵀH(Pu)
    "second_bulk",
    "change",  # L(θ + u) − L(θ)
    "change_dominant",  # L(θ + Pu) − L(θ)
    "change_bulk",
    "square",  # tr H², like the trace
    # Younger than the oldest stored surveys, whose tables lack it.
    "unconverged",  # solves `index` steps after the anchor that ended short of what they were to reach
)
# What is NaN where S_k is not known, though the update is.
PARTED = tuple(
    f"{name}_{part}" for part in ("dominant", "bulk") for name in ("first", "second", "change")
)


class Survey(Experiment):
    """What to look at, and where, along a plain run of ``steps`` steps.

    Subspaces that are compared are solved for up to a certified sine of 0.01, those that only take an
    update apart up to ``target_angle``. What rests on a solve that did not come that far is NaN.
    """

    kind: ClassVar[str] = "survey"

    anchors: tuple[int, ...] = Field(min_length=1)
    lags: tuple[int, ...] = Field((), description="steps after an anchor at which S_k is compared")
    window: int = Field(0, ge=0, description="steps after an anchor whose updates are taken apart")

    @field_validator("anchors")
    @classmethod
    def _anchors_in_order(cls, anchors: tuple[int, ...]) -> tuple[int, ...]:
        return ascending(anchors)

    @field_validator("lags")
    @classmethod
    def _lags_in_order(cls, lags: tuple[int, ...]) -> tuple[int, ...]:
        return ascending(lags, "lags", 1)

    @model_validator(mode="after")
    def _within_the_run(self) -> Self:
        self._check_plain(*TRAINING_ONLY)
        last, first = self.anchors[-1], self.anchors[0]
        if last >= self.steps:
            raise ValueError(
                f"anchors = {quoted(list(self.anchors))} must lie below steps = {self.steps}"
            )
        if self.lags and first + self.lags[-1] >= self.steps:
            raise ValueError(
                f"lags = {quoted(list(self.lags))} must lie below steps - the first anchor = "
                f"{self.steps - first}"
            )
        if self.window > self.steps:
            raise ValueError(f"window = {self.window} must be at most steps = {self.steps}")
        return self

    @property
    def method(self) -> str:
        """The rule's name and "survey"."""
        return super().method + "-survey"

    def moments(self) -> dict[int, list[tuple[int, int]]]:
        """Steps at which S_k is wanted, each with the (anchor, lag) pairs that it answers."""
        wanted: dict[int, list[tuple[int, int]]] = {self.steps: []}
        for anchor in self.anchors:
            for lag in (0, *self.lags, *range(self.window)):
                if anchor + lag < self.steps:
                    wanted.setdefault(anchor + lag, [])
            for lag in self.lags:
                if anchor + lag < self.steps:
                    wanted[anchor + lag].append((anchor, lag))
        return wanted


class SurveyRun(RunInProgress):
    """The survey in progress."""

    experiment: Survey

    def __init__(self, experiment: Survey):
        super().__init__(experiment)
        self.trainer = Trainer(experiment)
        self.moments = experiment.moments()
        self.vectors: Tensor | None = None  # the last ones solved for, (D, k + guards)
        self.bases: dict[int, Tensor] = {}  # of those anchors whose solve converged, (D, k)
        self.rows: list[list[float]] = []
        self._unconverged = 0  # solves at this step that did not

    def _advance(self) -> None:
        if self.step in self.moments:
            self._look()
        if self.step == self.experiment.steps:
            self.status = COMPLETE
        else:
            self.trainer.advance()
            self.step = self.trainer.step

    def _look(self) -> None:
        e, step, run = self.experiment, self.step, self.trainer
        hessian = run.objective.hessian(run.theta)
        before = [anchor for anchor in e.anchors if anchor <= step]
        windows = [anchor for anchor in before if step < min(anchor + e.window, e.steps)]
        self._unconverged = 0
        compared = step in e.anchors or step == e.steps or bool(self.moments[step])
        basis = self._solve(hessian, ANGLE if compared else e.target_angle)
        for anchor, lag in self.moments[step]:
            self._compare("angle", "overlap", anchor, lag, basis)
        if step in e.anchors:
            if basis is not None:
                self.bases[step] = basis
            self._anatomy(hessian, basis)
        for anchor in windows:
            self._take_apart(hessian, basis, anchor)
        if step == e.steps:
            for anchor in before:
                self._compare("final_angle", "final_overlap", anchor, step - anchor, basis)
        served = (
            before if step == e.steps else [step, *windows, *(a for a, _ in self.moments[step])]
        )
        for anchor in sorted({*served} & {*e.anchors}):
            self._note(anchor, "unconverged", step - anchor, self._unconverged)

    def _note(self, anchor: int, quantity: str, index: int, value: float | Tensor) -> None:
        self.rows.append([anchor, QUANTITIES.index(quantity), index, float(value)])

    def _solve(self, hessian: Hessian, angle: float) -> Tensor | None:
        """Basis of S_k at the run's point, (D, k), certified to an angle; None where that failed."""
        k, theta = self.experiment.k, self.trainer.theta
        start = self.vectors
        if start is None:
            generator = torch.Generator().manual_seed(self.experiment.seed)
            start = torch.randn(len(theta), k + self.experiment.guards, generator=generator)
        pairs = top_eigenpairs(hessian, k, start.to(theta), angle=angle)
        self._unconverged += not pairs.converged
        self.vectors = pairs.vectors[:, : k + self.experiment.guards].contiguous()
        return pairs.vectors[:, :k].contiguous() if pairs.converged else None

    def _compare(
        self, angle: str, overlap: str, anchor: int, lag: int, basis: Tensor | None
    ) -> None:
        old = self.bases.get(anchor)
        sine, cosine = math.nan, math.nan
        if old is not None and basis is not None:
            sine, cosine = sin_largest_angle(old, basis), mean_squared_cosine(basis, old)
        self._note(anchor, angle, lag, sine)
        self._note(anchor, overlap, lag, cosine)

    def _anatomy(self, hessian: Hessian, basis: Tensor | None) -> None:
        """Spectrum, noise, and what the classes have to do with the subspace."""
        step, o, theta = self.step, self.trainer.objective, self.trainer.theta
        count = min(SPECTRUM, o.dim)
        generator = torch.Generator().manual_seed(self.experiment.seed + step)
        assert self.vectors is not None  # since the solve before
        missing = max(0, count - self.vectors.shape[1])
        extra = torch.randn(len(theta), missing, generator=generator)
        start = torch.cat([self.vectors, extra.to(theta)], 1)
        pairs = top_eigenpairs(hessian, count, start, tolerance=1e-2)
        self._unconverged += not pairs.converged
        leading = pairs.vectors[:, :count].contiguous()
        for i, value in enumerate(pairs.values[:count], 1):
            self._note(step, "eigenvalue", i, value if pairs.converged else math.nan)
        probes = torch.randn(len(theta), PROBES, generator=generator).sign().to(theta)
        probes -= leading @ (leading.T @ probes)
        moved, values = hessian @ probes, pairs.values[:count].double()
        rest, rest_square = float((probes * moved).sum()), float(moved.square().sum())
        trace = float(values.sum()) + rest / PROBES
        square = float(values @ values) + rest_square / PROBES
        self._note(step, "trace", 0, trace if pairs.converged else math.nan)
        self._note(step, "square", 0, square if pairs.converged else math.nan)
        along, total = o.gradient_variance(theta, leading)
        self._note(step, "noise", 0, total)
        for i, value in enumerate(along, 1):
            self._note(step, "noise", i, value if pairs.converged else math.nan)
        whole, classes = o.class_output_gradients(theta)
        other = torch.randn(len(theta), classes.shape[1], generator=generator).to(theta)
        for name, span in (
            ("mean_outputs", whole),
            ("class_means", classes),
            ("random_span", other),
        ):
            value = math.nan if basis is None else mean_squared_cosine(basis, orthonormalize(span))
            self._note(step, name, 0, value)

    def _take_apart(self, hessian: Hessian, basis: Tensor | None, anchor: int) -> None:
        """First- and second-order terms of the update's loss change, in S_k and outside, and the change."""
        run, index = self.trainer, self.step - anchor
        _, _, update = run.peek()
        if basis is None:
            for quantity in PARTED:
                self._note(anchor, quantity, index, math.nan)
        else:
            inside = basis @ (basis.T @ update)
            parts = torch.stack([inside, update - inside], 1)
            second = 0.5 * (parts * (hessian @ parts)).sum(0)
            assert hessian.gradient is not None  # since the product
            first = parts.T @ hessian.gradient
            for i, part in enumerate(("dominant", "bulk")):
                self._note(anchor, f"first_{part}", index, first[i])
                self._note(anchor, f"second_{part}", index, second[i])
                self._note(anchor, f"change_{part}", index, self._change(parts[:, i]))
        self._note(anchor, "change", index, self._change(update))

    def _change(self, update: Tensor) -> float:
        o = self.trainer.objective
        before, after = (
            o.evaluate(theta)[0] for theta in (self.trainer.theta, self.trainer.theta + update)
        )
        return after - before

    def table(self) -> pd.DataFrame:
        """The measurements so far, one a row."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        table["quantity"] = [QUANTITIES[int(i)] for i in table["quantity"]]
        return table.astype({"anchor": "int64", "index": "int64", "value": "float64"})

    def _own_state(self) -> State:
        state = nested("trainer", self.trainer.state())
        state |= {f"basis.{step}": basis.T for step, basis in self.bases.items()}
        if self.vectors is not None:
            state["vectors"] = self.vectors.T
        return state | {"rows": as_rows(self.rows, len(COLUMNS))}

    def _load_own_state(self, state: State) -> None:
        device = self.experiment.device
        self.trainer.load_state(within("trainer", state))
        bases = {int(step): basis for step, basis in within("basis", state).items()}
        self.bases = {step: bases[step].to(device).T.contiguous() for step in sorted(bases)}
        if "vectors" in state:
            self.vectors = state["vectors"].to(device).T.contiguous()
        self.rows = state["rows"].tolist()


def mean_squared_cosine(basis: Tensor, span: Tensor) -> float:
    """‖QᵀV‖_F²/k for orthonormal V (D, k), Q (D, q): 1 where V lies in the span, q/D at random."""
    return float((span.T @ basis).square().sum()) / basis.shape[1]
