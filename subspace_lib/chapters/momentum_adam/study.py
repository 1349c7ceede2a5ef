"""Momentum and Adam: what they do to the parts of the update, and their Dom- and Bulk- versions (C8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages, Task
from subspace_lib.chapters.kit.defaults import before_switch
from subspace_lib.chapters.kit.study import (
    SMALL,
    Plan,
    StudyParameters,
    by_seed,
    check_switch,
    compute,
    described_first,
    optional,
    present,
    source,
    stored,
)
from subspace_lib.chapters.kit.switch.frozen import frozen_runs, kept
from subspace_lib.chapters.kit.switch.study import (
    SwitchParameters,
    SwitchStudy,
    switch_step,
    switch_study,
)
from subspace_lib.chapters.kit.typed import numbers
from subspace_lib.evidence.criteria import TABLE_STEPS
from subspace_lib.experiment import Experiment, OptimizerName, Projected, Rate, Steps
from subspace_lib.optimizers import RULES, SCALE_FREE, WITH_BETA
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store
from subspace_lib.runs.amplification import Amplification
from subspace_lib.runs.rates import EffectiveRates
from subspace_lib.runs.windows import linear_rule
from subspace_lib.theory.quadratic import LinearRule
from subspace_lib.trajectory import Trajectory

JUDGED = ("momentum", "adam")  # beside SGD; those that have Dom- and Bulk- versions
WAYS: tuple[Projected, ...] = ("update", "gradient", "both")
# A loss above that at initialization: everything learned is lost, the run has diverged.
STOP_ABOVE = 1.0
UNRECORDED: dict[str, Any] = {
    "record_every": None,
    "spectrum_every": None,
    "period": 1,
}  # runs that measure in ways of their own


class RuleParameters(SwitchParameters):
    """A switch study of one rule; ``projected`` says what its Dom- and Bulk- versions project."""

    projected: Projected = "update"

    def run(self, seed: int, projection: str, switch_step: int = 0) -> Experiment:
        """As in ``SwitchParameters``; a branch that loses all that was learned ends there."""
        if projection == "none":
            return super().run(seed, projection)
        return self.experiment(
            seed,
            optimizer=self.optimizer,
            beta=self.beta,
            projection=projection,
            switch_step=switch_step,
            projected=self.projected,
            stop_above=STOP_ABOVE,
        )


class IntervalParameters(RuleParameters):
    """A switch study whose Dom- version is refreshed every so many steps."""

    every: int = Field(1, ge=1, le=1_000_000)


class MomentumParameters(StudyParameters):
    """Parameters of the study. Every rule starts from its own initialization.

    η = ``learning_rate`` is that of SGD, heavy ball and Nesterov's momentum, ``adam_learning_rate`` that
    of Adam, AdamW, RMSProp and Muon. Over the first ``table_steps`` steps the effective rates are measured
    at every step, with the subspace anew every ``table_refresh_every`` steps; later in windows of
    ``window`` steps from each of ``anchors`` on. The switch is as in ``SwitchParameters``.

    SGD, heavy ball with ``beta``, and Adam have every seed. One seed alone, the second if there is one,
    has the rest: further β of heavy ball (``betas``), Adam with β₁ = 0 and further rules (``others``), the
    windows, what else than the update Bulk- versions may project, and Dom-heavy ball with a refresh at
    each of ``intervals`` steps.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "preprocessing": "standardized",
        "model": SMALL,
        "k": 5,
        "learning_rate": 0.05,
        "adam_learning_rate": 0.002,
        "table_steps": 60,
        "table_refresh_every": 6,
        "steps": 200,
        "switch_alignment": None,
        "switch_step": 60,
        "anchors": (160,),
        "window": 40,
        "directions": 8,
        "betas": (),
        "others": (),
        "intervals": (),
        "seeds": (0, 1, 2),
        "target_angle": 0.5,
        "record_every": 50,
    }

    adam_learning_rate: Rate = 1e-3
    beta: float = Field(0.9, ge=0, lt=1)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = (0.5, 0.99)
    others: tuple[OptimizerName, ...] = ("nesterov", "rmsprop", "adamw", "muon")
    intervals: tuple[Annotated[int, Field(ge=1)], ...] = (30, 97, 307)
    table_steps: int = Field(TABLE_STEPS, ge=2, le=1_000_000)
    table_refresh_every: int = Field(1, ge=1, le=1_000_000)
    steps: Steps = 20_000
    switch_alignment: float | None = Field(0.95, gt=0, lt=1)
    switch_step: int = Field(3000, ge=1, le=1_000_000)
    watch_from: int = Field(default_factory=before_switch(900, 1), ge=0, le=1_000_000)
    switch_from: int = Field(default_factory=before_switch(1000), ge=0, le=1_000_000)
    anchors: tuple[int, ...] = Field((1000, 3000, 6000, 12_000, 19_800), min_length=1)
    window: int = Field(200, ge=2, le=1_000_000)
    directions: int = 50
    seeds: tuple[int, ...] = Field((11, 12, 13, 14, 15), min_length=1)
    spectrum_every: int | None = None

    @field_validator("anchors", "betas", "others", "intervals", mode="before")
    @classmethod
    def _lists_from_text(cls, values: Any) -> Any:
        return numbers(values)

    def check(self) -> None:
        """Raises InvalidParameter where the steps or the branches of the switch make no sense."""
        check_switch(self.switch_step, self.steps)
        if self.anchors[-1] + self.window > self.steps:
            raise InvalidParameter(
                f"anchors = {list(self.anchors)} must not lie beyond steps - window = "
                f"{self.steps - self.window}."
            )
        for name in JUDGED:
            self.switch(name).run(self.shown, "bulk", self.switch_step)

    @property
    def shown(self) -> int:
        """The seed of all that is shown on one seed: the second, or the only one."""
        return self.seeds[:2][-1]

    def label(self, optimizer: str) -> str:
        """The label of a judged rule, or of SGD."""
        return {"sgd": "SGD", "momentum": f"heavy ball {self.beta:g}", "adam": "Adam"}[optimizer]

    def rules(self) -> dict[str, dict[str, Any]]:
        """Optimizer, η and β by label: first SGD and the judged ones."""
        found = {self.label(name): (name, self.beta) for name in ("sgd", *JUDGED)}
        found |= {f"heavy ball {beta:g}": ("momentum", beta) for beta in self.betas}
        found["Adam, β₁ = 0"] = ("adam", 0.0)
        found |= {RULES[name].title: (name, self.beta) for name in self.others}
        return {label: self._rule(*rule) for label, rule in found.items()}

    def _rule(self, optimizer: str, beta: float) -> dict[str, Any]:
        rate = self.adam_learning_rate if optimizer in SCALE_FREE else self.learning_rate
        own = {"beta": beta} if optimizer in WITH_BETA else {}
        return {"optimizer": optimizer, "learning_rate": rate} | own

    def table_runs(self) -> dict[tuple[str, int], EffectiveRates]:
        """Table 1: SGD and the judged rules on every seed."""
        judged = [self.label(name) for name in ("sgd", *JUDGED)]
        return self._first_steps(product(judged, self.seeds))

    def other_runs(self) -> dict[tuple[str, int], EffectiveRates]:
        """Table 1: the further rules on one seed."""
        judged = [self.label(name) for name in ("sgd", *JUDGED)]
        others = [label for label in self.rules() if label not in judged]
        return self._first_steps(product(others, (self.shown,)))

    def _first_steps(
        self, which: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], EffectiveRates]:
        own = {"steps": self.table_steps, "refresh_every": self.table_refresh_every} | UNRECORDED
        rules = self.rules()
        return {
            (label, seed): EffectiveRates.parse(**self.fields(seed, **rules[label], **own))
            for label, seed in which
        }

    def window_runs(self) -> dict[str, Amplification]:
        """The windows of every rule, on one seed."""
        own = {"anchors": self.anchors, "window": self.window, "directions": self.directions}
        own |= {"steps": self.anchors[-1] + self.window} | UNRECORDED
        return {
            label: Amplification.parse(**self.fields(self.shown, **rule, **own))
            for label, rule in self.rules().items()
        }

    def switch(self, optimizer: str, projected: Projected = "update") -> RuleParameters:
        """The switch study of a judged rule; of one seed where something else is projected."""
        shared = {
            name: getattr(self, name)
            for name in RuleParameters.model_fields
            if name in type(self).model_fields and name not in ("profile", "dry_run")
        }
        own = self._rule(optimizer, self.beta) | {"projected": projected}
        own["seeds"] = self.seeds if projected == "update" else (self.shown,)
        return RuleParameters.parse(**shared | own)

    def alternatives(self) -> dict[tuple[str, Projected], RuleParameters]:
        """The switch studies in which something else than the update is projected."""
        return {(name, way): self.switch(name, way) for name, way in product(JUDGED, WAYS[1:])}

    def refreshed(self) -> dict[int, IntervalParameters]:
        """The switch studies of heavy ball, by interval; of one seed."""
        rule = self.switch("momentum")
        shared = {name: getattr(rule, name) for name in RuleParameters.model_fields}
        return {
            every: IntervalParameters.parse(**shared | {"seeds": (self.shown,), "every": every})
            for every in self.intervals
        }


@dataclass(frozen=True)
class MomentumStudy:
    """The study's trajectories.

    Attributes:
        parameters: those in force.
        table: effective rates over the first steps, by label and seed, of SGD and the judged rules.
        others: those of further rules, as far as they are stored.
        windows: later ones, by label, of one seed.
        switches: X, Dom-X and Bulk-X of the judged rules.
        alternatives: Bulk-X of one seed, by rule and by what is projected in place of the update.
        frozen: Dom-heavy ball with the subspace of the switch kept, by seed.
        refreshed: Dom-heavy ball of one seed by the steps from one refresh to the next.
    """

    parameters: MomentumParameters
    table: dict[tuple[str, int], Trajectory]
    others: dict[tuple[str, int], Trajectory]
    windows: dict[str, Trajectory]
    switches: dict[str, SwitchStudy]
    alternatives: dict[tuple[str, Projected], Trajectory]
    frozen: dict[int, Trajectory]
    refreshed: dict[int, Trajectory]

    def runs(self) -> list[Trajectory]:
        """All runs."""
        switched = [switch.trajectories for switch in self.switches.values()]
        alone = (self.alternatives, self.frozen, self.refreshed)
        return stored(self.table, self.others, self.windows, *switched, *alone)

    def first_steps(self, label: str) -> list[Trajectory]:
        """A rule's runs of Table 1 that are stored, in the order of the seeds that have it."""
        found = self.table | self.others
        return [run for (name, _), run in found.items() if name == label]

    def with_theory(self) -> dict[str, tuple[Trajectory, LinearRule]]:
        """The windows of the rules that the quadratic model knows, and how it sees them; by label."""
        return {
            label: (run, rule)
            for label, run in self.windows.items()
            if (rule := linear_rule(run.experiment)) is not None
        }

    def ways(self, optimizer: str) -> dict[str, Trajectory]:
        """Bulk-X of one seed by what is projected."""
        own = {WAYS[0]: self.switches[optimizer].trajectories["bulk", self.parameters.shown]}
        own |= {way: run for (name, way), run in self.alternatives.items() if name == optimizer}
        return {f"{way} projected": run for way, run in own.items()}

    def note(self) -> str:
        """Which switches the alignment has not asked for, and which bases were not certified; sentences."""
        told = [said for s in self.switches.values() for said in (s.note(), s.doubts())]
        return " ".join(filter(None, told))


def bulk_run(
    parameters: RuleParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> Trajectory:
    """Bulk-X of the first seed alone, from the switch that X has found."""
    get, seed = source(store, compute), parameters.seeds[0]
    step, _ = switch_step(parameters, get(parameters.run(seed, "none")))
    return get(parameters.run(seed, "bulk", step))


def interval_run(
    parameters: IntervalParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> Trajectory:
    """Dom-X of the first seed, refreshed every ``every`` steps from the switch that X has found."""
    p, get, seed = parameters, source(store, compute), parameters.seeds[0]
    step, _ = switch_step(p, get(p.run(seed, "none")))
    return get(kept(p.run(seed, "dominant", step), p.every))


@described_first
def momentum_study(
    parameters: MomentumParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> MomentumStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does.

    With ``compute=False`` C8 waits neither for further rules, nor for what one seed alone shows, nor for
    frozen subspaces.
    """
    p, get = parameters.resolved(), source(store, compute)
    p.check()
    # All descriptions come first: a bad value is told before anything runs.
    table, others = p.table_runs(), p.other_runs()
    windows, alternatives, refreshed = p.window_runs(), p.alternatives(), p.refreshed()
    return MomentumStudy(
        p,
        {key: get(run) for key, run in table.items()},
        present(others, get)[0],
        optional(lambda: {label: get(run) for label, run in windows.items()}),
        {name: switch_study(p.switch(name), store, compute=compute) for name in JUDGED},
        optional(
            lambda: {
                key: bulk_run(rule, store, compute=compute) for key, rule in alternatives.items()
            }
        ),
        optional(lambda: frozen_runs(p.switch("momentum"), store, compute=compute)),
        optional(
            lambda: {
                every: interval_run(rule, store, compute=compute)
                for every, rule in refreshed.items()
            }
        ),
    )


def tasks(parameters: MomentumParameters) -> Stages:
    """What is judged, run by run and switch by switch; then what one seed shows, and what is frozen."""
    p = parameters
    judged: list[Task] = [(compute, run) for run in p.table_runs().values()]
    for name in JUDGED:
        judged += [(switch_study, rule) for rule in by_seed(p.switch(name))]
    single = [*p.other_runs().values(), *p.window_runs().values()]
    shown: list[Task] = [(compute, run) for run in single]
    shown += [(bulk_run, rule) for rule in p.alternatives().values()]
    shown += [(interval_run, rule) for rule in p.refreshed().values()]
    shown += [(frozen_runs, rule) for rule in by_seed(p.switch("momentum"))]
    return judged, shown
