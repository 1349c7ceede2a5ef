"""One run, described completely: a frozen, validated set of parameters with a content address."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from subspace_lib import data
from subspace_lib.models import CHUNKS, MODELS
from subspace_lib.objective import LOSSES
from subspace_lib.optimizers import OPTIMIZERS, PROJECTIONS, WITH_BETA

# Raised whenever the code changes the numbers that a description leads to by more than what the description
# leaves open: rounding, which differs between processors too, and a basis within its target angle.
NUMERICS = 3
PREFIX = {"none": "", "dominant": "Dom-", "bulk": "Bulk-"}
# Younger than the oldest stored runs: described, and hashed, only where they differ from their default.
LATER = ("before", "beta", "rho", "noise", "noise_batch", "classes", "record_spans", "project",
         "stop_above", "period")  # fmt: skip


DatasetName = Literal[data.DATASETS]
ModelName = Literal[MODELS]
LossName = Literal[tuple(LOSSES)]
OptimizerName = Literal[OPTIMIZERS]
NoiseName = Literal["none", "sgd", "isotropic"]
Refresh = Literal["adaptive"] | int


class InvalidParameter(ValueError):
    """A parameter is unknown or out of bounds; the message is one sentence that lists what is allowed."""


class Description(BaseModel):
    """Base of everything that is described by validated parameters: frozen, and no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, **parameters: Any):
        """Build one from keyword arguments.

        Raises:
            InvalidParameter: one sentence for the first thing that is wrong.
        """
        try:
            return cls(**parameters)
        except ValidationError as error:
            raise InvalidParameter(_sentence(error.errors()[0], cls)) from None

    def in_profile(self, quick: dict[str, Any]):
        """The parameters in force: profile "quick" replaces those that stand at their defaults."""
        if self.profile == "paper":
            return self
        fields = type(self).model_fields
        changed = {n: v for n, v in quick.items() if getattr(self, n) == fields[n].default}
        return type(self).parse(**{**self.model_dump(), **changed, "profile": "paper"})


def ascending(anchors: tuple[int, ...]) -> tuple[int, ...]:
    """The anchors, if they are different steps in ascending order; ValueError otherwise."""
    if list(anchors) != sorted(set(anchors)) or anchors[0] < 0:
        raise ValueError(f"anchors = {list(anchors)} must be different steps in ascending order")
    return anchors


class Phase(Description):
    """Plain steps that lead up to a run's own part; what is None is as in the run."""

    until: int = Field(ge=1, description="first step that is no longer part of it")
    optimizer: OptimizerName | None = None
    learning_rate: float | None = Field(None, gt=0)
    batch_size: int | None = Field(None, ge=1)


class Experiment(Description):
    """A training run. Its hash covers every field, the data's SHA-256 and the code's ``NUMERICS``.

    ``before`` lists phases that precede the run's own optimizer, learning rate and batch size, each
    with its own. A batch size of all samples is full-batch training, without any batch order.

    With ``noise`` "sgd" a full-batch run adds Gaussian noise to its gradient from ``switch_step`` on,
    with the covariance of minibatches of ``noise_batch`` samples; "isotropic" has the same trace.

    With ``projection`` "dominant" or "bulk" the run trains with the plain update rule up to
    ``switch_step`` and projects every update from there on. Without a projection the run is plain from
    beginning to end; ``watch_alignment`` makes it look for the step at which the exponential moving
    average (factor 0.9 per step) of the full-batch gradient's alignment first exceeds that value.
    With ``project`` "gradient" the gradient is projected before it enters the rule's state, and the
    update is taken as it comes; with "both" the update is projected too.

    With ``period`` 2 the subspaces of even and of odd steps are followed apart. Where training bounces
    between the walls of a valley, as at the edge of stability, the subspace of the step before last is
    far closer than that of the last step. Both are certified as with period 1.
    """

    dataset: DatasetName = "mnist5k"
    model: ModelName = "mlp"
    loss: LossName = "mse"
    optimizer: OptimizerName = "sgd"
    projection: Literal[PROJECTIONS] = "none"
    k: int = Field(10, ge=1, le=100, description="dimension of the dominant subspace")
    learning_rate: float = Field(0.01, gt=0, description="η")
    batch_size: int = Field(50, ge=1, description="samples")
    steps: int = Field(20_000, ge=1, le=1_000_000)
    switch_step: int = Field(0, ge=0, description="first projected step")
    watch_alignment: float | None = Field(None, gt=0, lt=1)
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of initialisation and batch order")
    refresh: Refresh = Field("adaptive", description="or a number of steps ≥ 1")
    target_angle: float = Field(0.05, gt=0, le=0.5, description="sine")
    guards: int = Field(3, ge=1, le=50)
    correction: int = Field(0, ge=0, description="samples for a second power step, 0 for none")
    # Not a divisor of the steps in an epoch, or every row would be at the same place of an epoch.
    record_every: int = Field(90, ge=1, description="steps")
    spectrum_every: int = Field(900, ge=1, description="steps, a multiple of record_every")
    record_spans: tuple[tuple[int, int], ...] = Field(
        (), description="rows only in these spans of steps, first and last included, and at the end"
    )
    chunk: int = Field(
        default_factory=lambda fields: CHUNKS.get(fields.get("model"), 1000),
        ge=1,
        description="samples per autograd graph",
    )
    device: Literal["cpu", "cuda"] = "cpu"
    before: tuple[Phase, ...] = ()
    beta: float = Field(0.9, ge=0, lt=1, description="of momentum, β₁ of Adam")
    rho: float = Field(0.05, gt=0, description="ρ of SAM, in units of ‖θ‖")
    classes: int = Field(10, ge=2, le=10, description="only samples of the first so many classes")
    noise: NoiseName = "none"
    noise_batch: int = Field(50, ge=1, description="samples")
    project: Literal["update", "gradient", "both"] = "update"
    period: int = Field(1, ge=1, le=10, description="steps after which the subspace comes back")
    stop_above: float | None = Field(
        None, gt=0, description="a recorded loss above so many times the initial one: diverged"
    )

    @field_validator("refresh")
    @classmethod
    def _refresh_positive(cls, value):
        if isinstance(value, int) and value < 1:
            raise ValueError("refresh must be 'adaptive' or a number of steps of at least 1")
        return value

    @field_validator("device")
    @classmethod
    def _device_present(cls, value):
        if value == "cuda" and not torch.cuda.is_available():
            raise ValueError("device = 'cuda' needs a CUDA GPU, and PyTorch sees none; use 'cpu'")
        return value

    @model_validator(mode="after")
    def _consistent(self):
        if self.switch_step >= self.steps:
            raise ValueError(f"switch_step = {self.switch_step} must be below steps = {self.steps}")
        samples = data.SOURCES[self.dataset].train
        if self.batch_size > samples:
            raise ValueError(
                f"batch_size = {self.batch_size} must be at most {samples}, the size of {self.dataset}"
            )
        ends = [phase.until for phase in self.before]
        if ends != sorted(set(ends)) or (ends and ends[-1] > self.switch_step):
            raise ValueError(
                f"the phases before end at {ends}: they must end one after the other, the last not "
                f"after switch_step = {self.switch_step}"
            )
        self._check_rule()
        if self.noise != "none" and self.batch_size < samples:
            raise ValueError(
                f"noise = {self.noise!r} is added to full-batch gradients only; use batch_size = {samples}"
            )
        if self.noise_batch > samples:
            raise ValueError(f"noise_batch = {self.noise_batch} must be at most {samples}")
        if self.spectrum_every % self.record_every:
            raise ValueError(
                f"spectrum_every = {self.spectrum_every} must be a multiple of record_every = "
                f"{self.record_every}"
            )
        return self

    def _check_rule(self):
        """A parameter of a rule that the run does not use would be ignored; say so instead."""
        fields = type(self).model_fields
        used = {self.optimizer, *(phase.optimizer for phase in self.before)}
        for name, rules in (("rho", {"sam"}), ("beta", set(WITH_BETA))):
            value = getattr(self, name)
            if value != fields[name].default and not rules & used:
                wanted = " or ".join(sorted(rules))
                raise ValueError(f"{name} = {value} has a meaning only with optimizer = {wanted}")
        if self.project != "update" and (self.projection == "none" or self.optimizer == "sam"):
            raise ValueError(
                f"project = {self.project!r} needs projection = dominant or bulk, and an optimizer "
                "other than sam"
            )

    @property
    def method(self) -> str:
        """The rule's name, with Dom- or Bulk- where it is projected; full-batch SGD is GD."""
        full = self.batch_size == data.SOURCES[self.dataset].train
        name = {
            "sgd": "GD" if full else "SGD",
            "sam": "SAM",
            "rmsprop": "RMSProp",
            "adamw": "AdamW",
        }
        return PREFIX[self.projection] + name.get(self.optimizer, self.optimizer.capitalize())

    def describe(self) -> dict[str, Any]:
        """All that determines the numbers, as JSON values."""
        fields = type(self).model_fields
        return {
            **{
                name: value
                for name, value in self.model_dump(mode="json").items()
                if name not in LATER or getattr(self, name) != fields[name].default
            },
            "data_sha256": data.SOURCES[self.dataset].sha256,
            "numerics": NUMERICS,
        }

    @property
    def key(self) -> str:
        """``<dataset>-<model>-<method>-s<seed>-<hash>``, the name of the run's folder."""
        digest = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()
        return f"{self.dataset}-{self.model}-{self.method.lower()}-s{self.seed}-{digest[:10]}"


def _sentence(error: dict[str, Any], cls: type[BaseModel]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"{name} is not a parameter; the parameters are {', '.join(cls.model_fields)}."
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    if error["type"] == "value_error":
        return message + "."
    return f"{name} = {error['input']!r} is not allowed: {message[0].lower()}{message[1:]}."
