"""Sphinx extension: directives that put results into the book's pages when it is built."""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective

from subspace_lib import figures
from subspace_lib.claims import table, verdicts

TOY_FILES = ("toy.js", "toy.css")  # in book/_static
TOY_START = '<div class="toy">'
TOY_CAPTION = (
    "SGD, Dom-SGD and Bulk-SGD from the same point (ring), one sample a step. Top: their paths on "
    "contours of the loss. Middle: loss. Bottom: alignment. With JavaScript, this figure is interactive."
)


class Claims(SphinxDirective):
    """``{claims}``: the table of all claims with their verdicts, judged from the results store."""

    def run(self) -> list[nodes.Node]:
        """Parse the Markdown table in the page's place."""
        node = nodes.container()
        lines = StringList(table(verdicts()).splitlines(), source="subspace_lib.claims")
        self.state.nested_parse(lines, self.content_offset, node)
        return node.children


def toy_html() -> str:
    """The place of the interactive valley, with a figure for readers without JavaScript."""
    picture = figures.valley_paths().svg()
    caption = f"<figcaption>{escape(TOY_CAPTION)}</figcaption>"
    return f'{TOY_START}<figure class="toy-still">{picture}{caption}</figure></div>'


class ToyDirective(SphinxDirective):
    """``{toy}``: the interactive valley; its script is loaded on this page only."""

    def run(self) -> list[nodes.Node]:
        """The container, which ``add_toy_files`` looks for."""
        return [nodes.raw("", toy_html(), format="html")]


def withhold_toy_files(app: Sphinx, config: Config) -> None:
    """Take the toy's files from those for every page, where Jupyter Book puts all that is in _static."""
    for files in (config.html_js_files, config.html_css_files):
        files[:] = [name for name in files if name not in TOY_FILES]


def add_toy_files(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load the toy's files on a page with a toy; Sphinx makes their paths relative to the page."""
    if TOY_START in context.get("body", ""):
        app.add_js_file("toy.js", loading_method="defer")
        app.add_css_file("toy.css")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("claims", Claims)
    app.add_directive("toy", ToyDirective)
    app.connect("config-inited", withhold_toy_files)
    app.connect("html-page-context", add_toy_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
