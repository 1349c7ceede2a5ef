"""The quadratic model's alignment against a simulation of the quadratic."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from subspace_lib.chapters.full_batch_gd.study import BatchParameters, BatchStudy


@dataclass
class Stub:
    """A trajectory of which only the table is used."""

    table: pd.DataFrame


@pytest.mark.parametrize("batch", [10, 50, 1000, 5000])
def test_predicted_alignment_is_that_of_a_simulated_quadratic(batch):
    """60 eigenvalues, noise of any size along the leading 20 and proportional to λ beyond, and a drift."""
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [np.linspace(60, 20, 10), np.linspace(8, 4, 10), np.linspace(3, 0.5, 40)]
    )
    noise = np.concatenate([rng.uniform(0.5, 2, 20), np.full(40, 0.02)]) * values
    eta, drift = 0.01, 0.05
    p = BatchParameters(learning_rate=eta, k=10)
    index = range(1, 21)
    rows = [("eigenvalue", i, values[i - 1]) for i in index]
    rows += [("noise", i, noise[i - 1]) for i in index]
    rows += [
        ("noise", 0, noise.sum()),
        ("trace", 0, values.sum()),
        ("square", 0, (values**2).sum()),
    ]
    survey = pd.DataFrame(rows, columns=["quantity", "index", "value"])
    gd = pd.DataFrame({"step": [3000, 3100, 3200], "gradient_norm": [9.0, drift, 9.0]})
    study = BatchStudy(p, {("GD", 0): Stub(gd)}, {}, {0: Stub(survey)})

    scale = np.sqrt((5000 - batch) / (4999 * batch) * noise)
    x, energy, whole = np.zeros(60), 0.0, 0.0
    for step in range(40_000):
        gradient = values * x
        x = x - eta * (gradient + scale * rng.standard_normal(60))
        if step > 2000:
            energy += (gradient[:10] ** 2).sum()
            whole += (gradient**2).sum() + drift**2
    simulated = np.sqrt(energy / whole)
    assert study.predicted(0, batch) == pytest.approx(simulated, abs=0.02)
