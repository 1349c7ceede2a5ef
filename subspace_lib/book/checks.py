"""What must not be built: a failed cell, a page whose runs are missing, a pair that differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jupytext
from sphinx.application import Sphinx
from sphinx.util import logging

from subspace_lib.book.made import notebooks, runs
from subspace_lib.book.shown import ShownRun, named_in
from subspace_lib.book.status import CHANGED, OLDER, UNKNOWN, state
from subspace_lib.chapters.kit.page import NOT_YET, QUICK
from subspace_lib.results.store import COMMITTED, Store

STALE = (CHANGED, OLDER, UNKNOWN)
LEAVE = (NOT_YET.strip("* ").partition("*")[0], QUICK.strip("* ").partition("*")[0])


def check(app: Sphinx, env: object) -> None:
    """A warning, which ``make book`` takes for an error, for every objection to a page."""
    log = logging.getLogger(__name__)
    for page, path in sorted(notebooks(app).items()):
        for objection in objections(path, (*Store().roots, COMMITTED)):
            log.warning(objection, location=page)
    for sentence in changed(app):
        log.warning(sentence)


def changed(app: Sphinx) -> Iterator[str]:
    """A sentence where runs that pages show are not known to have the numbers of today's code."""
    old = [run for run in runs(app) if run.pages and state(run) in STALE]
    stored = [run for run in old if run.folder.parent == COMMITTED]
    own = [run for run in old if run.folder.parent != COMMITTED]
    if stored:
        yield (
            f"{len(stored)} runs that pages show may have other numbers than today's code gives, "
            f"{_one(stored)}; show that numbers are the same (python -m subspace_lib.results.touchstone), "
            "or compute the runs anew (make results, once their folders are gone; then make notebooks)."
        )
    if own:
        pages = sorted({page for run in own for page in run.pages})
        yield (
            f"{len(own)} runs of {own[0].folder.parent} may have other numbers than today's code gives, "
            f"{_one(own)}; remove their folders there, and execute {', '.join(pages)} again."
        )


def _one(old: Sequence[ShownRun]) -> str:
    return f"{old[0].key} for one ({state(old[0])})"


def objections(path: Path, roots: Sequence[Path]) -> Iterator[str]:
    """A sentence for each thing that is wrong with a notebook as a page.

    ``roots`` are the folders of results in which the runs that it names may lie.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    yield from failed_cells(path.name, notebook["cells"])
    yield from _apart(path)
    text = json.dumps(notebook, ensure_ascii=False)
    if any(words in text for words in LEAVE):
        return  # the page says itself that its runs are quick ones
    missing = sorted(key for key in named_in(path) if not _stored(key, roots))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield (
            f"{path.name} shows {missing[0]}{more}, which no folder of results holds; execute it anew "
            "(make notebooks)."
        )


def failed_cells(name: str, cells: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for the first cell that ended in an error or was not executed."""
    code = [
        cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()
    ]
    for number, cell in enumerate(code, 1):
        errors = [o for o in cell["outputs"] if o["output_type"] == "error"]
        if errors:
            yield f"{name}: code cell {number} ended in {errors[0]['ename']}: {errors[0]['evalue']}"
            return
        if cell["execution_count"] is None:
            yield f"{name}: code cell {number} was not executed; make notebooks does it."
            return


def _apart(path: Path) -> Iterator[str]:
    """A sentence where the notebook has another text than the py:percent file beside it."""
    text = path.with_suffix(".py")
    if not text.exists():
        return
    ours, theirs = jupytext.read(text).cells, jupytext.read(path).cells
    if [(c.cell_type, c.source) for c in ours] != [(c.cell_type, c.source) for c in theirs]:
        yield f"{text.name} and {path.name} differ; make notebooks executes them anew."


def _stored(key: str, roots: Sequence[Path]) -> bool:
    return any((root / key / "provenance.json").exists() for root in roots)
