"""``python -m subspace_lib.results.grid NAME=VALUE,VALUE …``: every combination of values, as one sweep.

``make sweep RUNS="dataset=digits k=5 steps=200 learning_rate=0.1,0.2 seed=0,1,2"`` computes six training
runs, several at a time; those that are stored are loaded. ``--scheduler tcp://host:8786`` hands them to the
workers of a Dask scheduler.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

from subspace_lib.experiment import Experiment
from subspace_lib.parameters import InvalidParameter, quoted
from subspace_lib.results import memory
from subspace_lib.results.files import StoreError
from subspace_lib.results.sweep import Standing, SweepFailed, run_all

MOST = 10_000  # runs of one sweep


def combinations(words: Sequence[str]) -> list[Experiment]:
    """The training runs of all combinations, the last name varying fastest.

    Raises:
        InvalidParameter: a word is not NAME=VALUE or is there twice, a value is out of bounds, they are too
            many, or one cannot fit the machine's memory.
    """
    values: dict[str, list[str]] = {}
    for word in words:
        name, sign, listed = word.partition("=")
        if not sign or name in values:
            raise InvalidParameter(
                f"{quoted(word)} is no parameter; write each once, as NAME=VALUE or NAME=VALUE,VALUE."
            )
        values[name] = listed.split(",")
    count = 1
    for several in values.values():
        count *= len(several)
    if count > MOST:
        raise InvalidParameter(f"These are {count:,} runs, and {MOST:,} are the most of one sweep.")
    found = [
        Experiment.parse(**dict(zip(values, chosen, strict=True)))
        for chosen in itertools.product(*values.values())
    ]
    for experiment in found:
        memory.check(experiment)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute all training runs of a grid of parameters, and print how each ended."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.results.grid", description=main.__doc__
    )
    parser.add_argument("words", nargs="+", metavar="NAME=VALUE,…", help="of an Experiment")
    parser.add_argument(
        "--scheduler", help="address of a Dask scheduler; processes here if not given"
    )
    parser.add_argument("--jobs", type=int, help="processes; as many as cores if not given")
    options = parser.parse_args(arguments)
    try:
        wanted = combinations(options.words)
        found = run_all(
            wanted, scheduler=options.scheduler, jobs=options.jobs, display=_Display(len(wanted))
        )
    except (InvalidParameter, StoreError, SweepFailed) as error:
        parser.error(str(error))
    for run in found:
        print(f"{run.experiment.key}: {run.status}")


class _Display:
    """A line whenever one more run has ended."""

    def __init__(self, runs: int):
        self.runs, self.done = runs, 0

    def __call__(self, standing: Standing) -> None:
        if standing.done > self.done:
            self.done = standing.done
            stored = self.runs - standing.runs
            print(f"{stored + standing.done} of {self.runs} runs", flush=True)


if __name__ == "__main__":
    main()
