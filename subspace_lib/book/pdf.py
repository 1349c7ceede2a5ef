"""``make pdf``: the whole book as one page, printed by a headless browser."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from subspace_lib.results.store import REPOSITORY

INSTALLED = ("chromium", "chromium-browser", "google-chrome")
FOOTER = (
    '<div style="width:100%;font-size:8px;text-align:center"><span class="pageNumber"></span></div>'
)
MARGIN = "16mm"
# What a verdict is made of stands in its chapter's table too: in the ledger it stays folded.
OPEN = "document.querySelectorAll('details.runs-of').forEach((e) => e.remove());" + (
    "document.querySelectorAll('details').forEach((e) => { e.open = !e.querySelector('ul.parts'); });"
)


def build(folder: Path) -> Path:
    """The book as a single HTML page below the folder; exits as the builder does."""
    command = str(Path(sys.executable).with_name("jupyter-book"))
    words = ["build", str(REPOSITORY / "book"), "--builder", "singlehtml"]
    done = subprocess.run(
        [command, *words, "--path-output", str(folder), "-W", "-n", "--keep-going", "--quiet"]
    )
    if done.returncode:
        sys.exit(done.returncode)
    return folder / "_build" / "singlehtml" / "index.html"


def print_pdf(page: Path, target: Path) -> None:
    """Print a page on A4, folds open but those of the ledger; the tables of all runs stay out."""
    from playwright.sync_api import PdfMargins, sync_playwright

    found = next((where for name in INSTALLED if (where := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        sheet = browser.new_context(color_scheme="light").new_page()
        sheet.goto(page.as_uri(), wait_until="load", timeout=120_000)
        sheet.wait_for_function("() => !window.MathJax || window.MathJax.startup?.promise")
        sheet.evaluate("() => window.MathJax?.startup?.promise")
        sheet.evaluate(OPEN)
        sheet.pdf(
            path=target,
            format="A4",
            margin=PdfMargins(top=MARGIN, bottom=MARGIN, left=MARGIN, right=MARGIN),
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            outline=True,
            tagged=True,
        )
        browser.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the whole book to a PDF file."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.book.pdf", description=main.__doc__
    )
    parser.add_argument("target", nargs="?", type=Path, default=Path("book/_build/book.pdf"))
    target = parser.parse_args(arguments).target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    print_pdf(build(target.parent / "single"), target)
    print(f"The PDF is at {target}")


if __name__ == "__main__":
    main()
