"""Our convolution and pooling against PyTorch's own: the same numbers in every mode of differentiation."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap

from subspace_lib.models.convolution import Conv2d, MaxPool2d

GEOMETRIES = {
    "padded": {"padding": 1},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"padding": 2, "dilation": 2},
    "grouped": {"groups": 2, "padding": 1, "bias": False},
}


def networks(dtype=torch.float64, **geometry):
    """Plain PyTorch and ours with the same parameters, as losses of (parameters, images)."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(2, 4, 3, **geometry), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.Tanh()
    ).to(dtype)
    ours = nn.Sequential(
        Conv2d(2, 4, 3, **geometry), MaxPool2d(2), nn.ReLU(), Conv2d(4, 3, 2), nn.Tanh()
    ).to(dtype)
    weights = torch.randn(3, 1, 1, dtype=dtype)
    losses = [
        lambda p, x, n=network: (functional_call(n, p, (x,)) * weights).square().mean()
        for network in (plain, ours)
    ]
    values = [p.detach() for p in plain.parameters()]
    names = [[name for name, _ in network.named_parameters()] for network in (plain, ours)]
    return losses, [dict(zip(n, values, strict=True)) for n in names]


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_all_derivatives_are_those_of_pytorch(geometry, device):
    losses, parameters = networks(**geometry)
    images = torch.randn(5, 2, 9, 9, dtype=torch.float64)
    tangents = [torch.randn_like(p) for p in parameters[0].values()]

    def derivatives(loss, point):
        along = dict(zip(point, tangents, strict=True))
        slope = lambda p: grad(loss)(p, images)  # noqa: E731
        inner = lambda p: sum((g * along[n]).sum() for n, g in slope(p).items())  # noqa: E731
        return {
            "value": [loss(point, images)],
            "gradient": [*slope(point).values()],
            "by the images": [grad(loss, 1)(point, images)],
            "forward": [jvp(lambda p: loss(p, images), (point,), (along,))[1]],
            "reverse over reverse": [*grad(inner)(point).values()],
            "forward over reverse": [*jvp(slope, (point,), (along,))[1].values()],
            "of every sample": [*vmap(grad(loss), (None, 0))(point, images[:, None]).values()],
        }

    plain, ours = map(derivatives, losses, parameters)
    for name, expected in plain.items():
        for one, other in zip(expected, ours[name], strict=True):
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12, msg=name)


def test_equal_maxima_count_once_and_the_first_as_in_pytorch():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    slopes = [
        torch.autograd.grad(p(images).sum(), images)[0] for p in (nn.MaxPool2d(2), MaxPool2d(2))
    ]
    torch.testing.assert_close(*slopes, rtol=0, atol=0)
    assert float(slopes[0].sum()) == 2 * 3 * 4


@pytest.mark.parametrize("words", [{"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}])
def test_padding_that_is_not_zeros_is_refused(words):
    with pytest.raises(ValueError, match="only zeros, and as many as a number says"):
        Conv2d(2, 2, 3, **words)
