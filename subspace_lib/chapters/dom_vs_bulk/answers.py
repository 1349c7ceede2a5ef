"""What the figures of chapter 02 show, in words that their numbers choose."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib.chapters.dom_vs_bulk import tables
from subspace_lib.chapters.dom_vs_bulk.figures import BOUNDS
from subspace_lib.chapters.dom_vs_bulk.study import DomBulkStudy
from subspace_lib.chapters.kit import says
from subspace_lib.evidence import criteria
from subspace_lib.trajectory import tail_loss

UPPER = {"progress(Dom-SGD)": criteria.DOM_PROGRESS, "under GD": criteria.UNALIGNED}


def settings(study: DomBulkStudy) -> Markdown:
    """Which quantities fall on the other side of their bar with other settings; the numbers below."""
    if not study.settings:
        return says.missing("The runs with other pixels and with 2η are")
    own, *others = study.settings
    base, told = _met(study, own), []
    told.append(_sentence("With the settings as we read them", base))
    for label in others:
        found = _met(study, label)
        changed = [name for name in BOUNDS if base[name] is not None and found[name] != base[name]]
        told.append(_sentence(f"With {label}", found))
        told.append(
            f"On the other side of its bar than before: {says.listed(changed)}."
            if changed
            else "None changes its side."
        )
    return says.answer(*told, table=tables.settings(study))


def _met(study: DomBulkStudy, label: str) -> dict[str, bool | None]:
    """Whether each quantity is on the criterion's side of its bar; None where it is undefined."""
    found: dict[str, bool | None] = {}
    for name, value in study.settings[label].quantities().items():
        below = name in UPPER
        met = value <= BOUNDS[name] if below else value >= BOUNDS[name]
        found[name] = bool(met) if math.isfinite(value) else None
    return found


def _sentence(where: str, found: dict[str, bool | None]) -> str:
    missed = [name for name, met in found.items() if met is False]
    unknown = [name for name, met in found.items() if met is None]
    says_missed = f"all but {says.listed(missed)}" if missed else "all quantities"
    told = f"{where}, {says_missed} are where the criterion asks."
    return told + (f" Undefined: {says.listed(unknown)}." if unknown else "")


def drift(study: DomBulkStudy) -> Markdown:
    """Whether Dom-SGD's loss rises at 2η, with a followed and with a stale basis."""
    if not study.doubled():
        return says.missing("The runs at 2η are")
    told = []
    for kind, run in study.doubled().items():
        start = float(run.table["train_loss"].iloc[0])
        told.append(f"with a basis that is {kind} it {says.moves(start, tail_loss(run))}")
    return says.answer(
        f"The loss of Dom-SGD after the switch: {says.listed(told)}.", table=tables.drift(study)
    )


def descent(study: DomBulkStudy) -> Markdown:
    """The decrease of the loss that the expansion gives each part of SGD's update, beside the measured."""
    found: dict[str, list[float]] = {"dominant": [], "bulk": []}
    measured, unsettled = [], []
    for run in study.of("none"):
        rows = run.table[run.table["step"] >= study.switch_steps[run.experiment.seed]]
        steps = rows["step"].iloc[-1] - rows["step"].iloc[0]
        measured.append(float((rows["train_loss"].iloc[0] - rows["train_loss"].iloc[-1]) / steps))
        seen = rows[rows["descent"].notna()]
        dominant = seen["descent_dominant"]
        found["dominant"].append(float(dominant.mean()))
        found["bulk"].append(float((seen["descent"] - dominant).mean()))
        unsettled.append(not abs(dominant.mean()) > 2 * float(dominant.agg("sem")))
    parts = [f"{says.mean_of(_millionths(v))} in the {name}" for name, v in found.items()]
    return says.answer(
        f"In millionths a step, the expansion predicts a decrease of {says.listed(parts)} part; the "
        f"decrease that was measured over the whole run is {says.mean_of(_millionths(measured))}. "
        f"{says.over(len(measured))}",
        f"In {says.counted(unsettled)} the sign of the dominant part is not settled: its mean lies within "
        "twice its standard error of 0.",
        table=tables.descent(study),
    )


def _millionths(values: list[float]) -> list[float]:
    return [1e6 * value for value in values]
