"""What the figures of chapter 12 show, in words that their numbers choose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from IPython.display import Markdown

from subspace_lib.benchmark.aims import cheapest
from subspace_lib.benchmark.problem import ANGLE
from subspace_lib.chapters.cost import tables
from subspace_lib.chapters.cost.figures import MARKERS, shares
from subspace_lib.chapters.cost.study import prices
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.names import title
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.kit.table import span
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import gradients_per_step


def price(found: dict[str, Any]) -> Markdown:
    """What the bars are made of; every bar in the table."""
    told = ["In units of the seconds of plain SGD, over the bars of a network:"]
    for part in prices(found).values():
        bars = [shares(row) for row in part["rows"]]
        each = {name: [bar[name] for bar in bars if bar[name] > 0] for name in bars[0]}
        taken = [f"{name} {span(values, '.1f')}" for name, values in each.items() if values]
        told.append(f"*{title(part['model'])}*: {says.listed(taken)}.")
    told.append(
        "Only the recording needs rows. How often a path needs a look differs: see the table."
    )
    return says.answer(*told, table=tables.price(found))


def accuracy(case: dict[str, Any]) -> Markdown:
    """The cheapest solvers that reached the target, and which missed it."""
    mine = cheapest(case, "subspace_lib", warm=True)
    best = {peer: cheapest(case, peer) for peer in MARKERS if peer != "subspace_lib"}
    reached = {peer: row for peer, row in best.items() if row is not None}
    missed = [
        f"{row['peer']} ({row['setting']})"
        for row in case["rows"]
        if "failed" not in row and row["angle_range"][1] > ANGLE
    ]
    told = []
    if mine is not None:
        told.append(f"The tracker takes {says.number(mine['gradients'])} gradients for a basis.")
    if reached:
        name = min(reached, key=lambda peer: reached[peer]["gradients"])
        told.append(
            f"The cheapest peer that reached the target, {name}, takes "
            f"{says.number(reached[name]['gradients'])}."
        )
        if mine is not None:
            ratio = reached[name]["gradients"] / mine["gradients"]
            told.append(
                says.compared(
                    ratio,
                    1,
                    f"So the tracker is {says.number(ratio, 2)} times cheaper here.",
                    "So here the tracker is not the cheapest.",
                    "So here both cost about the same.",
                )
            )
    lost = says.listed(dict.fromkeys(missed)) if missed else "none"
    return says.answer(*told, f"Above the line, the angle too large: {lost}.")


def over_training(study: SwitchStudy) -> Markdown:
    """Gradient equivalents a step until the switch, where the alignment is watched, and after it."""
    names = [study.name(side) for side in PROJECTIONS]
    watched: list[float] = []
    after: dict[str, list[float]] = {name: [] for name in names}
    for name, side in zip(names, PROJECTIONS, strict=True):
        for run in study.of(side):
            switch = study.switch_steps[run.experiment.seed]
            if side == "none":
                watched.append(gradients_per_step(run, 0, switch))
            after[name].append(gradients_per_step(run, switch))
    until, later = says.mean(watched), says.mean(after[names[0]])
    told = [
        f"Until the switch a step of {names[0]} takes {says.mean_of(watched, _two)} gradient equivalents; "
        f"after it a step takes {says.each(after, _two)}. {says.over(len(watched))}"
    ]
    if math.isfinite(until) and math.isfinite(later):
        dearer = says.compared(until, later, "dearer", "cheaper", "as dear")
        than = says.whether(dearer == "as dear", "as", "than")
        told.append(f"So the steps until the switch are {dearer} {than} those after it.")
    told.append(_peaks(study))
    return says.answer(*told)


def _peaks(study: SwitchStudy) -> str:
    """What the teeth and the peak of the figure are, and why its numbers are not those of the tables."""
    p = study.parameters
    teeth = (
        f"The teeth are the spectra, every {p.spectrum_every:,} steps; the"
        if p.spectrum_every
        else "The"
    )
    return (
        f"{teeth} peak before the switch is the watch, which takes full gradients at every step once the "
        "moving average of the alignment is near its threshold. The bars at the top of this chapter have "
        "no spectra and no watch; the table above has other pixels."
    )


def _two(value: float) -> str:
    return says.number(value, 2)


def growth(found: dict[str, Any]) -> Markdown:
    """How a refresh and a gradient grow with each size: exponents of a power law, first to last."""
    rows, told = found["growth"]["measured"], []
    for name in ("k", "samples", "width", "chunk"):
        mine = [row for row in rows if row["varied"] == name]
        if len(mine) < 2:
            continue
        span = mine[-1][name] / mine[0][name]
        refresh, gradient = (
            mine[-1][f"{what}_seconds"] / mine[0][f"{what}_seconds"]
            for what in ("refresh", "gradient")
        )
        told.append(
            f"With {span:g} times {TITLES[name]} a refresh takes {_two(refresh)} times as long, a gradient "
            f"{_two(gradient)} times."
        )
    ratio = float(np.median([row["refresh_seconds"] / row["gradient_seconds"] for row in rows]))
    return says.answer(*told, f"The median refresh takes {says.number(ratio)} gradients.")


TITLES = {
    "k": "the k",
    "samples": "the samples",
    "width": "the hidden width",
    "chunk": "the samples per autograd graph",
}
