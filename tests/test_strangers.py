"""A stranger's model, loss and data: the right number, or one sentence; nothing of theirs is changed."""

import copy
import math
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from subspace_lib import DominantSubspace, Objective, top_eigenpairs
from subspace_lib.linalg.eigensolver import NonFiniteProduct, NotSymmetric

N = 40


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = randn(N, 6)
Y = torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(2))
CE = nn.CrossEntropyLoss()


def mlp(*between, outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), *between, nn.Linear(4, outputs))


def away(objective, size=0.3):
    theta = objective.initial()
    return theta + size * randn(len(theta), seed=3).to(theta)


def sentence(error):
    text = str(error.value)
    return "\n" not in text and 20 < len(text) < 400


def refused(match, *arguments, **options):
    with pytest.raises(ValueError, match=match) as error:
        Objective(*arguments, **options)
    assert sentence(error)


def largest(objective, theta=None):
    theta = objective.initial() if theta is None else theta
    return float(
        top_eigenpairs(objective.hessian(theta), 1, randn(len(theta), 2).to(theta)).values[0]
    )


def by_differences(value, theta, v, step=1e-5):
    return (value(theta + step * v) - value(theta - step * v)) / (2 * step)


# 1. θ is in the module for as long as something can ask for it


def test_a_regularizer_over_the_models_parameters_sees_theta():
    model = mlp().double()
    weight = model[0].weight  # a reference from before

    def loss(f, y):
        norms = sum(p.square().sum() for p in model.parameters())
        return CE(f, y) + 0.5 * norms + weight.square().sum()

    objective = Objective(model, loss, X, Y, chunk=15)
    plain = Objective(mlp().double(), CE, X, Y)
    theta = away(objective)
    twice = torch.cat([torch.full((24,), 3.0), torch.ones(objective.dim - 24)]).double()
    expected = plain.gradient(theta)[1] + twice * theta
    torch.testing.assert_close(objective.gradient(theta)[1], expected)
    block = randn(objective.dim, 2).double()
    product = plain.hessian(theta) @ block + twice[:, None] * block
    torch.testing.assert_close(objective.hessian(theta) @ block, product)
    with pytest.raises(ValueError, match="by other ways than the model's outputs") as error:
        objective.gauss_newton(theta) @ block
    assert sentence(error)


def test_two_hessians_of_one_model_do_not_disturb_each_other():
    objective = Objective(mlp(), CE, X, Y, dtype=torch.float64, chunk=15)
    first, second = away(objective), away(objective, 0.6)
    block = randn(objective.dim, 2).double()
    one, two = objective.hessian(first), objective.hessian(second)
    before = [one @ block, two @ block]
    torch.testing.assert_close(one @ block, before[0], rtol=0, atol=0)
    torch.testing.assert_close(two @ block, before[1], rtol=0, atol=0)
    fresh = Objective(mlp(), CE, X, Y, dtype=torch.float64)
    torch.testing.assert_close(fresh.hessian(first) @ block, before[0])


def test_parametrized_weights_are_differentiated():
    class Positive(nn.Module):
        def forward(self, weight):
            return weight.exp()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    nn.utils.parametrize.register_parametrization(model[0], "weight", Positive())
    objective = Objective(model, CE, X, Y, dtype=torch.float64)
    theta, v = away(objective), randn(objective.dim).double()
    slope = by_differences(lambda t: objective.gradient(t)[1], theta, v)
    torch.testing.assert_close(
        (objective.hessian(theta) @ v[:, None])[:, 0], slope, rtol=1e-6, atol=1e-8
    )


# 2. the operator is not trusted


class Broken(torch.autograd.Function):
    """tanh whose first or second derivative is off by a factor or a term, or is missing."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, fault, size):
        return x.tanh()

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.fault, ctx.size = inputs
        ctx.save_for_backward(x)
        ctx.kept = 1 - x.tanh() ** 2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        slope = 1 - x.tanh() ** 2
        fault, size = ctx.fault, ctx.size
        if fault == "factor":
            slope = slope * (1 + size)
        elif fault == "offset":
            slope = slope + size
        elif fault == "some":
            slope = torch.where(x > 0, slope * (1 + size), slope)
        elif fault == "kept":  # an intermediate result on ctx has no graph
            slope = ctx.kept
        elif fault == "partly kept":
            slope = size * ctx.kept + (1 - size) * slope
        elif fault == "detached":
            slope = slope.detach()
        elif fault == "second factor":  # of the right value, with a wrong derivative
            slope = (1 + size) * slope - (size * slope).detach()
        elif fault == "random":
            slope = slope * (1 + size * torch.rand_like(slope))
        return g * slope, None, None


FAULTS = (
    "factor",
    "offset",
    "some",
    "kept",
    "partly kept",
    "detached",
    "second factor",
    "random",
)


class WithBroken(nn.Module):
    def __init__(self, fault, size, seed, width):
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b, self.c = nn.Linear(6, width), nn.Linear(width, 4), nn.Linear(4, 3)
        self.fault, self.size, self.deep = fault, size, seed % 2

    def forward(self, x):
        broken = lambda h: Broken.apply(h, self.fault, self.size)  # noqa: E731
        first, second = (torch.tanh, broken) if self.deep else (broken, torch.relu)
        return self.c(second(self.b(first(self.a(x)))))


def broken_ways(count):
    rng = np.random.default_rng(0)
    for seed in range(count):
        size = float(10 ** rng.uniform(-2, 0)) * rng.choice([-1, 1])
        fault = FAULTS[seed % len(FAULTS)]
        yield fault, abs(size) if fault == "partly kept" else size, seed, int(rng.integers(2, 9))


def test_the_self_test_finds_broken_derivatives_and_none_where_there_are_none():
    missed = []
    for fault, size, seed, width in broken_ways(200):
        try:
            Objective(WithBroken(fault, size, seed, width), CE, X, Y)
            missed.append((fault, size))
        except ValueError as error:
            assert "does not fit" in str(error) or "Two evaluations" in str(error)
    assert len(missed) <= 10, missed
    for seed in range(24):
        Objective(WithBroken("none", 0.0, seed, 2 + seed % 7), CE, X, Y)


def test_the_self_test_can_be_switched_off_and_the_solver_still_sees_asymmetry():
    class Once(Broken):
        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * (1 - ctx.saved_tensors[0].tanh() ** 2), None, None

    class Net(WithBroken):
        def forward(self, x):
            return self.c(Once.apply(self.b(torch.tanh(self.a(x))), "", 0))

    refused("does not fit|no second derivative", Net("", 0, 0, 6), CE, X, Y)
    objective = Objective(Net("", 0, 0, 6), CE, X, Y, check=False)
    theta = objective.initial()
    with pytest.raises(NotSymmetric, match="not symmetric"):
        top_eigenpairs(objective.hessian(theta), 3, randn(objective.dim, 3))
    with pytest.raises(NotSymmetric, match="not symmetric"):
        DominantSubspace(objective, 3).refresh(theta, 0, randn(objective.dim))


def test_residuals_are_true_where_symmetry_is_nearly_kept():
    """A skew part below what is refused, and above the tolerance: it belongs to the residual."""
    vectors = torch.linalg.qr(randn(40, 40))[0].double()
    skew = randn(40, 40, seed=5).double()
    matrix = (vectors * torch.linspace(-1, 5, 40).double()) @ vectors.T + 0.005 * (skew - skew.T)
    pairs = top_eigenpairs(matrix, 3, randn(40, 3).double())
    true = (matrix @ pairs.vectors - pairs.vectors * pairs.values).norm(dim=0)
    assert not pairs.converged
    torch.testing.assert_close(pairs.residuals[:3], true[:3], rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (nn.Dropout(0.1), r"2 \(Dropout\) is in training mode.*eval"),
        (nn.BatchNorm1d(4), "running statistics"),
        (nn.BatchNorm1d(4, track_running_stats=False).eval(), "has no running statistics"),
        (nn.RReLU(), "is random"),
    ],
    ids=["dropout", "batch norm", "without statistics", "rrelu"],
)
def test_modules_with_noise_or_batch_statistics_are_refused(module, match):
    refused(match, mlp(module), CE, X, Y)
    refused(match, mlp(module), CE, X, Y, check=False)


def test_noise_that_no_module_shows_is_found():
    class Noise(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.3)

    class Remembers(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return x

    class Couples(nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    state = torch.get_rng_state()
    refused("Two evaluations", mlp(Noise()), CE, X, Y)
    refused("Two evaluations", mlp(Remembers()), CE, X, Y)
    model = mlp(Counts())
    refused("changes 2.seen", model, CE, X, Y)
    assert float(model[2].seen) == 0
    refused("not the mean of those of its chunks", mlp(Couples()), CE, X, Y, chunk=15)
    assert Objective(mlp(Couples()), CE, X, Y).additive is False  # one chunk: it is what it is
    refused("traced or scripted", torch.jit.trace(mlp(), X), CE, X, Y)
    torch.manual_seed(0)
    assert state.shape == torch.get_rng_state().shape


def test_training_mode_after_construction_is_refused_at_the_next_call():
    model = mlp(nn.Dropout(0.5)).eval()
    objective = Objective(model, CE, X, Y)
    model.train()
    for call in (objective.gradient, objective.hessian(objective.initial()).__matmul__):
        with pytest.raises(ValueError, match=r"call model.eval"):
            call(objective.initial() if call == objective.gradient else randn(objective.dim, 1))


def test_the_self_test_costs_less_than_three_gradients(monkeypatch):
    """Counted in samples that go forward and backward."""
    seen = []
    inputs, labels = randn(400, 6), torch.zeros(400, dtype=torch.int64)
    model = mlp()
    model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    Objective(model, CE, inputs, labels, chunk=100)
    assert (
        0 < sum(seen) < 400
    )  # each is three passes at most: forward, backward, and once more in float64


# 3. a mean over samples

WEIGHT = torch.tensor([1.0, 2.0, 10.0])


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="sum"),
        partial(F.cross_entropy, weight=WEIGHT),
        nn.NLLLoss(weight=WEIGHT, ignore_index=0),
        lambda f, y: CE(f, y) * len(y),
        lambda f, y: CE(f, y).reshape(1),
    ],
    ids=["sum", "partial", "ignored class", "own sum", "shape (1,)"],
)
def test_chunks_add_up_to_the_loss_of_all(loss):
    one, many = (Objective(mlp(nn.LogSoftmax(1)), loss, X, Y, chunk=c) for c in (100, 7))
    theta = away(one)
    for found, expected in zip(many.gradient(theta), one.gradient(theta), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    block = randn(one.dim, 2)
    torch.testing.assert_close(
        many.hessian(theta) @ block, one.hessian(theta) @ block, rtol=1e-4, atol=1e-4
    )
    assert many.evaluate(theta, X, Y)[0] == pytest.approx(float(one.gradient(theta)[0]), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda f, y: F.cross_entropy(f, y, weight=WEIGHT),
        lambda f, y: F.cross_entropy(f, y, ignore_index=1),
        lambda f, y: CE(f, y) + (f.std(0) ** 2).sum(),
        lambda f, y: F.cross_entropy(f, y, reduction="sum").sqrt(),
    ],
    ids=["weights", "ignored", "batch statistics", "root"],
)
def test_a_loss_that_does_not_add_up_is_refused_where_data_are_chunked(loss):
    refused("not the mean of those of its chunks", mlp(), loss, X, Y, chunk=7)
    whole = Objective(mlp(), loss, X, Y)
    assert math.isfinite(largest(whole))


def test_an_ignored_label_that_the_few_samples_lack_is_found():
    labels = Y.clone()
    labels[33] = 7
    refused(
        "not the mean",
        mlp(),
        lambda f, y: F.cross_entropy(f, y, ignore_index=7),
        X,
        labels,
        chunk=7,
    )


def test_a_subset_of_a_sum_stands_for_all_of_it():
    """The tracker's looks take H of a subset for H of all."""
    objective = Objective(mlp(), nn.CrossEntropyLoss(reduction="sum"), X, Y)
    mean = Objective(mlp(), CE, X, Y)
    theta, block = away(mean), randn(mean.dim, 2)
    product = objective.hessian(theta).on(10) @ block
    torch.testing.assert_close(
        product, N * (mean.hessian(theta).on(10) @ block), rtol=1e-4, atol=1e-4
    )


def test_no_valid_label_at_all_is_refused():
    refused("Every label is an ignored one|is nan", mlp(), CE, X, torch.full((N,), -100))


# 4. shapes and values

LARGE, HOLES = Y.clone(), X.clone()
LARGE[[1, 5, 6]] = 3
HOLES[3, :2] = math.nan


@pytest.mark.parametrize(
    ("match", "inputs", "labels", "loss"),
    [
        ("3 of 40 labels are out of range.*0 … 2", X, LARGE, "mse"),
        ("out of range, the first is -1", X, torch.full((N,), -1), CE),
        ("40 inputs and 30 labels", X, Y[:30], CE),
        ("There are no data", X[:0], Y[:0], CE),
        ("numpy.ndarray where a tensor", X.numpy(), Y, CE),
        ("holds a float where a tensor", X.tolist(), Y, CE),
        ("2 of 240 numbers in the inputs are NaN or inf, in 1 of 40", HOLES, Y, CE),
        ("NaN or inf", X, torch.full((N, 3), math.inf), "mse"),
        ("takes class numbers", X, Y.float(), "mse"),
        ("broadcast", X, randn(N), nn.MSELoss()),
        ("cannot take the inputs", randn(N, 5), Y, CE),
        ("cannot take the model's outputs", X, randn(N, 2), CE),
        ("returns something of shape", X, Y, lambda f, y: F.cross_entropy(f, y, reduction="none")),
        ("number per sample", X, Y, nn.CrossEntropyLoss(reduction="none")),
        ("choose one of", X, Y, "hinge"),
    ],
)  # fmt: skip
def test_bad_data_get_a_sentence(match, inputs, labels, loss):
    refused(match, mlp(), loss, inputs, labels)


def test_one_hot_and_float_targets_are_taken_for_the_squared_error():
    onehot = F.one_hot(Y, 3)
    by_number = largest(Objective(mlp(), "mse", X, Y))
    for targets in (onehot, onehot.float(), onehot.double()):
        assert largest(Objective(mlp(), "mse", X, targets)) == pytest.approx(by_number, rel=1e-5)
    assert largest(Objective(mlp(), CE, X, Y.int())) == pytest.approx(
        largest(Objective(mlp(), CE, X, Y)), rel=1e-6
    )


def test_bad_models_get_a_sentence():
    frozen = mlp().requires_grad_(False)
    refused("no parameter that requires a gradient", frozen, CE, X, Y)
    refused("no shape yet", nn.Sequential(nn.LazyLinear(3)), CE, X, Y)
    refused("give model.module", nn.DataParallel(mlp()), CE, X, Y)
    refused("give a torch.nn.Module", lambda x: x, CE, X, Y)
    refused("not exact enough", mlp(), CE, X, Y, dtype=torch.float16)
    refused("at least 1", mlp(), CE, X, Y, chunk=0)
    spoilt = mlp()
    spoilt[0].weight.data[0, 0] = math.nan
    refused("loss of the first samples is nan", spoilt, CE, X, Y)

    class Detached(nn.Module):
        def forward(self, x):
            return x.detach()

    refused("no gradient by any parameter", nn.Sequential(nn.Linear(6, 3), Detached()), CE, X, Y)


def test_vectors_of_another_space_get_a_sentence():
    objective = Objective(mlp(), CE, X, Y)
    theta = objective.initial()
    for bad in (theta[:-1], theta.double()):
        for call in (objective.gradient, objective.hessian, objective.unflatten):
            with pytest.raises(ValueError, match=r"D = 43|convert it") as error:
                call(bad)
            assert sentence(error)


def test_a_half_precision_model_is_computed_in_float32():
    half = mlp().bfloat16()
    objective = Objective(half, CE, X, Y)
    rounded = copy.deepcopy(half).float()
    assert largest(objective) == pytest.approx(largest(Objective(rounded, CE, X, Y)), rel=1e-4)
    assert half[0].weight.dtype == torch.bfloat16


# 5. what the user gave stays as it was


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_model_loss_and_theta_are_the_same_afterwards(dtype):
    model = mlp(nn.BatchNorm1d(4)).eval()
    loss = nn.CrossEntropyLoss(weight=WEIGHT)
    before = {name: (id(t), t.dtype, t.clone()) for name, t in _state(model).items()}
    modes = [m.training for m in model.modules()]
    inputs, labels = X.clone(), Y.clone()
    objective = Objective(model, loss, inputs, labels, dtype=dtype, chunk=15)
    theta = away(objective)
    kept = theta.clone()
    random = torch.get_rng_state()
    hessian, block = objective.hessian(theta), randn(objective.dim, 2).to(dtype)
    for operator in (hessian, objective.gauss_newton(theta)):
        operator @ block
        operator @ block
    objective.gradient(theta)
    objective.evaluate(theta, X, Y)
    objective.slopes(theta, block)
    DominantSubspace(objective, 2).refresh(theta, 0, block[:, 0])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        objective.evaluate(theta, X[:, :5], Y)  # and after an error
    for name, tensor in _state(model).items():
        identity, kind, value = before[name]
        assert (id(tensor), tensor.dtype) == (identity, kind), name
        assert torch.equal(tensor, value), name
        assert tensor.grad is None
    assert modes == [m.training for m in model.modules()]
    assert loss.weight.dtype == torch.float32
    assert torch.equal(theta, kept)
    assert torch.equal(inputs, X)
    assert torch.equal(torch.get_rng_state(), random)


def _state(model):
    return dict([*model.named_parameters(), *model.named_buffers()])


# 6. what is set around it does not matter


@cache
def with_attention():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    )
    return nn.Sequential(model, nn.Flatten(), nn.Linear(6, 3)).eval()


@cache
def numbers_with_attention():
    objective = Objective(with_attention(), CE, X, Y, chunk=15)
    theta = objective.initial()
    seen = DominantSubspace(objective, 2).refresh(theta, 0, objective.gradient(theta)[1])
    along = objective.slopes(theta, seen.gradient[:, None])
    product = objective.gauss_newton(theta) @ seen.gradient[:, None]
    return [seen.values, seen.gradient, along, product, *objective.evaluate(theta, X, Y)]


@pytest.mark.parametrize(
    "ambient",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
        lambda: nn.attention.sdpa_kernel(nn.attention.SDPBackend.FLASH_ATTENTION),
    ],
    ids=["no_grad", "inference mode", "autocast", "default device", "fused attention"],
)
def test_ambient_state_does_not_matter(ambient):
    right = numbers_with_attention()
    with ambient():
        found = numbers_with_attention.__wrapped__()
        assert torch.backends.mha.get_fastpath_enabled()
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=1e-6)


def test_products_are_float32_on_a_gpu_too_and_settings_stay_the_users():
    cudnn, cublas = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    seen = set()

    class Asks(nn.Module):
        def forward(self, x):
            seen.add((cudnn.fp32_precision, cublas.fp32_precision))
            return x

    objective = Objective(mlp(Asks()), CE, X, Y, chunk=15)
    seen.clear()
    before = cudnn.fp32_precision, cublas.fp32_precision
    cublas.fp32_precision = "tf32"
    try:
        theta = objective.initial()
        objective.gradient(theta)
        objective.evaluate(theta)
        objective.hessian(theta) @ theta[:, None]
        assert (cudnn.fp32_precision, cublas.fp32_precision) == (before[0], "tf32")
    finally:
        cublas.fp32_precision = before[1]
    assert seen == {("ieee", "ieee")}


# 8. without forward mode


class OnlyBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


class Sine(nn.Module):
    def forward(self, x):
        return OnlyBackward.apply(x) if self.training else x.sin()


def test_gauss_newton_and_slopes_need_no_forward_mode():
    plain, custom = (
        Objective(mlp(Sine()).train(mode), CE, X, Y, chunk=15, dtype=torch.float64)
        for mode in (False, True)
    )
    theta, block = away(plain), randn(plain.dim, 2).double()
    torch.testing.assert_close(
        custom.gauss_newton(theta) @ block, plain.gauss_newton(theta) @ block
    )
    torch.testing.assert_close(custom.slopes(theta, block), plain.slopes(theta, block))
    basis = torch.linalg.qr(block)[0]
    torch.testing.assert_close(
        custom.gradient_variance(theta, basis)[0], plain.gradient_variance(theta, basis)[0]
    )


def test_a_wrong_forward_mode_is_not_used():
    class Wrong(OnlyBackward):
        @staticmethod
        def jvp(ctx, t):
            return 2 * t

    class Layer(nn.Module):
        def forward(self, x):
            return Wrong.apply(x)

    custom = Objective(mlp(Layer()), CE, X, Y, dtype=torch.float64)
    plain = Objective(mlp(Sine()).eval(), CE, X, Y, dtype=torch.float64)
    theta, block = away(plain), randn(plain.dim, 2).double()
    torch.testing.assert_close(
        custom.gauss_newton(theta) @ block, plain.gauss_newton(theta) @ block
    )


# 9. scale


@pytest.mark.parametrize("scale", [1e-29, 1e-15, 1e20])
def test_eigenvalues_of_any_scale_are_right_or_refused(scale):
    objective = Objective(mlp(), lambda f, y: scale * CE(f, y), X, Y)
    right = largest(Objective(mlp(), CE, X, Y))
    assert largest(objective) == pytest.approx(scale * right, rel=1e-3)
    theta = objective.initial()
    try:
        seen = DominantSubspace(objective, 2).refresh(theta, 0, randn(objective.dim))
    except ArithmeticError as error:
        assert "float64" in str(error)
        return
    assert float(seen.values[0]) == pytest.approx(scale * right, rel=1e-3)


def test_a_loss_that_is_not_finite_at_theta_is_named():
    objective = Objective(mlp(), "mse", X, Y)
    with pytest.raises(NonFiniteProduct, match="not finite at this θ") as error:
        largest(objective, torch.full_like(objective.initial(), 1e30))
    assert sentence(error)


# The front door


def loader(batch=15, **options):
    return DataLoader(TensorDataset(X, Y), batch_size=batch, **options)


def test_a_data_loader_stands_in_place_of_inputs_and_labels():
    plain = Objective(mlp(), nn.CrossEntropyLoss(weight=WEIGHT), X, Y)
    objective = Objective(mlp(), nn.CrossEntropyLoss(weight=WEIGHT), loader())
    theta = away(plain)
    assert len(objective) == N
    block = randn(plain.dim, 2)
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
    close(objective.gradient(theta)[1], plain.gradient(theta)[1])
    hessian = objective.hessian(theta)
    for _ in range(2):
        close(hessian @ block, plain.hessian(theta) @ block)
    close(hessian.on(10) @ block, plain.hessian(theta).on(10) @ block)
    close(objective.slopes(theta, block), plain.slopes(theta, block))
    rows = torch.tensor([33, 2, 17, 2])
    close(objective.gradient(theta, rows)[1], plain.gradient(theta, rows)[1])
    seen = [
        DominantSubspace(o, 2).refresh(theta, 0, randn(plain.dim)).values
        for o in (objective, plain)
    ]
    torch.testing.assert_close(*seen, rtol=1e-3, atol=1e-3)


def test_batches_without_random_access_and_as_dicts_are_read():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([{"input": x, "labels": y} for x, y in zip(X, Y, strict=True)])

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, input):
            return self.net(input)

    objective = Objective(Named(), CE, DataLoader(Stream(), batch_size=15))
    assert largest(objective) == pytest.approx(largest(Objective(mlp(), CE, X, Y)), rel=1e-3)


def test_loaders_that_are_no_fixed_data_are_refused():
    class Augmented(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x + 0.1 * torch.randn_like(x), y

    refused("shuffles", mlp(), CE, loader(shuffle=True))
    refused("other data than the first", mlp(), CE, DataLoader(Augmented(X, Y), batch_size=15))
    refused("no batch", mlp(), CE, DataLoader(TensorDataset(X[:0], Y[:0])))
    refused("where a pair", mlp(), CE, DataLoader(TensorDataset(X), batch_size=15))
    refused("other data|no batch", mlp(), CE, iter([(X, Y)]))


def test_named_parameters_and_theta_are_turned_into_each_other():
    model = mlp()
    model[0].weight.requires_grad_(False)
    objective = Objective(model, CE, X, Y)
    theta = away(objective)
    named = objective.unflatten(theta)
    assert [*named] == ["0.bias", "2.weight", "2.bias"]
    assert torch.equal(objective.flatten(named), theta)
    assert torch.equal(objective.flatten(model.parameters()), objective.initial())
    CE(model(X), Y).backward()
    gradients = objective.flatten([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(gradients, objective.gradient(objective.initial())[1])
    objective.assign(theta)
    assert torch.equal(objective.initial(), theta)
    with pytest.raises(ValueError, match=r"'2[.]bias' is missing"):
        objective.flatten({n: t for n, t in named.items() if n != "2.bias"})
    with pytest.raises(ValueError, match="3 tensors"):
        objective.flatten([theta])


@pytest.mark.parametrize("part", ["dominant", "bulk"])
def test_the_tracker_in_a_loop_of_ones_own_with_torch_optim(part):
    """The optimizer's update, projected: the loss falls, and the step lies where it should."""
    model = mlp()
    objective = Objective(model, CE, X, Y)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    subspace = DominantSubspace(objective, 3)
    first = objective.evaluate(objective.initial(), X, Y)[0]
    for step in range(15):
        optimizer.zero_grad()
        CE(model(X), Y).backward()
        before = objective.initial()
        if subspace.due(step):
            probe = objective.flatten([p.grad for p in model.parameters()])
            subspace.refresh(before, step, probe)
        optimizer.step()
        update = objective.initial() - before
        dominant = subspace.project(update)
        objective.assign(before + (dominant if part == "dominant" else update - dominant))
        taken = objective.initial() - before
        share = subspace.alignment(taken)
        assert share == pytest.approx(1.0 if part == "dominant" else 0.0, abs=1e-3)
    assert objective.evaluate(objective.initial(), X, Y)[0] < first


def test_accuracy_is_said_only_of_class_numbers():
    tagger = nn.Sequential(nn.Linear(6, 10), nn.Unflatten(1, (5, 2)))
    tags = torch.randint(0, 5, (N, 2), generator=torch.Generator().manual_seed(4))
    tags[3] = -100
    objective = Objective(tagger, CE, X, tags, chunk=15)
    theta = objective.initial()
    loss, accuracy = objective.evaluate(theta, X, tags)
    counted = tags != -100
    right = (tagger(X).argmax(1) == tags)[counted].double().mean()
    assert accuracy == pytest.approx(float(right))
    assert loss == pytest.approx(float(CE(tagger(X), tags).detach()), rel=1e-5)
    regression = Objective(mlp(), nn.MSELoss(), X, randn(N, 3))
    loss, accuracy = regression.evaluate(regression.initial(), X, randn(N, 3))
    assert math.isnan(accuracy)
    assert math.isfinite(loss)
