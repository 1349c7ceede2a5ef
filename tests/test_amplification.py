"""Windows of updates: against sums written anew and another solver; resumed as if undisturbed."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import reference

from subspace_lib import claims, figures, notebook
from subspace_lib.amplification import (
    Amplification,
    AmplificationRun,
    amplification,
    directions,
    part_rates,
)
from subspace_lib.eigensolver import top_eigenpairs
from subspace_lib.experiment import Experiment, InvalidParameter, Phase
from subspace_lib.store import Store, read_tensors, write_tensors
from subspace_lib.studies.momentum import MomentumParameters, MomentumStudy, momentum_study
from subspace_lib.training import Run, Trajectory

FIELDS = {"dataset": "digits", "k": 3, "guards": 2, "classes": 3, "batch_size": 20}
RESUMED = (15, 30, 42)
RULES = {
    "sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": "momentum", "learning_rate": 0.02, "beta": 0.8},
    "adam": {"optimizer": "adam", "learning_rate": 0.001},
}


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


def test_windows_are_sums_over_the_steps_of_the_plain_run(measured):
    """The part sums of the first window, from a plain run and a basis of their own."""
    _, done, _ = measured
    e = done.experiment
    fields = {name: getattr(e, name) for name in Experiment.model_fields}
    run = Run(Experiment(**fields | {"steps": 100, "switch_step": 99}))
    points = []
    run.train(lambda run: points.append(run.theta))
    points = [run.objective.initial(), *points]
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
    found = directions([finished(done)])
    error = (found["driven"] / found["measured"] - 1).abs().median()
    assert error < (0.25 if rule == "adam" else 0.1)  # Adam's second moments are young here
    assert np.isfinite(found["predicted"]).all() and len(found) == 6
    eigenvalues = found["eigenvalue"].to_numpy()
    assert (np.diff(eigenvalues) < 1e-3 * eigenvalues[0]).all()


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
    root = run.rule.preconditioner(run.rule_state).sqrt()
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
    "dataset": "digits", "k": 3, "seeds": (0,), "steps": 24, "start_step": 4, "switch_step": 8,
    "anchors": (10,), "window": 6, "directions": 5, "betas": (), "others": ("rmsprop",),
    "record_every": 8, "spectrum_every": 800, "alternative_steps": 10, "refresh": 4, "target_angle": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    return momentum_study(MomentumParameters(**SMALL), Store(root)), root


def test_a_study_from_parameters_to_figures_and_tables(small):
    study, root = small
    (c8,) = claims.judge_momentum(study)
    assert c8.verdict == "inconclusive" and len(c8.parts) == 8  # one seed
    assert study.switch("adam").name("bulk") == "Bulk-Adam"
    rules = {run.experiment.optimizer for run in study.runs.values()}
    assert rules == {"sgd", "momentum", "adam", "rmsprop"}
    for draw in (
        figures.ratios, figures.amplified, figures.amplified_adaptive,
        figures.transfer, figures.bulk_adam,
    ):  # fmt: skip
        figure = draw(study).figure
        assert all(axes.get_ylabel() for axes in figure.axes) and figure.axes[-1].get_xlabel()
    assert "| RMSProp |" in notebook.effective_rates(study).data
    assert "| RMSProp |" in notebook.predictions(study).data
    for table in (notebook.ingredients, notebook.projections, notebook.bulk_adam):
        assert "nan" not in table(study).data
    assert "at step 16" in notebook.projections(study).data  # 8 + 10, at a recorded step
    assert len(study.bulk_adam()) == 3 and "| both projected |" in notebook.bulk_adam(study).data
    again = momentum_study(study.parameters, Store(root), compute=False)
    assert again.runs.keys() == study.runs.keys()


@pytest.mark.parametrize("way", ["update", "gradient", "both"])
def test_what_is_projected_by_hand(small, way):
    """Heavy ball whose state began before the switch: Dom- by hand, basis from the run itself."""
    study, _ = small
    label = "heavy ball 0.9" if way == "update" else f"heavy ball 0.9, {way}"
    e = study.runs[label, "dominant", 0].experiment
    assert e.project == way
    run, theta, m = Run(e), None, None
    while run.step < e.steps:
        if run.step == e.switch_step:
            theta, m = run.theta, run.rule_state["momentum"]
        step = run.step
        _, g = run.objective.gradient(run.theta, run.batches.rows(step))
        run.advance()
        if step >= e.switch_step:
            m = 0.9 * m + (g if way == "update" else run.subspace.project(g))
            update = -e.learning_rate * m
            theta = theta + (update if way == "gradient" else run.subspace.project(update))
            torch.testing.assert_close(run.theta, theta)


@pytest.mark.parametrize(("every", "end"), [(8, 16), (7, 14), (30, 24)])
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
        rows += [(anchor, n, i, 1.0) for n in ("part_displacement", "part_gradient_square",
                 "part_preconditioned", "part_carried") for i in (0, 1)]  # fmt: skip
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
    return claims.judge_momentum(MomentumStudy(parameters, runs))[0]


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
