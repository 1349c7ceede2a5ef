"""Sphinx extension: directives that put results into the book's pages when it is built."""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from html import escape
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from subspace_lib.chapters import front, history, ledger
from subspace_lib.chapters.kit.page import VERDICT_COLUMNS
from subspace_lib.chapters.valley.still import valley_paths
from subspace_lib.evidence.verdicts import CLAIM, FINDING, Verdict
from subspace_lib.results.store import COMMITTED, Store

VALLEY_FILES = ("valley.js", "valley.css")  # in book/_static
VALLEY_START = '<div class="valley">'
VALLEY_CAPTION = (
    "SGD, Dom-SGD and Bulk-SGD from the same point (ring), one sample a step. Top: their paths on "
    "contours of the loss. Middle: loss. Bottom: alignment. With JavaScript, this figure is interactive."
)


@cache
def judged() -> list[Verdict]:
    """The verdicts, judged once a build; what rests on runs that must not be judged is a warning."""
    found = ledger.verdicts()
    if ledger.profile() == ledger.PAPER:
        for objection in ledger.objections(found):
            logging.getLogger(__name__).warning(objection)
    return found


class Made(SphinxDirective):
    """A directive without options whose HTML is made anew in every build: results may have changed."""

    def run(self) -> list[nodes.Node]:
        """The HTML in the page's place."""
        self.env.note_reread()
        return [nodes.raw("", self.html(), format="html")]

    @abstractmethod
    def html(self) -> str:
        """What stands in the page."""


class Answer(Made):
    """``{answer}``: what was reproduced, what was not, what is still missing."""

    def html(self) -> str:
        """Sentences made from the verdicts."""
        return front.answer(judged(), ledger.claims(), front.settings(judged()))


class Ledger(Made):
    """``{ledger}``: how to read verdicts, and a card a claim."""

    kind: ClassVar[str] = CLAIM

    def html(self) -> str:
        """The cards, with links to the chapters."""
        return front.how_to_read() + self.cards()

    def cards(self) -> str:
        """A card for each verdict of this kind."""
        return front.ledger(ledger.of_kind(self.kind, judged()), ledger.claims(), self.address)

    def address(self, chapter: str) -> str | None:
        """The address of a chapter's page from this one, or None where the book has no such page."""
        page = f"notebooks/{chapter}"
        if page not in self.env.found_docs:
            return None
        return self.env.app.builder.get_relative_uri(self.env.docname, page)


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
        return front.main_figure(front.main_study())


class Links(Made):
    """``{links}``: links to the paper and to the repository, from ``book_links`` in the configuration."""

    def html(self) -> str:
        """Those that have an address."""
        return front.links(self.config.book_links)


def valley_html() -> str:
    """The place of the interactive valley, with a figure for readers without JavaScript."""
    picture = valley_paths().svg()
    caption = f"<figcaption>{escape(VALLEY_CAPTION)}</figcaption>"
    return f'{VALLEY_START}<figure class="valley-still">{picture}{caption}</figure></div>'


class ValleyDirective(SphinxDirective):
    """``{valley}``: the interactive valley; its script is loaded on this page only."""

    def run(self) -> list[nodes.Node]:
        """The container, which ``add_valley_files`` looks for."""
        return [nodes.raw("", valley_html(), format="html")]


def mark_verdict_tables(app: Sphinx, doctree: nodes.document) -> None:
    """Tables of verdicts get a class of their own, by which a phone shows their cells below each other."""
    for table in doctree.findall(nodes.table):
        heads = [cell.astext() for head in table.findall(nodes.thead) for cell in head[0].children]
        if heads == list(VERDICT_COLUMNS):
            table["classes"].append("verdicts")


def withhold_valley_files(app: Sphinx, config: Config) -> None:
    """Take the valley's files from those for every page, where Jupyter Book puts all that is in _static."""
    for files in (config.html_js_files, config.html_css_files):
        files[:] = [name for name in files if name not in VALLEY_FILES]


def add_valley_files(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load the valley's files on a page with a valley; Sphinx makes their paths relative to the page."""
    if VALLEY_START in context.get("body", ""):
        app.add_js_file("valley.js", loading_method="defer")
        app.add_css_file("valley.css")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_config_value("book_links", {}, "env", (dict,))
    app.add_directive("answer", Answer)
    app.add_directive("comparison", Comparison)
    app.add_directive("findings", Findings)
    app.add_directive("history", History)
    app.add_directive("ledger", Ledger)
    app.add_directive("links", Links)
    app.add_directive("main-figure", MainFigure)
    app.add_directive("valley", ValleyDirective)
    app.connect("config-inited", withhold_valley_files)
    app.connect("doctree-read", mark_verdict_tables)
    app.connect("html-page-context", add_valley_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
