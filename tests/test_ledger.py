"""The ledger: verdicts by the criteria as written, and nothing but the store to judge from."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from subspace_lib.chapters import (
    dom_vs_bulk,
    dominant_subspace,
    edge_of_stability,
    full_batch_gd,
    ledger,
    sam,
    valley,
)
from subspace_lib.chapters.dominant_subspace.study import AlignmentParameters, AlignmentStudy
from subspace_lib.chapters.edge_of_stability.study import EdgeParameters, EdgeStudy
from subspace_lib.chapters.full_batch_gd.study import BatchParameters, BatchStudy
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy
from subspace_lib.chapters.sam.study import SamStudy
from subspace_lib.chapters.valley.study import ValleyParameters, ValleyStudy
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.evidence.verdicts import Claim, interval, judge, part, verdict
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory, progress

HALF = Criterion("2026-11-25", "own", at_least=0.5)
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
        runs["none", seed] = trajectory(0.5, seed=seed)
        runs["dominant", seed] = trajectory(
            dom[seed], seed=seed, projection="dominant", switch_step=500, status=status
        )
        runs["bulk", seed] = trajectory(bulk[seed], seed=seed, projection="bulk", switch_step=500)
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
    assert judge(values, Criterion("2026-11-25", "own", **bounds)) == expected


def test_both_claims_are_judged_on_the_right_runs():
    c2, c3 = dom_vs_bulk.judge(study(dom=[0.99, 1.0, 1.02], bulk=[0.51, 0.50, 0.49]))
    assert (c2.claim, c2.verdict) == ("C2", "reproduced")
    assert c2.measured == pytest.approx(np.mean([0.02, 0, -0.04]))
    assert (c3.claim, c3.verdict) == ("C3", "reproduced")
    assert all("dom-sgd" in key or "-sgd-" in key for key in c2.results)
    c2, c3 = dom_vs_bulk.judge(study(dom=[0.5, 0.51, 0.52], bulk=[0.99, 1.0, 1.02]))
    assert (c2.verdict, c3.verdict) == ("not reproduced", "not reproduced")
    c2, _ = dom_vs_bulk.judge(study(dom=[1, 1, 1], bulk=[0.5] * 3, status="diverged at step 9"))
    assert (c2.verdict, c2.measured) == ("inconclusive", None)


def test_a_claim_is_as_good_as_its_worst_part():
    values = {
        "good": part("good", [1, 1.1, 1.2], HALF),
        "open": part("open", [0.1, 1, 2], HALF),
        "bad": part("bad", [0.1, 0.1, 0.1], HALF),
    }
    for names, expected in (
        (["good", "good"], "reproduced"),
        (["good", "open"], "inconclusive"),
        (["open", "bad", "good"], "not reproduced"),
    ):
        judged = verdict(Claim("C7", "says", "≥ 0.5"), [values[n] for n in names], PARAMETERS, [])
        assert judged.verdict == expected
        assert len(judged.parts) == len(names)
    assert judged.measured == pytest.approx(0.1)  # the deciding part's
    assert values["good"].criterion == "≥ 0.5"
    band = Criterion("2026-11-25", "own", at_least=0.9, at_most=1.15)
    assert part("band", [1], band).criterion == "0.9 … 1.15"
    undefined = part("undefined", [math.nan, 1, 1], HALF)
    assert (undefined.verdict, undefined.measured) == ("inconclusive", None)


def rows(columns, **fields):
    """A run with the given columns, which ends at the last of its steps."""
    experiment = PARAMETERS.experiment(0, steps=columns["step"][-1], **fields)
    return Trajectory(experiment, pd.DataFrame(columns), "complete", None, {})


def alignment_runs(late, gap):
    names = {f"eigenvalue_{i:02d}": [2.0 * gap if i <= 10 else 2.0] * 2 for i in range(1, 21)}
    return rows({"step": [0, 1000], "alignment": [0.1, late], "train_loss": [1, 1], **names})


def test_c1_wants_late_alignment_and_a_late_gap():
    for late, gap, expected in (
        (0.9, 2.5, ("reproduced", "reproduced")),
        (0.7, 2.5, ("not reproduced", "reproduced")),
        (0.9, 1.5, ("reproduced", "not reproduced")),
    ):
        runs = {seed: alignment_runs(late, gap) for seed in (0, 1, 2)}
        parameters = AlignmentParameters(steps=1000)
        (c1,) = dominant_subspace.judge(AlignmentStudy(parameters, runs, {}, {}))
        assert tuple(p.verdict for p in c1.parts) == expected
        assert c1.parts[1].measured == pytest.approx(gap)


def batch_study(sgd=0.9, fallen=0.05, back=0.9, sizes=(0.95, 0.9, 0.6, 0.0)):
    p, runs, by_size = BatchParameters(steps=5000, full_steps=200), {}, {}
    for seed in p.seeds:
        after = {"step": [3000, 3050, 3100, 3150, 3200]}
        runs["SGD", seed] = rows({"step": [0, 5000], "alignment": [0, sgd]})
        # what comes after 100 steps does not count
        runs["GD", seed] = rows(after | {"alignment": [0.9, 0.5, fallen, 0.0, sizes[-1]]})
        runs["back", seed] = rows({"step": [3200, 3400], "alignment": [0, back]})
        for size, value in zip((10, 50, 250, 5000), sizes, strict=True):
            by_size[size, seed] = rows({"step": [3000, 5000], "alignment": [0, value]})
    return BatchStudy(p, runs, by_size, {})


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({}, None),
        ({"sgd": 0.7}, 0),
        ({"fallen": 0.2}, 1),
        ({"back": 0.5}, 2),
        ({"sizes": (0.9, 0.95, 0.6, 0.0)}, 3),
    ],
)
def test_c4_fails_by_each_of_its_parts(changed, failing):
    (c4,) = full_batch_gd.judge(batch_study(**changed))
    expected = ["reproduced"] * 4
    if failing is not None:
        expected[failing] = "not reproduced"
    assert [p.verdict for p in c4.parts] == expected
    assert c4.verdict == ("reproduced" if failing is None else "not reproduced")


def edge_study(sharpness=25.5, alignment=0.99, dom=0.99, bulk=0.5, risen=60.0):
    p = EdgeParameters(steps=1000)
    steps, runs = [0, 280, 300, 350, 400, 1000], {}
    before = [99.0, 99.0, sharpness, sharpness, sharpness, 99.0]  # only the last 100 steps count
    for seed in p.seeds:
        table = {"step": steps, "eigenvalue_01": before, "train_loss": [2, 2, 2, 2, 1, 0.5]}
        table["alignment"] = [0, 0, alignment, alignment, alignment, 0]
        runs["none", seed] = rows(table)
        for projection, end in (("dominant", dom), ("bulk", bulk)):
            table = {"step": [400, 1000], "train_loss": [1, end], "eigenvalue_01": [25, risen]}
            runs[projection, seed] = rows(table, projection=projection, switch_step=400)
    return EdgeStudy(SwitchStudy(p, runs, dict.fromkeys(p.seeds, 400), {}), None, {}, None)


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({}, None),
        ({"sharpness": 20.0}, 0),
        ({"sharpness": 30.0}, 0),
        ({"alignment": 0.85}, 1),
        ({"dom": 0.7}, 2),
        ({"bulk": 0.7}, 3),
        ({"risen": 27.0}, 4),
    ],
)
def test_c6_fails_by_each_of_its_parts(changed, failing):
    (c6,) = edge_of_stability.judge(edge_study(**changed))
    expected = ["reproduced"] * 5
    if failing is not None:
        expected[failing] = "not reproduced"
    assert [p.verdict for p in c6.parts] == expected


def valley_study(changed=("SGD", "alignment", 0.9), of="valley"):
    """Both problems as they should be, one number of one of them changed: (case, quantity, value)."""
    p = ValleyParameters(batch_sizes=(10,), regression_batch_sizes=(40,), outliers=2)
    late = {"SGD": 0.9, "Dom-SGD": 0.9, "Bulk-SGD": 0.9, "GD": 0.0, "back": 0.9}
    good = {(case, "alignment"): value for case, value in late.items()}
    good |= {("batch 10", "alignment"): 0.5, ("batch 40", "alignment"): 0.5}
    losses = {"SGD": 0.1, "Dom-SGD": 1.0, "Bulk-SGD": 0.12, "GD": 0.1, "back": 0.1}
    good |= {(case, "train_loss"): value for case, value in losses.items()}
    good |= {(case, "variance"): 1.01 for case in ("ηκ", "c", "y")}
    good |= {("settled", "variance"): 1.0, ("bulk", "variance"): 1.0}
    runs = {}
    for problem in ("valley", "regression"):
        values = good | ({changed[:2]: changed[2]} if problem == of else {})
        for seed in p.seeds:
            e, lines = p.simulation(problem, seed), []
            for (case, quantity), value in values.items():
                if quantity != "variance":
                    first = {"train_loss": 1.0, "alignment": 0.9}[quantity]
                    lines += [(case, quantity, e.switch_step, first)]
                    lines += [(case, quantity, e.switch_step + 100, value)]
                    lines += [(case, quantity, e.steps, value)]
                elif case not in ("settled", "bulk"):
                    lines += [(case, quantity, 0.5, value), (case, "expected", 0.5, 1.0)]
            for i in range(1, 5):
                value = values["settled" if i <= 2 else "bulk", "variance"]
                lines += [("settled", "variance", i, value), ("settled", "expected", i, 1.0)]
                lines += [("settled", "stationary", i, 1.0)]
            table = pd.DataFrame(lines, columns=["case", "quantity", "index", "value"])
            runs[problem, seed] = Trajectory(e, table, "complete", None, {})
    return ValleyStudy(p, runs)


def test_c5_is_reproduced_where_all_is_as_it_should_be():
    (c5,) = valley.judge(valley_study())
    assert c5.verdict == "reproduced" and len(c5.parts) == 15 and len(c5.results) == 6
    assert c5.parts[0].measured == pytest.approx(0.01)
    assert (c5.dataset, c5.model) == (None, None)


@pytest.mark.parametrize(
    ("changed", "of", "failing"),
    [
        (("c", "variance", 1.06), "valley", 0),
        (("ηκ", "variance", 0.94), "valley", 0),
        (("settled", "variance", 1.06), "regression", 1),
        (("bulk", "variance", 0.94), "regression", 2),
        *[
            (changed, problem, first + i)
            for problem, first in (("valley", 3), ("regression", 9))
            for i, changed in enumerate(
                [
                    ("Dom-SGD", "train_loss", 0.5),
                    ("Bulk-SGD", "train_loss", 0.3),
                    ("SGD", "alignment", 0.7),
                    ("GD", "alignment", 0.2),
                    ("back", "alignment", 0.5),
                ]
            )
        ],
        (("batch 10", "alignment", 0.95), "valley", 8),
        (("batch 40", "alignment", 0.95), "regression", 14),
    ],
)
def test_c5_fails_by_each_of_its_parts(changed, of, failing):
    (c5,) = valley.judge(valley_study(changed, of))
    assert c5.verdict == "not reproduced"
    assert [i for i, p in enumerate(c5.parts) if p.verdict == "not reproduced"] == [failing]


def test_c7_is_judged_on_both_regimes():
    good, bad = study([1, 1, 1], [0.5] * 3), study([0.6] * 3, [0.5] * 3)
    (c7,) = sam.judge(SamStudy(good, good, {}))
    assert c7.verdict == "reproduced" and len(c7.parts) == 4
    for pair in ((good, bad), (bad, good)):
        (c7,) = sam.judge(SamStudy(*pair, {}))
        assert c7.verdict == "not reproduced"


def test_an_empty_store_leaves_every_claim_missing(tmp_path):
    rows = ledger.verdicts(Store(tmp_path))
    assert [v.claim for v in rows] == list(ledger.claims())
    assert set(ledger.claims()) >= {f"C{i}" for i in range(1, 9)}
    assert {v.verdict for v in rows} == {"missing"}


def test_the_command_line_prints_json_with_the_promised_keys(tmp_path):
    command = [sys.executable, "-m", "subspace_lib.claims", "--store", str(tmp_path)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert set(rows[0]) == {
        "claim",
        "verdict",
        "criterion",
        "measured",
        "interval",
        "seeds",
        "steps",
        "dataset",
        "model",
        "results",
        "parts",
    }
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert plain.count("missing") == len(ledger.claims())
