"""Tables of chapters 07 and 07b."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib.chapters.kit.table import Row, table
from subspace_lib.chapters.momentum_adam.study import JUDGED, MomentumStudy
from subspace_lib.runs.rates import amplification, directions, linear_rule, part_rates
from subspace_lib.trajectory import Trajectory


def effective_rates(study: MomentumStudy) -> Markdown:
    """Effective learning rates over η by rule: first seed, mean over the judged windows."""
    since, rows = study.parameters.switch_step, []
    plain = amplification(study.windows("SGD")[0], "slope", since)
    for label in study.parameters.labels():
        run = study.windows(label)[0]
        eta, rates = run.experiment.learning_rate, part_rates(run).loc[since:].mean()
        row = {"rule": label, "η": f"{eta:g}"}
        for name in ("slope", "mean", "displacement"):
            row[f"Dom, {name}"] = f"{rates[name, 'dominant'] / eta:.3g}"
            row[f"Bulk, {name}"] = f"{rates[name, 'bulk'] / eta:.3g}"
        ratio = amplification(run, "slope", since)
        row["Bulk-LR/Dom-LR, slope"] = f"{ratio:.2f}"
        rows.append(row | {"over SGD's": f"{ratio / plain:.2f}"})
    return table(rows, note="Rates in units of η.")


def predictions(study: MomentumStudy) -> Markdown:
    """How far predicted rates are from measured ones: medians over the leading eigendirections."""
    k, since = study.parameters.k, study.parameters.switch_step
    windows = sum(anchor >= since for anchor in study.parameters.anchors)
    rows = []
    for label in study.parameters.labels():
        runs = study.windows(label)
        found = directions(runs, since)
        error = (found["predicted"] / found["measured"] - 1).abs()
        driven = (found["driven"] / found["measured"] - 1).abs().median()
        rule = linear_rule(runs[0].experiment)
        sharp = found["eigenvalue"].iloc[0] / rule.edge if rule else math.nan
        rows.append(
            {
                "rule": label,
                "windows": len(runs) * windows,
                "λ₁ over the rule's edge": f"{sharp:.2f}",
                "predicted, all": f"{error.median():.0%}",
                f"the first {k}": f"{error.iloc[:k].median():.0%}",
                "the others": f"{error.iloc[k:].median():.0%}",
                "quadratic, same noise": f"{driven:.0%}",
            }
        )
    return table(rows)


def ingredients(study: MomentumStudy) -> Markdown:
    """Bulk-LR/Dom-LR along Adam's own path: of Adam, and of each of its ingredients alone."""
    names = {
        "Adam": "slope",
        "preconditioner alone": "preconditioner alone",
        "mean of gradients alone": "mean of gradients alone",
    }
    return table(
        {"seed": run.experiment.seed, "window from step": f"{anchor:,}"}
        | {says: f"{rates[n, 'bulk'] / rates[n, 'dominant']:.2f}" for says, n in names.items()}
        for run in study.windows("Adam")
        for anchor, rates in part_rates(run).iterrows()
    )


def projections(study: MomentumStudy) -> Markdown:
    """Losses with the update projected and with the gradient, first seed, where the shorter runs end."""
    p, seed = study.parameters, study.parameters.seeds[0]
    rows: list[Row] = []
    for optimizer in JUDGED:
        label = p.label(optimizer)
        plain = _loss_at(study.runs[label, "none", seed], p.alternative_end)
        ways = {p.projected: label} | {way: f"{label}, {way}" for way in p.alternatives}
        for what, name in ways.items():
            dom, bulk = (
                _loss_at(study.runs[name, projection, seed], p.alternative_end)
                for projection in ("dominant", "bulk")
            )
            rows.append(
                {
                    "rule": label,
                    "L of the rule": plain,
                    "projected": what,
                    "L of Dom-": dom,
                    "L of Bulk-": bulk,
                }
            )
    says = f"Training losses at step {p.alternative_end:,}; the switch is at {p.switch_step:,}."
    return table(rows, note=says)


def bulk_adam(study: MomentumStudy) -> Markdown:
    """How the Bulk-Adam runs end: step, loss, and how well the subspace was known until they diverged."""
    p = study.parameters
    runs = {(f"{p.projected} projected", s): study.runs["Adam", "bulk", s] for s in p.seeds}
    runs |= {(name, p.seeds[0]): run for name, run in study.bulk_adam().items()}
    rows = []
    for (name, seed), run in runs.items():
        end = run.table.iloc[-1]
        rows.append(
            {
                "Bulk-Adam": name,
                "seed": seed,
                "ends": run.status.split()[0],
                "at step": f"{int(end['step']):,}",
                "training loss there": f"{end['train_loss']:.4f}",
                "Adam's": _loss_at(study.runs["Adam", "none", seed], int(end["step"])),
                "median certified angle": f"{run.table['angle_bound'].median():.2f}",
            }
        )
    return table(rows)


def _loss_at(run: Trajectory, step: int) -> str:
    """The loss at the last recorded step up to the given one, or how the run ended before."""
    last = run.table[run.table["step"] <= step].iloc[-1]
    found = f"{last['train_loss']:.4f}"
    return found if last["step"] == step else f"{found} ({run.status})"
