"""The chapters: one folder each, registered by being there.

A chapter is a package in this folder, or in one that ``$SUBSPACE_CHAPTERS`` names, with a ``CHAPTER`` in
it. The ledger, the results command and the listing go over those; nothing else has to know of a chapter.
"""

from __future__ import annotations

import os
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from subspace_lib.parameters import InvalidParameter

if TYPE_CHECKING:
    from subspace_lib.chapters.kit.chapter import Chapter

SHARED = "kit"  # the one package here that is no chapter
for _folder in filter(None, os.environ.get("SUBSPACE_CHAPTERS", "").split(os.pathsep)):
    if not os.path.isdir(_folder):
        raise InvalidParameter(f"SUBSPACE_CHAPTERS names {_folder}, which is no folder.")
    __path__.append(_folder)


def registered() -> dict[str, Chapter]:
    """All chapters by name, in the order of the book.

    Raises:
        InvalidParameter: a package here registers no chapter, or two have one name.
    """
    found: dict[str, Chapter] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg or module.name == SHARED:
            continue
        chapter = getattr(import_module(f"{__name__}.{module.name}"), "CHAPTER", None)
        if chapter is None:
            raise InvalidParameter(f"The chapter {module.name} has no CHAPTER in its __init__.py.")
        if chapter.name in found:
            raise InvalidParameter(f"Two chapters are called {chapter.name}.")
        found[chapter.name] = chapter
    return dict(sorted(found.items()))


def chapter(name: str) -> Chapter:
    """The chapter of that name.

    Raises:
        InvalidParameter: there is none; the message lists those that there are.
    """
    chapters = registered()
    if name not in chapters:
        raise InvalidParameter(f"{name} is not a chapter; the chapters are {', '.join(chapters)}.")
    return chapters[name]
