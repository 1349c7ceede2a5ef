"""What the figures of chapter 02b show, panel by panel, in words that their numbers choose."""

from __future__ import annotations

from collections.abc import Callable

from IPython.display import Markdown

from subspace_lib.chapters.architectures import tables
from subspace_lib.chapters.architectures.study import LETTERS, ArchitecturesStudy
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.switch import answers as switch
from subspace_lib.chapters.kit.switch.panel import label
from subspace_lib.chapters.kit.switch.study import SwitchStudy


def _each(
    study: ArchitecturesStudy,
    say: Callable[[SwitchStudy], Markdown],
    table: Markdown | None = None,
) -> Markdown:
    """A paragraph a panel, one for each that is missing, and a table below."""
    told = []
    for letter in LETTERS[: len(study.parameters.datasets)]:
        if letter in study.panels:
            panel = study.panels[letter]
            told.append(f"**({letter}) {label(panel)}.** {say(panel).data}")
        else:
            told.append(says.missing(f"({letter}): its runs are").data)
    return says.answer("\n\n".join(told), table=table)


def losses(study: ArchitecturesStudy) -> Markdown:
    """Losses at the switch and at the end, and what each part of the update learns."""
    return _each(study, switch.losses)


def alignments(study: ArchitecturesStudy) -> Markdown:
    """Late alignments, beside what the runs learn."""
    return _each(study, switch.alignments)


def spectra(study: ArchitecturesStudy) -> Markdown:
    """The sharpness, and the gap at the end; a table of what the runs end with."""
    return _each(study, switch.spectra, tables.ends(study))


def angles(study: ArchitecturesStudy) -> Markdown:
    """Measured and certified angles; what they cost below."""
    return _each(study, switch.angles, tables.cost(study))


def test_losses(study: ArchitecturesStudy) -> Markdown:
    """Test loss and accuracy at the end."""
    return _each(study, switch.test_losses)
