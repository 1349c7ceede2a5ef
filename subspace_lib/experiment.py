"""One run, described completely: a frozen, validated set of parameters with a content address."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from subspace_lib import data
from subspace_lib.models import CHUNKS, MODELS, architecture, fitting
from subspace_lib.objective import LOSSES
from subspace_lib.optimizers import OPTIMIZERS, RULES, WITH_BETA
from subspace_lib.own import Own, find, is_path
from subspace_lib.parameters import Description, apart, quoted
from subspace_lib.subspace.projection import PROJECTIONS

# Raised whenever the code changes the numbers that a description leads to by more than what the description
# leaves open: rounding, which differs between processors too, and a basis within its target angle.
NUMERICS = 4
# Where a run is computed changes rounding only: that belongs to its provenance.
NOT_DESCRIBED = frozenset({"device"})
MOST_CLASSES = 10  # of the data of this book
SOURCES = "own_sha256"  # in a description: of the modules of own functions, by import path
# Of looks and of a training run's rows. What all of a study's runs are described with is not among them.
TRAINING_ONLY = ("budget", "stop_above", "period", "subset", "record_spans", "fresh_spans")
PREFIX = {"none": "", "dominant": "Dom-", "bulk": "Bulk-"}


def or_own(check: Callable[[str], object]) -> WrapValidator:
    """Beside the names of a registry, import paths that ``check`` raises no ValueError for."""

    def validate(value: Any, named: ValidatorFunctionWrapHandler) -> Any:
        if is_path(value):
            check(value)
            return value
        try:
            return named(value)
        except ValidationError as error:
            told = {"names": error.errors()[0]["msg"]}
            raise PydanticCustomError(
                "name", "{names}, or your own 'module:function'", told
            ) from None

    return WrapValidator(validate)


# A type checker does not read the registries. Pydantic does, and refuses every other name.
if TYPE_CHECKING:
    DatasetName = str
    Preprocessing = str
    ModelName = str
    LossName = str
    OptimizerName = str
    Projection = str
else:
    DatasetName = Annotated[Literal[data.DATASETS], or_own(data.samples)]
    Preprocessing = Literal[data.PREPROCESSING]
    ModelName = Annotated[Literal[MODELS], or_own(architecture)]
    LossName = Literal[tuple(LOSSES)]
    OptimizerName = Literal[OPTIMIZERS]
    Projection = Literal[PROJECTIONS]
Projected = Literal["update", "gradient", "both"]
NoiseName = Literal["none", "sgd", "isotropic"]
RefreshEvery = Literal["adaptive"] | int
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Every = Annotated[int, Field(ge=1, le=1_000_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Dimension = Annotated[int, Field(ge=1, le=100)]
# A smaller step of a gradient of size 1 is lost in the rounding of a float32 parameter of size 10⁻³; what
# is larger overflows.
Rate = Annotated[float, Field(ge=1e-10, le=1e10)]
# float32 does not tell smaller angles, nor smaller steps relative to ‖θ‖, from none.
Angle = Annotated[float, Field(ge=1e-5, le=0.5)]
Radius = Annotated[float, Field(ge=1e-6, le=1e3)]
Spans = tuple[tuple[int, int], ...]
Period = Annotated[int, Field(ge=1, le=10)]
Device = Literal["cpu", "cuda"]


def missing_device(device: str) -> str:
    """Why nothing can be computed there, or nothing."""
    if device != "cuda" or torch.cuda.is_available():
        return ""
    return "device = 'cuda' needs a CUDA GPU, and PyTorch sees none; use 'cpu'"


def address(description: dict[str, Any]) -> str:
    """The first ten digits of the SHA-256 of a description, as JSON with sorted keys."""
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


class RunDescription(Description):
    """Base of all kinds of run: what determines the numbers of one, and where its results lie."""

    kind: ClassVar[str]

    seed: Seed = 0
    device: Device = "cpu"

    @property
    def method(self) -> str:
        """A short name of what is run."""
        return self.kind

    def describe(self) -> dict[str, Any]:
        """All that determines the numbers, as JSON values."""
        fields = self.model_dump(mode="json", exclude=set(NOT_DESCRIBED))
        return {"kind": self.kind, **fields, "numerics": NUMERICS}

    @property
    def digest(self) -> str:
        """The first ten digits of the description's SHA-256."""
        return address(self.describe())

    @property
    def key(self) -> str:
        """``<method>-s<seed>-<digest>``, the name of the run's folder."""
        return f"{self.method.lower()}-s{self.seed}-{self.digest}"

    @field_validator("device")
    @classmethod
    def _device_present(cls, value: str) -> str:
        if lacking := missing_device(value):
            raise ValueError(lacking)
        return value


class Phase(Description):
    """Plain steps that lead up to a run's own part; what is None is as in the run."""

    until: int = Field(ge=1, description="first step that is no longer part of it")
    optimizer: OptimizerName | None = None
    learning_rate: Rate | None = None
    batch_size: Count | None = None


class Experiment(RunDescription):
    """A training run. Its digest covers every field but the device, the data's SHA-256 and ``NUMERICS``.

    ``dataset`` and ``model`` are names, or import paths of functions of your own (``subspace_lib.own``):
    the SHA-256 of their modules' source is then in the digest too. ``origin`` has them as they were when
    the run was described, whatever has become of the files since.

    ``before`` lists phases that precede the run's own optimizer, learning rate and batch size, each
    with its own. A batch size of all samples is full-batch training, without any batch order.

    With ``noise`` "sgd" a full-batch run adds Gaussian noise to its gradient from ``switch_step`` on,
    with the covariance of minibatches of ``noise_batch`` samples; "isotropic" has the same trace.

    A row is measured in the basis in use; its eigenvalues are those of the last refresh, whose step it
    gives. Where ``spectrum_every`` asks for the whole spectrum, and in ``fresh_spans``, rows refresh the
    basis. ``budget`` limits the gradient equivalents of the subspace, its cold start apart, to
    ``budget`` − 1 times those of the steps themselves.

    With ``projection`` "dominant" or "bulk" the run trains with the plain update rule up to
    ``switch_step`` and projects every update from there on. Without a projection the run is plain from
    beginning to end, and follows the subspace between rows only where something uses it or
    ``refresh_every`` is a number; ``watch_alignment`` makes it look for the step at which the exponential
    moving average (factor 0.9 per step, from ``watch_from`` on) of the full-batch gradient's alignment
    first exceeds that value, not before ``switch_from``. Where it has not by ``switch_by``, that step
    counts.
    With ``projected`` "gradient" the gradient is projected before it enters the rule's state, and the
    update is taken as it comes; with "both" the update is projected too.

    With ``period`` 2 the subspaces of even and of odd steps are followed apart. Where training bounces
    between the walls of a valley, as at the edge of stability, the subspace of the step before last is
    far closer than that of the last step. Both are certified as with period 1.
    """

    kind: ClassVar[str] = "training"

    dataset: DatasetName = "mnist5k"
    preprocessing: Preprocessing = Field(
        default_factory=lambda fields: data.default_preprocessing(fields.get("dataset")),
        description="of the inputs; the paper's for the data set if not given",
    )
    model: ModelName = "mlp"
    loss: LossName = "mse"
    optimizer: OptimizerName = "sgd"
    projection: Projection = "none"
    k: Dimension = Field(10, description="of the dominant subspace")
    learning_rate: Rate = Field(0.01, description="η")
    batch_size: Count = Field(50, description="samples")
    steps: Steps = 20_000
    switch_step: int = Field(0, ge=0, description="first step that is measured, and projected")
    watch_alignment: float | None = Field(None, gt=0, lt=1)
    watch_from: int = Field(900, ge=0, description="first step of the watched moving average")
    switch_from: int = Field(1000, ge=0, description="first step at which it may exceed")
    switch_by: int | None = Field(None, ge=1, description="step that counts where it has not")
    seed: Seed = Field(0, description="of initialization and batch order")
    refresh_every: RefreshEvery = Field("adaptive", description="or a number of steps ≥ 1")
    target_angle: Angle = Field(0.05, description="sine")
    guards: int = Field(3, ge=1, le=50)
    correction: int = Field(0, ge=0, description="samples for a second power step, 0 for none")
    subset: int | None = Field(None, ge=0, description="samples that looks see; None: 50 to 250")
    budget: float | None = Field(None, gt=1, description="at most so many times the price of SGD")
    # Not a divisor of the steps in an epoch, or every row would be at the same place of an epoch.
    record_every: Every | None = Field(90, description="steps; None: first and last row only")
    spectrum_every: Every | None = Field(
        900, description="steps, a multiple of record_every; None: never"
    )
    record_spans: Spans = Field(
        (), description="rows only in these spans of steps, first and last included, and at the end"
    )
    fresh_spans: Spans = Field(
        (), description="rows in these spans refresh the subspace, and know its eigenvalues"
    )
    chunk: int = Field(
        default_factory=lambda fields: CHUNKS.get(fields.get("model"), 1000),
        ge=1,
        le=1_000_000,
        description="samples per autograd graph",
    )
    before: tuple[Phase, ...] = ()
    beta: float = Field(0.9, ge=0, lt=1, description="of momentum, β₁ of Adam")
    rho: Radius = Field(0.05, description="ρ of SAM, in units of ‖θ‖")
    classes: int = Field(
        default_factory=lambda fields: most_classes(fields.get("dataset")),
        ge=2,
        description="only samples of the first so many classes",
    )
    noise: NoiseName = "none"
    noise_batch: Count = Field(50, description="samples")
    projected: Projected = "update"
    period: Period = Field(1, description="steps after which the subspace comes back")
    stop_above: float | None = Field(
        None, gt=0, description="a recorded loss above so many times the initial one: diverged"
    )
    _own: dict[str, Own] = PrivateAttr(default_factory=dict)

    @field_validator("refresh_every", mode="before")
    @classmethod
    def _refresh_allowed(cls, value: Any) -> Any:
        number = value if isinstance(value, int) else str(value).isdecimal() and int(value)
        if value != "adaptive" and (number is False or number < 1):
            raise ValueError(
                f"refresh_every = {value!r} must be 'adaptive' or a number of steps of at least 1"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.switch_step >= self.steps:
            raise ValueError(f"switch_step = {self.switch_step} must be below steps = {self.steps}")
        for what, name in (("model", self.model), ("dataset", self.dataset)):
            if is_path(name):
                self._own[name] = find(what, name)
        self._check_model()
        data.check_preprocessing(self.origin(self.dataset), self.preprocessing)
        samples = self.samples
        most = most_classes(self.dataset)
        if self.classes > most:
            allowed = f"for {self.dataset} it should be less than or equal to {most}"
            raise ValueError(f"classes = {self.classes} is not allowed: {allowed}")
        self._check_sizes(samples)
        self._check_steps()
        ends = [phase.until for phase in self.before]
        if ends != sorted(set(ends)) or (ends and ends[-1] > self.switch_step):
            raise ValueError(
                f"the phases before end at {ends}: they must end one after the other, the last not "
                f"after switch_step = {self.switch_step}"
            )
        self._check_rule()
        self._check_noise(samples)
        if self.spectrum_every is not None and self.spectrum_every % (self.record_every or 1):
            raise ValueError(
                f"spectrum_every = {self.spectrum_every} must be a multiple of record_every = "
                f"{self.record_every}"
            )
        return self

    def _check_sizes(self, samples: int) -> None:
        """Numbers of samples, of which there are no more than the data set has."""
        sizes = {n: getattr(self, n) for n in ("batch_size", "noise_batch", "correction", "subset")}
        sizes |= {f"batch_size of phase {i}": p.batch_size for i, p in enumerate(self.before, 1)}
        unasked = self.noise_batch == Experiment.model_fields["noise_batch"].default
        if self.noise == "none" and unasked:
            del sizes["noise_batch"]
        for name, size in sizes.items():
            if size is not None and size > samples:
                raise ValueError(
                    f"{name} = {size} must be at most {samples}, the size of {self.dataset}"
                )

    def _check_noise(self, samples: int) -> None:
        """It is that of minibatches, of which full-batch gradients of all ``samples`` have none."""
        whole = {"classes": data.classes(self.origin(self.dataset)), "batch_size": samples}
        for name, least in whole.items():
            if self.noise != "none" and (value := getattr(self, name)) < least:
                raise ValueError(
                    f"noise = {self.noise!r} with {name} = {value}: it is added to full-batch gradients "
                    f"of all classes only; use {name} = {least}, or noise = 'none'"
                )

    def _check_steps(self) -> None:
        """What would lie past the end would never be: no row, no switch."""
        apart(self.record_spans, self.steps, "record_spans")
        apart(self.fresh_spans, self.steps, "fresh_spans")
        if self.watch_alignment is None:
            return
        if self.switch_by is not None and self.switch_by > self.steps:
            raise ValueError(f"switch_by = {self.switch_by} must be at most steps = {self.steps}")
        late = max(self.watch_from, self.switch_from)
        if self.switch_by is None and late >= self.steps:
            raise ValueError(
                f"watch_from = {self.watch_from} and switch_from = {self.switch_from} must be below "
                f"steps = {self.steps}: the alignment would not be watched"
            )

    def _check_plain(self, *ignored: str) -> None:
        """Of a kind of run that measures in ways of its own: what it would ignore is refused."""
        if self.projection != "none":
            told = f"this kind of run ({self.kind}) is that of a plain rule; use none"
            raise ValueError(f"projection = {self.projection!r}: {told}")
        for name in ("watch_alignment", *ignored):
            value = getattr(self, name)
            if value != Experiment.model_fields[name].default:
                told = f"{name} = {quoted(value)} has no meaning in a run of the kind {self.kind}"
                raise ValueError(f"{told}; leave it out")

    def _check_model(self) -> None:
        """Which networks take what the data set has is known without either."""
        origin = self.origin(self.dataset)
        shape = data.shape(origin)
        fits = fitting(shape, data.tokens(origin))
        if is_path(self.model) or self.model in fits:
            return
        what = "sentences of tokens" if data.tokens(origin) else f"images of {shape}"
        if is_path(self.dataset) and not data.tokens(origin):
            what = f"inputs of shape {shape}"
        known = f"choose one of {', '.join(fits)}, or" if fits else "give"
        raise ValueError(
            f"model = {self.model!r} does not take {what}, which {self.dataset} has; {known} your own "
            "'module:function'"
        )

    def _check_rule(self) -> None:
        """A parameter of a rule that the run does not use would be ignored; say so instead."""
        fields = type(self).model_fields
        used = {self.optimizer, *(phase.optimizer for phase in self.before)}
        for name, rules in (("rho", {"sam"}), ("beta", set(WITH_BETA))):
            value = getattr(self, name)
            if value != fields[name].default and not rules & used:
                wanted = " or ".join(sorted(rules))
                raise ValueError(f"{name} = {value} has a meaning only with optimizer = {wanted}")
        if self.projected != "update" and (self.projection == "none" or self.optimizer == "sam"):
            raise ValueError(
                f"projected = {self.projected!r} needs projection = dominant or bulk, and an optimizer "
                "other than sam"
            )

    @property
    def method(self) -> str:
        """The rule's name, with Dom- or Bulk- where it is projected; full-batch SGD is GD."""
        full = self.batch_size == self.samples
        title = "GD" if full and self.optimizer == "sgd" else RULES[self.optimizer].title
        return PREFIX[self.projection] + title

    @property
    def samples(self) -> int:
        """Size of the training set."""
        return data.samples(self.origin(self.dataset))

    def origin(self, name: str) -> str | Own:
        """A model or data set by its name, or the function of your own that it has been described with."""
        return self._own.get(name, name)

    def describe(self) -> dict[str, Any]:
        """All that determines the numbers, as JSON values."""
        described = {**super().describe(), "data_sha256": data.sha256(self.origin(self.dataset))}
        if self._own:
            described[SOURCES] = {path: own.sha256 for path, own in self._own.items()}
        return described

    @property
    def key(self) -> str:
        """``<dataset>-<model>-<method>-s<seed>-<digest>``, the name of the run's folder."""
        names = (re.sub(r"\W+", "-", name).lower() for name in (self.dataset, self.model))
        return f"{'-'.join(names)}-{super().key}"


def most_classes(dataset: str | None) -> int:
    """How many classes a run may be told to use: 10, also of less; of own data those that there are."""
    return data.classes(dataset) if is_path(dataset) else MOST_CLASSES
