"""What every study shares: validated parameters over seeds, runs that are loaded or computed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import pandas as pd
from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from subspace_lib import data
from subspace_lib.chapters.kit.defaults import spaced
from subspace_lib.chapters.kit.progress import Progress, SweepProgress
from subspace_lib.chapters.kit.typed import Budget, distinct, numbers
from subspace_lib.errors import Told
from subspace_lib.experiment import (
    Angle,
    DatasetName,
    Device,
    Dimension,
    Every,
    Experiment,
    LossName,
    ModelName,
    Period,
    Preprocessing,
    Rate,
    RefreshEvery,
    RunDescription,
    Seed,
    Steps,
)
from subspace_lib.parameters import Description, InvalidParameter
from subspace_lib.results import memory
from subspace_lib.results.files import Corrupted
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.results.sweep import run_all
from subspace_lib.results.workers import Crew
from subspace_lib.trajectory import Trajectory

P = TypeVar("P", bound="StudyParameters")
# The network of quick profiles: that of the paper, 32 units wide, where it is registered.
SMALL = "mlp_small"
ROWS, SPECTRA, SHORTEST = 90, 1800, 20  # steps between rows, between spectra; rows of a short run
SHARED = (
    "dataset",
    "preprocessing",
    "model",
    "loss",
    "k",
    "learning_rate",
    "batch_size",
    "steps",
    "refresh_every",
    "target_angle",
    "period",
    "record_every",
    "spectrum_every",
    "device",
)


class DryRun(Told):
    """Stops before anything is computed; the message says what would be."""


class Profiled(Description):
    """Parameters with a profile. "quick" fills in what was not given: ``QUICK``, for a run of seconds."""

    QUICK: ClassVar[dict[str, Any]] = {}

    profile: Literal["paper", "quick"] = "paper"
    dry_run: bool = False
    scheduler: str | None = Field(None, description="address of a Dask scheduler")
    _filled: tuple[str, ...] = PrivateAttr(())

    @property
    def filled(self) -> tuple[str, ...]:
        """Names of the parameters that the profile has filled in."""
        return self._filled

    def resolved(self) -> Self:
        """The parameters in force: what was given stays, the profile fills in the rest.

        Its preprocessing belongs to its data set, and is left out where another was given.
        """
        if self.profile == "paper":
            return self
        given = self.model_fields_set | ({"preprocessing"} if _other_data(self) else set())
        quick = {n: v for n, v in self.QUICK.items() if n not in given}
        if not quick:
            return self
        found = type(self).parse(**{**self.model_dump(), **quick})
        found._filled = tuple(quick)
        return found


def _other_data(parameters: Profiled) -> bool:
    """Whether the data set that was given is not the one of the quick profile."""
    quick = parameters.QUICK.get("dataset")
    return (
        getattr(parameters, "dataset", quick) != quick and "dataset" in parameters.model_fields_set
    )


class Seeded(Profiled):
    """Parameters with ``seeds``, which differ from each other and may be typed as text."""

    @field_validator("seeds", mode="before", check_fields=False)
    @classmethod
    def _seeds_from_text(cls, seeds: Any) -> Any:
        """Papermill's ``-p seeds 0,1`` and ``-p seeds "[0, 1]"`` are text, ``-p seeds 0`` a number."""
        return numbers(seeds)

    @field_validator("seeds", check_fields=False)
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return distinct(seeds)


class StudyParameters(Seeded):
    """Parameters that all studies have. ``batch_size="full"`` is full-batch training.

    Where a spectrum has no gap behind λ_k, following the subspace exactly takes products at almost every
    step. With ``refresh_every="adaptive"``, ``budget`` limits that to ``budget`` − 1 times the steps. Cold
    starts, spectra, and rows that ask for a fresh basis come on top.
    """

    dataset: DatasetName = "mnist5k"
    preprocessing: Preprocessing = Field(
        default_factory=lambda fields: data.default_preprocessing(fields.get("dataset"))
    )
    model: ModelName = "mlp"
    loss: LossName = "mse"
    k: Dimension = 10
    learning_rate: Rate = 0.01
    batch_size: Annotated[int, Field(ge=1)] | Literal["full"] = 50
    steps: Steps = 20_000
    seeds: tuple[Seed, ...] = Field((11, 12, 13), min_length=1)
    refresh_every: RefreshEvery = "adaptive"
    target_angle: Angle = 0.05
    period: Period = 1
    budget: Budget = None
    record_every: Every | None = Field(default_factory=spaced(ROWS, SHORTEST))
    spectrum_every: Every | None = Field(default_factory=spaced(SPECTRA, 2))
    device: Device = "cpu"

    @field_validator("batch_size", mode="before")
    @classmethod
    def _number_or_full(cls, size: Any) -> Any:
        if isinstance(size, str) and size != "full" and not size.isdecimal():
            raise ValueError(f"batch_size = {size!r} must be a number of samples, or 'full'")
        return size

    @field_validator("budget")
    @classmethod
    def _of_the_adaptive_schedule(cls, budget: float | None, info: ValidationInfo) -> float | None:
        every = info.data.get("refresh_every", "adaptive")
        if budget is not None and every != "adaptive":
            raise ValueError(
                f"budget = {budget:g} limits refresh_every = 'adaptive'; with {every} leave it out"
            )
        return budget

    @property
    def samples(self) -> int:
        """Size of the training set."""
        return data.samples(self.dataset)

    def experiment(self, seed: int, **fields: Any) -> Experiment:
        """One run of the study: its shared parameters, changed by ``fields``.

        Raises:
            InvalidParameter: a value is out of bounds.
        """
        fixed = fields.get("refresh_every", self.refresh_every) != "adaptive"  # its own price
        budget = None if fixed else self.budget
        return Experiment.parse(**self.fields(seed, **{"budget": budget} | fields))

    def fields(self, seed: int, **fields: Any) -> dict[str, Any]:
        """The parameters of a run by name."""
        merged = {name: getattr(self, name) for name in SHARED} | {"seed": seed} | fields
        if merged["batch_size"] == "full":
            merged["batch_size"] = self.samples
        return merged


def by_seed(parameters: P, **changes: Any) -> list[P]:
    """The parameters, once for each seed alone; with ``changes``."""
    return [
        parameters.model_copy(update={"seeds": (seed,), **changes}) for seed in parameters.seeds
    ]


def check_switch(switch_step: int, steps: int, prefix: str = "") -> None:
    """Raises InvalidParameter where the switch lies beyond the end; both by their names with a prefix."""
    if switch_step >= steps:
        raise InvalidParameter(
            f"{prefix}switch_step = {switch_step} must be below {prefix}steps = {steps}."
        )


def compute(experiment: RunDescription) -> Trajectory:
    """One run: loaded from the results, or computed and kept there."""
    return source(None, True)(experiment)


Source = Callable[[RunDescription], Trajectory]
Key = TypeVar("Key")
Part = TypeVar("Part")
Study = TypeVar("Study")


class Absent(dict[Any, Trajectory]):
    """Runs that are not all stored: who looks into them is told so by MissingRun."""

    def __init__(self, error: MissingRun):
        super().__init__()
        self.error = error

    def _told(self, *_: object) -> Any:
        raise self.error

    __getitem__ = __iter__ = __len__ = keys = values = items = _told


def optional(load: Callable[[], dict[Key, Trajectory]]) -> dict[Key, Trajectory]:
    """Runs that no claim of the paper waits for: ``Absent`` where one is missing and is not computed."""
    try:
        return load()
    except MissingRun as error:
        return Absent(error)


def present(
    parts: Mapping[Key, Part], load: Callable[[Part], Study]
) -> tuple[dict[Key, Study], MissingRun | None]:
    """The studies by name, and what the first one lacks that is not whole.

    One that lacks runs is made of the seeds that have all of theirs; without such a seed it is left out.
    """
    found, lacking = {}, None
    for name, part in parts.items():
        try:
            found[name] = load(part)
        except MissingRun as error:
            lacking = lacking or error
            if (some := _whole_seeds(part, load)) is not None:
                found[name] = load(some)
    return found, lacking


def _whole_seeds(part: Any, load: Callable[[Any], Any]) -> Any:
    """The part with only those of its seeds that have all of their runs; None without any."""
    if not isinstance(part, StudyParameters):
        return None
    whole: list[int] = []
    for alone in by_seed(part):
        with contextlib.suppress(MissingRun):
            load(alone)
            whole += alone.seeds
    return part.model_copy(update={"seeds": tuple(whole)}) if whole else None


def there(part: dict[Key, Trajectory]) -> dict[Key, Trajectory]:
    """The runs, none where they are ``Absent``."""
    return {} if isinstance(part, Absent) else part


def stored(*parts: dict[Any, Trajectory]) -> list[Trajectory]:
    """The runs of those parts that are there."""
    return [run for part in parts for run in there(part).values()]


class Plan:
    """Where a study has its runs from while it is only asked what it would compute.

    Attributes:
        missing: descriptions of the runs that are not stored, in the order in which they are asked for. A
            run that depends on a missing one, as on the step of its switch, is described as it may be.
        certain: those of them that were asked for before the outcome of a missing run was looked at.
    """

    def __init__(self, store: Store | None = None):
        self.store = store or Store()
        self.missing: list[RunDescription] = []
        self.certain: list[RunDescription] = []
        self.looked = False

    def __call__(self, experiment: RunDescription) -> Trajectory:
        """The stored run, or one without rows; one that is damaged will be computed anew."""
        with contextlib.suppress(Corrupted):
            stored = self.store.load(experiment)
            if stored is not None:
                return stored
        self.missing.append(experiment)
        if not self.looked:
            self.certain.append(experiment)
        return Planned(experiment, pd.DataFrame(), "planned", None, {}, self)


def described_first(study: Callable[..., Study]) -> Callable[..., Study]:
    """The study, which describes every run before it computes the first: a bad value is told at once.

    What depends on a run that is missing, as on the step of its switch, is described as it may be.
    """

    @functools.wraps(study)
    def whole(parameters: Any, store: Store | None = None, *, compute: bool | Plan = True) -> Study:
        if compute is True:
            plan = Plan(store)
            study(parameters, store, compute=plan)
            for experiment in plan.missing:
                memory.check(experiment)
        return study(parameters, store, compute=compute)

    return whole


@dataclass(frozen=True)
class Planned(Trajectory):
    """A run that is not stored; its plan notes when somebody looks at what it has not."""

    plan: Plan

    def __getattribute__(self, name: str) -> Any:
        if name in ("table", "trigger_step", "status"):
            object.__getattribute__(self, "plan").looked = True
        return object.__getattribute__(self, name)


def compute_side_by_side(
    study: Callable[..., Any], parameters: Any, store: Store | None = None
) -> None:
    """Compute what is missing of a study, as much of it at a time as does not depend on the rest.

    Raises:
        SweepFailed: as ``run_all``.
    """
    with Crew() as crew:
        while True:
            plan = Plan(store)
            study(parameters, store, compute=plan)
            if not plan.certain:
                return
            run_all(
                plan.certain,
                store=store,
                scheduler=getattr(parameters, "scheduler", None),
                crew=crew,
                display=SweepProgress("runs").show,
            )


def source(store: Store | None, compute: bool | Plan) -> Source:
    """Where a study has its runs from: loaded, or computed where that is allowed.

    It raises MissingRun with ``compute=False`` when a run is not stored, and Corrupted when a stored
    file is incomplete or altered. A ``Plan`` notes what is missing.
    """
    if isinstance(compute, Plan):
        return compute
    results = store or Store()

    def load(experiment: RunDescription) -> Trajectory:
        trajectory = results.load(experiment)
        if trajectory is None:
            raise MissingRun(
                f"{experiment.key} is not in {results.root.name}/; run `make results`."
            )
        return trajectory

    def run(experiment: RunDescription) -> Trajectory:
        progress = Progress(f"{experiment.method}, seed {experiment.seed}")
        stored = results.holds(experiment)
        trajectory = results.run(experiment, progress)
        if not stored:
            progress.close(trajectory.status)
        return trajectory

    return run if compute else load
