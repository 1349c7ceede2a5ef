"""Fast matrix products: used only where they are as exact as float32, and never left switched on."""

import pytest
import torch

from subspace_lib import models
from subspace_lib.linalg import matmul
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


def test_where_products_would_be_rounded_the_setting_is_left_alone(monkeypatch):
    monkeypatch.setattr(matmul, "LOSS", 0.0)  # as on a processor with bfloat16 matrix units
    matmul.onednn_is_exact.cache_clear()
    try:
        before = setting()
        assert not matmul.onednn_is_exact()
        with matmul.fast_matmul():
            assert setting() == before
    finally:
        matmul.onednn_is_exact.cache_clear()


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
