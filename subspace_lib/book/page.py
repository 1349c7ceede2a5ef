"""``make page NOTEBOOK=mine.ipynb``: reruns become pages of a copy of the book, beside their chapters.

The copy lies in ``book/_build/mine``; the book's own files stay as they are. Labels of figures and formulas
get the rerun's name, since the chapter has the same ones.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from subspace_lib.book.checks import failed_cells
from subspace_lib.book.made import NOTEBOOKS
from subspace_lib.book.rerun import GIVEN, MADE, values
from subspace_lib.errors import Told
from subspace_lib.results.store import REPOSITORY

BOOK = REPOSITORY / "book"
COPY = BOOK / "_build" / "mine"
LABEL = re.compile(r"^\(([\w-]+)\)=$|^:(?:label|name): *([\w-]+)$|\$\$ *\(([\w-]+)\)$", re.M)
NAMED = 3  # parameters in a page's title
UNTELLING = "profile", "model", "dataset", "device"  # those that stand there only if there is room


class NoPage(Told, ValueError):
    """A notebook that cannot become a page; the message says why and what to do."""


def read(path: Path) -> dict[str, Any]:
    """A rerun that papermill has written.

    Raises:
        NoPage: there is none, it is not one of a chapter, or a cell of it failed.
    """
    if not path.exists():
        raise NoPage(
            f"{path} does not exist; make it with papermill notebooks/02_dom_vs_bulk.ipynb mine.ipynb."
        )
    try:
        notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise NoPage(
            f"{path} is not a notebook; name the .ipynb file that papermill wrote."
        ) from error
    for objection in failed_cells(path.name, cells):
        raise NoPage(f"{objection.rstrip('.')}. Only a finished rerun becomes a page.")
    return notebook


def chapter_of(notebook: dict[str, Any], path: Path) -> str:
    """The chapter that it is a rerun of, by what papermill notes.

    Raises:
        NoPage: papermill has noted none of this book.
    """
    source = Path(notebook["metadata"].get("papermill", {}).get("input_path") or "").stem
    if not (BOOK / NOTEBOOKS / f"{source}.ipynb").exists():
        known = ", ".join(sorted(p.stem for p in (BOOK / NOTEBOOKS).glob("*.ipynb")))
        raise NoPage(
            f"{path.name} is no rerun of a chapter by papermill; the chapters are {known}."
        )
    return source


def labels(notebook: dict[str, Any]) -> Iterator[str]:
    """Names of its figures, targets and formulas."""
    for cell in notebook["cells"]:
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        if name:
            yield name
        if cell["cell_type"] == "markdown":
            for found in LABEL.finditer("".join(cell["source"])):
                yield found[found.lastindex or 0]


def as_page(notebook: dict[str, Any], name: str, chapter: str) -> dict[str, Any]:
    """The notebook with labels of its own, and said at its top: whose it is, what was changed.

    A page keeps no lines of progress.
    """
    own = sorted(set(labels(notebook)), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, own))})(?![\w-])") if own else None
    titled = False
    for cell in notebook["cells"]:
        cell["outputs"] = [o for o in cell.get("outputs", ()) if o["output_type"] != "stream"]
        if cell["cell_type"] != "code":
            del cell["outputs"]
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        if figure.get("name"):
            figure["name"] += f"-{name}"
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            text = pattern.sub(rf"\1-{name}", text) if pattern else text
            if not titled and re.match(r"# ", text):
                text, titled = _titled(text, name, chapter, values(notebook, GIVEN)), True
            cell["source"] = text
    notebook["metadata"][MADE] = chapter
    return notebook


def _titled(text: str, name: str, chapter: str, given: dict[str, Any]) -> str:
    """The first heading with some of the parameters that were given, and a paragraph with all of them."""
    first = sorted(given, key=UNTELLING.__contains__)[:NAMED]
    told = ", ".join(f"{key} = {given[key]}" for key in first) + (
        ", …" if len(given) > NAMED else ""
    )
    every = ", ".join(f"`{key} = {value}`" for key, value in given.items()) or "none"
    head, _, rest = text.partition("\n")
    whose = (
        f"**A rerun of yours, not the book's result**, from `{name}.ipynb`. Parameters given: {every}. "
        + (
            "The quick profile has filled in others; *Parameters in force*, below, marks them. "
            if given.get("profile") == "quick"
            else ""
        )
        + f"All else is as in {{doc}}`{chapter}`."
    )
    return f"{head}: {told if given else name}\n\n{whose}\n\n{rest}"


def copy(reruns: Sequence[Path], folder: Path = COPY, *, instead: bool = False) -> list[Path]:
    """A copy of the book's sources with the reruns behind their chapters; the reruns' places in it.

    With ``instead`` they take their chapters' places, under the chapters' titles.

    Raises:
        NoPage: as ``read`` and ``chapter_of``, or a rerun has the name of a page.
    """
    found = [(path, notebook := read(path), chapter_of(notebook, path)) for path in reruns]
    shutil.rmtree(folder / "book", ignore_errors=True)
    for page in (folder / "_build" / "html" / NOTEBOOKS).glob(
        "*.html"
    ):  # of reruns of an earlier call
        page.unlink()
    shutil.copytree(
        BOOK, folder / "book", symlinks=False, ignore=shutil.ignore_patterns("_build", "*.py")
    )
    toc = yaml.safe_load((folder / "book" / "_toc.yml").read_text(encoding="utf-8"))
    places = []
    for path, notebook, chapter in found:
        if instead:
            places.append(folder / "book" / NOTEBOOKS / f"{chapter}.ipynb")
            places[-1].write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")
            continue
        name = re.sub(r"[^\w-]+", "-", path.stem)
        place = folder / "book" / NOTEBOOKS / f"{name}.ipynb"
        if place.exists():
            raise NoPage(f"{path.name} has the name of another page; rename it, to mine.ipynb say.")
        text = json.dumps(as_page(notebook, name, chapter), indent=1, ensure_ascii=False)
        place.write_text(text + "\n", encoding="utf-8")
        behind = next(
            i for i, entry in enumerate(toc["chapters"], 1) if entry["file"] == NOTEBOOKS + chapter
        )
        earlier = sum(of == chapter for _, _, of in found[: len(places)])
        toc["chapters"].insert(behind + earlier, {"file": NOTEBOOKS + name})
        places.append(place)
    (folder / "book" / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), "utf-8")
    return places


def main(arguments: Sequence[str] | None = None) -> None:
    """Build a copy of the book with reruns as pages of it, and print where they are."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.book.page", description=main.__doc__
    )
    parser.add_argument(
        "notebooks", nargs="+", metavar="NOTEBOOK", help="several: with spaces between"
    )
    parser.add_argument(
        "--instead", action="store_true", help="in place of their chapters, not beside them"
    )
    options = parser.parse_args(arguments)
    names = [
        n for text in options.notebooks for n in ([text] if Path(text).exists() else text.split())
    ]
    try:
        places = copy(list(map(Path, names)), instead=options.instead)
    except NoPage as error:
        parser.exit(2, f"{error}\n")
    build = str(Path(sys.executable).with_name("jupyter-book")), "build", str(COPY / "book")
    strictly = "--path-output", str(COPY), "-W", "-n", "--keep-going", "--quiet"
    done = subprocess.run([*build, *strictly])
    if done.returncode:
        sys.exit(done.returncode)
    for place in places:
        print(f"The page is at {COPY / '_build' / 'html' / NOTEBOOKS / place.stem}.html")


if __name__ == "__main__":
    main()
