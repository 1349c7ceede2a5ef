"""Momentum and Adam: what they do to the parts of the update, and their Dom- and Bulk- versions (C8)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import (
    StudyParameters,
    check_switch,
    compute,
    numbers,
    source,
)
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy
from subspace_lib.experiment import Experiment, OptimizerName, Phase, Projected
from subspace_lib.optimizers import ADAPTIVE, RULES, SCALE_FREE, WITH_BETA
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store
from subspace_lib.runs.amplification import Amplification
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory

JUDGED = ("momentum", "adam")  # those that have Dom- and Bulk- versions, on all seeds
WAYS = ("update", "gradient", "both")
# A loss above that at initialisation: everything learned is lost, the run has diverged.
STOP_ABOVE = 1.0
Key = tuple[str, str, int]  # label of a rule, projection or "window", seed


class MomentumParameters(StudyParameters):
    """Parameters of the study. All rules start from the same point of SGD, at ``start_step``.

    η = ``learning_rate`` is that of SGD, heavy ball and Nesterov's momentum, ``adam_learning_rate`` that
    of Adam, AdamW, RMSProp and Muon. ``betas`` are further β of heavy ball and ``others`` further rules,
    on the first seed. ``anchors`` are the first steps of windows in which updates are measured; those from
    ``switch_step`` on are judged. ``projected`` says what the Dom- and Bulk- versions project: the final
    update, the gradient before it enters the rule, or both. The other ways are run on the first seed for
    ``alternative_steps`` after the switch, Bulk-Adam's to the end.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "k": 5,
        "learning_rate": 0.02,
        "adam_learning_rate": 5e-4,
        "steps": 250,
        "start_step": 150,
        "switch_step": 200,
        "anchors": (210,),
        "window": 40,
        "directions": 8,
        "betas": (),
        "others": (),
        "alternative_steps": 50,
        "seeds": (0, 1, 2),
        "target_angle": 0.5,
        "record_every": 200,
        "spectrum_every": 800,
    }

    adam_learning_rate: float = Field(1e-4, gt=0)
    beta: float = Field(0.9, ge=0, lt=1)
    steps: int = 20_000
    start_step: int = Field(1500, ge=1)
    switch_step: int = Field(3000, ge=1)
    anchors: tuple[int, ...] = Field((1700, 3000, 6000, 12_000, 19_800), min_length=1)
    window: int = Field(200, ge=2)
    directions: int = 50
    betas: tuple[float, ...] = (0.5, 0.99)
    others: tuple[OptimizerName, ...] = ("nesterov", "rmsprop", "adamw")
    projected: Projected = "update"
    alternative_steps: int = Field(2000, ge=1)
    target_angle: float = 0.15
    record_every: int = 450
    spectrum_every: int = 4500

    @field_validator("anchors", "betas", "others", mode="before")
    @classmethod
    def _lists_from_text(cls, values: Any) -> Any:
        return numbers(values)

    def check(self) -> None:
        """Raises InvalidParameter where steps do not follow each other."""
        check_switch(self.switch_step, self.steps)
        if self.start_step > self.switch_step:
            raise InvalidParameter(
                f"start_step = {self.start_step} must be at most switch_step = {self.switch_step}."
            )
        if self.anchors[0] < self.start_step or self.anchors[-1] + self.window > self.steps:
            raise InvalidParameter(
                f"anchors = {list(self.anchors)} must lie between start_step = {self.start_step} and "
                f"steps - window = {self.steps - self.window}."
            )
        if self.anchors[-1] < self.switch_step:
            raise InvalidParameter(
                f"anchors = {list(self.anchors)} must have one at switch_step = {self.switch_step} or "
                "later: those are judged."
            )

    def rate(self, optimizer: str) -> float:
        """The learning rate of a rule."""
        return self.adam_learning_rate if optimizer in SCALE_FREE else self.learning_rate

    def fields_of(self, optimizer: str, beta: float | None = None) -> dict[str, Any]:
        """What distinguishes the runs of a rule."""
        rate = self.rate(optimizer)
        start = Phase(until=self.start_step, optimizer="sgd", learning_rate=self.learning_rate)
        fields: dict[str, Any] = {
            "optimizer": optimizer,
            "learning_rate": rate,
            "before": (start,),
        }
        if optimizer in WITH_BETA:
            fields["beta"] = self.beta if beta is None else beta
        return fields

    def window_run(self, seed: int, optimizer: str, beta: float | None = None) -> Amplification:
        """The windows of a rule."""
        end = self.anchors[-1] + self.window
        windows = {"anchors": self.anchors, "window": self.window, "directions": self.directions}
        steps = {"steps": end, "switch_step": self.start_step}
        fields = self.fields_of(optimizer, beta) | steps | windows
        return Amplification.parse(**self.fields(seed, **fields))

    def switch_run(
        self, seed: int, optimizer: str, projection: str, **changes: object
    ) -> Experiment:
        """X from ``start_step`` to the end, or Dom-X or Bulk-X from the switch on."""
        fields = self.fields_of(optimizer) | changes
        if projection == "none":
            return self.experiment(seed, switch_step=self.start_step, **fields)
        fields = {
            "projected": self.projected,
            "projection": projection,
            "stop_above": STOP_ABOVE,
        } | fields
        return self.experiment(seed, switch_step=self.switch_step, **fields)

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The other ways to project."""
        return tuple(way for way in WAYS if way != self.projected)

    @property
    def alternative_end(self) -> int:
        """Last step of the runs that project in other ways: one that all runs record."""
        end = min(self.steps, self.switch_step + self.alternative_steps)
        whole = end - end % self.record_every
        return whole if whole > self.switch_step else self.steps

    def labels(self) -> dict[str, tuple[str, float | None]]:
        """Rule and β by label, for the windows of the first seed."""
        found: dict[str, tuple[str, float | None]] = {"SGD": ("sgd", None)}
        for beta in sorted({*self.betas, self.beta}):
            found[f"heavy ball {beta:g}"] = ("momentum", beta)
        for name in dict.fromkeys(("adam", *self.others)):
            found[RULES[name].title] = (name, None)
        return found

    def label(self, optimizer: str) -> str:
        """The label of a judged rule, or of SGD."""
        return {"sgd": "SGD", "momentum": f"heavy ball {self.beta:g}", "adam": "Adam"}[optimizer]

    def runs(self) -> dict[Key, Experiment]:
        """All runs of the study: first what is judged, then what the first seed alone shows."""
        found: dict[Key, Experiment] = {}
        for seed in self.seeds:
            for optimizer in ("sgd", *JUDGED):
                found[self.label(optimizer), "window", seed] = self.window_run(seed, optimizer)
            for optimizer in JUDGED:
                for projection in PROJECTIONS:
                    run = self.switch_run(seed, optimizer, projection)
                    found[self.label(optimizer), projection, seed] = run
        seed = self.seeds[0]
        for label, (optimizer, beta) in self.labels().items():
            found.setdefault((label, "window", seed), self.window_run(seed, optimizer, beta))
        for optimizer in JUDGED:
            for way, projection in product(self.alternatives, PROJECTIONS[1:]):
                long = optimizer in ADAPTIVE and projection == "bulk"
                changes = {"projected": way, "steps": self.steps if long else self.alternative_end}
                run = self.switch_run(seed, optimizer, projection, **changes)
                found[f"{self.label(optimizer)}, {way}", projection, seed] = run
        return found


@dataclass(frozen=True)
class MomentumStudy:
    """The study's trajectories.

    Attributes:
        parameters: those in force.
        runs: by label of the rule, "window" or projection, and seed.
    """

    parameters: MomentumParameters
    runs: dict[Key, Trajectory]

    def switch(self, optimizer: str) -> SwitchStudy:
        """X, Dom-X and Bulk-X of a judged rule."""
        p, label = self.parameters, self.parameters.label(optimizer)
        shared = {n: getattr(p, n) for n in StudyParameters.model_fields if n != "profile"}
        fields = {"optimizer": optimizer, "beta": p.beta, "learning_rate": p.rate(optimizer)}
        fields |= {"switch_alignment": None, "switch_step": p.switch_step}
        runs = {
            (projection, seed): self.runs[label, projection, seed]
            for projection in PROJECTIONS
            for seed in p.seeds
        }
        switched = dict.fromkeys(p.seeds, p.switch_step)
        return SwitchStudy(
            SwitchParameters.parse(**shared | fields), runs, switched, dict.fromkeys(p.seeds, False)
        )

    def bulk_adam(self) -> dict[str, Trajectory]:
        """Bulk-Adam of the first seed, by what is projected."""
        p, seed = self.parameters, self.parameters.seeds[0]
        labels = {f"{p.projected} projected": "Adam"}
        labels |= {f"{way} projected": f"Adam, {way}" for way in p.alternatives}
        return {name: self.runs[label, "bulk", seed] for name, label in labels.items()}

    def windows(self, label: str) -> list[Trajectory]:
        """The windows of a rule, of every seed that has them."""
        return [
            run for (name, kind, _), run in self.runs.items() if (name, kind) == (label, "window")
        ]


def momentum_study(
    parameters: MomentumParameters, store: Store | None = None, *, compute: bool = True
) -> MomentumStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does."""
    parameters, get = parameters.resolved(), source(store, compute)
    parameters.check()
    wanted = parameters.runs()
    return MomentumStudy(parameters, {key: get(experiment) for key, experiment in wanted.items()})


def tasks(parameters: MomentumParameters) -> Stages:
    """Run by run: none waits for another."""
    return ([(compute, run) for run in parameters.runs().values()],)
