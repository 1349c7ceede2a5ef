"""The eigensolver on dense matrices: any symmetric operator, the awkward ones above all."""

import math

import numpy as np
import pytest
import torch
from conftest import DEVICES
from hypothesis import given, settings, strategies as st

from subspace_lib.linalg.eigensolver import (
    Deflated,
    Krylov,
    NonFiniteProduct,
    angle_bound,
    clearest_cut,
    direction_above,
    nearest_orthonormal,
    orthonormalize,
    power_step,
    rayleigh_ritz,
    residual_gram,
    rotate_,
    sin_largest_angle,
    top_eigenpairs,
)


def symmetric(values, seed=0, dtype=torch.float64, device="cpu"):
    """A dense symmetric matrix with the given spectrum, and its eigenvectors in that order."""
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    values = torch.as_tensor(values, dtype=torch.float64)
    return ((q * values) @ q.T).to(device, dtype), q.to(device, dtype)


def ritz_pairs(matrix, block):
    """Ritz values, vectors V and A V of the span of a block."""
    block, product = block.clone(), matrix @ block
    values, rotation = rayleigh_ritz(block, product)
    return values, rotate_(block, rotation), rotate_(product, rotation)


def certify(pairs, k):
    """The bound on the angle of the first k Ritz vectors; pair k + 1 gives the ceiling."""
    values, vectors, images = pairs
    gram = residual_gram(vectors, images)
    return angle_bound(values[:k], gram[:k, :k], float(values[k] + gram[k, k].sqrt()))


def advance(matrix, block, k):
    """One power step from an orthonormal block."""
    product = matrix @ block
    return power_step(block, product, *rayleigh_ritz(block, product), k)


def start(n, m, seed=1, dtype=torch.float64, device="cpu"):
    block = torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return block.to(device)


SPECTRA = {
    "spread": np.linspace(1, 100, 60),
    "cluster": np.r_[np.linspace(0, 1, 54), 9.9, 9.95, 10, 10.001, 10.002, 30],
    "multiple": np.r_[np.linspace(0, 1, 54), [10.0] * 6],
    "negative larger in magnitude": np.r_[np.linspace(-500, -1, 54), 1, 2, 3, 4, 5, 6],
    "all negative": np.linspace(-100, -1, 60),
    "rank below k": np.r_[[0.0] * 58, 5, 7],
    "zero": np.zeros(60),
}


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("k", [1, 4])
def test_largest_algebraic_values_are_found(spectrum, k, device):
    matrix, _ = symmetric(spectrum, device=device)
    pairs = top_eigenpairs(matrix, k, start(60, k + 2, device=device), tolerance=1e-9)
    assert pairs.converged
    exact, scale = np.sort(spectrum)[::-1][:k], max(1, np.abs(spectrum).max())
    np.testing.assert_allclose(pairs.values[:k].cpu(), exact, atol=1e-7 * scale)
    gram = pairs.vectors.T @ pairs.vectors
    torch.testing.assert_close(gram, torch.eye(len(gram)).to(gram), atol=1e-10, rtol=0)


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("block", [2, 3])
def test_a_narrow_start_finds_multiple_eigenvalues_too(spectrum, block, device):
    matrix, _ = symmetric(spectrum, device=device)
    first = start(60, block, device=device)
    pairs = top_eigenpairs(matrix, 5, first, extra=2, tolerance=1e-9)
    assert pairs.converged
    exact, scale = np.sort(spectrum)[::-1][:5], max(1, np.abs(spectrum).max())
    np.testing.assert_allclose(pairs.values[:5].cpu(), exact, atol=1e-7 * scale)
    assert pairs.vectors.shape == (60, 7)


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_restarts_keep_the_memory_and_lose_nothing(spectrum):
    matrix, _ = symmetric(spectrum)
    widest = 0

    class Watched:
        def __matmul__(self, block):
            nonlocal widest
            widest = max(widest, block.untyped_storage().nbytes() // (8 * 60))
            return matrix @ block

    pairs = top_eigenpairs(Watched(), 4, start(60, 3), tolerance=1e-9, max_basis=9)
    exact, scale = np.sort(spectrum)[::-1][:4], max(1, np.abs(spectrum).max())
    np.testing.assert_allclose(pairs.values[:4], exact, atol=1e-7 * scale)
    assert pairs.converged
    assert pairs.products > 9 or spectrum is not SPECTRA["spread"]  # restarted where it is slow
    assert widest <= 9 + 8  # the solver multiplies in place: all that it holds is behind this block


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spectrum=st.sampled_from(sorted(SPECTRA)),
    width=st.integers(1, 6),
    moves=st.lists(st.sampled_from(["advance", "turn", "restart", "elsewhere"]), max_size=8),
)
def test_what_is_known_of_the_operator_holds_after_every_move(seed, spectrum, width, moves):
    matrix, _ = symmetric(SPECTRA[spectrum], seed)
    krylov = Krylov(matrix, orthonormalize(start(60, width, seed)))
    krylov.advance(width)
    for turn, move in enumerate(moves):
        rest = len(krylov.columns) - krylov.multiplied
        if move == "advance" and rest:
            krylov.advance(1 + seed % rest)
        elif move == "turn" and rest:
            krylov.turn_rest(torch.linalg.qr(start(rest, rest, seed))[0])
        elif move == "restart":
            values, rotation, _ = krylov.ritz()
            krylov.restart(values, rotation, 1 + seed % krylov.multiplied)
        elif move == "elsewhere" and len(krylov.columns) < 60:
            known = krylov.columns.block(0, len(krylov.columns))
            krylov.put_in_front(orthonormalize(start(60, 1, seed + 1 + turn), known))
            krylov.advance(1)
        basis = krylov.columns.block(0, krylov.multiplied)
        everything = krylov.columns.block(0, len(krylov.columns))
        scale = 1 + np.abs(SPECTRA[spectrum]).max()
        unit = torch.eye(len(krylov.columns), dtype=torch.float64)
        torch.testing.assert_close(everything.T @ everything, unit, atol=1e-10, rtol=0)
        torch.testing.assert_close(
            matrix @ basis, everything @ krylov.table, atol=1e-10 * scale, rtol=0
        )


@pytest.mark.parametrize("basis", [12, 30])
@pytest.mark.parametrize("missing", range(6))
@pytest.mark.parametrize("seed", range(10))  # fixed: the start vector may be unlucky
def test_what_a_block_has_missed_is_found_and_nothing_where_it_has_all(seed, missing, basis):
    matrix, vectors = symmetric(np.r_[np.linspace(-3, 3, 54), 5, 6, 7, 7.0001, 8, 9], seed)
    known = vectors[:, 54:]
    lacking = torch.cat([known[:, :missing], known[:, missing + 1 :]], 1)
    for block in (known, lacking):
        deflated, calls = Deflated(matrix, block), []

        class Counting:
            def __matmul__(self, column, deflated=deflated, calls=calls):
                calls.append(column)
                return deflated @ column

        first = orthonormalize(start(60, 1, seed + 1), block)
        found = direction_above(Counting(), 4.5, first, max_basis=basis)
        if block is known:
            assert found is None
            assert len(calls) <= 30
        else:
            assert float(found.T @ matrix @ found) > 4.5
            assert float((block.T @ found).norm()) < 1e-9
    assert direction_above(matrix, 0.0, torch.empty(60, 0), max_basis=8) is None


def test_an_operator_that_returns_its_argument_is_not_overwritten():
    class Identity:
        def __matmul__(self, block):
            return block

    pairs = top_eigenpairs(Identity(), 3, start(20, 4))
    np.testing.assert_allclose(pairs.values, 1, atol=1e-12)
    torch.testing.assert_close(
        pairs.vectors.T @ pairs.vectors, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_the_nearest_orthonormal_columns_are_in_the_same_order():
    block = orthonormalize(start(40, 5))
    near = block + 0.05 * start(40, 5, seed=2) / 40**0.5
    found = nearest_orthonormal(near)
    unit = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(found.T @ found, unit, atol=1e-12, rtol=0)
    polar = torch.linalg.svd(
        near, full_matrices=False
    )  # the nearest, by the singular value theorem
    torch.testing.assert_close(found, polar.U @ polar.Vh, atol=1e-12, rtol=0)
    assert float((found.T @ block).diagonal().min()) > 0.99


def test_an_angle_asked_for_ends_the_search_early():
    matrix, vectors = symmetric(np.r_[np.linspace(0, 1, 190), np.linspace(2.5, 12, 10)])
    exact = vectors[:, -10:]
    tight = top_eigenpairs(matrix, 10, start(200, 3), tolerance=1e-12)
    loose = top_eigenpairs(matrix, 10, start(200, 3), tolerance=1e-12, angle=0.05)
    assert loose.products < tight.products
    assert sin_largest_angle(loose.vectors[:, :10], exact) <= 0.05


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 5), (12, 12), (3, 2)])
def test_k_up_to_the_whole_space(n, k):
    matrix, _ = symmetric(np.arange(n) + 1.0)
    pairs = top_eigenpairs(matrix, k, start(n, k + 3), tolerance=1e-10)
    np.testing.assert_allclose(pairs.values[:k], np.arange(n, n - k, -1), rtol=1e-9)


def test_float32_reaches_what_its_precision_allows():
    matrix, exact = symmetric(
        np.r_[np.linspace(0, 1, 90), np.linspace(10, 50, 10)], dtype=torch.float32
    )
    pairs = top_eigenpairs(matrix, 10, start(100, 12, dtype=torch.float32), tolerance=1e-5)
    assert pairs.converged
    assert sin_largest_angle(pairs.vectors[:, :10], exact[:, 90:]) < 1e-4


def test_random_vectors_of_a_large_operator_are_not_taken_for_eigenvectors():
    dim = 200_000  # outliers on a sea of zeros: a random vector's residual is far below 1e-2 λ_1
    values = torch.zeros(dim, dtype=torch.float64)
    values[:20] = torch.linspace(50, 5, 20, dtype=torch.float64)

    class Diagonal:
        def __matmul__(self, block):
            return values[:, None] * block

    warm = torch.eye(dim, 13, dtype=torch.float64)
    pairs = top_eigenpairs(Diagonal(), 20, torch.cat([warm, start(dim, 7)], 1), tolerance=1e-2)
    assert pairs.converged
    np.testing.assert_allclose(pairs.values[:20], values[:20], rtol=2e-2)


def test_budget_ends_the_search_without_claiming_success():
    matrix, _ = symmetric(np.linspace(1, 100, 200))
    pairs = top_eigenpairs(matrix, 4, start(200, 6), tolerance=1e-10, max_products=20)
    assert not pairs.converged
    assert pairs.products <= 20


def test_residuals_are_those_of_the_returned_pairs():
    matrix, _ = symmetric(np.linspace(1, 100, 60))
    pairs = top_eigenpairs(matrix, 3, start(60, 5), tolerance=1e-3)
    residual = matrix @ pairs.vectors - pairs.vectors * pairs.values
    np.testing.assert_allclose(pairs.residuals, residual.norm(dim=0), atol=1e-9)


def test_bad_k_and_nonfinite_products_are_refused():
    matrix, _ = symmetric(np.arange(5.0))
    for k in (0, 6):
        with pytest.raises(ValueError, match="between 1 and D = 5"):
            top_eigenpairs(matrix, k, start(5, 6))
    with pytest.raises(ValueError, match="no columns"):
        top_eigenpairs(matrix, 3, start(5, 0))
    with pytest.raises(NonFiniteProduct, match="not finite at this θ"):
        top_eigenpairs(matrix * math.nan, 2, start(5, 3))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    gap=st.floats(0.05, 3),
    noise=st.floats(1e-4, 0.3),
    k=st.integers(1, 5),
    guards=st.integers(1, 3),
)
def test_no_certificate_is_below_the_true_angle(seed, gap, noise, k, guards, device):
    rng = np.random.default_rng(seed)
    bulk = np.sort(rng.uniform(-3, 1, 40 - k))
    top = 1 + gap * np.cumsum(rng.uniform(0.5, 2, k))
    matrix, vectors = symmetric(np.r_[bulk, top], seed, device=device)
    exact = vectors[:, -k:]
    near = vectors[:, -(k + guards) :] + noise / 6 * start(40, k + guards, seed, device=device)
    block = orthonormalize(near)
    pairs = ritz_pairs(matrix, block)
    bound = certify(pairs, k)
    true = sin_largest_angle(pairs[1][:, :k], exact)
    assert math.isnan(bound) or bound >= true - 1e-12


def test_certificate_is_tighter_than_davis_kahan_and_not_far_from_the_truth():
    matrix, vectors = symmetric(np.r_[np.linspace(0, 1, 190), np.linspace(2.5, 12, 10)])
    block = orthonormalize(vectors[:, -13:] + 2e-3 * start(200, 13))
    pairs = ritz_pairs(matrix, block)
    values, ritz, images = pairs
    bound = certify(pairs, 10)
    residual = images - ritz * values
    guard = float(residual[:, 10].norm())
    davis_kahan = float(torch.linalg.matrix_norm(residual[:, :10], ord=2)) / float(
        values[9] - values[10] - guard
    )
    true = sin_largest_angle(ritz[:, :10], vectors[:, -10:])
    assert true <= bound < min(0.7 * davis_kahan, 3 * true)


def test_a_closed_gap_is_not_certified():
    matrix, vectors = symmetric(np.r_[np.linspace(0, 1, 50), 5, 5, 9])
    block = vectors[:, -4:]
    pairs = ritz_pairs(matrix, block)
    assert math.isnan(certify(pairs, 2))  # k = 2 cuts the pair of fives
    assert clearest_cut(pairs[0], 2) == 3


def test_one_power_step_contracts_the_error():
    matrix, vectors = symmetric(np.r_[np.linspace(-2, 1, 50), np.linspace(5, 10, 5)])
    block = orthonormalize(vectors[:, -7:] + 0.02 * start(55, 7))
    pairs = ritz_pairs(matrix, block)
    before = pairs[1][:, :5].clone()
    estimates, after = advance(matrix, block, 5)
    exact = vectors[:, -5:]
    # The block's guards lie near 1: outside it, |λ|/λ_k ≤ 2/5.
    assert sin_largest_angle(after[:, :5], exact) < 0.45 * sin_largest_angle(before, exact)
    np.testing.assert_allclose(estimates[:5], np.linspace(10, 5, 5), rtol=1e-2)


def test_power_step_is_not_deceived_where_curvatures_cancel():
    matrix, vectors = symmetric(np.r_[np.linspace(-9, -8, 5), np.linspace(0, 1, 40), 5, 7])
    mixed = orthonormalize(0.65 * vectors[:, 44:45] + 0.2 * vectors[:, 1:2])
    block = torch.cat([vectors[:, -2:], mixed], 1)
    own = float((matrix @ mixed).square().sum() / (mixed.T @ matrix @ mixed))
    assert own > 7  # the pencil alone would rank it first
    estimates, moved = advance(matrix, block, 2)
    np.testing.assert_allclose(estimates[:2], [7, 5], rtol=1e-9)
    assert sin_largest_angle(moved[:, :2], vectors[:, -2:]) < 1e-9
    assert moved.shape[1] == 3


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rank=st.integers(0, 6), columns=st.integers(1, 8))
def test_orthonormalize_keeps_the_span_and_drops_what_depends(seed, rank, columns):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(20, rank)) @ rng.normal(size=(rank, columns))
    block = torch.tensor(factor)
    basis = orthonormalize(block)
    assert basis.shape[1] == min(rank, columns)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-10)
    np.testing.assert_allclose(
        basis @ (basis.T @ block), block, atol=1e-6 * (1 + block.abs().max())
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), angle=st.floats(1e-7, 1.5))
def test_sine_of_the_largest_angle_is_accurate_for_small_angles(seed, angle):
    _, q = symmetric(np.arange(9.0), seed)
    turned = q[:, 2] * math.cos(angle) + q[:, 5] * math.sin(angle)
    first, second = q[:, :3], torch.cat([q[:, :2], turned[:, None]], 1)
    assert sin_largest_angle(first, second) == pytest.approx(math.sin(angle), rel=1e-6)


def test_a_start_that_requires_a_gradient_is_taken_as_it_is():
    matrix = torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64))
    start = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    pairs = top_eigenpairs(matrix, 2, start)
    assert pairs.values[:2].tolist() == pytest.approx([8, 7], rel=1e-3)
    assert not pairs.vectors.requires_grad
