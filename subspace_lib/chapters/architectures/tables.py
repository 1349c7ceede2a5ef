"""Tables of chapter 02b."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib import data
from subspace_lib.chapters.architectures.study import ArchitecturesStudy
from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.switch.judge import late_gap
from subspace_lib.chapters.kit.switch.panel import eigenvalue_gap, label, over_sgd
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy
from subspace_lib.chapters.kit.table import Row, span, table
from subspace_lib.results.provenance import processors
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory, progress, tail, tail_loss


def protocol(study: ArchitecturesStudy) -> Markdown:
    """The parameters in force, the switches, which panels are missing, which runs did not end."""
    rows: list[Row] = []
    for letter, panel in study.panels.items():
        for seed in panel.parameters.seeds:
            why = "fixed by switch_step"
            if panel.triggered[seed]:
                why = f"alignment's moving average above {panel.parameters.switch_alignment}"
            elif panel.parameters.switch_alignment is not None:
                why = "**by the fallback**: the moving average had not exceeded the threshold"
            told = f"step {panel.switch_steps[seed]}: {why}"
            rows.append({"parameter": f"switch, panel {letter}, seed {seed}", "in force": told})
    for letter, asked in study.parameters.panels().items():
        if data.tokens(asked.dataset):
            length, vocabulary = data.shape(asked.dataset)
            told = f"{length} positions; a row of the embedding for each of {vocabulary:,} tokens"
            rows.append({"parameter": f"sentences, panel {letter}", "in force": told})
    for part, whole in (("", study.parameters.panels()), (" at 2η", study.parameters.doubled())):
        having = study.doubled if part else study.panels
        rows += [
            {"parameter": f"panel {letter}{part}", "in force": told}
            for letter, asked in whole.items()
            if (told := _lacking(asked, having.get(letter)))
        ]
    return page.in_force(study.parameters, study.runs(), rows)


def _lacking(asked: SwitchParameters, found: SwitchStudy | None) -> str:
    if found is None:
        return "**missing**: not all of its runs are stored"
    lacking = [str(seed) for seed in asked.seeds if seed not in found.parameters.seeds]
    return f"**missing**: the runs of seed {says.listed(lacking)}" if lacking else ""


def ends(study: ArchitecturesStudy) -> Markdown:
    """By panel and method: losses, accuracy, alignment and spectrum over the last 2%, over seeds."""
    lines: list[Row] = []
    for panel in study.panels.values():
        for side in PROJECTIONS:
            runs = panel.of(side)
            last = [run.table.iloc[-1] for run in runs]
            lines.append(
                {
                    "panel": label(panel),
                    "method": panel.name(side),
                    "training loss": span(map(tail_loss, runs), ".4f"),
                    "test loss": span((tail(run, "test_loss") for run in runs), ".4f"),
                    "test accuracy": span((tail(run, "test_accuracy") for run in runs), ".1%"),
                    "alignment": span((tail(run, "alignment") for run in runs), ".2f"),
                    "λ₁": span((row["eigenvalue_01"] for row in last), says.number),
                    "λₖ/λₖ₊₁": span(map(_gap, runs), ".2f"),
                }
            )
    return table(lines, note="From the least to the largest over seeds.")


def _gap(run: Trajectory) -> float:
    """At the last full spectrum; of a run without one, as its last refresh saw it."""
    found = late_gap(run)
    return eigenvalue_gap(run) if math.isnan(found) else found


def cost(study: ArchitecturesStudy) -> Markdown:
    """What following the subspace cost by panel and method, means over seeds."""
    lines: list[Row] = []
    for panel in study.panels.values():
        for side in PROJECTIONS:
            runs = panel.of(side)
            last = [run.table.iloc[-1] for run in runs]
            lines.append(
                {
                    "panel": label(panel),
                    "method": panel.name(side),
                    "refreshes": f"{sum(row['refreshes'] for row in last) / len(runs):.0f}",
                    "Hessian products": f"{sum(row['products'] for row in last) / len(runs):.0f}",
                    "work over plain SGD's": f"{says.number(over_sgd(panel, side), 2)} ×",
                    "minutes": f"{sum(row['seconds'] for row in last) / len(runs) / 60:.0f}",
                    "on": "; ".join(dict.fromkeys(processors(run.provenance) for run in runs)),
                }
            )
    note = (
        "Counted are all steps of SGD, and the steps after the switch of the others. Work: in gradients, "
        "with rows, spectra and the watched alignment, without the cold start; chapter 12 has the seconds "
        "without them. Refreshes, Hessian products and minutes: per run, averaged over seeds."
    )
    return table(lines, note=note)


def doubled(study: ArchitecturesStudy) -> Markdown:
    """One seed at η and at 2η: what C1 to C3 are judged by."""
    lines: list[Row] = []
    for letter, twice in study.doubled.items():
        for one in (study.alone(letter), twice):
            if one is not None:
                lines.append(_quantities(one))
    if not lines:
        return Markdown("Not all runs at 2η are stored: nothing can be said here.")
    return table(lines)


def _quantities(study: SwitchStudy) -> Row:
    (plain,), (dom,), (bulk,) = map(study.of, PROJECTIONS)
    (seed,) = study.parameters.seeds
    return {
        "panel": label(study),
        "switch": f"{study.switch_steps[seed]:,}{' (fallback)' if study.note() else ''}",
        "SGD's loss, late": f"{tail_loss(plain):.4f}",
        "late alignment": _number(tail(plain, "alignment")),
        "late λₖ/λₖ₊₁": _number(eigenvalue_gap(plain)),
        "progress(Dom-SGD)": _number(progress(plain, dom)),
        "progress(Bulk-SGD)": _number(progress(plain, bulk)),
    }


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"
