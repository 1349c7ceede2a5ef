"""The spiked regression: its pieces written anew, closed forms against exact recursions of the moments."""

import numpy as np
import pytest
from conftest import examples
from hypothesis import given, settings, strategies as st

from subspace_lib.theory.regression import BULK, OUTLIERS, spiked


@pytest.fixture(scope="module")
def small():
    return spiked(seed=5, dimension=6, samples=80, outliers=2, signal=0.5, label_noise=1.0)


def squared_loss(problem, point):
    return np.mean((problem.features @ point + problem.residuals) ** 2) / 2


def test_coordinates_are_those_of_the_eigenvectors_around_the_minimum(small):
    hessian = small.features.T @ small.features / 80
    np.testing.assert_allclose(hessian, np.diag(small.values), atol=1e-10 * small.values[0])
    np.testing.assert_allclose(small.features.T @ small.residuals, 0, atol=1e-8)
    assert (np.diff(small.values) < 0).all()
    point = np.random.default_rng(0).standard_normal(6)
    expected = small.floor + (small.values * point**2).sum() / 2
    assert squared_loss(small, point) == pytest.approx(expected)
    slopes = [
        (squared_loss(small, point + e) - squared_loss(small, point - e)) / 2e-4
        for e in 1e-4 * np.eye(6)
    ]
    np.testing.assert_allclose(small.gradient(point), slopes, rtol=1e-6, atol=1e-6)


def test_the_spectrum_has_outliers_a_gap_and_a_tail():
    values = spiked(0, 200, 1000, 10, 0.5, 1.0).values
    assert values[9] > OUTLIERS[1] / 2 and values[10] < 2 * BULK[0] and values[-1] < 2 * BULK[1]


def test_a_minibatch_gradient_is_the_mean_over_its_samples(small):
    rng = np.random.default_rng(1)
    points, rows = rng.standard_normal((3, 2, 6)), np.array([[4, 4, 7], [0, 79, 30]])
    noise = small.noise(points, rows)
    for case in range(3):
        for path in range(2):
            total = np.zeros(6)
            for n in rows[path]:
                x = small.features[n]
                total += (x @ points[case, path] + small.residuals[n]) * x / 3
            np.testing.assert_allclose(
                noise[case, path] + small.gradient(points[case, path]), total, rtol=1e-9
            )
    one_each = small.noise(np.broadcast_to(points[:1, :1], (1, 80, 6)), np.arange(80)[:, None])[0]
    np.testing.assert_allclose(one_each.mean(0), 0, atol=1e-8)
    variance = small.noise_variance(points[0, 0])
    np.testing.assert_allclose((one_each**2).mean(0), variance, rtol=1e-9)


def full_moments(problem, eta, batch, steps):
    """E δδᵀ of SGD from the minimum, the whole matrix: exact for any distribution of the samples."""
    x, matrix = problem.features, np.zeros((len(problem.values),) * 2)
    step = np.eye(len(matrix)) - eta * np.diag(problem.values)
    for _ in range(steps):
        weights = problem.residuals**2 + np.einsum("ni,ij,nj->n", x, matrix, x)
        mean = np.diag(problem.values) @ matrix @ np.diag(problem.values)
        noise = x.T @ (weights[:, None] * x) / len(x) - mean
        matrix = step @ matrix @ step + eta**2 / batch * noise
    return np.diag(matrix)


@given(st.floats(0.05, 1.0), st.integers(4, 64))
@settings(max_examples=examples(20), deadline=None)
def test_the_stationary_variance_is_a_fixed_point(small, sharp, batch):
    eta = sharp / small.values[0]
    plain = small.stationary_variance(eta, batch, feedback=False)
    decay = (1 - eta * small.values) ** 2
    again = decay * plain + eta**2 * small.noise_variance() / batch
    np.testing.assert_allclose(again, plain, rtol=1e-9)
    settled = small.stationary_variance(eta, batch)
    spread = eta**2 / batch
    fed = small.noise_variance() + small.fourth @ settled - small.values**2 * settled
    np.testing.assert_allclose(decay * settled + spread * fed, settled, rtol=1e-9)


def test_the_closed_form_is_near_the_exact_covariance_and_feedback_brings_it_there(small):
    eta, batch = 0.2 / small.values[0], 4
    exact = full_moments(small, eta, batch, 300)
    np.testing.assert_allclose(small.moments(eta, batch, 300)[-1], exact, rtol=0.03)
    steep = exact[:2]
    fed = small.stationary_variance(eta, batch)[:2] / steep - 1
    plain = small.stationary_variance(eta, batch, feedback=False)[:2] / steep - 1
    assert np.abs(fed).max() < 0.02 < np.abs(plain).min()


def test_the_moments_begin_at_the_minimum_and_settle_where_the_closed_form_says(small):
    eta = 0.5 / small.values[0]
    moments = small.moments(eta, 10, 20_000)
    assert (moments[0] == 0).all()
    np.testing.assert_allclose(moments[1], eta**2 * small.noise_variance() / 10)
    settled = 2 * eta * small.values * 20_000 > 20
    assert settled[:2].all()
    stationary = small.stationary_variance(eta, 10)
    np.testing.assert_allclose(moments[-1][settled], stationary[settled], rtol=1e-3)
