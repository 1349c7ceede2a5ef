"""Predictions on the quadratic with noise: against sympy, simulation, and the library's own rules."""

import numpy as np
import pytest
import sympy
import torch
from conftest import examples
from hypothesis import given, settings, strategies as st

from subspace_lib import optimizers
from subspace_lib.runs.batches import Batches
from subspace_lib.theory.quadratic import (
    LinearRule,
    Noise,
    batch_noise,
    damping,
    linear,
    stationary_rate,
    stationary_variance,
    window,
)

RULES = {
    "sgd": optimizers.SGD(0.02),
    "momentum": optimizers.Momentum(0.02, 0.8),
    "nesterov": optimizers.Nesterov(0.02, 0.8),
    "adam": optimizers.Adam(0.02, 0.8),
    "adamw": optimizers.AdamW(0.02, 0.8, weight_decay=0.0),  # its decay is left out
    "rmsprop": optimizers.RMSProp(0.02),
}
ETA, BETA, LAM, A, B, Z = sympy.symbols("eta beta lambda a b z", positive=True)
MATRIX = sympy.Matrix([[1 - ETA * (A + B) * LAM, -ETA * B * BETA], [LAM, BETA]])
KICK = sympy.Matrix([-ETA * (A + B), 1])
FORMS = {"heavy ball": {A: 0, B: 1}, "nesterov": {A: 1, B: BETA}, "sgd": {A: 0, B: 1, BETA: 0}}


def lyapunov(form):
    """Stationary covariance, symbolically."""
    p, q, r = sympy.symbols("p q r")
    covariance = sympy.Matrix([[p, q], [q, r]])
    a, kick = MATRIX.subs(form), KICK.subs(form)
    equations = covariance - a * covariance * a.T - kick * kick.T
    return covariance.subs(sympy.solve(list(equations), [p, q, r], dict=True)[0])


def rate(form):
    """−E[ug]/E[g²], symbolically."""
    covariance, a = lyapunov(form), MATRIX.subs(form)
    return sympy.simplify(
        -(a - sympy.eye(2))[0, :].dot(covariance[:, 0]) / (LAM * covariance[0, 0])
    )


def test_heavy_ball_in_closed_form():
    variance = ETA * (1 + BETA) / (LAM * (1 - BETA) * (2 * (1 + BETA) - ETA * LAM))
    form = FORMS["heavy ball"]
    assert sympy.simplify(lyapunov(form)[0, 0] - variance) == 0
    assert sympy.simplify(rate(form) - ETA / (1 + BETA)) == 0
    assert sympy.simplify(rate(FORMS["sgd"]) - ETA) == 0


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_edge_is_where_an_eigenvalue_passes_minus_one(form):
    polynomial = (Z * sympy.eye(2) - MATRIX).det().subs(Z, -1).subs(form)
    (edge,) = sympy.solve(polynomial, LAM)
    push = A + B + A * BETA
    assert sympy.simplify(edge - (2 * (1 + BETA) / (ETA * push)).subs(form)) == 0


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_slow_direction_moves_at_eta_over_one_minus_beta(form):
    """The root of A next to 1, to first order in λ: z = 1 − rate · λ."""
    polynomial = (Z * sympy.eye(2) - MATRIX).det().subs(form)
    slope = -sympy.diff(polynomial, LAM) / sympy.diff(polynomial, Z)
    found = -slope.subs(Z, 1).subs(LAM, 0)
    assert sympy.simplify(found - (ETA * (A + B / (1 - BETA))).subs(form)) == 0
    assert sympy.simplify(found - (ETA / (1 - BETA)).subs(form)) == 0


@given(st.floats(0.0, 0.95), st.floats(0.02, 0.98), st.booleans())
@settings(max_examples=examples(40), deadline=None)
def test_numbers_agree_with_the_formulas(beta, share, nesterov):
    rule = LinearRule(0.03, beta, 1.0, beta) if nesterov else LinearRule(0.03, beta)
    value = share * rule.edge
    values = {ETA: 0.03, BETA: beta, LAM: value}
    if not nesterov:
        slack = (1 - beta) * (2 * (1 + beta) - 0.03 * value)
        expected = 0.03 * (1 + beta) / (value * slack)
        assert stationary_variance(rule, value) == pytest.approx(expected, rel=1e-8)
        assert stationary_rate(rule, value) == pytest.approx(0.03 / (1 + beta), rel=1e-6)
    roots = np.linalg.eigvals(rule.matrix(value))
    assert abs(roots).max() < 1
    beyond = rule.matrix(1.01 * rule.edge)
    assert abs(np.linalg.eigvals(beyond)).max() > 1
    assert stationary_variance(rule, 1.01 * rule.edge) == np.inf
    assert values[LAM] < rule.edge


@pytest.mark.parametrize("name", RULES)
def test_the_linear_form_is_what_the_rule_does(name):
    """Against ``optimizers`` in float64; adaptive rules with a second moment that is held at 4."""
    rule, form = RULES[name], linear(RULES[name])
    rng = np.random.default_rng(0)
    theta = torch.tensor([0.7], dtype=torch.float64)
    state = rule.init(theta)
    # Adaptive rules far from the first step, with v̂ = 4: preconditioned coordinate √2 x, curvature λ/2.
    stretch = np.sqrt(2.0) if name in optimizers.ADAPTIVE else 1.0
    x, m, value = stretch * 0.7, 0.0, 3.0 / stretch**2
    for noise in rng.standard_normal(30):
        gradient = 3.0 * theta + noise
        if name in optimizers.ADAPTIVE:
            new = 0.01 if name == "rmsprop" else 0.001
            state = {**state, "count": torch.tensor(10**6)}
            state["second"] = (4.0 - new * gradient.square()) / (1 - new)
        state, update = rule.update(state, gradient, theta)
        theta = theta + update
        m = form.beta * m + value * x + noise / stretch
        used = form.direct * (value * x + noise / stretch) + form.carried * m
        x = x - form.learning_rate * used
        assert float(theta) * stretch == pytest.approx(x, rel=1e-7)


class Stubborn(optimizers.Momentum):
    """A rule of somebody else's, derived from one that the theory knows."""


@pytest.mark.parametrize("rule", [optimizers.SAM(0.1), optimizers.Muon(0.1), Stubborn(0.1)])
def test_a_rule_without_theory_gets_no_prediction_of_another_rules(rule):
    with pytest.raises(ValueError, match=r"no theory .*; SGD, Momentum, .* have one\.") as error:
        linear(rule)
    assert type(rule).__name__ in str(error.value)


def one(rule, value, noise, *numbers):
    """``window`` for one eigendirection: −Σ u g and Σ g²."""
    variance, x, m = (np.array([number]) for number in numbers)
    return [float(s[0]) for s in window(rule, np.array([value]), noise, variance, x, m)]


def white(count, variance):
    return Noise(variance, 0.0, np.zeros((1, count)))


def test_directions_side_by_side_are_each_alone():
    rule, noise = LinearRule(0.02, 0.9, 1.0, 0.9), batch_noise(200, 10, 15, 40)
    numbers = np.array([[0.3, 4.0, 30.0], [1.0, 0.2, 0.0], [0.4, -1.0, 2.0], [0.1, 0.0, -3.0]])
    values, variances, x, m = numbers
    together = np.transpose(window(rule, values, noise, variances, x, m))
    alone = [one(rule, value, noise, *others) for value, *others in numbers.T]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_a_window_is_the_mean_of_many_simulations(name):
    rule, value, count, runs = linear(RULES[name]), 6.0, 40, 40_000
    noise = batch_noise(200, 10, 15, count)
    rng = np.random.default_rng(1)
    # exact draws of this covariance: independent ones less their mean over each whole epoch
    x, m = np.full(runs, 0.4), np.full(runs, -0.3)
    covariance = 0.7 * noise.covariance
    drawn = rng.multivariate_normal(np.zeros(count), covariance, runs, check_valid="ignore")
    g, u = np.empty((count, runs)), np.empty((count, runs))
    for t in range(count):
        g[t] = value * x
        m = rule.beta * m + g[t] + drawn[:, t]
        u[t] = -rule.learning_rate * (rule.direct * (g[t] + drawn[:, t]) + rule.carried * m)
        x = x + u[t]
    expected = one(rule, value, noise, 0.7, 0.4, -0.3)
    for sample, sum_ in zip((-(u * g).sum(0), (g * g).sum(0)), expected, strict=True):
        assert abs(sample.mean() - sum_) < 5 * sample.std() / np.sqrt(runs)


def test_a_long_window_forgets_its_start_and_has_the_stationary_rate():
    rule = LinearRule(0.02, 0.9)
    product, square = one(rule, 5.0, white(3000, 0.3), 1.0, 0.0, 0.0)
    assert product / square == pytest.approx(stationary_rate(rule, 5.0), rel=0.02)
    variance = square / 3000 / 25
    assert variance == pytest.approx(0.3 * stationary_variance(rule, 5.0), rel=0.05)


def test_a_persistent_gradient_has_the_slow_rate():
    rule = LinearRule(0.02, 0.9)
    value, g = 1e-6, 1.0
    product, square = one(rule, value, white(200, 0.0), 1.0, g / value, g / (1 - 0.9))
    assert product / square == pytest.approx(rule.slow_rate, rel=1e-3)


@given(st.floats(0.1, 0.95), st.floats(1e-4, 0.99))
@settings(max_examples=examples(40), deadline=None)
def test_heavy_ball_damps_by_its_square_root_where_it_swings(beta, share):
    rule, onset = LinearRule(0.01, beta), (1 - np.sqrt(beta)) ** 2 / 0.01
    swings = onset + share * (rule.edge - onset) * 0.5
    assert damping(rule, 1.001 * swings) == pytest.approx(-np.log(np.sqrt(beta)), rel=1e-6)
    slow = 1e-4 * onset
    assert damping(rule, slow) == pytest.approx(rule.slow_rate * slow, rel=1e-2)
    assert damping(rule, 1.01 * rule.edge) < 0


def test_batch_noise_is_that_of_batches_without_replacement():
    """Against the batches of the training loop, one value per sample, over many epochs."""
    rng = np.random.default_rng(2)
    values = rng.standard_normal(60)
    values = (values - values.mean()) / values.std()
    batches = Batches(60, 12, 3)
    means = [
        [values[batches.rows(5 * epoch + i)].mean() for i in range(5)] for epoch in range(4000)
    ]
    measured = np.cov(np.array(means).T, bias=True)
    expected = batch_noise(60, 12, 0, 5).covariance
    np.testing.assert_allclose(measured, expected, atol=5 * expected[0, 0] / np.sqrt(4000))
    np.testing.assert_allclose(expected.sum(0), 0, atol=1e-15)
    assert batch_noise(60, 12, 3, 4).covariance[0, 2] == 0  # the next epoch
    assert (batch_noise(60, 60, 0, 3).covariance == 0).all()


@pytest.mark.parametrize("project", ["update", "gradient", "both"])
def test_where_a_projected_preconditioned_rule_comes_to_rest(project):
    """Bulk-X with a preconditioner M that stands still, on a quadratic: chapter 07b's three formulas.

    Heavy ball fed with the gradient, its mean multiplied by M, projected as an experiment does.
    """
    torch.manual_seed(3)
    hessian = torch.diag(torch.tensor([20.0, 15.0, 0.5, 0.3, 0.2], dtype=torch.float64))
    turned, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    scale = turned @ torch.diag(torch.linspace(0.5, 2, 5, dtype=torch.float64)) @ turned.T
    dominant, bulk = slice(0, 2), slice(2, 5)
    start = torch.tensor([0.1, -0.05, 1, -2, 1.5], dtype=torch.float64)
    theta, m = start.clone(), torch.zeros_like(start)
    for _ in range(4000):
        used = hessian @ theta
        if project != "update":
            used[dominant] = 0
        m = 0.9 * m + used
        update = -0.002 * scale @ m
        if project != "gradient":
            update[dominant] = 0
        theta = theta + update
    forced = torch.linalg.solve(scale[bulk, bulk], scale[bulk, dominant])
    rest = {
        "update": (start[dominant], -(forced @ (hessian @ start)[dominant]) / hessian.diag()[bulk]),
        "gradient": (start[dominant] - forced.T @ start[bulk], 0 * start[bulk]),
        "both": (start[dominant], 0 * start[bulk]),
    }[project]
    torch.testing.assert_close(theta, torch.cat(rest), atol=1e-4, rtol=1e-4)
