"""The box on each chapter's page: the papermill line that makes this very page again."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from subspace_lib.book.made import NOTEBOOKS

DEFAULTS, GIVEN = "parameters", "injected-parameters"  # tags of cells, papermill's
CONTINUED = " \\\n  "
HEADING, ANCHOR = "Rerun", "run-this-page-again"
FIRST = "profile"  # and what comes after it are no settings of an experiment
MADE = "made by make page of"  # in a rerun's metadata: the chapter's notebook


def values(notebook: Mapping[str, Any], tag: str) -> dict[str, Any]:
    """Names and plain values that the cells of a tag assign."""
    found: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if tag in cell["metadata"].get("tags", ()):
            for node in ast.parse("".join(cell["source"])).body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def line(chapter: str, given: Mapping[str, Any], *, long: bool = False) -> str:
    """The papermill line with these parameters; ``long`` ones have a parameter a line."""
    words = [
        f"-p {name} {shlex.quote(_text(value))}"
        for name, value in given.items()
        if name != "dry_run"
    ]
    start = f"papermill notebooks/{chapter}.ipynb mine.ipynb"
    return (CONTINUED if long else " ").join([start, *words])


def _text(value: Any) -> str:
    """A value as ``-p`` takes it: a list as numbers with commas."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def add_box(app: Sphinx, doctree: nodes.document) -> None:
    """Put the box first into a chapter's section on reruns, or at the page's end where it has none."""
    page = app.env.docname
    path = Path(app.env.doc2path(page))
    if not page.startswith(NOTEBOOKS) or path.suffix != ".ipynb":
        return
    notebook = json.loads(path.read_text(encoding="utf-8"))
    defaults, given = values(notebook, DEFAULTS), values(notebook, GIVEN)
    if defaults:
        chapter = notebook["metadata"].get(MADE, path.stem)
        sections = list(doctree.findall(nodes.section))
        own = [s for s in sections if s[0].astext().startswith(HEADING)]
        if own:
            own[0].insert(1, box(nodes.container(ids=[ANCHOR]), chapter, given, defaults | given))
            return
        section = nodes.section("", nodes.title("", HEADING), ids=[ANCHOR], names=[HEADING.lower()])
        place: nodes.Element = sections[0] if sections else doctree
        place.append(box(section, chapter, given, defaults | given))


def box(
    section: nodes.Element, chapter: str, given: Mapping[str, Any], every: Mapping[str, Any]
) -> nodes.Element:
    """The line of what differs from the chapter's own, and folded the line of all parameters."""
    # What is given stays as it is in the quick profile, and may take long.
    quick = "" if given else ", or add -p profile quick for a minute or so"
    section += nodes.paragraph(
        "",
        "With the parameters of this page; its stored runs are loaded, others are computed. Change any "
        f"of them{quick}:",
    )
    section += _code(line(chapter, given))
    section += nodes.paragraph("", "The result becomes a page of a copy of this book by")
    section += _code("make page NOTEBOOK=mine.ipynb")
    fold = "<details class='rerun-all'><summary>The same line with every parameter</summary>"
    section += nodes.raw("", fold, format="html")
    section += _code(line(chapter, every, long=True))
    section += nodes.raw("", "</details>", format="html")
    return section


def _code(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="bash", classes=["rerun"])
