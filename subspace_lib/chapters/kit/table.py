"""Markdown tables, of rows that are dictionaries of text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from IPython.display import Markdown
from tabulate import tabulate

Row = Mapping[str, object]
HYPHEN = re.compile(r"(?<![\w.)–-])-(?=[\d∞.])")  # before a number, and not between two


def markdown(rows: Iterable[Row], columns: Sequence[str] | None = None) -> str:
    """Rows as a Markdown table; ``columns`` name those of a table that may have no row.

    A row that lacks a column leaves its cell empty. Negative numbers get a real minus, but not in code.
    """
    rows = list(rows)
    names = (
        list(columns) if columns is not None else list(dict.fromkeys(n for r in rows for n in r))
    )
    cells = [[_signed(str(row.get(name, ""))) for name in names] for row in rows]
    return tabulate(cells, headers=names, tablefmt="pipe", disable_numparse=True)


def _signed(cell: str) -> str:
    return cell if "`" in cell else HYPHEN.sub("−", cell)


def table(rows: Iterable[Row], columns: Sequence[str] | None = None, *, note: str = "") -> Markdown:
    """A table for a page, with a note below it."""
    text = markdown(rows, columns)
    return Markdown(f"{text}\n\n{note}" if note else text)


def percent(share: float) -> str:
    """A share in per cent, empty where it is not known."""
    return "" if math.isnan(share) else f"{share:.0%}"


def span(values: Iterable[float], digits: str | Callable[[float], str]) -> str:
    """The smallest and the largest as text, once where they read the same."""
    values = list(values)
    say = digits if callable(digits) else lambda value: f"{value:{digits}}"
    low, high = say(min(values)), say(max(values))
    return low if low == high else f"{low} … {high}"


def interval_text(mean: float, interval: Sequence[float] | None) -> str:
    """A mean with its interval, as text with a real minus: "0.020 (−0.005 … 0.045)"."""
    text = f"{mean:z.3f}"
    if interval is not None:
        text += f" ({interval[0]:z.3f} … {interval[1]:z.3f})"
    return text.replace("-", "−")
