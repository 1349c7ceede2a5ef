"""Effective rates: against a dense float64 computation without the tracker, and by identities."""

import numpy as np
import pytest
import torch
from conftest import few_digits
from torch import nn

from subspace_lib import data, models
from subspace_lib.objective import Objective
from subspace_lib.parameters import InvalidParameter
from subspace_lib.runs.batches import Batches
from subspace_lib.runs.rates import EffectiveRates, RatesRun, effective_rates, mean_rates
from subspace_lib.trajectory import Trajectory

FIELDS = {
    "dataset": "digits",
    "preprocessing": "unit",
    "classes": 3,
    "k": 3,
    "guards": 2,
    "batch_size": 20,
    "learning_rate": 0.1,
    "refresh_every": 1,
}
RULES = {
    "sgd": ({}, lambda ps: torch.optim.SGD(ps, lr=0.1)),
    "heavy ball": ({"optimizer": "momentum"}, lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.9)),
    "adam": (
        {"optimizer": "adam", "learning_rate": 0.01},
        lambda ps: torch.optim.Adam(ps, 0.01),
    ),
    "adam, β₁ = 0": (
        {"optimizer": "adam", "learning_rate": 0.01, "beta": 0.0},
        lambda ps: torch.optim.Adam(ps, 0.01, betas=(0.0, 0.999)),
    ),
}


def tiny():
    torch.manual_seed(4)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 3))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(models, "build", lambda *arguments: tiny())
    with few_digits():
        yield


def finished(**fields):
    run = RatesRun(EffectiveRates.parse(**FIELDS | fields))
    run.train()
    return run


def dense(optimizer, steps):
    """Dom-LR and Bulk-LR of every step in float64: a dense Hessian, torch's own rules, no library code."""
    dataset = data.load("digits", "unit").first_classes(3)
    inputs = dataset.train_inputs.double()
    targets = nn.functional.one_hot(dataset.train_labels, 3).double()
    model = tiny().double()
    names, shapes = zip(*[(n, p.shape) for n, p in model.named_parameters()], strict=True)
    sizes = [shape.numel() for shape in shapes]

    def loss(theta, rows=slice(None)):
        parts = [p.view(s) for p, s in zip(theta.split(sizes), shapes, strict=True)]
        call = dict(zip(names, parts, strict=True))
        outputs = torch.func.functional_call(model, call, (inputs[rows],))
        return 0.5 * (outputs - targets[rows]).square().sum(1).mean()

    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).requires_grad_()
    rule, batches, found = optimizer([theta]), Batches(len(inputs), 20, 0), []
    for step in range(steps):
        at = theta.detach().clone()
        top = torch.linalg.eigh(torch.func.hessian(loss)(at))[1][:, -3:]
        g = torch.func.grad(loss)(at)
        rule.zero_grad()
        loss(theta, batches.rows(step)).backward()
        rule.step()
        u = theta.detach() - at
        inside = top @ (top.T @ g)
        found.append([-float(u @ part / (part @ part)) for part in (inside, g - inside)])
    return np.array(found)


@pytest.mark.parametrize(("fields", "optimizer"), RULES.values(), ids=RULES)
def test_rates_are_those_of_a_dense_computation_at_every_step(fields, optimizer):
    run = finished(**fields, steps=25, target_angle=1e-3)
    table = run.table()
    assert run.status == "complete" and table["step"].tolist() == list(range(25))
    found = table[["dominant_rate", "bulk_rate"]].to_numpy()
    expected = dense(optimizer, 25)
    # float32 training from the same point, and a basis within its target angle
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3 * np.abs(expected).max())


def test_over_the_batches_of_an_epoch_sgds_rates_are_eta_on_average():
    """The mean of the minibatch gradients of an epoch is the full gradient; η too small to move θ."""
    samples = len(data.load("digits", "unit").first_classes(3).train_labels)
    size = next(b for b in range(10, samples) if samples % b == 0)
    eta = 1e-10
    run = finished(learning_rate=eta, batch_size=size, steps=samples // size, refresh_every=1000)
    rates = run.table()[["dominant_rate", "bulk_rate"]]
    assert len(rates) > 3 and rates.std().min() > 0.05 * eta
    np.testing.assert_allclose(rates.mean(), eta, rtol=1e-4)


def test_the_same_identity_in_any_subspace():
    generator = torch.Generator().manual_seed(1)
    gradients = torch.randn(8, 30, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(torch.randn(30, 4, generator=generator, dtype=torch.float64))
    full = gradients.mean(0)
    rates = torch.stack([effective_rates(basis, -0.03 * g, full) for g in gradients])
    torch.testing.assert_close(rates.mean(0), torch.full((2,), 0.03, dtype=torch.float64))


def test_gradient_descent_has_eta_in_both_parts():
    samples = len(data.load("digits", "unit").first_classes(3).train_labels)
    rates = finished(batch_size=samples, steps=4).table()[["dominant_rate", "bulk_rate"]]
    np.testing.assert_allclose(rates, 0.1, rtol=1e-4)


def test_rates_are_computed_in_float64():
    """A gradient with a bulk part of 1e-5: float32 would leave two digits of its square."""
    basis = torch.eye(3)[:, :1]
    gradient = torch.tensor([1.0, 1e-5, 0.0])
    found = effective_rates(basis, -0.1 * gradient, gradient)
    torch.testing.assert_close(found, torch.full((2,), 0.1, dtype=torch.float64), rtol=1e-4, atol=0)


def test_a_refresh_at_every_step_costs_no_gradient_more(monkeypatch):
    calls, gradient = [], Objective.gradient
    monkeypatch.setattr(
        Objective,
        "gradient",
        lambda self, theta, rows=None: calls.append(rows) or gradient(self, theta, rows),
    )
    finished(steps=5)
    assert len(calls) == 5 and all(rows is not None for rows in calls)
    finished(steps=5, refresh_every=5)
    assert sum(rows is None for rows in calls) == 4


def test_a_run_that_diverged_has_no_mean_rate():
    run = finished(learning_rate=1e8, steps=30)
    found = Trajectory(run.experiment, run.table(), run.status, None, {})
    assert run.status.startswith("diverged") and np.isnan(mean_rates(found)).all()


def test_effective_rates_are_those_of_a_plain_rule():
    with pytest.raises(
        InvalidParameter, match=r"projection = 'bulk': this kind of run .* plain rule"
    ):
        EffectiveRates.parse(**FIELDS, projection="bulk")
