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

NUMERICS = 3  # raised whenever the code changes the numbers that a description leads to


DatasetName = Literal[data.DATASETS]
ModelName = Literal[MODELS]
LossName = Literal[tuple(LOSSES)]
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


class Experiment(Description):
    """A training run. Its hash covers every field, the data's SHA-256 and the code's ``NUMERICS``.

    With ``projection`` "dominant" or "bulk" the run trains with the plain update rule up to
    ``switch_step`` and projects every update from there on. Without a projection the run is plain from
    beginning to end; ``watch_alignment`` makes it look for the step at which the exponential moving
    average (factor 0.9 per step) of the full-batch gradient's alignment first exceeds that value.
    """

    dataset: DatasetName = "mnist5k"
    model: ModelName = "mlp"
    loss: LossName = "mse"
    optimizer: Literal["sgd"] = "sgd"
    projection: Literal["none", "dominant", "bulk"] = "none"
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
    chunk: int = Field(
        default_factory=lambda fields: CHUNKS.get(fields.get("model"), 1000),
        ge=1,
        description="samples per autograd graph",
    )
    device: Literal["cpu", "cuda"] = "cpu"

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
        if self.spectrum_every % self.record_every:
            raise ValueError(
                f"spectrum_every = {self.spectrum_every} must be a multiple of record_every = "
                f"{self.record_every}"
            )
        return self

    @property
    def method(self) -> str:
        """SGD, Dom-SGD or Bulk-SGD."""
        prefix = {"none": "", "dominant": "Dom-", "bulk": "Bulk-"}[self.projection]
        return prefix + self.optimizer.upper()

    def describe(self) -> dict[str, Any]:
        """All that determines the numbers, as JSON values."""
        return {
            **self.model_dump(),
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
