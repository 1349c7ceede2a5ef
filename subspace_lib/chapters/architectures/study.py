"""The switch of chapter 02 on other networks and data (C2b, C3b, C2c, C3c), a panel each; at 2η (F6)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.defaults import before_switch, spaced
from subspace_lib.chapters.kit.study import (
    ROWS,
    SHORTEST,
    Plan,
    Seeded,
    by_seed,
    described_first,
    present,
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
    LossName,
    ModelName,
    Rate,
    RefreshEvery,
    Seed,
    Steps,
)
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory

LETTERS = ("b", "c")  # of the panels of the paper's figure 1, after its (a), which is chapter 02
BY_PANEL = ("datasets", "models", "dimensions", "learning_rates", "step_counts")
SHARED = (
    "loss",
    "batch_size",
    "switch_alignment",
    "switch_step",
    "watch_from",
    "switch_from",
    "seeds",
    "refresh_every",
    "target_angle",
    "budget",
    "record_every",
    "device",
)


class ArchitecturesParameters(Seeded):
    """Parameters of chapter 02b.

    ``datasets``, ``models``, ``dimensions`` (k), ``learning_rates`` and ``step_counts`` have one entry a
    panel; the others are shared. ``doubled_seed`` is that of the runs at twice the learning rates.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "datasets": ("digits_300", "sentences"),
        "models": ("cnn_small", "transformer_small"),
        "dimensions": (10, 2),
        "learning_rates": (0.15, 0.05),
        "step_counts": (120, 120),
        "switch_alignment": None,
        "switch_step": 70,
        "seeds": (0, 1, 2),
        "doubled_seed": 0,
        "target_angle": 0.5,
        "record_every": 30,
        "spectrum_every": None,
    }

    datasets: tuple[DatasetName, ...] = Field(("cifar10_5k", "sst2_1k"), min_length=1, max_length=2)
    models: tuple[ModelName, ...] = ("cnn", "transformer")
    dimensions: tuple[Dimension, ...] = Field((10, 2), description="k")
    learning_rates: tuple[Rate, ...] = Field((0.001, 0.001), description="η")
    step_counts: tuple[Steps, ...] = (20_000, 20_000)
    loss: LossName = "mse"
    batch_size: int = Field(50, ge=1, le=1_000_000)
    switch_alignment: float | None = Field(0.95, gt=0, lt=1)
    switch_step: int = Field(5000, ge=1, le=1_000_000)
    watch_from: int = Field(
        default_factory=before_switch(900, 1, "switch_step", "step_counts"), ge=0, le=1_000_000
    )
    switch_from: int = Field(
        default_factory=before_switch(1000, 0, "switch_step", "step_counts"), ge=0, le=1_000_000
    )
    seeds: tuple[Seed, ...] = Field((11, 12, 13), min_length=1)
    doubled_seed: Seed = 12
    refresh_every: RefreshEvery = "adaptive"
    target_angle: Angle = 0.05
    budget: Budget = None
    record_every: Every = Field(default_factory=spaced(ROWS, SHORTEST, "step_counts"))
    spectrum_every: Every | None = 4950
    device: Device = "cpu"

    @field_validator(*BY_PANEL, mode="before")
    @classmethod
    def _from_text(cls, values: Any) -> Any:
        return numbers(values)

    @property
    def steps(self) -> int:
        """Those of the longest panel."""
        return max(self.step_counts)

    def panels(self) -> dict[str, PanelParameters]:
        """The parameters of each panel's switch study, by its letter."""
        found = {}
        shared = {name: getattr(self, name) for name in (*SHARED, "spectrum_every")}
        each = entries(self, BY_PANEL, "panel")
        for letter, (dataset, model, k, rate, steps) in zip(LETTERS, each, strict=False):
            own = {"dataset": dataset, "model": model, "k": k, "learning_rate": rate}
            found[letter] = PanelParameters.parse(**shared, **own, steps=steps)
        return found

    def doubled(self) -> dict[str, PanelParameters]:
        """The same at 2η, one seed: a loss without ½ at η is ours at 2η."""
        return {
            letter: p.model_copy(
                update={"learning_rate": 2 * p.learning_rate, "seeds": (self.doubled_seed,)}
            )
            for letter, p in self.panels().items()
        }


@dataclass(frozen=True)
class ArchitecturesStudy:
    """The switch studies by the letter of their panel.

    Attributes:
        panels: with the learning rates of the parameters; doubled: at twice those. A panel of which a run
            is missing is left out.
    """

    parameters: ArchitecturesParameters
    panels: dict[str, SwitchStudy]
    doubled: dict[str, SwitchStudy]

    def runs(self) -> list[Trajectory]:
        """Every run, once."""
        studies = [*self.panels.values(), *self.doubled.values()]
        found = [run for study in studies for run in study.trajectories.values()]
        return list({run.experiment.key: run for run in found}.values())

    def alone(self, letter: str) -> SwitchStudy | None:
        """The runs at η of the seed that was run at 2η too; None where one is missing."""
        whole, seed = self.panels.get(letter), self.parameters.doubled_seed
        if whole is None or seed not in whole.parameters.seeds:
            return None
        runs = {key: run for key, run in whole.trajectories.items() if key[1] == seed}
        parameters = whole.parameters.model_copy(update={"seeds": (seed,)})
        step, asked = whole.switch_steps[seed], whole.triggered[seed]
        return SwitchStudy(parameters, runs, {seed: step}, {seed: asked})


@described_first
def architectures_study(
    parameters: ArchitecturesParameters,
    store: Store | None = None,
    *,
    compute: bool | Plan = True,
) -> ArchitecturesStudy:
    """Load the study, or compute what is missing of it.

    With ``compute=False`` no panel waits for another, nor for the runs at 2η: what lacks a run is left out.

    Raises:
        InvalidParameter: a parameter is out of bounds, before anything runs.
        MissingRun: with ``compute=False``, where no panel is whole.
        Corrupted: with ``compute=False``, when a stored file is incomplete or altered.
    """
    p = parameters.resolved()
    load = partial(switch_study, store=store, compute=compute)
    panels, lacking = present(p.panels(), load)
    if not panels and lacking is not None:
        raise lacking
    return ArchitecturesStudy(p, panels, present(p.doubled(), load)[0])


def tasks(parameters: ArchitecturesParameters) -> Stages:
    """The panels one after the other, seed by seed; then those at 2η."""
    panels = [[(switch_study, p) for p in by_seed(panel)] for panel in parameters.panels().values()]
    return [*panels, [(switch_study, p) for p in parameters.doubled().values()]]
