"""What each run of the explorer has come to at its end, and what that can be drawn against."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from subspace_lib.book.packing import short
from subspace_lib.book.shown import ShownRun
from subspace_lib.chapters.follow_ups.judge import gain
from subspace_lib.chapters.follow_ups.study import SGD
from subspace_lib.chapters.kit.rows import in_step
from subspace_lib.chapters.threshold.spaces import NAMES, hessian_of, kept
from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.experiment import MOST_CLASSES
from subspace_lib.trajectory import Trajectory, gradients_per_step, progress, tail, until

# What two runs have in common whose losses are compared; how long they are may differ.
SAME = (
    *("dataset", "preprocessing", "model", "loss", "classes", "optimizer", "learning_rate"),
    *("batch_size", "seed", "beta", "rho", "before", "noise", "numerics"),
)
DIGITS = 4  # of a number at the end

Number = Callable[[ShownRun], float]


@dataclass(frozen=True)
class End:
    """A number that a run has at its end, whether its axis begins as logarithmic, its criteria's bounds."""

    name: str
    of: Number
    log: bool = False
    bounds: tuple[tuple[str, Criterion], ...] = ()


@dataclass(frozen=True)
class Axis:
    """A parameter to draw ends against, and how the parts of a run's parameters begin that say it.

    A measured one is no parameter of its own: it is the parts that runs differ in. ``up`` names the one
    that stands on the other axis of a map.
    """

    name: str
    sign: str
    of: Number
    parts: tuple[str, ...]
    log: bool = False
    measured: bool = False
    up: str = ""


@dataclass(frozen=True)
class Beside:
    """By key of a run: X, up to the run's own end, and SGD whose update is weighted as it is."""

    plain: Mapping[str, Trajectory]
    unweighted: Mapping[str, Trajectory]


def same(run: ShownRun, *more: str) -> str:
    """Equal for runs that differ in how they are projected, in k and in length, and in nothing else."""
    return json.dumps([run.description.get(name) for name in (*SAME, *more)])


def kind(run: ShownRun) -> str:
    """What kind of run it is."""
    return str(run.description["kind"])


def is_plain(run: ShownRun) -> bool:
    """Whether it is a training run that nothing is projected in."""
    return kind(run) == "training" and run.description["projection"] == "none"


def beside(shown: Iterable[ShownRun], among: Sequence[ShownRun]) -> Beside:
    """For each run that is projected or weighted those of the others that it is compared with.

    X does not depend on k; of several the one with the run's own k comes first, as in the chapters, then
    the one of the run's own length, then the one that was measured most often.
    """
    plain: dict[str, list[ShownRun]] = defaultdict(list)
    for run in filter(is_plain, among):
        plain[same(run)].append(run)
    ones = {same(run): run.run for run in among if kind(run) == "weighted" and _weights(run) == SGD}
    found: dict[str, Trajectory] = {}
    unweighted: dict[str, Trajectory] = {}
    for run in shown:
        d = run.description
        longer = [p for p in plain[same(run)] if p.description["steps"] >= d["steps"]]
        if longer and not is_plain(run):
            nearest = min(longer, key=lambda p: _distance(p, d))
            found[run.key] = until(in_step(nearest.run), d["steps"])
        if kind(run) == "weighted" and same(run) in ones:
            unweighted[run.key] = ones[same(run)]
    return Beside(found, unweighted)


def _distance(plain: ShownRun, d: Mapping[str, Any]) -> tuple[bool, bool, int]:
    own = plain.description
    return own["k"] != d["k"], own["steps"] != d["steps"], -len(plain.run.table)


def _weights(run: ShownRun) -> tuple[float, float]:
    return run.description["dominant"], run.description["bulk"]


def ends(beside: Beside) -> dict[str, End]:
    """All numbers that can be drawn against a parameter: means over the last 2% of the steps."""

    def late(column: str) -> Number:
        def of(run: ShownRun) -> float:
            there = run.run.complete and column in run.run.table
            return tail(in_step(run.run), column) if there else math.nan

        return of

    def made(run: ShownRun) -> float:
        projected = run.description["projection"] != "none"
        plain = beside.plain.get(run.key) if projected else None
        return math.nan if plain is None else progress(plain, run.run)

    def gained(run: ShownRun) -> float:
        own = beside.unweighted.get(run.key)
        return math.nan if own is None else gain(run.run) / gain(own)

    def at_the_edge(run: ShownRun) -> float:
        d = run.description
        plain = d["optimizer"] == "sgd" and d["projection"] == "none" and kind(run) == "training"
        return late("eigenvalue_01")(run) * d["learning_rate"] / 2 if plain else math.nan

    # What most runs have stands first: what is lacking at the end of a list is left out.
    return {
        "progress": End(
            "Progress over that of the rule itself",
            made,
            bounds=(("Dom-X, C2", criteria.DOM_PROGRESS), ("Bulk-X, C3", criteria.BULK_PROGRESS)),
        ),
        "train_loss": End("Training loss", late("train_loss"), log=True),
        "alignment": End(
            "Alignment of the full-batch gradient",
            late("alignment"),
            bounds=(("C1", criteria.ALIGNED),),
        ),
        "cost": End(
            "Gradient equivalents per step", lambda run: gradients_per_step(run.run), log=True
        ),
        "test_accuracy": End("Test accuracy", late("test_accuracy")),
        "sharpness": End("Sharpness λ₁", late("eigenvalue_01"), log=True),
        "edge": End("λ₁ η/2, of SGD and GD", at_the_edge, bounds=(("C6", criteria.EDGE),)),
        "gain": End("Gain over SGD's, of weighted updates", gained),
        "angle": End("True angle to Sₖ, of other spaces", true_angle, log=True),
        "exact_alignment": End("Alignment with Sₖ, of other spaces", late("exact_alignment")),
    }


def true_angle(run: ShownRun) -> float:
    """√(1 − mean overlap), the root mean squared sine of the angles to S_k; as chapter 08 takes it."""
    table = run.run.table
    if "overlap" not in table:
        return math.nan
    return math.sqrt(max(0.0, 1 - float(table["overlap"].iloc[1:].mean())))


def axes(shown: Iterable[ShownRun]) -> dict[str, Axis]:
    """The parameters that ends are drawn against."""

    def field(name: str, only: str = "") -> Number:
        def of(run: ShownRun) -> float:
            value = run.description.get(name) if only in ("", kind(run)) else None
            return math.nan if value is None else float(value)

        return of

    def of_sam(run: ShownRun) -> float:
        return field("rho")(run) if run.description["optimizer"] == "sam" else math.nan

    spaces = {space(run) for run in shown if kind(run) == "substitute"}
    return {
        "k": Axis("k", "k", field("k"), ("k ",), log=True),
        "learning_rate": Axis("learning rate η", "η", field("learning_rate"), ("η ",), log=True),
        "batch_size": Axis("batch size", "batch", field("batch_size"), ("batch ",), log=True),
        "dominant": Axis(
            "α, weight of the dominant part", "α", field("dominant", "weighted"), ("α ",)
        ),
        "bulk": Axis(
            "β, weight of the bulk part", "β", field("bulk", "weighted"), ("β ",), log=True
        ),
        "angle": Axis(
            "true angle to Sₖ", "angle", true_angle, tuple(sorted(spaces)), log=True, measured=True
        ),
        "map": Axis(
            "α and β, as a map",
            "β",
            field("bulk", "weighted"),
            ("α ", "β "),
            log=True,
            up="dominant",
        ),
        "rho": Axis("ρ of SAM", "ρ", of_sam, ("ρ ",), log=True),
    }


def space(run: ShownRun) -> str:
    """The space that a run has in the place of S_k, by the name that chapter 08 gives it."""
    d = run.description
    if d["space"] == "hessian" and d["matrix_samples"] is None:
        return kept(d["refresh_every"])
    name = hessian_of(d["matrix_samples"]) if d["space"] == "hessian" else NAMES[d["space"]]
    return name if d["space"] == "random" else f"{name}, every {d['refresh_every']:,} steps"


def parameters(run: ShownRun) -> str:
    """``run.parameters`` in parts that runs of one study share, whenever each of them was switched."""
    d, told = run.description, run.parameters.split(" · ")
    if kind(run) == "substitute":
        dull = ("space ", "refresh every ", "matrix samples ", "drawn ")
        told = [part for part in told if not part.startswith(dull)]
        told.insert(-1, space(run))
    if kind(run) != "training":
        told[-1] = f"{d['steps'] - d['switch_step']:,} steps after the switch"
    if d["classes"] != MOST_CLASSES:
        told.insert(-1, f"{d['classes']} classes")
    return " · ".join(told).replace(", β ", " · β ")


def method(run: ShownRun) -> str:
    """The rule and what is projected; which space is projected on is a parameter."""
    if kind(run) != "substitute":
        return run.method
    return run.method.removesuffix(f"-{run.description['space'].replace('_', '-')}")


def cut(shown: Sequence[ShownRun]) -> list[ShownRun]:
    """Runs as far as others go that differ from them in k alone: a study of k has them that way."""
    by_length: dict[tuple[str, int], set[int]] = defaultdict(set)
    training = [run for run in shown if kind(run) == "training"]
    for run in training:
        by_length[same(run, "projection"), run.description["steps"]].add(run.description["k"])
    found = []
    for run in training:
        d = run.description
        for (shared, steps), ks in by_length.items():
            shorter = d["switch_step"] < steps < d["steps"]
            if shorter and shared == same(run, "projection") and d["k"] not in ks:
                fields = {**d, "steps": steps}
                found.append(replace(run, run=until(run.run, steps), description=fields))
    return found


def numbers(run: ShownRun, of: Iterable[End | Axis]) -> list[float | None]:
    """What is known of a run, in this order; None where nothing is, and nothing after what is known."""
    values = [each.of(run) for each in of]
    told = [short(value, DIGITS) if math.isfinite(value) else None for value in values]
    while told and told[-1] is None:
        told.pop()
    return told


def spectra(shown: Iterable[ShownRun]) -> list[dict[str, Any]]:
    """The leading eigenvalues over the first, at the switch of a study of k; of every stored seed."""
    found = []
    for run in shown:
        # Two steps long: taken for the spectrum alone.
        if kind(run) != "amplification" or run.description["window"] != 2:
            continue
        table = run.run.table
        values = table[table["quantity"] == "eigenvalue"].sort_values("index")["value"]
        if values.notna().all():
            shares = [short(float(value / values.iloc[0]), DIGITS) for value in values]
            told = {"key": run.key, "setting": run.setting, "seed": run.description["seed"]}
            found.append(told | {"values": shares})
    return found
