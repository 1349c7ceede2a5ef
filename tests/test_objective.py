"""Losses, gradients and Hessian products against dense float64 references and PyHessian."""

import numpy as np
import pytest
import torch
from conftest import reference
from pyhessian import hessian as pyhessian
from torch import nn

from subspace_lib import models
from subspace_lib.linalg.eigensolver import top_eigenpairs
from subspace_lib.objective import Objective, cross_entropy, mse

NETWORKS = ("mlp", "cnn")
LOSSES = ("mse", "cross_entropy")


def test_mse_is_half_the_squared_distance_to_one_hot():
    outputs = torch.tensor([[1.0, 2.0], [0.0, 0.5]])
    labels = torch.tensor([1, 0])
    # ½ (1² + 1²) = 1 and ½ (1² + 0.5²) = 0.625
    assert float(mse(outputs, labels)) == pytest.approx((1 + 0.625) / 2)


def test_cross_entropy_is_in_nats():
    assert float(cross_entropy(torch.zeros(4, 10), torch.arange(4))) == pytest.approx(np.log(10))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("chunk", [1, 10, 36, 37, 1000])  # 37 samples: most leave a ragged chunk
def test_gradient_and_products_match_the_dense_hessian(network, loss, chunk, device):
    ref = reference(network, loss, chunk, device)
    value, gradient = ref.objective.gradient(ref.theta)
    assert float(value) == pytest.approx(float(ref.loss), rel=1e-12)
    torch.testing.assert_close(gradient, ref.gradient, rtol=1e-10, atol=1e-14)
    block = torch.randn(ref.objective.dim, 5, dtype=torch.float64, device=device)
    operator = ref.objective.hessian(ref.theta)
    error = (operator @ block - ref.hessian @ block).norm() / (ref.hessian @ block).norm()
    assert error < 1e-10
    torch.testing.assert_close(operator.gradient, ref.gradient, rtol=1e-10, atol=1e-14)
    assert float(operator.loss) == pytest.approx(float(ref.loss), rel=1e-12)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES)
def test_eigenpairs_match_the_dense_hessian(network, loss, device):
    ref = reference(network, loss, 10, device)
    start = torch.randn(ref.objective.dim, 5, dtype=torch.float64, device=device)
    pairs = top_eigenpairs(ref.objective.hessian(ref.theta), 3, start, tolerance=1e-8)
    exact = torch.linalg.eigvalsh(ref.hessian).flip(0)[:3]
    assert pairs.converged
    torch.testing.assert_close(pairs.values[:3], exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("chunk", [10, 37])
def test_gauss_newton_products_match_the_dense_matrix(network, loss, chunk, device):
    ref = reference(network, loss, chunk, device)
    o, theta = ref.objective, ref.theta
    jacobian = torch.func.jacrev(lambda t: o.outputs(t, o.inputs))(theta)  # (n, C, D)
    outputs = o.outputs(theta, o.inputs).detach()
    curvature = torch.func.hessian(lambda f: o.loss(f, o.labels))(outputs)  # (n, C, n, C)
    dense = torch.einsum("ncd,ncme,mef->df", jacobian, curvature, jacobian)
    block = torch.randn(o.dim, 4, dtype=torch.float64, device=device)
    operator = o.gauss_newton(theta)
    torch.testing.assert_close(operator @ block, dense @ block, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(operator.gradient, ref.gradient, rtol=1e-9, atol=1e-13)


def test_products_on_a_subset_are_those_of_its_loss_and_cost_their_share():
    ref = reference("mlp", "cross_entropy", 4)
    o, block = ref.objective, torch.randn(ref.objective.dim, 3, dtype=torch.float64)
    rows = o.subset(10)
    assert len(set(rows.tolist())) == 10
    alone = Objective(o.model, "cross_entropy", o.inputs[rows], o.labels[rows], dtype=torch.float64)
    before = o.gradient_equivalents
    product = o.hessian(ref.theta).on(10) @ block
    torch.testing.assert_close(product, alone.hessian(ref.theta) @ block, rtol=1e-10, atol=1e-13)
    assert o.gradient_equivalents - before == pytest.approx((0.9 + 3 * 1.2) * 10 / len(o))


@pytest.mark.parametrize("network", NETWORKS)
def test_batched_products_are_the_same(network, device):
    ref = reference(network, "mse", 10, device)
    o = ref.objective
    block = torch.randn(o.dim, 3, dtype=torch.float64, device=device)
    batched = Objective(
        o.model,
        "mse",
        o.inputs,
        o.labels,
        chunk=10,
        device=device,
        dtype=torch.float64,
        batch_products=True,
    )
    expected = o.hessian(ref.theta) @ block
    torch.testing.assert_close(batched.hessian(ref.theta) @ block, expected, rtol=1e-10, atol=1e-13)


def test_batch_gradient_is_the_mean_over_its_rows():
    ref = reference("mlp", "mse", 10)
    rows = torch.tensor([3, 17, 30])
    _, batch = ref.objective.gradient(ref.theta, rows)
    single = [ref.objective.gradient(ref.theta, rows[i : i + 1])[1] for i in range(3)]
    torch.testing.assert_close(batch, torch.stack(single).mean(0))


def test_evaluate_weights_a_ragged_last_chunk_by_its_size():
    ref = reference("mlp", "cross_entropy", 10)
    loss, accuracy = ref.objective.evaluate(ref.theta, ref.objective.inputs, ref.objective.labels)
    assert loss == pytest.approx(float(ref.loss), rel=1e-12)
    outputs = ref.objective.outputs(ref.theta, ref.objective.inputs)
    assert accuracy == float((outputs.argmax(1) == ref.objective.labels).double().mean())


def test_top_eigenvalues_match_pyhessian_on_a_network_of_real_size(digits):
    model = models.build("mlp", digits.shape, 10, seed=0)
    inputs, labels = digits.train_inputs[:500], digits.train_labels[:500]
    objective = Objective(model, "cross_entropy", inputs, labels, chunk=300)
    assert objective.dim > 50_000
    start = torch.randn(objective.dim, 6, generator=torch.Generator().manual_seed(1))
    ours = top_eigenpairs(objective.hessian(objective.initial()), 3, start, tolerance=1e-4)
    theirs, _ = pyhessian(
        model, nn.CrossEntropyLoss(), data=(inputs, labels), cuda=False
    ).eigenvalues(maxIter=300, tol=1e-5, top_n=3)
    # Power iteration stops when its value moves by 1e-5: that leaves about 1e-3 where gaps are small.
    np.testing.assert_allclose(ours.values[:3].numpy(), theirs, rtol=2e-3)


@pytest.mark.parametrize("bad", [{"loss": "hinge"}, {"chunk": 0}])
def test_bad_arguments_say_what_is_allowed(bad):
    good = {"loss": "mse", "chunk": 5}
    with pytest.raises(ValueError, match=r"choose one of|at least 1"):
        settings = good | bad
        Objective(
            nn.Linear(2, 2),
            settings["loss"],
            torch.zeros(3, 2),
            torch.zeros(3),
            chunk=settings["chunk"],
        )


def test_models_have_the_papers_sizes_and_leave_the_random_state_alone():
    state = torch.get_rng_state()
    sizes = {
        name: sum(p.numel() for p in models.build(name, shape, 10, 0).parameters())
        for name, shape in (("mlp", (1, 28, 28)), ("cnn", (3, 32, 32)))
    }
    assert sizes == {"mlp": 199_210, "cnn": 896 + 9_248 + 20_490}
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="choose one of mlp"):
        models.build("lenet", (3, 32, 32), 10, 0)
