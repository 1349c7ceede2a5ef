"""Training with an update's two parts weighted, and with noise replaced by its mean effect."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from subspace_lib.experiment import Count, Experiment
from subspace_lib.runs.protocol import State
from subspace_lib.runs.training import Run


class Weighted(Experiment):
    """A run that from the switch on takes α P_k u + β (I − P_k) u in place of the update u.

    (1, 1) is X, (1, 0) Dom-X, (0, 1) Bulk-X.

    Source: Zakarin & Singh, arXiv 2505.11972 (interpolated updates).
    """

    kind: ClassVar[str] = "weighted"

    dominant: float = Field(1.0, ge=0, le=1e3, description="α, of the dominant part")
    bulk: float = Field(1.0, ge=0, le=1e3, description="β, of the rest")

    @model_validator(mode="after")
    def _plain(self) -> Self:
        self._check_plain()
        return self

    @property
    def method(self) -> str:
        """The rule's name and "weighted"."""
        return super().method + "-weighted"


class WeightedRun(Run):
    """The run in progress."""

    experiment: Weighted

    def __init__(self, experiment: Weighted):
        super().__init__(experiment)
        self.follows = True

    def _applied(self, update: Tensor) -> Tensor:
        inside = self.subspace.project(update)
        return self.experiment.dominant * inside + self.experiment.bulk * (update - inside)


class Averaged(Experiment):
    """Full-batch gradient descent on the mean loss around θ, with SGD's noise in the dominant directions.

    From the switch on the gradient is ½ (g(θ + V x) + g(θ − V x)), x drawn at each step with independent
    components x_i ~ N(0, C_i). C_i = η σ_i²/(λ_i (2 − η λ_i)) is the variance at which SGD with minibatch
    noise of variance σ_i² comes to rest along an eigenvector v_i of the quadratic with eigenvalue λ_i. Its
    mean is ∇(L + ½ Σ_i C_i λ_i(θ)) to second order, C_i held fixed: what noise does to the slow motion.
    σ_i², λ_i = v_iᵀHv_i and C_i are measured anew every ``renew`` steps, along the basis in use there; C_i
    is 0 where λ_i is not in 0 … 2/η.

    Source: the derivation here; the effect is that of So & Shin, arXiv 2607.23012.
    """

    kind: ClassVar[str] = "averaged"

    noise_of: Count = Field(50, description="samples of the minibatches whose noise is meant")
    renew: Count = Field(100, description="steps after which the noise is measured anew")

    @model_validator(mode="after")
    def _full_batch(self) -> Self:
        self._check_plain("noise", "period")
        if self.batch_size != self.samples or self.optimizer != "sgd":
            raise ValueError(
                f"batch_size = {self.batch_size} and optimizer = {self.optimizer!r}: this kind of run "
                f"({self.kind}) is full-batch gradient descent; use {self.samples} and 'sgd'"
            )
        if self.noise_of > self.samples:
            raise ValueError(f"noise_of = {self.noise_of} must be at most {self.samples}")
        return self

    @property
    def method(self) -> str:
        """ "GD-averaged"."""
        return super().method + "-averaged"


class AveragedRun(Run):
    """The run in progress.

    Attributes:
        spread: √C_i, (k,); None before the switch.
    """

    experiment: Averaged

    def __init__(self, experiment: Averaged):
        super().__init__(experiment)
        self.follows = True
        self.spread: Tensor | None = None

    def _used(self, gradient: Tensor) -> Tensor:
        e = self.experiment
        if self.spread is None or (self.step - e.switch_step) % e.renew == 0:
            self.spread = self._measured()
        generator = torch.Generator().manual_seed((e.seed * 1_000_003 + self.step + 1) % 2**32)
        z = torch.randn(e.k, generator=generator).to(gradient)
        shift = self.subspace.basis @ (self.spread.to(gradient) * z)
        return (self.trainer.gradient(shift) + self.trainer.gradient(-shift)) / 2

    def _measured(self) -> Tensor:
        """√C_i of the basis in use, (k,), float64."""
        e, o, n = self.experiment, self.objective, len(self.objective)
        basis = self.subspace.basis
        single, _ = o.gradient_variance(self.theta, basis)
        variance = single.cpu() * (n - e.noise_of) / ((n - 1) * e.noise_of)
        # Not those of the last refresh, which may be many steps old.
        values = (basis * (o.hessian(self.theta) @ basis)).sum(0).double().cpu()
        inside = (values > 0) & (e.learning_rate * values < 2)
        rest = e.learning_rate * variance / (values * (2 - e.learning_rate * values))
        return torch.where(inside, rest, torch.zeros_like(rest)).clamp(min=0).sqrt()

    def _own_state(self) -> State:
        state = super()._own_state()
        return state if self.spread is None else state | {"spread": self.spread}

    def _load_own_state(self, state: State) -> None:
        super()._load_own_state(state)
        self.spread = state.get("spread")
