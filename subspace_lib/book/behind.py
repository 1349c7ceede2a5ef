"""Under each figure: the runs that it was drawn from, with their data, and what repeats them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from subspace_lib.book.made import runs
from subspace_lib.book.shown import DATA

DRAWN = re.compile(r'<svg [^>]*\bdata-runs="([^"]*)"')  # as ``Picture`` writes it
END = "</figure>"
STATUS = "status"
REPEAT = "python -m subspace_lib.results.repeat KEY"


def name_runs(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put a folded list of its runs below each figure of the page."""
    body = context.get("body", "")
    if doctree is not None and DRAWN.search(body) and STATUS in app.env.found_docs:
        status = app.builder.get_relative_uri(page, STATUS)
        known = {run.key for run in runs(app)}
        context["body"] = below(body, known, status, "../" * page.count("/") + DATA)


def below(body: str, known: Collection[str], status: str, data: str) -> str:
    """HTML with a list below each figure, of those of its runs that are known.

    Args:
        status: address of the status page; data: of the folder of the runs' data.
    """
    *figures, rest = body.split(END)
    told = []
    for text in figures:
        drawn = DRAWN.search(text, text.rfind("<figure"))
        keys = [key for key in drawn[1].split() if key in known] if drawn else []
        told.append(f"{text}{END}{_folded(keys, status, data) if keys else ''}")
    return "".join([*told, rest])


def _folded(keys: list[str], status: str, data: str) -> str:
    many = f"{len(keys)} runs" if len(keys) > 1 else "run"
    items = "".join(
        f'<li><a href="{status}#run-{key}"><code>{key}</code></a> '
        f'<a href="{data}/{key}.csv" download>CSV</a> <a href="{data}/{key}.json">JSON</a></li>'
        for key in keys
    )
    return (
        f'<details class="behind"><summary>The {many} behind this figure</summary><ul>{items}</ul>'
        f"<p><code>{REPEAT}</code> repeats one of these runs and compares it with the stored "
        "one.</p></details>"
    )
