"""A closer look at a plain run from a few of its points: how the subspace turns, what its parts do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import Tensor

from subspace_lib.eigensolver import orthonormalize, sin_largest_angle, top_eigenpairs
from subspace_lib.experiment import Experiment, ascending
from subspace_lib.protocol import as_tensor, as_text
from subspace_lib.training import SPECTRUM, Run

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
)


class Survey(Experiment):
    """What to look at, and where, along a plain run of ``steps`` steps.

    Subspaces that are compared are solved for up to a certified sine of 0.01, those that only take an
    update apart up to ``target_angle``.
    """

    anchors: tuple[int, ...] = Field(min_length=1)
    lags: tuple[int, ...] = Field((), description="steps after an anchor at which S_k is compared")
    window: int = Field(0, ge=0, description="steps after an anchor whose updates are taken apart")

    @field_validator("anchors")
    @classmethod
    def _anchors_in_order(cls, anchors):
        return ascending(anchors)

    @property
    def method(self) -> str:
        """The rule's name and "survey"."""
        return super().method + "-survey"

    def moments(self) -> dict[int, list[tuple[int, int]]]:
        """Steps at which S_k is wanted, each with the (anchor, lag) pairs that it answers."""
        wanted: dict[int, list[tuple[int, int]]] = {self.steps: []}
        for anchor in self.anchors:
            if anchor >= self.steps:
                continue
            for lag in (0, *self.lags, *range(self.window)):
                if anchor + lag < self.steps:
                    wanted.setdefault(anchor + lag, [])
            for lag in self.lags:
                if anchor + lag < self.steps:
                    wanted[anchor + lag].append((anchor, lag))
        return wanted


class SurveyRun:
    """The survey in progress; ``train`` as in ``Run``."""

    def __init__(self, experiment: Survey):
        self.experiment = e = experiment
        fields = {name: getattr(e, name) for name in Experiment.model_fields}
        self.run = Run(Experiment(**fields | {"steps": e.steps + 2, "switch_step": e.steps + 1}))
        self.moments = e.moments()
        self.vectors: Tensor | None = None  # the last ones solved for, (D, k + guards)
        self.bases: dict[int, Tensor] = {}  # of the anchors, (D, k)
        self.rows: list[list[float]] = []
        self.status, self.trigger_step, self.seconds, self.step = "running", None, 0.0, 0

    def train(self, pause: Callable[[SurveyRun], None] = lambda run: None) -> None:
        """Along the run to its end; ``pause`` is called after every step."""
        begun = time.perf_counter() - self.seconds
        while self.status == "running":
            if self.step in self.moments:
                self._look()
            if self.step == self.experiment.steps:
                self.status = "complete"
            else:
                self.run.advance()
                if self.run.status != "running":
                    self.status = self.run.status
                self.step = self.run.step
            self.seconds = time.perf_counter() - begun
            pause(self)

    def _look(self) -> None:
        e, step, run = self.experiment, self.step, self.run
        hessian = run.objective.hessian(run.theta)
        compared = step in e.anchors or step == e.steps or bool(self.moments[step])
        basis = self._solve(hessian, ANGLE if compared else e.target_angle)
        for anchor, lag in self.moments[step]:
            self._compare("angle", "overlap", anchor, lag, basis)
        if step in e.anchors:
            self.bases[step] = basis
            self._anatomy(hessian, basis)
        for anchor in e.anchors:
            if anchor <= step < min(anchor + e.window, e.steps):
                self._take_apart(hessian, basis, anchor)
        if step == e.steps:
            for anchor in self.bases:
                self._compare("final_angle", "final_overlap", anchor, step - anchor, basis)

    def _note(self, anchor: int, quantity: str, index: int, value: float) -> None:
        self.rows.append([anchor, QUANTITIES.index(quantity), index, float(value)])

    def _solve(self, hessian, angle: float) -> Tensor:
        """Basis of S_k at the run's point, (D, k), certified to an angle."""
        k, theta = self.experiment.k, self.run.theta
        start = self.vectors
        if start is None:
            generator = torch.Generator().manual_seed(self.experiment.seed)
            start = torch.randn(len(theta), k + self.experiment.guards, generator=generator)
        pairs = top_eigenpairs(hessian, k, start.to(theta), angle=angle)
        self.vectors = pairs.vectors[:, : k + self.experiment.guards].contiguous()
        return pairs.vectors[:, :k].contiguous()

    def _compare(self, angle: str, overlap: str, anchor: int, lag: int, basis: Tensor) -> None:
        old = self.bases[anchor]
        self._note(anchor, angle, lag, sin_largest_angle(old, basis))
        self._note(anchor, overlap, lag, mean_squared_cosine(basis, old))

    def _anatomy(self, hessian, basis: Tensor) -> None:
        """Spectrum, noise, and what the classes have to do with the subspace."""
        step, o, theta = self.step, self.run.objective, self.run.theta
        count = min(SPECTRUM, o.dim)
        generator = torch.Generator().manual_seed(self.experiment.seed + step)
        missing = max(0, count - self.vectors.shape[1])
        extra = torch.randn(len(theta), missing, generator=generator)
        start = torch.cat([self.vectors, extra.to(theta)], 1)
        pairs = top_eigenpairs(hessian, count, start, tolerance=1e-2)
        leading = pairs.vectors[:, :count].contiguous()
        for i, value in enumerate(pairs.values[:count], 1):
            self._note(step, "eigenvalue", i, value)
        probes = torch.randn(len(theta), PROBES, generator=generator).sign().to(theta)
        probes -= leading @ (leading.T @ probes)
        moved, values = hessian @ probes, pairs.values[:count].double()
        rest, rest_square = float((probes * moved).sum()), float(moved.square().sum())
        self._note(step, "trace", 0, float(values.sum()) + rest / PROBES)
        self._note(step, "square", 0, float(values @ values) + rest_square / PROBES)
        along, total = o.gradient_variance(theta, leading)
        self._note(step, "noise", 0, total)
        for i, value in enumerate(along, 1):
            self._note(step, "noise", i, value)
        whole, classes = o.mean_output_gradients(theta)
        other = torch.randn(len(theta), classes.shape[1], generator=generator).to(theta)
        for name, span in (
            ("mean_outputs", whole),
            ("class_means", classes),
            ("random_span", other),
        ):
            self._note(step, name, 0, mean_squared_cosine(basis, orthonormalize(span)))

    def _take_apart(self, hessian, basis: Tensor, anchor: int) -> None:
        """First- and second-order terms of the update's loss change, in S_k and outside, and the change."""
        run, index = self.run, self.step - anchor
        _, _, update = run.peek()
        inside = basis @ (basis.T @ update)
        parts = torch.stack([inside, update - inside], 1)
        second = 0.5 * (parts * (hessian @ parts)).sum(0)
        first = parts.T @ hessian.gradient
        for i, part in enumerate(("dominant", "bulk")):
            self._note(anchor, f"first_{part}", index, first[i])
            self._note(anchor, f"second_{part}", index, second[i])
            self._note(anchor, f"change_{part}", index, self._change(parts[:, i]))
        self._note(anchor, "change", index, self._change(update))

    def _change(self, update: Tensor) -> float:
        o = self.run.objective
        before, after = (
            o.evaluate(theta, o.inputs, o.labels)[0]
            for theta in (self.run.theta, self.run.theta + update)
        )
        return after - before

    def table(self) -> pd.DataFrame:
        """The measurements so far, one a row."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        table["quantity"] = [QUANTITIES[int(i)] for i in table["quantity"]]
        return table.astype({"anchor": "int64", "index": "int64", "value": "float64"})

    def state(self) -> dict[str, Tensor]:
        """Everything that the rest depends on, as tensors."""
        state = {f"run.{name}": value for name, value in self.run.state().items()}
        state.update((f"basis.{step}", v.T.cpu().contiguous()) for step, v in self.bases.items())
        if self.vectors is not None:
            state["vectors"] = self.vectors.T.cpu().contiguous()
        state["rows"] = torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(COLUMNS))
        state["seconds"] = torch.tensor([self.seconds], dtype=torch.float64)
        state["status"] = as_tensor(self.status)
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        device = self.experiment.device
        self.run.load_state({n[4:]: v for n, v in state.items() if n.startswith("run.")})
        bases = {int(n[6:]): v for n, v in state.items() if n.startswith("basis.")}
        self.bases = {step: bases[step].to(device).T.contiguous() for step in sorted(bases)}
        if "vectors" in state:
            self.vectors = state["vectors"].to(device).T.contiguous()
        self.rows, self.step = state["rows"].tolist(), self.run.step
        self.seconds = float(state["seconds"])
        self.status = as_text(state["status"])


def mean_squared_cosine(basis: Tensor, span: Tensor) -> float:
    """‖QᵀV‖_F²/k for orthonormal V (D, k), Q (D, q): 1 where V lies in the span, q/D at random."""
    return float((span.T @ basis).square().sum()) / basis.shape[1]
