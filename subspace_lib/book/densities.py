"""The explorer's spectral densities: those of chapter 11's runs, of each operator at each anchor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from subspace_lib.book.packing import pack, short
from subspace_lib.book.shown import ShownRun
from subspace_lib.chapters.curvature.figures import FLOOR, NAMES, WIDTH
from subspace_lib.runs.curvature import quadrature_of

POINTS = 300  # of a curve: three a width
DIGITS = 4  # of an eigenvalue
PEER = "PyHessian"
OPERATORS = {"H": NAMES["H"], "G": NAMES["G"], PEER: "Hessian H, by PyHessian"}


def densities(shown: Iterable[ShownRun]) -> list[dict[str, Any]]:
    """A curve for each run, operator and anchor that has one, in this order."""
    return [
        {
            "key": run.key,
            "setting": run.setting,
            "seed": run.description["seed"],
            "k": run.description["k"],
            "operator": told,
            "step": step,
            **_curve(rows, operator, run.description),
        }
        for run in shown
        if run.description["kind"] == "curvature"
        for operator, told in OPERATORS.items()
        for step in run.run.table["anchor"].unique().tolist()
        for rows in [run.run.table[run.run.table["anchor"] == step]]
        if ((rows["quantity"] == "node") & (rows["operator"] == operator)).any()
    ]


def _curve(rows: pd.DataFrame, operator: str, d: Mapping[str, Any]) -> dict[str, Any]:
    """The chapter's curve at points from ``low`` to ``high``, packed, and λ₁, λₖ, λₖ₊₁ (None: not known).

    It is the mean over probes, nowhere below the part of a single eigenvalue's height at which the
    chapter's axis begins. PyHessian's has the eigenvalues of H.
    """
    found = quadrature_of(rows, operator, d["pyhessian" if operator == PEER else "probes"])
    width = found.width(WIDTH)
    points = found.grid(POINTS, 4 * width)
    single = 1 / (_one(rows, "parameters", 0) * width * math.sqrt(math.tau))
    own = rows[rows["operator"] == ("H" if operator == PEER else operator)]
    top = [_one(own, "eigenvalue", i) for i in (1, d["k"], d["k"] + 1)]
    low, high, log, text = pack(
        found.density(points, width).mean(0).clamp_min(FLOOR * single).numpy()
    )
    return {
        "low": short(float(points[0])),
        "high": short(float(points[-1])),
        "values": [low, high, int(log), text],
        "single": short(single, DIGITS),
        "top": [short(value, DIGITS) if math.isfinite(value) else None for value in top],
    }


def _one(rows: pd.DataFrame, quantity: str, index: int) -> float:
    """A number of one anchor; NaN where it is not known."""
    found = rows[(rows["quantity"] == quantity) & (rows["index"] == index)]["value"]
    return float(found.iloc[0]) if len(found) else math.nan
