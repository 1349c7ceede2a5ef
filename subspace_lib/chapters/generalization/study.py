"""What X, Dom-X and Bulk-X learn of data that they have not seen (Q4): SGD, GD, SAM, other networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.edge import EdgeSwitchParameters
from subspace_lib.chapters.kit.names import trained
from subspace_lib.chapters.kit.study import SHARED, SMALL, Plan, by_seed, described_first, present
from subspace_lib.chapters.kit.switch.panel import PanelParameters, entries
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy, switch_study
from subspace_lib.chapters.kit.typed import numbers
from subspace_lib.experiment import (
    DatasetName,
    Dimension,
    ModelName,
    Period,
    Radius,
    Rate,
    Seed,
    Steps,
)
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory

SMOOTH = 5  # rows that a curve is averaged over before a level is looked up in it
BY_NETWORK = (
    *("network_datasets", "network_models", "network_dimensions", "network_learning_rates"),
    "network_step_counts",
)
# SAM jitters more than SGD; these are the rows and the angle of the chapter on SAM, whose runs are used.
SAM = {"optimizer": "sam", "target_angle": 0.1, "record_every": 270, "spectrum_every": 810}


class GeneralizationParameters(SwitchParameters):
    """Parameters of chapter 10: those of the switch that is judged, and of the groups beside it.

    ``edge_`` are of full-batch GD, ``sam_`` of SAM with minibatches, ``network_`` of SGD on
    other networks, one entry a network. A group without seeds, or without networks, is left out.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        **SwitchParameters.QUICK,
        "model": SMALL,
        "learning_rate": 0.08,
        "switch_step": 250,
        "record_every": 25,
        "spectrum_every": 250,
        "edge_seeds": (),
        "sam_seeds": (),
        "network_datasets": (),
        "network_models": (),
        "network_dimensions": (),
        "network_learning_rates": (),
        "network_step_counts": (),
    }

    seeds: tuple[Seed, ...] = Field((16, 17, 18, 19, 20), min_length=1)
    edge_seeds: tuple[Seed, ...] = (11, 12, 13, 14, 15)
    edge_learning_rate: Rate = 0.1
    edge_steps: Steps = 3600
    edge_switch_step: int = Field(600, ge=1, le=1_000_000)
    edge_period: Period = 2
    edge_rows: int = Field(1, ge=1, le=1_000_000, description="steps between rows of its windows")
    sam_seeds: tuple[Seed, ...] = (11, 12, 13)
    sam_rho: Radius = Field(0.05, description="ρ of SAM there")
    network_datasets: tuple[DatasetName, ...] = ("cifar10_5k", "sst2_1k")
    network_models: tuple[ModelName, ...] = ("cnn", "transformer")
    network_dimensions: tuple[Dimension, ...] = Field((10, 2), description="k")
    network_learning_rates: tuple[Rate, ...] = Field((0.001, 0.001), description="η")
    network_step_counts: tuple[Steps, ...] = (20_000, 20_000)
    network_switch_step: int = Field(5000, ge=1, le=1_000_000)
    network_seeds: tuple[Seed, ...] = (11, 12, 13)

    @field_validator("edge_seeds", "sam_seeds", "network_seeds", *BY_NETWORK, mode="before")
    @classmethod
    def _from_text(cls, values: Any) -> Any:
        return numbers(values)

    def groups(self) -> dict[str, SwitchParameters]:
        """The parameters of each switch beside the judged one, by the name of its X."""
        shared = {name: getattr(self, name) for name in (*SHARED, "budget")}
        watched = {n: getattr(self, n) for n in ("switch_alignment", "watch_from", "switch_from")}
        found: dict[str, SwitchParameters] = {}
        if self.edge_seeds:
            edge: dict[str, Any] = {
                "learning_rate": self.edge_learning_rate,
                "steps": self.edge_steps,
            }
            edge |= {"switch_step": self.edge_switch_step, "period": self.edge_period}
            edge |= {"seeds": self.edge_seeds, "batch_size": "full", "spectrum_every": None}
            edge |= {"record_every": 25, "window_every": self.edge_rows}
            edge |= {"sharpness_every": self.edge_rows}
            found["GD, full batch"] = EdgeSwitchParameters.parse(**shared | edge)
        if self.sam_seeds:
            sam = {"seeds": self.sam_seeds, "rho": self.sam_rho, "switch_step": self.switch_step}
            found["SAM"] = SwitchParameters.parse(**shared | watched | SAM | sam)
        for dataset, model, k, rate, steps in entries(self, BY_NETWORK, "network"):
            own = {"dataset": dataset, "model": model, "k": k, "learning_rate": rate}
            own |= {"steps": steps, "switch_step": self.network_switch_step}
            own |= {"seeds": self.network_seeds, "spectrum_every": 4950, "record_every": 90}
            rest = {n: v for n, v in shared.items() if n != "preprocessing"} | watched
            found[f"SGD, {trained(model, dataset)}"] = PanelParameters.parse(**rest | own)
        return found


@dataclass(frozen=True)
class GeneralizationStudy(SwitchStudy):
    """The switch that is judged, and those beside it.

    Attributes:
        groups: by the name of their X, the judged one first; one of which a run is missing is left out.
    """

    parameters: GeneralizationParameters
    groups: dict[str, SwitchStudy]

    def runs(self) -> list[Trajectory]:
        """Every run, once."""
        found = [run for group in self.groups.values() for run in group.trajectories.values()]
        return list({run.experiment.key: run for run in found}.values())

    def alike(self) -> dict[str, SwitchStudy]:
        """The groups with the judged one's network, data and loss."""
        return {n: g for n, g in self.groups.items() if same_problem(g, self)}


def same_problem(first: SwitchStudy, second: SwitchStudy) -> bool:
    """Whether two studies have the same network, data and loss."""
    names = ("dataset", "preprocessing", "model", "loss")
    return all(getattr(first.parameters, n) == getattr(second.parameters, n) for n in names)


@described_first
def generalization_study(
    parameters: GeneralizationParameters,
    store: Store | None = None,
    *,
    compute: bool | Plan = True,
) -> GeneralizationStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does.

    With ``compute=False`` the judged switch does not wait for the groups beside it.
    """
    p = parameters.resolved()
    beside = p.groups()  # first: a bad value is an error before anything runs
    load = partial(switch_study, store=store, compute=compute)
    own = load(p)
    groups = {"SGD": own} | present(beside, load)[0]
    return GeneralizationStudy(p, own.trajectories, own.switch_steps, own.triggered, groups)


def smoothed(run: Trajectory) -> pd.DataFrame:
    """The run's rows, each a mean over ``SMOOTH`` of them: single rows carry the minibatch noise."""
    rows = run.table[["train_loss", "test_loss", "test_accuracy"]]
    return rows.rolling(SMOOTH, min_periods=1).mean()


def reached(run: Trajectory) -> float:
    """The training loss of the last smoothed row."""
    return float(smoothed(run)["train_loss"].iloc[-1])


def at_loss(run: Trajectory, column: str, level: float) -> float:
    """A column where the run's training loss is at a level, both smoothed; NaN where it never is."""
    rows = smoothed(run).sort_values("train_loss")
    losses = rows["train_loss"].to_numpy()
    if not losses[0] <= level <= losses[-1]:
        return math.nan
    return float(np.interp(level, losses, rows[column].to_numpy()))


def tasks(parameters: GeneralizationParameters) -> Stages:
    """The judged switch seed by seed; then the groups beside it."""
    groups = parameters.groups().values()
    return (
        [(switch_study, p) for p in by_seed(parameters)],
        [(switch_study, p) for group in groups for p in by_seed(group)],
    )
