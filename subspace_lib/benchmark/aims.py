"""What following the subspace may cost: aims set before the tracker was written, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from subspace_lib.benchmark.growth import REFRESHES
from subspace_lib.benchmark.price import BUDGETS
from subspace_lib.experiment import PREFIX

PLAIN = "plain product"
EVERY_STEP, EVERY_STEP_SMALL_GAP = 15.0, 22.0  # gradient equivalents a step, everything included
PRIMME_PRODUCTS, PRIMME_SECONDS = 1 / 2, 2 / 3  # of warm-started PRIMME's, at most
# Theirs over ours, at least.
PEERS_SECONDS = {"scipy eigsh": 3.0, "torch.lobpcg": 10.0, "PyHessian": 40.0}
ADAPTIVE, ADAPTIVE_ANGLE, ADAPTIVE_ALIGNMENT = 1.0, 0.05, 0.005
PRODUCT = {"mlp": 1.35, "cnn": 2.2}  # gradients
COLD = 40  # products
# Seconds over those of plain SGD after the switch: of the MLP with rows, of the CNN without.
PRICE = {
    "mlp": {"none": 6.0, "dominant": 6.0, "bulk": 4.0},
    "cnn": {"none": 5.0, "dominant": 5.0, "bulk": 5.0},
}
WITH_ROWS = {"mlp": True, "cnn": False}
BUDGET = 1.1  # times what was allowed
COLD_GRADIENTS = 60
BESIDE = 1.15  # seconds of a run beside another, over those of one alone
BLOCKS = 3  # times k + guards vectors of length D
# Names of what was measured, as the table has them; the older parts have the pixels of the first ledger.
SOLVERS, SMALL_GAP = "MLP, standardized pixels", "small gap"
PRICED = {"mlp": "MLP after the switch", "cnn": "CNN after the switch"}


MISSING = "not measured"


@dataclass(frozen=True)
class Aim:
    """One aim: what was wanted, what was measured, and whether that is so."""

    wanted: str
    measured: str
    met: bool


def cheapest(
    case: dict[str, Any], peer: str, *, warm: bool | None = None, plain: bool = False
) -> dict[str, Any] | None:
    """The setting of a peer that reached the target in the fewest seconds; None where none did."""
    rows = [
        row
        for row in case["rows"]
        if row["peer"] == peer
        and row.get("reached")
        and warm in (None, row["warm"])
        and row["setting"].endswith(PLAIN) == plain
    ]
    return min(rows, key=lambda row: row["seconds"], default=None)


def aims(found: dict[str, Any]) -> Iterator[Aim]:
    """All aims, held against the stored measurements (``chapters.cost``); what is not there is not met."""
    cases = found["cases"]
    for case, name, limit in (
        ("mnist", SOLVERS, EVERY_STEP),
        ("small gap", SMALL_GAP, EVERY_STEP_SMALL_GAP),
    ):
        ours = cheapest(cases[case], "subspace_lib", warm=True)
        wanted = f"{name}: the target at every step for ≤ {limit:g} gradients a step"
        yield _at_most(wanted, ours["gradients"] if ours else None, limit, ".1f")
    yield from _against_peers(cases["mnist"])
    yield from _adaptive(found["adaptive"]["measured"])
    for name in PRICE:
        yield from _price(name, found.get("price", {}).get(name))
    for model, limit in PRODUCT.items():
        rows = [r for r in found["products"]["measured"] if r["model"] == model]
        ratios = [r["product_seconds"] / r["gradient_seconds"] for r in rows if "failed" not in r]
        wanted = f"a product on the {model} for ≤ {limit:g} gradients"
        yield _at_most(wanted, min(ratios, default=None), limit, ".2f")
    beside = found.get("parallel", {}).get("measured")
    wanted = f"two runs at once on two cores: each in ≤ {BESIDE:g} × the time of one alone"
    yield _priced(wanted, [beside["ratio"]] if beside else [], BESIDE, ".2f")
    cold = cheapest(cases["mnist"], "subspace_lib", warm=False)
    wanted = f"{SOLVERS}: cold start in ≤ {COLD} products"
    yield _at_most(wanted, cold["products"] if cold else None, COLD, ".0f")
    sizes = found["memory"]["measured"]
    limit = BLOCKS * (sizes["k"] + sizes["guards"])
    for name in REFRESHES:
        yield _at_most(f"memory, {name}: ≤ {limit} vectors of length D", sizes[name], limit, ".1f")


def _at_most(
    wanted: str, measured: float | None, limit: float, form: str, missing: str = "target missed"
) -> Aim:
    if measured is None:
        return Aim(wanted, missing, False)
    return Aim(wanted, format(measured, form), measured <= limit)


def _against_peers(case: dict[str, Any]) -> Iterator[Aim]:
    ours = cheapest(case, "subspace_lib", warm=True)
    primme = cheapest(case, "PRIMME", warm=True)
    for name, limit in (("products", PRIMME_PRODUCTS), ("seconds", PRIMME_SECONDS)):
        share = ours[name] / primme[name] if ours and primme else None
        yield _at_most(
            f"{SOLVERS}: ≤ {limit:.2f} of warm-started PRIMME's {name}", share, limit, ".2f"
        )
    for peer, limit in PEERS_SECONDS.items():
        wanted = f"{SOLVERS}: {limit:g} × cheaper than {peer} in seconds"
        theirs, plain = cheapest(case, peer), cheapest(case, peer, plain=True)
        if not (ours and theirs):
            yield Aim(wanted, "target missed", False)
            continue
        ratio = theirs["seconds"] / ours["seconds"]
        measured = f"{ratio:.1f}"
        if plain:
            measured += f" ({plain['seconds'] / ours['seconds']:.1f} with a plain product)"
        yield Aim(wanted, measured, ratio >= limit)


def _adaptive(rows: list[dict[str, Any]]) -> Iterator[Aim]:
    along = [row for row in rows if not row["method"].startswith("GD")]
    for says, name, limit, form in (
        ("≤ {} gradient a step", "counted_per_step", ADAPTIVE, ".2f"),
        ("true sine ≤ {} at random steps", "largest_angle", ADAPTIVE_ANGLE, ".3f"),
        ("alignment within {}", "largest_alignment_error", ADAPTIVE_ALIGNMENT, ".4f"),
    ):
        wanted = f"{SOLVERS}, adaptive: " + says.format(f"{limit:g}")
        yield _at_most(wanted, max(row[name] for row in along), limit, form)
    edge = min(
        (row for row in rows if row["method"].startswith("GD")),
        key=lambda row: row["counted_per_step"],
    )
    yield Aim(
        f"at the edge of stability: true sine ≤ {ADAPTIVE_ANGLE:g}, at any price",
        f"{edge['largest_angle']:.3f} for {edge['counted_per_step']:.1f} gradients a step",
        edge["largest_angle"] <= ADAPTIVE_ANGLE,
    )


def _price(name: str, measured: dict[str, Any] | None) -> Iterator[Aim]:
    """Of one network; None where it has not been measured."""
    rows = measured["rows"] if measured else []
    free = [row for row in rows if row["budget"] is None]
    checks = [check for row in free for check in row["checks"]]
    having = "with rows" if WITH_ROWS[name] else "without rows"
    for projection, limit in PRICE[name].items():
        mine = [r for r in free if r["projection"] == projection and r["rows"] == WITH_ROWS[name]]
        wanted = f"{PRICED[name]}, {having}: {PREFIX[projection]}SGD for ≤ {limit:g} × plain SGD"
        yield _priced(wanted, [r["ratio"] for r in mine], limit, ".1f")
    angles, errors = ([check[n] for check in checks] for n in ("angle", "alignment_error"))
    yield _priced(f"{PRICED[name]}: true sine ≤ {ADAPTIVE_ANGLE:g}", angles, ADAPTIVE_ANGLE, ".3f")
    wanted = f"{PRICED[name]}: alignment within {ADAPTIVE_ALIGNMENT:g}"
    yield _priced(wanted, errors, ADAPTIVE_ALIGNMENT, ".4f")
    cold = [measured["cold_start"]["gradient_equivalents"]] if measured else []
    wanted = f"{PRICED[name]}: cold start in ≤ {COLD_GRADIENTS} gradients"
    yield _priced(wanted, cold, COLD_GRADIENTS, ".0f")
    for budget in BUDGETS if name == "mlp" else ():
        ratios, limit = [r["ratio"] for r in rows if r["budget"] == budget], BUDGET * budget
        wanted = f"{PRICED[name]}: with a budget of {budget:g} within {limit:.1f} × plain SGD"
        yield _priced(wanted, ratios, limit, ".2f")


def _priced(wanted: str, values: list[float], limit: float, form: str) -> Aim:
    return _at_most(wanted, max(values, default=None), limit, form, missing=MISSING)
