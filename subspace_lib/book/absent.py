"""A book without PyTorch: it is made from stored results, and computes nothing.

Where PyTorch is not installed, importing this module makes ``import torch`` give something empty. Its
modules, classes and functions can be imported, inherited from and named in annotations; reading runs and
docstrings asks no more of them.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types


class _Named(type):
    """A class whose attributes are there, whatever their names."""

    def __getattr__(cls, name: str) -> type:
        return _named(name, cls.__module__)


class _Nothing(metaclass=_Named):
    """What can be made, decorate and be a base; it does nothing."""

    def __init__(self, *arguments: object, **named: object) -> None:
        pass

    def __call__(self, decorated: object) -> object:
        return decorated


def _named(name: str, module: str) -> type:
    if name.startswith("__"):  # what Python asks for is asked in vain
        raise AttributeError(name)
    return _Named(name, (_Nothing,), {"__module__": module})


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> type:
        return _named(name, self.__name__)


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds empty modules of one package, and of all below it."""

    def __init__(self, package: str):
        self.package = package

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's specification, or None for other packages."""
        if name.split(".")[0] != self.package:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """One that has whatever is asked of it."""
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to execute."""


if importlib.util.find_spec("torch") is None:
    sys.meta_path.insert(0, Absent("torch"))
