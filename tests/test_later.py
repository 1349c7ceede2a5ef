"""What happens to a model after an Objective was made of it, and losses that are no plain means."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from subspace_lib import DominantSubspace, Objective
from subspace_lib.linalg.quadrature import random_signs, spectral_quadrature
from subspace_lib.subspace.schedule import as_schedule

N = 40


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = randn(N, 6)
Y = torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(2))


def mlp(*between):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), *between, nn.Linear(4, 3))


def close(found, right, tolerance=1e-5):
    return float((found - right).norm()) <= tolerance * float(right.norm())


def assigned(model):
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)


def another_head(model):
    model[2] = nn.Linear(4, 3)


def frozen(model):
    model[0].requires_grad_(False)


@pytest.mark.parametrize("change", [assigned, another_head, frozen])
def test_other_parameters_than_at_the_start_are_refused_everywhere(change):
    model = mlp()
    objective = Objective(model, "cross_entropy", X, Y)
    theta = objective.initial()
    change(model)
    for call in (
        lambda: objective.gradient(theta),
        lambda: objective.hessian(theta) @ theta,
        lambda: objective.evaluate(theta),
        lambda: objective.outputs(theta, X),
        lambda: objective.assign(theta),
        objective.initial,
    ):
        with pytest.raises(ValueError, match="make a new Objective"):
            call()


class Functional(nn.Module):
    """Dropout without a module of its own."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return F.dropout(self.net(x), 0.5, self.training)


def test_the_loss_is_that_of_the_mode_that_the_model_was_given_in():
    model = Functional().eval()
    objective = Objective(model, "cross_entropy", X, Y)
    theta = objective.initial()
    before = objective.gradient(theta)
    model.train()
    after = objective.gradient(theta)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    assert all(module.training for module in model.modules())


def test_outputs_are_refused_where_their_mode_makes_them_depend_on_the_batch():
    model = mlp(nn.BatchNorm1d(4)).eval()
    objective = Objective(model, "cross_entropy", X, Y)
    mean = model[2].running_mean.clone()
    model.train()
    with pytest.raises(ValueError, match="is in training mode"):
        objective.outputs(objective.initial(), X)
    assert torch.equal(mean, model[2].running_mean)


def test_a_hessian_follows_statistics_that_change_after_its_first_product():
    model = mlp(nn.BatchNorm1d(4)).eval()
    objective = Objective(model, "cross_entropy", X, Y)
    theta, v = objective.initial(), randn(objective.dim, 2)
    hessian = objective.hessian(theta)
    before = hessian @ v
    model.train()
    model(3 * X + 1)
    model.eval()
    assert close(hessian @ v, objective.hessian(theta) @ v)
    assert not close(hessian @ v, before, 1e-2)


def test_hooks_of_the_user_on_gradients_do_not_change_a_derivative_and_stay():
    model, plain = mlp(), Objective(mlp(), "cross_entropy", X, Y)
    seen = []
    for p in model.parameters():
        p.register_hook(lambda g: seen.append(1) or g.clamp(-1e-3, 1e-3))
    objective = Objective(model, "cross_entropy", X, Y)
    theta, v = 3 * objective.initial(), randn(objective.dim, 2)
    assert close(objective.gradient(theta)[1], plain.gradient(theta)[1])
    assert close(objective.hessian(theta) @ v, plain.hessian(theta) @ v)
    assert not seen
    F.cross_entropy(model(X), Y).backward()
    assert len(seen) == 4 and float(model[0].weight.grad.abs().max()) <= 1.01e-3


def test_a_copy_computes_what_the_original_does():
    model = mlp(nn.BatchNorm1d(4)).eval()
    original = Objective(model, "cross_entropy", X, Y)
    other = copy.deepcopy(original)
    theta = original.initial() + 0.3 * randn(original.dim, seed=3)
    assert torch.equal(original.outputs(theta, X), other.outputs(theta, X))
    assert torch.equal(original.gradient(theta)[1], other.gradient(theta)[1])
    assert torch.equal(other.flatten(other.model.parameters()), original.initial())


def test_a_cache_of_parametrizations_neither_gives_old_weights_nor_keeps_ours():
    model = mlp()
    parametrizations.orthogonal(model[0], orthogonal_map="cayley")
    objective = Objective(model, "cross_entropy", X, Y)
    theta = objective.initial() + randn(objective.dim, seed=6)
    right, own = objective.gradient(theta), model(X).detach()
    with parametrize.cached():
        model(X)
        found = objective.gradient(theta)
        assert torch.equal(found[0], right[0]) and torch.equal(found[1], right[1])
        assert torch.equal(model(X), own)


class Scaled(nn.Module):
    """A parameter without dimensions, as CLIP's scale of logits."""

    def __init__(self):
        super().__init__()
        self.scale, self.net = nn.Parameter(torch.tensor(1.5)), mlp()

    def forward(self, x):
        return self.scale * self.net(x)


def test_a_parameter_without_dimensions_takes_part():
    objective = Objective(Scaled(), "cross_entropy", X, Y, dtype=torch.float64)
    theta = objective.initial()
    scale, step = objective.layout.index(("scale", ())), 1e-6
    assert scale == 0
    unit = torch.zeros_like(theta)
    unit[0] = 1
    up, down = (objective.evaluate(theta + s * step * unit)[0] for s in (1, -1))
    assert float(objective.gradient(theta)[1][0]) == pytest.approx((up - down) / 2 / step, rel=1e-5)
    assert objective.unflatten(theta)["scale"].shape == ()


class Named(nn.Module):
    """Outputs that are no tensor."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return {"logits": self.net(x)}


RARE = torch.zeros(N, dtype=torch.int64)
RARE[35:37] = 2
WEIGHT = torch.tensor([1.0, 1.0, 20.0])


def test_chunks_are_tried_where_outputs_are_no_tensor_too():
    def loss(outputs, labels):
        return F.cross_entropy(outputs["logits"], labels, WEIGHT)

    with pytest.raises(ValueError, match="is not the mean of those of its chunks"):
        Objective(Named(), loss, X, RARE, chunk=10)
    assert not Objective(Named(), loss, X, RARE).additive


@pytest.mark.parametrize("reduction", ["mean", "prior"])
def test_other_data_of_several_chunks_have_the_loss_of_all_of_them(reduction):
    model = mlp()

    def loss(outputs, labels):
        if reduction == "mean":
            return F.cross_entropy(outputs, labels, WEIGHT)
        prior = sum(p.square().sum() for p in model.parameters())
        return F.cross_entropy(outputs, labels, reduction="sum") + 0.5 * prior

    objective = Objective(model, loss, X[:15], Y[:15], chunk=15)
    right = float(loss(model(X), Y).detach())
    assert objective.evaluate(objective.initial(), X, Y)[0] == pytest.approx(right, rel=1e-5)


def test_a_part_of_the_data_does_not_stand_for_all_where_the_loss_is_no_mean():
    x, y, model = randn(400, 6), torch.arange(400) % 3, mlp()

    def loss(outputs, labels):
        prior = sum(p.square().sum() for p in model.parameters())
        return F.cross_entropy(outputs, labels, reduction="sum") + 0.5 * prior

    objective = Objective(model, loss, x, y)
    theta = objective.initial()
    with pytest.raises(ValueError, match="cannot be estimated from some of them"):
        objective.hessian(theta).on(50)
    subspace = DominantSubspace(objective, 2)
    for step in range(6):  # each of them refreshes: nothing else can look
        _, gradient = objective.gradient(theta)
        if subspace.due(step):
            assert subspace.look(theta, step, gradient).refresh is not None
        theta = theta - 1e-3 * gradient


def test_looks_do_without_a_subset_in_which_no_label_counts():
    y = torch.full((1000,), -100)
    y[[3, 7, 501, 777]] = torch.tensor([0, 1, 2, 0])
    objective = Objective(mlp(), "cross_entropy", randn(1000, 6), y)
    theta, subspace = objective.initial(), DominantSubspace(objective, 2)
    for step in range(3):
        subspace.look(theta, step, objective.gradient(theta)[1])
    assert subspace.angle < 0.1


def test_a_regularizer_is_in_the_slopes_of_single_samples():
    model = mlp()

    def loss(outputs, labels):
        return F.cross_entropy(outputs, labels) + sum(p.square().sum() for p in model.parameters())

    objective = Objective(model, loss, X, Y)
    theta, v = objective.initial(), randn(objective.dim, 1)
    mean = objective.slopes(theta, v).mean(0)
    assert float(mean) == pytest.approx(float(objective.gradient(theta)[1] @ v[:, 0]), rel=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_labels_are_no_class_and_no_mistake(reduction):
    some = Y.clone()
    some[::2] = -100
    model, loss = mlp(), nn.CrossEntropyLoss(reduction=reduction)
    objective, theta = Objective(model, loss, X, some), None
    theta = objective.initial()
    mean, by_class = objective.class_output_gradients(theta)
    assert by_class.shape[1] == 9
    counted = Objective(model, loss, X[1::2], some[1::2])
    assert close(mean, counted.class_output_gradients(theta)[0])
    assert close(by_class, counted.class_output_gradients(theta)[1])
    right = float((model(X)[1::2].argmax(1) == some[1::2]).float().mean())
    assert objective.evaluate(theta)[1] == pytest.approx(right)


class Force(nn.Module):
    """A gradient by the inputs, as of an energy."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.net(x).square().sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0]


class Strict(Force):
    """The same, which does not switch gradients on by itself."""

    def forward(self, x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.net(x).square().sum(), x, create_graph=True)[0]


@pytest.mark.parametrize("kind", [Force, Strict])
def test_a_model_may_differentiate_by_its_inputs(kind):
    model = kind()
    objective = Objective(model, nn.MSELoss(), X, X)
    theta = objective.initial()
    right = float(F.mse_loss(model(X), X).detach())
    assert objective.evaluate(theta)[0] == pytest.approx(right, rel=1e-5)
    assert float(objective.gradient(theta)[0]) == pytest.approx(right, rel=1e-5)


def test_an_embedding_that_writes_to_its_weights_is_refused():
    model = nn.Sequential(nn.Embedding(5, 3, max_norm=1.0), nn.Flatten(), nn.Linear(6, 3))
    with pytest.raises(ValueError, match="max_norm"):
        Objective(model, "cross_entropy", torch.randint(0, 5, (N, 2)), Y)


def test_the_alignment_is_that_of_any_multiple():
    objective = Objective(mlp(), "cross_entropy", X, Y)
    theta, subspace = objective.initial(), DominantSubspace(objective, 2)
    _, gradient = objective.gradient(theta)
    subspace.refresh(theta, 0, gradient)
    right = subspace.alignment(gradient)
    for scale in (1e-24, 1e25):
        assert subspace.alignment(scale * gradient) == pytest.approx(right, rel=1e-5)


def test_steps_between_refreshes_may_be_numpys_and_a_state_is_of_its_own_schedule():
    numpy = pytest.importorskip("numpy")
    assert as_schedule(numpy.int64(5), 0.05).interval == 5
    objective = Objective(mlp(), "cross_entropy", X, Y)
    theta, every = objective.initial(), DominantSubspace(objective, 2, refresh_every=3)
    every.refresh(theta, 0, objective.gradient(theta)[1])
    with pytest.raises(ValueError, match="another schedule"):
        DominantSubspace(objective, 2).load_state(every.state())
    other = Objective(nn.Linear(6, 3), "cross_entropy", X, Y)
    with pytest.raises(ValueError, match=f"D = {objective.dim} entries"):
        DominantSubspace(other, 2, refresh_every=3).load_state(every.state())


def test_class_weights_that_change_later_are_refused():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    objective = Objective(mlp(), loss, X, Y)
    theta = objective.initial()
    objective.gradient(theta)
    loss.weight = torch.tensor([1.0, 2.0, 3.0])  # the same
    objective.gradient(theta)
    loss.weight[0] = 5.0
    with pytest.raises(ValueError, match="other class weights"):
        objective.gradient(theta)


def test_gradients_of_all_parameters_are_flattened_without_the_frozen_ones():
    model = mlp()
    model[0].requires_grad_(False)
    objective = Objective(model, "cross_entropy", X, Y)
    F.cross_entropy(model(X), Y).backward()
    flat = objective.flatten(p.grad for p in model.parameters())
    assert close(flat, objective.gradient(objective.initial())[1])
    own = [p.grad for p in model.parameters() if p.requires_grad]
    assert torch.equal(flat, objective.flatten(own))


class Pooled(nn.Module):
    """Padding that counts in a mean, as the row of an embedding without a gradient."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 3)
        nn.init.normal_(self.embedding.weight)

    def forward(self, tokens):
        return self.head(self.embedding(tokens).mean(1))


def test_what_pytorch_gives_no_right_derivative_of_is_named():
    tokens = torch.randint(0, 5, (N, 3), generator=torch.Generator().manual_seed(4))
    with pytest.raises(ValueError, match="padding_idx"):
        Objective(Pooled(), "cross_entropy", tokens, Y)
    model = mlp()
    parametrizations.weight_norm(model[0])
    with pytest.raises(ValueError, match="weight_norm"):
        Objective(model, "cross_entropy", X, Y)


def test_a_density_that_lanczos_ended_early_has_the_width_of_its_own_nodes():
    three = 3.0 * torch.eye(8)
    found = spectral_quadrature(three, random_signs(8, 2, torch.Generator().manual_seed(0)), 4)
    low, high = found.grid(2, 0.5).tolist()
    assert (low, high) == pytest.approx((2.5, 3.5)) and found.width(0.1) < 1e-6
