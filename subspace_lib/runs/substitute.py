"""Dom-X and Bulk-X with another space in the place of S_k, and how far that is from S_k."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self, get_args

import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from subspace_lib import data
from subspace_lib.experiment import Count, Every, Experiment
from subspace_lib.linalg.eigensolver import (
    Operator,
    RitzPairs,
    orthonormalize,
    sin_largest_angle,
    top_eigenpairs,
)
from subspace_lib.linalg.precision import full_precision
from subspace_lib.objective import GaussNewton, Hessian, Objective
from subspace_lib.optimizers import Adam
from subspace_lib.runs.protocol import Diverged, RunInProgress, State, as_rows, nested, within
from subspace_lib.runs.survey import mean_squared_cosine
from subspace_lib.runs.trainer import Trainer
from subspace_lib.subspace.projection import restrict
from subspace_lib.subspace.refresh import by_products
from subspace_lib.trajectory import COMPLETE

CERTIFIED = 0.01  # sine up to which S_k is solved for at rows
SpaceName = Literal[
    "hessian",
    "batch_hessian",
    "gauss_newton",
    "sample_gradients",
    "batch_gradients",
    "mean_outputs",
    "random",
    "adam_coordinates",
    "adam_hessian",
]
SPACES = get_args(SpaceName)
OF_A_SUBSET = ("hessian", "gauss_newton")
OF_BATCHES = ("batch_hessian", "batch_gradients")
OF_ADAM = ("adam_coordinates", "adam_hessian")
UNUSED = (
    *("watch_alignment", "projected", "period", "stop_above", "budget", "correction", "subset"),
    *("fresh_spans", "spectrum_every"),
)
COLUMNS = (
    "step",
    "train_loss",
    "alignment",  # ‖Pg‖/‖g‖ of the full-batch gradient, P onto the space in use
    "batch_alignment",  # of the minibatch gradient
    "exact_alignment",  # χ_k(g), of S_k; NaN, as what follows, where the solve for S_k has not converged
    "sine",  # of the largest principal angle from S_k to the space in use
    "overlap",  # mean squared cosine of these angles
    "eigenvalue_k",  # λ_k and λ_{k+1} of H(θ)
    "eigenvalue_beyond",
    "gradient_norm",
    "age",  # steps since the space was found
    "refreshes",
    "unconverged",  # of the refreshes, those whose solve ended short of its target
    "products",
    "gradient_equivalents",
    "seconds",
)


class Substitute(Experiment):
    """Dom-X or Bulk-X that projects, from ``switch_step`` on, on a space of k dimensions other than S_k.

    Every ``refresh_every`` steps from the switch on, the space is found anew at the present θ. It is that
    of the k leading eigenvectors, up to a sine of ``target_angle``, of

    - "hessian", "gauss_newton": H or G on ``matrix_samples`` samples, ``drawn`` once, or on all of them;
    - "batch_hessian": H on the minibatch of that step alone;
    - "sample_gradients": S = (1/N) Σ_i (∇ℓ_i − g)(∇ℓ_i − g)ᵀ, to which the covariance of minibatch
      gradients is proportional;
    - "batch_gradients": the covariance of the next ``batches`` minibatches' gradients at θ;
    - "mean_outputs": (1/C) Σ_c ∇f̄_c ∇f̄_cᵀ, with the gradients of the C mean outputs f̄_c, so that k ≤ C and
      no Hessian is needed;
    - "adam_hessian": M H with Adam's preconditioner M = diag(1/(√v̂ + ε)), whose moments come from the run's
      own minibatch gradients since step 0;

    or "adam_coordinates": the k axes with the largest v̂; or "random": a random one, drawn once.

    At rows S_k is solved for, up to a certified sine of 0.01, and compared with the space in use.

    Source: "batch_gradients" after 2507.03545; "mean_outputs" after Fort & Ganguli 2019 (1910.05929); the
    preconditioned Hessian as for Adam in Cohen et al. 2022 (2207.14484).
    """

    kind: ClassVar[str] = "substitute"

    space: SpaceName
    refresh_every: Every = 10
    matrix_samples: Count | None = Field(None, description="samples of the matrix; None: all")
    drawn: Literal["evenly", "at random"] = Field("evenly", description="those samples")
    batches: int = Field(100, ge=2, le=10_000, description="minibatches of batch_gradients")
    spectrum_every: Every | None = None

    @model_validator(mode="after")
    def _of_a_projected_run(self) -> Self:
        if self.projection == "none":
            raise ValueError(
                "projection = 'none': a substitute is a space to project on; use dominant or bulk"
            )
        for name in UNUSED:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} has no meaning in a run of the kind {self.kind}; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _space_can_be_found(self) -> Self:
        if self.matrix_samples is not None and self.space not in OF_A_SUBSET:
            raise ValueError(
                f"matrix_samples = {self.matrix_samples} needs space = {' or '.join(OF_A_SUBSET)}"
            )
        if self.matrix_samples is None and self.drawn != "evenly":
            raise ValueError(f"drawn = {self.drawn!r} needs matrix_samples, the number of them")
        if (self.matrix_samples or 0) > self.samples:
            raise ValueError(
                f"matrix_samples = {self.matrix_samples} must be at most {self.samples}, the size of "
                f"{self.dataset}"
            )
        if self.space in OF_BATCHES and self.batch_size == self.samples:
            raise ValueError(f"space = {self.space!r} needs minibatches; use a smaller batch_size")
        if self.space == "batch_gradients" and self.batches <= self.k:
            raise ValueError(f"batches = {self.batches} must be above k = {self.k}")
        if self.space == "mean_outputs":
            most = data.classes(self.origin(self.dataset))
            if self.k > most:
                raise ValueError(
                    f"k = {self.k} must be at most {most} with space = 'mean_outputs', the number of "
                    "outputs"
                )
        return self

    def describe(self) -> dict[str, Any]:
        """As of every run; older ones have no ``drawn``: their samples lie evenly over the data."""
        found = super().describe()
        return found if self.drawn != "evenly" else {n: v for n, v in found.items() if n != "drawn"}

    @property
    def method(self) -> str:
        """The projected rule's name and the space."""
        return f"{super().method}-{self.space.replace('_', '-')}"


class BatchHessian(Hessian):
    """H(θ) on the given rows (n,) of the data alone."""

    def __init__(self, objective: Objective, theta: Tensor, rows: Tensor | None):
        super().__init__(objective, theta)
        if rows is not None:
            self._rows, self._samples = rows, len(rows)


class GradientCovariance:
    """S(θ) = (1/N) Σ_i (∇ℓ_i − g)(∇ℓ_i − g)ᵀ, given by its block products (D, m) → (D, m).

    With s_i = ∇ℓ_iᵀv the product is Sv = (1/N) Σ_i (s_i − s̄) ∇ℓ_i: a pass forward and one back for each
    column, and no gradient of a single sample is held.
    """

    def __init__(self, objective: Objective, theta: Tensor):
        self.objective, self.theta = objective, theta

    def __matmul__(self, block: Tensor) -> Tensor:
        slopes = self.objective.slopes(self.theta, block)
        weights = (slopes - slopes.mean(0)) / len(slopes)
        columns = [self.objective.weighted_gradient(self.theta, w.contiguous()) for w in weights.T]
        return torch.stack(columns, 1)


class Preconditioned:
    """√M H √M for a diagonal M, given by its root (D, 1); M H has the eigenvectors √M w."""

    def __init__(self, hessian: Hessian, root: Tensor):
        self.hessian, self.root = hessian, root

    def __matmul__(self, block: Tensor) -> Tensor:
        return self.root * (self.hessian @ (self.root * block))


def leading_space(vectors: Tensor, k: int) -> Tensor:
    """Orthonormal basis (D, k) of the leading singular directions of vectors given as rows (n, D), n ≥ k.

    By the n × n matrix of their products; fewer columns where they have a lower rank.

    Raises:
        Diverged: the vectors are not finite.
    """
    gram = (vectors @ vectors.T).double()
    if not torch.isfinite(gram).all():
        raise Diverged
    weights = torch.linalg.eigh(gram)[1][:, -k:].flip(1).to(vectors)
    return orthonormalize(vectors.T @ weights)


def largest_coordinates(values: Tensor, k: int) -> Tensor:
    """The axes (D, k) of the k largest of some values (D,), largest first."""
    basis = values.new_zeros(len(values), k)
    basis[values.topk(k).indices, torch.arange(k, device=values.device)] = 1
    return basis


class SubstituteRun(RunInProgress):
    """The run in progress.

    Attributes:
        basis: of the space in use, (D, k), orthonormal columns; None before the switch.
    """

    experiment: Substitute

    def __init__(self, experiment: Substitute):
        super().__init__(experiment)
        self.trainer = Trainer(experiment)
        if experiment.drawn == "at random":
            self.trainer.objective.subset_seed = experiment.seed
        self.basis: Tensor | None = None
        self.rows: list[list[float]] = []
        self.refreshes = self.unconverged = 0
        self._found = -1  # step of the last refresh
        self._block: Tensor | None = None  # from which the next solve for the space starts
        self._exact: Tensor | None = None  # likewise for S_k
        self._adam = Adam(experiment.learning_rate)
        self._moments = self._adam.init(self.trainer.theta) if experiment.space in OF_ADAM else {}

    def _advance(self) -> None:
        e, trainer = self.experiment, self.trainer
        gradient, state, update = trainer.peek()
        if self._moments:
            self._moments, _ = self._adam.update(self._moments, gradient, trainer.theta)
        if self.step >= e.switch_step:
            if (self.step - e.switch_step) % e.refresh_every == 0:
                self._refresh(gradient)
            if self.step in (e.switch_step, e.steps) or self._row_due():
                self._record(gradient)
            if self.step == e.steps:
                self.status = COMPLETE
                return
            update = restrict(update, e.projection, self)
        trainer.move(state, update)
        self.step = trainer.step

    def _row_due(self) -> bool:
        e = self.experiment
        if e.record_every is None or self.step % e.record_every:
            return False
        return not e.record_spans or any(first <= self.step <= end for first, end in e.record_spans)

    @full_precision()
    def project(self, v: Tensor) -> Tensor:
        """P v, of shape (D,), onto the space in use."""
        assert self.basis is not None  # since the switch
        return self.basis @ (self.basis.T @ v)

    def _refresh(self, gradient: Tensor) -> None:
        """Find the space at the present θ; a random one is drawn once."""
        e = self.experiment
        if e.space == "random" and self.basis is not None:
            return
        if e.space == "random":
            basis = orthonormalize(self._random(e.k))
        elif e.space == "adam_coordinates":
            basis = largest_coordinates(self._moments["second"], e.k)
        elif e.space == "batch_gradients":
            rows = self._batch_gradients()
            basis = leading_space(rows - rows.mean(0), e.k)
        elif e.space == "mean_outputs":
            outputs = self.trainer.objective.mean_output_gradients(self.trainer.theta)
            basis = leading_space(outputs.T, e.k)
        else:
            basis = self._solved(gradient)
        # In this order in memory, as it comes out of a checkpoint: sums round alike.
        self.basis, self._found = basis.contiguous(), self.step
        self.refreshes += 1

    def _batch_gradients(self) -> Tensor:
        """Gradients at θ of the minibatches that come next, as rows."""
        run, count = self.trainer, self.experiment.batches
        rows = [run.batches.rows(self.step + i) for i in range(count)]
        return torch.stack([run.objective.gradient(run.theta, some)[1] for some in rows])

    def _solved(self, gradient: Tensor) -> Tensor:
        e, o, theta = self.experiment, self.trainer.objective, self.trainer.theta
        operator: Operator
        root = None
        if e.space == "batch_hessian":
            operator = BatchHessian(o, theta, self.trainer.batches.rows(self.step))
        elif e.space == "gauss_newton":
            operator = GaussNewton(o, theta, e.matrix_samples)
        elif e.space == "sample_gradients":
            operator = GradientCovariance(o, theta)
        elif e.space == "adam_hessian":
            root = self._adam.preconditioner(self._moments).sqrt()[:, None]
            operator, gradient = Preconditioned(o.hessian(theta), root), root[:, 0] * gradient
        else:
            operator = Hessian(o, theta, e.matrix_samples)
        pairs, self._block = self._top(operator, self._block, gradient, e.target_angle)
        self.unconverged += not pairs.converged
        vectors = pairs.vectors[:, : e.k]
        if root is None:
            return vectors
        # Once more by the matrix: the root would enlarge what the solve has left where H is zero, as at
        # the weights of a pixel that is never lit.
        return orthonormalize(root * (operator @ vectors.contiguous()))

    def _top(
        self, operator: Operator, start: Tensor | None, probe: Tensor, angle: float
    ) -> tuple[RitzPairs, Tensor]:
        """The k leading eigenpairs up to an angle, and the block to start from the next time.

        In the gradient an eigenvector shows that the block has lost.
        """
        k, width = self.experiment.k, self.experiment.k + self.experiment.guards
        start = self._random(width) if start is None else start
        pairs = top_eigenpairs(operator, k, torch.cat([start, probe[:, None]], 1), angle=angle)
        return pairs, pairs.vectors[:, :width].contiguous()

    def _random(self, columns: int) -> Tensor:
        theta, generator = self.trainer.theta, torch.Generator().manual_seed(self.experiment.seed)
        return torch.randn(len(theta), columns, generator=generator).to(theta)

    def _record(self, gradient: Tensor) -> None:
        e, o, basis = self.experiment, self.trainer.objective, self.basis
        assert basis is not None  # since the refresh at the switch
        hessian = o.hessian(self.trainer.theta)
        pairs, self._exact = self._top(hessian, self._exact, gradient, CERTIFIED)
        loss, full = by_products(hessian)
        row = dict.fromkeys(COLUMNS, math.nan)
        row |= {"step": self.step, "train_loss": loss, "gradient_norm": float(full.norm())}
        row["alignment"], row["batch_alignment"] = share(basis, full), share(basis, gradient)
        if pairs.converged:
            exact = self._exact[:, : e.k].contiguous()
            row["exact_alignment"] = share(exact, full)
            row["sine"] = sin_largest_angle(exact, basis)
            row["overlap"] = mean_squared_cosine(exact, basis)
            row["eigenvalue_k"], row["eigenvalue_beyond"] = map(
                float, pairs.values[e.k - 1 : e.k + 1]
            )
        row["age"], row["refreshes"] = self.step - self._found, self.refreshes
        row["unconverged"], row["products"] = self.unconverged, o.products
        row["gradient_equivalents"], row["seconds"] = o.gradient_equivalents, self.seconds
        self.rows.append([float(row[name]) for name in COLUMNS])

    def table(self) -> pd.DataFrame:
        """The measurements so far."""
        counts = ("step", "age", "refreshes", "unconverged", "products")
        return pd.DataFrame(self.rows, columns=list(COLUMNS)).astype(dict.fromkeys(counts, "int64"))

    def _own_state(self) -> State:
        state = {
            "rows": as_rows(self.rows, len(COLUMNS)),
            "counts": torch.tensor([self.refreshes, self.unconverged, self._found]),
            **nested("trainer", self.trainer.state()),
            **nested("moments", self._moments),
        }
        blocks = {"basis": self.basis, "block": self._block, "exact": self._exact}
        return state | {name: block for name, block in blocks.items() if block is not None}

    def _load_own_state(self, state: State) -> None:
        device = self.experiment.device
        self.trainer.load_state(within("trainer", state))
        self.rows = state["rows"].tolist()
        self.refreshes, self.unconverged, self._found = state["counts"].tolist()
        self._moments = {n: v.to(device) for n, v in within("moments", state).items()}
        blocks = (state.get(name) for name in ("basis", "block", "exact"))
        self.basis, self._block, self._exact = (b if b is None else b.to(device) for b in blocks)


def share(basis: Tensor, v: Tensor) -> float:
    """‖VVᵀv‖/‖v‖ for orthonormal V (D, k), in 0 … 1; NaN for v = 0."""
    norm = float(v.norm())
    return float((basis.T @ v).norm()) / norm if norm > 0 else math.nan
