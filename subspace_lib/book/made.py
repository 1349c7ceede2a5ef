"""What all directives of the book share: HTML made anew in every build, verdicts judged once a build."""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from subspace_lib.book import shown
from subspace_lib.chapters import ledger, registered
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.evidence.verdicts import Verdict

NOTEBOOKS = "notebooks/"  # where the pages of chapters lie


@cache
def judged() -> list[Verdict]:
    """The verdicts, judged once a build; what rests on runs that must not be judged is a warning."""
    found = ledger.verdicts()
    if ledger.profile() == ledger.PAPER:
        for objection in ledger.objections(found):
            logging.getLogger(__name__).warning(objection)
    return found


@cache
def lacking() -> dict[str, int]:
    """How many runs each chapter lacks, by its name, those without any left out; asked once a build."""
    found = {}
    for name, chapter in registered().items():
        plan = Plan()
        chapter.study(chapter.at(ledger.profile()), compute=plan)
        if plan.missing:
            found[name] = len({run.key for run in plan.missing})
    return found


@cache
def _runs(notebooks: tuple[tuple[str, Path], ...]) -> list[shown.ShownRun]:
    return shown.runs(dict(notebooks))


def runs(app: Sphinx) -> list[shown.ShownRun]:
    """The stored runs that this book shows, read once a build."""
    return _runs(tuple(sorted(notebooks(app).items())))


def notebooks(app: Sphinx) -> dict[str, Path]:
    """The notebooks among the pages, by the names of their pages."""
    found = {page: Path(app.env.doc2path(page)) for page in app.env.found_docs}
    return {page: path for page, path in found.items() if path.suffix == ".ipynb"}


def title(app: Sphinx, page: str) -> str:
    """A page's title as text."""
    return app.env.titles[page].astext() if page in app.env.titles else page


def made_pages(env: BuildEnvironment) -> set[str]:
    """The pages that hold made HTML, as the environment remembers them (``book.fresh``)."""
    pages: set[str] = env.__dict__.setdefault("made_pages", set())
    return pages


def forget() -> None:
    """Judge and read anew: results may have changed since the last build of this process."""
    judged.cache_clear()
    lacking.cache_clear()
    _runs.cache_clear()


class Made(SphinxDirective):
    """A directive without options whose HTML is made anew where results or the library have changed."""

    def run(self) -> list[nodes.Node]:
        """The HTML in the page's place."""
        made_pages(self.env).add(self.env.docname)
        return [nodes.raw("", self.html(), format="html")]

    @abstractmethod
    def html(self) -> str:
        """What stands in the page."""

    def address(self, chapter: str) -> str | None:
        """The address of a chapter's page from this one, or None where the book has no such page."""
        return self.to(NOTEBOOKS + chapter)

    def to(self, page: str) -> str | None:
        """The address of a page from this one, or None where the book has no such page."""
        if page not in self.env.found_docs:
            return None
        return self.env.app.builder.get_relative_uri(self.env.docname, page)
