"""What a user hands in is used as it is meant, or refused in one sentence: no number is silently wrong."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from subspace_lib import DominantSubspace, Objective, top_eigenpairs
from subspace_lib.linalg.eigensolver import NonFiniteProduct
from subspace_lib.subspace.projection import restrict

N, CLASSES = 40, 3


@pytest.fixture
def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, CLASSES)).double()
    return model, torch.rand(N, 5, dtype=torch.float64), torch.arange(N) % CLASSES


def loader(inputs, labels, size=16):
    return DataLoader(TensorDataset(inputs, labels), batch_size=size)


def tracked(problem, **options):
    model, inputs, labels = problem
    objective = Objective(model, "mse", inputs, labels)
    tracker = DominantSubspace(objective, 3, **options)
    theta = objective.initial()
    return objective, tracker, theta, objective.gradient(theta)[1]


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_a_loader_is_prepared_as_tensors_are(problem, loss):
    model, inputs, labels = problem
    raw = (255 * inputs).to(torch.uint8)

    def prepare(x):
        return x.double() / 255

    whole = Objective(model, loss, raw, labels, prepare=prepare)
    read = Objective(model, loss, loader(raw, labels), prepare=prepare)
    theta = whole.initial()
    assert float(read.gradient(theta)[0]) == pytest.approx(
        float(whole.gradient(theta)[0]), rel=1e-12
    )
    assert read.evaluate(theta) == pytest.approx(whole.evaluate(theta), rel=1e-12)


@pytest.mark.parametrize(
    "rows", [[0, -1], [39, 0, 17], [True] + [False] * (N - 2) + [True]], ids=str
)
def test_rows_of_a_loader_are_those_of_tensors(problem, rows):
    model, inputs, labels = problem
    rows = torch.tensor(rows)
    whole, read = (
        Objective(model, "mse", *d) for d in ((inputs, labels), (loader(inputs, labels),))
    )
    theta = whole.initial()
    assert torch.allclose(read.gradient(theta, rows)[1], whole.gradient(theta, rows)[1], rtol=1e-10)


@pytest.mark.parametrize("row", [N, -N - 1])
def test_a_row_that_is_not_there_is_refused(problem, row):
    model, inputs, labels = problem
    read = Objective(model, "mse", loader(inputs, labels))
    with pytest.raises(IndexError, match=f"Row {row} is out of range; there are {N} samples"):
        read.gradient(read.initial(), torch.tensor([0, row]))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy", nn.functional.cross_entropy])
def test_a_label_out_of_range_is_found_in_every_batch_of_a_loader(problem, loss):
    model, inputs, labels = problem
    labels = labels.clone()
    labels[-1] = 7
    with pytest.raises(ValueError, match="out of range, the first is 7: the model has 3 outputs"):
        Objective(model, loss, loader(inputs, labels))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_a_label_out_of_range_is_found_in_other_data(problem, loss):
    model, inputs, labels = problem
    objective = Objective(model, loss, inputs, labels)
    with pytest.raises(ValueError, match="out of range, the first is 7"):
        objective.evaluate(objective.initial(), inputs, torch.full_like(labels, 7))


def test_class_numbers_may_be_of_any_integer_type(problem):
    model, inputs, labels = problem
    long = Objective(model, "cross_entropy", inputs, labels)
    short = Objective(model, "cross_entropy", loader(inputs, labels.int()))
    theta = long.initial()
    assert float(short.gradient(theta)[0]) == pytest.approx(float(long.gradient(theta)[0]))
    assert long.evaluate(theta, inputs, labels.int()) == pytest.approx(long.evaluate(theta))


@pytest.mark.parametrize(
    "loss",
    [
        nn.functional.mse_loss,
        functools.partial(nn.functional.huber_loss, delta=0.5),
        lambda f, y: (f - y).square().mean(),
    ],
)
def test_one_output_against_numbers_is_never_broadcast(loss):
    model = nn.Linear(5, 1)
    with pytest.raises(ValueError, match="would broadcast them against each other"):
        Objective(model, loss, torch.rand(N, 5), torch.rand(N))
    Objective(model, loss, torch.rand(N, 5), torch.rand(N, 1))


def test_labels_that_are_forgotten_are_said(problem):
    model, inputs, _ = problem
    with pytest.raises(ValueError, match="There are no labels; give inputs and labels"):
        Objective(model, "mse", inputs)


def test_a_hessian_multiplies_a_vector_as_a_block_of_one(problem):
    objective, _, theta, gradient = tracked(problem)
    hessian = objective.hessian(theta)
    assert torch.equal(hessian @ gradient, (hessian @ gradient[:, None])[:, 0])


@pytest.mark.parametrize("call", ["gradient", "hessian", "evaluate", "unflatten", "slopes"])
@pytest.mark.parametrize("wrong", ["short", "column", "array"])
def test_a_theta_of_another_shape_or_kind_is_refused(problem, call, wrong):
    objective, _, theta, _ = tracked(problem)
    bad = {"short": theta[1:], "column": theta[:, None], "array": theta.numpy()}[wrong]
    with pytest.raises(ValueError, match=r"A vector has the shape|a tensor is meant"):
        more = (torch.eye(objective.dim, 2).double(),) if call == "slopes" else ()
        getattr(objective, call)(bad, *more)


def test_weights_of_another_number_are_refused(problem):
    objective, _, theta, _ = tracked(problem)
    with pytest.raises(
        ValueError, match=r"weights have the shape \(41,\); give one for each of the 40"
    ):
        objective.weighted_gradient(theta, torch.ones(N + 1).double())


def test_a_projection_of_no_meaning_is_refused(problem):
    _, tracker, theta, gradient = tracked(problem)
    tracker.refresh(theta, 0, gradient)
    with pytest.raises(ValueError, match="projection = 'dom' must be one of none, dominant, bulk"):
        restrict(gradient, "dom", tracker)


def test_steps_that_begin_anew_in_each_epoch_are_refused(problem):
    _, tracker, theta, gradient = tracked(problem)
    tracker.refresh(theta, 500, gradient)
    assert not tracker.due(500)
    for call in (tracker.due, lambda s: tracker.refresh(theta, s, gradient)):
        with pytest.raises(ValueError, match="step = 3 comes before the last one, 500"):
            call(3)


def test_an_allowance_holds_at_every_refresh_of_a_fixed_schedule_too(problem):
    objective, tracker, theta, gradient = tracked(problem, refresh_every=1, allowance=2.0)
    tracker.refresh(theta, 0, gradient)
    cold, steps, refreshed = objective.gradient_equivalents, 60, 0
    for step in range(1, steps):
        if tracker.due(step):
            tracker.refresh(theta, step, gradient)
            refreshed += 1
    assert refreshed >= 3
    assert objective.gradient_equivalents - cold <= 2.0 * steps


@pytest.mark.parametrize(
    "probe, told",
    [
        (lambda g: g[:-1], "The probe is"),
        (lambda g: g.float(), "The probe is"),
        (lambda g: g.numpy(), "The probe is a ndarray"),
    ],
)
def test_a_probe_of_another_shape_or_kind_is_refused(problem, probe, told):
    _, tracker, theta, gradient = tracked(problem)
    tracker.refresh(theta, 0, gradient)
    for call in (tracker.refresh, tracker.look):
        with pytest.raises(ValueError, match=told):
            call(theta, 1, probe(gradient))


def test_a_probe_may_require_a_gradient_and_a_look_refuses_one_that_is_not_finite(problem):
    _, tracker, theta, gradient = tracked(problem)
    tracker.refresh(theta, 0, gradient.clone().requires_grad_())
    with pytest.raises(NonFiniteProduct, match="Step 1: The probe has NaN or inf"):
        tracker.look(theta, 1, torch.full_like(gradient, torch.nan))


@pytest.mark.parametrize("v", [lambda g: g[1:], lambda g: g.float(), lambda g: g.numpy()])
def test_only_vectors_of_the_bases_space_are_projected(problem, v):
    _, tracker, theta, gradient = tracked(problem)
    tracker.refresh(theta, 0, gradient)
    for call in (tracker.project, tracker.alignment):
        with pytest.raises(ValueError, match=r"A vector is .*; the basis is"):
            call(v(gradient))


def test_a_state_of_another_k_is_refused(problem):
    objective, tracker, theta, gradient = tracked(problem)
    tracker.refresh(theta, 0, gradient)
    with pytest.raises(
        ValueError, match="The state is of k = 3 with 3 guards; this tracker has k = 5"
    ):
        DominantSubspace(objective, 5).load_state(tracker.state())
    same = DominantSubspace(objective, 3)
    same.load_state(tracker.state())
    assert torch.equal(same.basis, tracker.basis)


@pytest.mark.parametrize("options", [{"k": 3.0}, {"k": True}, {"k": 3, "target": "0.1"}])
def test_numbers_of_another_kind_are_refused(problem, options):
    model, inputs, labels = problem
    objective = Objective(model, "mse", inputs, labels)
    with pytest.raises(ValueError, match="must be a"):
        DominantSubspace(objective, **options)
    with pytest.raises(ValueError, match=r"chunk = 10.5 must be a whole number"):
        Objective(model, "mse", inputs, labels, chunk=10.5)


def test_the_top_pairs_of_a_hessian_are_those_of_the_dense_one(problem):
    objective, _, theta, _ = tracked(problem)
    hessian = objective.hessian(theta)
    dense = torch.stack([hessian @ e for e in torch.eye(objective.dim).double()])
    found = top_eigenpairs(hessian, 3, torch.randn(objective.dim, 3, dtype=torch.float64))
    exact = torch.linalg.eigvalsh((dense + dense.T) / 2).flip(0)[:3]
    assert torch.allclose(found.values[:3].double(), exact, rtol=1e-4)


@pytest.mark.parametrize("name", ["mean_output_gradients", "class_output_gradients"])
def test_mean_outputs_are_those_of_a_classifier(name):
    inputs, labels = torch.randn(12, 5, 3), torch.zeros(12, dtype=torch.int64)
    loss = lambda outputs, y: outputs.square().mean()  # noqa: E731
    o = Objective(nn.Linear(3, 1), loss, inputs, labels)
    with pytest.raises(ValueError, match=r"outputs are \(12, 5, 1\); gradients of mean outputs"):
        getattr(o, name)(o.initial())
