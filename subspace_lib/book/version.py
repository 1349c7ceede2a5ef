"""``make release``, first: the version of pyproject.toml in CITATION.cff and over the changelog."""

from __future__ import annotations

import datetime
import re
import sys
import tomllib
from pathlib import Path

from subspace_lib.results.store import REPOSITORY

CITED = re.compile(r"^version:.*\n(?:date-released:.*\n)?", re.M)
UNRELEASED = re.compile(r"^## Unreleased\n+(?=[^#\s]|###)", re.M)  # with something below it


class NoRelease(ValueError):
    """The files disagree in a way that only a person can mend; the message is a sentence about it."""


def settle(root: Path, today: str) -> list[str]:
    """Write version and date where they are missing or others; the names of the files so changed.

    Raises:
        NoRelease: the changelog does not say what the version brings, or has it and more since.
    """
    version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    former = {name: (root / name).read_text("utf-8") for name in ("CITATION.cff", "CHANGELOG.md")}
    log = former["CHANGELOG.md"]
    released = re.search(rf"^## {re.escape(version)}, (\S+)$", log, re.M)
    if released is None and not UNRELEASED.search(log):
        raise NoRelease(
            f"CHANGELOG.md has nothing under Unreleased: say there what {version} brings."
        )
    if released and UNRELEASED.search(log):
        raise NoRelease(
            f"CHANGELOG.md has {version}, and more under Unreleased: raise version in pyproject.toml."
        )
    date = released[1] if released else today
    cited = f'version: "{version}"\ndate-released: "{date}"\n'
    now = {
        "CITATION.cff": CITED.sub(cited, former["CITATION.cff"], count=1),
        "CHANGELOG.md": UNRELEASED.sub(f"## {version}, {date}\n\n", log, count=1),
    }
    changed = [name for name in now if now[name] != former[name]]
    for name in changed:
        (root / name).write_text(now[name], "utf-8")
    return changed


def main() -> None:
    """Stop with a sentence unless the committed files have the version already."""
    try:
        changed = settle(REPOSITORY, datetime.date.today().isoformat())
    except NoRelease as error:
        sys.exit(str(error))
    if changed:
        sys.exit(
            f"{' and '.join(changed)}: version and date written; commit, then make release again."
        )


if __name__ == "__main__":
    main()
