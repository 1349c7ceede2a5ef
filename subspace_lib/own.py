"""Functions of your own by import path, ``module:function``, with the source that they were made from."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

# What each of them is called with, and returns.
CONTRACT = {
    "model": "build(shape, classes), which returns a torch.nn.Module",
    "dataset": "load(), which returns inputs, labels, test inputs, test labels",
}
PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
SHOWN = 100  # characters of an error's message
_executed: dict[str, tuple[str, str, ModuleType]] = {}  # by name: file, SHA-256, and what it made


@dataclass(frozen=True)
class Own:
    """A function of the user's own.

    Attributes:
        path: ``module:function``, as it was typed.
        sha256: of the source of its module, from which ``function`` was made.
        function: what stands under that name.
    """

    path: str
    sha256: str
    function: Callable[..., Any]


def is_path(name: object) -> TypeGuard[str]:
    """Whether a name is meant as an import path: it has a colon."""
    return isinstance(name, str) and ":" in name


def find(what: str, path: str) -> Own:
    """The function at an import path, made from its module's source as it is now.

    The module is looked for in the working directory too. One that has changed since is executed anew: what
    has been hashed is what runs. Of packages that are installed nothing is executed twice.

    Args:
        what: the parameter, a key of ``CONTRACT``; path: ``module:function``.

    Raises:
        ValueError: it is no such path, cannot be imported, does not exist or is no function; one sentence.
    """
    typed = f"{what} = {path!r}"
    if not PATH.fullmatch(path):
        raise ValueError(f"{typed} is no import path; write 'module:function', as 'mine:build'")
    name, _, attribute = path.partition(":")
    spec = _spec(name, typed)
    module, digest = _module(name, spec, typed)
    names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, names, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"{typed}: {spec.origin} has no {attribute}{meant}; give it {CONTRACT[what]}"
        )
    function = getattr(module, attribute)
    if not callable(function):
        kind = type(function).__name__
        raise ValueError(f"{typed} is of type {kind} and cannot be called; give {CONTRACT[what]}")
    return Own(path, digest, function)


def called(what: str, own: Own, *arguments: Any) -> Any:
    """What the function returns.

    Raises:
        ValueError: it raised an error; one sentence with that.
    """
    try:
        return own.function(*arguments)
    except Exception as error:
        words = ", ".join(map(str, arguments))
        raise ValueError(
            f"{what} = {own.path!r} failed when it was called with ({words}), by {said(error)}; give "
            f"{CONTRACT[what]}"
        ) from error


def said(error: BaseException) -> str:
    """An error's name and message on one line, cut where it is longer than a reader would read."""
    text = " ".join(str(error).split())
    short = text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
    return f"{type(error).__name__}: {short}"


def _spec(name: str, typed: str) -> ModuleSpec:
    """Where a module is found, in the order of Python's own search, then in the working directory."""
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.append(here)
    importlib.invalidate_caches()
    parent = name.rpartition(".")[0]
    try:
        path = importlib.import_module(parent).__path__ if parent else None
        specs = (finder.find_spec(name, path) for finder in sys.meta_path)
        spec = next(filter(None, specs), None)
    except ModuleNotFoundError:
        spec = None
    except Exception as error:
        raise ValueError(f"{typed}: {parent} cannot be imported, by {said(error)}") from error
    if spec is None:
        raise ValueError(
            f"{typed}: there is no module {name} in {here} or on PYTHONPATH; write it there, or set "
            "PYTHONPATH to its folder"
        )
    if not str(spec.origin).endswith(".py"):
        raise ValueError(f"{typed}: {name} has no source; name a module that is a .py file")
    return spec


def _module(name: str, spec: ModuleSpec, typed: str) -> tuple[ModuleType, str]:
    """The module and the SHA-256 of its source."""
    file = str(spec.origin)
    try:
        source = Path(file).read_bytes()
        digest = hashlib.sha256(source).hexdigest()
        if _installed(file):
            return importlib.import_module(name), digest
        if _executed.get(name, ())[:2] != (file, digest):
            _executed[name] = file, digest, _execute(name, spec, source)
    except Exception as error:
        raise ValueError(f"{typed}: {file} cannot be imported, by {said(error)}") from error
    return _executed[name][2], digest


def _execute(name: str, spec: ModuleSpec, source: bytes) -> ModuleType:
    """A module made from this very source: an import may take byte code that is older by a second."""
    module, before = importlib.util.module_from_spec(spec), sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(compile(source, str(spec.origin), "exec"), vars(module))
    except BaseException:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _installed(file: str) -> bool:
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
    return any(Path(file).is_relative_to(folder) for folder in folders)
