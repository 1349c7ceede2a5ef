"""Figures of chapter 12."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from subspace_lib.benchmark.problem import ANGLE
from subspace_lib.chapters.cost.study import prices
from subspace_lib.chapters.kit.names import trained
from subspace_lib.chapters.kit.style import (
    COLOURS,
    CYCLE,
    INK,
    LINES,
    WIDTH,
    Picture,
    band,
    below,
    log_ticks,
    panels,
    styled,
)
from subspace_lib.chapters.kit.switch.study import SwitchStudy

MARKERS = {
    "subspace_lib": ("o", "#D55E00"),
    "PRIMME": ("s", "#0072B2"),
    "scipy eigsh": ("^", "#009E73"),
    "scipy lobpcg": ("v", "#009E73"),
    "torch.lobpcg": ("D", "#CC79A7"),
    "curvlinops + eigsh": ("<", "#E69F00"),
    "hessian-eigenthings": (">", "#56B4E9"),
    "skerch": ("P", "#999999"),
    "PyHessian": ("X", "#8A6D3B"),
}


def way(row: dict[str, Any]) -> str:
    """The name of a way to train."""
    name = row["method"]
    if not row["follows"]:
        return f"{name}, at rows only"
    name += ", followed" if row["projection"] == "none" else ""
    name += ", with rows" if row["rows"] else ""
    return name if row["budget"] is None else f"{name}, budget {row['budget']:g}"


def shares(row: dict[str, Any]) -> dict[str, float]:
    """What its seconds go into, over those of plain SGD."""
    following, recording = row["following"], row["recording"]
    return {
        "steps and projecting": row["ratio"] - following - recording,
        "looks and refreshes": following,
        "rows": recording,
    }


@styled
def price(found: dict[str, Any]) -> Picture:
    """Seconds over those of plain SGD by what they go into, a bar for each way to train."""
    parts = list(prices(found).values())
    heights = [len(part["rows"]) for part in parts]
    figure = Figure(figsize=(WIDTH, 1.3 + 0.35 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(parts), squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, part in zip(grid, parts, strict=True):
        names, left = [way(row) for row in part["rows"]], np.zeros(len(part["rows"]))
        table = pd.DataFrame([shares(row) for row in part["rows"]])
        for share, colour in zip(table, CYCLE, strict=False):
            axes.barh(names, table[share], left=left, color=colour, label=share)
            left += table[share]
        axes.invert_yaxis()
        axes.axvline(1, color=INK, lw=0.8, ls=":")
        axes.set_title(trained(part["model"], part["dataset"]))
    axes.set_xlabel("seconds, over those of plain SGD")
    below(figure, axes)
    return Picture(figure, "Seconds over those of plain SGD, by way to train")


@styled
def accuracy(case: dict[str, Any]) -> Picture:
    """Cost against accuracy: every solver of a case, the target's angle as a dotted line."""
    figure, (axes,) = panels(1, height=4.6)
    for row in case["rows"]:
        if "failed" in row:
            continue
        marker, colour = MARKERS[row["peer"]]
        axes.plot(
            row["gradients"],
            max(row["angle_range"][1], 1e-5),
            marker=marker,
            ls="",
            ms=7,
            color=colour if row["warm"] else "none",
            mec=colour,
            mew=1.4,
            alpha=1 if row["reached"] else 0.45,
        )
    shown = dict.fromkeys(row["peer"] for row in case["rows"] if "failed" not in row)
    for peer in shown:
        marker, colour = MARKERS[peer]
        axes.plot([], [], marker=marker, ls="", color=colour, label=peer)
    axes.axhline(ANGLE, color=INK, lw=0.8, ls=":")
    axes.set(xscale="log", yscale="log", xlabel="seconds, over those of one full-data gradient")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("true sine of the largest angle")
    below(figure, axes)
    return Picture(figure, f"Cost against true angle, {trained(case['model'], case['dataset'])}")


@styled
def over_training(study: SwitchStudy) -> Picture:
    """Gradient equivalents per step over a run, minibatches and everything recorded included."""
    figure, (axes,) = panels(1, height=3.5)
    for projection, colour in COLOURS.items():
        curves = []
        for trajectory in study.of(projection):
            rows = trajectory.table.set_index("step")["gradient_equivalents"]
            cost = rows.diff() / rows.index.to_series().diff()
            curves.append(cost.rolling(10, min_periods=1).mean())
        band(axes, curves, colour, LINES[projection], study.name(projection))
    axes.set(yscale="log", xlabel="step", ylabel="gradient equivalents a step")
    log_ticks(axes)
    below(figure, axes)
    return Picture(figure, "Cost per training step over the runs of chapter 02")


@styled
def growth(found: dict[str, Any]) -> Picture:
    """Cost of one refresh against k, samples, width and chunk size, each varied alone."""
    rows = found["growth"]["measured"]
    figure = Figure(figsize=(WIDTH, 6), layout="constrained")
    for axes, name in zip(
        figure.subplots(2, 2).flat, ("k", "samples", "width", "chunk"), strict=True
    ):
        mine = [row for row in rows if row["varied"] == name]
        x = [row[name] for row in mine]
        axes.plot(x, [r["refresh_seconds"] for r in mine], "o-", color="#D55E00", label="refresh")
        axes.plot(
            x, [r["gradient_seconds"] for r in mine], "s--", color="#0072B2", label="gradient"
        )
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="seconds")
        few = x[:: 1 + (len(x) > 3)]  # the width has room for three numbers
        axes.set_xticks(few, [str(value) for value in few])
        axes.minorticks_off()
    below(figure, axes)
    return Picture(
        figure, "Seconds of a refresh and of a gradient against k, samples, width, chunk"
    )
