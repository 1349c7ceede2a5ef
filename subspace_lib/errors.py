"""Errors that are one sentence for the person who reads them."""

from __future__ import annotations


class Told(Exception):
    """An error whose message says all: a notebook shows its name and the sentence, no stack of calls."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]
