"""Tables of chapter 12."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from IPython.display import Markdown

from subspace_lib.benchmark.aims import MISSING, Aim, aims, cheapest
from subspace_lib.benchmark.footprint import RUNS as FOLLOWED
from subspace_lib.benchmark.growth import REFRESHES
from subspace_lib.benchmark.problem import K
from subspace_lib.chapters.cost.figures import MARKERS, shares, way
from subspace_lib.chapters.cost.study import prices
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.names import title, trained
from subspace_lib.chapters.kit.table import Row, markdown, table

MARKED = tuple(MARKERS)  # every solver, ours first
SOLVERS = (
    "solver",
    "setting",
    "target",
    "products",
    "seconds",
    "gradients",
    "residual/λ₁",
    "true sine",
)
# Multiplications of each layer for a sample: of the paper's MLP, and of its CNN on images of 32 by 32.
MLP_LAYERS = (784 * 200, 200 * 200, 200 * 10)
CNN_LAYERS = (32 * 32 * 9 * 3 * 32, 16 * 16 * 9 * 32 * 32, 8 * 8 * 32 * 10)
LIMITS = "A budget limits gradients, not seconds."
NO_BREAK = "\N{NON-BREAKING HYPHEN}"  # a column of names is not torn at it


def answer(found: dict[str, Any]) -> Markdown:
    """What Dom-SGD and Bulk-SGD cost over plain SGD, in a paragraph for each network."""
    return Markdown("\n\n".join(_answer(part) for part in prices(found).values()))


def _answer(part: dict[str, Any]) -> str:
    limited = [row for row in part["rows"] if row["budget"] is not None]
    free = [row for row in part["rows"] if row["budget"] is None]
    allowed = ""
    if not free:  # every way has one
        allowed, free, limited = f"with a budget of {limited[0]['budget']:g} ", limited, []
    bare = {row["projection"]: row["ratio"] for row in free if not row["rows"]}
    checks = [check for row in free for check in row["checks"]]
    beyond = says.counted([check["angle"] > check["known"] for check in checks], "step")
    told = [
        f"**{trained(part['model'], part['dataset'])}: {allowed}Dom-SGD takes {bare['dominant']:.1f} times "
        f"the seconds of plain SGD, Bulk-SGD {bare['bulk']:.1f} times, and SGD whose subspace is only "
        f"followed {bare['none']:.1f} times.**",
        f"That is over {part['steps']:,} steps after step {part['start']:,}. At {len(checks)} "
        f"random steps of theirs the basis in use was within a sine of {_worst(checks, 'angle'):.3f} of "
        f"the exact one. It was farther off than the tracker had estimated at {beyond}. The alignment was "
        f"within {_worst(checks, 'alignment_error'):.4f} of that with the exact one. A cold start of "
        f"{part['cold_start']['gradient_equivalents']:.0f} gradients comes on top, once.",
    ]
    if allowed:
        told.append(LIMITS)
    if limited:
        times = says.listed(f"{row['ratio']:.1f}" for row in limited)
        given = says.listed(f"{row['budget']:g}" for row in limited)
        told.append(
            f"With a budget of {given}, {limited[0]['method']} takes {times} times the seconds. {LIMITS}"
        )
    return " ".join(told)


def _worst(checks: list[dict[str, float]], name: str) -> float:
    return max((check[name] for check in checks), default=math.nan)


def price(found: dict[str, Any]) -> Markdown:
    """A table a network: each way to train, its seconds over plain SGD's, how true its basis was."""
    tables = []
    for part in prices(found).values():
        k = part.get("k", K)  # older prices do not say
        head = f"*{trained(part['model'], part['dataset'])}, k = {k}.* {_plain(part)}"
        tables.append(f"{head}\n\n{markdown(map(_price, part['rows']))}")
    return Markdown("\n\n".join(tables))


def _price(row: dict[str, Any]) -> Row:
    checks = row["checks"]
    line = {
        "run": way(row).replace("-", NO_BREAK),
        "× plain SGD": f"{row['ratio']:.1f}",
        **{name: f"{share:.1f}" for name, share in shares(row).items()},
        "refreshes + looks": f"{row['refreshes']} + {row['looks']}",
        "gradients a step": f"{row['gradient_equivalents']:.3f}",
    }
    if not checks:
        return line
    return line | {
        "largest true sine": f"{_worst(checks, 'angle'):.3f}",
        "largest as known": f"{_worst(checks, 'known'):.3f}",
        "largest alignment error": f"{_worst(checks, 'alignment_error'):.4f}",
    }


def _plain(part: dict[str, Any]) -> str:
    """How long a step of plain SGD takes, and how well that repeats."""
    low, high = sorted(part["plain_seconds"])
    each, apart = 500 * (low + high) / part["steps"], high / low - 1
    return f"A plain step takes {each:.2f} ms; its two runs differ by {apart:.0%}."


def solvers(case: dict[str, Any]) -> Markdown:
    """Every solver on one case; medians, with the range over the points where there are several."""
    rows = [_solver(row) for row in case["rows"]]
    head = (
        f"{trained(case['model'], case['dataset'])} ({title(case['preprocessing'])}), "
        f"{case['parameters']:,} parameters, after {case['after']:,} steps at η = "
        f"{case['learning_rate']:g}; one gradient takes {case['gradient_seconds']:.3f} s; λ₁ = "
        f"{case['eigenvalues'][0]:.1f}, λ₁₀/λ₁₁ = {case['eigenvalues'][9] / case['eigenvalues'][10]:.2f}. "
        "Corrected on n samples: a refresh takes a second power step on so many. Watcher every 4th: the "
        "vector that looks for what rises from outside takes part at every fourth refresh only."
    )
    return Markdown(f"{head}\n\n{markdown(rows, SOLVERS)}")


def _solver(row: dict[str, Any]) -> Row:
    setting = f"{'warm' if row['warm'] else 'cold'}, {row['setting']}"
    found = {"solver": row["peer"], "setting": setting}
    if "failed" in row:
        return found | {"target": row["failed"]}
    return found | {
        "target": "reached" if row["reached"] else "**missed**",
        "products": _spread(row, "products", "{:.0f}"),
        "seconds": _spread(row, "seconds", "{:.2f}"),
        "gradients": f"{row['gradients']:.1f}",
        "residual/λ₁": f"{row['residual_range'][1]:.1e}",
        "true sine": f"{row['angle_range'][1]:.4f}",
    }


def _spread(row: dict[str, Any], name: str, form: str) -> str:
    low, high = (form.format(value) for value in row[f"{name}_range"])
    middle = form.format(row[name])
    return middle if low == high else f"{middle} ({low}–{high})"


def ratios(found: dict[str, Any]) -> Markdown:
    """The cheapest setting of each peer that reached the target, over our tracker's, by case."""
    rows: dict[str, dict[str, str]] = {"subspace_lib": {"solver": "**our tracker**"}} | {
        peer: {"solver": peer} for peer in MARKED[1:]
    }
    for name, case in found["cases"].items():
        mine = cheapest(case, "subspace_lib", warm=True)
        if mine is None:
            rows["subspace_lib"][name] = "**missed the target**"
            continue
        rows["subspace_lib"][name] = (
            f"{mine['setting']}: {mine['products']:.0f} products, {mine['gradients']:.1f} gradients"
        )
        for peer in MARKED[1:]:
            rows[peer][name] = _over(mine, case, peer)
    return table(rows.values(), ("solver", *found["cases"]))


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
    return table(
        {"aim": aim.wanted, "measured": aim.measured, "": _judged(aim)} for aim in aims(found)
    )


def _judged(aim: Aim) -> str:
    """Met, missed, or open where it has not been measured."""
    if aim.measured == MISSING:
        return "open"
    return "met" if aim.met else "**missed**"


def ways(found: dict[str, Any]) -> Markdown:
    """Every way to take a Hessian product, in gradients per product."""
    rows = []
    for row in found["products"]["measured"]:
        line = {"network": title(row["model"]), "matrix products": row["matmul"], "way": row["way"]}
        if "failed" in row:
            rows.append(line | {"samples a chunk": row["failed"]})
            continue
        ratio = row["product_seconds"] / row["gradient_seconds"]
        rows.append(
            line
            | {
                "samples a chunk": f"{row['chunk']:,}",
                "one gradient": f"{row['gradient_seconds']:.3f} s",
                "gradients per product": f"{ratio:.2f}",
            }
        )
    return table(rows)


def along_runs(found: dict[str, Any]) -> Markdown:
    """Cost per training step with adaptive refreshing, and the true error at random steps."""
    return table(
        {
            "run": row["method"],
            "η": f"{row['learning_rate']:g}",
            "steps": f"{row['steps']:,}",
            "refreshes": row["refreshes"],
            "gradient equivalents per step, counted": f"{row['counted_per_step']:.2f}",
            "measured": f"{row['measured_per_step']:.2f}",
            "largest true sine": f"{row['largest_angle']:.3f}",
            "median": f"{row['median_angle']:.3f}",
            "largest alignment error": f"{row['largest_alignment_error']:.4f}",
        }
        for row in found["adaptive"]["measured"]
    )


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


def footprint(found: dict[str, Any]) -> Markdown:
    """Peak memory of whole runs, quarter by quarter, and what of it are graphs that are kept."""
    runs = {n: r for n, r in found.get("footprint", {}).items() if "failed" not in r}
    rows, lacking = list(runs.values()), [n for n in FOLLOWED if n not in runs]
    parts = " ".join(f"footprint-{name}" for name in lacking)
    missing = [f"Not measured: `python -m subspace_lib.benchmark --part {parts}`."] if parts else []
    if not rows:
        return Markdown(*missing)
    lines = [
        {
            "run": trained(row["model"], row["dataset"]),
            "samples": f"{row['samples']:,}",
            "D": f"{row['parameters']:,}",
            "before the first step": _gib(row["before"]),
            "peak of each quarter of the steps": ", ".join(map(_gib, row["peaks"])),
            "of that, kept graphs": _gib(row["graphs"]),
            "reckoned before": _gib(row["reckoned"]),
        }
        for row in rows
    ]
    return says.answer(*_flat(rows), *missing, table=table(lines))


def _flat(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Whether memory grows with steps, and with samples."""
    # The first and the third quarter begin with a spectrum, where there are any.
    growth = max(row["peaks"][i + 2] / row["peaks"][i] for row in rows for i in (0, 1))
    told = [
        f"In GiB, of {rows[0]['steps']:,} steps of Bulk-SGD with refreshes and rows, as the operating "
        f"system counts. From the first to the third quarter of the steps, and from the second to the "
        f"fourth, the peak rises by at most {growth - 1:.0%}. The estimate that is made before a run is "
        f"too low by up to {_short(rows):.0%}."
    ]
    few, many = (next((r for r in rows if r["dataset"] == d), None) for d in ("mnist5k", "mnist"))
    if few and many:
        more = max(many["peaks"]) - max(few["peaks"])
        graphs = many["graphs"] - few["graphs"]
        told.append(
            f"With {many['samples'] / few['samples']:.0f} times the samples the peak is {_gib(more)} "
            f"higher, of which {_gib(graphs)} are kept graphs; they have a limit of 1 GiB."
        )
    return told


def _short(rows: Sequence[dict[str, Any]]) -> float:
    """By which share of the peak the estimate falls short, at most; 0 where it does not."""
    return max(0.0, *(1 - row["reckoned"] / max(row["peaks"]) for row in rows))


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f}"


def floor(*layers: int) -> float:
    """Multiplications of one Hessian product over those of one gradient, by those of each layer, F_l.

    With F = Σ F_l and F′ = F − F_1 a gradient takes 2F + F′ (forward, weight gradients, and input
    gradients of all layers but the first). A product adds tangents to each: forward F + F′, weight
    gradients F + F′, input gradients 2F′. That is (2F + 4F′)/(2F + F′), if what the gradient has computed
    is kept.
    """
    first, *rest = layers
    whole = first + sum(rest)
    return (2 * whole + 4 * sum(rest)) / (2 * whole + sum(rest))


def per_product(found: dict[str, Any]) -> Markdown:
    """What one product costs, alone and with everything that a refresh adds."""
    mlp = next(r for r in found["growth"]["measured"] if r["varied"] == "k" and r["k"] == 10)
    unit = mlp["gradient_seconds"]
    alone = mlp["product_seconds"] / unit
    amortized = mlp["refresh_seconds"] / mlp["products"] / unit
    return Markdown(
        "By count of multiplications a product of this MLP, taken alone, costs "
        f"{floor(*MLP_LAYERS):.2f} gradients, one of the CNN {floor(*CNN_LAYERS):.2f}: a cheaper one "
        f"would have to leave work out, or to share it. A block of {mlp['products']:.0f} of the MLP "
        f"shares: measured, one of its products costs {alone:.2f}, and a whole refresh, with its linear "
        f"algebra and certificate, {amortized:.2f} a product. The table below was measured apart."
    )


def where_from(found: dict[str, Any]) -> Markdown:
    """Machine, versions and commit of each part of the benchmark."""
    parts = {
        **{f"price, {name}": part for name, part in found.get("price", {}).items()},
        **found.get("cases", {}),
        **{
            n: found[n]
            for n in ("products", "adaptive", "growth", "memory", "scale", "parallel")
            if n in found
        },
        **{f"footprint, {name}": part for name, part in found.get("footprint", {}).items()},
    }
    rows = []
    for name, part in parts.items():
        m = part["machine"]
        versions = ", ".join(f"{n} {v}" for n, v in m["packages"].items() if v)
        changed = "+changes" if m["commit"].endswith("+changes") else ""
        rows.append(
            {
                "part": name,
                "machine": m["cpu"],
                "threads": m["threads"],
                "load": m.get("load", ""),
                "versions": f"Python {m['python']}, {versions}",
                "commit": f"{m['commit'][:10]}{changed}",
                "date": m["date"],
            }
        )
    return table(rows)
