"""``make release``: the built book and the results as one file, with a manifest of checksums."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from subspace_lib.results.files import digest
from subspace_lib.results.provenance import commit
from subspace_lib.results.store import COMMITTED, REPOSITORY

DIST = REPOSITORY / "dist"
MANIFEST = "manifest.json"


def members(site: Path, results: Path) -> dict[str, Path]:
    """Files of the release by their name in it: the site, and the results without what is unfinished."""
    found = {}
    for name, root in (("book", site), ("results", results)):
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            inside = path.relative_to(root)
            if not any(piece.startswith(".") for piece in inside.parts) and path.suffix != ".tmp":
                found[f"{name}/{inside.as_posix()}"] = path
    return found


def pack(files: dict[str, Path], target: Path, title: str) -> Path:
    """Write the files with their manifest, and a checksum beside; the same files give the same bytes."""
    manifest = {
        "version": version("subspace_lib"),
        "commit": commit(),
        "sha256": {name: digest(path) for name, path in files.items()},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(target, "wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        text = json.dumps(manifest, indent=1) + "\n"
        for name, content in _contents(files, text):
            entry = tarfile.TarInfo(f"{title}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    sums = target.with_name(f"{target.name}.sha256")
    sums.write_text(f"{digest(target)}  {target.name}\n", encoding="utf-8")
    return target


def _contents(files: dict[str, Path], manifest: str) -> Iterable[tuple[str, bytes]]:
    yield MANIFEST, manifest.encode()
    for name, path in files.items():
        yield name, path.read_bytes()


def check(release: Path) -> None:
    """That a release holds what its manifest says.

    Raises:
        ValueError: a file is missing, altered or not listed; the message names it.
    """
    with tarfile.open(release) as tar:
        found = {
            entry.name.partition("/")[2]: tar.extractfile(entry)
            for entry in tar.getmembers()
            if entry.isfile()
        }
        told = json.loads((found.pop(MANIFEST) or io.BytesIO()).read())["sha256"]
        for name in sorted(set(told) | set(found)):
            file = found.get(name)
            if file is None or hashlib.sha256(file.read()).hexdigest() != told.get(name):
                raise ValueError(f"{release.name}: {name} is missing, altered or not listed.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack a built book and the repository's results into dist/, and check the file."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.book.release", description=main.__doc__
    )
    parser.add_argument("site", type=Path, help="folder of the built pages")
    parser.add_argument(
        "--results",
        type=Path,
        default=COMMITTED,
        help="folder of results, the repository's if not named",
    )
    options = parser.parse_args(arguments)
    site = options.site
    if not (site / "index.html").exists():
        parser.error(f"{site} holds no index.html; make book builds the pages.")
    title = f"subspace-companion-{version('subspace_lib')}"
    target = pack(members(site, options.results), DIST / f"{title}.tar.gz", title)
    check(target)
    print(f"The release is {target}, its checksum beside it.")


if __name__ == "__main__":
    main()
