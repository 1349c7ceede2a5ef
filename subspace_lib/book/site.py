"""What the site gets beside its pages: scripts where they are needed, data, descriptions for previews."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

from subspace_lib.book import explorer, notes
from subspace_lib.book.fresh import as_before
from subspace_lib.book.made import Made, runs, title
from subspace_lib.book.pages import VALLEY_START
from subspace_lib.book.shown import DATA
from subspace_lib.book.status import RUNS_START, write_data
from subspace_lib.chapters.kit.page import VERDICT_COLUMNS

THEBE = ("init_thebe_core", "update_thebe_context")
EXPLORER_START = '<div class="explorer"'
EXPLORER_DATA = "explorer-data.js"  # written into the site's _static by every build
UPLOT = "vendor/uPlot.iife.min.js", "vendor/uPlot.min.css"
CODE = 'class="cell tag_parameters'  # a chapter: its code is there to be run; that of a how-to to be read
# By what a page's text must hold: scripts, in their order, and styles. Jupyter Book loads all everywhere.
ON_DEMAND = {
    VALLEY_START: (("valley.js",), ("valley.css",)),
    RUNS_START: (("status.js",), ()),
    CODE: (("code.js",), ()),
    notes.LINK: ((notes.DATA, "notes.js"), ("notes.css",)),
    EXPLORER_START: (
        (UPLOT[0], EXPLORER_DATA, "explorer.js", "densities.js"),
        (UPLOT[1], "explorer.css"),
    ),
}
CARD = "figure_1.png"  # the picture of a link's preview
BETWEEN = " … "  # the ends of a range
WIDE, WIDEST = 6, 8  # columns
WORDS = 200  # characters of a description


class Explorer(Made):
    """``{explorer}``: stored runs, to be chosen by quantity, setting, parameters, method and seed."""

    start = EXPLORER_START

    def html(self) -> str:
        """The container; its script draws in it, and without scripts a sentence says where the data are."""
        root, status = "../" * self.env.docname.count("/"), self.to("status") or ""
        text = f'This page needs JavaScript. The <a href="{status}">status page</a> has every run\'s table.'
        return (
            f'{self.start} data-status="{status}" data-data="{root}{DATA}">'
            f"<noscript><p>{text}</p></noscript></div>"
        )


class Densities(Explorer):
    """``{densities}``: spectral densities, on the explorer's page, whose data and tools it shares."""

    start = '<div class="densities"'


def withhold_files(app: Sphinx, config: Config) -> None:
    """Take these files from those for every page, where Jupyter Book puts all that is in _static."""
    names = {name for files in ON_DEMAND.values() for kind in files for name in kind}
    for files in (config.html_js_files, config.html_css_files):
        files[:] = [name for name in files if name not in names]


def without_thebe(app: Sphinx, config: Config) -> None:
    """Jupyter Book always loads sphinx-thebe: on every page, twice, with a script from elsewhere."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if getattr(listener.handler, "__name__", "") in THEBE:
                app.disconnect(listener.id)


def load_page_files(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load scripts and styles on the pages that hold what they are for; Sphinx makes the paths relative."""
    for start, (scripts, styles) in ON_DEMAND.items():
        if start in context.get("body", ""):
            for script in scripts:
                app.add_js_file(script, loading_method="defer")
            for style in styles:
                app.add_css_file(style)


def mend(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Sphinx calls the references a list, whose items are none by their roles: screen readers stumble."""
    old = '<div role="list" class="citation-list">'
    context["body"] = context.get("body", "").replace(old, '<div class="citation-list">')


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """A description and OpenGraph's tags, from the page's own title and first paragraph."""
    if doctree is None:
        return
    name, base = title(app, page), app.config.html_baseurl.rstrip("/")
    tags = {
        "og:title": name,
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "og:description": first_words(doctree),
    }
    if base:
        tags |= {
            "og:url": f"{base}/{page}.html",
            "og:image": f"{base}/_static/{CARD}",
            "og:image:alt": "Training loss of SGD, Dom-SGD and Bulk-SGD",
        }
    lines = [f'<meta property="{k}" content="{escape(v)}">' for k, v in tags.items() if v]
    lines.append(f'<meta name="description" content="{escape(tags["og:description"])}">')
    context["metatags"] = context.get("metatags", "") + "\n" + "\n".join(lines)


def first_words(doctree: nodes.document) -> str:
    """The first paragraph that is a sentence, cut at a word's end."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = re.sub(r"\s+", " ", paragraph.astext()).strip()
        if len(text) > 60:
            return (
                text if len(text) <= WORDS else text[:WORDS].rsplit(" ", 1)[0].rstrip(",;:") + " …"
            )
    return ""


def link_keys(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """A run's key in a page's text leads to its row on the status page, where its data are."""
    if "status" not in app.env.found_docs or page == "status":
        return
    known = {run.key for run in runs(app)}
    status = app.builder.get_relative_uri(page, "status")
    for literal in list(doctree.findall(nodes.literal)):
        key = literal.astext()
        if key in known and not isinstance(literal.parent, nodes.reference):
            link = nodes.reference("", "", internal=True, refuri=f"{status}#run-{key}")
            literal.replace_self(link)
            link += literal


def mend_tables(app: Sphinx, doctree: nodes.document) -> None:
    """Tables of many columns are set smaller; a range in a cell stays on one line, or breaks once."""
    for table in doctree.findall(nodes.table):
        columns = len(list(table.findall(nodes.colspec)))
        tied = "\u00a0…\u00a0" if columns < WIDEST else "\u00a0… "
        for text in list(table.findall(nodes.Text)):
            if BETWEEN in text:
                text.parent.replace(text, nodes.Text(text.replace(BETWEEN, tied)))
        if columns >= WIDE:
            table["classes"].append("wide")


def mark_verdict_tables(app: Sphinx, doctree: nodes.document) -> None:
    """Tables of verdicts get a class of their own, by which a phone shows their cells below each other."""
    for table in doctree.findall(nodes.table):
        heads = [cell.astext() for head in table.findall(nodes.thead) for cell in head[0].children]
        if heads == list(VERDICT_COLUMNS):
            table["classes"].append("verdicts")


def write_files(app: Sphinx, error: Exception | None) -> None:
    """The runs' data, and the explorer's, into the site."""
    if error is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    (out / "_static" / notes.DATA).write_text(notes.script(app), encoding="utf-8")
    write_data(runs(app), out / DATA)
    data = out / "_static" / EXPLORER_DATA
    if data.exists() and as_before(app):
        return
    if any(_holds(app, page, EXPLORER_START) for page in app.env.found_docs):
        data.write_text(explorer.script(explorer.data(runs(app))), encoding="utf-8")


def _holds(app: Sphinx, page: str, text: str) -> bool:
    raw: Iterable[nodes.raw] = app.env.get_doctree(page).findall(nodes.raw)
    return any(text in node.astext() for node in raw)
