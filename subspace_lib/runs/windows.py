"""What the windows of an amplification run say: effective learning rates by part and by direction."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from subspace_lib import optimizers
from subspace_lib.experiment import Experiment
from subspace_lib.runs.amplification import DIRECTION, PART, model_of
from subspace_lib.runs.rates import PARTS
from subspace_lib.theory.quadratic import LinearRule, Noise, batch_noise, window
from subspace_lib.trajectory import Trajectory

DEFINITIONS = ("slope", "mean", "displacement")


def part_rates(run: Trajectory) -> pd.DataFrame:
    """Effective learning rates by window: a row an anchor, columns (definition, part).

    "slope" is −Σ⟨Pu, Pg⟩/Σ‖Pg‖², the regression of u on −g through the origin; "mean" the mean over steps
    of −⟨Pu, Pg⟩/‖Pg‖²; "displacement" −⟨PΣu, PΣg⟩/‖PΣg‖², in which what fluctuates cancels.
    """
    wide = run.table[run.table["quantity"].isin(PART)]
    wide = wide.pivot(index="anchor", columns=["quantity", "index"], values="value")
    found = {}
    for i, part in enumerate(PARTS):
        found["slope", part] = wide["part_product", i] / wide["part_square", i]
        found["mean", part] = wide["part_ratio", i]
        found["displacement", part] = wide["part_displacement", i] / wide["part_gradient_square", i]
        found["preconditioner alone", part] = (
            wide["part_preconditioned", i] / wide["part_square", i]
        )
        found["mean of gradients alone", part] = wide["part_carried", i] / wide["part_square", i]
    return pd.DataFrame(found)


def amplification(run: Trajectory, definition: str) -> float:
    """Bulk-LR/Dom-LR of a run, by a definition of ``part_rates``.

    The geometric mean over its windows. NaN where the run diverged, or where a rate is not positive.
    """
    rates = part_rates(run)[definition]
    ratios = rates["bulk"] / rates["dominant"]
    if not run.complete or not (ratios > 0).all():
        return math.nan
    return float(np.exp(np.log(ratios).mean()))


def directions(run: Trajectory) -> pd.DataFrame:
    """Rates over η by eigendirection, pooled over a run's windows: sums over sums.

    Of the windows whose directions are known.

    Columns: eigenvalue (mean), measured, predicted from λ, the single-sample noise and the window's start
    (``quadratic.window``), and driven, the quadratic model with the noise that the batches had. Rules
    with a preconditioner in its coordinates, η being that of the equivalent heavy ball. The last two are
    NaN for rules without a ``linear_rule``.
    """
    e, sums = run.experiment, _by_direction(run).groupby(level="index")
    # NaN, not 0, where no window has a number
    total, found = sums.sum(min_count=1), pd.DataFrame({"eigenvalue": sums["eigenvalue"].mean()})
    rule = linear_rule(e)
    rate = e.learning_rate if rule is None else rule.learning_rate
    names = {"measured": "", "predicted": "predicted_", "driven": "driven_"}
    for name, kind in names.items():
        found[name] = total[f"{kind}product"] / total[f"{kind}square"] / rate
    return found


def error(found: pd.DataFrame, column: str = "predicted") -> float:
    """Relative error of a column of ``directions``: its median over them."""
    return float((found[column] / found["measured"] - 1).abs().median())


def linear_rule(e: Experiment) -> LinearRule | None:
    """The experiment's rule as it acts on an eigendirection; None where there is no theory of it."""
    return model_of(optimizers.build(e.optimizer, e.learning_rate, e.beta, e.rho))


def _by_direction(run: Trajectory) -> pd.DataFrame:
    """Sums by anchor and direction, with those that the quadratic model predicts."""
    e, rule = run.experiment, linear_rule(run.experiment)
    prefix = "p_" if e.optimizer in optimizers.ADAPTIVE else ""
    wanted = {prefix + name: name for name in DIRECTION}
    rows = run.table[run.table["quantity"].isin(wanted)]
    wide = rows.pivot(index=["anchor", "index"], columns="quantity", values="value")
    wide = wide.rename(columns=wanted).astype(float)
    if rule is None:
        return wide.assign(predicted_product=math.nan, predicted_square=math.nan)
    samples = e.samples
    found = []
    for anchor in wide.index.unique("anchor"):
        noise = batch_noise(samples, e.batch_size, int(anchor), e.window)
        found.append(_predicted(wide.loc[[anchor]], rule, noise))
    return pd.concat(found)


def _predicted(rows: pd.DataFrame, rule: LinearRule, noise: Noise) -> pd.DataFrame:
    """One window's rows, with what the quadratic model expects of the sums."""
    names = ["eigenvalue", "noise", "gradient_start", "state_start"]
    values, variances, g, m = rows[names].to_numpy().T
    product, square = window(rule, values, noise, variances, g / values, m)
    return rows.assign(predicted_product=product, predicted_square=square)
