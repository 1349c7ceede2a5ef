"""The modules that a kind of run is computed by, and a hash of what they do: has the code changed since?

A hash leaves out comments, docstrings and empty lines, which change no number. It says less than
``NUMERICS``, which is raised when numbers change: a run under another hash may well be the same run.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from subspace_lib.runs import KINDS

HOUSE = Path(__file__).resolve().parent.parent
# They read runs off and compute none; ``evidence.windows`` lays simulated ones out.
OUTSIDE = (
    "evidence",
    "evidence.criteria",
    "evidence.criterion",
    "evidence.verdicts",
    "trajectory",
    "errors",
)


@cache
def modules_hash(kind: str) -> str:
    """The first sixteen digits of the SHA-256 of all that computes runs of this kind.

    Raises:
        KeyError: there is no such kind of run.
    """
    digest = hashlib.sha256()
    for path in sorted(computing(kind)):
        digest.update(f"{path.relative_to(HOUSE).as_posix()}\n{essence(path)}".encode())
    return digest.hexdigest()[:16]


def computing(kind: str) -> set[Path]:
    """The module of a kind of run and every module of the house that it imports, however far down."""
    start = KINDS[kind][1].__module__
    found, open_ones = set(), [_file(start)]
    while open_ones:
        path = open_ones.pop()
        if path is not None and path not in found:
            found.add(path)
            open_ones += [_file(name) for name in _imported(path)]
    return found


def essence(path: Path) -> str:
    """A module's text without comments, docstrings and empty lines."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, start = token.start
            lines[row - 1] = lines[row - 1][:start]
    for first, last in _docstrings(ast.parse(source)):
        lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """First and last line of each docstring."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            yield node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno


def _imported(path: Path) -> Iterator[str]:
    """Names of modules of the house that a module imports; a name in a module counts as one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("subspace_lib"):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("subspace_lib"))


def _file(module: str) -> Path | None:
    """A module's file; None for what is no module, the face over everything, and ``OUTSIDE``."""
    names = module.split(".")[1:]
    place = HOUSE.joinpath(*names)
    if not names or ".".join(names) in OUTSIDE:
        return None
    if place.with_suffix(".py").exists():
        return place.with_suffix(".py")
    inside = place / "__init__.py"
    return inside if inside.exists() else None
