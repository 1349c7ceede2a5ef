"""What the figures of chapter 02b show, panel by panel, in words that their numbers choose."""

from __future__ import annotations

import math
from collections.abc import Callable

from IPython.display import Markdown

from subspace_lib.chapters.architectures import tables
from subspace_lib.chapters.architectures.study import ArchitecturesStudy
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.switch import answers as switch
from subspace_lib.chapters.kit.switch.panel import label
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import progress, tail_loss


def _each(
    study: ArchitecturesStudy,
    say: Callable[[SwitchStudy], Markdown],
    table: Markdown | None = None,
) -> Markdown:
    """A paragraph a panel, and a table below."""
    told = [f"**{label(panel)}.** {say(panel).data}" for panel in study.panels.values()]
    return says.answer("\n\n".join(told), table=table)


def losses(study: ArchitecturesStudy) -> Markdown:
    """Losses at the switch and at the end, what each part of the update learns; what is missing."""
    asked = {f"Panel {letter}": p for letter, p in study.parameters.panels().items()}
    found = {f"Panel {letter}": panel for letter, panel in study.panels.items()}
    return says.answer("\n\n".join([_each(study, switch.losses).data, *says.not_yet(asked, found)]))


def alignments(study: ArchitecturesStudy) -> Markdown:
    """Late alignments, beside what the runs learn."""
    return _each(study, switch.alignments)


def spectra(study: ArchitecturesStudy) -> Markdown:
    """The sharpness, and the gap at the end; a table of what the runs end with."""
    return _each(study, switch.spectra, tables.ends(study))


def angles(study: ArchitecturesStudy) -> Markdown:
    """Measured and certified angles; what they cost below."""
    return _each(study, switch.angles, tables.cost(study))


def doubled(study: ArchitecturesStudy) -> Markdown:
    """What becomes of the loss under Dom-SGD and of Bulk-SGD's progress at 2η, beside η (F6)."""
    if not study.doubled:
        return says.missing("The runs at 2η are")
    told = [f"Seed {study.parameters.doubled_seed} alone: shown, not judged."]
    for letter, twice in study.doubled.items():
        once = study.alone(letter)
        (plain,), (dom,), (bulk,) = map(twice.of, PROJECTIONS)
        before = "" if once is None else f" At η it {_risen(once)}."
        told.append(
            f"**{label(twice)}**: from the switch on Dom-SGD's loss {_risen(twice)}.{before} Bulk-SGD "
            f"makes {says.share(progress(plain, bulk))} of SGD's progress. The sine of Dom-SGD's angle in "
            f"use was {says.number(float(dom.table['angle'].median()), 2)} in the median over rows."
        )
    return says.answer(*told, table=tables.doubled(study))


def _risen(study: SwitchStudy) -> str:
    """Which way the training loss goes under Dom-SGD, by the bounds of Q1, and how far."""
    (plain,), (run,) = map(study.of, ("none", "dominant"))
    if not run.complete:
        return "diverges"
    made = progress(plain, run)
    word = "stays level" if math.isfinite(made) else "cannot be compared, so little SGD gains"
    if made <= criteria.Q1_RISES.at_most:
        word = f"rises by {says.percent(-made)} of what SGD gains"
    elif made > criteria.Q1_DOM.at_most:
        word = f"falls by {says.percent(made)} of what SGD gains"
    start = float(run.table["train_loss"].iloc[0])
    return f"{word} ({says.number(start)} to {says.number(tail_loss(run))})"


def test_losses(study: ArchitecturesStudy) -> Markdown:
    """Test loss and accuracy at the end."""
    return _each(study, switch.test_losses)
