"""The ledger: verdicts by the criteria as written, and nothing but the store to judge from."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from subspace_lib.chapters import (
    dom_vs_bulk,
    dominant_subspace,
    ledger,
)
from subspace_lib.chapters.dom_vs_bulk.study import DomBulkParameters, DomBulkStudy
from subspace_lib.chapters.dominant_subspace.study import AlignmentParameters, AlignmentStudy
from subspace_lib.chapters.kit.switch.study import switch_step
from subspace_lib.evidence.criteria import CONFIDENCE
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.evidence.verdicts import Claim, interval, judge, part, verdict
from subspace_lib.results.store import COMMITTED, Store
from subspace_lib.trajectory import Trajectory, progress

HALF = Criterion("2026-11-25", "own", at_least=0.5)
SEEDS = (11, 12, 13)
PARAMETERS = DomBulkParameters(steps=1000, switch_step=500, switch_alignment=None, seeds=SEEDS)
DATED = {"date": "2026-11-26T08:00:00+00:00"}


def trajectory(end, *, seed=11, status="complete", start=1.0, **fields):
    """A run whose loss is 1 at the switch and ``end`` in the last 2% of its steps."""
    steps = [500, 900, 979, 980, 990, 1000]
    losses = [start, 5.0, 5.0, end - 0.01, end + 0.01, end]
    return Trajectory(
        PARAMETERS.experiment(seed, **fields),
        pd.DataFrame({"step": steps, "train_loss": losses}),
        status,
        None,
        DATED,
    )


def study(dom, bulk, status="complete", plain=0.5):
    runs = {}
    for i, seed in enumerate(SEEDS):
        branch = {"seed": seed, "switch_step": 500}
        runs["none", seed] = trajectory(plain, seed=seed)
        runs["dominant", seed] = trajectory(dom[i], projection="dominant", status=status, **branch)
        runs["bulk", seed] = trajectory(bulk[i], projection="bulk", **branch)
    return DomBulkStudy(PARAMETERS, runs, dict.fromkeys(SEEDS, 500), {}, {}, None)


def test_progress_is_zero_at_the_switch_one_at_sgd_and_negative_where_the_loss_rises():
    plain = trajectory(0.5)
    for end, expected in ((1.0, 0), (0.5, 1), (0.75, 0.5), (1.25, -0.5), (0.4, 1.2)):
        assert progress(plain, trajectory(end)) == pytest.approx(expected)


def test_progress_is_clipped_and_a_branch_that_diverged_counts_minus_one():
    plain = trajectory(0.5)
    assert progress(plain, trajectory(9.0)) == -1
    assert progress(plain, trajectory(-9.0)) == 2
    assert progress(plain, trajectory(math.nan, status="diverged at step 7")) == -1


def test_progress_is_undefined_where_sgd_made_none():
    for end, made in ((1.2, False), (0.91, False), (0.89, True)):  # of 1 at the switch: a tenth
        assert math.isfinite(progress(trajectory(end), trajectory(1.0))) == made
    assert math.isnan(progress(trajectory(0.5, status="diverged at step 7"), trajectory(0.5)))


def test_the_loss_at_the_switch_may_be_a_mean():
    assert progress(trajectory(0.5), trajectory(0.75), at_switch=1.5) == pytest.approx(0.75)


def test_interval_is_students():
    # mean 2, standard error 1/√3, t_{0.975, 2} = 4.3027
    low, high = interval([1, 2, 3])
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)
    for many in (2, 3, 5, 8, 50):
        values = np.random.default_rng(many).normal(size=many)
        scipys = stats.t.interval(CONFIDENCE, many - 1, values.mean(), stats.sem(values))
        assert interval(values) == pytest.approx(scipys, rel=1e-9)


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
    assert (c2.claim, c2.verdict, c2.kind) == ("C2", "reproduced", "claim")
    assert c2.measured == pytest.approx(np.mean([0.02, 0, -0.04]))
    assert (c3.claim, c3.verdict, c3.seeds) == ("C3", "reproduced", SEEDS)
    assert all("dom-sgd" in key or "-sgd-" in key for key in c2.results)
    c2, c3 = dom_vs_bulk.judge(study(dom=[0.5, 0.51, 0.52], bulk=[0.99, 1.0, 1.02]))
    assert (c2.verdict, c3.verdict) == ("not reproduced", "not reproduced")


def test_a_dom_sgd_that_diverged_has_not_learned():
    c2, _ = dom_vs_bulk.judge(study(dom=[1, 1, 1], bulk=[0.5] * 3, status="diverged at step 9"))
    assert (c2.verdict, c2.measured) == ("reproduced", -1)
    assert c2.parts[0].note == "3 of 3 runs of Dom-SGD diverged"


def test_where_sgd_made_no_progress_there_is_no_verdict():
    c2, c3 = dom_vs_bulk.judge(study(dom=[1, 1, 1], bulk=[0.95] * 3, plain=0.95))
    assert (c2.verdict, c3.verdict, c3.measured) == ("inconclusive", "inconclusive", None)
    assert "SGD gained less than 10% of the loss at the switch in 3 of 3 runs" in c3.parts[0].note


def test_a_switch_by_the_fallback_is_said_in_the_ledger():
    watched = PARAMETERS.model_copy(update={"switch_alignment": 0.95})
    plain = [dataclasses.replace(trajectory(0.5), trigger_step=step) for step in (420, 500, None)]
    steps = [switch_step(watched, run) for run in plain]
    assert steps == [(420, True), (500, False), (500, False)]
    assert switch_step(PARAMETERS, plain[0]) == (500, False)
    found = study(dom=[1, 1, 1], bulk=[0.5] * 3)
    found = dataclasses.replace(
        found, parameters=watched, triggered={11: True, 12: False, 13: True}
    )
    c2, _ = dom_vs_bulk.judge(found)
    assert c2.note == (
        "SGD, seed 12: switched at step 500 by the fallback, because the alignment's moving average had "
        "not exceeded 0.95."
    )
    assert "by the fallback" in ledger.table([c2])
    assert dom_vs_bulk.judge(study(dom=[1, 1, 1], bulk=[0.5] * 3))[0].note == ""


def test_a_finding_holds_or_not_and_decides_no_claim():
    finding = Claim("F9", "says", "≥ 0.5", kind="finding")
    for values, expected in (
        ([1, 1.1, 1.2], "holds"),
        ([0.1, 0.2, 0.1], "does not hold"),
        ([0.1, 1, 2], "inconclusive"),
    ):
        judged = verdict(finding, [part("x", values, HALF)], PARAMETERS, [])
        assert (judged.verdict, judged.kind, judged.parts[0].verdict) == (
            expected,
            "finding",
            expected,
        )
    shown = verdict(finding, [part("x", [0.3], None)], PARAMETERS, [])
    assert (shown.verdict, shown.measured, shown.parts[0].date) == ("descriptive", 0.3, "")
    both = [part("x", [0.3], None), part("y", [1, 1.1, 1.2], HALF)]
    assert verdict(finding, both, PARAMETERS, []).verdict == "holds"
    assert ledger.of_kind("finding", [judged, shown]) == [judged, shown]
    assert ledger.of_kind("claim", [judged, shown]) == []


def test_what_may_not_be_judged_is_said_in_a_sentence():
    def judged(date, seed=11):
        run = dataclasses.replace(trajectory(0.5, seed=seed), provenance={"date": date})
        return verdict(Claim("C9", "says", "≥ 0.5"), [part("x", [1], HALF)], PARAMETERS, [run])

    assert ledger.objections([judged("2026-11-25T23:00:00+00:00")]) == []
    assert ledger.objections([judged("2026-11-24T23:00:00+00:00")]) == [
        "C9 rests on a run of 2026-11-24; its criterion was fixed on 2026-11-25."
    ]
    assert ledger.objections([judged("2026-11-26", seed=0)]) == [
        "C9 rests on seed 0, which pilots have seen."
    ]
    nameless = dataclasses.replace(judged("2026-11-26"), oldest="")
    assert "rests on a run without a date" in ledger.objections([nameless])[0]


def test_no_verdict_of_the_committed_ledger_rests_on_what_may_not_be_judged():
    rows = ledger.verdicts(Store(COMMITTED), "paper")
    assert ledger.objections(rows) == []
    for v in rows:
        assert 0 not in v.seeds


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
    experiment = PARAMETERS.experiment(11, steps=columns["step"][-1], **fields)
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
        runs = {seed: alignment_runs(late, gap) for seed in SEEDS}
        parameters = AlignmentParameters(steps=1000)
        (c1,) = dominant_subspace.judge(AlignmentStudy(parameters, runs, {}, {}))
        assert tuple(p.verdict for p in c1.parts) == expected
        assert c1.parts[1].measured == pytest.approx(gap)


def test_an_empty_store_leaves_every_claim_missing(tmp_path):
    rows = ledger.verdicts(Store(tmp_path))
    assert [v.claim for v in rows] == list(ledger.claims())
    assert set(ledger.claims()) >= {f"C{i}" for i in range(1, 9)}
    assert {v.verdict for v in rows} == {"missing"}


@pytest.mark.whole
def test_the_command_line_prints_json_with_the_promised_keys(tmp_path, capsys):
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
        "kind",
        "oldest",
        "note",
    }
    kinds = {row["claim"]: row["kind"] for row in rows}
    assert all(kinds[f"C{i}"] == "claim" for i in range(1, 9))
    assert {name for name, kind in kinds.items() if kind == "finding"} >= {"F1", "F2", "F3", "F6"}
    ledger.main(["--store", str(tmp_path)])
    assert capsys.readouterr().out.count("missing") == len(ledger.claims())
