"""What every chapter needs around its study: checked parameters, and tables of where numbers are from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import pandas as pd
from IPython.display import Markdown

from subspace_lib import claims, figures
from subspace_lib.amplification import amplification, directions, linear_rule, part_rates
from subspace_lib.claims import Verdict, table
from subspace_lib.experiment import Description
from subspace_lib.simulation import APPEARS, VANISHES
from subspace_lib.studies.alignment import AlignmentStudy
from subspace_lib.studies.batches import BatchStudy
from subspace_lib.studies.momentum import JUDGED, MomentumStudy
from subspace_lib.studies.switch import SwitchStudy
from subspace_lib.studies.toy import ToyStudy
from subspace_lib.training import Trajectory

Parameters = TypeVar("Parameters", bound=Description)
PLAIN = (bool, int, float, str, list, tuple, type(None))


def parameters(namespace: Mapping[str, Any], kind: type[Parameters]) -> Parameters:
    """Parameters from a notebook's names: every plain value in it is taken for one.

    Papermill only warns of a name that it does not know, and runs on; here it is an error.

    Raises:
        InvalidParameter: one sentence for the first name or value that is not allowed.
    """
    found = {
        name: value
        for name, value in namespace.items()
        if isinstance(value, PLAIN) and not name.startswith("_") and name != "In"
    }
    return kind.parse(**found)


def protocol(study: SwitchStudy) -> Markdown:
    """The parameters in force, the switch, and the outcome of each run, as a table."""
    p = study.parameters
    rows = _in_force(p)
    for seed in p.seeds:
        if study.triggered[seed]:
            why = f"alignment's moving average above {p.switch_alignment}"
        elif p.switch_alignment is not None:
            why = (
                f"**the moving average never exceeded {p.switch_alignment} in {p.steps} steps**; "
                "switched at switch_step instead"
            )
        else:
            why = "fixed by switch_step"
        rows.append(f"| switch, seed {seed} | step {study.switch_steps[seed]}: {why} |")
    rows += _incomplete(study.trajectories.values())
    return Markdown("\n".join(["| parameter | in force |", "|-|-|", *rows]))


def in_force(parameters: Description, runs: Iterable[Trajectory]) -> Markdown:
    """The parameters in force, and which of the runs did not come to their end, as a table."""
    rows = [*_in_force(parameters), *_incomplete(runs)]
    return Markdown("\n".join(["| parameter | in force |", "|-|-|", *rows]))


def _in_force(parameters: Description) -> list[str]:
    return [f"| {name} | {_show(value)} |" for name, value in parameters.model_dump().items()]


def _incomplete(runs: Iterable[Trajectory]) -> list[str]:
    return [
        f"| {run.experiment.method}, seed {run.experiment.seed}, η = "
        f"{run.experiment.learning_rate:g} | **{run.status}** |"
        for run in runs
        if run.status != "complete"
    ]


def verdict(verdicts: list[Verdict]) -> Markdown:
    """The verdicts with criterion, measured value and interval."""
    return Markdown(table(verdicts))


def descent(study: SwitchStudy) -> Markdown:
    """Projected descent of SGD's updates after the switch: mean per step, its share ρ, and its sign.

    For the update u = −η g_B the predicted decrease of a part is −(gᵀ Pu + ½ (Pu)ᵀH(Pu)), with g
    of the full data. Means over the recorded steps, ± twice their standard error.
    """
    lines = [
        "| seed | part | predicted decrease per step, 10⁻⁶ | ρ of the means | "
        "steps on which it lowers the loss | measured decrease per step, 10⁻⁶ |",
        "|-|-|-|-|-|-|",
    ]
    for trajectory in study.of("none"):
        seed = trajectory.experiment.seed
        rows = trajectory.table[trajectory.table["step"] >= study.switch_steps[seed]]
        steps = rows["step"].iloc[-1] - rows["step"].iloc[0]
        measured = (rows["train_loss"].iloc[0] - rows["train_loss"].iloc[-1]) / steps
        bulk = rows["descent"] - rows["descent_dominant"]
        for part, values in (("dominant", rows["descent_dominant"]), ("bulk", bulk)):
            lines.append(
                f"| {seed} | {part} | {1e6 * values.mean():.1f} ± {2e6 * values.sem():.1f} | "
                f"{values.mean() / rows['descent'].mean():.2f} | {(values > 0).mean():.0%} | "
                f"{1e6 * measured:.1f} |"
            )
    return Markdown("\n".join(lines))


def cost(study: SwitchStudy) -> Markdown:
    """What following the subspace cost, per method, as means over seeds."""
    lines = [
        "| method | measured steps | refreshes | steps per refresh | Hessian products | "
        "gradients per step | minutes |",
        "|-|-|-|-|-|-|-|",
    ]
    for projection in ("none", "dominant", "bulk"):
        runs = study.of(projection)
        ends = pd.DataFrame([t.table.iloc[-1] for t in runs]).reset_index()
        starts = pd.DataFrame([t.table.iloc[0] for t in runs]).reset_index()
        steps = (ends["step"] - starts["step"]).mean()
        refreshes = ends["refreshes"].mean()
        equivalents = ends["gradient_equivalents"].mean() / steps
        lines.append(
            f"| {study.name(projection)} | {steps:.0f} | {refreshes:.0f} | {steps / refreshes:.0f} | "
            f"{ends['products'].mean():.0f} | {equivalents:.2f} | {ends['seconds'].mean() / 60:.1f} |"
        )
    return Markdown("\n".join(lines))


def drift(runs: Mapping[str, Trajectory]) -> Markdown:
    """Loss and sharpness at the switch and at the end, with the largest angles in between."""
    lines = [
        "| basis | loss at the switch | lowest mean over 2% of the rows | mean over the last 2% of the "
        "steps | λ₁ at the switch | at the end | largest turn | largest certified angle |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for kind, trajectory in runs.items():
        rows, last = trajectory.table, trajectory.table.iloc[-1]
        window = max(1, round(claims.TAIL * len(rows)))
        lowest = rows["train_loss"].rolling(window).mean().min()
        lines.append(
            f"| {kind} | {rows['train_loss'].iloc[0]:.4f} | {lowest:.4f} | "
            f"{claims.tail_loss(trajectory):.4f} | {rows['eigenvalue_01'].iloc[0]:.1f} | "
            f"{last['eigenvalue_01']:.1f} | {rows['turn'].max():.3f} | "
            f"{rows['angle_bound'].max():.3f} |"
        )
    return Markdown("\n".join(lines))


def loss_changes(study: AlignmentStudy) -> Markdown:
    """Terms of the expansion and the measured change by anchor: means in 10⁻⁶ ± twice their error."""
    frame = 1e6 * figures.loss_change_table(study)
    columns = {
        "first_dominant": "first order, dominant", "second_dominant": "second order, dominant",
        "measured_dominant": "measured, dominant", "first_bulk": "first order, bulk",
        "second_bulk": "second order, bulk", "measured_bulk": "measured, bulk",
        "measured_whole": "measured, whole",
    }  # fmt: skip
    lines = [
        "| from step | " + " | ".join(columns.values()) + " |",
        "|-" * (1 + len(columns)) + "|",
    ]
    for anchor, row in frame.iterrows():
        cells = [f"{row[c]:,.1f} ± {2 * row['error_' + c]:,.1f}" for c in columns]
        lines.append(f"| {anchor:,} | " + " | ".join(cells) + " |")
    return Markdown("\n".join([*lines, "", "Loss change a step, in 10⁻⁶."]))


def class_gaps(study: AlignmentStudy) -> Markdown:
    """Where the spectrum breaks after training on fewer classes."""
    lines = [
        "| classes C | ratio of the C-th eigenvalue to the next | the largest such ratio | after which |",
        "|-|-|-|-|",
    ]
    for count in study.classes:
        values = study.spectrum(count)
        ratios = [first / second for first, second in itertools.pairwise(values)]
        largest = max(ratios)
        lines.append(
            f"| {count} | {ratios[count - 1]:.2f} | {largest:.2f} | {ratios.index(largest) + 1} |"
        )
    return Markdown("\n".join(lines))


def noise_shares(study: BatchStudy) -> Markdown:
    """Share of the gradient noise's variance in S_k at the branch point, by seed, and what was expected."""
    k, rows = study.parameters.k, []
    for seed in study.parameters.seeds:
        scatter, values = study.point(seed, "noise"), study.point(seed, "eigenvalue")
        trace = study.point(seed, "trace").loc[0]
        measured = scatter.loc[1:k].sum() / scatter.loc[0]
        rows.append(
            f"| {seed} | {measured:.3f} | {values.loc[1:k].sum() / trace:.3f} | {scatter.loc[0]:.3g} |"
        )
    head = (
        "| seed | share of SGD's noise in S_k | Σλᵢ/tr H | variance of a single sample's gradient |"
    )
    return Markdown("\n".join([head, "|-|-|-|-|", *rows]))


def batch_sizes(study: BatchStudy) -> Markdown:
    """Alignment by batch size, means over seeds: predicted, after the branch, at the end."""
    frame = figures.alignment_by_size(study).groupby("batch").mean().drop(columns="seed")
    lines = [
        "| batch size | " + " | ".join(frame.columns) + " |",
        "|-" * (1 + frame.shape[1]) + "|",
    ]
    lines += [f"| {size:,} | " + " | ".join(f"{v:.3f}" for v in row) + " |" for size, row in
              zip(frame.index, frame.to_numpy(), strict=True)]  # fmt: skip
    return Markdown("\n".join(lines))


def settling(study: SwitchStudy) -> Markdown:
    """Dom-X at the switch, up to 250 steps after it and at the end; its progress counted from either."""
    p, dom = study.parameters, study.name("dominant")
    after = min(250, (p.steps - max(study.switch_steps.values())) // 4)
    lines = [
        f"| seed | L at the switch | L({dom}) {after} steps later | at the end | progress({dom}) | "
        f"the same, counted from {after} steps after the switch |",
        "|-|-|-|-|-|-|",
    ]
    for seed, plain, run in zip(p.seeds, study.of("none"), study.of("dominant"), strict=True):
        losses = run.table.set_index("step")["train_loss"]
        begun, end = losses.iloc[0], claims.tail_loss(run)
        settled = losses[losses.index >= study.switch_steps[seed] + after].iloc[0]
        later = (settled - end) / (settled - claims.tail_loss(plain))
        lines.append(
            f"| {seed} | {begun:.4f} | {settled:.4f} | {end:.4f} | "
            f"{claims.progress(plain, run):.3f} | {later:.3f} |"
        )
    return Markdown("\n".join(lines))


def valley(run: Trajectory) -> Markdown:
    """Distances and losses at a few moments of a valley run, with the dominant share of the distances."""
    rows = run.table
    picks = rows.iloc[sorted({0, len(rows) // 8, len(rows) // 4, len(rows) // 2, len(rows) - 1})]
    lines = [
        "| step | L(GD) | L(mean of GD) | L(Bulk-GD) | ‖GD − Bulk‖ | dominant share | ‖mean − Bulk‖ | "
        "dominant share | Bulk-GD's way |",
        "|-|-|-|-|-|-|-|-|-|",
    ]
    for _, r in picks.iterrows():
        lines.append(
            f"| {r['step']:.0f} | {r['loss']:.4f} | {r['loss_average']:.4f} | {r['loss_bulk']:.4f} | "
            f"{r['distance']:.3f} | {_percent(r['dominant_share'])} | {r['distance_average']:.3f} | "
            f"{_percent(r['dominant_share_average'])} | {r['travelled']:.3f} |"
        )
    return Markdown("\n".join(lines))


def rates(runs: Mapping[float, Trajectory]) -> Markdown:
    """Sharpness, alignment and loss of GD at the end, by learning rate."""
    lines = ["| η | 2/η | λ₁ at the end | λ₁η/2 | alignment | loss | outcome |", "|-|-|-|-|-|-|-|"]
    for rate, run in runs.items():
        sharpness, aligned = claims.tail(run, "eigenvalue_01"), claims.tail(run, "alignment")
        found = f"{sharpness:.1f} | {rate * sharpness / 2:.2f} | {aligned:.3f}"
        found += f" | {claims.tail_loss(run):.4f}"
        if run.status != "complete":
            found = " | | | "
        lines.append(f"| {rate:g} | {2 / rate:.3g} | {found} | {run.status} |")
    return Markdown("\n".join([*lines, "", "Means over the last 2% of the steps."]))


def valley_times(study: ToyStudy) -> Markdown:
    """By ηκ: the variance against its closed form, and when alignment appears and vanishes; all seeds."""
    e, seeds = study.first("valley"), study.parameters.seeds
    lines = [
        f"| ηκ | A | simulated / closed Var x | SGD from the floor reaches {APPEARS}: closed form | "
        f"simulated | GD from there falls to {VANISHES}: closed form | simulated |",
        "|-|-|-|-|-|-|-|",
    ]
    found = {
        name: pd.concat([study.values("valley", seed, "ηκ", name) for seed in seeds], axis=1)
        for name in ("appears", "vanishes")
    }
    ratios = pd.concat([study.ratios("valley", s, "ηκ", "expected") for s in seeds], axis=1)
    for sharp, ratio in ratios.iterrows():
        eta = sharp / e.condition
        chi = e.toy.stationary_alignment(eta, 1.0)
        appears = e.toy.steps_to_appear(eta, 1.0, APPEARS)
        vanishes = e.toy.steps_to_vanish(eta, 1.0, VANISHES)
        lines.append(
            f"| {sharp:g} | {chi**2 / (1 - chi**2):,.1f} | {_range(ratio, '.3f')} | "
            f"{_steps([appears])} | {_steps(found['appears'].loc[sharp])} | "
            f"{_steps([vanishes])} | {_steps(found['vanishes'].loc[sharp])} |"
        )
    return Markdown("\n".join([*lines, "", "Times in steps; ranges are over the seeds."]))


def _steps(values: Iterable[float]) -> str:
    """A range of whole numbers; "never" for those that are not finite."""
    steps = [v if math.isfinite(v) else math.inf for v in values]
    return _range(steps, ".0f").replace("inf", "never")


def _range(values: Iterable[float], digits: str) -> str:
    """The smallest and the largest as text, once where they read the same."""
    low, high = (f"{bound:{digits}}" for bound in (min(values), max(values)))
    return low if low == high else f"{low} … {high}"


def effective_rates(study: MomentumStudy) -> Markdown:
    """Effective learning rates over η by rule: first seed, mean over the judged windows."""
    since = study.parameters.switch_step
    names = ("slope", "mean", "displacement")
    head = [f"{part}, {name}" for name in names for part in ("Dom", "Bulk")]
    lines = [
        "| rule | η | " + " | ".join(head) + " | Bulk-LR/Dom-LR, slope | over SGD's |",
        "|-" * (len(head) + 4) + "|",
    ]
    plain = amplification(study.windows("SGD")[0], "slope", since)
    for label in study.parameters.labels():
        run = study.windows(label)[0]
        eta, rates = run.experiment.learning_rate, part_rates(run).loc[since:].mean()
        cells = [
            f"{rates[name, part] / eta:.3g}" for name in names for part in ("dominant", "bulk")
        ]
        ratio = amplification(run, "slope", since)
        lines.append(
            f"| {label} | {eta:g} | "
            + " | ".join(cells)
            + f" | {ratio:.2f} | {ratio / plain:.2f} |"
        )
    return Markdown("\n".join([*lines, "", "Rates in units of η."]))


def predictions(study: MomentumStudy) -> Markdown:
    """How far predicted rates are from measured ones: medians over the leading eigendirections."""
    k, since = study.parameters.k, study.parameters.switch_step
    windows = sum(anchor >= since for anchor in study.parameters.anchors)
    lines = [
        f"| rule | windows | λ₁ over the rule's edge | predicted, all | the first {k} | the others | "
        "quadratic, same noise |",
        "|-|-|-|-|-|-|-|",
    ]
    for label in study.parameters.labels():
        runs = study.windows(label)
        found = directions(runs, since)
        error = (found["predicted"] / found["measured"] - 1).abs()
        driven = (found["driven"] / found["measured"] - 1).abs().median()
        sharp = found["eigenvalue"].iloc[0] / linear_rule(runs[0].experiment).edge
        lines.append(
            f"| {label} | {len(runs) * windows} | {sharp:.2f} | "
            f"{error.median():.0%} | {error.iloc[:k].median():.0%} | {error.iloc[k:].median():.0%} | "
            f"{driven:.0%} |"
        )
    return Markdown("\n".join(lines))


def ingredients(study: MomentumStudy) -> Markdown:
    """Bulk-LR/Dom-LR along Adam's own path: of Adam, and of each of its ingredients alone."""
    lines = [
        "| seed | window from step | Adam | preconditioner alone | mean of gradients alone |",
        "|-|-|-|-|-|",
    ]
    for run in study.windows("Adam"):
        for anchor, rates in part_rates(run).iterrows():
            cells = [
                f"{rates[name, 'bulk'] / rates[name, 'dominant']:.2f}"
                for name in ("slope", "preconditioner alone", "mean of gradients alone")
            ]
            lines.append(f"| {run.experiment.seed} | {anchor:,} | " + " | ".join(cells) + " |")
    return Markdown("\n".join(lines))


def projections(study: MomentumStudy) -> Markdown:
    """Losses with the update projected and with the gradient, first seed, where the shorter runs end."""
    p, seed = study.parameters, study.parameters.seeds[0]
    lines = ["| rule | L of the rule | projected | L of Dom- | L of Bulk- |", "|-|-|-|-|-|"]
    for optimizer in JUDGED:
        label = p.label(optimizer)
        plain = _loss_at(study.runs[label, "none", seed], p.alternative_end)
        ways = {p.project: label} | {way: f"{label}, {way}" for way in p.alternatives}
        for what, name in ways.items():
            cells = [
                _loss_at(study.runs[name, projection, seed], p.alternative_end)
                for projection in ("dominant", "bulk")
            ]
            lines.append(f"| {label} | {plain} | {what} | " + " | ".join(cells) + " |")
    says = f"Training losses at step {p.alternative_end:,}; the switch is at {p.switch_step:,}."
    return Markdown("\n".join([*lines, "", says]))


def bulk_adam(study: MomentumStudy) -> Markdown:
    """How the Bulk-Adam runs end: step, loss, and how well the subspace was known until they diverged."""
    p = study.parameters
    runs = {(f"{p.project} projected", s): study.runs["Adam", "bulk", s] for s in p.seeds}
    runs |= {(name, p.seeds[0]): run for name, run in study.bulk_adam().items()}
    lines = [
        "| Bulk-Adam | seed | ends | at step | training loss there | Adam's | median certified angle |",
        "|-|-|-|-|-|-|-|",
    ]
    for (name, seed), run in runs.items():
        end = run.table.iloc[-1]
        whole = _loss_at(study.runs["Adam", "none", seed], int(end["step"]))
        lines.append(
            f"| {name} | {seed} | {run.status.split()[0]} | {int(end['step']):,} | {end['train_loss']:.4f} "
            f"| {whole} | {run.table['angle_bound'].median():.2f} |"
        )
    return Markdown("\n".join(lines))


def _loss_at(run: Trajectory, step: int) -> str:
    """The loss at the last recorded step up to the given one, or how the run ended before."""
    last = run.table[run.table["step"] <= step].iloc[-1]
    found = f"{last['train_loss']:.4f}"
    return found if last["step"] == step else f"{found} ({run.status})"


def provenance(trajectories: Iterable[Trajectory]) -> Markdown:
    """Which run made which curve: key in the store, commit, versions, machine, time, date."""
    lines = ["| run | commit | torch | machine | minutes | date |", "|-|-|-|-|-|-|"]
    for trajectory in trajectories:
        p = trajectory.provenance
        machine = f"{p['machine']['processor']}, {p['machine']['threads']} threads"
        lines.append(
            f"| `{trajectory.experiment.key}` | `{p['commit'][:10]}{p['commit'][40:]}` | "
            f"{p['versions']['torch']} | {machine} | {p['wall_seconds'] / 60:.1f} | {p['date'][:10]} |"
        )
    return Markdown("\n".join(lines))


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.0%}"


def _show(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
