"""The dominant subspace along SGD: alignment, spectrum, how it turns, what its parts do (C1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pandas as pd
from pydantic import Field, field_validator

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.study import SMALL, by_seed, described_first, source
from subspace_lib.chapters.kit.switch.study import SwitchParameters
from subspace_lib.chapters.kit.typed import numbers
from subspace_lib.results.store import Store
from subspace_lib.runs.survey import Survey
from subspace_lib.runs.training import SPECTRUM
from subspace_lib.trajectory import Trajectory


class AlignmentParameters(SwitchParameters):
    """Parameters of the study of the alignment.

    The plain runs are those of the switch study with the same parameters. ``anchors``, ``lags`` and
    ``window`` are in steps (``subspace_lib.runs.survey``); ``classes`` are numbers of classes to which the
    data are cut for a run of ``class_steps`` steps.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "preprocessing": "unit",
        "model": SMALL,
        "learning_rate": 0.15,
        "steps": 400,
        "seeds": (0, 1, 2),
        "target_angle": 0.4,
        "record_every": 5,
        "spectrum_every": 100,
        "anchors": (100, 300),
        "lags": (1, 10),
        "window": 2,
        "classes": (3,),
        "class_steps": 100,
        "switch_alignment": None,
    }

    k: int = Field(10, ge=1, lt=SPECTRUM, description="below the length of a recorded spectrum")
    anchors: tuple[int, ...] = (0, 100, 300, 1000, 3000, 10_000, 18_000)
    lags: tuple[int, ...] = (1, 10, 100, 1000)
    window: int = Field(12, ge=1, le=1_000_000)
    classes: tuple[Annotated[int, Field(ge=2, le=10)], ...] = (2, 3, 5, 10)
    class_steps: int = Field(3000, ge=2, le=1_000_000)

    @field_validator("anchors", "lags", "classes", mode="before")
    @classmethod
    def _numbers_from_text(cls, values: Any) -> Any:
        return numbers(values)


@dataclass(frozen=True)
class AlignmentStudy:
    """Trajectories of the study: plain SGD and surveys of it, by seed; ends of runs by classes."""

    parameters: AlignmentParameters
    plain: dict[int, Trajectory]
    surveys: dict[int, Trajectory]
    classes: dict[int, Trajectory]

    def survey(self) -> pd.DataFrame:
        """All surveys as one table: seed, anchor, quantity, index, value."""
        tables = [run.table.assign(seed=seed) for seed, run in self.surveys.items()]
        return pd.concat(tables, ignore_index=True)

    def spectrum(self, count: int) -> list[float]:
        """The leading Hessian eigenvalues at the end of the run on ``count`` classes, first seed."""
        row = self.classes[count].table.iloc[-1]
        return [float(row[f"eigenvalue_{i:02d}"]) for i in range(1, SPECTRUM + 1)]


@described_first
def alignment_study(
    parameters: AlignmentParameters, store: Store | None = None, *, compute: bool = True
) -> AlignmentStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does."""
    parameters, get = parameters.resolved(), source(store, compute)
    p, first = parameters, parameters.seeds[0]
    once = {"steps": p.class_steps, "record_every": p.class_steps, "spectrum_every": p.class_steps}
    wanted = {
        count: p.experiment(
            first, **once, classes=count, switch_step=p.class_steps - 1, k=min(count, p.k)
        )
        for count in p.classes
    }
    own = {"anchors": p.anchors, "lags": p.lags, "window": p.window, "period": 1}
    surveys = {seed: Survey.parse(**p.fields(seed, **own)) for seed in p.seeds}
    plain = {seed: get(p.run(seed, "none")) for seed in p.seeds}
    return AlignmentStudy(
        p,
        plain,
        {seed: get(survey) for seed, survey in surveys.items()},
        {count: get(experiment) for count, experiment in wanted.items()},
    )


def tasks(parameters: AlignmentParameters) -> Stages:
    """Seed by seed without the classes, which are of the first seed alone; then the whole."""
    seeds = [(alignment_study, p) for p in by_seed(parameters, classes=())]
    return seeds, [(alignment_study, parameters)]
