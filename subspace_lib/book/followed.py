"""How often the tracker refreshed by itself, what that cost, and how exact it was; as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from subspace_lib.chapters.front import stacked
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.names import trained
from subspace_lib.experiment import Experiment
from subspace_lib.trajectory import Trajectory

SMALL = 1e-3  # a sine below it is not said exactly


def branches(runs: Iterable[Trajectory]) -> list[Trajectory]:
    """Those that project, and follow the subspace in the tracker's own way."""
    return [
        run
        for run in runs
        if isinstance(e := run.experiment, Experiment)
        and e.kind == Experiment.kind
        and e.projection != "none"
        and "angle" in run.table
    ]


def followed(runs: Sequence[Trajectory]) -> str:
    """A table of how often the tracker refreshed by itself, with what that cost and how exact it was."""
    ordered = sorted((run for run in runs if len(run.table) > 1), key=_label)
    rows = [(*label, *_cost(list(same))) for label, same in groupby(ordered, key=_label)]
    if not rows:
        return ""
    heads = (
        "network",
        "method",
        "steps per refresh",
        "gradients per step",
        "angle, median",
        "angle, largest",
    )
    note = (
        "From the switch on, in the runs that claims are judged by. A refresh is over all data; between "
        "them looks at some of the data move the basis too. Gradients per step: over all data, the step's "
        "own, rows and spectra included. Angle: sine of the largest principal angle of the basis in use at "
        "the recorded rows, as far as known: a run's median, in the mean over runs, and the largest of "
        "all. Between rows it may be larger: the chapters show the largest since the row before. An angle "
        "of 1 says that at some rows nothing is known of the basis: what is projected there is not "
        "S<sub>k</sub> alone."
    )
    return stacked(heads, rows, "advice") + f"<p>{note}</p>"


def _label(run: Trajectory) -> tuple[str, str]:
    e = run.experiment
    batch = "all samples" if e.batch_size == e.samples else f"batch {e.batch_size:,}"
    method = f"{says.rule(e.method)}, {batch}, η {e.learning_rate:g}"
    return trained(e.model, e.dataset), method


def _cost(runs: Sequence[Trajectory]) -> tuple[str, ...]:
    """Of runs alike: steps per refresh, gradients over all data per step, median and largest angle."""
    spans = [run.table.iloc[[0, -1]] for run in runs]
    steps, often, work = (
        [float(span[name].iloc[1] - span[name].iloc[0]) for span in spans]
        for name in ("step", "refreshes", "gradient_equivalents")
    )
    angles = [run.table["angle"].dropna() for run in runs]
    middle = says.mean([float(a.median()) for a in angles if len(a)])
    largest = max((float(a.max()) for a in angles if len(a)), default=float("nan"))
    return (
        says.number(sum(steps) / max(1.0, sum(often)), 2),
        says.number(sum(work) / sum(steps), 2),
        *(
            f"under {SMALL:g}" if sine < SMALL else says.number(sine, 2)
            for sine in (middle, largest)
        ),
    )
