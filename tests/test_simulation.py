"""Simulations: branches against recursions written anew, what they settle at, the store."""

import math

import numpy as np
import pandas as pd
import pytest

from subspace_lib import runs
from subspace_lib.evidence import criteria
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results import store as store_module
from subspace_lib.results.checkpoint import read_tensors, write_tensors
from subspace_lib.results.store import Store
from subspace_lib.runs.simulation import (
    BRANCHES,
    RegressionSimulation,
    SimulationRun,
    ValleySimulation,
    case_of,
)
from subspace_lib.theory.valley import Valley

SHORT = {"steps": 400, "switch_step": 100, "record_every": 10}
# ηκ = 0.5 and a = 0.3: settled and steep within few steps
VALLEY = ValleySimulation(
    **SHORT,
    learning_rate=5e-4,
    cross=30.0,
    paths=4000,
    settle_paths=1000,
    sharpnesses=(0.5, 1.5),
    crosses=(10.0, 40.0),
)
REGRESSION = RegressionSimulation(
    **SHORT,
    paths=50,
    settle_paths=300,
    settle_steps=120,
    dimension=12,
    samples=100,
    outliers=3,
    learning_rate=2e-3,
)


def done(experiment):
    run = SimulationRun(experiment)
    run.train()
    return run


@pytest.fixture(scope="module")
def valley():
    return done(VALLEY)


@pytest.fixture(scope="module")
def regression():
    return done(REGRESSION)


@pytest.fixture(params=["valley", "regression"])
def run(request):
    return request.getfixturevalue(request.param)


def values(run, case, quantity):
    table = run.table()
    rows = table[(table["case"] == case) & (table["quantity"] == quantity)]
    return rows.set_index("index")["value"]


def test_every_branch_leaves_from_one_point_and_has_the_steps_that_it_should(run):
    e = run.experiment
    assert run.status == "complete" and run.step == e.steps and run.seconds > 0
    before = values(run, "start", "train_loss")
    assert list(before.index) == list(range(e.switch_step + 1))  # both its ends are seen closely
    losses = {case: values(run, case, "train_loss") for case in (*BRANCHES, "GD", "back")}
    for case in (*BRANCHES, "GD"):
        assert losses[case].index[0] == e.switch_step
        assert losses[case].iloc[0] == before.iloc[-1]
    assert {losses[case].index[-1] for case in BRANCHES} == {e.steps}
    assert losses["back"].iloc[0] == losses["GD"].iloc[-1]


def test_gd_takes_ten_relaxation_times_and_sgd_a_thousand_steps_after_it(run):
    """C4's protocol; in its windows every step is measured."""
    e = run.experiment
    slowest = run.problem.values[run.problem.k - 1]
    gd, back = (values(run, case, "alignment") for case in ("GD", "back"))
    wanted = math.ceil(criteria.WITHOUT_NOISE / (e.learning_rate * slowest))
    assert gd.index[-1] - gd.index[0] == wanted
    assert back.index[-1] - back.index[0] == criteria.AGAIN
    first = gd.index[-1] - criteria.WITHOUT_NOISE_TAIL * wanted
    for curve, after in ((gd, first), (back, back.index[-1] - criteria.AGAIN_WINDOW)):
        assert (np.diff(curve[curve.index >= after].index) == 1).all()
    assert gd.iloc[0] > 0.5 > gd.iloc[-1]
    assert back.iloc[-1] > gd.iloc[-1] + 0.3


def test_gd_in_the_valley_is_the_plain_recursion(valley):
    """From the mean squares at the switch, without any noise."""
    steep, flat = (values(valley, "GD", name).iloc[0] for name in ("steep", "flat"))
    e, sharp = VALLEY, VALLEY.learning_rate * VALLEY.condition
    for step, loss in values(valley, "GD", "train_loss").items():
        t = 2 * (step - e.switch_step)
        expected = e.condition * steep * (1 - sharp) ** t + flat * (1 - e.learning_rate) ** t
        assert loss == pytest.approx(expected / 2)


@pytest.mark.parametrize("projection", ["none", "dominant", "bulk"])
def test_mean_squares_are_those_of_the_exact_moments(valley, projection):
    name = {"none": "SGD", "dominant": "Dom-SGD", "bulk": "Bulk-SGD"}[projection]
    found = np.stack([values(valley, name, q) for q in ("steep", "flat")], -1)
    steps = values(valley, name, "steep").index.to_numpy(int) - VALLEY.switch_step
    exact = valley.problem.moments(VALLEY.learning_rate, found[0], steps[-1], projection)[steps]
    np.testing.assert_allclose(found, exact, rtol=0.1)  # 4,000 paths
    assert np.abs((found / exact).mean(0) - 1).max() < 0.02


def test_what_the_valley_settles_at_agrees_with_the_closed_forms(valley):
    for sharp in VALLEY.sharpnesses:
        case, eta = case_of(sharp), sharp / VALLEY.condition
        ratio = values(valley, case, "variance") / values(valley, case, "expected")
        np.testing.assert_allclose(ratio, 1, atol=0.03)
        for cross in VALLEY.crosses:
            problem = Valley(VALLEY.condition, cross)
            found = {q: values(valley, case, q)[cross] for q in ("share", "typical", "progress")}
            assert found["share"] == pytest.approx(problem.share(eta))
            assert found["typical"] == pytest.approx(problem.typical_alignment(eta), abs=0.01)
            assert found["progress"] == pytest.approx(problem.bulk_progress(eta), rel=0.08)
            assert 0.5 < values(valley, case, "alignment")[cross] <= found["typical"]


def test_a_valley_without_noise_settles_on_its_floor():
    e = ValleySimulation(
        **SHORT,
        learning_rate=5e-4,
        cross=0.0,
        paths=2,
        settle_paths=2,
        sharpnesses=(0.5,),
        crosses=(0.0,),
    )
    run = done(e)
    assert values(run, "ηκ = 0.5", "variance")[0] == values(run, "ηκ = 0.5", "expected")[0] == 0
    assert values(run, "ηκ = 0.5", "progress")[0] == 1


def test_what_the_regression_settles_at_agrees_with_the_closed_forms(regression):
    e = REGRESSION
    ratio = values(regression, "settled", "variance") / values(regression, "settled", "expected")
    np.testing.assert_allclose(ratio.iloc[: e.outliers], 1, atol=0.1)
    assert ratio.mean() == pytest.approx(1, abs=0.05)


def test_a_run_is_stored_found_again_and_parsed(tmp_path, monkeypatch):
    results = Store(tmp_path)
    monkeypatch.setattr(store_module, "CHECKPOINT_SECONDS", 0.0)  # a checkpoint at every chance
    small = REGRESSION.model_copy(update={"paths": 2, "settle_paths": 2})
    first = results.run(small)
    assert list(results.checkpoints.glob("*.safetensors")) == []
    assert first.experiment.key.startswith("regression-s0-")
    monkeypatch.setattr(runs, "start", None)  # computing would fail
    pd.testing.assert_frame_equal(results.run(small).table, first.table)
    for kind in (small, VALLEY):
        assert runs.described(kind.describe()) == kind
    assert small.key != small.model_copy(update={"seed": 1}).key


def test_an_interrupted_run_starts_again_with_the_same_numbers(tmp_path):
    small = VALLEY.model_copy(update={"paths": 2, "settle_paths": 2})
    whole, resumed = SimulationRun(small), SimulationRun(small)
    whole.train()
    write_tensors(tmp_path / "checkpoint", whole.state())
    resumed.load_state(read_tensors(tmp_path / "checkpoint"))
    resumed.train()
    pd.testing.assert_frame_equal(resumed.table(), whole.table())


def test_a_branch_that_diverges_says_so_and_leaves_the_others():
    """SGD's noise is multiplied: it may diverge where GD does not."""
    e = REGRESSION.model_copy(
        update={"learning_rate": 0.015, "batch_size": 1, "steps": 3000, "paths": 2}
        | {"settle_paths": 2, "settle_steps": 2}
    )
    run = done(e)
    assert run.status.startswith("diverged at step")
    assert np.isfinite(run.table()["value"]).all()


@pytest.mark.parametrize(
    ("kind", "fields", "allowed"),
    [
        (ValleySimulation, {"learning_rate": 0.002}, "SGD must converge"),
        (ValleySimulation, {"learning_rate": 1e-3, "cross": 400.0}, "cross = 400 is not possible"),
        (
            ValleySimulation,
            {"sharpnesses": (0.5, 2.5), "crosses": (1.0,)},
            "sharpnesses = 2.5 is not allowed",
        ),
        (
            ValleySimulation,
            {"sharpnesses": (-0.5,), "crosses": (1.0,)},
            "sharpnesses = -0.5 is not allowed",
        ),
        (ValleySimulation, {"condition": 1.0}, "greater than 1"),
        (ValleySimulation, {"steps": 2000}, "must be below steps"),
        (ValleySimulation, {"switch_step": 50}, "greater than or equal to 100"),
        (RegressionSimulation, {"outliers": 200}, "below dimension"),
        (RegressionSimulation, {"paths": 0}, "greater than or equal to 1"),
    ],
)
def test_a_bad_value_is_one_sentence(kind, fields, allowed):
    with pytest.raises(InvalidParameter, match=allowed) as error:
        kind.parse(**fields)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
