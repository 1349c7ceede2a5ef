"""Verdicts: by the criteria as written, and nothing but the store to judge from."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from subspace_lib import claims
from subspace_lib.claims import interval, judge, judge_switch, progress
from subspace_lib.store import Store
from subspace_lib.studies.switch import SwitchParameters, SwitchStudy
from subspace_lib.training import Trajectory

PARAMETERS = SwitchParameters(steps=1000, switch_step=500, switch_alignment=None)


def trajectory(end, *, seed=0, status="complete", start=1.0, **fields):
    """A run whose loss is 1 at the switch and ``end`` in the last 2% of its steps."""
    steps = [500, 900, 979, 980, 990, 1000]
    losses = [start, 5.0, 5.0, end - 0.01, end + 0.01, end]
    return Trajectory(
        PARAMETERS.experiment(seed, **fields),
        pd.DataFrame({"step": steps, "train_loss": losses}),
        status,
        None,
        {},
    )


def study(dom, bulk, status="complete"):
    runs = {}
    for seed in PARAMETERS.seeds:
        runs["SGD", seed] = trajectory(0.5, seed=seed)
        runs["Dom-SGD", seed] = trajectory(
            dom[seed], seed=seed, projection="dominant", switch_step=500, status=status
        )
        runs["Bulk-SGD", seed] = trajectory(
            bulk[seed], seed=seed, projection="bulk", switch_step=500
        )
    return SwitchStudy(PARAMETERS, runs, {}, {})


def test_progress_is_zero_at_the_switch_one_at_sgd_and_negative_where_the_loss_rises():
    plain = trajectory(0.5)
    for end, expected in ((1.0, 0), (0.5, 1), (0.75, 0.5), (1.5, -1), (0.4, 1.2)):
        assert progress(plain, trajectory(end)) == pytest.approx(expected)


def test_progress_is_undefined_where_sgd_has_not_progressed_or_a_run_diverged():
    assert math.isnan(progress(trajectory(1.2), trajectory(1.0)))
    assert math.isnan(progress(trajectory(0.5), trajectory(0.5, status="diverged at step 7")))


def test_interval_is_students():
    # mean 2, standard error 1/√3, t_{0.975, 2} = 4.3027
    low, high = interval([1, 2, 3])
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)


@pytest.mark.parametrize(
    ("values", "bounds", "expected"),
    [
        ([0.01, 0.02, 0.03], {"at_most": 0.1}, "reproduced"),
        ([0.0, 0.05, 0.3], {"at_most": 0.1}, "inconclusive"),  # the mean is not enough
        ([0.5, 0.52, 0.51], {"at_most": 0.1}, "not reproduced"),
        ([0.99, 1.0, 1.01], {"at_least": 0.9}, "reproduced"),
        ([0.5, 0.51, 0.52], {"at_least": 0.9}, "not reproduced"),
        ([0.01, 0.02], {"at_most": 0.1}, "inconclusive"),  # two seeds
        ([0.01, 0.02, math.nan], {"at_most": 0.1}, "inconclusive"),
    ],
)
def test_judge(values, bounds, expected):
    assert judge(values, **bounds) == expected


def test_both_claims_are_judged_on_the_right_runs():
    c2, c3 = judge_switch(study(dom=[0.99, 1.0, 1.02], bulk=[0.51, 0.50, 0.49]))
    assert (c2.claim, c2.verdict) == ("C2", "reproduced")
    assert c2.measured == pytest.approx(np.mean([0.02, 0, -0.04]))
    assert (c3.claim, c3.verdict) == ("C3", "reproduced")
    assert all("dom-sgd" in key or "-sgd-" in key for key in c2.results)
    c2, c3 = judge_switch(study(dom=[0.5, 0.51, 0.52], bulk=[0.99, 1.0, 1.02]))
    assert (c2.verdict, c3.verdict) == ("not reproduced", "not reproduced")
    c2, _ = judge_switch(study(dom=[1, 1, 1], bulk=[0.5] * 3, status="diverged at step 9"))
    assert (c2.verdict, c2.measured) == ("inconclusive", None)


def test_an_empty_store_leaves_every_claim_missing(tmp_path):
    rows = claims.verdicts(Store(tmp_path))
    assert [v.claim for v in rows] == [f"C{i}" for i in range(1, 9)]
    assert {v.verdict for v in rows} == {"missing"}


def test_the_command_line_prints_json_with_the_promised_keys(tmp_path):
    command = [sys.executable, "-m", "subspace_lib.claims", "--store", str(tmp_path)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert set(rows[0]) == {
        "claim", "verdict", "criterion", "measured", "interval", "seeds", "steps", "dataset",
        "model", "results",
    }  # fmt: skip
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert plain.count("missing") == 8
