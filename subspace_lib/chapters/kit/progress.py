"""Progress: a bar in a terminal; in a notebook or a log one line, renewed now and then."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

from tqdm import tqdm

from subspace_lib.results.estimate import price
from subspace_lib.results.sweep import Standing
from subspace_lib.runs.protocol import RunInProgress

EVERY = {"notebook": 10.0, "log": 60.0}  # seconds between two lines
DEAR = 20.0  # times the steps alone: what is said to whom it may surprise


class Progress:
    """Shows how far a run is: step, rate, time left. Call it after every step, and close it at the end."""

    def __init__(self, label: str):
        self.label = label
        self._bar: tqdm[NoReturn] | None = None
        self._place = "notebook" if in_notebook() else "log"
        if self._place == "log" and sys.stderr.isatty():
            self._place = "terminal"
        self._begun = self._told = time.monotonic()
        self._from: int | None = None

    def __call__(self, run: RunInProgress) -> None:
        """Show the run's step, if the last time is long enough ago."""
        if self._place == "terminal":
            self._advance(run)
            return
        now = time.monotonic()
        if self._from is None:
            self._from, self._begun = run.step, now
        if now - self._told >= EVERY[self._place]:
            self._told = now
            self._tell(
                f"{self.label}: {self._state(run.step, run.experiment.steps, now)}{dear(price(run))}"
            )

    def close(self, status: str) -> None:
        """End the bar, or say in one line how the run ended."""
        if self._bar is not None:
            self._bar.close()
            return
        seconds = time.monotonic() - self._begun
        self._tell(f"{self.label}: {status}, {seconds:.0f} s")

    def _state(self, step: int, steps: int, now: float) -> str:
        done = step - (self._from or 0)
        rate = done / max(now - self._begun, 1e-9)
        left = f", {duration((steps - step) / rate)} left" if rate > 0 else ""
        return f"step {step:,} of {steps:,}, {rate:.3g} steps a second{left}"

    def _advance(self, run: RunInProgress) -> None:
        if self._bar is None:
            steps = run.experiment.steps
            self._bar = tqdm(total=steps, initial=run.step, desc=self.label, unit="step")
        if (times := price(run)) >= DEAR:
            self._bar.set_postfix_str(f"subspace {times:.0f}×, see budget", refresh=False)
        self._bar.update(run.step - self._bar.n)

    def _tell(self, line: str) -> None:
        if self._place == "notebook":
            from IPython.display import clear_output

            clear_output(wait=True)  # one line in the page, each of them in papermill's log
            print(line, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


class SweepProgress(Progress):
    """Shows how far several runs are that are computed side by side: runs, steps, rate, time left."""

    def show(self, standing: Standing) -> None:
        """Show the state of the sweep, if the last time is long enough ago."""
        now = time.monotonic()
        if now - self._told >= EVERY.get(self._place, EVERY["notebook"]):
            self._told = now
            rate = max(0, standing.step - standing.resumed) / max(now - self._begun, 1e-9)
            left = f", {duration((standing.steps - standing.step) / rate)} left" if rate > 0 else ""
            self._tell(
                f"{self.label}: {standing.done} of {standing.runs} runs, step {standing.step:,} of "
                f"{standing.steps:,}, {rate:.3g} steps a second{left}{dear(standing.price)}"
            )


def dear(times: float) -> str:
    """That following the subspace costs much more than the steps, and what limits it; else nothing."""
    if times < DEAR:
        return ""
    return f"; following the subspace costs {times:.0f} times as much as the steps: a budget limits that"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return running is not None and hasattr(running, "kernel")


def duration(seconds: float) -> str:
    """About how long, in the unit that a person would say."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
