"""``python -m subspace_lib.results.repeat KEY``: a stored run computed once more, and both side by side.

KEY is the name of a folder under ``results``. The stored run is not touched; the new one is kept under
``results/.checkpoints/again`` for this commit, so that an interrupted repetition goes on. Two runs of one
description agree bit by bit at one commit on one kind of processor, elsewhere as far as training does not
amplify rounding.
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Sequence
from typing import get_args

import pandas as pd
import torch

from subspace_lib.experiment import Device, Experiment, missing_device
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.files import Corrupted, StoreError
from subspace_lib.results.provenance import commit
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.trajectory import Trajectory

COLUMNS = (
    "train_loss",
    "test_loss",
    "alignment",
    "gradient_norm",
    "angle_bound",
    "eigenvalue_01",
    "eigenvalue_10",
    "refreshes",
    "gradient_equivalents",
    "seconds",
)


def stored(store: Store, key: str) -> Trajectory:
    """The trajectory in the folder of that name.

    Raises:
        MissingRun: there is none, or it is a survey or the like, not a training run.
        Corrupted: a file of it is missing, incomplete or altered.
    """
    found = store.of(key)
    if found.experiment.kind != Experiment.kind:
        raise MissingRun(
            f"{key} is a {found.experiment.kind}, not a training run; only those are compared."
        )
    return found


def compare(first: Trajectory, second: Trajectory) -> pd.DataFrame:
    """Both at their last common row, and their largest difference: one row for each column of both.

    ``difference`` is the largest absolute one over all common rows, at ``step``; ``share`` is that over the
    largest value of the first; infinite where only one of them has a number. Rows that only one of them has
    do not count.
    """
    pair = first.table.merge(second.table, on="step", suffixes=("", "_again"))
    rows = []
    for name in COLUMNS:
        if pair.empty or name not in first.table or name not in second.table:
            continue
        apart = (pair[name] - pair[f"{name}_again"]).abs().astype("float64").fillna(math.inf)
        apart[pair[name].isna() & pair[f"{name}_again"].isna()] = 0.0
        worst, scale = int(apart.to_numpy().argmax()), float(pair[name].abs().max())
        difference = apart.iloc[worst]
        row = {
            "column": name,
            "stored": pair[name].iloc[-1],
            "again": pair[f"{name}_again"].iloc[-1],
            "difference": difference,
            "share": difference / scale if scale else 0.0,
            "step": int(pair["step"].iloc[worst]),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute stored runs once more and print how far the new ones are from them."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.results.repeat", description=main.__doc__
    )
    parser.add_argument("keys", nargs="+", metavar="KEY", help="a folder under results")
    parser.add_argument("--device", choices=get_args(Device), default="cpu")
    torch.set_num_threads(1)  # as the stored runs
    options = parser.parse_args(arguments)
    if lacking := missing_device(options.device):
        parser.error(lacking)
    store, now = Store(), commit()
    again = store.checkpoints / "again" / now
    if now.endswith("+changes"):
        shutil.rmtree(again, ignore_errors=True)
    try:
        found = {key: stored(store, key) for key in options.keys}
    except (MissingRun, Corrupted, InvalidParameter) as error:
        parser.error(str(error))
    for key, before in found.items():
        try:
            after = Store(again).run(
                before.experiment.model_copy(update={"device": options.device})
            )
        except (StoreError, InvalidParameter) as error:
            parser.error(str(error))
        print(
            f"stored at commit {before.provenance['commit']}, again at {after.provenance['commit']}"
        )
        print(
            f"{key}, {before.status} | {after.status}, switch {before.trigger_step} | {after.trigger_step}"
        )
        print(
            compare(before, after).to_string(index=False, float_format="{:.6g}".format), flush=True
        )


if __name__ == "__main__":
    main()
