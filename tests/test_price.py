"""The price over plain SGD: seconds that add up, checks that do not count, and a truth that is one."""

import itertools
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import few_digits
from scipy.sparse.linalg import LinearOperator, eigsh

from subspace_lib.benchmark import __main__ as benchmark, aims, price
from subspace_lib.benchmark.price import Lap, Plain, Price, Truth, Way
from subspace_lib.benchmark.problem import K
from subspace_lib.chapters.cost import figures, study, tables
from subspace_lib.chapters.kit import says
from subspace_lib.linalg.eigensolver import orthonormalize
from subspace_lib.results.store import MissingRun
from subspace_lib.runs.trainer import Trainer

WAYS = (
    Way("none", rows=True, follows=False),
    *(Way(name, rows=False, checks=1) for name in ("none", "dominant", "bulk")),
    Way("dominant", rows=True),
    Way("dominant", rows=False, budget=2.0, checks=1),
)
SMALL = Price("digits", "mlp", "standardized", 0.01, 40, 100, WAYS, torch.float64)


@pytest.fixture(scope="module", autouse=True)
def digits_are_few():
    with few_digits():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("points")


@pytest.fixture
def begun(folder):
    """A run that has done its cold start and one step."""
    return price.cold_start(SMALL, folder)[0]


@pytest.fixture(scope="module")
def measured(folder):
    return price.price(SMALL, folder)


@pytest.fixture(scope="module")
def found(measured):
    machine = {"cpu": "", "threads": 1, "python": "", "packages": {}, "commit": "", "date": ""}
    return {"price": {"mlp": measured | {"machine": machine}}}


def test_a_run_pays_for_what_it_does_and_for_nothing_else(measured):
    at_rows, followed, dominant, bulk, with_rows, limited = measured["rows"]
    for row in measured["rows"]:
        shares = figures.shares(row)
        assert sum(shares.values()) == pytest.approx(row["ratio"])
        assert (row["recording"] > 0) == row["rows"]
        assert min(row["ratio"], row["following"], row["looks"]) > 0
    assert at_rows["looks"] == 1  # the step 90 alone, of 41 … 140
    assert min(followed["looks"], dominant["looks"], bulk["looks"]) > 1
    assert with_rows["gradient_equivalents"] > dominant["gradient_equivalents"]
    batch = 50 / 300
    assert at_rows["gradient_equivalents"] >= batch
    # A step of its own, and once more of that for the subspace.
    assert limited["gradient_equivalents"] <= 2 * batch
    assert limited["gradient_equivalents"] < dominant["gradient_equivalents"]


def test_the_cold_start_is_counted_apart(measured):
    cold = measured["cold_start"]
    assert cold["products"] >= K and cold["gradient_equivalents"] > K and cold["seconds"] > 0
    spent = measured["rows"][0]["gradient_equivalents"] * SMALL.steps
    assert spent < SMALL.steps * 50 / 300 + cold["gradient_equivalents"]


def test_the_truth_is_that_of_another_solver_and_sees_a_basis_that_is_turned(begun):
    theta, truth, subspace = begun.theta, Truth(SMALL), begun.subspace
    hessian, shape = truth.objective.hessian(theta.double()), (len(theta), len(theta))

    def multiply(v):
        return (hessian @ torch.tensor(v).reshape(-1, 1)).numpy().reshape(v.shape)

    product = LinearOperator(shape, multiply, dtype=np.float64)
    _, vectors = eigsh(product, K + 1, which="LA", tol=1e-6)
    vectors = torch.tensor(vectors.copy()).flip(1)
    exact, outside = vectors[:, :K], vectors[:, K:]
    turned = torch.cat([exact[:, :-1], (1 - 0.2**2) ** 0.5 * exact[:, -1:] + 0.2 * outside], 1)
    gradient = truth.objective.gradient(theta.double())[1]
    for basis, sine in ((exact, 0.0), (turned, 0.2)):
        guards = orthonormalize(torch.randn(len(theta), 3, dtype=torch.float64), basis)
        subspace.vectors = torch.cat([basis, guards], 1).float()
        seen = truth.check(theta, subspace, begun.step)
        # It solves to a sine of 3e-3.
        assert seen["angle"] == pytest.approx(sine, abs=3e-3)
        error = abs(float((basis.T @ gradient).norm() - (exact.T @ gradient).norm()))
        assert seen["alignment_error"] == pytest.approx(error / float(gradient.norm()), abs=1e-4)


@pytest.mark.parametrize("model", ["mlp_small", "resnet8_quarter"])
def test_the_truth_is_of_the_function_that_is_trained(model):
    setting = Price("digits_300", model, "unit", 0.1, 1, 1, ())
    trainer = Trainer(setting.experiment())
    own = float(trainer.objective.gradient(trainer.theta)[0])
    assert float(Truth(setting).objective.gradient(trainer.theta)[0]) == pytest.approx(
        own, rel=1e-6
    )


def test_checks_are_off_the_clock_and_see_the_point_that_the_basis_was_used_at(begun):
    thetas = {}

    class Slow:
        def check(self, theta, used, step):
            thetas[step] = theta
            begun = time.process_time()
            while time.process_time() - begun < 0.5:
                pass
            return {"step": step}

    before = begun.total
    lap = Lap(begun, Slow(), [43, 44, 49])
    lap.turn(9)  # 41 … 49
    assert [check["step"] for check in lap.seen] == [43, 44, 49] and begun.step == 50
    assert begun.total - before < 3 * 0.5
    trainer = Trainer(SMALL.experiment())
    while trainer.step < 44:
        trainer.advance()
    torch.testing.assert_close(thetas[44], trainer.theta)


def test_a_run_that_diverges_is_not_priced(begun):
    begun.trainer.theta = begun.theta * float("nan")
    with pytest.raises(RuntimeError, match=r"^SGD: diverged at step 41; it cannot be priced\.$"):
        begun.go(5)


def test_training_up_to_the_switch_is_kept_and_another_setting_has_its_own(tmp_path, monkeypatch):
    first = price.point(SMALL, tmp_path)
    assert int(first["counts"][0]) == SMALL.start
    monkeypatch.setattr(Trainer, "advance", lambda self: pytest.fail("trained again"))
    torch.testing.assert_close(price.point(SMALL, tmp_path)["theta"], first["theta"])
    # How far is measured has nothing to do with it.
    price.point(replace(SMALL, steps=7), tmp_path)
    with pytest.raises(pytest.fail.Exception):
        price.point(replace(SMALL, learning_rate=0.02), tmp_path)


def test_the_ways_take_turns_with_plain_sgd_at_both_ends(folder, monkeypatch):
    order = []

    def turn(self, steps):
        order.append(("plain", steps))
        self.total += 1

    monkeypatch.setattr(Plain, "turn", turn)
    monkeypatch.setattr(Lap, "turn", lambda self, n: order.append((self.run.experiment.method, n)))
    monkeypatch.setattr(price, "TURN", 50)
    price.price(SMALL, folder)
    names = ["plain", "SGD", "SGD", "Dom-SGD", "plain", "Bulk-SGD", "Dom-SGD", "Dom-SGD"]
    assert order == [(name, n) for n in (50, 50) for name in names]


def test_the_book_tells_the_prices_by_the_numbers(found, measured):
    text = tables.answer(found).data
    dominant = measured["rows"][2]
    assert f"Dom-SGD takes {dominant['ratio']:.1f} times the seconds of plain SGD" in text
    checks = itertools.chain.from_iterable(r["checks"] for r in measured["rows"][:5])
    assert f"{max(check['angle'] for check in checks):.3f} of the exact one" in text
    beyond = [c["angle"] > c["known"] for r in measured["rows"][:5] for c in r["checks"]]
    assert f"than the tracker had estimated at {says.counted(beyond, 'step')}." in text
    assert "At 3 random steps of theirs" in text and "With a budget of 2, Dom-SGD takes" in text
    shown = tables.price(found).data.replace("\N{NON-BREAKING HYPHEN}", "-")
    names = [figures.way(row) for row in measured["rows"]]
    assert len(set(names)) == len(names) and all(name in shown for name in names)
    axes = figures.price(found).figure.axes[0]
    ends = [
        round(sum(bar.get_width() for bar in bars), 6)
        for bars in zip(*axes.containers, strict=True)
    ]
    assert ends == [round(row["ratio"], 6) for row in measured["rows"]]
    bare = [row | {"budget": 10.0} for row in measured["rows"][1:4]]
    text = tables.answer({"price": {"mlp": measured | {"rows": bare}}}).data
    assert f"with a budget of 10 Dom-SGD takes {dominant['ratio']:.1f} times" in text
    assert "With a budget, Dom-SGD" not in text


def test_prices_that_are_not_there_are_asked_for_and_their_aims_are_not_met():
    with pytest.raises(MissingRun, match="no prices; run `python"):
        tables.answer({"cases": {}})
    stored = study.stored() | {"price": {}}
    missing = [aim for aim in aims.aims(stored) if aim.measured == "not measured"]
    assert len(missing) == 2 * (len(aims.PRICE["mlp"]) + 3) + len(price.BUDGETS)
    assert not any(aim.met for aim in missing)


def test_an_aim_takes_the_dearest_run_that_it_speaks_of(found):
    stored = study.stored() | found
    spoken = {aim.wanted: aim for aim in aims.aims(stored)}
    rows = found["price"]["mlp"]["rows"]
    dominant = next(r for r in rows if r["projection"] == "dominant" and r["rows"])
    limit = aims.PRICE["mlp"]["dominant"]
    aim = spoken[f"MLP after the switch, with rows: Dom-SGD for ≤ {limit:g} × plain SGD"]
    assert aim.measured == f"{dominant['ratio']:.1f}" and aim.met == (dominant["ratio"] <= limit)
    assert (
        spoken["MLP after the switch, with rows: Bulk-SGD for ≤ 4 × plain SGD"].measured
        == "not measured"
    )


def test_a_part_is_measured_alone_and_the_others_stay(tmp_path, monkeypatch):
    file, seen = tmp_path / "benchmark.json", []
    monkeypatch.setattr(benchmark, "COMMITTED", tmp_path)
    monkeypatch.setattr(price, "price", lambda setting: seen.append(setting) or {"rows": []})
    file.write_text(json.dumps({"memory": {"measured": 1}, "price": {"mlp": "before"}}))
    benchmark.main(["--part", "price-cnn", "--cnn-steps", "30"])
    found = json.loads(file.read_text())
    assert found["memory"] == {"measured": 1} and found["price"]["mlp"] == "before"
    assert found["price"]["cnn"]["machine"]["threads"] == 1
    assert [(setting.model, setting.steps) for setting in seen] == [("cnn", 30)]
    assert price.PRICES["cnn"].steps == 2000 == price.PRICES["mlp"].steps


@pytest.mark.parametrize("steps", ["0", "-3", "many"])
def test_a_number_of_steps_that_is_none_is_refused(steps, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--part", "price-cnn", f"--cnn-steps={steps}"])
    assert f"'{steps}' must be a number of steps of at least 1." in capsys.readouterr().err
