"""The directives of the front page, of the histories, and of the valley."""

from __future__ import annotations

from html import escape
from typing import ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from subspace_lib.book import advice
from subspace_lib.book.made import Made, judged, lacking
from subspace_lib.chapters import front, history, ledger, outcome
from subspace_lib.chapters.cost import plan
from subspace_lib.chapters.cost.study import stored
from subspace_lib.chapters.valley.still import valley_paths
from subspace_lib.evidence.verdicts import CLAIM, FINDING
from subspace_lib.experiment import Experiment
from subspace_lib.results.store import COMMITTED, Store

NOT_MEASURED = "The parts have not been measured: python -m subspace_lib.benchmark --part scale."
VALLEY_START = '<div class="valley">'
VALLEY_CAPTION = (
    "SGD, Dom-SGD and Bulk-SGD from the same point (ring), one sample a step. Top: their paths on "
    "contours of the loss. Middle: loss. Bottom: alignment. With JavaScript, this figure is interactive."
)


class Answer(Made):
    """``{answer}``: what was reproduced, what was not, what is still missing."""

    def html(self) -> str:
        """Sentences made from the verdicts."""
        return outcome.answer(judged(), ledger.claims(), outcome.settings(judged()), lacking())


class Advice(Made):
    """``{advice} refreshes``: what to use when; the argument is one of ``advice.TOPICS``."""

    required_arguments = 1

    def html(self) -> str:
        """Sentences made from the results."""
        return advice.TOPICS[self.arguments[0]](advice.evidence())


class Headline(Made):
    """``{headline}``: the answer in one sentence, for the first screen."""

    def html(self) -> str:
        """Progress of Dom-SGD and Bulk-SGD, from the verdicts."""
        return outcome.headline(judged())


class Ledger(Made):
    """``{ledger}``: how to read verdicts, and a card a claim."""

    kind: ClassVar[str] = CLAIM

    def html(self) -> str:
        """The cards, with links to the chapters."""
        return front.how_to_read() + self.cards()

    def cards(self) -> str:
        """A card for each verdict of this kind."""
        return front.ledger(ledger.of_kind(self.kind, judged()), ledger.claims(), self.address)


class Findings(Ledger):
    """``{findings}``: a card a finding."""

    kind = FINDING

    def html(self) -> str:
        """The cards, with links to the chapters."""
        return self.cards()


class History(Made):
    """``{history} 2026-11-22``: the ledger by criteria of that day, and why they were given up."""

    required_arguments = 1

    def html(self) -> str:
        """Its claims with their numbers, and what is asked of them today."""
        return history.page(history.read(self.arguments[0]), ledger.claims())


class Comparison(Made):
    """``{comparison}``: the numbers of this book's folder of results beside the repository's."""

    def html(self) -> str:
        """A table, or a sentence where the book is made from the repository's results."""
        if COMMITTED in Store().roots:
            return "<p>This book is made from the results that the repository holds.</p>"
        stored = ledger.verdicts(Store(COMMITTED), ledger.PAPER)
        return front.comparison(judged(), stored)


class MainFigure(Made):
    """``{main-figure}``: the losses of SGD, Dom-SGD and Bulk-SGD."""

    def html(self) -> str:
        """The picture, drawn from the results."""
        return front.main_figure(front.main_study(), front.other_studies())


class Plan(Made):
    """``{plan}``: what a large network on several GPUs would need, and what that means."""

    def html(self) -> str:
        """A table and a paragraph, or a sentence where its parts have not been measured."""
        found = stored()
        if "scale" not in found:
            return f"<p>{escape(NOT_MEASURED)}</p>"
        rows = [(line.name, line.how, line.text) for line in plan.lines(found)]
        told = " ".join(plan.answers(found))
        return (
            front.stacked(("what", "how it is known", "how much"), rows, "plan") + f"<p>{told}</p>"
        )


class Fields(Made):
    """``{fields}``: the fields of an ``Experiment``, what they are if not given, and what they mean."""

    def html(self) -> str:
        """A table, from the descriptions that the fields have."""
        rows = [
            (
                f"<code>{name}</code>",
                "by the data or the model"
                if field.default_factory
                else f"<code>{field.default}</code>",
                escape(field.description or ""),
            )
            for name, field in Experiment.model_fields.items()
        ]
        return front.stacked(("field", "if not given", "what it is"), rows, "fields")


class Links(Made):
    """``{links}``: links to the paper, from ``book_links``, and to the repository, ``book_repository``."""

    def html(self) -> str:
        """Those that have an address."""
        return front.links(
            {**self.config.book_links, "The repository": self.config.book_repository}
        )


def valley_html() -> str:
    """The place of the interactive valley, with a figure for readers without JavaScript."""
    picture = valley_paths().svg()
    caption = f"<figcaption>{escape(VALLEY_CAPTION)}</figcaption>"
    return f'{VALLEY_START}<figure class="valley-still">{picture}{caption}</figure></div>'


class ValleyDirective(SphinxDirective):
    """``{valley}``: the interactive valley; its script is loaded on this page only."""

    def run(self) -> list[nodes.Node]:
        """The container, by which ``site.load_page_files`` knows the page."""
        return [nodes.raw("", valley_html(), format="html")]
