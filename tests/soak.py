"""``make soak``: processes that compute quick runs are killed at random moments, again and again.

500 SIGKILLs in under 30 minutes. Each run goes on from what the last process has left; every second one
writes a checkpoint after every step. In the end each table is the undisturbed one, bit for bit but for the
seconds, and no temporary file is left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
import torch

from subspace_lib.experiment import Experiment, RunDescription
from subspace_lib.results import store as store_module
from subspace_lib.results.store import Store
from subspace_lib.runs.curvature import Curvature
from subspace_lib.runs.survey import Survey

SMALL = {
    "dataset": "digits_300",
    "model": "mlp_small",
    "k": 3,
    "guards": 2,
    "steps": 60,
    "target_angle": 0.5,
    "learning_rate": 0.1,
    "spectrum_every": None,
}
KINDS = (
    Experiment.parse(**SMALL, projection="bulk", switch_step=20, record_every=7),
    Experiment.parse(
        **SMALL, projection="dominant", optimizer="adam", switch_step=10, record_every=5
    ),
    Experiment.parse(**SMALL, watch_alignment=0.5, watch_from=5, switch_from=10, record_every=9),
    Survey.parse(**SMALL, anchors=(5, 40), lags=(1, 10), window=2),
    Curvature.parse(**SMALL, anchors=(5, 60), lanczos_steps=8, probes=2, pyhessian=1),
)


def compute(root: Path, experiment: RunDescription, every_step: bool) -> None:
    """The work of a process that will be killed."""
    store_module.CHECKPOINT_SECONDS = 0.0 if every_step else 0.05
    warnings.simplefilter("ignore")  # on a lock whose owner was killed a moment ago
    Store(root).run(experiment)


def killed(root: Path, experiment: RunDescription, every_step: bool, after: float) -> bool:
    """Whether a process of its own was killed before the run was stored."""
    child = os.fork()
    if child == 0:
        try:
            compute(root, experiment, every_step)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"{experiment.key} failed by itself")
    return os.WIFSIGNALED(status)


def same(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    """Whether all measurements agree bit for bit."""
    columns = expected.columns.difference(["seconds"])
    return found[columns].equals(expected[columns])


def soak(kills: int, seed: int = 0) -> tuple[int, int]:
    """So many kills; the numbers of runs that were compared, and of processes that ended before theirs.

    Raises:
        SystemExit: a table differs from the undisturbed one, or a temporary file is left.
    """
    choose, done, early, runs = random.Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        seconds, expected = {}, {}
        for place in ("first", "alone"):  # at first much is loaded and tried that is there later
            for experiment in KINDS:
                begun = time.perf_counter()
                expected[experiment.key] = Store(Path(folder, place)).run(experiment).table
                seconds[experiment.key] = time.perf_counter() - begun
        while done < kills:
            experiment, every_step = KINDS[runs % len(KINDS)], runs // len(KINDS) % 2 == 0
            root = Path(folder, "disturbed")
            for _ in range(choose.randint(1, 8)):
                moment = choose.uniform(0.0, 0.8) * seconds[experiment.key]
                if done == kills or not killed(root, experiment, every_step, moment):
                    early += done < kills
                    break
                done += 1
            compute(root, experiment, every_step)
            if not same(Store(root).load(experiment).table, expected[experiment.key]):
                raise SystemExit(f"{experiment.key} differs from the undisturbed run")
            left = [*root.rglob("*.tmp"), *root.rglob("*.safetensors")]
            if left:
                raise SystemExit(f"{left[0].name} is left")
            shutil.rmtree(root)
            runs += 1
            print(f"{done} of {kills} kills, {runs} runs compared", flush=True)
    return runs, early


def main() -> None:
    """Kill, compare, say how many."""
    parser = argparse.ArgumentParser(prog="python tests/soak.py", description=main.__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # a forked process has no others
    begun = time.perf_counter()
    runs, early = soak(options.kills, options.seed)
    print(
        f"{options.kills} kills over {runs} runs in {(time.perf_counter() - begun) / 60:.1f} minutes, "
        f"{early} processes were done before: all tables equal, no temporary file left."
    )


if __name__ == "__main__":
    main()
