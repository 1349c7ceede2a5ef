"""The networks: their products against dense float64, their sizes, and what each promises of itself."""

import pytest
import torch
from pyhessian import hessian as pyhessian
from torch import nn
from torch.nn import functional

from subspace_lib import data, models
from subspace_lib.linalg.eigensolver import top_eigenpairs
from subspace_lib.models.cnn import cnn
from subspace_lib.models.mlp import mlp
from subspace_lib.models.resnet import ResNet8
from subspace_lib.models.transformer import Transformer, sinusoids
from subspace_lib.models.vgg import vgg11
from subspace_lib.objective import LOSSES, Objective

PIXELS = lambda n, side: torch.randn(n, 2, side, side, dtype=torch.float64)  # noqa: E731


def tokens(n=6, length=5, vocabulary=7):
    """Sentences of different lengths, padded with 0."""
    drawn = torch.randint(1, vocabulary, (n, length))
    drawn[torch.arange(length) >= (2 + torch.arange(n) % (length - 1))[:, None]] = 0
    return drawn


def tiny_transformer():
    return Transformer(7, 5, 3, width=4, heads=2, hidden=6)


def tiny_resnet(statistics):
    model = ResNet8(2, 3, width=1, batch_statistics=statistics).double()
    model.settle(PIXELS(20, 8))
    for (
        name,
        parameter,
    ) in model.named_parameters():  # else the blocks' second halves have no gradient
        if name.endswith("second_norm.weight"):
            nn.init.constant_(parameter, 0.7)
    return model


# Builder, inputs, samples a chunk: batch statistics are those of a chunk, so that it has to hold all.
ZOO = {
    "mlp": (lambda: mlp(2 * 16, 3, width=4), lambda: PIXELS(6, 4), 4),
    "cnn": (lambda: cnn(2, 8, 3, width=2), lambda: PIXELS(6, 8), 4),
    "transformer": (tiny_transformer, tokens, 4),
    "resnet8": (lambda: tiny_resnet("fixed"), lambda: PIXELS(6, 8), 4),
    "resnet8_chunk": (lambda: tiny_resnet("chunk"), lambda: PIXELS(6, 8), 6),
    "vgg11": (lambda: vgg11(2, 32, 3, width=1), lambda: PIXELS(3, 32), 2),
}


@pytest.fixture(params=ZOO)
def tiny(request):
    """An objective in float64 at a θ that is not the network's own."""
    torch.manual_seed(1)
    build, inputs, chunk = ZOO[request.param]
    model, data = build().double(), inputs()
    labels = torch.randint(0, 3, (len(data),))
    own = not request.param.endswith("_chunk")  # whether a sample has a loss of its own
    objective = Objective(
        model, "cross_entropy", data, labels, chunk=chunk, dtype=torch.float64, check=own
    )
    theta = objective.initial()
    return objective, theta + 0.1 * torch.randn_like(theta), data, labels


def of_theta(objective, data):
    """Outputs as a function of a flat θ, by nothing but the layout."""

    def outputs(flat):
        parts, start = {}, 0
        for name, parameter in objective.model.named_parameters():
            parts[name] = flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        return torch.func.functional_call(objective.model, parts, (data,))

    return outputs


def test_products_are_those_of_dense_matrices_in_float64(tiny):
    """H v by central differences of gradients, which know no second derivative; G v from the Jacobian."""
    objective, theta, data, labels = tiny
    outputs, loss = of_theta(objective, data), LOSSES["cross_entropy"]
    block = torch.randn(len(theta), 3, dtype=torch.float64)
    block = block / block.norm(dim=0)
    found = objective.hessian(theta) @ block
    slope = torch.func.grad(lambda t: loss(outputs(t), labels))
    torch.testing.assert_close(objective.gradient(theta)[1], slope(theta), rtol=1e-9, atol=1e-12)
    step = 1e-5
    for column, product in zip(block.T, found.T, strict=True):
        change = (slope(theta + step * column) - slope(theta - step * column)) / (2 * step)
        # differences err by step² times the fourth derivative, and by rounding over the step
        assert (product - change).norm() < 2e-6 * change.norm()
    jacobian = torch.func.jacrev(outputs)(theta)  # (n, C, D)
    curvature = torch.func.hessian(lambda f: loss(f, labels))(outputs(theta).detach())
    along = torch.einsum("ncd,dm->ncm", jacobian, block)
    expected = torch.einsum("ncd,ncke,kem->dm", jacobian, curvature, along)
    torch.testing.assert_close(
        objective.gauss_newton(theta) @ block, expected, rtol=1e-8, atol=1e-11
    )


@pytest.mark.parametrize("name", [name for name in ZOO if name != "vgg11"])
def test_products_match_the_whole_dense_hessian(name):
    torch.manual_seed(2)
    build, inputs, chunk = ZOO[name]
    model, data = build().double(), inputs()
    labels = torch.randint(0, 3, (len(data),))
    own = not name.endswith("_chunk")
    objective = Objective(model, "mse", data, labels, chunk=chunk, dtype=torch.float64, check=own)
    theta = objective.initial() + 0.1 * torch.randn(objective.dim, dtype=torch.float64)
    outputs = of_theta(objective, data)
    # not torch.func.hessian: that of a layer norm is not symmetric, and wrong, in PyTorch 2.14
    dense = torch.autograd.functional.hessian(lambda t: LOSSES["mse"](outputs(t), labels), theta)
    block = torch.randn(len(theta), 4, dtype=torch.float64)
    found = objective.hessian(theta) @ block
    assert (found - dense @ block).norm() < 1e-10 * (dense @ block).norm()


def test_the_transformer_is_torchs_own_encoder_on_embedding_and_positions():
    torch.manual_seed(3)
    model, x = Transformer(30, 9, 2, width=16, heads=4, hidden=20), tokens(8, 9, 30)
    layer = nn.TransformerEncoderLayer(16, 4, 20, dropout=0.0, batch_first=True)
    theirs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    theirs.load_state_dict(model.encoder.state_dict())
    frequencies = 10_000.0 ** (-torch.arange(0, 16, 2) / 16)
    angles = torch.arange(9)[:, None] * frequencies
    positions = torch.zeros(9, 16)
    positions[:, 0::2], positions[:, 1::2] = angles.sin(), angles.cos()
    torch.testing.assert_close(sinusoids(9, 16), positions)
    for training in (True, False):
        model.train(training), theirs.train(training)
        encoded = theirs(
            functional.embedding(x, model.embedding.weight) + positions, src_key_padding_mask=x == 0
        )
        expected = encoded.mean(1) @ model.head.weight.T + model.head.bias
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-6)


def test_the_transformers_losses_in_training_and_evaluation_are_equal():
    torch.manual_seed(4)
    model, x, y = tiny_transformer(), tokens(40), torch.randint(0, 3, (40,))
    found = {}
    for training in (True, False):
        model.train(training)
        with torch.set_grad_enabled(
            training
        ):  # no gradient: PyTorch's fast path, if there were one
            found[training] = {name: loss(model(x), y).item() for name, loss in LOSSES.items()}
    assert found[True] == found[False]


def test_outputs_at_real_positions_do_not_depend_on_the_padded_tokens():
    torch.manual_seed(5)
    model, x = tiny_transformer().double(), tokens(12)
    padded = x == 0
    other = torch.where(padded, torch.randint(1, 7, x.shape), x)
    assert (other != x).sum() == padded.sum() > 10
    first, second = model.encode(x, padded), model.encode(other, padded)
    torch.testing.assert_close(first[~padded], second[~padded], rtol=1e-12, atol=0)
    assert (
        first[padded] - second[padded]
    ).abs().max() > 0.1  # padded positions see their own token
    # without the mask they would matter
    none = torch.zeros_like(padded)
    moved = model.encode(x, none)[~padded] - model.encode(other, none)[~padded]
    assert moved.abs().max() > 0.01


def test_padded_positions_count_in_the_mean():
    torch.manual_seed(6)
    model, x = tiny_transformer(), tokens(12)
    encoded = model.encode(x)
    torch.testing.assert_close(model(x), model.head(encoded.sum(1) / 5))
    real = (x != 0)[:, :, None]
    assert (model(x) - model.head((encoded * real).sum(1) / real.sum(1))).abs().max() > 0.01


def test_the_transformer_begins_as_its_description_says():
    model = models.build("transformer", (66, 5821), 2, seed=0)
    assert abs(model.embedding.weight.mean().item()) < 0.01
    assert model.embedding.weight.std().item() == pytest.approx(1, abs=0.01)
    first, second = (dict(layer.named_parameters()) for layer in model.encoder.layers)
    assert all(torch.equal(first[name], second[name]) for name in first)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert sizes.pop("embedding.weight") == 5821 * 64
    # attention 4 (64² + 64), feed-forward 2 · 64 · 2048 + 2048 + 64, two norms, twice; and the head
    layer = 4 * (64 * 64 + 64) + 2 * 64 * 2048 + 2048 + 64 + 4 * 64
    assert sum(sizes.values()) == 2 * layer + 2 * 64 + 2


def test_fixed_statistics_make_each_output_its_own():
    torch.manual_seed(7)
    model, x = tiny_resnet("fixed"), PIXELS(6, 8)
    torch.testing.assert_close(model(x)[:2], model(x[:2]), rtol=1e-12, atol=1e-14)
    chunk = tiny_resnet("chunk")
    assert (chunk(x)[:2] - chunk(x[:2])).abs().max() > 1e-3


def test_statistics_are_those_of_one_pass_over_the_data_at_initialization():
    x = torch.randn(300, 3, 8, 8) * torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1) + 1
    model = models.build("resnet8_quarter", (3, 8, 8), 10, seed=0, inputs=x)
    with torch.no_grad():
        before = model.first(x)
    torch.testing.assert_close(
        model.norm.running_mean, before.mean((0, 2, 3)), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(model.norm.running_var, before.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    model(x)
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    untouched = models.build("resnet8_quarter", (3, 8, 8), 10, seed=0)
    assert not untouched.norm.running_mean.any() and (untouched.norm.running_var == 1).all()


def test_batch_statistics_are_torchs_in_training_mode():
    torch.manual_seed(8)
    model, x = ResNet8(2, 3, width=2, batch_statistics="chunk"), torch.randn(9, 2, 8, 8)
    theirs = ResNet8(2, 3, width=2)
    theirs.load_state_dict(model.state_dict(), strict=False)
    theirs.train()
    assert torch.equal(model(x), theirs(x))
    assert model(x).equal(model.train()(x))
    assert not list(model.buffers())
    # by its name only: torch's own layer in training mode is refused
    with pytest.raises(ValueError, match="training mode"):
        Objective(theirs, "mse", x, torch.randint(0, 3, (9,)))


def test_resnet8_begins_as_its_shortcuts():
    torch.manual_seed(9)
    model, x = ResNet8(2, 3, width=2), torch.randn(5, 2, 8, 8)
    y = functional.relu(model.norm(model.first(x)))
    scale = (1 + 1e-5) ** -0.5  # of a normalization by mean 0 and variance 1
    halved = torch.cat([scale * y[:, :, ::2, ::2], torch.zeros(5, 2, 4, 4)], 1)
    again = torch.cat([scale * halved[:, :, ::2, ::2], torch.zeros(5, 4, 2, 2)], 1)
    torch.testing.assert_close(model(x), model.head(again.mean((2, 3))))


def test_vgg11_is_the_network_of_its_description():
    model = models.build("vgg11", (3, 32, 32), 10, seed=0)
    convolutions = [m for m in model if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 128, 256, 256, 512, 512, 512, 512]
    for c in convolutions:
        assert c.weight.std().item() == pytest.approx((2 / (9 * c.out_channels)) ** 0.5, rel=0.05)
        assert not c.bias.any()
    linear = [m for m in model if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(512, 512), (512, 512), (512, 10)]
    x = torch.randn(2, 3, 32, 32)
    plain, halved = x, (0, 1, 3, 5, 7)
    for i, c in enumerate(convolutions):
        plain = functional.relu(functional.conv2d(plain, c.weight, c.bias, padding=1))
        plain = functional.max_pool2d(plain, 2) if i in halved else plain
    plain = plain.flatten(1)
    for m in linear[:-1]:
        plain = functional.relu(m(plain))
    torch.testing.assert_close(model(x), linear[-1](plain), rtol=1e-4, atol=1e-6)


def test_sizes_are_those_that_are_said_and_a_quarter_of_the_width():
    wide, narrow = (models.build(n, (3, 32, 32), 10, 0) for n in ("resnet8", "resnet8_quarter"))
    assert [block.second.out_channels for block in wide.blocks] == [16, 32, 64]
    assert [block.second.out_channels for block in narrow.blocks] == [4, 8, 16]
    convolutions = 9 * (3 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    norms = 2 * (16 + 2 * 16 + 2 * 32 + 16 + 2 * 64 + 32)
    assert sum(p.numel() for p in wide.parameters()) == convolutions + norms + 650
    small = models.build("vgg11_quarter", (3, 32, 32), 10, 0)
    assert [m.out_channels for m in small if isinstance(m, nn.Conv2d)][-1] == 128
    assert [m.out_features for m in small if isinstance(m, nn.Linear)] == [128, 128, 10]


@pytest.mark.parametrize("name", models.MODELS)
def test_a_seed_gives_the_same_weights_and_leaves_the_random_state_alone(name):
    shape = next(s for s in ((3, 32, 32), (8, 27)) if name in models.fitting(s))
    if name == "vgg11":
        shape = (1, 32, 32)
    state = torch.get_rng_state()
    one, same, other = (models.build(name, shape, 3, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [
        torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (one, same, other)
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_what_a_network_does_not_take_is_refused_with_those_that_do():
    with pytest.raises(
        ValueError, match=r"'cnn' does not take inputs of shape \(66, 5821\); choose one of tra"
    ):
        models.build("cnn", (66, 5821), 2, 0)
    assert models.fitting((66, 5821)) == ("transformer", "transformer_small")
    assert "mlp" in models.fitting((20,)) and "cnn" not in models.fitting((20,))
    assert "vgg11" in models.fitting((3, 64, 32)) and "vgg11" not in models.fitting((1, 28, 28))


@pytest.mark.parametrize(
    ("name", "dataset"), [("cnn_small", "digits_300"), ("transformer_small", "sentences")]
)
def test_pyhessian_agrees_on_top_eigenvalues_within_one_percent(name, dataset):
    found = data.load(dataset)
    model = models.build(name, found.shape, found.classes, seed=0)
    inputs, labels = found.train_inputs, found.train_labels
    objective = Objective(model, "cross_entropy", inputs, labels, chunk=100, check=False)
    start = torch.randn(objective.dim, 5, generator=torch.Generator().manual_seed(1))
    ours = top_eigenpairs(objective.hessian(objective.initial()), 2, start, tolerance=1e-3)
    theirs, _ = pyhessian(
        model, nn.CrossEntropyLoss(), data=(inputs, labels), cuda=False
    ).eigenvalues(maxIter=200, tol=1e-4, top_n=2)
    largest = [value for value in theirs if value > 0]  # theirs are the largest by modulus
    assert largest and ours.values[: len(largest)].tolist() == pytest.approx(largest, rel=0.01)
