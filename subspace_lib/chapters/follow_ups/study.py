"""Weighted parts of the update (Q6), noise and sharpness (Q8), the alignment's fall and rise (Q9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import (
    SMALL,
    Plan,
    Source,
    by_seed,
    described_first,
    optional,
    source,
    stored,
)
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_step
from subspace_lib.chapters.kit.typed import numbers
from subspace_lib.experiment import Count, Every, Experiment, RunDescription, Seed, Steps
from subspace_lib.results.store import Store
from subspace_lib.runs.trials import Trials
from subspace_lib.runs.weighted import Averaged, Weighted
from subspace_lib.trajectory import Trajectory

Weight = Annotated[float, Field(ge=0, le=1e3)]
SGD, FASTER = (1.0, 1.0), (1.0, 2.0)  # (α, β): as it is, and with twice the bulk
TWICE = (2.0, 2.0)  # SGD at 2η
METHODS = ("SGD", "GD", "GD, averaged")
EARLY, PARTS = (0, 10, 30, 100, 300), 20  # of the steps at which Dom-SGD's step is tried


class FollowUpParameters(SwitchParameters):
    """Parameters of chapter 13.

    From the switch of each plain run: updates with their parts weighted, for ``weighted_steps``, all
    combinations on the first seed and two of them on the first ``repeats`` seeds; SGD, GD and averaged GD,
    for ``noise_steps``, on those seeds; and on them plain runs that try Dom-SGD's step now and then, with
    ``trial_batches`` minibatches.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        **SwitchParameters.QUICK,
        "model": SMALL,
        "learning_rate": 0.08,
        "steps": 300,
        "switch_step": 150,
        "record_every": 25,
        "spectrum_every": 75,
        "weights_dominant": (0.0, 1.0),
        "weights_bulk": (1.0, 2.0),
        "weighted_steps": 100,
        "noise_steps": 100,
        "noise_every": 20,
        "renew": 50,
        "trial_batches": 4,
    }

    optimizer: Literal["sgd"] = "sgd"
    seeds: tuple[Seed, ...] = Field((16, 17, 18, 19, 20), min_length=1)
    weights_dominant: tuple[Weight, ...] = Field((0.0, 0.5, 1.0, 2.0, 4.0), description="α")
    weights_bulk: tuple[Weight, ...] = Field(
        (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0), description="β"
    )
    weighted_steps: Steps = 3000
    repeats: int = Field(3, ge=1, le=1_000_000)
    noise_steps: Steps = 5000
    noise_every: Every = Field(100, description="steps between rows of the runs on noise")
    renew: Count = Field(100, description="steps after which the noise is measured anew")
    trial_batches: Count = Field(20, description="minibatches by which Dom-SGD's step is tried")

    @field_validator("weights_dominant", "weights_bulk", mode="before")
    @classmethod
    def _weights_from_text(cls, values: Any) -> Any:
        return numbers(values)

    def weighted(self, seed: int, switch: int, weights: tuple[float, float]) -> Weighted:
        """SGD up to the switch, then α P u + β (I − P) u; about 50 rows from there on."""
        end = switch + self.weighted_steps
        fields = {"dominant": weights[0], "bulk": weights[1], "budget": self.budget}
        fields |= {"switch_step": switch, "steps": end}
        rows = {"spectrum_every": None, "record_every": max(1, self.weighted_steps // 50)}
        return Weighted.parse(**self.fields(seed, **fields | rows))

    def on_noise(self, seed: int, switch: int, method: str) -> Experiment:
        """SGD up to the switch; then SGD, GD, or averaged GD, with a fresh λ₁ at each row."""
        end = switch + self.noise_steps
        fields: dict[str, Any] = {"switch_step": switch, "steps": end, "spectrum_every": None}
        fields |= {"record_every": self.noise_every, "fresh_spans": ((switch, end),)}
        if method == "SGD":
            return self.experiment(seed, **fields)
        fields |= {"before": [{"until": switch, "batch_size": self.batch_size}]}
        fields |= {"batch_size": self.samples}
        if method == "GD":
            return self.experiment(seed, **fields)
        own = {"noise_of": self.batch_size, "renew": self.renew, "period": 1, "budget": self.budget}
        return Averaged.parse(**self.fields(seed, **fields | own))

    def trials(self, seed: int) -> Trials:
        """SGD, with Dom-SGD's step tried in its early phase and then at one in so many parts of it."""
        every = max(1, self.steps // PARTS)
        early = [step for step in EARLY if step < every]
        own = {"anchors": (*early, *range(every, self.steps + 1, every)), "period": 1}
        own |= {"batches": self.trial_batches, "record_every": None, "spectrum_every": None}
        return Trials.parse(**self.fields(seed, **own))


@dataclass(frozen=True)
class FollowUpStudy:
    """The runs of chapter 13; parts of which a run is missing are ``Absent``.

    Attributes:
        plain: SGD by seed, and ``switches`` its switches; weighted: by (α, β) and seed; noise: by method
            and seed; trials: by seed.
    """

    parameters: FollowUpParameters
    plain: dict[int, Trajectory]
    switches: dict[int, int]
    weighted: dict[tuple[tuple[float, float], int], Trajectory]
    noise: dict[tuple[str, int], Trajectory]
    trials: dict[int, Trajectory]

    @property
    def repeated(self) -> tuple[int, ...]:
        """The seeds that weighted, noise and trials have."""
        return self.parameters.seeds[: self.parameters.repeats]

    def runs(self) -> list[Trajectory]:
        """Every run that is stored."""
        return stored(self.plain, self.weighted, self.noise, self.trials)


@described_first
def follow_up_study(
    parameters: FollowUpParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> FollowUpStudy:
    """Load the study, or compute what is missing of it.

    With ``compute=False`` the plain runs wait for nothing else.

    Raises:
        InvalidParameter: a parameter is out of bounds, before anything runs.
        MissingRun: with ``compute=False``, when a plain run is not stored.
        Corrupted: with ``compute=False``, when a stored file is incomplete or altered.
    """
    p, get = parameters.resolved(), source(store, compute)
    plain = {seed: get(p.run(seed, "none")) for seed in p.seeds}
    switches = {seed: switch_step(p, run)[0] for seed, run in plain.items()}
    return FollowUpStudy(
        p,
        plain,
        switches,
        optional(lambda: _all(get, _weighted(p, switches))),
        optional(lambda: _all(get, _noise(p, switches))),
        optional(lambda: _all(get, {seed: p.trials(seed) for seed in p.seeds[: p.repeats]})),
    )


def _all(get: Source, wanted: dict[Any, RunDescription]) -> dict[Any, Trajectory]:
    return {name: get(experiment) for name, experiment in wanted.items()}


def _weighted(p: FollowUpParameters, switches: dict[int, int]) -> dict[Any, RunDescription]:
    first, *others = p.seeds[: p.repeats]
    grid = [(a, b) for a in p.weights_dominant for b in p.weights_bulk]
    wanted = [(weights, first) for weights in dict.fromkeys([*grid, SGD, FASTER])]
    wanted += [(weights, seed) for seed in others for weights in (SGD, FASTER)]
    return {(w, seed): p.weighted(seed, switches[seed], w) for w, seed in wanted}


def _noise(p: FollowUpParameters, switches: dict[int, int]) -> dict[Any, RunDescription]:
    return {
        (method, seed): p.on_noise(seed, switches[seed], method)
        for seed in p.seeds[: p.repeats]
        for method in METHODS
    }


def tasks(parameters: FollowUpParameters) -> Stages:
    """Seed by seed; the first has the map, the others two of its combinations."""
    two = {"weights_dominant": (SGD[0],), "weights_bulk": (SGD[1], FASTER[1])}
    first, *others = by_seed(parameters)[: parameters.repeats]
    pieces = [first, *(p.model_copy(update=two) for p in others)]
    return ([(follow_up_study, p) for p in pieces], [(plain_runs, parameters)])


def plain_runs(parameters: FollowUpParameters) -> list[Trajectory]:
    """The plain runs alone, which all five seeds have."""
    get = source(None, True)
    return [get(parameters.run(seed, "none")) for seed in parameters.seeds]
