"""Tables of chapters 07 and 07b."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from IPython.display import Markdown

from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.study import there
from subspace_lib.chapters.kit.switch.frozen import rise, sharpness_ends
from subspace_lib.chapters.kit.table import Row, span, table
from subspace_lib.chapters.momentum_adam.study import JUDGED, MomentumStudy
from subspace_lib.runs.rates import PARTS, mean_rates
from subspace_lib.runs.windows import DEFINITIONS, directions, error, part_rates
from subspace_lib.trajectory import Trajectory, progress, tail_loss


def protocol(study: MomentumStudy) -> Markdown:
    """The parameters in force, the switches, and the runs that did not come to their end."""
    p = study.parameters
    otherwise = ", by the fallback" if p.switch_alignment is not None else ", as given"
    rows = [
        {
            "parameter": f"switch of {p.label(name)}, seed {seed}",
            "in force": f"step {step:,}" + ("" if switch.triggered[seed] else otherwise),
        }
        for name, switch in study.switches.items()
        for seed, step in switch.switch_steps.items()
    ]
    return page.in_force(p, study.runs(), rows)


def first_steps(study: MomentumStudy) -> Markdown:
    """Table 1: mean and deviation over the first steps of Dom-LR and Bulk-LR; means over seeds."""
    rows: list[Row] = []
    plain = {run.experiment.seed: _ratio(run) for run in study.first_steps("SGD")}
    for label in study.parameters.rules():
        if not (runs := study.first_steps(label)):
            continue
        row = {"rule": label, "η": f"{runs[0].experiment.learning_rate:g}", "seeds": len(runs)}
        for part, name in zip(PARTS, ("Dom-LR", "Bulk-LR"), strict=True):
            rates = [run.table[f"{part}_rate"] for run in runs]
            mean, deviation, median = (
                np.mean([getattr(rate, how)() for rate in rates])
                for how in ("mean", "std", "median")
            )
            row[name] = f"{mean:.4f} ± {deviation:.4f}"
            row[f"{name}, median"] = f"{median:.4f}"
        row["Bulk-LR/Dom-LR"] = f"{np.mean([_ratio(run) for run in runs]):.2f}"
        over = [_ratio(run) / plain[run.experiment.seed] for run in runs]
        rows.append(row | {"over SGD's": span(over, ".2f")} | _ended(runs))
    lacking = [label for label in study.parameters.rules() if not study.first_steps(label)]
    missing = f" Not stored yet: {'; '.join(lacking)}." if lacking else ""
    return table(rows, note=f"± is the deviation over steps.{missing}")


def _ratio(run: Trajectory) -> float:
    """Mean Bulk-LR over mean Dom-LR of the first steps."""
    dominant, bulk = mean_rates(run)
    return bulk / dominant


def _ended(runs: Iterable[Trajectory]) -> dict[str, str]:
    """A cell for runs that diverged, whose means are of the steps before."""
    told = [f"seed {run.experiment.seed} {run.status}" for run in runs if not run.complete]
    return {"ended early": ", ".join(told)} if told else {}


def later(study: MomentumStudy) -> Markdown:
    """Effective learning rates over η by rule, mean over the windows; one seed."""
    rows: list[Row] = []
    for label in study.parameters.rules():
        run = study.windows[label]
        eta, rates = run.experiment.learning_rate, part_rates(run).mean()
        row = {"rule": label, "η": f"{eta:g}"}
        for name in DEFINITIONS:
            row[f"Dom, {name}"] = f"{rates[name, 'dominant'] / eta:.3g}"
            row[f"Bulk, {name}"] = f"{rates[name, 'bulk'] / eta:.3g}"
        rows.append(row | _ended([run]))
    note = f"Rates in units of η, means over the windows, seed {study.parameters.shown}."
    return table(rows, note=note)


def predictions(study: MomentumStudy) -> Markdown:
    """How far predicted rates are from measured ones: medians over the leading eigendirections."""
    k, rows = study.parameters.k, list[Row]()
    for label, (run, rule) in study.with_theory().items():
        found = directions(run)
        rows.append(
            {
                "rule": label,
                "λ₁ over the rule's edge": f"{found['eigenvalue'].iloc[0] / rule.edge:.2f}",
                "predicted, all": f"{error(found):.0%}",
                f"the first {k}": f"{error(found.iloc[:k]):.0%}",
                "the others": f"{error(found.iloc[k:]):.0%}",
                "quadratic, same noise": f"{error(found, 'driven'):.0%}",
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
        {"window from step": f"{anchor:,}"}
        | {says: f"{rates[n, 'bulk'] / rates[n, 'dominant']:.2f}" for says, n in names.items()}
        for anchor, rates in part_rates(study.windows["Adam"]).iterrows()
    )


def bulk_ways(study: MomentumStudy) -> Markdown:
    """How the Bulk- runs end, by what is projected: step, loss, progress, and the angle of the subspace."""
    p, rows = study.parameters, list[Row]()
    for name in JUDGED:
        switch = study.switches[name]
        runs = {("update projected", seed): switch.trajectories["bulk", seed] for seed in p.seeds}
        runs |= {(way, p.shown): run for way, run in study.ways(name).items()}
        for (way, seed), run in runs.items():
            plain, end = switch.trajectories["none", seed], run.table.iloc[-1]
            rows.append(
                {
                    "rule": switch.name("bulk"),
                    "": way,
                    "seed": seed,
                    "ends": run.status,
                    "training loss there": f"{end['train_loss']:.4f}",
                    "the whole rule's": _loss_at(plain, int(end["step"])),
                    "progress": f"{progress(plain, run):z.3f}",
                    "median certified angle": f"{run.table['angle_bound'].median():.2f}",
                }
            )
    return table(rows)


def by_interval(study: MomentumStudy) -> Markdown:
    """How Dom-heavy ball of one seed ends, by the steps from one refresh or look to the next."""
    p = study.parameters
    own = study.switches["momentum"].trajectories["dominant", p.shown]
    usual = own.table["refresh_interval"].median()
    runs: list[tuple[str, int | None, Trajectory]]
    runs = [(f"as elsewhere (median {usual:,.0f})", None, own)]
    runs += [(f"{every:,}", every, run) for every, run in sorted(study.refreshed.items())]
    if p.shown in there(study.frozen):
        runs.append(("frozen", None, study.frozen[p.shown]))
    rows = list[Row]()
    for name, every, run in runs:
        before, after = sharpness_ends(run)
        row = {
            "steps to the next refresh": name,
            "training loss at the end": f"{tail_loss(run):.4f}",
        }
        row |= {"its rise": f"{rise(run):.4f}", "λ₁ at the switch": f"{before:.2f}"}
        row["λ₁ as last seen"] = f"{after:.2f}"
        row["its fall × the steps"] = "" if every is None else f"{every * (before - after):.0f}"
        rows.append(row)
    return table(rows)


def _loss_at(run: Trajectory, step: int) -> str:
    """The loss at the last recorded step up to the given one, or how the run ended before."""
    last = run.table[run.table["step"] <= step].iloc[-1]
    found = f"{last['train_loss']:.4f}"
    return found if last["step"] == step else f"{found} ({run.status})"
