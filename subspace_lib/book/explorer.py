"""The explorer's data: what stored runs have measured, thinned out and packed into one script.

A page that is opened from a folder may not fetch a file, but it may load a script.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from subspace_lib.book.densities import densities
from subspace_lib.book.ends import (
    Axis,
    Beside,
    End,
    axes,
    beside,
    cut,
    ends,
    method,
    numbers,
    parameters,
    spectra,
)
from subspace_lib.book.packing import differences, known, pack, thin
from subspace_lib.book.shown import ShownRun
from subspace_lib.chapters.kit.style import COLOURS
from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.experiment import NUMERICS, PREFIX
from subspace_lib.trajectory import progress, tail_loss

BUDGET = 480_000  # bytes of the script; with the rest of what the page loads below 600 kB
# Of a series: as many as the budget allows, within these; a coarse one has half of them.
POINTS = (12, 160)
# What the quick profile runs on: shown only where there is nothing else.
QUICK_DATA = ("digits", "digits_300", "sentences")
BEGINNING = {"status": "the beginning of a longer run"}
DRAWN = {"step", "train_loss", "alignment"}  # columns of a run that is drawn
# SGD's three as in the figures. The others: as far as may be from these and from each other with every
# common colour blindness, on white and on black; their Dom- and Bulk- are told apart by dashes alone.
FAMILIES = {
    "SGD": COLOURS["none"],
    "GD": "#CC79A7",
    "heavy ball": "#E69F00",
    "Adam": "#56B4E9",
    "SAM": "#7B4DFF",
    "SGD-weighted": "#9B3E27",
    "GD-averaged": "#84B464",
    "Nesterov": "#326762",
    "AdamW": "#4D94FF",
    "RMSProp": "#3361CC",
    "Muon": "#3F6183",
}
OF_SGD = {f"{PREFIX[side]}SGD": COLOURS[side] for side in ("dominant", "bulk")}

Column = Callable[[ShownRun], pd.Series | None]
Series = tuple[pd.Series, bool]  # by step, and whether it is coarse


def colour(name: str) -> str:
    """That of a method's family: of its rule, whatever is projected.

    Raises:
        KeyError: the family has none yet.
    """
    return OF_SGD.get(name) or FAMILIES[name.removeprefix("Dom-").removeprefix("Bulk-")]


@dataclass(frozen=True)
class Quantity:
    """What can be drawn: its name, whether its axis begins as logarithmic, bounds that criteria set.

    A coarse one, which is nearly a line or all noise, leaves its room to the others.
    """

    name: str
    of: Column
    log: bool = False
    bounds: tuple[tuple[str, Criterion], ...] = ()
    coarse: bool = False


def column(name: str) -> Column:
    """A column of the run's table."""

    def read(shown: ShownRun) -> pd.Series | None:
        table = shown.run.table
        return pd.Series(table[name].to_numpy(), table["step"]) if name in table else None

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


def quantities(others: Beside) -> dict[str, Quantity]:
    """All that can be drawn over steps; ``others`` are what runs are compared with."""

    def gained(shown: ShownRun) -> pd.Series | None:
        """(L_s − L(t))/(L_s − L_X(end)), of a run that is projected or weighted from the switch on."""
        plain = others.plain.get(shown.key)
        if plain is None or math.isnan(progress(plain, shown.run)):
            return None
        loss = shown.run.table.set_index("step")["train_loss"]
        whole = float(loss.iloc[0]) - tail_loss(plain)
        return ((float(loss.iloc[0]) - loss) / whole).clip(*criteria.PROGRESS_CLIP)

    return {
        "train_loss": Quantity("Training loss", column("train_loss"), log=True),
        "progress": Quantity(
            "Progress since the switch so far",
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
            "Alignment of the minibatch gradient", column("batch_alignment"), coarse=True
        ),
        "sharpness": Quantity("Sharpness λ₁", column("eigenvalue_01"), log=True),
        "edge": Quantity(
            "λ₁ η/2, of SGD and GD", _sharpness, bounds=(("C6, at the edge", criteria.EDGE),)
        ),
        "gap": Quantity(
            "Eigenvalue gap λₖ/λₖ₊₁", _gap, log=True, bounds=(("C1", criteria.GAP),), coarse=True
        ),
        "test_loss": Quantity("Test loss", column("test_loss"), log=True),
        "test_accuracy": Quantity("Test accuracy", column("test_accuracy")),
        "gradient_norm": Quantity("Gradient norm", column("gradient_norm"), log=True),
        "angle": Quantity("Certified angle (bound)", column("angle_bound"), log=True, coarse=True),
        "cost": Quantity(
            "Gradient equivalents so far", column("gradient_equivalents"), log=True, coarse=True
        ),
    }


def explored(shown: Iterable[ShownRun]) -> list[ShownRun]:
    """Those of a book's runs that are drawn: with losses and alignment over steps.

    Of today's numerics, or evidence that a page shows.
    """
    runs = [
        run
        for run in shown
        if (run.description.get("numerics") == NUMERICS or run.pages) and {*run.run.table} >= DRAWN
    ]
    return [run for run in runs if run.description["dataset"] not in QUICK_DATA] or runs


def data(shown: Iterable[ShownRun]) -> dict[str, Any]:
    """All that the explorer's page draws, as JSON values.

    A run's setting, method and parameters are places in ``words``. Its ``series`` are in the order of
    ``quantities``: 0, or a place in ``steps``, where each list of steps is once, and what ``pack`` returns.
    ``at`` and ``ends`` are in the order of ``axes`` and ``ends``. A run without series is the beginning of
    another, told for its end alone.
    """
    shown = list(shown)
    runs = explored(shown)
    others, at = beside(runs, runs), axes(runs)
    every, last = quantities(others), ends(others)
    words: dict[str, int] = {}
    told = [_run(run, words, at, last) for run in runs]
    shorter = cut(runs)
    last = ends(beside(shorter, runs))
    found = {
        "quantities": {name: _named(q) for name, q in every.items()},
        "ends": {name: _named(end) for name, end in last.items()},
        "axes": {name: _axis(axis) for name, axis in at.items()},
        "spectra": spectra(shown),
        "densities": densities(shown),
        "colours": {name: colour(name) for name in sorted({method(run) for run in runs})},
        "runs": told + [_run(run, words, at, last) | BEGINNING for run in shorter],
        "words": list(words),
    }
    _fill(found, told, [[_measured(q, run) for q in every.values()] for run in runs])
    return found


def _measured(q: Quantity, run: ShownRun) -> Series | None:
    series = q.of(run)
    return None if series is None else (known(series), q.coarse)


def _run(
    run: ShownRun, words: dict[str, int], at: Mapping[str, Axis], last: Mapping[str, End]
) -> dict[str, Any]:
    """A run but for its series."""
    names = {"method": method(run), "setting": run.setting, "parameters": parameters(run)}
    return {
        "key": run.key,
        "seed": run.description["seed"],
        **{name: words.setdefault(text, len(words)) for name, text in names.items()},
        "at": numbers(run, at.values()),
        "ends": numbers(run, last.values()),
        **({} if run.run.complete else {"status": run.run.status}),
    }


def _fill(
    found: dict[str, Any], told: list[dict[str, Any]], columns: list[list[Series | None]]
) -> None:
    """Put in the series, with the most points for which the script stays within its budget."""

    def fits(points: int) -> bool:
        steps: dict[tuple[int, ...], int] = {}
        for run, own in zip(told, columns, strict=True):
            run["series"] = [_packed(series, points, steps) for series in own]
        found["steps"] = [differences(line) for line in steps]
        return len(script(found).encode()) <= BUDGET

    fewest, most = POINTS
    while fewest < most:
        points = (fewest + most + 1) // 2
        fewest, most = (points, most) if fits(points) else (fewest, points - 1)
    fits(fewest)


def _packed(
    series: Series | None, points: int, steps: dict[tuple[int, ...], int]
) -> list[Any] | int:
    if series is None or not len(series[0]):
        return 0
    whole, coarse = series
    kept = thin(whole, max(POINTS[0], points // 2) if coarse else points)
    low, high, log, text = pack(kept.to_numpy(float))
    place = steps.setdefault(tuple(map(int, kept.index)), len(steps))
    return [place, low, high, int(log), text]


def _named(q: Quantity | End) -> dict[str, Any]:
    lines = [
        {"at": bound, "says": f"{whose}: {criterion}"}
        for whose, criterion in q.bounds
        for bound in (criterion.at_least, criterion.at_most)
        if math.isfinite(bound)
    ]
    return {"name": q.name, "log": q.log, "lines": lines}


def _axis(axis: Axis) -> dict[str, Any]:
    own = ("name", "sign", "parts", "log", "measured", "up")
    return {name: getattr(axis, name) for name in own}


def script(found: Mapping[str, Any]) -> str:
    """The data as a script that sets ``window.subspaceRuns``."""
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return f"window.subspaceRuns={text};\n"
