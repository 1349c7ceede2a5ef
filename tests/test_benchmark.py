"""The benchmark: it judges by the reference, it survives what peers do, and the floor is the floor."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from subspace_lib import models
from subspace_lib.benchmark import aims, growth, measure, parallel
from subspace_lib.benchmark.peers import Ours, Solver, eigsh
from subspace_lib.benchmark.problem import CASES, Case, K, prepare
from subspace_lib.chapters.cost import figures, study, tables
from subspace_lib.objective import Objective
from subspace_lib.parameters import InvalidParameter

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def problem():
    return prepare(Case("small", "digits", "mlp", 0.01, 30, 2))


def test_a_true_basis_reaches_the_target_and_a_wrong_one_does_not(problem):
    point = problem.points[1]
    exact = Solver("a", "exact", False, lambda problem, point, start: (point.exact, 0))
    turned = torch.linalg.qr(point.exact + 0.02 * torch.randn(point.exact.shape) / 70)[0]
    wrong = Solver("a", "random", False, lambda *_: (torch.randn(problem.objective.dim, K), 0))
    assert measure.measure(problem, exact)["reached"]
    assert measure.measure(problem, exact)["angle"] < 1e-4
    row = measure.measure(problem, wrong)
    assert not row["reached"]
    assert row["angle"] > 0.5
    assert problem.judge(point, turned)[1] > 0.01


def test_a_peer_that_fails_is_a_row_and_not_the_end(problem):
    def broken(*_):
        raise RuntimeError("no convergence")

    row = measure.measure(problem, Solver("a", "b", False, broken))
    assert row["failed"] == "RuntimeError: no convergence"
    few = Solver("a", "b", False, lambda problem, point, start: (start[:, :3], 0))
    assert "3 vectors" in measure.measure(problem, few)["failed"]
    absent = Solver("a", "b", False, broken, needs="no_such_package")
    assert measure.measure(problem, absent)["failed"] == "not installed"


def test_the_tracker_reaches_the_target_at_every_step_with_k_and_one_products(problem):
    row = measure.measure(problem, Solver("subspace_lib", "every step", True, Ours()))
    assert row["reached"]
    assert row["products"] == K + 1
    peer = measure.measure(problem, Solver("scipy eigsh", "tol", True, eigsh(True, tol=1e-3)))
    assert peer["reached"]
    assert peer["products"] > row["products"]


def test_the_correction_on_a_subset_brings_the_residual_down(problem):
    plain = measure.measure(problem, Solver("subspace_lib", "", True, Ours()))
    corrected = measure.measure(problem, Solver("subspace_lib", "", True, Ours(correction=500)))
    assert corrected["residual"] < 0.6 * plain["residual"]


def test_every_way_to_multiply_is_measured_and_one_that_fails_is_a_row(monkeypatch):
    monkeypatch.setitem(growth.CHUNKS, "mlp", (500, 1500))
    best = growth._best("digits", "mlp", "vmap", 3)
    assert best["chunk"] in (500, 1500)
    assert best["product_seconds"] > 0

    def no_compiler(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda function: no_compiler)
    row = growth._best("digits", "mlp", "compiled", 3)
    assert row == {"failed": "RuntimeError: no compiler"}


@pytest.mark.parametrize(
    ("name", "shape", "layers"),
    [("mlp", (1, 28, 28), tables.MLP_LAYERS), ("cnn", (3, 32, 32), tables.CNN_LAYERS)],
)
def test_the_floor_is_what_pytorch_counts(name, shape, layers):
    model = models.build(name, shape, 10, seed=0)
    objective = Objective(model, "mse", torch.randn(20, *shape), torch.randint(0, 10, (20,)))
    hessian = objective.hessian(objective.initial())
    block = torch.randn(objective.dim, 1)
    hessian @ block  # builds the graph
    with FlopCounterMode(display=False) as gradient:
        objective.gradient(objective.initial())
    with FlopCounterMode(display=False) as product:
        hessian @ block
    measured = product.get_total_flops() / gradient.get_total_flops()
    assert tables.floor(*layers) == pytest.approx(measured, rel=1e-12)


def test_peak_memory_counts_what_is_alive_at_one_time():
    with growth.PeakMemory() as peak:
        held = torch.zeros(1000)
        for _ in range(5):
            torch.ones(250)  # dropped at once
    assert peak.peak == 4 * (held.numel() + 250)


def test_the_tracker_holds_three_blocks_at_most():
    found = growth.memory()
    assert max(found[name] for name in growth.REFRESHES) <= 3 * 13


def test_an_aim_without_its_measurement_is_missed_and_not_left_out():
    found = study.stored()
    everything = list(aims.aims(found))
    assert len(everything) == len({aim.wanted for aim in everything})
    for case in found["cases"].values():
        for row in case["rows"]:
            row["reached"] = False
    for row in found["products"]["measured"]:
        row["failed"] = "no memory"
    without = list(aims.aims(found))
    assert [aim.wanted for aim in without] == [aim.wanted for aim in everything]
    assert sum(aim.measured == "target missed" for aim in without) == 10
    assert not any(aim.met for aim in without if aim.measured == "target missed")


def test_stored_cases_hold_every_peer_and_a_setting_of_ours_that_reaches_the_target():
    found = study.stored()
    assert set(found["cases"]) == set(CASES)
    for case in found["cases"].values():
        tracker = [r for r in case["rows"] if r["peer"] == "subspace_lib" and r["warm"]]
        assert any(row["reached"] for row in tracker)
    peers = {row["peer"] for row in found["cases"]["mnist"]["rows"] if "failed" not in row}
    assert peers == set(figures.MARKERS)


def test_parameters_of_the_chapter_are_checked():
    with pytest.raises(InvalidParameter, match=r"^profile = 'slow' is not allowed"):
        study.CostParameters.parse(profile="slow")
    with pytest.raises(InvalidParameter, match=r"^dataset = 'cifar' is not allowed"):
        study.CostParameters.parse(dataset="cifar")
    assert study.CostParameters().case() == CASES["mnist"]
    assert study.CostParameters(profile="quick").case().dataset == "digits"


def test_two_runs_at_once_begin_together_and_each_is_timed():
    small = {
        "dataset": "digits_300",
        "model": "mlp_small",
        "steps": 12,
        "switch_step": 4,
        "seed": 0,
    }
    found = parallel.parallel(small | {"projection": "bulk", "record_every": 4}, rounds=1)
    assert len(found["alone"]) == 1 and len(found["beside"]) == found["at_once"] == 2
    assert min(found["beside"]) > 0
    assert found["ratio"] == pytest.approx(np.median(found["beside"]) / found["alone"][0])
    stored = study.stored()
    for ratio, met in ((1.1, True), (1.2, False)):
        stored["parallel"] = {"measured": {"ratio": ratio}}
        (aim,) = [a for a in aims.aims(stored) if a.wanted.startswith("two runs at once")]
        assert aim.met is met and aim.measured == f"{ratio:.2f}"
