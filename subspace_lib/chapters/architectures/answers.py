"""What the figures of chapter 02b show, panel by panel, in words that their numbers choose."""

from __future__ import annotations

from collections.abc import Callable

from IPython.display import Markdown

from subspace_lib.chapters.architectures import tables
from subspace_lib.chapters.architectures.study import ArchitecturesStudy
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.switch import answers as switch
from subspace_lib.chapters.kit.switch.panel import label
from subspace_lib.chapters.kit.switch.study import SwitchStudy


def _each(
    study: ArchitecturesStudy,
    say: Callable[[SwitchStudy], Markdown],
    table: Markdown | None = None,
) -> Markdown:
    """A paragraph a panel, and a table below."""
    told = [
        f"**({letter}) {label(panel)}.** {say(panel).data}"
        for letter, panel in study.panels.items()
    ]
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


def test_losses(study: ArchitecturesStudy) -> Markdown:
    """Test loss and accuracy at the end."""
    return _each(study, switch.test_losses)
