"""Update rules against torch.optim and closed forms; phases and noise against their definitions."""

import math

import numpy as np
import pytest
import torch
from conftest import NETWORKS, reference
from torch import nn

from subspace_lib import data, models, optimizers
from subspace_lib.experiment import Experiment
from subspace_lib.linalg.matmul import default_matmul
from subspace_lib.noise import GradientNoise
from subspace_lib.objective import LOSSES, Objective
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.checkpoint import read_tensors, write_tensors
from subspace_lib.runs.trainer import Trainer
from subspace_lib.runs.training import Run
from subspace_lib.theory.edges import sam_edge

QUICK = {"dataset": "digits", "record_every": 10, "spectrum_every": 1000, "refresh_every": 10}


class MuonOfTorch(torch.optim.Optimizer):
    """PyTorch's Muon for a model's matrices and its AdamW for the rest, at one η."""

    def __init__(self, parameters, lr):
        parameters = list(parameters)
        super().__init__(parameters, {})
        matrices = [p for p in parameters if p.ndim == 2]
        rest = [p for p in parameters if p.ndim != 2]
        muon = torch.optim.Muon(matrices, lr=lr, adjust_lr_fn="match_rms_adamw")
        self.parts = [muon, torch.optim.AdamW(rest, lr=lr)]

    def step(self):
        for part in self.parts:
            part.step()


PEERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "muon": lambda p: MuonOfTorch(p, lr=0.01),
}


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def step(peer, model, inputs, labels):
    """A step of a PyTorch optimizer; returns the gradient that it used."""
    peer.zero_grad()
    LOSSES["mse"](model(inputs), labels).backward()
    peer.step()
    return torch.cat([p.grad.reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("name", PEERS)
def test_a_rule_equals_torch_optim_for_100_steps_of_the_same_gradients(name, network, digits):
    """Up to float32 rounding of θ + u. Muon orthogonalizes in bfloat16, as torch does, bit by bit.

    The CNN has kernels of four dimensions, which are no matrices.
    """
    torch.manual_seed(0)
    model, inputs, labels = NETWORKS["cnn"](), torch.randn(200, 1, 4, 4), torch.arange(200) % 3
    if network == "mlp":  # three matrices, three biases
        model = models.build("mlp", digits.shape, 10, seed=0)
        inputs, labels = digits.train_inputs[:200], digits.train_labels[:200]
    layout = Objective(model, "mse", inputs, labels).layout
    rule = optimizers.build(name, 0.01, beta=0.9, rho=0.05, layout=layout)
    start, peer = flat(model), PEERS[name](model.parameters())
    theta, state = start, rule.init(start)
    for t in range(100):
        rows = (torch.arange(20) + 20 * t) % 200
        gradient = step(peer, model, inputs[rows], labels[rows])
        state, update = rule.update(state, gradient, theta)
        theta = theta + update
        torch.testing.assert_close(theta, flat(model), rtol=1e-5, atol=2e-6)
    assert (theta - start).norm() > 0.1  # far beyond the tolerance


# Of the way: each takes its own gradients, whose last bits differ after a step. Dividing by √v turns
# rounding of tiny gradients into whole steps; Muon rounds them to bfloat16, by up to 0.4%, at every step.
APART = {"rmsprop": 0.01, "muon": 0.1}


@pytest.mark.parametrize("name", PEERS)
def test_an_experiment_trains_as_torch_optim_does(name):
    digits = data.load("digits", "standardized")
    own = QUICK | {"preprocessing": "standardized"}
    e = Experiment(**own, optimizer=name, steps=100, switch_step=99)
    assert e.method.lower() == name
    run, model = Run(e), models.build("mlp", digits.shape, 10, seed=0)
    start, peer = flat(model), PEERS[name](model.parameters())
    assert torch.equal(run.theta, start)
    with default_matmul():  # as the peer: the rule is compared, not the rounding of its gradients
        for t in range(100):
            rows = run.trainer.batches.rows(t)
            step(peer, model, digits.train_inputs[rows], digits.train_labels[rows])
            run.advance()
            if t in (0, 99):
                way = (flat(model) - start).norm()
                share = APART.get(name, 1e-4) if t else 1e-4
                assert (run.theta - flat(model)).norm() < share * way
    loss, before = (float(run.objective.gradient(theta)[0]) for theta in (run.theta, start))
    assert loss < 0.9 * before or name == "rmsprop"  # whose first steps are ten times η


@pytest.mark.parametrize("shape", [(30, 30), (20, 50), (50, 20), (1, 40)])
def test_orthogonalizing_keeps_singular_vectors_and_levels_singular_values(shape):
    """Against the scalar recursion on each singular value of a decomposition in float64."""
    generator = torch.Generator().manual_seed(shape[0])
    matrix = torch.randn(*shape, generator=generator, dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ optimizers.orthogonalized(matrix) @ v.T
    leveled = values / values.square().sum().sqrt()
    known = leveled > 0.01
    for _ in range(5):
        leveled = 3.4445 * leveled - 4.7750 * leveled**3 + 2.0315 * leveled**5
    # bfloat16 has three digits, and five steps multiply what is off by up to 3.4 each
    torch.testing.assert_close(turned.diagonal()[known], leveled[known], rtol=0, atol=0.08)
    assert (turned - turned.diagonal().diag()).abs().max() < 0.08
    assert turned.diagonal()[known].min() > 0.6 and turned.diagonal().max() < 1.3
    assert (optimizers.orthogonalized(0 * matrix) == 0).all()


def test_muons_state_is_kept_and_taken_up_as_if_nothing_had_happened(tmp_path):
    e = Experiment(**QUICK, optimizer="muon", steps=30, switch_step=29)
    whole, states = Trainer(e), {}
    while whole.step < 30:
        write_tensors(tmp_path / "state", whole.state())  # refuses memory that is shared
        states[whole.step] = read_tensors(tmp_path / "state")
        whole.advance()
    for step in (0, 9, 25):
        again = Trainer(e)
        again.load_state(states[step])
        while again.step < 30:
            again.advance()
        assert torch.equal(again.theta, whole.theta)


def test_a_phase_of_muon_gives_way_to_another_rule():
    before = [{"until": 5, "optimizer": "muon"}]
    run = Trainer(Experiment(**QUICK, before=before, switch_step=5, steps=7))
    muon = Trainer(Experiment(**QUICK, optimizer="muon", steps=7, switch_step=6))
    for _ in range(5):
        run.advance()
        muon.advance()
    assert torch.equal(run.theta, muon.theta) and run.rule == optimizers.SGD(0.01)
    assert run.rule_state == {}


def test_the_layout_says_where_in_theta_each_parameter_lies():
    objective = reference("cnn", "mse", chunk=37).objective
    parts = objective.initial().split([math.prod(shape) for _, shape in objective.layout])
    named = dict(objective.model.named_parameters())
    assert [name for name, _ in objective.layout] == list(named)
    for (name, shape), part in zip(objective.layout, parts, strict=True):
        assert torch.equal(part.view(shape), named[name])


def test_what_no_rule_can_use_is_an_error_of_one_sentence():
    with pytest.raises(ValueError, match=r"'nonsense' is not known; choose one of sgd, .*muon"):
        optimizers.build("nonsense", 0.1, beta=0.9, rho=0.05)
    blind = optimizers.build("muon", 0.1, beta=0.9, rho=0.05)
    with pytest.raises(ValueError, match="shapes of all 3 parameters, and has those of 0"):
        blind.init(torch.zeros(3))
    with pytest.raises(InvalidParameter, match=r"beta = 0\.8 has a meaning only with"):
        Experiment.parse(**QUICK, optimizer="muon", beta=0.8)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_scale_free_rules_are_those_whose_first_update_the_gradients_size_does_not_change(name):
    layout, theta = (("w", (4, 3)), ("b", (2,))), torch.zeros(14, dtype=torch.float64)
    rule = optimizers.build(name, 0.1, beta=0.9, rho=0.05, layout=layout)
    gradient = torch.linspace(1, 3, 14, dtype=torch.float64)
    first, second = (rule.update(rule.init(theta), s * gradient, theta)[1] for s in (1, 1024))
    assert (name in optimizers.SCALE_FREE) == torch.allclose(first, second, rtol=1e-6)
    state = rule.update(rule.init(theta), gradient, theta)[0]
    assert (name in optimizers.ADAPTIVE) == (rule.preconditioner(state) is not None)


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam", "adamw"])
def test_what_a_rule_carries_is_the_sum_of_its_gradients_by_age(name):
    rule, theta = optimizers.build(name, 0.1, beta=0.8, rho=0.05), torch.zeros(3)
    gradients = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    state = rule.init(theta)
    for gradient in gradients:
        state, _ = rule.update(state, gradient, theta)
    expected = sum(0.8 ** (4 - i) * g for i, g in enumerate(gradients))
    torch.testing.assert_close(rule.carried(state), expected)


def test_sam_on_a_quadratic_is_its_closed_form():
    """u = −η (H + ρ H²/‖Hx‖) x, in two dimensions, over 20 steps."""
    hessian = torch.diag(torch.tensor([5.0, 1.0], dtype=torch.float64))
    rule, x = optimizers.SAM(0.1, rho=0.3), torch.tensor([1.0, -2.0], dtype=torch.float64)
    y = x.clone()
    for _ in range(20):
        gradient = hessian @ x
        _, update = rule.update({}, hessian @ (x + rule.lookahead(gradient)), x)
        x = x + update
        scale = 0.3 / (hessian @ y).norm()
        y = y - 0.1 * (hessian + scale * hessian @ hessian) @ y
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)
    assert (rule.lookahead(torch.zeros(2)) == 0).all()


@pytest.mark.parametrize(("rho", "eta"), [(0.05, 0.08), (0.3, 0.01), (1e-9, 0.5)])
def test_at_sams_edge_the_top_coordinate_turns_around_without_growing(rho, eta):
    """On ½ λ x², one step from x: at λ = edge(‖g‖) SAM lands on −x; above it, beyond."""
    gradient = 0.7
    edge = sam_edge(gradient, eta, rho)
    rule = optimizers.SAM(eta, rho=rho)
    for factor in (0.9, 1.0, 1.1):
        curvature = factor * edge
        x = torch.tensor([gradient / curvature], dtype=torch.float64)
        _, update = rule.update({}, curvature * (x + rule.lookahead(curvature * x)), x)
        ratio = float((x + update) / -x)
        assert ratio == pytest.approx(1) if factor == 1 else (ratio > 1) == (factor > 1)
    assert sam_edge(gradient, eta, 0) == pytest.approx(2 / eta)


def test_sam_takes_both_gradients_from_the_same_minibatch():
    e = Experiment(**QUICK, optimizer="sam", rho=0.1, steps=3)
    run, thetas = Run(e), []
    run.train(lambda run: thetas.append(run.theta))
    rows, start = run.trainer.batches.rows(1), thetas[0]
    _, gradient = run.objective.gradient(start, rows)
    _, ahead = run.objective.gradient(start + 0.1 * gradient / gradient.norm(), rows)
    torch.testing.assert_close(thetas[1], start - 0.01 * ahead)


def test_phases_have_their_own_rule_and_batches():
    """SGD, then full-batch momentum, then full-batch GD: against three loops."""
    before = [
        {"until": 7, "optimizer": "sgd", "batch_size": 50, "learning_rate": 0.02},
        {"until": 11, "optimizer": "momentum"},
    ]
    e = Experiment(**QUICK, before=before, switch_step=11, steps=14, batch_size=1500)
    run = Run(e)
    run.train()
    other = Run(Experiment(**QUICK, steps=14, learning_rate=0.02))
    theta, momentum = other.theta, 0
    for step in range(14):
        rows = other.trainer.batches.rows(step) if step < 7 else None
        _, gradient = other.objective.gradient(theta, rows)
        if step < 7:
            theta = theta - 0.02 * gradient
        elif step < 11:
            momentum = 0.9 * momentum + gradient
            theta = theta - 0.01 * momentum
        else:
            theta = theta - 0.01 * gradient
    torch.testing.assert_close(run.theta, theta)
    assert run.table()["step"].tolist() == [11, 14]


def test_a_run_resumes_within_a_phase_as_if_nothing_had_happened():
    before = [{"until": 15, "optimizer": "momentum", "batch_size": 50}]
    e = Experiment(
        **QUICK,
        model="mlp_small",
        before=before,
        switch_step=15,
        steps=30,
        optimizer="sam",
        batch_size=1500,
        noise="sgd",
    )
    whole = Run(e)
    states = {}
    whole.train(lambda run: states.update({run.step: run.state()}))
    for step in (9, 15, 23):
        again = Run(e)
        again.load_state(states[step])
        again.train()
        assert torch.equal(again.theta, whole.theta)


@pytest.mark.parametrize("loss", LOSSES)
def test_weighted_gradient_and_variance_match_single_samples(loss):
    r = reference("mlp", loss, chunk=10)
    o, samples = r.objective, len(r.objective)
    single = torch.stack([o.gradient(r.theta, torch.tensor([i]))[1] for i in range(samples)])
    weights = torch.randn(samples, dtype=torch.float64)
    torch.testing.assert_close(o.weighted_gradient(r.theta, weights), weights @ single)
    centred = single - single.mean(0)
    scatter = centred.T @ centred / samples
    basis = torch.linalg.qr(torch.randn(o.dim, 4, dtype=torch.float64))[0]
    along, total = o.gradient_variance(r.theta, basis)
    torch.testing.assert_close(along, (basis.T @ scatter @ basis).diagonal())
    assert total == pytest.approx(float(scatter.trace()))


@pytest.mark.parametrize("kind", ["sgd", "isotropic"])
def test_artificial_noise_has_the_covariance_of_minibatches(kind):
    """Against minibatches without replacement, by 2,000 draws of each."""
    r = reference("mlp", "mse", chunk=37)
    o, batch, draws = r.objective, 5, 2000
    noise = GradientNoise(o, kind, batch, seed=1)
    ours = torch.stack([noise.draw(r.theta, step) for step in range(draws)])
    single = torch.stack([o.gradient(r.theta, torch.tensor([i]))[1] for i in range(len(o))])
    rng = np.random.default_rng(0)
    picks = [rng.choice(len(o), batch, replace=False) for _ in range(draws)]
    theirs = torch.stack([single[p].mean(0) for p in picks]) - r.gradient
    error = 5 / math.sqrt(draws)
    assert ours.mean(0).norm() < error * theirs.norm(dim=1).mean()
    trace = theirs.square().sum(1).mean()
    assert ours.square().sum(1).mean() == pytest.approx(float(trace), rel=error)
    values, vectors = torch.linalg.eigh(theirs.T @ theirs / draws)
    along = (ours @ vectors[:, -3:]).square().mean(0)
    if kind == "sgd":
        torch.testing.assert_close(along, values[-3:], rtol=0.15, atol=0)
    else:  # the same in every direction
        torch.testing.assert_close(along, trace.expand(3) / o.dim, rtol=0.15, atol=0)
    assert torch.equal(noise.draw(r.theta, 7), ours[7])
