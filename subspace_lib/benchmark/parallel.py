"""Whether runs slow each other down: one of them alone, and two at once, each a process of one thread."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any

import torch

from subspace_lib.experiment import Experiment
from subspace_lib.runs.training import Run

AT_ONCE = 2
ROUNDS = 3
# From the cold start on everything is in it: steps, looks, refreshes, rows.
SETTING: dict[str, Any] = {
    **{"dataset": "mnist5k", "model": "mlp", "projection": "bulk"},
    **{"switch_step": 100, "steps": 1600, "record_every": 90, "spectrum_every": None},
}
_start: Barrier  # of a worker


def parallel(setting: dict[str, Any] = SETTING, rounds: int = ROUNDS) -> dict[str, Any]:
    """Seconds of a run alone and of two that begin at once, turn by turn; medians over the rounds."""
    alone, beside = list[float](), list[float]()
    for _ in range(rounds):
        alone += timed(1, setting)
        beside += timed(AT_ONCE, setting)
    found = statistics.median(alone), statistics.median(beside)
    return {
        "at_once": AT_ONCE,
        "steps": setting["steps"],
        "alone": alone,
        "beside": beside,
        "ratio": found[1] / found[0],
    }


def timed(count: int, setting: dict[str, Any]) -> list[float]:
    """Seconds of each of so many equal runs, which begin at the same moment."""
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(count)
    with ProcessPoolExecutor(count, context, _enter, (begin,)) as processes:
        return list(processes.map(_seconds, [setting] * count))


def _enter(begin: Barrier) -> None:
    global _start
    _start = begin


def _seconds(setting: dict[str, Any]) -> float:
    torch.set_num_threads(1)
    run = Run(Experiment.parse(**setting))
    _start.wait()
    begun = time.perf_counter()
    while run.status == "running":
        run.advance()
    return time.perf_counter() - begun
