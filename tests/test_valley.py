"""The two-dimensional valley: exact moments, closed forms against simulation, the rules of the library."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from subspace_lib.theory.valley import METHODS, Valley, path, signs


def cloud(valley, eta, start, steps, runs=20_000, seed=0):
    """Second moments of many paths of SGD, written anew."""
    rng = np.random.default_rng(seed)
    x, y = np.full(runs, start[0]), np.full(runs, start[1])
    for _ in range(steps):
        s = rng.choice([-1.0, 1.0], runs)
        slope_x = valley.condition * x + s * (valley.cross * y + valley.shift)
        x, y = x - eta * slope_x, y - eta * (y + s * valley.cross * x)
    return x, y


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_the_moments_are_those_of_many_paths(shift):
    valley, start = Valley(shift=shift), (0.01, 1.0)
    x, y = cloud(valley, 5e-4, start, 300)
    expected = valley.moments(5e-4, start, 300)[-1]
    for sample, value in zip((x**2, y**2, y), expected, strict=True):
        assert abs(sample.mean() - value) < 4 * sample.std() / np.sqrt(len(sample)) + 1e-9


@given(
    st.floats(0.05, 1.9),
    st.floats(1, 20),
    st.floats(-5, 5),
    st.floats(0.5, 2),
    st.floats(100, 2000),
)
@settings(max_examples=30, deadline=None)
def test_the_stationary_variance_is_the_fixed_point_of_the_exact_moments(sharp, c, s, y, condition):
    """With y held in place by hand: one step of the moments leaves the variance as it is."""
    valley, eta = Valley(condition, c, s), sharp / condition
    variance = valley.stationary_variance(eta, y)
    after = valley.moments(eta, (np.sqrt(variance), y), 1)[1, 0]
    assert after == pytest.approx(variance, rel=1e-9)
    assert Valley(condition).stationary_variance(2.1 / condition, y) == np.inf


@given(st.floats(0.05, 1.9), st.floats(1, 20), st.floats(-5, 5), st.floats(0.2, 0.95))
@settings(max_examples=30, deadline=None)
def test_alignment_appears_and_vanishes_when_the_recursion_says_so(sharp, c, s, level):
    """E x² with y held at 1, step by step, from the floor, then without noise."""
    valley, eta = Valley(1000.0, c, s), sharp / 1000
    settled = valley.stationary_variance(eta, 1.0)

    def aligned(variance):
        return 1e6 * variance / (1 + 1e6 * variance) >= level**2 * (1 - 1e-12)

    variance, steps = 0.0, 0
    while not aligned(variance) and steps < 1000:
        variance = (1 - sharp) ** 2 * variance + eta**2 * (c + s) ** 2
        steps += 1
    appears = valley.steps_to_appear(eta, 1.0, level)
    assert appears == (np.inf if steps == 1000 else pytest.approx(steps, abs=1e-9))
    variance, steps = settled, 0
    while aligned(variance):
        variance, steps = (1 - sharp) ** 2 * variance, steps + 1
    assert valley.steps_to_vanish(eta, 1.0, level) == steps


def test_without_noise_no_alignment_appears_and_beyond_the_edge_none_vanishes():
    assert Valley(cross=0.0, shift=1e-9).steps_to_appear(5e-4, 1.0, 0.8) == np.inf
    assert Valley(cross=0.0, shift=1e-9).steps_to_vanish(5e-4, 1.0, 0.1) == 0
    assert Valley().steps_to_vanish(3e-3, 1.0, 0.1) == np.inf


def test_sample_gradients_are_those_of_the_sample_losses():
    valley, point = Valley(50.0, 3.0, 2.0), torch.tensor([0.3, -0.7], dtype=torch.float64)
    for sign in (-1.0, 1.0):

        def sample(p, sign=sign):
            x, y = p
            return (50 * x**2 + y**2) / 2 + sign * (3 * x * y + 2 * x)

        expected = torch.func.grad(sample)(point).numpy()
        ours = valley.gradient(point.numpy()) + valley.noise(point.numpy(), sign)
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_the_signs_are_fair_and_of_their_seed():
    assert signs(1, 8).tolist() != signs(2, 8).tolist()
    assert signs(3, 100).tolist() == signs(3, 200)[:100].tolist()
    drawn = np.concatenate([signs(seed, 2000) for seed in range(10)])
    assert set(drawn) == {-1.0, 1.0}
    assert abs(drawn.mean()) < 4 / np.sqrt(len(drawn))
    assert abs((drawn[1:] * drawn[:-1]).mean()) < 4 / np.sqrt(len(drawn))


@pytest.mark.parametrize("method", METHODS)
def test_paths_start_where_they_should_and_projected_ones_keep_a_coordinate(method):
    points = path(Valley(), method, 5e-4, (0.02, 1.0), 50, seed=4)
    assert points.shape == (51, 2) and points[0].tolist() == [0.02, 1.0]
    if method == "Dom-SGD":
        assert (points[:, 1] == 1.0).all() and len(set(points[:, 0])) > 40
    elif method == "Bulk-SGD":
        assert (points[:, 0] == 0.02).all() and (points[:, 1] < 1.0).any()
    else:
        assert points[-1, 1] < 1.0


def test_sgd_is_the_plain_recursion():
    x, y = 0.02, 1.0
    for sign in signs(9, 40):
        x, y = x - 5e-4 * (1000 * x + sign * 10 * y), y - 5e-4 * (y + sign * 10 * x)
    np.testing.assert_allclose(
        path(Valley(), "SGD", 5e-4, (0.02, 1.0), 40, 9)[-1], [x, y], rtol=1e-12
    )


def test_an_unknown_method_is_one_sentence():
    with pytest.raises(ValueError, match="use SGD, GD"):
        path(Valley(), "Muon", 0.1, (0, 1), 1)
