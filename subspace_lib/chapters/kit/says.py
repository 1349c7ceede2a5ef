"""How a page says its numbers: the numbers choose the words, so that a rerun leaves no false sentence.

The tolerances decide a word ("stays", "about as"), never a verdict; those are in ``evidence.criteria``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec

import numpy as np
from IPython.display import Markdown

from subspace_lib.results.store import MissingRun

Arguments = ParamSpec("Arguments")
LEVEL = 0.05  # relative change below which a number "stays", or two are "about as" large
UNKNOWN = "not known"
UNDEFINED = "undefined"
PLAIN = range(-4, 6)  # powers of ten of a first digit that need not be written as such
POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
INDICES = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def number(value: float, digits: int = 3) -> str:
    """So many significant digits, with a real minus; "0.0773", "1,230", "1.2 · 10⁻⁶"."""
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else "infinite"
    if value == 0:
        return "0"
    power = _power(value, digits)
    if power in PLAIN:
        return f"{value:,.{max(0, digits - 1 - power)}f}".replace("-", "−")
    return f"{value / 10.0**power:.{digits - 1}f}{_times(power)}".replace("-", "−")


def _power(value: float, digits: int = 3) -> int:
    """Of the first of so many digits."""
    return math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))


def _times(power: int) -> str:
    return f" · 10{str(power).translate(POWERS)}"


def share(value: float) -> str:
    """Two decimals, as an alignment or a progress is said: "0.98", "−0.01"."""
    return f"{value:z.2f}".replace("-", "−") if math.isfinite(value) else UNKNOWN


def percent(value: float) -> str:
    """Whole per cent; what is neither nothing nor all is not rounded to it: "under 1%"."""
    if not math.isfinite(value):
        return UNKNOWN
    if 0 < value < 0.01:
        return "under 1%"
    return "over 99%" if 0.99 < value < 1 else f"{value:.0%}"


def eigenvalue(index: int) -> str:
    """ "λ₁₀"."""
    return f"λ{str(index).translate(INDICES)}"


def mean_of(values: Iterable[float], say: Callable[[float], str] = number) -> str:
    """The mean of what is known, with the range: "0.95 (0.93 … 0.97)"; the range only where it shows.

    A power of ten that a number of them wants stands behind them all: "3.71 (0.89 … 7.43) · 10⁻⁴".
    """
    known = [float(v) for v in values if math.isfinite(v)]
    if not known:
        return UNKNOWN
    three, times = [float(np.mean(known)), min(known), max(known)], ""
    if say is number and three[1] > 0 and any(_power(v) not in PLAIN for v in three):
        power = _power(three[0])
        if _power(three[1]) - power in PLAIN:
            three, times = [v / 10.0**power for v in three], _times(power)
    mean, low, high = map(say, three)
    return mean + ("" if low == high else f" ({low} … {high})") + times


def progress(values: Iterable[float]) -> str:
    """The mean of progresses with their range; "undefined" where the plain runs gained too little."""
    found = list(values)
    return mean_of(found, share) if any(map(math.isfinite, found)) else UNDEFINED


def mean(values: Iterable[float]) -> float:
    """The mean of what is known; NaN where nothing is."""
    known = [float(v) for v in values if math.isfinite(v)]
    return float(np.mean(known)) if known else math.nan


def rule(method: str) -> str:
    """A rule as the book calls it: the stored runs of heavy ball go by PyTorch's name, Momentum."""
    return method.replace("Momentum", "heavy ball")


def counted(hits: Iterable[bool], noun: str = "seed") -> str:
    """For "in …": "all 5 seeds", "3 of 5 seeds", "none of the 5 seeds", "both seeds", "the one seed"."""
    found = [bool(hit) for hit in hits]
    count, total = sum(found), len(found)
    if total == 1:
        return f"the one {noun}" if count else f"no {noun}"
    if total == 2 and count != 1:
        return f"both {noun}s" if count else f"neither {noun}"
    if count == total:
        return f"all {total} {noun}s"
    return f"{count} of {total} {noun}s" if count else f"none of the {total} {noun}s"


def moves(before: float, after: float, say: Callable[[float], str] = number) -> str:
    """ "rises from 1 to 2", "falls from 2 to 1", "stays at 1", or "stays near 1 (1.02 at the end)"."""
    if not (math.isfinite(before) and math.isfinite(after)):
        return f"is {UNKNOWN}" if not math.isfinite(before) else f"begins at {say(before)}"
    word = compared(after, before, "rises from", "falls from", "")
    if word:
        return f"{word} {say(before)} to {say(after)}"
    if say(before) == say(after):
        return f"stays at {say(before)}"
    return f"stays near {say(before)} ({say(after)} at the end)"


def compared(
    value: float, other: float, above: str = "above", below: str = "below", near: str = "about at"
) -> str:
    """One of three words for a number beside another; "near" within a twentieth of the other."""
    if abs(value - other) <= LEVEL * abs(other):
        return near
    return above if value > other else below


def whether(true: bool, yes: str, no: str) -> str:
    """One of two pieces of a sentence."""
    return yes if true else no


def listed(items: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *first, last = list(items) or [UNKNOWN]
    return f"{', '.join(first)} and {last}" if first else last


def each(values: Mapping[str, Sequence[float]], say: Callable[[float], str] = number) -> str:
    """Means by name: "0.98 under SGD, 0.99 under Dom-SGD"."""
    return listed(f"{mean_of(found, say)} under {name}" for name, found in values.items())


def seeds(count: int) -> str:
    """ "1 seed", "3 seeds"."""
    return "1 seed" if count == 1 else f"{count} seeds"


def over(seeds: int) -> str:
    """What a number with a range is of: "Means over 5 seeds, with their range.", or of one seed."""
    return f"Means over {seeds} seeds, with the range in brackets." if seeds > 1 else "One seed."


def answer(*sentences: str, table: Markdown | None = None) -> Markdown:
    """What a figure shows, as a paragraph; a table of the same numbers below it."""
    text = " ".join(sentence.strip() for sentence in sentences if sentence)
    if table is None:
        return Markdown(text)
    return Markdown(f"{text}\n\n{table.data}" if text else table.data)


def known(say: Callable[Arguments, Markdown]) -> Callable[Arguments, Markdown]:
    """An answer that says so where its runs are not stored."""

    @functools.wraps(say)
    def inside(*arguments: Arguments.args, **options: Arguments.kwargs) -> Markdown:
        try:
            return say(*arguments, **options)
        except MissingRun:
            return missing("Its runs are")

    return inside


def missing(what: str) -> Markdown:
    """In the place of an answer whose runs are not stored."""
    return Markdown(f"*{what} not stored yet: nothing can be said here.*")


def not_yet(asked: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is not stored of the parts of a chapter, by their names: a whole part, or some of its seeds."""
    told = []
    for name, parameters in asked.items():
        there = found[name].parameters.seeds if name in found else ()
        lacking = [str(seed) for seed in parameters.seeds if seed not in there]
        if lacking:
            which = f" of seed {listed(lacking)}" if there else ""
            told.append(f"*{name}: not stored yet{which}.*")
    return told
