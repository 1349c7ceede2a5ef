"""The notebooks that the site offers for download, in plain Markdown: JupyterLab knows no roles."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from subspace_lib.book.made import NOTEBOOKS, title

ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
WITH_TARGET = re.compile(r"^(.*?)\s*<([^<>]+)>$", re.S)
FENCE = re.compile(r"^(```+|:::+)\{([a-z-]+)\}([^\n]*)\n(.*?)^\1[ \t]*$", re.S | re.M)
NUMBERED = re.compile(r"\s*\$\$ *\(eq-([\w-]+)\)$", re.M)
LABEL = re.compile(r"^\([\w-]+\)=\n", re.M)

Names = Callable[[str, str], str]  # a role and its target to the words that stand for it


def plain(text: str, names: Names) -> str:
    """Markdown without MyST's roles, directives and labels.

    A term stays as its word, a reference as its words, a citation as its authors and year; a formula's
    label is its tag; a directive becomes a quotation under its title. ``names`` says what a role without
    words of its own reads as.
    """

    def role(found: re.Match[str]) -> str:
        kind, content = found.groups()
        split = WITH_TARGET.match(content)
        if split is not None:
            return f"*{split[1]}*"
        return names(kind, content)

    def directive(found: re.Match[str]) -> str:
        _, kind, argument, body = found.groups()
        if kind == "math":
            return f"$$\n{_without_options(body)}\n$$"
        lines = _without_options(body).splitlines()
        head = [f"**{argument.strip()}**", ""] if argument.strip() else []
        return "\n".join(f"> {line}".rstrip() for line in [*head, *lines])

    text = FENCE.sub(directive, LABEL.sub("", NUMBERED.sub(r" \\tag{\1} $$", text)))
    return ROLE.sub(role, text)


def _without_options(body: str) -> str:
    return re.sub(r"\A(:[\w-]+:[^\n]*\n)+\n?", "", body).strip("\n")


def converted(notebook: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The notebook with plain Markdown in its text and in what its cells have put out."""
    cells = []
    for cell in notebook["cells"]:
        cell = dict(cell)
        if cell["cell_type"] == "markdown":
            cell["source"] = plain("".join(cell["source"]), names)
        for output in cell.get("outputs", ()):
            told = output.get("data", {})
            if "text/markdown" in told:
                told["text/markdown"] = plain("".join(told["text/markdown"]), names)
        cells.append(cell)
    return {**notebook, "cells": cells}


def write_plain_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Rewrite the site's copies of the notebooks, those behind the download button."""
    if error is not None or app.builder.name != "html":
        return
    cited = citations(Path(app.srcdir) / "references.bib")

    def names(kind: str, target: str) -> str:
        if kind.startswith("cite"):
            told = "; ".join(cited.get(key.strip(), key.strip()) for key in target.split(","))
            return told if kind == "cite:t" else f"({told})"
        if kind == "doc":
            page = target.lstrip("/")
            inside = [page.removeprefix("../"), NOTEBOOKS + page]
            return f"*{next((title(app, p) for p in inside if p in app.env.titles), page)}*"
        if kind in ("eq", "numref"):
            name = re.sub(r"^(eq|fig)-", "", target)
            return f"({name})" if kind == "eq" else f"the figure *{name}*"
        return f"`{target}`" if kind in ("code", "file") else f"*{target}*"

    for path in (Path(app.outdir) / "_sources").glob(f"{NOTEBOOKS}*.ipynb"):
        notebook = converted(json.loads(path.read_text(encoding="utf-8")), names)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def citations(bibliography: Path) -> dict[str, str]:
    """Authors and year of every entry: "Song et al., 2025"."""
    from pybtex.database import parse_file

    found = {}
    for key, entry in parse_file(str(bibliography)).entries.items():
        people = [" ".join(p.last_names) for p in entry.persons.get("author", ())]
        who = people[0] if len(people) == 1 else " and ".join(people[:2])
        if len(people) > 2:
            who = f"{people[0]} et al."
        found[key] = ", ".join(filter(None, [who or key, entry.fields.get("year", "")]))
    return found
