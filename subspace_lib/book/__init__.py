"""Sphinx extension: directives that put results into the book's pages, checks, data for download."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.domains.python._object import PyObject

from subspace_lib.book import absent  # noqa: F401  first: the others import PyTorch  # isort: skip
from subspace_lib.book import (
    advice,
    behind,
    checks,
    citation,
    download,
    fresh,
    icons,
    pages,
    paper,
    reading,
    rerun,
    site,
    status,
)
from subspace_lib.book.made import forget, judged
from subspace_lib.book.pages import valley_html

__all__ = ["forget", "judged", "setup", "valley_html"]

DIRECTIVES = {
    "advice": pages.Advice,
    "answer": pages.Answer,
    "cite-book": citation.CiteBook,
    "comparison": pages.Comparison,
    "densities": site.Densities,
    "explorer": site.Explorer,
    "fields": pages.Fields,
    "findings": pages.Findings,
    "headline": pages.Headline,
    "history": pages.History,
    "ledger": pages.Ledger,
    "links": pages.Links,
    "main-figure": pages.MainFigure,
    "paper-figures": paper.Figures,
    "plan": pages.Plan,
    "reading": reading.Reading,
    "runs": status.Runs,
    "times": status.Times,
    "valley": pages.ValleyDirective,
    "versions": status.Versions,
}


def name_attributes() -> None:
    """In the reference "Attributes", as the docstrings say, for Sphinx's "Variables"."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and what happens around the pages."""
    app.add_config_value("book_links", {}, "env", (dict,))
    app.add_config_value("book_repository", "", "env", (str,))
    name_attributes()
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    app.connect("builder-inited", lambda app: forget())
    app.connect("builder-inited", lambda app: advice.evidence.cache_clear())
    app.connect("env-get-outdated", fresh.outdated)
    app.connect("env-purge-doc", fresh.purge)
    app.connect("env-merge-info", fresh.merge)
    app.connect("config-inited", site.withhold_files)
    app.connect("config-inited", site.without_thebe)
    app.connect("doctree-read", site.mark_verdict_tables)
    app.connect("doctree-read", site.mend_tables)
    app.connect("doctree-read", rerun.add_box)
    app.connect("env-check-consistency", checks.check)
    app.connect("doctree-resolved", site.link_keys)
    app.connect("html-page-context", site.load_page_files)
    app.connect("html-page-context", site.mend)
    app.connect("html-page-context", site.describe)
    app.connect("html-page-context", behind.name_runs)
    app.connect("build-finished", site.write_files)
    app.connect("build-finished", download.write_plain_notebooks)
    app.connect("build-finished", icons.reduce_icons)
    app.connect("build-finished", fresh.keep)  # the last: the others ask whether all is as before
    return {
        "version": "1",
        "env_version": 3,
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
