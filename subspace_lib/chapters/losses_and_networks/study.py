"""The switch with cross-entropy and on deeper networks, and why the loss rises under Dom-SGD (Q1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.names import trained
from subspace_lib.chapters.kit.study import (
    Budget,
    Plan,
    Seeded,
    by_seed,
    described_first,
    numbers,
    present,
    source,
)
from subspace_lib.chapters.kit.switch.panel import PanelParameters, entries
from subspace_lib.chapters.kit.switch.study import SwitchStudy, switch_study
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
SHARED = (
    "batch_size",
    "switch_alignment",
    "watch_from",
    "switch_from",
    "target_angle",
    "record_every",
    "device",
)


class CaseParameters(PanelParameters):
    """A switch study whose subspace may cost at most ``budget`` times the price of SGD."""

    budget: Budget = None

    def experiment(self, seed: int, **fields: Any) -> Experiment:
        """One run of the case."""
        return super().experiment(seed, **{"budget": self.budget} | fields)


class LossesParameters(Seeded):
    """Parameters of chapter 09: one entry a case of what stands in ``BY_CASE``, the others shared.

    Where a spectrum has no clear gap behind λ_k, following the subspace exactly takes products at almost
    every step: ``budgets`` are at most so many times the price of SGD, or None for no limit.

    A case is run with the first ``repeats`` of the ``seeds``. The interventions start at the switch of the
    first case, seed ``cause_seed``; each goes on for as long in η times steps as ``cause_steps`` are at
    the case's own η.
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
        "cause_steps": 40,
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
    watch_from: int = Field(900, ge=0, le=1_000_000)
    switch_from: int = Field(1000, ge=0, le=1_000_000)
    seeds: tuple[Seed, ...] = Field((11, 12, 13), min_length=1)
    cause_seed: Seed = 11
    cause_steps: Steps = 2000
    target_angle: Angle = 0.05
    record_every: Every = 90
    device: Device = "cpu"

    @field_validator(*BY_CASE, mode="before")
    @classmethod
    def _from_text(cls, values: Any) -> Any:
        return (None,) if values is None else numbers(values)

    @property
    def steps(self) -> int:
        """Those of the longest case."""
        return max(self.step_counts)

    def cases(self) -> dict[str, CaseParameters]:
        """The parameters of each case's switch study, by network, data and loss."""
        shared = {name: getattr(self, name) for name in SHARED} | {"spectrum_every": None}
        each = entries(self, BY_CASE, "case")
        found = {}
        for model, dataset, loss, k, rate, steps, switch, budget, repeats in each:
            fields = {"model": model, "dataset": dataset, "loss": loss, "k": k}
            fields |= {"learning_rate": rate, "steps": steps, "switch_step": switch}
            fields["budget"] = budget
            seeds = self.seeds[:repeats]
            case = CaseParameters.parse(**shared, **fields, seeds=seeds)
            found[trained(model, dataset, loss)] = case
        return found


@dataclass(frozen=True)
class Change:
    """What is changed of Dom-SGD at the switch: factors of η and of the batch (0: all data); its basis."""

    rate: float = 1.0
    batch: int = 1
    follows: bool = True


CHANGES = {
    "Dom-SGD as it is": Change(),
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
        causes: Dom-SGD from the first case's switch by the name of its change; empty where one is missing.
    """

    parameters: LossesParameters
    cases: dict[str, SwitchStudy]
    causes: dict[str, Trajectory]

    def runs(self) -> list[Trajectory]:
        """Every run, once."""
        found = [run for case in self.cases.values() for run in case.trajectories.values()]
        found += self.causes.values()
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
    cases, lacking = present(p.cases(), partial(switch_study, store=store, compute=compute))
    if not cases and lacking is not None:
        raise lacking
    try:
        causes = cause_runs(p, store, compute=compute)
    except MissingRun:
        causes = {}
    return LossesStudy(p, cases, causes)


def cause_runs(
    parameters: LossesParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> dict[str, Trajectory]:
    """Dom-SGD from the first case's switch, changed there in one way each."""
    p, get = parameters, source(store, compute)
    first = next(iter(p.cases().values())).model_copy(update={"seeds": (p.cause_seed,)})
    switch = switch_study(first, store, compute=compute).switch_steps[p.cause_seed]
    return {name: get(changed(p, first, switch, change)) for name, change in CHANGES.items()}


def changed(p: LossesParameters, case: CaseParameters, switch: int, change: Change) -> Experiment:
    """One intervention: SGD as in the case up to the switch, then Dom-SGD with the change.

    Rows refresh the basis, so that they know the second-order terms; a fixed one has one refresh.
    """
    end = switch + max(1, round(p.cause_steps / change.rate))
    size = min(p.batch_size * change.batch, case.samples) or case.samples
    every = max(1, round(p.record_every / change.rate)) if change.rate > 1 else p.record_every
    fields: dict[str, Any] = {
        "before": [
            {"until": switch, "learning_rate": case.learning_rate, "batch_size": p.batch_size}
        ],
        "learning_rate": case.learning_rate * change.rate,
        "batch_size": size,
        "record_every": every,
        "fresh_spans": ((switch, end),) if change.follows else (),
        "refresh_every": "adaptive" if change.follows else end,
        "projection": "dominant",
        "switch_step": switch,
        "steps": end,
    }
    return case.experiment(p.cause_seed, **fields)


def tasks(parameters: LossesParameters) -> Stages:
    """The cases one after the other, seed by seed; then the interventions."""
    cases = [[(switch_study, p) for p in by_seed(case)] for case in parameters.cases().values()]
    return [*cases, [(cause_runs, parameters)]]
