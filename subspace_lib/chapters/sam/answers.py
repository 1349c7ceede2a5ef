"""What the figures of chapter 06 show, in words that their numbers choose."""

from __future__ import annotations

import math
from collections.abc import Iterable

from IPython.display import Markdown

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.edge import level_at_switch
from subspace_lib.chapters.kit.study import there
from subspace_lib.chapters.kit.switch import answers as switch
from subspace_lib.chapters.kit.switch.frozen import risen, sharpness, what_is_left
from subspace_lib.chapters.kit.switch.study import OPEN, SwitchStudy
from subspace_lib.chapters.sam import tables
from subspace_lib.chapters.sam.study import SamStudy
from subspace_lib.evidence import criteria
from subspace_lib.results.store import MissingRun
from subspace_lib.theory.edges import sam_edge
from subspace_lib.trajectory import Trajectory, tail, tail_loss

APART = 0.1  # difference of two alignments that is said to show


def losses(study: SamStudy) -> Markdown:
    """What the branches make of the loss with minibatches; then with the full batch, bounce apart."""
    mini, full = switch.losses(study.minibatch), switch.edge_losses(study.edge)
    told = [f"*Minibatches.* {mini.data}", f"*Full batch.* {full.data}", _cause(study)]
    return Markdown("\n\n".join(filter(None, told)))


def _cause(study: SamStudy) -> str:
    """Where the loss of Dom-SAM rises with the full batch: what a frozen subspace leaves of that."""
    edge, seeds = study.edge, study.edge.parameters.seeds
    starts = [level_at_switch(edge, seed) for seed in seeds]
    moving = edge.of("dominant")
    if not all(risen(run, start) for start, run in zip(starts, moving, strict=True)):
        return ""
    name = edge.name("dominant")
    try:
        frozen = [study.frozen[seed] for seed in seeds]
    except MissingRun:
        return (
            f"*Why the loss of {name} rises.* The runs with a frozen subspace are not stored yet."
        )
    told = f"*Why the loss of {name} rises.* From the switch on its sharpness {sharpness(moving)}."
    return (
        f"{told} {what_is_left(zip(starts, moving, frozen, strict=True))} {_apart(study)}".rstrip()
    )


def _apart(study: SamStudy) -> str:
    """What becomes of Dom-SAM with two frozen subspaces in turn."""
    if not (runs := list(there(study.apart).values())):
        return ""
    gone = [not run.complete for run in runs]
    told = "With the subspaces of the even and of the odd step at the switch frozen, in turn, the loss "
    if all(gone):
        after = [run.table["step"].iloc[-1] - run.experiment.switch_step for run in runs]
        when = says.mean_of(after, "{:,.0f}".format)
        return told + (
            f"exceeds that of the untrained network within {when} steps. So two old subspaces in turn do "
            "not keep the loss from rising, as one does."
        )
    if not any(gone):
        return told + f"ends at {says.mean_of(tail_loss(run) for run in runs)}."
    return told + f"exceeds that of the untrained network in {says.counted(gone)}."


def angles(study: SamStudy) -> Markdown:
    """How exact the subspace was along either, and what following it cost."""
    mini, full = (switch.angles(part, costs=True) for part in (study.minibatch, study.edge))
    return Markdown(f"*Minibatches.* {mini.data}\n\n*Full batch.* {full.data}")


def edges(study: SamStudy) -> Markdown:
    """Late sharpness of SAM over SAM's own edge, and over 2/η, in either case."""
    told = []
    for part, title in ((study.minibatch, "minibatches"), (study.edge, "the full batch")):
        own, plain, bulk = _late(part)
        told.append(
            f"With {title}, at the end, SAM's λ₁ over its own edge is {says.mean_of(own, says.share)}, and "
            f"over 2/η {says.mean_of(plain, says.share)}; that of Bulk-SAM over 2/η is "
            f"{says.mean_of(bulk, says.share)}."
        )
        ratio = says.mean(own)
        if math.isfinite(ratio):
            low, high = criteria.EDGE.at_least, criteria.EDGE.at_most
            where = "at" if low <= ratio <= high else "below" if ratio < low else "above"
            told.append(f"So SAM is {where} its own edge there.")
    return says.answer(*told)


def _late(study: SwitchStudy) -> tuple[list[float], list[float], list[float]]:
    """λ₁ of SAM over SAM's edge and over 2/η, and of Bulk-SAM over 2/η, by seed."""
    p, own, plain = study.parameters, [], []
    for run in study.of("none"):
        value = tail(run, "eigenvalue_01")
        norm = tail(run, "batch_gradient_norm")
        own.append(value / float(sam_edge(norm, p.learning_rate, p.rho)))
        plain.append(p.learning_rate / 2 * value)
    return (
        own,
        plain,
        [p.learning_rate / 2 * tail(run, "eigenvalue_01") for run in study.of("bulk")],
    )


def ascents(study: SamStudy) -> Markdown:
    """Alignments of the gradient, of the ascent and of the update after the switch."""
    told = []
    for part, title in ((study.minibatch, "minibatches"), (study.edge, "the full batch")):
        full, ascent, update = (
            [_bounded(run, column, part.switch_steps[seed]) for seed, run in _by_seed(part)]
            for column in ("alignment", "batch_alignment", "update_alignment")
        )
        if all(math.isnan(says.mean(found)) for found in (full, ascent, update)):
            told.append(f"With {title} no step after the switch has a bound on the basis.")
            continue
        told.append(
            f"With {title} the alignment is {says.mean_of(full, says.share)} for the full-batch gradient, "
            f"{says.mean_of(ascent, says.share)} for the ascent and {says.mean_of(update, says.share)} for "
            "SAM's update, over those steps after the switch at which the basis has a bound."
        )
        more = says.mean(update) - says.mean(ascent)
        if math.isfinite(more):
            word = "more aligned than" if more > APART else "less aligned than"
            word = "about as aligned as" if abs(more) <= APART else word
            told.append(f"So the update is {word} the ascent.")
    return says.answer(*told)


def _by_seed(study: SwitchStudy) -> Iterable[tuple[int, Trajectory]]:
    return zip(study.parameters.seeds, study.of("none"), strict=True)


def _bounded(run: Trajectory, column: str, start: int) -> float:
    """Mean of a column over the steps from ``start`` on, without rows at which nothing bounds the basis."""
    table = run.table
    known = (table["step"] >= start) & (table["angle_bound"] <= OPEN) & table[column].notna()
    steps = table["step"].diff().where(known)
    return float((table[column] * steps).sum() / steps.sum()) if steps.sum() else math.nan


def rhos(study: SamStudy) -> Markdown:
    """Sharpness, alignment and loss at the end by radius; below, how the pilot chose ρ."""
    try:
        chosen = tables.pilot(study.pilot)
    except MissingRun:
        return says.missing("The pilot's runs are")
    try:
        runs = dict(study.rhos)
    except MissingRun:
        return says.answer(
            "*The judged seeds' runs with other ρ are not stored yet.*", table=chosen
        )
    ends = {
        rho: tuple(tail(run, c) for c in ("eigenvalue_01", "alignment", "train_loss"))
        for rho, run in runs.items()
    }
    if len(ends) < 2:
        return says.answer(
            "Only one radius was run here: there is nothing to compare.", table=chosen
        )
    low, high = min(ends), max(ends)
    (sharp, aligned, loss), (sharp_high, aligned_high, loss_high) = ends[low], ends[high]
    sharper = says.compared(sharp_high, sharp, "raises", "lowers", "hardly changes")
    costs = says.compared(loss_high, loss, "costs", "gains", "hardly changes")
    return says.answer(
        f"From ρ = {low:g} to ρ = {high:g} the sharpness at the end {says.moves(sharp, sharp_high)}, the "
        f"alignment {says.moves(aligned, aligned_high, says.share)}, and the training loss "
        f"{says.moves(loss, loss_high)}.",
        f"So the larger radius {sharper} the sharpness, and after as many steps it {costs} training loss "
        "(one seed).",
        table=chosen,
    )
