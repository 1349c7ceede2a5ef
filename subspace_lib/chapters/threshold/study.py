"""Two thresholds: how many dimensions (Q2), and how exact they have to be (Q5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.defaults import before_switch, spaced
from subspace_lib.chapters.kit.names import trained
from subspace_lib.chapters.kit.study import (
    ROWS,
    SHORTEST,
    SPECTRA,
    Plan,
    Seeded,
    by_seed,
    described_first,
    present,
)
from subspace_lib.chapters.kit.switch.panel import entries
from subspace_lib.chapters.kit.switch.study import switch_study
from subspace_lib.chapters.kit.typed import Budget, numbers
from subspace_lib.chapters.threshold.cuts import Case, CutParameters, cut_study, some_cuts
from subspace_lib.chapters.threshold.spaces import (
    NAMES,
    SpacesParameters,
    SpaceStudy,
    space_study,
)
from subspace_lib.experiment import (
    Angle,
    Count,
    DatasetName,
    Device,
    Dimension,
    Every,
    LossName,
    ModelName,
    Rate,
    Seed,
    Steps,
)
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory

BY_CASE = (
    *("models", "datasets", "losses", "dimensions", "learning_rates"),
    *("cut_step_counts", "step_counts", "switch_steps", "repeats", "cut_budgets", "budgets_from"),
)
SHARED = (
    *("batch_size", "switch_alignment", "watch_from", "switch_from"),
    *("target_angle", "record_every", "spectrum_every", "device"),
)
Fraction = Annotated[float, Field(gt=0, lt=1)]


class ThresholdParameters(Seeded):
    """Parameters of chapter 08: one entry a case of what stands in ``BY_CASE``, the others shared.

    ``dimensions`` are the numbers of classes, with which the switch is watched; the runs with them have
    ``step_counts`` steps, those of other chapters, and all others ``cut_step_counts``. ``cuts`` are the k
    of the first case; in the others they stand in the same ratio to the number of classes.

    The spaces that are put in the place of S_k are those of the first case. A space is found anew every
    ``interval`` steps; that of the minibatch's Hessian at every step, that of the covariance of sample
    gradients every ``slow_interval``. What is found anew more often than every ``often`` steps is run with
    the first seed alone: it costs as much as all others together.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "models": ("mlp_small",),
        "datasets": ("digits_300",),
        "losses": ("mse",),
        "dimensions": (10,),
        "learning_rates": (0.15,),
        "cut_step_counts": (130,),
        "step_counts": (130,),
        "switch_steps": (90,),
        "repeats": (3,),
        "cuts": (5, 10, 20),
        "cut_budgets": (None,),
        "budgets_from": (21,),
        "fractions": (0.5, 0.1),
        "switch_alignment": None,
        "seeds": (0, 1, 2),
        "kept": (1, 10, 100),
        "subsets": (50, 100),
        "batches": 20,
        "interval": 10,
        "slow_interval": 10,
        "often": 15,
        "space_steps": 40,
        "compare_every": 40,
        "target_angle": 0.4,
        "record_every": 20,
        "spectrum_every": None,
    }

    models: tuple[ModelName, ...] = Field(("mlp", "mlp", "transformer"), min_length=1)
    datasets: tuple[DatasetName, ...] = ("mnist5k", "fashion_mnist5k", "sst2_1k")
    losses: tuple[LossName, ...] = ("mse", "mse", "mse")
    dimensions: tuple[Dimension, ...] = Field((10, 10, 2), description="number of classes")
    learning_rates: tuple[Rate, ...] = Field((0.01, 0.01, 0.001), description="η")
    cut_step_counts: tuple[Steps, ...] = (10_000, 10_000, 20_000)
    step_counts: tuple[Steps, ...] = (20_000, 10_000, 20_000)
    switch_steps: tuple[Every, ...] = Field(
        (3000, 3000, 5000), description="where the alignment has not asked for it"
    )
    repeats: tuple[Every, ...] = Field((3, 1, 1), description="seeds of each case")
    cuts: tuple[Dimension, ...] = Field((1, 2, 5, 8, 10, 12, 20, 40), min_length=1)
    cut_budgets: tuple[Budget, ...] = Field(
        (100, 100, 3), description="times SGD's price, for many k"
    )
    budgets_from: tuple[Dimension, ...] = Field(
        (21, 21, 3), description="k from which on the budget is in force"
    )
    fractions: tuple[Fraction, ...] = Field((0.5, 0.2, 0.1), description="of λ₁, to cut at")
    batch_size: int = Field(50, ge=1, le=1_000_000)
    switch_alignment: float | None = Field(0.95, gt=0, lt=1)
    watch_from: int = Field(
        default_factory=before_switch(900, 1, "switch_steps", "cut_step_counts"), ge=0, le=1_000_000
    )
    switch_from: int = Field(
        default_factory=before_switch(1000, 0, "switch_steps", "cut_step_counts"),
        ge=0,
        le=1_000_000,
    )
    seeds: tuple[Seed, ...] = Field((11, 12, 13), min_length=1)
    kept: tuple[Every, ...] = Field((1, 10, 100, 1000, 5000), description="steps")
    subsets: tuple[Count, ...] = Field((100, 500, 2500), description="samples")
    batches: int = Field(100, ge=2, le=10_000, description="minibatches of one covariance")
    interval: Every = 25
    slow_interval: Every = 50
    often: Every = Field(20, description="steps between refreshes below which one seed is run")
    space_steps: Steps = 5000
    compare_every: Every = Field(487, description="steps between comparisons with S_k")
    target_angle: Angle = 0.05
    record_every: Every = Field(default_factory=spaced(ROWS, SHORTEST, "cut_step_counts"))
    spectrum_every: Every | None = Field(default_factory=spaced(SPECTRA, 2, "cut_step_counts"))
    device: Device = "cpu"

    @field_validator(*BY_CASE, "cuts", "fractions", "kept", "subsets", mode="before")
    @classmethod
    def _from_text(cls, values: Any) -> Any:
        return (None,) if values is None else numbers(values)  # a bare None: no limit in any case

    @property
    def steps(self) -> int:
        """Those of the longest cut."""
        return max(self.cut_step_counts)

    def cases(self) -> dict[str, CutParameters]:
        """The parameters of each case, by network and data, and by the loss where it is another."""
        shared = {name: getattr(self, name) for name in SHARED}
        found = {}
        for case in entries(self, BY_CASE, "case"):
            model, dataset, loss, k, rate, end, steps, switch, repeats, budget, wide = case
            fields = {"model": model, "dataset": dataset, "loss": loss, "k": k, "steps": steps}
            fields |= {"learning_rate": rate, "switch_step": switch, "cut_steps": min(end, steps)}
            fields |= {"cut_budget": budget, "budget_from": wide}
            ratio = k / self.dimensions[0]
            cuts = tuple(sorted({max(1, round(cut * ratio)) for cut in self.cuts}))
            name = trained(model, dataset, loss)
            found[name] = CutParameters.parse(
                **shared, **fields, cuts=cuts, seeds=self.seeds[:repeats]
            )
        return found

    def spaces(self) -> list[SpacesParameters]:
        """The parameters of the spaces, of the first case; those of one seed alone apart."""
        first = next(iter(self.cases().values()))
        if max(self.subsets, default=0) > first.samples:
            raise InvalidParameter(
                f"subsets = {max(self.subsets)} must be at most {first.samples}, the size of the training "
                f"set of {first.dataset}; type -p subsets with smaller numbers."
            )
        known = first.model_dump(exclude={"cuts", "cut_steps", "cut_budget", "budget_from"})
        names = ("batches", "interval", "space_steps", "compare_every")
        own = {name: getattr(self, name) for name in names}
        own["intervals"] = {
            "batch_hessian": 1,
            "sample_gradients": self.slow_interval,
            "random": self.space_steps,  # it is drawn once
        }
        whole = SpacesParameters.parse(
            **known | own, kept=self.kept, subsets=self.subsets, others=tuple(NAMES)
        )
        one = {name for name, f in whole.spaces().items() if f["refresh_every"] < self.often}
        many = whole.model_copy(update={"left_out": tuple(sorted(one))})
        few = tuple(sorted({*whole.spaces()} - one))
        return [many, whole.model_copy(update={"left_out": few, "seeds": first.seeds[:1]})]


@dataclass(frozen=True)
class ThresholdStudy:
    """The cases by name, and the other spaces.

    Attributes:
        cases: one, or a k of one, of which a run is missing is left out.
        spaces: None where none has all of its runs.
    """

    parameters: ThresholdParameters
    cases: dict[str, Case]
    spaces: SpaceStudy | None

    def lacking(self, name: str) -> list[int]:
        """The k of a case of which a run is missing."""
        there = self.cases[name].parameters.cuts
        return [k for k in self.parameters.cases()[name].cuts if k not in there]

    def runs(self) -> list[Trajectory]:
        """Every run, once."""
        found = [run for case in self.cases.values() for run in case.stored()]
        found += self.spaces.stored() if self.spaces is not None else []
        return list({run.experiment.key: run for run in found}.values())


@described_first
def threshold_study(
    parameters: ThresholdParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> ThresholdStudy:
    """Load the study, or compute what is missing of it.

    With ``compute=False`` nothing waits for anything else: what lacks a run is left out.

    Raises:
        InvalidParameter: a parameter is out of bounds, before anything runs.
        MissingRun: with ``compute=False``, where no case is whole and no space has its runs.
        Corrupted: with ``compute=False``, when a stored file is incomplete or altered.
    """
    p = parameters.resolved()
    cases, lacking = present(p.cases(), partial(cut_study, store=store, compute=compute))
    few = {n: some_cuts(case, store) for n, case in p.cases().items() if n not in cases}
    some = {name: case for name, case in few.items() if case is not None}
    cases = {name: (cases | some)[name] for name in p.cases() if name in cases | some}
    parts = dict(enumerate(p.spaces()))
    found, _ = present(parts, partial(space_study, store=store, compute=compute))
    if not cases and not found and lacking is not None:
        raise lacking
    spaces: SpaceStudy | None = None
    for part in found.values():
        spaces = part if spaces is None else replace(spaces, runs=part.runs | spaces.runs)
    return ThresholdStudy(p, cases, spaces)


def tasks(parameters: ThresholdParameters) -> Stages:
    """The switches and SGD of all cases; then the cuts and the spaces, seed by seed."""
    p = parameters
    every = [part for case in p.cases().values() for part in by_seed(case)]
    spaces = [part for some in p.spaces() for part in by_seed(some)]
    first = [(switch_study, part) for part in every]
    return first, [(cut_study, part) for part in every], [(space_study, part) for part in spaces]
