"""What ``notebooks/12_cost`` shows of the benchmark: tables and figures, from the stored measurements."""

from __future__ import annotations

import contextlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from pydantic import Field

from subspace_lib.benchmark.aims import aims, cheapest
from subspace_lib.benchmark.growth import REFRESHES
from subspace_lib.benchmark.measure import run_case
from subspace_lib.benchmark.problem import ANGLE, CASES, Case
from subspace_lib.experiment import DatasetName, Description, InvalidParameter, ModelName
from subspace_lib.figures.style import COLOURS, INK, LINES, Picture, band, panels, styled
from subspace_lib.store import MissingRun, Store, default_root
from subspace_lib.studies import BOOK
from subspace_lib.studies.switch import SwitchStudy, switch_study

QUICK = {"dataset": "digits", "after": 50, "points": 2}
MARKERS = {
    "subspace_lib": ("o", "#D55E00"), "PRIMME": ("s", "#0072B2"), "scipy eigsh": ("^", "#009E73"),
    "scipy lobpcg": ("v", "#009E73"), "torch.lobpcg": ("D", "#CC79A7"),
    "curvlinops + eigsh": ("<", "#E69F00"), "hessian-eigenthings": (">", "#56B4E9"),
    "skerch": ("P", "#999999"), "PyHessian": ("X", "#8A6D3B"),
}  # fmt: skip


class CostParameters(Description):
    """Which problem the solvers are compared on: a point of an SGD run with MSE loss, batch size 50, k 10.

    The defaults, and the other cases of ``make benchmark``, are stored; anything else is measured on the
    spot, with the peers that are installed.
    """

    dataset: DatasetName = "mnist5k"
    model: ModelName = "mlp"
    learning_rate: float = Field(0.01, gt=0)
    after: int = Field(500, ge=0, description="SGD steps before the first point")
    points: int = Field(5, ge=1, le=50, description="consecutive points to solve at")
    device: Literal["cpu", "cuda"] = "cpu"
    profile: Literal["paper", "quick"] = "paper"

    def resolved(self) -> CostParameters:
        """The parameters in force, after the profile."""
        return self.in_profile(QUICK)

    def case(self) -> Case:
        """The problem to solve: one of the stored cases where the parameters are its own."""
        p = self.resolved()
        if p.device == "cuda" and not torch.cuda.is_available():
            raise InvalidParameter(
                "device = 'cuda' needs a CUDA GPU, and PyTorch sees none; use 'cpu'."
            )
        setting = (p.dataset, p.model, p.learning_rate, p.after)
        yours = Case("yours", *setting, p.points, device=p.device)
        standard = p.points == CostParameters.model_fields["points"].default
        for case in CASES.values():
            same = replace(yours, name=case.name, points=case.points) == case
            if same and standard:
                return case
        return yours


def stored() -> dict[str, Any]:
    """The measurements of ``make benchmark``: of the results folder in use, else of the repository.

    Raises:
        MissingRun: there are none.
    """
    for folder in _folders():
        if (folder / "benchmark.json").exists():
            return json.loads((folder / "benchmark.json").read_text())
    raise MissingRun("results/benchmark.json is missing; run `make benchmark`.")


def book_runs() -> SwitchStudy:
    """The runs of chapter 02: of the results folder in use, else of the repository.

    Raises:
        MissingRun: one is missing from both.
    """
    *others, repository = _folders()
    for folder in others:
        with contextlib.suppress(MissingRun):
            return switch_study(BOOK["02_dom_vs_bulk"], Store(folder), compute=False)
    return switch_study(BOOK["02_dom_vs_bulk"], Store(repository), compute=False)


def _folders() -> list[Path]:
    return [default_root(), Path(__file__).resolve().parents[2] / "results"]


def comparison(parameters: CostParameters) -> dict[str, Any]:
    """All solvers on the problem that the parameters name: from the stored cases, or measured now."""
    case = parameters.case()
    cases = stored().get("cases", {})
    if case.name in cases:
        return cases[case.name]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the stored cases
    try:
        return run_case(case)
    finally:
        torch.set_num_threads(threads)


def table(case: dict[str, Any]) -> Markdown:
    """Every solver on one case; medians, with the range over the points where there are several."""
    lines = [
        f"{case['model']} on {case['dataset']}, {case['parameters']:,} parameters, after "
        f"{case['after']:,} steps at η = {case['learning_rate']:g}; one gradient takes "
        f"{case['gradient_seconds']:.3f} s; λ₁ = {case['eigenvalues'][0]:.1f}, λ₁₀/λ₁₁ = "
        f"{case['eigenvalues'][9] / case['eigenvalues'][10]:.2f}.",
        "",
        "| solver | setting | target | products | seconds | gradients | residual/λ₁ | true sine |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for row in case["rows"]:
        head = f"| {row['peer']} | {'warm' if row['warm'] else 'cold'}, {row['setting']} |"
        if "failed" in row:
            lines.append(f"{head} {row['failed']} | | | | | |")
            continue
        cells = ["reached" if row["reached"] else "**missed**"]
        cells += [_spread(row, "products", "{:.0f}"), _spread(row, "seconds", "{:.2f}")]
        cells += [f"{row['gradients']:.1f}", f"{row['residual_range'][1]:.1e}"]
        cells += [f"{row['angle_range'][1]:.4f}"]
        lines.append(f"{head} {' | '.join(cells)} |")
    return Markdown("\n".join(lines))


def _spread(row: dict[str, Any], name: str, form: str) -> str:
    low, high = (form.format(value) for value in row[f"{name}_range"])
    middle = form.format(row[name])
    return middle if low == high else f"{middle} ({low}–{high})"


def ratios(found: dict[str, Any]) -> Markdown:
    """The cheapest setting of each peer that reached the target, over our tracker's, by case."""
    columns = {}
    for name, case in found["cases"].items():
        mine = cheapest(case, "subspace_lib", warm=True)
        columns[name] = ["**missed the target**"] + [""] * (len(MARKERS) - 1)
        if mine is not None:
            own = f"{mine['setting']}: {mine['products']:.0f} products, {mine['gradients']:.1f} gradients"
            columns[name] = [own, *(_over(mine, case, peer) for peer in list(MARKERS)[1:])]
    names = ["**our tracker**", *list(MARKERS)[1:]]
    lines = ["| solver | " + " | ".join(columns) + " |", "|-" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(cells) + " |"
        for name, *cells in zip(names, *columns.values(), strict=True)
    ]
    return Markdown("\n".join(lines))


def _over(mine: dict[str, Any], case: dict[str, Any], peer: str) -> str:
    """Products and seconds of a peer's cheapest setting that reached the target, over ours."""
    if all(row["peer"] != peer for row in case["rows"]):
        return "not tried"
    best, plain = cheapest(case, peer), cheapest(case, peer, plain=True)
    if best is None:
        return "none reached it"
    products, took = best["products"] / mine["products"], best["seconds"] / mine["seconds"]
    text = f"{products:.1f} × products, {took:.1f} × seconds"
    return text + (f" (plain: {plain['seconds'] / mine['seconds']:.1f} ×)" if plain else "")


def verdict(found: dict[str, Any]) -> Markdown:
    """The aims that were set before, and whether they are met."""
    lines = ["| aim | measured | |", "|-|-|-|"]
    lines += [
        f"| {aim.wanted} | {aim.measured} | {'met' if aim.met else '**missed**'} |"
        for aim in aims(found)
    ]
    return Markdown("\n".join(lines))


def ways(found: dict[str, Any]) -> Markdown:
    """Every way to take a Hessian product, in gradients per product."""
    lines = [
        "| network | matrix products | way | samples a chunk | one gradient | gradients per product |",
        "|-|-|-|-|-|-|",
    ]
    for row in found["products"]["measured"]:
        head = f"| {row['model']} | {row['matmul']} | {row['way']} |"
        if "failed" in row:
            lines.append(f"{head} {row['failed']} | | |")
            continue
        ratio = row["product_seconds"] / row["gradient_seconds"]
        lines.append(f"{head} {row['chunk']:,} | {row['gradient_seconds']:.3f} s | {ratio:.2f} |")
    return Markdown("\n".join(lines))


def along_runs(found: dict[str, Any]) -> Markdown:
    """Cost per training step with adaptive refreshing, and the true error at random steps."""
    lines = [
        "| run | η | steps | refreshes | gradient equivalents per step, counted | measured | "
        "largest true sine | median | largest alignment error |",
        "|-|-|-|-|-|-|-|-|-|",
    ]
    for row in found["adaptive"]["measured"]:
        lines.append(
            f"| {row['method']} | {row['learning_rate']:g} | {row['steps']:,} | {row['refreshes']} | "
            f"{row['counted_per_step']:.2f} | {row['measured_per_step']:.2f} | "
            f"{row['largest_angle']:.3f} | {row['median_angle']:.3f} | "
            f"{row['largest_alignment_error']:.4f} |"
        )
    return Markdown("\n".join(lines))


def memory(found: dict[str, Any]) -> Markdown:
    """Peak memory of the tracker, in vectors of length D."""
    m = found["memory"]["measured"]
    limit = 3 * (m["k"] + m["guards"])
    cells = ", ".join(f"{name}: {m[name]:.0f}" for name in REFRESHES)
    return Markdown(
        f"Peak memory of a refresh beside the network's graph, in vectors of length D, everything that "
        f"the tracker holds included (aim: 3 (k + guards) = {limit}): {cells}. The last is a refresh whose "
        "second pass does not certify the subspace either, so that the solver goes on."
    )


def floor(*widths: int) -> float:
    """Multiplications of one Hessian product over those of one gradient, for an MLP of these widths.

    With F_l = width_{l−1} · width_l, F = Σ F_l and F′ = F − F_1 a gradient takes 2F + F′ (forward, weight
    gradients, and input gradients of all layers but the first). A product adds tangents to each: forward
    F + F′, weight gradients F + F′, input gradients 2F′. That is (2F + 4F′)/(2F + F′), if what the
    gradient has computed is kept.
    """
    first, *rest = (a * b for a, b in itertools.pairwise(widths))
    whole = first + sum(rest)
    return (2 * whole + 4 * sum(rest)) / (2 * whole + sum(rest))


@styled
def accuracy(case: dict[str, Any]) -> Picture:
    """Cost against accuracy: every solver of a case, the target's angle as a dotted line."""
    figure, (axes,) = panels(1, height=4.6)
    for row in case["rows"]:
        if "failed" in row:
            continue
        marker, colour = MARKERS[row["peer"]]
        axes.plot(
            row["gradients"], max(row["angle_range"][1], 1e-5), marker=marker, ls="", ms=7,
            color=colour if row["warm"] else "none", mec=colour, mew=1.4,
            alpha=1 if row["reached"] else 0.45,
        )  # fmt: skip
    shown = dict.fromkeys(row["peer"] for row in case["rows"] if "failed" not in row)
    for peer in shown:
        marker, colour = MARKERS[peer]
        axes.plot([], [], marker=marker, ls="", color=colour, label=peer)
    axes.axhline(ANGLE, color=INK, lw=0.8, ls=":")
    axes.set(xscale="log", yscale="log", xlabel="seconds, over those of one full-data gradient")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("true sine of the largest angle")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return Picture(figure, f"Cost against true angle, {case['model']} on {case['dataset']}")


@styled
def over_training(study: SwitchStudy) -> Picture:
    """Gradient equivalents per step over a run, minibatches and everything recorded included."""
    figure, (axes,) = panels(1, height=3.5)
    for projection, colour in COLOURS.items():
        curves = []
        for trajectory in study.of(projection):
            rows = trajectory.table.set_index("step")["gradient_equivalents"]
            cost = rows.diff() / rows.index.to_series().diff()
            curves.append(cost.rolling(10, min_periods=1).mean())
        band(axes, curves, colour, LINES[projection], study.name(projection))
    axes.set(yscale="log", xlabel="step", ylabel="gradient equivalents per step")
    axes.legend()
    return Picture(figure, "Cost per training step over the runs of chapter 02")


@styled
def growth(found: dict[str, Any]) -> Picture:
    """Cost of one refresh against k, samples, width and chunk size, each varied alone."""
    rows = found["growth"]["measured"]
    figure = Figure(figsize=(5.6, 6), layout="constrained")
    for axes, name in zip(
        figure.subplots(2, 2).flat, ("k", "samples", "width", "chunk"), strict=True
    ):
        mine = [row for row in rows if row["varied"] == name]
        x = [row[name] for row in mine]
        axes.plot(x, [r["refresh_seconds"] for r in mine], "o-", color="#D55E00", label="refresh")
        axes.plot(
            x, [r["gradient_seconds"] for r in mine], "s--", color="#0072B2", label="gradient"
        )
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="seconds")
        axes.set_xticks(x, [str(value) for value in x], fontsize=9)
        axes.minorticks_off()
    axes.legend()
    return Picture(
        figure, "Seconds of a refresh and of a gradient against k, samples, width, chunk"
    )


def per_product(found: dict[str, Any]) -> Markdown:
    """What one product costs, alone and with everything that a refresh adds."""
    mlp = next(r for r in found["growth"]["measured"] if r["varied"] == "k" and r["k"] == 10)
    unit = mlp["gradient_seconds"]
    alone = mlp["product_seconds"] / unit
    amortized = mlp["refresh_seconds"] / mlp["products"] / unit
    return Markdown(
        f"By count of multiplications a product of this MLP takes {floor(784, 200, 200, 10):.2f} "
        f"gradients. Measured, the graph shared out over a block of {mlp['products']:.0f}: {alone:.2f}; "
        f"with the linear algebra and the certificate of a refresh: {amortized:.2f}."
    )


def where_from(found: dict[str, Any]) -> Markdown:
    """Machine, versions and commit of each part of the benchmark."""
    parts = {
        **found.get("cases", {}),
        **{n: found[n] for n in ("products", "adaptive", "growth", "memory") if n in found},
    }
    lines = ["| part | machine | threads | versions | commit | date |", "|-|-|-|-|-|-|"]
    for name, part in parts.items():
        m = part["machine"]
        versions = ", ".join(f"{n} {v}" for n, v in m["packages"].items() if v)
        lines.append(
            f"| {name} | {m['cpu']} | {m['threads']} | Python {m['python']}, {versions} | "
            f"{m['commit'][:10]}{'+changes' if m['commit'].endswith('+changes') else ''} | {m['date']} |"
        )
    return Markdown("\n".join(lines))
