"""What the figures of chapter 02 show, in words that their numbers choose."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib.chapters.dom_vs_bulk import tables
from subspace_lib.chapters.dom_vs_bulk.figures import BOUNDS
from subspace_lib.chapters.dom_vs_bulk.study import DomBulkParameters, DomBulkStudy
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.switch.frozen import TAKEN, risen
from subspace_lib.evidence import criteria
from subspace_lib.trajectory import tail_loss

ALIKE = 1.5  # ratio of angles up to which one basis is about as exact as another
LEFT_OUT = Markdown("*Left out, by `other_settings = False`.*")
# What was read of the paper's settings, as the chapter has it.
READ = "profile", "dataset", "preprocessing", "model", "loss", "k", "learning_rate", "batch_size"
UPPER = {"progress(Dom-SGD)": criteria.DOM_PROGRESS, "under GD (C4)": criteria.UNALIGNED}


def settings(study: DomBulkStudy) -> Markdown:
    """Which quantities fall on the other side of their bar with other settings; the numbers below."""
    if not study.parameters.other_settings:
        return LEFT_OUT
    if not study.settings:
        return says.missing("The runs with other pixels and with 2η are")
    own, *others = study.settings
    base, told = _met(study, own), []
    p, ours = study.parameters, DomBulkParameters()
    read = all(getattr(p, name) == getattr(ours, name) for name in READ)
    told.append(
        _sentence(
            "With the settings as we read them" if read else "With this page's settings", base
        )
    )
    for label in others:
        told.append(_sentence(f"With {label}", _met(study, label)))
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
    if missed:
        whose = "their criteria" if len(missed) > 1 else "its criterion"
        told = f"{where}, {says.listed(missed)} would fail {whose}; all else would pass."
    else:
        told = f"{where}, all quantities pass."
    return told + (f" Undefined: {says.listed(unknown)}." if unknown else "")


def drift(study: DomBulkStudy) -> Markdown:
    """Whether Dom-SGD's loss rises at 2η, with a followed and with a stale basis, and what λ₁ does."""
    if not study.parameters.other_settings:
        return LEFT_OUT
    if not study.doubled():
        return says.missing("The runs at 2η are")
    loss, sharpness, angles, moved, falls, shows = [], [], [], [], [], False
    for kind, run in study.doubled().items():
        start, top = float(run.table["train_loss"].iloc[0]), run.table["eigenvalue_01"].dropna()
        basis = f"with a basis that is {kind}"
        loss.append(f"{tail_loss(run) / start:.2f} {basis}")
        moved.append(tail_loss(run) - start)
        shows = shows or risen(run, start)
        falls.append(says.compared(top.iloc[-1], top.iloc[0], "", "falls", "") == "falls")
        sharpness.append(f"{basis} it {says.moves(float(top.iloc[0]), float(top.iloc[-1]))}")
        angles.append(float(run.table["angle_bound"].max()))
    return says.answer(
        f"Dom-SGD's loss at the end, over that at the switch, is {says.listed(loss)}; above 1 it rose.",
        f"The sharpness λ₁: {says.listed(sharpness)}. One seed.",
        f"The angle in use is {says.number(angles[0], 2)} at most with the first and "
        f"{says.number(angles[1], 2)} with the second.",
        says.whether(
            angles[1] <= ALIKE * angles[0],
            "So the two are about as exact, and these runs do not show that a stale basis is why a loss "
            "rises.",
            "",
        ),
        says.whether(
            shows and moved[1] <= TAKEN * moved[0] and falls == [True, False],
            "So the loss rises and λ₁ falls where the basis follows the subspace, and less where it is "
            "stale. That fits the drift that a turning subspace causes, which chapter 07b derives.",
            "",
        ),
        table=tables.drift(study),
    )


def descent(study: DomBulkStudy) -> Markdown:
    """The decrease of the loss that the expansion gives each part of SGD's update, beside the measured."""
    found: dict[str, list[float]] = {"dominant": [], "bulk": []}
    unsettled: dict[str, list[bool]] = {"dominant": [], "bulk": []}
    measured = []
    for run in study.of("none"):
        rows = run.table[run.table["step"] >= study.switch_steps[run.experiment.seed]]
        steps = rows["step"].iloc[-1] - rows["step"].iloc[0]
        measured.append(float((rows["train_loss"].iloc[0] - rows["train_loss"].iloc[-1]) / steps))
        seen = rows[rows["descent"].notna()]
        dominant = seen["descent_dominant"]
        for name, part in (("dominant", dominant), ("bulk", seen["descent"] - dominant)):
            found[name].append(float(part.mean()))
            unsettled[name].append(not abs(part.mean()) > 2 * float(part.agg("sem")))
    parts = [f"{_change(v)} by the {name} part" for name, v in found.items()]
    open_ = [f"{says.counted(v)} for the {name} part" for name, v in unsettled.items()]
    return says.answer(
        f"The change of the loss per step, in units of 10⁻⁶: the expansion predicts {says.listed(parts)}; "
        f"measured from the switch to the end it is {_change(measured)}. {says.over(len(measured))}",
        "Only few rows are averaged, of steps that differ much: the sign is open (the mean lies "
        f"within twice its standard error of 0) in {says.listed(open_)}. The survey of chapter 01 has more "
        "steps.",
        table=tables.descent(study),
    )


def _change(decreases: list[float]) -> str:
    """ "a decrease of 6.4" or "an increase of 79.5", in millionths."""
    down = says.mean(decreases) >= 0
    values = decreases if down else [-value for value in decreases]
    return (
        f"{says.whether(down, 'a decrease', 'an increase')} of {says.mean_of(_millionths(values))}"
    )


def _millionths(values: list[float]) -> list[float]:
    return [1e6 * value for value in values]
