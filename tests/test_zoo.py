"""A zoo of models and losses against dense float64 matrices, at a θ that is not the model's own."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from subspace_lib import Objective, top_eigenpairs
from subspace_lib.models.convolution import Conv2d, MaxPool2d

N = 24


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(*shape, count=3, seed=2):
    return torch.randint(0, count, shape, generator=torch.Generator().manual_seed(seed))


X, Y = randn(N, 6), classes(N)
CE = nn.CrossEntropyLoss()


def mlp(outputs=3):
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, outputs))


class Residual(nn.Module):
    """Normalization within, by groups or by statistics of the past."""

    def __init__(self, norm):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 4), norm, nn.Linear(4, 3)

    def forward(self, x):
        h = self.first(x)
        return self.last(h + torch.tanh(self.norm(h)))


def batch_norm():
    norm = nn.BatchNorm1d(4)
    norm.running_mean, norm.running_var = randn(4, seed=5), randn(4, seed=6).square() + 0.5
    return Residual(norm).eval()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.1, batch_first=True)
        layer.dropout.p = layer.dropout1.p = layer.dropout2.p = layer.self_attn.dropout = 0.0
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        padding = torch.zeros(len(x), 3, dtype=torch.bool)
        padding[:, 2] = x[:, 0] > 0
        h = self.encoder(F.pad(x, (0, 6)).view(len(x), 3, 4), src_key_padding_mask=padding)
        return self.head(h[:, 0])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.cells(x.view(len(x), 3, 2))[0][:, -1])


class Tied(nn.Module):
    """Token numbers in; the embedding is the last layer's weight too."""

    def __init__(self):
        super().__init__()
        self.tokens, self.hidden = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.hidden(self.tokens(tokens)))).transpose(1, 2)


class Recomputed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 3)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x):
        return self.last(checkpoint(self.block, self.first(x), use_reentrant=False))


class Referred(nn.Module):
    """A weight that is reached through a list."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 3, bias=False)
        self.weights = [self.first.weight, self.last.weight]

    def forward(self, x):
        return torch.tanh(x @ self.weights[0].T + self.first.bias) @ self.weights[1].T


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 3), nn.Embedding(3, 3)

    def forward(self, x, kind):
        return self.left(x).sigmoid() * self.right(kind)


def frozen():
    model = mlp()
    model[0].requires_grad_(False)
    return model


def cnn(convolution, pool):
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Unflatten(2, (2, 3)),
        convolution(1, 3, 2, padding=1),
        pool(2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


@dataclass
class Animal:
    build: Any
    loss: Any = CE
    inputs: Any = None
    labels: Any = None
    chunk: int = 10

    def objective(self, **options):
        torch.manual_seed(0)
        inputs = X if self.inputs is None else self.inputs
        labels = Y if self.labels is None else self.labels
        return Objective(self.build(), self.loss, inputs, labels, chunk=self.chunk, **options)


TOKENS = classes(N, 5, count=7, seed=7)
IGNORED = classes(N, 5, count=7, seed=8)
IGNORED[classes(N, 5, count=2, seed=9) == 0] = -100
IGNORED[10:20] = -100  # a whole chunk
RARE = torch.tensor([1.0, 2.0, 10.0])
ZOO = {
    "mlp": Animal(mlp, "cross_entropy"),
    "mlp on the squared error": Animal(mlp, "mse"),
    "cnn": Animal(lambda: cnn(nn.Conv2d, nn.MaxPool2d)),
    "our cnn": Animal(lambda: cnn(Conv2d, MaxPool2d)),
    "transformer, training mode": Animal(lambda: Attention().train()),
    "transformer, eval mode": Animal(lambda: Attention().eval()),
    "lstm": Animal(Recurrent),
    "group norm": Animal(lambda: Residual(nn.GroupNorm(1, 4))),
    "batch norm": Animal(batch_norm),
    "tied": Animal(Tied, inputs=TOKENS, labels=classes(N, 5, count=7, seed=8)),
    "frozen": Animal(frozen),
    "checkpointed": Animal(Recomputed),
    "referred": Animal(Referred),
    "tuple": Animal(Two, inputs=(X, classes(N, seed=4))),
    "dict": Animal(Two, inputs={"kind": classes(N, seed=4), "x": X}),
    "label smoothing": Animal(mlp, nn.CrossEntropyLoss(label_smoothing=0.1)),
    "soft labels": Animal(mlp, labels=randn(N, 3, seed=3).softmax(1)),
    "class weights": Animal(mlp, nn.CrossEntropyLoss(weight=RARE, label_smoothing=0.1)),
    "ignored labels": Animal(Tied, inputs=TOKENS, labels=IGNORED),
    "regression": Animal(lambda: mlp(2), nn.MSELoss(), labels=randn(N, 2, seed=3)),
    "multi-label": Animal(
        mlp, nn.BCEWithLogitsLoss(pos_weight=RARE), labels=(randn(N, 3, seed=3) > 0).float()
    ),
    "sum": Animal(mlp, lambda f, y: F.cross_entropy(f, y, reduction="sum")),
}


@dataclass
class Dense:
    loss: float
    gradient: torch.Tensor
    hessian: torch.Tensor
    gauss_newton: torch.Tensor


def rows(derivatives, parameters):
    """Derivatives of each entry of a vector, (entries, D)."""
    found = []
    for entry in derivatives:
        row = torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True)
        row = [
            torch.zeros_like(p) if r is None else r for r, p in zip(row, parameters, strict=True)
        ]
        found.append(torch.cat([r.reshape(-1) for r in row]))
    return torch.stack(found).detach()


def dense(objective, theta):
    """Everything from a copy of the model in float64 that has θ: plain loops over autograd.grad."""
    model = copy.deepcopy(objective.model).double()
    if isinstance(model, Referred):  # a copy has copies of what it refers to
        model.weights = [model.first.weight, model.last.weight]
    loss = objective.loss
    loss = copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else loss
    parameters = [p for p in model.parameters() if p.requires_grad]
    torch.nn.utils.vector_to_parameters(theta.double(), parameters)
    inputs, labels = torch.utils._pytree.tree_map(
        lambda t: t.double() if t.is_floating_point() else t, (objective.inputs, objective.labels)
    )
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        if isinstance(inputs, dict):
            outputs = model(**inputs)
        else:
            outputs = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
        value = loss(outputs, labels)
        slope = torch.autograd.grad(value, parameters, create_graph=True)
        hessian = rows(torch.cat([g.reshape(-1) for g in slope]), parameters)
        jacobian = rows(outputs.reshape(-1), parameters)
    bent = torch.func.hessian(lambda f: loss(f.view(outputs.shape), labels))(outputs.reshape(-1))
    gradient = torch.cat([g.detach().reshape(-1) for g in slope])
    return Dense(float(value.detach()), gradient, hessian, jacobian.T @ bent.detach() @ jacobian)


def away(objective, seed=3):
    """A θ that is not the model's own."""
    theta = objective.initial()
    return theta + 0.3 * randn(len(theta), seed=seed).to(theta)


@pytest.mark.parametrize("name", ZOO)
def test_gradient_hessian_and_gauss_newton_are_the_dense_ones(name):
    objective = ZOO[name].objective()
    theta = away(objective)
    exact = dense(objective, theta)
    assert objective.dim == len(exact.hessian)
    compare(objective, theta, exact, 2e-5)
    compare(ZOO[name].objective(dtype=torch.float64), theta.double(), exact, 1e-10)


def compare(objective, theta, exact, share):
    """All products against the dense matrices, to a share of their norm: rounding, and what it grows to."""
    block = randn(objective.dim, 3, seed=4).to(theta)
    value, gradient = objective.gradient(theta)
    assert float(value) == pytest.approx(exact.loss, rel=share)
    found = {"gradient": (gradient, exact.gradient)}
    for kind in ("hessian", "gauss_newton"):
        operator, matrix = getattr(objective, kind)(theta), getattr(exact, kind)
        found[kind] = (operator @ block, matrix @ block.double())
        again = operator @ block[:, :1]  # from the graphs that were kept
        found[f"{kind}, kept"] = (again, found[kind][1][:, :1])
        found[f"gradient of {kind}"] = (operator.gradient, exact.gradient)
    for what, (ours, right) in found.items():
        off = float((ours.double() - right).norm() / right.norm())
        assert off < share, (what, off)


@pytest.mark.parametrize("name", ["class weights", "ignored labels", "sum", "lstm", "referred"])
def test_single_samples_add_up_to_the_whole(name):
    """Losses ℓ_i are those whose mean is L: their mean gradient is that of L, their slopes its parts."""
    objective = ZOO[name].objective(dtype=torch.float64)
    theta = away(objective)
    _, gradient = objective.gradient(theta)
    even = torch.full((N,), 1 / N, dtype=torch.float64)
    torch.testing.assert_close(objective.weighted_gradient(theta, even), gradient)
    block = randn(objective.dim, 2, seed=4).double()
    slopes = objective.slopes(theta, block)
    torch.testing.assert_close(slopes.mean(0), block.T @ gradient)
    basis = torch.linalg.qr(block)[0]
    along, trace = objective.gradient_variance(theta, basis)
    torch.testing.assert_close(along, objective.slopes(theta, basis).var(0, correction=0))
    every = torch.stack([objective.weighted_gradient(theta, row) for row in torch.eye(N).double()])
    assert trace == pytest.approx(float(every.var(0, correction=0).sum()), rel=1e-8)


@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "transformer, eval mode", "group norm", "regression"]
)
def test_scipy_and_pyhessian_find_the_same_eigenvalues(name):
    from pyhessian import hessian as pyhessian

    objective = ZOO[name].objective(dtype=torch.float64)
    theta = away(objective)
    operator = objective.hessian(theta)
    start = randn(objective.dim, 3, seed=5).double()
    ours = top_eigenpairs(operator, 2, start, tolerance=1e-8).values[:2]

    def product(v):
        return (operator @ torch.from_numpy(v.reshape(-1, 1).copy())).numpy()

    linear = LinearOperator((objective.dim, objective.dim), product, dtype="float64")
    by_scipy = eigsh(linear, 2, which="LA", return_eigenvectors=False)[::-1].copy()
    torch.testing.assert_close(ours, torch.from_numpy(by_scipy), rtol=1e-6, atol=0)
    model = copy.deepcopy(objective.model).double()
    torch.nn.utils.vector_to_parameters(theta, model.parameters())
    data = (objective.inputs, objective.labels)
    torch.manual_seed(0)
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        theirs = pyhessian(model, objective.loss, data=data, cuda=False)
        first = theirs.eigenvalues(maxIter=3000, tol=1e-9, top_n=1)[0][0]
    # Power iteration finds the largest by size, which can be a negative one.
    if first > 0:
        assert float(ours[0]) == pytest.approx(first, rel=1e-4)


def test_curvlinops_agrees_where_it_is_installed():
    curvlinops = pytest.importorskip("curvlinops")
    for name in ("mlp", "cnn", "regression", "label smoothing", "batch norm"):
        objective = ZOO[name].objective(dtype=torch.float64)
        theta = away(objective)
        model = copy.deepcopy(objective.model).double()
        torch.nn.utils.vector_to_parameters(theta, model.parameters())
        parameters = list(model.parameters())
        loss = nn.CrossEntropyLoss() if name == "mlp" else objective.loss
        data = [(objective.inputs, objective.labels)]
        block = randn(objective.dim, 2, seed=4).double()
        for theirs, ours in (
            (curvlinops.HessianLinearOperator, objective.hessian(theta)),
            (curvlinops.GGNLinearOperator, objective.gauss_newton(theta)),
        ):
            product = theirs(model, loss, parameters, data) @ block
            torch.testing.assert_close(product, ours @ block, rtol=1e-4, atol=1e-8)
