"""The dominant subspace along SGD: alignment, spectrum, how it turns, what its parts do (C1)."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from pydantic import Field, field_validator

from subspace_lib.store import Store
from subspace_lib.studies.base import getter, numbers
from subspace_lib.studies.switch import SwitchParameters
from subspace_lib.survey import Survey
from subspace_lib.training import SPECTRUM, Trajectory

QUICK = {
    "dataset": "digits",
    "steps": 60,
    "seeds": (0,),
    "target_angle": 0.15,
    "record_every": 20,
    "spectrum_every": 40,
    "anchors": (40,),
    "lags": (1, 10),
    "window": 2,
    "classes": (3,),
    "class_steps": 40,
    "switch_alignment": None,
}


class AlignmentParameters(SwitchParameters):
    """Parameters of the study of the alignment.

    The plain runs are those of the switch study with the same parameters. ``anchors``, ``lags`` and
    ``window`` are in steps (``subspace_lib.survey``); ``classes`` are numbers of classes to which the
    data are cut for a run of ``class_steps`` steps.
    """

    k: int = Field(10, ge=1, lt=SPECTRUM, description="below the length of a recorded spectrum")
    anchors: tuple[int, ...] = (0, 100, 300, 1000, 3000, 10_000, 18_000)
    lags: tuple[int, ...] = (1, 10, 100, 1000)
    window: int = Field(12, ge=1)
    classes: tuple[int, ...] = (2, 3, 5, 10)
    class_steps: int = Field(3000, ge=2)

    @field_validator("anchors", "lags", "classes", mode="before")
    @classmethod
    def _numbers_from_text(cls, values):
        return numbers(values)

    def resolved(self) -> AlignmentParameters:
        """The parameters in force, after the profile."""
        return self.in_profile(QUICK)


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


def alignment_study(
    parameters: AlignmentParameters, store: Store | None = None, *, compute: bool = True
) -> AlignmentStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does."""
    parameters, get = parameters.resolved(), getter(store, compute)
    p, first = parameters, parameters.seeds[0]
    once = {"steps": p.class_steps, "record_every": p.class_steps, "spectrum_every": p.class_steps}
    wanted = {
        count: p.experiment(
            first, **once, classes=count, switch_step=p.class_steps - 1, k=min(count, p.k)
        )
        for count in p.classes
    }
    surveys = {
        seed: Survey.parse(**p.fields(seed, anchors=p.anchors, lags=p.lags, window=p.window))
        for seed in p.seeds
    }
    plain = {seed: get(p.run(seed, "none")) for seed in p.seeds}
    return AlignmentStudy(
        p,
        plain,
        {seed: get(survey) for seed, survey in surveys.items()},
        {count: get(experiment) for count, experiment in wanted.items()},
    )
