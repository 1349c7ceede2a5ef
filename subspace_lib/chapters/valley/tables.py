"""Tables of chapter 04."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.kit.table import span, table
from subspace_lib.chapters.valley.study import ValleyStudy
from subspace_lib.runs.simulation import APPEARS, VANISHES


def times(study: ValleyStudy) -> Markdown:
    """By ηκ: the variance against its closed form, and when alignment appears and vanishes; all seeds."""
    e, seeds = study.valley, study.parameters.seeds
    found = {
        name: pd.concat([study.values("valley", seed, "ηκ", name) for seed in seeds], axis=1)
        for name in ("appears", "vanishes")
    }
    ratios = pd.concat([study.ratios("valley", s, "ηκ", "expected") for s in seeds], axis=1)
    rows = []
    for i, sharp in enumerate(map(float, ratios.index)):
        eta = sharp / e.condition
        chi = e.valley.stationary_alignment(eta, 1.0)
        rows.append(
            {
                "ηκ": f"{sharp:g}",
                "A": f"{chi**2 / (1 - chi**2):,.1f}",
                "simulated / closed Var x": span(ratios.iloc[i], ".3f"),
                f"SGD from the floor reaches {APPEARS}: closed form": _steps(
                    [e.valley.steps_to_appear(eta, 1.0, APPEARS)]
                ),
                "simulated": _steps(found["appears"].iloc[i]),
                f"GD from there falls to {VANISHES}: closed form": _steps(
                    [e.valley.steps_to_vanish(eta, 1.0, VANISHES)]
                ),
                "simulated, too": _steps(found["vanishes"].iloc[i]),
            }
        )
    return table(rows, note="Times in steps; ranges are over the seeds.")


def _steps(values: Iterable[float]) -> str:
    """A range of whole numbers; "never" for those that are not finite."""
    steps = [v if math.isfinite(v) else math.inf for v in values]
    return span(steps, ".0f").replace("inf", "never")
