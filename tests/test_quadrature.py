"""The spectral density against dense float64 spectra, and against PyHessian's from the same probes."""

import pytest
import torch
from conftest import reference

from subspace_lib.linalg.eigensolver import NonFiniteProduct
from subspace_lib.linalg.quadrature import mean_error, random_signs, spectral_quadrature
from subspace_lib.objective import Objective
from subspace_lib.runs.peer import pyhessian_quadrature


@pytest.fixture(scope="module")
def dense():
    """H of a tiny network (D = 123), its eigenvalues, the operator of its products, and probes."""
    r = reference("mlp", "cross_entropy", chunk=10)
    probes = random_signs(len(r.theta), 40, torch.Generator().manual_seed(1)).double()
    operator = r.objective.hessian(r.theta)
    return r.hessian, torch.linalg.eigvalsh(r.hessian), operator, probes


def test_moments_of_each_probe_are_those_of_the_matrix_up_to_twice_the_steps(dense):
    matrix, _, operator, probes = dense
    found = spectral_quadrature(operator, probes[:, :3], 6)
    vectors = probes[:, :3] / probes[:, :3].norm(dim=0)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3, dtype=torch.float64))
    power = vectors
    for q in range(1, 12):  # Gauss quadrature is exact to degree 2m − 1 = 11
        power = matrix @ power
        torch.testing.assert_close(found.moment(q), (vectors * power).sum(0), rtol=1e-8, atol=1e-12)
    above = (vectors * (matrix @ power)).sum(0)
    assert not torch.allclose(found.moment(12), above, rtol=1e-8, atol=0)


def test_moments_and_cumulative_density_are_those_of_the_spectrum_within_the_spread(dense):
    matrix, values, _, probes = dense
    found = spectral_quadrature(matrix, probes, 60)
    checks = [(found.moment(q), float((values**q).mean())) for q in (1, 2, 3)]
    for t in (-0.01, 0.001, 0.02, 0.1):
        # in a gap: a threshold among close eigenvalues would ask which side a node falls on
        below, over = values[values <= t].max(), values[values > t].min()
        gap = float((below + over) / 2)
        checks.append((found.share_above(gap), float((values > gap).double().mean())))
    for estimates, exact in checks:
        # 7 checks: 4 standard errors leave a chance of about 1 in 1,000
        assert abs(float(estimates.mean()) - exact) <= 4 * float(mean_error(estimates)) + 1e-9


def test_all_unit_vectors_as_probes_give_the_exact_spectrum(dense):
    matrix, values, _, _ = dense
    dim = len(values)
    found = spectral_quadrature(matrix, torch.eye(dim, dtype=torch.float64), 2 * dim)
    assert found.nodes.shape == (dim, dim)  # no more steps than D
    for t in (values[:-1] + values[1:])[-20:] / 2:
        assert float(found.share_above(float(t)).mean()) * dim == pytest.approx(
            int((values > t).sum()), abs=1e-6
        )
    points, width = torch.linspace(-0.5, 2.0, 50), 0.05
    away = (points.double()[:, None] - values) / width
    exact = (torch.exp(-(away**2) / 2) / (width * (2 * torch.pi) ** 0.5)).mean(1)
    torch.testing.assert_close(found.density(points, width).mean(0), exact, rtol=1e-6, atol=1e-9)


def test_an_exhausted_krylov_space_leaves_nodes_without_weight():
    values = torch.tensor([3.0] * 10 + [-1.0] * 20, dtype=torch.float64)
    probes = random_signs(30, 2, torch.Generator().manual_seed(0)).double()
    found = spectral_quadrature(torch.diag(values), probes, 8)
    assert found.nodes.isfinite().all()
    for nodes, weights in zip(found.nodes, found.weights, strict=True):
        kept = weights > 1e-12
        torch.testing.assert_close(nodes[kept].unique(), torch.tensor([-1.0, 3.0]).double())
        assert float(weights[nodes > 0].sum()) == pytest.approx(1 / 3)


def test_a_float32_operator_keeps_the_accuracy_of_its_products(dense):
    matrix, _, _, probes = dense
    exact = spectral_quadrature(matrix, probes[:, :4], 40)
    rounded = spectral_quadrature(matrix.float(), probes[:, :4].float(), 40)
    scale = float(exact.nodes.abs().max())
    # no ghosts: as many nodes at the top of the spectrum as without rounding
    torch.testing.assert_close(
        rounded.nodes[:, -4:], exact.nodes[:, -4:], rtol=0, atol=1e-5 * scale
    )
    torch.testing.assert_close(rounded.moment(3), exact.moment(3), rtol=1e-4, atol=1e-6)


def test_pyhessian_sees_the_same_spectrum_from_the_same_probes():
    r = reference("mlp", "mse", chunk=10)
    o = r.objective
    inputs, labels = o.inputs.float(), o.labels
    single = Objective(o.model, "mse", inputs, labels, chunk=10, dtype=torch.float32)
    theta = single.initial() * 1.5
    before, state = single.initial(), torch.random.get_rng_state()
    theirs = pyhessian_quadrature(single, theta, 12, 2, seed=5)
    assert torch.equal(single.initial(), before)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        probes = []
        for _ in range(2):
            parts = [torch.randint_like(p, high=2).flatten() for p in single.model.parameters()]
            probes.append(2 * torch.cat(parts) - 1)
    ours = spectral_quadrature(single.hessian(theta), torch.stack(probes, 1), 12)
    # PyHessian's T is in float32
    torch.testing.assert_close(ours.nodes, theirs.nodes, rtol=1e-3, atol=1e-4)
    for q in (1, 2, 3):
        torch.testing.assert_close(ours.moment(q), theirs.moment(q), rtol=1e-4, atol=1e-6)


def test_what_cannot_be_is_told():
    matrix = torch.eye(4)
    with pytest.raises(ValueError, match=r"probes has shape \(4, 0\)"):
        spectral_quadrature(matrix, torch.ones(4, 0), 3)
    with pytest.raises(ValueError, match="without a zero column"):
        spectral_quadrature(matrix, torch.zeros(4, 1), 3)
    with pytest.raises(ValueError, match="steps = 0"):
        spectral_quadrature(matrix, torch.ones(4, 1), 0)
    with pytest.raises(NonFiniteProduct):
        spectral_quadrature(matrix / 0, torch.ones(4, 1), 3)
    assert mean_error(torch.ones(1, 3)).isnan().all()
