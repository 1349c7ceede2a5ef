"""Hover notes: what the glossary says of a term, and the reference that a citation means, on every page.

A page that is opened from a folder may not fetch the glossary, so a script holds what it says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder

LINK = "glossary.html#term-"  # what a page with notes holds
DATA = "notes-data.js"
GLOSSARY, REFERENCES = "glossary", "bibliography"


def script(app: Sphinx) -> str:
    """A script that sets ``window.subspaceNotes``: HTML by "page.html#anchor"."""
    found = dict(_terms(app)) | dict(_references(app))
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return f"window.subspaceNotes={text};\n"


def _terms(app: Sphinx) -> Iterator[tuple[str, str]]:
    for item in _of(app, GLOSSARY, nodes.definition_list_item):
        says = next(iter(item.findall(nodes.definition)), None)
        if says is None:
            continue
        html = "".join(_html(app, child) for child in says.children)
        for term in item.findall(nodes.term):
            yield from ((f"{GLOSSARY}.html#{anchor}", html) for anchor in term["ids"])


def _references(app: Sphinx) -> Iterator[tuple[str, str]]:
    for entry in _of(app, REFERENCES, nodes.citation):
        html = "".join(_html(app, child) for child in entry.children[1:])
        yield from ((f"{REFERENCES}.html#{anchor}", html) for anchor in entry["ids"])


def _of(app: Sphinx, page: str, kind: type[nodes.Element]) -> list[nodes.Element]:
    """The nodes of a kind in a page that is read to its end; none where the book has no such page."""
    if page not in app.env.found_docs or not isinstance(app.builder, StandaloneHTMLBuilder):
        return []
    return list(app.env.get_and_resolve_doctree(page, app.builder).findall(kind))


def _html(app: Sphinx, node: nodes.Node) -> str:
    """A node as HTML without links, whose addresses hold on its own page only."""
    assert isinstance(app.builder, StandaloneHTMLBuilder)
    bare = node.deepcopy()
    for link in list(bare.findall(nodes.reference)):
        link.replace_self(nodes.inline("", "", *link.children))
    return app.builder.render_partial(bare)["fragment"]
