"""The explorer's data: what stored runs have measured, thinned out and packed into one script.

A page that is opened from a folder may not fetch a file, but it may load a script. A series is packed as
steps and three characters a number, 18 bits between its smallest and its largest value, on a logarithmic
scale where all are positive: an error below 2e-5 for four decades.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from subspace_lib.book.shown import ShownRun
from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.trajectory import Trajectory, tail_loss

BUDGET = (
    480_000  # characters of all series; with the rest, uPlot and the page's script below 600 kB
)
SERIES = 55  # characters of a series beside its packed numbers: its name, range, steps
POINTS = (12, 160)  # a series: as many as the budget allows, within these
# What the quick profile runs on: shown only where there is nothing else.
QUICK_DATA = ("digits", "digits_300", "sentences")
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
LEVELS = 64**3 - 1
# Of a plain run that a projected one is compared with.
SAME = (
    *("dataset", "preprocessing", "model", "loss", "optimizer", "learning_rate", "batch_size"),
    *("seed", "steps", "beta", "rho", "before", "noise", "numerics", "correction"),
)

Column = Callable[[ShownRun], pd.Series | None]


@dataclass(frozen=True)
class Quantity:
    """What can be drawn: its name, whether its axis begins as logarithmic, bounds that criteria set."""

    name: str
    of: Column
    log: bool = False
    bounds: tuple[tuple[str, Criterion], ...] = ()


def column(name: str) -> Column:
    """A column of the run's table."""

    def read(shown: ShownRun) -> pd.Series | None:
        table = shown.run.table
        return table.set_index("step")[name] if name in table else None

    return read


def _sharpness(shown: ShownRun) -> pd.Series | None:
    top, d = column("eigenvalue_01")(shown), shown.description
    return None if top is None or d["optimizer"] != "sgd" else top * d["learning_rate"] / 2


def _gap(shown: ShownRun) -> pd.Series | None:
    k, table = shown.description["k"], shown.run.table
    names = [f"eigenvalue_{i:02d}" for i in (k, k + 1)]
    if any(name not in table for name in names):
        return None
    steps = table.set_index("step")
    return steps[names[0]] / steps[names[1]].where(steps[names[1]] > 0)


def quantities(plain: Mapping[str, Trajectory]) -> dict[str, Quantity]:
    """All that can be drawn; ``plain`` has the plain run that each projected one is compared with."""

    def gained(shown: ShownRun) -> pd.Series | None:
        """(L_s − L(t))/(L_s − L_X(end)), of a run that is projected from the switch on."""
        beside = plain.get(shown.key)
        if beside is None:
            return None
        loss = shown.run.table.set_index("step")["train_loss"]
        whole = float(loss.iloc[0]) - tail_loss(beside)
        if whole <= 0:
            return None
        return ((float(loss.iloc[0]) - loss) / whole).clip(*criteria.PROGRESS_CLIP)

    return {
        "train_loss": Quantity("Training loss", column("train_loss"), log=True),
        "progress": Quantity(
            "Progress of a projected run so far",
            gained,
            bounds=(
                ("Dom-X, C2", criteria.DOM_PROGRESS),
                ("Bulk-X, C3", criteria.BULK_PROGRESS),
            ),
        ),
        "alignment": Quantity(
            "Alignment of the full-batch gradient",
            column("alignment"),
            bounds=(("C1", criteria.ALIGNED),),
        ),
        "batch_alignment": Quantity(
            "Alignment of the minibatch gradient", column("batch_alignment")
        ),
        "sharpness": Quantity("Sharpness λ₁", column("eigenvalue_01"), log=True),
        "edge": Quantity(
            "λ₁ η/2, of SGD and GD", _sharpness, bounds=(("C6, at the edge", criteria.EDGE),)
        ),
        "gap": Quantity("Eigenvalue gap λₖ/λₖ₊₁", _gap, log=True, bounds=(("C1", criteria.GAP),)),
        "test_loss": Quantity("Test loss", column("test_loss"), log=True),
        "test_accuracy": Quantity("Test accuracy", column("test_accuracy")),
        "gradient_norm": Quantity("Gradient norm", column("gradient_norm"), log=True),
        "angle": Quantity("Certified angle (bound)", column("angle_bound"), log=True),
        "cost": Quantity("Gradient equivalents so far", column("gradient_equivalents"), log=True),
    }


def beside(shown: Sequence[ShownRun]) -> dict[str, Trajectory]:
    """For each projected run the plain one of the same description, where it came to its end."""

    def same(run: ShownRun) -> str:
        return json.dumps([run.description.get(name) for name in SAME])

    plain = {
        same(run): run.run
        for run in shown
        if run.description["projection"] == "none" and run.run.complete
    }
    return {
        run.key: plain[same(run)]
        for run in shown
        if run.description["projection"] != "none" and same(run) in plain
    }


def thin(series: pd.Series, points: int) -> pd.Series:
    """At most so many rows, the first and the last among them, evenly spread; rows without a number go."""
    series = series[np.isfinite(series.to_numpy(float))]
    series = series[~series.index.duplicated(keep="last")]
    if len(series) <= points:
        return series
    return series.iloc[np.unique(np.linspace(0, len(series) - 1, points).round().astype(int))]


def pack(values: NDArray[np.float64]) -> tuple[float, float, bool, str]:
    """Smallest and largest value, whether the scale is logarithmic, and three characters a value."""
    log = bool((values > 0).all())
    scaled = np.log(values) if log else values
    low, high = float(scaled.min()), float(scaled.max())
    levels = np.round((scaled - low) / ((high - low) or 1.0) * LEVELS).astype(int)
    text = "".join(DIGITS[n >> 12] + DIGITS[n >> 6 & 63] + DIGITS[n & 63] for n in levels)
    return low, high, log, text


def unpack(low: float, high: float, log: bool, text: str) -> NDArray[np.float64]:
    """The values that ``pack`` was given, within its error; the page's script does the same."""
    n = [DIGITS.index(c) for c in text]
    levels = np.array([(a << 12) + (b << 6) + c for a, b, c in zip(*[iter(n)] * 3, strict=True)])
    scaled = low + levels / LEVELS * (high - low)
    return np.exp(scaled) if log else scaled


def data(shown: Iterable[ShownRun]) -> dict[str, Any]:
    """All that the explorer's page draws, as JSON values; training runs only.

    ``steps`` lists the steps of series, each once; a run's ``series`` has by quantity the number of its
    steps in that list, and what ``pack`` returns.
    """
    runs = [run for run in shown if run.description["kind"] == "training"]
    runs = [run for run in runs if run.description["dataset"] not in QUICK_DATA] or runs
    every = quantities(beside(runs))
    columns = {
        run.key: {name: s for name, q in every.items() if (s := q.of(run)) is not None}
        for run in runs
    }
    points = _points(s for own in columns.values() for s in own.values())
    steps: dict[tuple[int, ...], int] = {}
    told = [_run(run, columns[run.key], points, steps) for run in runs]
    return {
        "quantities": {name: _quantity(q) for name, q in every.items()},
        "steps": [_differences(line) for line in steps],
        "runs": told,
    }


def _points(series: Iterable[pd.Series]) -> int:
    """The most points a series for which all stay within the budget."""
    lengths = [int(np.isfinite(s.to_numpy(float)).sum()) for s in series]
    fewest, most = POINTS
    for points in range(most, fewest, -1):
        if sum(SERIES + 3 * min(length, points) for length in lengths) <= BUDGET:
            return points
    return fewest


def _run(
    run: ShownRun, columns: Mapping[str, pd.Series], points: int, steps: dict[tuple[int, ...], int]
) -> dict[str, Any]:
    series = {}
    for name, whole in columns.items():
        kept = thin(whole, points)
        if len(kept):
            low, high, log, text = pack(kept.to_numpy(float))
            place = steps.setdefault(tuple(map(int, kept.index)), len(steps))
            series[name] = [place, _short(low), _short(high), int(log), text]
    return {
        "key": run.key,
        "method": run.method,
        "seed": run.description["seed"],
        "setting": run.setting,
        "parameters": run.parameters,
        "series": series,
        **({} if run.run.complete else {"status": run.run.status}),
    }


def _quantity(q: Quantity) -> dict[str, Any]:
    lines = [
        {"at": bound, "says": f"{whose}: {criterion}"}
        for whose, criterion in q.bounds
        for bound in (criterion.at_least, criterion.at_most)
        if math.isfinite(bound)
    ]
    return {"name": q.name, "log": q.log, "lines": lines}


def _differences(steps: Sequence[int]) -> list[int]:
    """The first step, and the differences from each to the next: shorter in JSON."""
    return [steps[0], *(b - a for a, b in itertools.pairwise(steps))]


def _short(value: float) -> float:
    return float(f"{value:.7g}")


def script(found: Mapping[str, Any]) -> str:
    """The data as a script that sets ``window.subspaceRuns``."""
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return f"window.subspaceRuns={text};\n"
