"""Windows of updates: against sums written anew and another solver; resumed as if undisturbed."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import few_digits, reference
from test_survey import failing

from subspace_lib.chapters.momentum_adam import figures, tables
from subspace_lib.chapters.momentum_adam.judge import judge
from subspace_lib.chapters.momentum_adam.study import (
    MomentumParameters,
    MomentumStudy,
    momentum_study,
)
from subspace_lib.experiment import Experiment, Phase
from subspace_lib.linalg.eigensolver import top_eigenpairs
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.checkpoint import read_tensors, write_tensors
from subspace_lib.results.store import Store
from subspace_lib.runs import amplification as module
from subspace_lib.runs.amplification import Amplification, AmplificationRun
from subspace_lib.runs.rates import amplification, directions, linear_rule, part_rates
from subspace_lib.runs.training import Run
from subspace_lib.trajectory import Trajectory

FIELDS = {"dataset": "digits", "k": 3, "guards": 2, "classes": 3, "batch_size": 20}
RESUMED = (15, 30, 42)
RULES = {
    "sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": "momentum", "learning_rate": 0.02, "beta": 0.8},
    "adam": {"optimizer": "adam", "learning_rate": 0.001},
    "sam": {"optimizer": "sam", "rho": 0.1},
    "muon": {"optimizer": "muon", "learning_rate": 0.001},
}
NO_THEORY = ("sam", "muon")


def described(rule, **changes):
    before = (Phase(until=10, optimizer="sgd", learning_rate=0.05),)
    fields = {**FIELDS, "before": before, "switch_step": 10, "steps": 60, "anchors": (20, 45)}
    return Amplification(**fields | RULES[rule] | {"window": 10, "directions": 6} | changes)


@pytest.fixture(scope="module", params=RULES)
def measured(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("amplification") / "state"
    run, states = AmplificationRun(described(request.param)), {}

    def keep(run):
        if run.step in (10, *RESUMED):  # at 10 the rule has just begun
            write_tensors(path, run.state())
            states[run.step] = read_tensors(path)

    run.train(keep)
    return request.param, run, states


def finished(run):
    return Trajectory(run.experiment, run.table(), run.status, None, {})


def plain(e):
    """The plain run, and its points from step 0 on."""
    fields = {name: getattr(e, name) for name in Experiment.model_fields}
    run, points = Run(Experiment(**fields | {"steps": 100, "switch_step": 99})), []
    run.train(lambda run: points.append(run.theta))
    return run, [run.objective.initial(), *points]


def test_windows_are_sums_over_the_steps_of_the_plain_run(measured):
    """The part sums of the first window, from a plain run and a basis of their own."""
    _, done, _ = measured
    run, points = plain(done.experiment)
    middle = run.objective.hessian(points[25])
    start = torch.randn(run.objective.dim, 8, generator=torch.Generator().manual_seed(9))
    basis = top_eigenpairs(middle, 3, start, tolerance=1e-4).vectors[:, :3]
    products, squares, ratios = np.zeros(2), np.zeros(2), np.zeros(2)
    moved, felt = torch.zeros_like(points[0]), torch.zeros_like(points[0])
    for step in range(20, 30):
        u = points[step + 1] - points[step]
        _, g = run.objective.gradient(points[step])
        inside = basis @ (basis.T @ g)
        product = -np.array([float(u @ inside), float(u @ (g - inside))])
        square = np.array([float(inside @ inside), float((g - inside) @ (g - inside))])
        products, squares, ratios = products + product, squares + square, ratios + product / square
        moved, felt = moved + u, felt + g
    rates = part_rates(finished(done)).loc[20]
    # the basis is solved for to a residual of 0.005 λ₁ only
    np.testing.assert_allclose(rates["slope"], products / squares, rtol=0.02)
    np.testing.assert_allclose(rates["mean"], ratios / 10, rtol=0.02)
    outside = felt - basis @ (basis.T @ felt)
    expected = -float(moved @ outside) / float(outside @ outside)
    assert rates["displacement", "bulk"] == pytest.approx(expected, rel=0.02)
    assert (done.status, done.step) == ("complete", 55)


def test_the_driven_quadratic_is_close_to_the_network(measured):
    rule, done, _ = measured
    if rule in NO_THEORY:
        pytest.skip("there is no theory of it")
    found = directions([finished(done)])
    error = (found["driven"] / found["measured"] - 1).abs().median()
    assert error < (0.25 if rule == "adam" else 0.1)  # Adam's second moments are young here
    assert np.isfinite(found["predicted"]).all() and len(found) == 6
    eigenvalues = found["eigenvalue"].to_numpy()
    assert (np.diff(eigenvalues) < 1e-3 * eigenvalues[0]).all()


def test_a_rule_without_theory_is_measured_and_not_predicted(measured):
    """Rates along the eigendirections of the middle, from the plain run; no number of another rule's."""
    rule, done, _ = measured
    if rule not in NO_THEORY:
        assert linear_rule(done.experiment) is not None
        return
    run, points = plain(done.experiment)
    start = torch.randn(run.objective.dim, 8, generator=torch.Generator().manual_seed(9))
    top = top_eigenpairs(run.objective.hessian(points[25]), 3, start, tolerance=1e-4)
    products, squares = 0, 0
    for step in range(20, 30):
        u, (_, g) = points[step + 1] - points[step], run.objective.gradient(points[step])
        products = products - (top.vectors.T @ u) * (top.vectors.T @ g)
        squares = squares + (top.vectors.T @ g).square()
    one = done.table()
    one = Trajectory(done.experiment, one[one["anchor"] == 20], "complete", None, {})
    found = directions([one])
    rates = (products / squares / done.experiment.learning_rate)[:3]
    np.testing.assert_allclose(found["measured"][:3], rates, rtol=0.02)
    assert np.isfinite(found["measured"]).all() and np.isfinite(found["eigenvalue"]).all()
    assert found["predicted"].isna().all() and found["driven"].isna().all()
    assert linear_rule(done.experiment) is None
    unknown = set(one.table[one.table["value"].isna()]["quantity"])
    assert unknown == {"state_start", "driven_product", "driven_square"}


ALONG = {  # a set of directions, measured for a rule with theory
    "eigenvalue",
    "noise",
    "gradient_start",
    "state_start",
    "product",
    "square",
    "update_square",
    "driven_product",
    "driven_square",
}
PARTED = {
    "part_product",
    "part_square",
    "part_ratio",
    "part_displacement",
    "part_gradient_square",
    "part_preconditioned",
    "part_carried",
}
# By the solve that fails, of those of Adam's first window: the directions, those of the preconditioned
# Hessian, S_k at the end.
RESTS = {0: ALONG | PARTED | {"overlap"}, 1: {f"p_{name}" for name in ALONG}, 2: {"overlap"}}


@pytest.mark.parametrize("solve", RESTS)
def test_what_rests_on_a_solve_that_did_not_converge_is_unknown_and_nothing_else(
    monkeypatch, solve
):
    e = described("adam")
    usual = AmplificationRun(e)
    usual.train()
    failing(monkeypatch, module, {solve})
    run = AmplificationRun(e)
    run.train()
    assert run.status == "complete"
    one, other = (
        r.table().set_index(["anchor", "quantity", "index"])["value"] for r in (run, usual)
    )
    lost = one.index.get_level_values("quantity").isin(RESTS[solve])
    lost &= one.index.get_level_values("anchor") == 20
    assert one[lost].isna().all() and one[~lost].notna().all() and lost.any()
    told = one.index.get_level_values("quantity") == "unconverged"
    assert one[told].tolist() == [1, 0] and other[told].tolist() == [0, 0]
    pd.testing.assert_series_equal(one[~lost & ~told], other[~lost & ~told])


def test_a_window_of_unknown_directions_decides_nothing_and_is_left_out_of_what_is_pooled(
    monkeypatch,
):
    usual = AmplificationRun(described("momentum"))
    usual.train()
    failing(monkeypatch, module, {0})
    run = AmplificationRun(described("momentum"))
    run.train()
    pooled, second = directions([finished(run)]), directions([finished(usual)], since=45)
    pd.testing.assert_frame_equal(pooled, second)
    assert np.isnan(amplification(finished(run), "slope"))
    assert amplification(finished(run), "slope", since=45) > 0


def test_the_basis_of_the_parts_is_among_the_directions():
    with pytest.raises(InvalidParameter, match="directions = 2 must be at least k = 3"):
        Amplification.parse(**FIELDS, anchors=(5,), directions=2)


def test_preconditioned_directions_are_those_of_the_scaled_hessian():
    """Eigenvalues and noise of the Adam windows, against a solver of another kind: scipy's eigsh."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    e = described("adam", anchors=(20,))
    done = AmplificationRun(e)
    done.train()
    fields = {name: getattr(e, name) for name in Experiment.model_fields}
    run = Run(Experiment(**fields | {"steps": 100, "switch_step": 99}))
    while run.step < 25:
        run.advance()
    root = run.trainer.rule.preconditioner(run.trainer.rule_state).sqrt()
    hessian = run.objective.hessian(run.theta)

    def product(v):
        column = torch.from_numpy(v.reshape(-1, 1)).to(root)
        return (root[:, None] * (hessian @ (root[:, None] * column))).numpy().ravel()

    dim = len(root)
    values = eigsh(LinearOperator((dim, dim), product, dtype="float32"), 6, tol=1e-4)[0][::-1]
    table = done.table()
    ours = table[table["quantity"] == "p_eigenvalue"]["value"]
    np.testing.assert_allclose(ours, values, rtol=1e-2)


def test_slopes_are_the_directional_derivatives_of_single_samples():
    found = reference("mlp", "cross_entropy", chunk=10)
    block = torch.randn(len(found.theta), 3, dtype=torch.float64)
    slopes = found.objective.slopes(found.theta, block)
    for i in (0, 9, 10, 36):
        _, gradient = found.objective.gradient(found.theta, torch.tensor([i]))
        torch.testing.assert_close(slopes[i], block.T @ gradient)
    variance, _ = found.objective.gradient_variance(found.theta, block)
    torch.testing.assert_close(slopes.var(0, correction=0), variance)


@pytest.mark.parametrize("step", RESUMED)
def test_a_resumed_run_measures_the_same(measured, step):
    rule, whole, states = measured
    again = AmplificationRun(described(rule))
    again.load_state(states[step])
    again.train()
    pd.testing.assert_frame_equal(again.table(), whole.table())


def test_anchors_must_be_in_order():
    with pytest.raises(InvalidParameter, match="ascending"):
        Amplification.parse(**FIELDS, anchors=(5, 5))


SMALL = {
    "dataset": "digits",
    "k": 2,
    "seeds": (0,),
    "steps": 16,
    "start_step": 4,
    "switch_step": 8,
    "anchors": (10,),
    "window": 4,
    "directions": 3,
    "betas": (),
    "others": ("rmsprop",),
    "record_every": 8,
    "spectrum_every": 800,
    "alternative_steps": 10,
    "refresh_every": 4,
    "target_angle": 0.3,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    with few_digits():
        yield momentum_study(MomentumParameters(**SMALL), Store(root)), root


def test_a_study_from_parameters_to_figures_and_tables(small):
    study, root = small
    (c8,) = judge(study)
    assert c8.verdict == "inconclusive" and len(c8.parts) == 8  # one seed
    assert study.switch("adam").name("bulk") == "Bulk-Adam"
    rules = {run.experiment.optimizer for run in study.runs.values()}
    assert rules == {"sgd", "momentum", "adam", "rmsprop"}
    for draw in (
        figures.ratios,
        figures.amplified,
        figures.amplified_adaptive,
        figures.transfer,
        figures.bulk_adam,
    ):
        figure = draw(study).figure
        assert all(axes.get_ylabel() for axes in figure.axes) and figure.axes[-1].get_xlabel()
    assert "| RMSProp" in tables.effective_rates(study).data
    assert "| RMSProp" in tables.predictions(study).data
    for table in (tables.ingredients, tables.projections, tables.bulk_adam):
        assert "nan" not in table(study).data
    assert "at step 16" in tables.projections(study).data  # 8 + 10, at a recorded step
    assert len(study.bulk_adam()) == 3 and "| both projected" in tables.bulk_adam(study).data
    again = momentum_study(study.parameters, Store(root), compute=False)
    assert again.runs.keys() == study.runs.keys()


@pytest.mark.parametrize("way", ["update", "gradient", "both"])
def test_what_is_projected_by_hand(small, way):
    """Heavy ball whose state began before the switch: Dom- by hand, basis from the run itself."""
    study, _ = small
    label = "heavy ball 0.9" if way == "update" else f"heavy ball 0.9, {way}"
    e = study.runs[label, "dominant", 0].experiment
    assert e.projected == way
    run, theta, m = Run(e), None, None
    while run.step < e.steps:
        if run.step == e.switch_step:
            theta, m = run.theta, run.trainer.rule_state["momentum"]
        step = run.step
        _, g = run.objective.gradient(run.theta, run.trainer.batches.rows(step))
        run.advance()
        if step >= e.switch_step:
            m = 0.9 * m + (g if way == "update" else run.subspace.project(g))
            update = -e.learning_rate * m
            theta = theta + (update if way == "gradient" else run.subspace.project(update))
            torch.testing.assert_close(run.theta, theta)


@pytest.mark.parametrize(("every", "end"), [(8, 16), (7, 14), (30, 16)])
def test_ways_to_project_are_compared_at_a_step_that_all_runs_record(every, end):
    parameters = MomentumParameters(**SMALL | {"record_every": every, "spectrum_every": 10 * every})
    assert parameters.alternative_end == end
    steps = {run.steps for key, run in parameters.runs().items() if key[1] in ("dominant", "bulk")}
    assert steps == {end, parameters.steps}


def fake(label, seed, ratio):
    """A run of two windows with a given Bulk-LR/Dom-LR; the first, before the switch, is not judged."""
    rows = []
    for anchor, value in ((1700, 5.0 if label == "SGD" else 100.0), (3000, ratio)):
        rows += [(anchor, "part_square", i, 1.0) for i in (0, 1)]
        for name in ("part_product", "part_ratio"):
            rows += [(anchor, name, 0, 0.01), (anchor, name, 1, 0.01 * value)]
        rows += [
            (anchor, n, i, 1.0)
            for n in (
                "part_displacement",
                "part_gradient_square",
                "part_preconditioned",
                "part_carried",
            )
            for i in (0, 1)
        ]
    table = pd.DataFrame(rows, columns=["anchor", "quantity", "index", "value"])
    return Trajectory(MomentumParameters().window_run(seed, "sgd"), table, "complete", None, {})


def judged(amplified, dom, bulk):
    parameters, runs = MomentumParameters(), {}
    ends = {"none": 0.5, "dominant": dom, "bulk": bulk}
    for seed in parameters.seeds:
        runs["SGD", "window", seed] = fake("SGD", seed, 1.1)
        for optimizer in ("momentum", "adam"):
            label = parameters.label(optimizer)
            runs[label, "window", seed] = fake(label, seed, 1.1 * amplified)
            for projection, end in ends.items():
                table = pd.DataFrame({"step": [3000, 20_000], "train_loss": [1.0, end]})
                run = parameters.switch_run(seed, optimizer, projection)
                runs[label, projection, seed] = Trajectory(run, table, "complete", None, {})
    return judge(MomentumStudy(parameters, runs))[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.5, 0.99, 0.51), "reproduced"),
        ((1.2, 0.99, 0.51), "not reproduced"),
        ((1.5, 0.8, 0.51), "not reproduced"),
        ((1.5, 0.99, 0.7), "not reproduced"),
    ],
)
def test_every_part_of_c8_can_fail(values, expected):
    assert judged(*values).verdict == expected


def test_an_undefined_rate_decides_nothing():
    assert np.isnan(amplification(fake("SGD", 0, -1.0), "slope"))
    assert judged(-1.0, 0.99, 0.51).verdict == "inconclusive"
