"""Fast matrix products: used only where they are as exact as float32, and never left switched on."""

import pytest
import torch
from torch import nn

from subspace_lib import DominantSubspace, models
from subspace_lib.linalg import matmul
from subspace_lib.linalg.precision import full_precision
from subspace_lib.objective import Objective


def setting():
    return torch.backends.mkldnn.matmul.fp32_precision


def test_products_inside_have_the_accuracy_of_float32():
    first, second = torch.randn(700, 300), torch.randn(300, 900)
    exact = first.double() @ second.double()
    with matmul.fast_matmul():
        inside = first @ second
    assert float((inside - exact).norm() / exact.norm()) < 1e-6


def test_the_setting_is_restored_whatever_happens():
    before = setting()
    with pytest.raises(ZeroDivisionError), matmul.fast_matmul():
        assert (setting() == "bf16") == matmul.onednn_is_exact()
        raise ZeroDivisionError
    assert setting() == before
    with matmul.default_matmul(), matmul.fast_matmul():
        assert setting() == before


@pytest.fixture
def rounding(monkeypatch):
    """A processor with bfloat16 matrix units, and a user who asks for them."""
    monkeypatch.setattr(matmul, "LOSS", 0.0)
    matmul.onednn_is_exact.cache_clear()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)
    matmul.onednn_is_exact.cache_clear()


def test_where_products_would_be_rounded_they_are_not_whatever_pytorch_was_told(rounding):
    assert setting() == "bf16" and not matmul.onednn_is_exact()
    with matmul.fast_matmul(), full_precision():
        assert setting() == "ieee"
    with full_precision():
        assert setting() == "ieee"
    assert setting() == "bf16"


def test_nothing_that_follows_the_subspace_rounds_to_bfloat16(rounding):
    seen = set()

    class Watched(nn.Linear):
        def forward(self, x):
            seen.add(setting())
            return super().forward(x)

    model = nn.Sequential(Watched(4, 5), nn.Tanh(), Watched(5, 3))
    objective = Objective(model, "mse", torch.rand(30, 4), torch.arange(30) % 3)
    theta, tracker = objective.initial(), DominantSubspace(objective, 2)
    _, gradient = objective.gradient(theta)
    tracker.refresh(theta, 0, gradient)
    tracker.look(theta, 1, gradient)
    objective.evaluate(theta)
    assert seen == {"ieee"} and setting() == "bf16"


def test_the_fast_way_is_taken_inside_of_a_solver_too():
    with full_precision(), matmul.fast_matmul(), full_precision():
        assert (setting() == "bf16") == matmul.onednn_is_exact()


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_hessian_products_of_a_network_of_real_size_are_those_of_float64(digits, network):
    def objective(dtype):
        model = models.build(network, digits.shape, 10, seed=0)
        inputs, labels = digits.train_inputs[:300], digits.train_labels[:300]
        return Objective(model, "mse", inputs, labels, chunk=128, dtype=dtype)

    single, double = objective(torch.float32), objective(torch.float64)
    block = torch.randn(single.dim, 3)
    product = single.hessian(single.initial()) @ block
    exact = double.hessian(double.initial()) @ block.double()
    assert float((product - exact).norm() / exact.norm()) < 3e-6
