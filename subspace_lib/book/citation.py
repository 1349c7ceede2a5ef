"""How to cite this book, from CITATION.cff, the one place where its title and authors stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from subspace_lib.results.store import REPOSITORY

CITATION = REPOSITORY / "CITATION.cff"


class CiteBook(SphinxDirective):
    """``{cite-book}``: a BibTeX entry of this book."""

    def run(self) -> list[nodes.Node]:
        """The entry as a block with a copy button."""
        text = bibtex(yaml.safe_load(CITATION.read_text(encoding="utf-8")))
        return [nodes.literal_block(text, text, language="bibtex")]


def bibtex(citation: Mapping[str, Any]) -> str:
    """An entry with the authors, title, version and, where they are set, date and address."""
    authors = [
        a["name"] if "name" in a else f"{a['family-names']}, {a['given-names']}"
        for a in citation["authors"]
    ]
    fields = {
        "author": " and ".join(f"{{{name}}}" for name in authors),
        "title": citation["title"].replace("SGD", "{SGD}"),
        "year": str(citation.get("date-released", ""))[:4],
        "version": citation["version"],
        "url": citation.get("repository-code", ""),
    }
    lines = [f"  {name:9} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join(["@software{subspace_lib,", *lines, "}"])
