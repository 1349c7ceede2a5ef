"""The training loop against torch.optim, and the protocol of the switch."""

import math

import pandas as pd
import pytest
import torch

from subspace_lib import data, models
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_step
from subspace_lib.experiment import Experiment
from subspace_lib.linalg.eigensolver import (
    NonFiniteProduct,
    nearest_orthonormal,
    sin_largest_angle,
    top_eigenpairs,
)
from subspace_lib.objective import LOSSES
from subspace_lib.runs.batches import Batches
from subspace_lib.runs.training import COLUMNS, Run
from subspace_lib.subspace import restrict
from subspace_lib.trajectory import Trajectory

pytestmark = pytest.mark.usefixtures("narrow_mlp")
WIDE = models.ARCHITECTURES["mlp"]

QUICK = {
    "dataset": "digits",
    "k": 5,
    "guards": 2,
    "record_every": 10,
    "spectrum_every": 1000,
    "refresh_every": 10,
}
FEW = QUICK | {"classes": 3}  # 452 samples


def test_sgd_equals_torch_optim_for_100_steps(digits):
    run = Run(Experiment(**QUICK, steps=100, switch_step=99))
    model = models.build("mlp", digits.shape, 10, seed=0)
    reference = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(100):
        rows = run.trainer.batches.rows(step)
        reference.zero_grad()
        loss = LOSSES["mse"](model(digits.train_inputs[rows]), digits.train_labels[rows])
        loss.backward()
        reference.step()
    run.train()
    expected = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    torch.testing.assert_close(run.theta, expected, rtol=1e-5, atol=1e-6)  # float32 rounding


def test_batches_are_a_function_of_seed_and_step():
    batches = Batches(samples=23, size=5, seed=3)
    epoch = [batches.rows(step) for step in range(5)]
    assert [len(rows) for rows in epoch] == [5, 5, 5, 5, 3]
    assert sorted(torch.cat(epoch).tolist()) == list(range(23))
    again = Batches(samples=23, size=5, seed=3)
    assert torch.equal(again.rows(7), batches.rows(7))  # without the steps before it
    assert not torch.equal(Batches(23, 5, seed=4).rows(0), epoch[0])
    assert not torch.equal(batches.rows(5), epoch[0])


def test_branches_start_from_the_same_point_and_split_the_update():
    plain = Run(Experiment(**FEW, steps=40))
    starts = {}

    def remember(run):
        if run.step in (20, 21):
            starts[run.experiment.projection, run.step] = run.theta

    plain.train(remember)
    for projection in ("dominant", "bulk"):
        branch = Run(Experiment(**FEW, steps=40, switch_step=20, projection=projection))
        branch.train(remember)
        assert branch.table()["step"].tolist() == [20, 30, 40]
        assert torch.equal(starts[projection, 20], starts["none", 20])
        assert branch.table()["train_loss"][0] == plain.table().set_index("step")["train_loss"][20]
    moves = {p: starts[p, 21] - starts[p, 20] for p in ("none", "dominant", "bulk")}
    # Same point, same minibatch, the basis refreshed there: the two parts add up to SGD's step.
    total = moves["dominant"] + moves["bulk"]
    assert (total - moves["none"]).norm() < 1e-2 * moves["none"].norm()
    assert abs(moves["dominant"] @ moves["bulk"]) < 1e-2 * moves["none"].norm() ** 2


def test_restrict_by_definition():
    class Plane:
        def project(self, v):
            return v * torch.tensor([1.0, 1.0, 0.0])

    u = torch.tensor([1.0, 2.0, 3.0])
    assert restrict(u, "none", Plane()).tolist() == [1, 2, 3]
    assert restrict(u, "dominant", Plane()).tolist() == [1, 2, 0]
    assert restrict(u, "bulk", Plane()).tolist() == [0, 0, 3]


def test_a_diverging_run_keeps_its_measurements_and_says_where():
    run = Run(Experiment(**FEW, steps=200, learning_rate=50.0))
    run.train()
    assert run.status.startswith("diverged at step ")
    step = int(run.status.rsplit(" ", 1)[1])
    assert run.step == step > 0
    assert run.table()["step"].max() <= step
    assert len(run.table()) >= 1


ENDLESS = {
    "a loss too large for a float32": {"learning_rate": 1e10},
    "the same in the projected rule": {"learning_rate": 1e10, "projection": "dominant"},
    "products too large to multiply": {
        "learning_rate": 100.0,
        "classes": 2,
        "projection": "bulk",
        "switch_step": 3,
    },
    "noise too large": {"learning_rate": 1e10, "batch_size": 1500, "noise": "sgd"},
}


@pytest.mark.parametrize("fields", ENDLESS.values(), ids=ENDLESS)
def test_whatever_overflows_ends_a_run_with_the_step_at_which_it_did(fields):
    size = QUICK if fields.get("noise") else FEW
    run = Run(Experiment(**size | fields, steps=30))
    run.train()
    assert run.status == f"diverged at step {run.step}" and run.step < 30


@pytest.mark.parametrize("entry", [float("nan"), float("inf"), 1e200])
def test_a_matrix_that_cannot_be_decomposed_is_a_non_finite_product(entry):
    block = torch.full((5, 2), entry, dtype=torch.float64)
    with pytest.raises(NonFiniteProduct, match="too large"):
        nearest_orthonormal(block)


def test_a_run_ends_where_a_recorded_loss_is_above_its_ceiling():
    fields = QUICK | {"k": 2, "guards": 2, "classes": 3, "record_every": 5, "steps": 20}
    fields |= {"optimizer": "adam", "learning_rate": 0.3}
    whole, stopped = Run(Experiment(**fields)), Run(Experiment(**fields, stop_above=1.5))
    whole.train()
    stopped.train()
    losses = whole.table()["train_loss"]
    above = losses > 1.5 * losses[0]
    assert whole.status == "complete" and above.any()  # finite, so only the ceiling can end it
    rows = stopped.table()
    assert rows["train_loss"].tolist() == losses[: len(rows)].tolist()
    assert above.idxmax() == len(rows) - 1
    assert stopped.status == f"diverged at step {rows['step'].iloc[-1]}"


def test_rows_are_what_they_say(digits):
    run = Run(Experiment(**QUICK, steps=30, watch_alignment=0.999, watch_from=5, switch_from=5))
    run.train()
    table = run.table()
    assert list(table.columns) == list(COLUMNS)
    assert table["step"].tolist() == [0, 10, 20, 30]
    loss, accuracy = run.objective.evaluate(run.theta, digits.test_inputs, digits.test_labels)
    assert table["test_loss"].iloc[-1] == loss
    assert table["test_accuracy"].iloc[-1] == accuracy
    full_loss, full = run.objective.gradient(run.theta)
    assert table["train_loss"].iloc[-1] == pytest.approx(float(full_loss), rel=1e-5)
    assert table["gradient_norm"].iloc[-1] == pytest.approx(float(full.norm()), rel=1e-4)
    assert table["alignment"].iloc[-1] == pytest.approx(run.subspace.alignment(full), abs=1e-4)
    assert table[[c for c in COLUMNS if c.startswith("eigen")]].iloc[0].is_monotonic_decreasing


def test_rows_can_be_kept_to_spans_of_steps():
    run = Run(Experiment(**FEW, steps=90, switch_step=5, record_spans=[[10, 25], [70, 80]]))
    run.train()
    assert run.table()["step"].tolist() == [5, 10, 20, 70, 80, 90]


def test_descent_predicts_the_change_of_the_loss(digits):
    """Second-order expansion of one small SGD step, and the share of its dominant part."""
    e = Experiment(**(QUICK | {"record_every": 1}), steps=3, learning_rate=1e-3, batch_size=1500)
    run, losses = Run(e), []

    def remember(run):
        losses.append(float(run.objective.gradient(run.theta)[0]))

    before = float(run.objective.gradient(run.theta)[0])
    run.train(remember)
    predicted = run.table()["descent"][0]
    assert predicted == pytest.approx(before - losses[0], rel=2e-3)
    assert 0 < run.table()["descent_dominant"][0] < predicted


EMA = 0.9  # of the paper's public replication
WATCHED = {"watch_alignment": 0.999, "watch_from": 0, "switch_from": 0}


def test_the_watched_average_is_that_of_the_full_gradients_alignments():
    watched, alignments, averages = Run(Experiment(**FEW, steps=3, **WATCHED)), [], []
    watched.watch.sharpen(0)

    def note(run):
        _, full = run.objective.gradient(before.pop())
        alignments.append(run.subspace.alignment(full))
        averages.append(run.watch.average)
        before.append(run.theta)

    before = [watched.theta]
    watched.train(note)
    assert averages[0] == pytest.approx(alignments[0])
    assert averages[1] == pytest.approx(EMA * alignments[0] + (1 - EMA) * alignments[1])


def test_watching_goes_back_to_before_the_first_odd_step_that_was_followed():
    few = FEW | {"record_every": 100, "refresh_every": "adaptive", "period": 2}
    e = Experiment(**few, steps=260, **(WATCHED | {"watch_alignment": 0.6, "watch_from": 100}))
    coarse, dense = Run(e), Run(e)
    dense.watch.sharpen(100)
    for run in (coarse, dense):
        run.train()
    assert coarse.status == dense.status == "complete"
    assert coarse.trigger_step == dense.trigger_step is not None


@pytest.mark.parametrize("threshold", [0.6])
def test_coarse_watching_finds_the_step_that_watching_everywhere_finds(threshold):
    """Also where it has gone back, and where it goes on from a checkpoint on its way."""
    few = FEW | {"record_every": 100}
    e = Experiment(
        **few, steps=260, **(WATCHED | {"watch_alignment": threshold, "watch_from": 100})
    )
    coarse, states = Run(e), []
    coarse.train(lambda run: run.step % 70 == 0 and states.append(run.state()))
    dense, averages = Run(e), {}
    dense.watch.sharpen(100)
    dense.train(lambda run: averages.setdefault(run.step - 1, run.watch.average))
    first = next((step for step in range(100, 260) if averages[step] > threshold), None)
    assert first is not None and first > 150
    assert dense.trigger_step == first
    assert coarse.trigger_step == first
    again = Run(e)
    again.load_state(states[1])
    again.train()
    assert again.trigger_step == first
    columns = list(set(COLUMNS) - {"seconds"})
    pd.testing.assert_frame_equal(again.table()[columns], coarse.table()[columns])


def test_the_switch_comes_not_before_its_first_step_and_at_its_last_in_any_case():
    def trigger(**changes):
        run = Run(Experiment(**FEW, steps=60, **(WATCHED | changes)))
        run.train()
        return run.trigger_step

    assert trigger(watch_alignment=0.01, switch_from=20) == 20
    assert trigger(switch_by=30) == 30
    assert trigger() is None


@pytest.mark.parametrize(
    ("alignment", "trigger", "expected"),
    [
        (0.95, 200, (200, True)),
        (0.95, 300, (300, False)),  # by the fallback
        (0.95, None, (300, False)),
        (None, None, (300, False)),
    ],
)
def test_the_switch_is_where_the_alignment_or_else_the_parameter_says(alignment, trigger, expected):
    parameters = SwitchParameters(switch_alignment=alignment, switch_step=300)
    plain = Trajectory(parameters.experiment(0), pd.DataFrame(), "complete", trigger, {})
    assert switch_step(parameters, plain) == expected


def test_state_holds_everything_that_the_rest_depends_on():
    e = Experiment(
        **(FEW | {"refresh_every": "adaptive"}), steps=30, projection="bulk", switch_step=5
    )
    whole = Run(e)
    whole.train()

    class Enough(Exception):
        pass

    def stop(run):
        if run.step == 17:
            raise Enough

    first = Run(e)
    with pytest.raises(Enough):
        first.train(stop)
    second = Run(e)
    second.load_state(first.state())
    second.train()
    assert torch.equal(second.theta, whole.theta)
    pd.testing.assert_frame_equal(
        second.table().drop(columns="seconds"), whole.table().drop(columns="seconds")
    )


def test_digits_need_nothing_and_are_split_without_overlap():
    dataset = data.load("digits")
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (1500, 297)
    assert dataset.shape == (1, 8, 8)
    assert (float(dataset.train_inputs.min()), float(dataset.train_inputs.max())) == (0, 1)
    standardized = data.load("digits", "standardized")
    assert math.isclose(float(standardized.train_inputs.mean()), 0, abs_tol=0.01)


def test_gradient_descent_has_its_learning_rate_in_both_subspaces_and_keeps_the_top_vectors_sign():
    e = Experiment(**(FEW | {"record_every": 1, "refresh_every": 1}), steps=12, batch_size=452)
    run = Run(e)
    run.train()
    table = run.table()
    assert table["dominant_rate"].to_numpy() == pytest.approx(0.01, rel=1e-3)
    assert table["bulk_rate"].to_numpy() == pytest.approx(0.01, rel=1e-3)
    assert table["update_norm"].to_numpy() == pytest.approx(0.01 * table["gradient_norm"], rel=1e-4)
    assert table["update_alignment"].to_numpy() == pytest.approx(table["alignment"], abs=1e-3)
    assert (table["gradient_top"].abs() <= table["gradient_norm"]).all()
    # far below 2/η the gradient along a slowly turning eigenvector changes slowly
    assert (table["gradient_top"].iloc[6:] * table["gradient_top"].iloc[6] > 0).all()


EDGE = {
    "preprocessing": "standardized",
    "dataset": "digits",
    "classes": 3,
    "k": 2,
    "guards": 3,
    "batch_size": 452,
    "learning_rate": 0.15,
    "switch_step": 150,
    "steps": 190,
    "record_every": 35,
    "spectrum_every": 35_000,
}


@pytest.fixture(scope="module")
def bouncing():
    """GD at its edge of stability, followed with period 1 and with period 2; the angles of the latter.

    A narrow network is below the edge there: from here on it is as wide as the paper's.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.ARCHITECTURES, "mlp", WIDE)
        found = {}
        for period in (1, 2):
            run, other = Run(Experiment(**EDGE, period=period)), Run(Experiment(**EDGE))
            run.follows = True  # GD has no use for the subspace between rows
            angles, states = [], {}
            while run.status == "running":
                theta, step, used = run.theta, run.step, run.subspace
                run.advance()
                if run.step in (173, 174):
                    states[run.step] = run.state()
                if step >= 170 and step % 5 == 0:
                    hessian = other.objective.hessian(theta)  # counts its products elsewhere
                    exact = top_eigenpairs(hessian, 2, used.vectors, tolerance=1e-4).vectors[:, :2]
                    angles.append(sin_largest_angle(used.basis, exact))
            found[period] = run, angles, states
        yield found


@pytest.mark.whole
def test_where_training_bounces_two_subspaces_turn_less_and_are_looked_at_less_often(bouncing):
    one, two = bouncing[1][0], bouncing[2][0]
    assert (one.table()["train_loss"] == two.table()["train_loss"]).all()  # only followed
    assert min(s.interval for s in two.subspaces) > one.subspace.interval
    assert two.table()["turn"].iloc[-1] < one.table()["turn"].iloc[-1]
    assert max(bouncing[2][1]) <= two.experiment.target_angle


@pytest.mark.whole
@pytest.mark.parametrize("step", [173, 174])
def test_a_run_that_follows_two_subspaces_goes_on_from_either(bouncing, step):
    whole, _, states = bouncing[2]
    again = Run(whole.experiment)
    again.follows = True
    again.load_state(states[step])
    again.train()
    columns = list(set(COLUMNS) - {"seconds"})
    pd.testing.assert_frame_equal(again.table()[columns], whole.table()[columns])
