"""The Hessian H, its Gauss–Newton part G and the rest F = H − G, looked at from points of a plain run."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple, Self

import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from subspace_lib.experiment import TRAINING_ONLY, Experiment
from subspace_lib.linalg.eigensolver import (
    Operator,
    orthonormalize,
    sin_largest_angle,
    top_eigenpairs,
)
from subspace_lib.linalg.quadrature import Quadrature, mean_error, random_signs, spectral_quadrature
from subspace_lib.objective import Hessian
from subspace_lib.parameters import ascending, quoted
from subspace_lib.runs.peer import pyhessian_quadrature
from subspace_lib.runs.protocol import RunInProgress, State, as_rows, nested, within
from subspace_lib.runs.survey import mean_squared_cosine
from subspace_lib.runs.trainer import Trainer
from subspace_lib.trajectory import COMPLETE

ANGLE = 0.01  # certified sine up to which the spaces of H and G are solved for
ENDS = 1e-2  # tolerance of the pairs at both ends of F, relative to its largest |λ|: no gap certifies them
START = 3  # columns of the random block that F's solves start from
COLUMNS = ("anchor", "quantity", "operator", "index", "name", "value")
OPERATORS = ("", "H", "G", "F", "PyHessian")
QUANTITIES = (
    "loss",  # L(θ)
    "parameters",  # D
    "gradient_norm",  # of the full batch
    "alignment",  # of the full-batch gradient with the operator's space
    "eigenvalue",  # λ_i, i = index: of H and G the k largest and an estimate of λ_{k+1} from below; of F
    # the k largest in absolute value
    "sine",  # sine of the largest principal angle between the operator's space and that of H
    "overlap",  # mean squared cosine of the principal angles, likewise
    "curvature_share",  # tr(VᵀGV)/tr(VᵀHV), V that of H: of the curvature in S_k the part that is G's
    "trace",  # of the operator, by the probes
    "trace_error",  # standard error of that over probes
    "node",  # of the spectral density, probe by probe: index = probe · steps + j
    "weight",
    "mean_outputs",  # mean squared cosine of the space to span{∇ mean f_c, c = 1 … C}
    "class_means",  # to span{∇ mean over class a of f_c}, C² directions
    "class_losses",  # to span{∇ mean loss of class a}, C directions
    "mass",  # of the k dominant eigenvectors of H: share of ‖v‖² in a tensor of parameters, mean over them
    "size",  # share of the parameters that lie in it
    "unconverged",  # solves that ended short of what they were to reach
)
OF_TENSORS = ("mass", "size")


class Curvature(Experiment):
    """What to look at, and where, along a plain run of ``steps`` steps.

    The space of H and of G is that of their k largest eigenvalues, solved for up to a certified sine of
    0.01; that of F, which is indefinite, belongs to the k largest in absolute value. What rests on a solve
    that did not come that far is NaN. Densities of H and G are seen by the same ``probes``.
    """

    kind: ClassVar[str] = "curvature"

    anchors: tuple[int, ...] = Field(min_length=1)
    lanczos_steps: int = Field(60, ge=1, le=500, description="of each probe")
    probes: int = Field(6, ge=2, le=50, description="random vectors of a spectral density")
    pyhessian: int = Field(
        0, ge=0, le=50, description="probes of PyHessian's density at the last anchor; 0: none"
    )

    @field_validator("anchors")
    @classmethod
    def _anchors_in_order(cls, anchors: tuple[int, ...]) -> tuple[int, ...]:
        return ascending(anchors)

    @model_validator(mode="after")
    def _within_the_run(self) -> Self:
        self._check_plain(*TRAINING_ONLY)
        if self.anchors[-1] > self.steps:
            raise ValueError(
                f"anchors = {quoted(list(self.anchors))} must be at most steps = {self.steps}"
            )
        return self

    @property
    def method(self) -> str:
        """The rule's name and "curvature"."""
        return super().method + "-curvature"


class Signed:
    """±A or A − B of operators A and B, by their block products."""

    def __init__(self, sign: int, first: Operator, second: Operator | None = None):
        self.sign, self.first, self.second = sign, first, second

    def __matmul__(self, block: Tensor) -> Tensor:
        product = self.sign * (self.first @ block)
        return product if self.second is None else product - self.sign * (self.second @ block)


class Space(NamedTuple):
    """Leading eigenvalues of an operator, and an orthonormal basis (D, k); None where a solve failed."""

    values: Tensor
    basis: Tensor | None


class CurvatureRun(RunInProgress):
    """The run in progress, and what its anchors have shown."""

    experiment: Curvature

    def __init__(self, experiment: Curvature):
        super().__init__(experiment)
        self.trainer = Trainer(experiment)
        self.vectors: Tensor | None = None  # of H, the last ones solved for, (D, k + guards)
        self.rows: list[list[float]] = []
        self._unconverged = 0  # solves at this anchor that did not converge

    def _advance(self) -> None:
        if self.step in self.experiment.anchors:
            self._look()
        if self.step == self.experiment.steps:
            self.status = COMPLETE
        else:
            self.trainer.advance()
            self.step = self.trainer.step

    def _look(self) -> None:
        """All that is measured at an anchor."""
        e, o, theta = self.experiment, self.trainer.objective, self.trainer.theta
        generator = torch.Generator().manual_seed(e.seed + self.step)
        hessian, gauss_newton = o.hessian(theta), o.gauss_newton(theta)
        self._unconverged = 0
        start = self.vectors
        if start is None:
            start = torch.randn(o.dim, e.k + e.guards, generator=generator).to(theta)
        top, self.vectors = self._largest(hessian, start)
        spaces = {"H": top, "G": self._largest(gauss_newton, self.vectors)[0]}
        spaces["F"] = self._ends(Signed(1, hessian, gauss_newton), generator)
        self._spaces(hessian, spaces)
        self._layers(top, gauss_newton, hessian)
        self._classes(spaces)
        self._spectra(hessian, gauss_newton, generator)
        if e.pyhessian and self.step == e.anchors[-1]:
            steps = min(e.lanczos_steps, o.dim)
            theirs = pyhessian_quadrature(o, theta, steps, e.pyhessian, e.seed + self.step)
            self._density("PyHessian", theirs)
        self._note("unconverged", "", 0, self._unconverged)

    def _note(self, quantity: str, operator: str, index: int, value: float | Tensor) -> None:
        numbers = QUANTITIES.index(quantity), OPERATORS.index(operator)
        self.rows.append([self.step, *numbers, index, float(value)])

    def _largest(self, operator: Operator, start: Tensor) -> tuple[Space, Tensor]:
        """The space of the k largest eigenvalues, with k + 1 of these; and all vectors, (D, k + guards)."""
        e = self.experiment
        pairs = top_eigenpairs(operator, e.k, start, angle=ANGLE)
        self._unconverged += not pairs.converged
        vectors = pairs.vectors[:, : e.k + e.guards].contiguous()
        basis = vectors[:, : e.k].contiguous() if pairs.converged else None
        return Space(pairs.values[: e.k + 1], basis), vectors

    def _ends(self, operator: Operator, generator: torch.Generator) -> Space:
        """The space of the k eigenvalues that are largest in absolute value, of either sign."""
        k, like = self.experiment.k, self.trainer.theta
        values, vectors, converged = [], [], True
        for sign in (1, -1):
            start = torch.randn(len(like), START, generator=generator).to(like)
            pairs = top_eigenpairs(Signed(sign, operator), k, start, tolerance=ENDS)
            values.append(sign * pairs.values[:k])
            vectors.append(pairs.vectors[:, :k])
            converged &= pairs.converged
            self._unconverged += not pairs.converged
        both = torch.cat(values)
        order = both.abs().argsort(descending=True)[:k]
        basis = orthonormalize(torch.cat(vectors, 1)[:, order]) if converged else None
        return Space(both[order], basis)

    def _spaces(self, hessian: Hessian, spaces: dict[str, Space]) -> None:
        """Eigenvalues, alignment of the gradient, and the angles to the space of H."""
        gradient, loss, own = hessian.gradient, hessian.loss, spaces["H"].basis
        assert gradient is not None and loss is not None  # since a product
        norm = gradient.norm()
        self._note("loss", "", 0, loss)
        self._note("parameters", "", 0, self.trainer.objective.dim)
        self._note("gradient_norm", "", 0, norm)
        for name, (values, basis) in spaces.items():
            for i, value in enumerate(values, 1):
                self._note("eigenvalue", name, i, math.nan if basis is None else value)
            inside = math.nan if basis is None else (basis.T @ gradient).norm() / norm
            self._note("alignment", name, 0, inside)
            if name != "H":
                sine, overlap = math.nan, math.nan
                if own is not None and basis is not None:
                    sine, overlap = sin_largest_angle(own, basis), mean_squared_cosine(own, basis)
                self._note("sine", name, 0, sine)
                self._note("overlap", name, 0, overlap)

    def _layers(self, top: Space, gauss_newton: Operator, hessian: Operator) -> None:
        """Where the dominant eigenvectors have their mass, and how much of their curvature is G's."""
        o, basis = self.trainer.objective, top.basis
        share = math.nan
        if basis is not None:
            mine, theirs = ((basis * (A @ basis)).sum() for A in (hessian, gauss_newton))
            share = float(theirs / mine)
        self._note("curvature_share", "G", 0, share)
        squares = None if basis is None else o.unflatten(basis.square().mean(1))
        for i, (name, shape) in enumerate(o.layout):
            mass = math.nan if squares is None else squares[name].sum()
            self._note("mass", "H", i, mass)
            self._note("size", "", i, math.prod(shape) / o.dim)

    def _classes(self, spaces: dict[str, Space]) -> None:
        """How much of the spaces of H and G lies in spans that the classes make."""
        o, theta = self.trainer.objective, self.trainer.theta
        outputs, classes = o.class_output_gradients(theta)
        spans = {"mean_outputs": outputs, "class_means": classes, "class_losses": self._losses()}
        for quantity, span in spans.items():
            inside = orthonormalize(span)
            for name in ("H", "G"):
                basis = spaces[name].basis
                value = math.nan if basis is None else mean_squared_cosine(basis, inside)
                self._note(quantity, name, 0, value)

    def _losses(self) -> Tensor:
        """Gradients of the summed loss of each class, (D, C), in pieces of a chunk."""
        o, theta = self.trainer.objective, self.trainer.theta
        columns = []
        for label in o.labels.unique():
            column = torch.zeros_like(theta)
            for rows in (o.labels == label).nonzero()[:, 0].split(self.experiment.chunk):
                column.add_(o.gradient(theta, rows)[1], alpha=len(rows))
            columns.append(column)
        return torch.stack(columns, 1)

    def _spectra(
        self, hessian: Operator, gauss_newton: Operator, generator: torch.Generator
    ) -> None:
        """Spectral densities of H and G as the same probes see them, and with these the three traces."""
        e, o = self.experiment, self.trainer.objective
        probes = random_signs(o.dim, e.probes, generator).to(self.trainer.theta)
        traces = {}
        for name, operator in (("H", hessian), ("G", gauss_newton)):
            found = spectral_quadrature(operator, probes, e.lanczos_steps)
            self._density(name, found)
            traces[name] = o.dim * found.moment(1)  # vᵀAv of each probe, Hutchinson's estimate
        traces["F"] = traces["H"] - traces["G"]
        for name, estimates in traces.items():
            self._note("trace", name, 0, estimates.mean())
            self._note("trace_error", name, 0, mean_error(estimates))

    def _density(self, name: str, found: Quadrature) -> None:
        pairs = zip(found.nodes.flatten(), found.weights.flatten(), strict=True)
        for i, (node, weight) in enumerate(pairs):
            self._note("node", name, i, node)
            self._note("weight", name, i, weight)

    def table(self) -> pd.DataFrame:
        """The measurements so far, one a row; ``name`` is that of a tensor of parameters, or empty."""
        numeric = [column for column in COLUMNS if column != "name"]
        table = pd.DataFrame(self.rows, columns=numeric)
        for column, names in (("quantity", QUANTITIES), ("operator", OPERATORS)):
            table[column] = [names[int(i)] for i in table[column]]
        tensors = [name for name, _ in self.trainer.objective.layout]
        table["name"] = [
            tensors[int(i)] if quantity in OF_TENSORS else ""
            for i, quantity in zip(table["index"], table["quantity"], strict=True)
        ]
        return table[list(COLUMNS)].astype(
            {"anchor": "int64", "index": "int64", "value": "float64"}
        )

    def _own_state(self) -> State:
        state = nested("trainer", self.trainer.state())
        if self.vectors is not None:
            state["vectors"] = self.vectors.T
        return state | {"rows": as_rows(self.rows, len(COLUMNS) - 1)}

    def _load_own_state(self, state: State) -> None:
        self.trainer.load_state(within("trainer", state))
        if "vectors" in state:
            self.vectors = state["vectors"].to(self.experiment.device).T.contiguous()
        self.rows = state["rows"].tolist()


def quadrature_of(table: pd.DataFrame, operator: str, probes: int) -> Quadrature:
    """The spectral density that the rows of one anchor hold, of an operator or of PyHessian's."""
    rows = table[table["operator"] == operator]
    nodes, weights = (
        torch.tensor(
            rows[rows["quantity"] == name].sort_values("index")["value"].to_numpy("float64")
        ).reshape(probes, -1)
        for name in ("node", "weight")
    )
    return Quadrature(nodes, weights)
