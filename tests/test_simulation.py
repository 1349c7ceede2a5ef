"""Simulations: branches against recursions written anew, what they settle at, the store."""

import numpy as np
import pandas as pd
import pytest

from subspace_lib import runs
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results import store as store_module
from subspace_lib.results.checkpoint import read_tensors, write_tensors
from subspace_lib.results.store import Store
from subspace_lib.runs.simulation import (
    BRANCHES,
    RegressionSimulation,
    SimulationRun,
    ValleySimulation,
)
from subspace_lib.theory.valley import Valley

SHORT = {"steps": 120, "switch_step": 40, "full_steps": 30, "batch_sizes": (10,)}
VALLEY = ValleySimulation(**SHORT, paths=4000, settle_paths=2000, sharpnesses=(0.3, 1.5))
REGRESSION = RegressionSimulation(
    **SHORT | {"batch_sizes": (40,)},
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
    e, losses = run.experiment, {}
    assert run.status == "complete" and run.step == e.steps and run.seconds > 0
    for case in (*BRANCHES, f"batch {e.batch_sizes[0]}"):
        losses[case] = values(run, case, "train_loss")
        assert losses[case].index[0] == e.switch_step and losses[case].index[-1] == e.steps
    before = values(run, "start", "train_loss")
    assert list(before.index) == list(range(e.switch_step + 1))
    assert {curve.iloc[0] for curve in losses.values()} == {before.iloc[-1]}
    kept = e.switch_step + e.full_steps
    assert (losses["back"].loc[:kept] == losses["GD"].loc[:kept]).all()
    assert (
        values(run, "back", "alignment").loc[kept + 10] > values(run, "GD", "alignment").loc[kept]
    )


def test_gd_in_the_valley_is_the_plain_recursion(valley):
    """From the mean squares at the switch, without any noise."""
    steep, flat = (values(valley, "SGD", name).iloc[0] for name in ("steep", "flat"))
    e, sharp = VALLEY, VALLEY.learning_rate * VALLEY.condition
    for step, loss in values(valley, "GD", "train_loss").items():
        t = 2 * (step - e.switch_step)
        expected = e.condition * steep * (1 - sharp) ** t + flat * (1 - e.learning_rate) ** t
        assert loss == pytest.approx(expected / 2)


@pytest.mark.parametrize("case", ["Dom-SGD", "Bulk-SGD"])
def test_projected_branches_move_in_their_own_coordinates_only(case):
    """Without noise the paths are known: each coordinate shrinks by 1 − ηλ a step, or stays."""
    e = ValleySimulation(**SHORT, cross=0.0, paths=2, settle_paths=1)
    run = done(e)
    values_, start = run.problem.values, np.array(e.start)
    at_switch = start * (1 - e.learning_rate * values_) ** e.switch_step
    moving = np.array([case == "Dom-SGD", case == "Bulk-SGD"])
    steps = e.steps - e.switch_step
    end = at_switch * np.where(moving, (1 - e.learning_rate * values_) ** steps, 1)
    assert values(run, case, "train_loss").iloc[-1] == pytest.approx((values_ * end**2).sum() / 2)


def test_mean_squares_are_those_of_the_exact_moments(valley):
    exact = valley.problem.moments(VALLEY.learning_rate, VALLEY.start, VALLEY.steps)
    for i, name in enumerate(("steep", "flat")):
        both = pd.concat([values(valley, case, name) for case in ("start", "SGD")])
        found = both[~both.index.duplicated()].to_numpy()
        np.testing.assert_allclose(found[3:], exact[3:, i], rtol=0.08)  # 4,000 paths
        assert abs(np.mean(found[3:] / exact[3:, i]) - 1) < 0.02


def test_a_batch_of_signs_has_its_share_of_the_variance():
    drawn = Valley().draw(np.random.default_rng(0), 10, 20_000)
    assert set(np.round(5 * (drawn + 1)).astype(int)) <= set(range(11))
    assert abs(drawn.mean()) < 0.01 and drawn.var() == pytest.approx(0.1, rel=0.05)


def test_what_the_valley_settles_at_agrees_with_the_closed_forms(valley):
    ratio = values(valley, "ηκ", "variance") / values(valley, "ηκ", "expected")
    np.testing.assert_allclose(ratio, 1, atol=0.05)
    for sharp, energy in values(valley, "ηκ", "energy").items():
        eta, problem = sharp / VALLEY.condition, VALLEY.valley
        assert energy == pytest.approx(problem.stationary_alignment(eta, 1.0), abs=0.02)
        appears, vanishes = (values(valley, "ηκ", q)[sharp] for q in ("appears", "vanishes"))
        assert abs(appears - problem.steps_to_appear(eta, 1.0, 0.8)) <= 1
        assert abs(vanishes - problem.steps_to_vanish(eta, 1.0, 0.1)) <= 1


def test_a_valley_without_noise_settles_on_its_floor():
    e = ValleySimulation(**SHORT, cross=0.0, paths=2, settle_paths=2, sharpnesses=(0.5,))
    run = done(e)
    assert values(run, "ηκ", "variance")[0.5] == values(run, "ηκ", "expected")[0.5] == 0
    assert np.isnan(values(run, "ηκ", "appears")[0.5]) and values(run, "ηκ", "vanishes")[0.5] == 0


def test_what_the_regression_settles_at_agrees_with_the_closed_forms(regression):
    e = REGRESSION
    ratio = values(regression, "settled", "variance") / values(regression, "settled", "expected")
    np.testing.assert_allclose(ratio.iloc[: e.outliers], 1, atol=0.1)
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    for size, predicted in values(regression, "predicted", "energy").items():
        case = "SGD" if size == e.batch_size else f"batch {size:g}"
        assert values(regression, case, "energy").iloc[-1] == pytest.approx(predicted, abs=0.06)


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
    e = REGRESSION.model_copy(
        update={
            "learning_rate": 0.015,
            "batch_size": 90,
            "batch_sizes": (1,),
            "steps": 1500,
            "paths": 2,
            "settle_paths": 2,
            "settle_steps": 2,
        }
    )
    run = done(e)
    assert run.status.startswith("diverged at step")
    assert values(run, "batch 1", "train_loss").index[-1] < e.steps
    assert values(run, "SGD", "train_loss").index[-1] == e.steps
    assert np.isfinite(run.table()["value"]).all()


@pytest.mark.parametrize(
    ("kind", "fields", "allowed"),
    [
        (ValleySimulation, {"learning_rate": 0.002}, "below 2"),
        (ValleySimulation, {"batch_sizes": (0,)}, "different from each other"),
        (ValleySimulation, {"condition": 1.0}, "greater than 1"),
        (RegressionSimulation, {"outliers": 200}, "below dimension"),
        (RegressionSimulation, {"batch_sizes": (10,)}, "from batch_size = 10"),
        (RegressionSimulation, {"paths": 0}, "greater than or equal to 1"),
    ],
)
def test_a_bad_value_is_one_sentence(kind, fields, allowed):
    with pytest.raises(InvalidParameter, match=allowed) as error:
        kind.parse(**fields)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
