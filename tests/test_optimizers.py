"""Update rules against torch.optim and closed forms; phases and noise against their definitions."""

import math

import numpy as np
import pytest
import torch
from conftest import reference

from subspace_lib import models, optimizers
from subspace_lib.experiment import Experiment
from subspace_lib.matmul import default_matmul
from subspace_lib.noise import GradientNoise
from subspace_lib.objective import LOSSES
from subspace_lib.training import Run

QUICK = {"dataset": "digits", "record_every": 10, "spectrum_every": 1000, "refresh": 10}
PEERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


@pytest.mark.parametrize("name", PEERS)
def test_a_rule_equals_torch_optim_for_100_steps(name, digits):
    run = Run(Experiment(**QUICK, optimizer=name, steps=100, switch_step=99))
    model = models.build("mlp", digits.shape, 10, seed=0)
    peer = PEERS[name](model.parameters())
    for step in range(100):
        rows = run.batches.rows(step)
        peer.zero_grad()
        LOSSES["mse"](model(digits.train_inputs[rows]), digits.train_labels[rows]).backward()
        peer.step()
    with default_matmul():  # as the peer: the rule is compared, not the rounding of its gradients
        run.train()
    expected = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    # float32 rounding; dividing by √v turns rounding of tiny gradients into whole steps
    tolerance = 1e-3 if name in ("adam", "adamw", "rmsprop") else 1e-6
    torch.testing.assert_close(run.theta, expected, rtol=1e-5, atol=tolerance)
    assert (run.theta - expected).norm() < 1e-4 * expected.norm()


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
    edge = optimizers.sam_edge(gradient, eta, rho)
    rule = optimizers.SAM(eta, rho=rho)
    for factor in (0.9, 1.0, 1.1):
        curvature = factor * edge
        x = torch.tensor([gradient / curvature], dtype=torch.float64)
        _, update = rule.update({}, curvature * (x + rule.lookahead(curvature * x)), x)
        ratio = float((x + update) / -x)
        assert ratio == pytest.approx(1) if factor == 1 else (ratio > 1) == (factor > 1)
    assert optimizers.sam_edge(gradient, eta, 0) == pytest.approx(2 / eta)


def test_sam_takes_both_gradients_from_the_same_minibatch():
    e = Experiment(**QUICK, optimizer="sam", rho=0.1, steps=3)
    run, thetas = Run(e), []
    run.train(lambda run: thetas.append(run.theta))
    rows, start = run.batches.rows(1), thetas[0]
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
        rows = other.batches.rows(step) if step < 7 else None
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
    """Against minibatches without replacement, by 4,000 draws of each."""
    r = reference("mlp", "mse", chunk=37)
    o, batch, draws = r.objective, 5, 4000
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
