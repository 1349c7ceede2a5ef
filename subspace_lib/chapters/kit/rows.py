"""Which steps of a run get a row: some all along, and every one of the windows that are averaged over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from subspace_lib.trajectory import Trajectory

SPARSE = 7  # steps between rows that nothing is averaged over
Span = tuple[int, int]  # first and last step, both included


def rows(every: int, along: Span, *windows: Span) -> dict[str, Any]:
    """Fields of a run with rows at the steps of ``spans``."""
    return {"record_every": 1, "record_spans": spans(every, along, *windows)}


def spans(every: int, along: Span, *windows: Span) -> tuple[Span, ...]:
    """One step in so many of a span, from its first on, and each of the windows, as the fewest spans.

    Windows may overlap each other, and reach beyond the span's end or step 0: what lies there is left out.
    """
    first, last = along
    wanted = set(range(first, last + 1, every))
    for start, end in windows:
        wanted |= set(range(max(0, start), min(end, last) + 1))
    steps = sorted(wanted)
    starts = [s for s, before in zip(steps, [None, *steps], strict=False) if before != s - 1]
    ends = [s for s, after in zip(steps, [*steps[1:], None], strict=True) if after != s + 1]
    return tuple(zip(starts, ends, strict=True))


def thinned(every: int, window: Span) -> list[Span]:
    """One step in so many of a window, from its last back, each as a window of its own."""
    first, last = window
    return [(step, step) for step in range(last, max(0, first) - 1, -every)]


def in_step(run: Trajectory) -> Trajectory:
    """SGD without the row at which its measurement begins, where no run of another k has a row.

    A late window of few rows would not be the same steps for X as for Dom-X and Bulk-X.
    """
    e = run.experiment
    if not e.switch_step or e.record_every is None or e.switch_step % e.record_every == 0:
        return run
    return replace(run, table=run.table[run.table["step"] != e.switch_step])
