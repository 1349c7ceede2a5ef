"""What every chapter needs around its study: checked parameters, and tables of where numbers are from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import pandas as pd
from IPython.display import Markdown

from subspace_lib import claims
from subspace_lib.claims import Verdict, table
from subspace_lib.experiment import Description
from subspace_lib.studies.switch import SwitchStudy
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
    rows = [f"| {name} | {_show(value)} |" for name, value in p.model_dump().items()]
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
    for (method, seed), trajectory in study.trajectories.items():
        if trajectory.status != "complete":
            rows.append(f"| {method}, seed {seed} | **{trajectory.status}** |")
    return Markdown("\n".join(["| parameter | in force |", "|-|-|", *rows]))


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
    for trajectory in study.of("SGD"):
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
    for method in ("SGD", "Dom-SGD", "Bulk-SGD"):
        ends = pd.DataFrame([t.table.iloc[-1] for t in study.of(method)]).reset_index()
        starts = pd.DataFrame([t.table.iloc[0] for t in study.of(method)]).reset_index()
        steps = (ends["step"] - starts["step"]).mean()
        refreshes = ends["refreshes"].mean()
        equivalents = ends["gradient_equivalents"].mean() / steps
        lines.append(
            f"| {method} | {steps:.0f} | {refreshes:.0f} | {steps / refreshes:.0f} | "
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


def _show(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
