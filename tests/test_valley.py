"""The two-dimensional valley: exact moments, closed forms against simulation, the rules of the library."""

import numpy as np
import pytest
import torch
from conftest import examples
from hypothesis import given, settings, strategies as st

from subspace_lib import optimizers
from subspace_lib.theory.valley import METHODS, Valley, path, signs


def cloud(valley, eta, start, steps, projection="none", runs=20_000, seed=0):
    """Many paths of SGD, Dom-SGD or Bulk-SGD from points (2, runs) or one, written anew."""
    rng = np.random.default_rng(seed)
    x, y = (np.broadcast_to(value, runs).copy() for value in start)
    for _ in range(steps):
        s = rng.choice([-1.0, 1.0], runs)
        new_x = x - eta * (valley.condition * x + s * valley.cross * y)
        new_y = y - eta * (y + s * valley.cross * x)
        x, y = (x if projection == "bulk" else new_x), (y if projection == "dominant" else new_y)
    return x, y


@pytest.mark.parametrize("projection", ["none", "dominant", "bulk"])
def test_the_moments_are_those_of_many_paths(projection):
    valley, start = Valley(cross=60.0), (0.01, 1.0)
    x, y = cloud(valley, 5e-4, start, 300, projection)
    expected = valley.moments(5e-4, np.square(start), 300, projection)[-1]
    for sample, value in zip((x**2, y**2), expected, strict=True):
        assert abs(sample.mean() - value) < 4 * sample.std() / np.sqrt(len(sample)) + 1e-9


def test_without_noise_the_moments_are_the_path_of_gd():
    points = path(Valley(), "GD", 5e-4, (0.02, 1.0), 40)
    moments = Valley().moments(5e-4, (0.02**2, 1.0), 40, noisy=False)
    np.testing.assert_allclose(moments, points**2, rtol=1e-9)


@given(st.floats(0.05, 1.9), st.floats(1, 100), st.floats(0.5, 2), st.floats(100, 2000))
@settings(max_examples=examples(30), deadline=None)
def test_the_stationary_variance_is_the_fixed_point_of_the_exact_moments(sharp, c, y, condition):
    """With y held in place by Dom-SGD: one step of the moments leaves the variance as it is."""
    valley, eta = Valley(condition, c), sharp / condition
    variance = valley.stationary_variance(eta, y)
    after = valley.moments(eta, (variance, y**2), 1, "dominant")[1]
    assert after == pytest.approx([variance, y**2], rel=1e-9)
    steep, flat = condition**2 * variance, y**2
    assert valley.typical_alignment(eta) == pytest.approx(np.sqrt(steep / (steep + flat)))
    assert valley.share(eta) == pytest.approx(condition * variance / y**2)
    assert valley.rate(valley.share(eta)) == pytest.approx(eta)


def test_beyond_the_edge_nothing_settles():
    valley = Valley(100.0, 1.0)
    assert valley.stationary_variance(2.1 / 100, 1.0) == np.inf
    assert valley.typical_alignment(2.1 / 100) == 1.0
    assert np.isnan(valley.bulk_progress(2.1 / 100))


@given(st.floats(0.005, 1.9), st.floats(1, 300), st.floats(20, 3000))
@settings(max_examples=examples(50), deadline=None)
def test_sgd_converges_in_mean_square_where_the_feedback_is_below_one(sharp, c, condition):
    """Against the eigenvalues of the recursion's matrix."""
    valley, eta = Valley(condition, c), sharp / condition
    matrix = np.array([valley.moments(eta, unit, 1)[1] for unit in np.eye(2)])
    largest = np.abs(np.linalg.eigvals(matrix)).max()
    assert (largest < 1) == (valley.feedback(eta) < 1)


def gained(valley, eta, projection, start, steps):
    """Loss at the start less that at the end, by the exact moments."""
    moments = valley.moments(eta, start, steps, projection)
    return (moments[0] - moments[-1]) @ valley.values / 2


@pytest.mark.parametrize("condition", [200.0, 1000.0])
@pytest.mark.parametrize("sharp", [0.1, 0.5, 1.5])
@pytest.mark.parametrize("share", [0.01, 0.1, 1.0, 3.0])
def test_bulk_progress_is_that_of_the_exact_moments(condition, sharp, share):
    """From where SGD has settled, over six of the valley's own times; Dom-SGD makes none at all.

    The closed form takes y for constant while x settles: an error of order 1/κ.
    """
    eta = sharp / condition
    valley = Valley(condition, np.sqrt(share * (2 - sharp) / eta))
    assert valley.share(eta) == pytest.approx(share)
    start = valley.moments(eta, (share / condition, 1.0), int(30 / sharp))[-1]
    steps = int(6 / eta)
    sgd, dom, bulk = (
        gained(valley, eta, name, start, steps) for name in ("none", "dominant", "bulk")
    )
    assert valley.bulk_progress(eta) == pytest.approx(bulk / sgd, rel=4 / condition)
    assert valley.bulk_progress(eta) == pytest.approx(1 / (1 + share), rel=3 * share**2 / condition)
    assert abs(dom / sgd) < 5 * share / condition


@pytest.mark.parametrize("share", [0.05, 0.5, 3.0])
def test_bulk_progress_is_that_of_many_paths(share):
    """Simulated with the same start for SGD and Bulk-SGD, over two of the valley's own times."""
    eta = 5e-4
    valley = Valley(cross=np.sqrt(share * 1.5 / eta))
    at_switch = cloud(valley, eta, (0.0, 1.0), 40, runs=4000)

    def loss(points):
        return valley.loss(np.stack(points, -1)).mean()

    ends = [
        loss(cloud(valley, eta, at_switch, 4000, name, 4000, seed=1)) for name in ("none", "bulk")
    ]
    found = (loss(at_switch) - ends[1]) / (loss(at_switch) - ends[0])
    assert found == pytest.approx(valley.bulk_progress(eta), rel=0.05)


def test_the_mean_alignment_is_that_of_small_steps():
    """At ηκ = 0.02, where x is a sum of many signs; 4,000 paths."""
    valley, eta = Valley(200.0, 30.0), 1e-4
    x, y = cloud(valley, eta, (0.0, 1.0), 400, runs=4000)
    aligned = valley.alignment(np.stack([x, y], -1)).mean()
    assert aligned == pytest.approx(valley.mean_alignment(eta), abs=0.015)
    assert valley.mean_alignment(eta) < valley.typical_alignment(eta) - 0.05
    assert Valley(cross=0.0).mean_alignment(eta) == 0


@given(st.floats(0.5, 0.95), st.floats(0.5, 0.95))
@settings(max_examples=examples(20), deadline=None)
def test_at_the_ends_of_the_window_both_are_as_wanted(alignment, progress):
    valley = Valley(1000.0, 100.0)
    low, high = valley.window(alignment, progress)
    assert valley.mean_alignment(valley.rate(low)) == pytest.approx(alignment)
    assert valley.bulk_progress(valley.rate(high)) == pytest.approx(progress, rel=0.003)


def test_a_batch_has_the_noise_of_one_sample_of_a_milder_valley():
    """In mean squares: a batch of B divides c² by B."""
    drawn = Valley().draw(np.random.default_rng(0), 10, 20_000)
    assert set(np.round(5 * (drawn + 1)).astype(int)) <= set(range(11))
    assert abs(drawn.mean()) < 0.01 and drawn.var() == pytest.approx(0.1, rel=0.05)


def test_sample_gradients_are_those_of_the_sample_losses():
    valley, point = Valley(50.0, 3.0), torch.tensor([0.3, -0.7], dtype=torch.float64)
    for sign in (-1.0, 1.0):

        def sample(p, sign=sign):
            x, y = p
            return (50 * x**2 + y**2) / 2 + sign * 3 * x * y

        expected = torch.func.grad(sample)(point).numpy()
        ours = valley.gradient(point.numpy()) + valley.noise(point.numpy(), sign)
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_the_signs_are_fair_and_of_their_seed():
    assert signs(1, 8).tolist() != signs(2, 8).tolist()
    assert signs(3, 100).tolist() == signs(3, 200)[:100].tolist()
    assert signs(3 + 2**32, 20).tolist() == signs(3, 20).tolist()
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


@pytest.mark.parametrize("method", ["SGD", "Dom-SGD", "Bulk-SGD", "GD"])
def test_sgd_is_the_rule_of_the_library(method):
    """Step by step with ``optimizers``, as the other rules are."""
    name, projection, noisy = METHODS[method]
    rule, theta = (
        optimizers.build(name, 5e-4, 0.9, 0.05),
        torch.tensor([0.02, 1.0], dtype=torch.float64),
    )
    keep = {"none": [1, 1], "dominant": [1, 0], "bulk": [0, 1]}[projection]
    state = rule.init(theta)
    for sign in signs(9, 40) * noisy:
        x, y = theta
        slope = torch.stack([1000 * x + sign * 100 * y, y + sign * 100 * x])
        state, update = rule.update(state, slope, theta)
        theta = theta + update * torch.tensor(keep)
    np.testing.assert_allclose(
        path(Valley(), method, 5e-4, (0.02, 1.0), 40, 9)[-1], theta.numpy(), rtol=1e-12
    )


def test_an_unknown_method_is_one_sentence():
    with pytest.raises(ValueError, match="use SGD, GD"):
        path(Valley(), "Muon", 0.1, (0, 1), 1)
