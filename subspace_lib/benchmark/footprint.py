"""Peak memory of whole runs with the tracker, quarter by quarter, as the operating system sees it."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from subspace_lib.data import DataUnavailable
from subspace_lib.experiment import Experiment
from subspace_lib.results.memory import needed
from subspace_lib.runs.training import Run

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
STEPS = 1000
QUARTERS = 4
# Each quarter has a refresh and rows; every other one a whole spectrum, and the last step.
SETTING: dict[str, Any] = {
    "projection": "bulk",
    "steps": STEPS,
    "switch_step": 10,
    "refresh_every": STEPS // QUARTERS,
    "record_every": STEPS // QUARTERS // 2,
    "spectrum_every": STEPS // 2,
}
RUNS: dict[str, dict[str, Any]] = {
    "mlp": {"dataset": "mnist5k", "model": "mlp"},
    "mnist": {"dataset": "mnist", "model": "mlp"},  # all of it
    "cnn": {"dataset": "cifar10_5k", "model": "cnn", "learning_rate": 0.001},
    # As in the chapter on this network: two classes, whose refreshes see all the eigenvalues wanted.
    "transformer": {
        **{"dataset": "sst2_1k", "model": "transformer", "learning_rate": 0.001},
        **{"k": 2, "spectrum_every": None},
    },
}


def footprint(name: str) -> dict[str, Any]:
    """One of the runs, in a process of its own; where its data are not to be had, it says so."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        try:
            return process.submit(followed, SETTING | RUNS[name]).result()
        except DataUnavailable as error:
            return {"failed": str(error)}


def followed(fields: dict[str, Any]) -> dict[str, Any]:
    """Train this process's only run, and look at its peak memory in each quarter of the steps.

    ``graphs`` are the bytes of autograd graphs that a Hessian on all samples keeps, ``reckoned`` what
    ``results.memory`` says before the run.

    Raises:
        OSError: the operating system does not tell a process its peak, as only Linux does.
    """
    torch.set_num_threads(1)
    e = Experiment(**fields)
    run = Run(e)
    begun, peaks = peak(), []
    for quarter in range(1, QUARTERS + 1):
        RESET.write_text("5")  # the peak is as much as is used now
        while run.status == "running" and run.trainer.step < quarter * e.steps // QUARTERS:
            run.advance()
        peaks.append(peak())
    while run.status == "running":
        run.advance()
    objective = run.objective
    hessian = objective.hessian(run.theta)
    hessian @ run.theta[:, None]
    return {
        "dataset": e.dataset,
        "model": e.model,
        "samples": len(objective),
        "parameters": objective.dim,
        "steps": e.steps,
        "chunk": e.chunk,
        "status": run.status,
        "before": begun,
        "peaks": peaks,
        "graphs": hessian.kept,
        "reckoned": needed(e),
    }


def peak() -> int:
    """Bytes that this process has had in memory at most, since it was last reset."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])
