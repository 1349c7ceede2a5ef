"""Windows of updates: against sums written anew and another solver; resumed as if undisturbed."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import reference
from test_survey import failing

from subspace_lib.experiment import Experiment, Phase
from subspace_lib.linalg.eigensolver import top_eigenpairs
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.checkpoint import read_tensors, write_tensors
from subspace_lib.runs import amplification as module
from subspace_lib.runs.amplification import Amplification, AmplificationRun
from subspace_lib.runs.training import Run
from subspace_lib.runs.windows import amplification, directions, error, linear_rule, part_rates
from subspace_lib.trajectory import Trajectory

pytestmark = pytest.mark.usefixtures("narrow_mlp")

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
    found = directions(finished(done))
    assert error(found, "driven") < (
        0.25 if rule == "adam" else 0.1
    )  # Adam's second moments are young here
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
    found = directions(one)
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
    usual = AmplificationRun(described("momentum", anchors=(45,)))
    usual.train()
    failing(monkeypatch, module, {0})
    run = AmplificationRun(described("momentum"))
    run.train()
    pd.testing.assert_frame_equal(directions(finished(run)), directions(finished(usual)))
    assert np.isnan(amplification(finished(run), "slope"))
    assert amplification(finished(usual), "slope") > 0


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
    # More than are compared, and always from the same start: the last of them stand close together.
    operator, start = LinearOperator((dim, dim), product, dtype="float32"), np.random.default_rng(0)
    values = eigsh(operator, 10, which="LA", v0=start.standard_normal(dim), tol=1e-4)[0][::-1][:6]
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
