"""The switch with cross-entropy and on deeper networks, and why the loss rises under Dom-SGD (Q1)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.defaults import before_switch, spaced
from subspace_lib.chapters.kit.names import trained
from subspace_lib.chapters.kit.study import (
    ROWS,
    SHORTEST,
    Plan,
    Seeded,
    by_seed,
    described_first,
    present,
    source,
)
from subspace_lib.chapters.kit.switch.panel import PanelParameters, entries
from subspace_lib.chapters.kit.switch.study import SwitchStudy, switch_study
from subspace_lib.chapters.kit.typed import Budget, numbers
from subspace_lib.experiment import (
    Angle,
    DatasetName,
    Device,
    Dimension,
    Every,
    Experiment,
    LossName,
    ModelName,
    Rate,
    Seed,
    Steps,
)
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.trajectory import Trajectory

BY_CASE = (
    "models",
    "datasets",
    "losses",
    "dimensions",
    "learning_rates",
    "step_counts",
    "switch_steps",
    "budgets",
    "repeats",
)
CAUSES = ("cause_cases", "cause_steps", "cause_rows")
SHARED = (
    "batch_size",
    "switch_alignment",
    "watch_from",
    "switch_from",
    "target_angle",
    "record_every",
    "device",
)


class LossesParameters(Seeded):
    """Parameters of chapter 09: one entry a case of what stands in ``BY_CASE``, the others shared.

    Where a spectrum has no clear gap behind λ_k, following the subspace exactly takes products at almost
    every step: ``budgets`` are at most so many times the price of SGD, or None for no limit.

    A case is run with the first ``repeats`` of the ``seeds``. The interventions start at the switch of the
    ``cause_cases``, by their number from 1 (an empty list: of none), seed ``cause_seed``; each goes on for
    as long in η times steps as ``cause_steps`` are at the case's own η, with a row every ``cause_rows``.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "models": ("mlp", "transformer_small"),
        "datasets": ("digits_300", "sentences"),
        "losses": ("cross_entropy", "cross_entropy"),
        "dimensions": (10, 2),
        "learning_rates": (0.1, 0.1),
        "step_counts": (120, 120),
        "switch_steps": (60, 60),
        "budgets": (None, None),
        "repeats": (3, 1),
        "switch_alignment": None,
        "seeds": (0, 1, 2),
        "cause_seed": 0,
        "cause_cases": (1,),
        "cause_steps": (40,),
        "cause_rows": (20,),
        "target_angle": 0.5,
        "record_every": 20,
    }

    models: tuple[ModelName, ...] = Field(
        ("mlp", "cnn", "transformer", "vgg11_quarter", "resnet8_quarter"), min_length=1
    )
    datasets: tuple[DatasetName, ...] = (
        "mnist5k",
        "cifar10_5k",
        "sst2_1k",
        "cifar10_1k",
        "cifar10_1k",
    )
    losses: tuple[LossName, ...] = (
        "cross_entropy",
        "cross_entropy",
        "cross_entropy",
        "mse",
        "mse",
    )
    dimensions: tuple[Dimension, ...] = Field((10, 10, 2, 10, 10), description="k")
    learning_rates: tuple[Rate, ...] = Field((0.01, 0.001, 0.001, 0.01, 0.01), description="η")
    step_counts: tuple[Steps, ...] = (10_000, 6000, 3000, 2000, 2000)
    switch_steps: tuple[Every, ...] = Field(
        (3000, 3000, 1500, 1000, 1000), description="where the alignment has not asked for it"
    )
    budgets: tuple[Budget, ...] = Field(
        (None, 10, 10, 10, 10), description="times SGD's price, its steps included"
    )
    repeats: tuple[Every, ...] = Field((3, 3, 1, 1, 1), description="seeds of each case")
    batch_size: int = Field(50, ge=1, le=1_000_000)
    switch_alignment: float | None = Field(0.95, gt=0, lt=1)
    watch_from: int = Field(
        default_factory=before_switch(900, 1, "switch_steps", "step_counts"), ge=0, le=1_000_000
    )
    switch_from: int = Field(
        default_factory=before_switch(1000, 0, "switch_steps", "step_counts"), ge=0, le=1_000_000
    )
    seeds: tuple[Seed, ...] = Field((11, 12, 13), min_length=1)
    cause_seed: Seed = 11
    cause_cases: tuple[Every, ...] = Field(
        (1, 4), description="numbers of the cases whose Dom-SGD is changed at the switch"
    )
    cause_steps: tuple[Steps, ...] = (2000, 1000)
    cause_rows: tuple[Every, ...] = (90, 117)
    target_angle: Angle = 0.05
    record_every: Every = Field(default_factory=spaced(ROWS, SHORTEST, "step_counts"))
    device: Device = "cpu"

    @field_validator(*BY_CASE, *CAUSES, mode="before")
    @classmethod
    def _from_text(cls, values: Any) -> Any:
        return (None,) if values is None else numbers(values)

    @property
    def steps(self) -> int:
        """Those of the longest case."""
        return max(self.step_counts)

    def cases(self) -> dict[str, PanelParameters]:
        """The parameters of each case's switch study, by network, data and loss."""
        shared = {name: getattr(self, name) for name in SHARED} | {"spectrum_every": None}
        each = entries(self, BY_CASE, "case")
        found = {}
        for model, dataset, loss, k, rate, steps, switch, budget, repeats in each:
            fields = {"model": model, "dataset": dataset, "loss": loss, "k": k}
            fields |= {"learning_rate": rate, "steps": steps, "switch_step": switch}
            fields["budget"] = budget
            seeds = self.seeds[:repeats]
            case = PanelParameters.parse(**shared, **fields, seeds=seeds)
            found[trained(model, dataset, loss)] = case
        return found

    def origins(self) -> dict[str, Origin]:
        """Where the interventions start, by the name of the case."""
        cases, found = list(self.cases().items()), {}
        if not self.cause_cases:  # none are wanted
            return {}
        for number, steps, rows in entries(self, CAUSES, "case with interventions"):
            if number > len(cases):
                raise InvalidParameter(
                    f"cause_cases = {number}, but there are {len(cases)} cases; number them from 1."
                )
            name, case = cases[number - 1]
            one = case.model_copy(update={"seeds": (self.cause_seed,)})
            found[name] = Origin(one, steps, rows)
        return found


@dataclass(frozen=True)
class Origin:
    """A case, of one seed, from whose switch on something is changed: for how long, a row how often."""

    case: PanelParameters
    steps: int
    rows: int


@dataclass(frozen=True)
class Change:
    """What is changed of Dom-SGD at the switch: factors of η and of the batch (0: all data); its basis."""

    rate: float = 1.0
    batch: int = 1
    follows: bool = True


AS_IT_IS = "Dom-SGD as it is"
CHANGES = {
    AS_IT_IS: Change(),
    "η/4": Change(rate=0.25),
    "batch × 10": Change(batch=10),
    "full batch": Change(batch=0),
    "fixed basis": Change(follows=False),
    "4η": Change(rate=4.0),
}


@dataclass(frozen=True)
class LossesStudy:
    """The switch studies by case, and the interventions.

    Attributes:
        cases: by network, data and loss; one of which a run is missing is left out.
        causes: Dom-SGD from a case's switch on, by the name of its change, by case; those that are there.
    """

    parameters: LossesParameters
    cases: dict[str, SwitchStudy]
    causes: dict[str, dict[str, Trajectory]]

    def runs(self) -> list[Trajectory]:
        """Every run, once."""
        found = [run for case in self.cases.values() for run in case.trajectories.values()]
        found += [run for changed in self.causes.values() for run in changed.values()]
        return list({run.experiment.key: run for run in found}.values())


@described_first
def losses_study(
    parameters: LossesParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> LossesStudy:
    """Load the study, or compute what is missing of it.

    With ``compute=False`` no case waits for another: what lacks a run is left out.

    Raises:
        InvalidParameter: a parameter is out of bounds, before anything runs.
        MissingRun: with ``compute=False``, where no case is whole.
        Corrupted: with ``compute=False``, when a stored file is incomplete or altered.
    """
    p = parameters.resolved()
    p.origins()  # looked at before anything runs
    cases, lacking = present(p.cases(), partial(switch_study, store=store, compute=compute))
    if not cases and lacking is not None:
        raise lacking
    return LossesStudy(p, cases, cause_runs(p, store, compute=compute))


def cause_runs(
    parameters: LossesParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> dict[str, dict[str, Trajectory]]:
    """Dom-SGD from the switch of each case on, changed there in one way each; without what is missing.

    A case of which the run without a change is missing is left out.
    """
    get, found = source(store, compute), {}
    for name, origin in parameters.origins().items():
        runs: dict[str, Trajectory] = {}
        with contextlib.suppress(MissingRun):
            switches = switch_study(origin.case, store, compute=compute).switch_steps
            for says, change in CHANGES.items():
                with contextlib.suppress(MissingRun):
                    runs[says] = get(changed(origin, switches[parameters.cause_seed], change))
        if AS_IT_IS in runs:
            found[name] = runs
    return found


def changed(origin: Origin, switch: int, change: Change) -> Experiment:
    """One intervention: SGD as in the case up to the switch, then Dom-SGD with the change.

    Rows refresh the basis, so that they know the second-order terms; a fixed one has one refresh. Where
    all rows would fall on the same batch of an epoch, they are a step further apart.
    """
    case, every = origin.case, origin.rows
    assert isinstance(case.batch_size, int)
    end = switch + max(1, round(origin.steps / change.rate))
    size = min(case.batch_size * change.batch, case.samples) or case.samples
    if change.rate > 1:
        every = max(1, round(every / change.rate))
    if size < case.samples and every * size % case.samples == 0:
        every += 1
    fields: dict[str, Any] = {
        "before": [
            {"until": switch, "learning_rate": case.learning_rate, "batch_size": case.batch_size}
        ],
        "learning_rate": case.learning_rate * change.rate,
        "batch_size": size,
        "record_every": every,
        "budget": case.budget,  # also of the fixed basis, whose rows may look
        "fresh_spans": ((switch, end),) if change.follows else (),
        "refresh_every": "adaptive" if change.follows else end,
        "projection": "dominant",
        "switch_step": switch,
        "steps": end,
    }
    (seed,) = case.seeds
    return case.experiment(seed, **fields)


def tasks(parameters: LossesParameters) -> Stages:
    """The cases one after the other, seed by seed; then the interventions, case by case."""
    p = parameters
    cases = [[(switch_study, part) for part in by_seed(case)] for case in p.cases().values()]
    each = [{name: (getattr(p, name)[i],) for name in CAUSES} for i in range(len(p.cause_cases))]
    return [*cases, [(cause_runs, p.model_copy(update=one)) for one in each]]
