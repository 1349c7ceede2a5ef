"""Tables of chapter 10."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib import data
from subspace_lib.chapters.generalization.study import (
    GeneralizationStudy,
    at_loss,
    reached,
    same_problem,
)
from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.names import title
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.kit.table import Row, table
from subspace_lib.data import images, text
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory, tail, tail_loss


def protocol(study: GeneralizationStudy) -> Markdown:
    """The parameters in force, the switches, and which groups are missing."""
    rows: list[Row] = [
        {"parameter": name, "in force": "**missing**: not all of its runs are stored"}
        for name in study.parameters.groups()
        if name not in study.groups
    ]
    rows += [
        {"parameter": f"switch, {name}", "in force": _switches(group)}
        for name, group in study.groups.items()
    ]
    rows += [
        {"parameter": f"test samples, {title(name)}", "in force": f"{count:,}"}
        for name, count in test_samples(study).items()
    ]
    return page.in_force(study.parameters, study.runs(), rows)


def test_samples(study: GeneralizationStudy) -> dict[str, int]:
    """How many samples the test sets have, by data set; one of your own is not told."""
    sources = images.SOURCES | text.SOURCES
    p = study.parameters
    names = dict.fromkeys((p.dataset, *p.network_datasets))
    whole = {name: data.SUBSETS[name].of if name in data.SUBSETS else name for name in names}
    return {name: sources[of].test_samples for name, of in whole.items() if of in sources}


def _switches(group: SwitchStudy) -> str:
    steps = [f"{step:,} (seed {seed})" for seed, step in group.switch_steps.items()]
    return f"steps {says.listed(steps)}"


def sharpness(run: Trajectory) -> float:
    """λ₁ as the last refresh of the run saw it."""
    return float(run.table["eigenvalue_01"].dropna().iloc[-1])


def ends(study: GeneralizationStudy) -> Markdown:
    """What each method ends with, and its test loss and accuracy at a training loss that all X reach."""
    rows: list[Row] = []
    for name, group in study.groups.items():
        level = common_level(study, group)
        for side in PROJECTIONS:
            runs = [run for run in group.of(side) if run.complete]
            lost = len(group.of(side)) - len(runs)
            rows.append(
                {
                    "runs": f"{name}, {len(runs)} seed{'s' * (len(runs) != 1)}"
                    if side == "none"
                    else "",
                    "method": group.name(side) + (f" ({lost} diverged)" if lost else ""),
                    "training loss": says.mean_of(map(tail_loss, runs)),
                    "test loss": says.mean_of(tail(run, "test_loss") for run in runs),
                    "test accuracy": says.mean_of((_accuracy(run) for run in runs), percent),
                    "λ₁": says.mean_of(map(sharpness, runs)),
                    "at training loss": says.number(level),
                    "test loss there": says.mean_of(
                        at_loss(run, "test_loss", level) for run in runs
                    ),
                    "test accuracy there": says.mean_of(
                        (at_loss(run, "test_accuracy", level) for run in runs), percent
                    ),
                }
            )
    return table(
        rows,
        note="At the end: means over the last 2% of the steps and over seeds, with the range; λ₁ as the "
        "last refresh saw it. The last columns compare all runs on a network and its data at one "
        "training loss, the highest at which a run of X or Bulk-X ends. *not known*: that run's training "
        "loss is never there.",
    )


def common_level(study: GeneralizationStudy, group: SwitchStudy) -> float:
    """The highest training loss at which an X or a Bulk-X of this network and data ends."""
    alike = [g for g in study.groups.values() if same_problem(g, group)]
    runs = [run for g in alike for side in ("none", "bulk") for run in g.of(side)]
    return max((reached(run) for run in runs if run.complete), default=math.nan)


def _accuracy(run: Trajectory) -> float:
    return tail(run, "test_accuracy")


def percent(value: float) -> str:
    """A test accuracy, to a tenth of a point."""
    return f"{value:.1%}" if math.isfinite(value) else says.UNKNOWN
