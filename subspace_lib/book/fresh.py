"""Which pages an incremental build reads anew: made ones, where what they are made from has changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from subspace_lib.book.made import made_pages, notebooks
from subspace_lib.book.shown import named_in
from subspace_lib.book.status import executed
from subspace_lib.results.provenance import commit
from subspace_lib.results.store import COMMITTED, REPOSITORY, Store

FILE = "made.txt"  # beside the doctrees: the fingerprint of the last build without a warning
HEADING = re.compile(r'^(?:\s*")?# (.*)', re.MULTILINE)


def outdated(
    app: Sphinx,
    env: BuildEnvironment,
    added: Collection[str],
    changed: Collection[str],
    removed: Collection[str],
) -> list[str]:
    """The pages with made HTML, unless all is as at the last build without a warning."""
    if added or removed or not as_before(app):
        return sorted(made_pages(env) & env.found_docs)
    return []


def as_before(app: Sphinx) -> bool:
    """Whether results, library and what notebooks say of runs are those of the last good build."""
    last = Path(app.doctreedir) / FILE
    return last.exists() and last.read_text(encoding="utf-8") == fingerprint(app)


def keep(app: Sphinx, error: Exception | None) -> None:
    """Remember a build in which nothing was objected to; of another one all is made anew the next time."""
    last = Path(app.doctreedir) / FILE
    if error is None and not app._warncount:
        last.write_text(fingerprint(app), encoding="utf-8")
    else:
        last.unlink(missing_ok=True)


def fingerprint(app: Sphinx) -> str:
    """A hash of all that made HTML depends on."""
    parts = hashlib.sha256()
    for part in _parts(app):
        parts.update(f"{part}\n".encode())
    return parts.hexdigest()


def _parts(app: Sphinx) -> Iterator[object]:
    yield commit()
    yield sorted((n, v) for n, v in os.environ.items() if n.startswith("SUBSPACE_"))
    for root in dict.fromkeys((*Store().roots, COMMITTED, REPOSITORY / "subspace_lib")):
        for path in sorted(root.glob("**/*")) if root.exists() else ():
            if path.suffix != ".pyc" and path.is_file():
                seen = path.stat()
                yield path, seen.st_size, seen.st_mtime_ns
    for page, path in sorted(notebooks(app).items()):
        text = path.read_text(encoding="utf-8")
        yield page, HEADING.findall(text)[:1], sorted(named_in(path)), executed(json.loads(text))


def purge(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    """A page is read anew or is gone."""
    made_pages(env).discard(page)


def merge(
    app: Sphinx, env: BuildEnvironment, pages: Collection[str], other: BuildEnvironment
) -> None:
    """What a process that reads pages in parallel has found."""
    made_pages(env).update(made_pages(other) & set(pages))
