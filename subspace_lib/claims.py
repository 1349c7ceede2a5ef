"""Verdicts on the paper's claims, from stored trajectories, by criteria fixed before the runs.

This is the only module with thresholds. ``python -m subspace_lib.claims`` prints a table, with
``--json`` a list of objects; it reads the results store and computes no run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from subspace_lib.amplification import amplification
from subspace_lib.experiment import Description
from subspace_lib.store import Corrupted, MissingRun, Store
from subspace_lib.studies import BOOK
from subspace_lib.studies.alignment import AlignmentStudy, alignment_study
from subspace_lib.studies.batches import BatchStudy, batch_study
from subspace_lib.studies.edge import EdgeStudy, edge_study
from subspace_lib.studies.momentum import JUDGED, MomentumStudy, momentum_study
from subspace_lib.studies.sam import SamStudy, sam_study
from subspace_lib.studies.switch import SwitchStudy, switch_study
from subspace_lib.studies.toy import PROBLEMS, ToyStudy, toy_study
from subspace_lib.training import SPECTRUM, Trajectory

MINIMUM_SEEDS = 3
CONFIDENCE = 0.95
TAIL = 0.02  # share of the steps, at the end, over which losses are averaged
DOM_AT_MOST = 0.1
BULK_AT_LEAST = 0.9
ALIGNED_AT_LEAST = 0.8  # late alignment under SGD (C1, C4)
GAP_AT_LEAST = 2.0  # λ_k/λ_{k+1} (C1)
UNALIGNED_AT_MOST = 0.1  # alignment after a change from SGD to GD (C4) ...
UNALIGNED_WITHIN = 100  # ... within as many steps
AGREES_WITHIN = 0.05  # relative error of a simulated variance against its closed form (C5)
AMPLIFIED_AT_LEAST = 1.3  # Bulk-LR/Dom-LR over that of SGD (C8)
EDGE = (0.9, 1.15)  # λ₁ η/2 at the edge of stability (C6)
EDGE_ALIGNED_AT_LEAST = 0.9
EDGE_WINDOW = 100  # steps before the switch over which both are averaged


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: its name in this book, what it says, and what must be seen."""

    id: str
    says: str
    criterion: str
    chapter: str | None = None


CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "C1",
            "Gradients align with the dominant subspace of k outlier eigenvalues",
            "late alignment of the full-batch gradient ≥ 0.8, and late λₖ/λₖ₊₁ ≥ 2",
            "01_dominant_subspace",
        ),
        Claim(
            "C2",
            "Dom-SGD stops decreasing the training loss",
            f"progress(Dom-SGD) ≤ {DOM_AT_MOST}",
            "02_dom_vs_bulk",
        ),
        Claim(
            "C3",
            "Bulk-SGD is as effective as SGD",
            f"progress(Bulk-SGD) ≥ {BULK_AT_LEAST}",
            "02_dom_vs_bulk",
        ),
        Claim(
            "C4",
            "Minibatch noise causes the alignment while λ₁ < 2/η",
            "alignment: SGD ≥ 0.8, GD ≤ 0.1 within 100 steps, back ≥ 0.8; falling with batch size",
            "03_full_batch_gd",
        ),
        Claim(
            "C5",
            "A quadratic valley with noise shows the same",
            f"valley and regression: stationary variances within {AGREES_WITHIN:.0%} of their closed form; "
            "C2, C3, C4 hold",
            "04_valley",
        ),
        Claim(
            "C6",
            "At the edge of stability, self-stabilization causes the alignment",
            "λ₁ η/2 within 0.9 … 1.15 before the switch; alignment ≥ 0.9; C2, C3 for GD; "
            "sharpness of Bulk-GD rises past 2/η, beyond that band",
            "05_edge_of_stability",
        ),
        Claim(
            "C7",
            "The same holds for SAM, below its edge of stability and at it",
            "C2, C3 for SAM with minibatches and with the full batch",
            "06_sam",
        ),
        Claim(
            "C8",
            "Momentum and Adam amplify the bulk part of the update",
            f"Bulk-LR/Dom-LR ≥ {AMPLIFIED_AT_LEAST} × that of SGD, by slope and by mean; C2, C3 for both",
            "07_momentum_adam",
        ),
    )
}


@dataclass(frozen=True)
class Part:
    """One quantity that a claim is judged by, with one value per seed.

    Attributes:
        verdict: "reproduced": the whole interval is on the criterion's side; "not reproduced": none
            of it is; "inconclusive": otherwise, or fewer than three seeds, or an undefined value.
        measured: mean over seeds; interval: its 95% Student-t interval over seeds.
    """

    says: str
    verdict: str
    criterion: str
    measured: float | None
    interval: tuple[float, float] | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """A claim judged.

    Attributes:
        verdict: the worst of its parts', in the order "not reproduced", "inconclusive", "reproduced";
            "missing" where there are no results.
        measured, interval: those of the part that decides, the first with that verdict.
        parts: every quantity that the claim is judged by.
        results: keys of the runs in the store.
    """

    claim: str
    verdict: str
    criterion: str
    measured: float | None = None
    interval: tuple[float, float] | None = None
    seeds: tuple[int, ...] = ()
    steps: int | None = None
    dataset: str | None = None
    model: str | None = None
    results: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


def progress(plain: Trajectory, branch: Trajectory) -> float:
    """(L_s − L_Y)/(L_s − L_X): 0 where the branch Y stays at the switch, 1 where it does as X.

    L_s is the full training loss at the switch, L_Y and L_X the means of the branch's and the plain
    run's over the last 2% of the steps. NaN where a run diverged or X itself has not progressed.
    """
    if "complete" not in plain.status or "complete" not in branch.status:
        return math.nan
    at_switch = float(branch.table["train_loss"].iloc[0])
    plain_progress = at_switch - tail_loss(plain)
    return (at_switch - tail_loss(branch)) / plain_progress if plain_progress > 0 else math.nan


def tail(trajectory: Trajectory, column: str) -> float:
    """Mean of a column over the rows of the last 2% of the steps that have it."""
    table, steps = trajectory.table, trajectory.experiment.steps
    return float(table.loc[table["step"] >= (1 - TAIL) * steps, column].mean())


def tail_loss(trajectory: Trajectory) -> float:
    """Mean training loss over the rows of the last 2% of the steps."""
    return tail(trajectory, "train_loss")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95% Student-t interval of the mean over seeds; (NaN, NaN) for fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    mean, error = np.mean(values), stats.sem(values)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error)
    return float(mean) - half, float(mean) + half


def judge(
    values: Sequence[float], *, at_most: float = math.inf, at_least: float = -math.inf
) -> str:
    """The verdict on one number per seed that should lie within the given bounds."""
    if len(values) < MINIMUM_SEEDS or not np.isfinite(values).all():
        return "inconclusive"
    low, high = interval(values)
    if at_least <= low and high <= at_most:
        return "reproduced"
    return "not reproduced" if high < at_least or low > at_most else "inconclusive"


def part(
    says: str,
    values: Sequence[float],
    *,
    at_most: float = math.inf,
    at_least: float = -math.inf,
) -> Part:
    """Judge one number per seed that should lie within the given bounds."""
    known = len(values) > 0 and bool(np.isfinite(values).all())
    if math.isinf(at_most):
        criterion = f"≥ {at_least:g}"
    else:
        criterion = f"≤ {at_most:g}" if math.isinf(at_least) else f"{at_least:g} … {at_most:g}"
    return Part(
        says,
        judge(values, at_most=at_most, at_least=at_least),
        criterion,
        float(np.mean(values)) if known else None,
        interval(values) if known and len(values) > 1 else None,
        tuple(float(v) for v in values),
    )


def claim(name: str, parts: Sequence[Part], parameters: Description, runs: Iterable) -> Verdict:
    """The verdict on a claim from its parts: that of the worst."""
    order = ("not reproduced", "inconclusive", "reproduced")
    deciding = min(parts, key=lambda p: order.index(p.verdict))
    p, keys = parameters, tuple(run.experiment.key for run in runs)
    dataset, model = (
        getattr(p, name, None) for name in ("dataset", "model")
    )  # a quadratic has none
    return Verdict(
        name, deciding.verdict, CLAIMS[name].criterion, deciding.measured, deciding.interval,
        p.seeds, p.steps, dataset, model, keys, tuple(parts),
    )  # fmt: skip


def progress_part(study: SwitchStudy, projection: str, where: str = "") -> Part:
    """C2's or C3's criterion on a study: progress of Dom-X or of Bulk-X."""
    pairs = zip(study.of("none"), study.of(projection), strict=True)
    bounds = {"dominant": {"at_most": DOM_AT_MOST}, "bulk": {"at_least": BULK_AT_LEAST}}
    says = f"progress({study.name(projection)}){where}"
    return part(says, [progress(*pair) for pair in pairs], **bounds[projection])


def judge_switch(study: SwitchStudy) -> list[Verdict]:
    """C2 and C3 on the runs of a switch study."""
    verdicts = []
    for name, projection in (("C2", "dominant"), ("C3", "bulk")):
        pairs = zip(study.of("none"), study.of(projection), strict=True)
        runs = [run for pair in pairs for run in pair]
        verdicts.append(claim(name, [progress_part(study, projection)], study.parameters, runs))
    return verdicts


def judge_alignment(study: AlignmentStudy) -> list[Verdict]:
    """C1: late alignment of the full-batch gradient, and the late ratio of eigenvalues at the cut."""
    runs, k = list(study.plain.values()), study.parameters.k
    gaps = []
    for run in runs:
        spectra = run.table[run.table[f"eigenvalue_{min(SPECTRUM, k + 4):02d}"].notna()]
        last = spectra.iloc[-1]  # k + 4 > k + guards: rows that have the whole spectrum
        gaps.append(last[f"eigenvalue_{k:02d}"] / last[f"eigenvalue_{k + 1:02d}"])
    parts = [
        part("alignment of the gradient", [tail(run, "alignment") for run in runs],
             at_least=ALIGNED_AT_LEAST),
        part("λₖ/λₖ₊₁ at the last full spectrum", gaps, at_least=GAP_AT_LEAST),
    ]  # fmt: skip
    return [claim("C1", parts, study.parameters, runs)]


def alignment_parts(
    sgd: Sequence[Trajectory],
    gd: Sequence[Trajectory],
    back: Sequence[Trajectory],
    switch_step: int,
    sizes: Sequence[Sequence[float]],
    where: str = "",
) -> list[Part]:
    """C4's criterion: SGD, GD and SGD again, and by seed the late alignment in order of batch size."""
    fallen = []
    for run in gd:
        within = run.table["step"] - switch_step
        rows = run.table[(within > 0) & (within <= UNALIGNED_WITHIN)]
        fallen.append(rows["alignment"].min())
    return [
        part(f"alignment under SGD{where}", [tail(run, "alignment") for run in sgd],
             at_least=ALIGNED_AT_LEAST),
        part(f"under GD, lowest within {UNALIGNED_WITHIN} steps{where}", fallen,
             at_most=UNALIGNED_AT_MOST),
        part(f"under SGD again{where}", [tail(run, "alignment") for run in back],
             at_least=ALIGNED_AT_LEAST),
        part(f"smallest fall from a batch size to the next{where}",
             [-np.diff(by_size).max() for by_size in sizes], at_least=0.0),
    ]  # fmt: skip


def judge_batches(study: BatchStudy) -> list[Verdict]:
    """C4: the alignment of the full-batch gradient under SGD, GD, SGD again, and other batch sizes."""
    p = study.parameters
    sizes = [
        [tail(study.sizes[size, seed], "alignment") for size in study.batch_sizes()]
        for seed in p.seeds
    ]
    runs = (study.of("SGD"), study.of("GD"), study.of("back"))
    parts = alignment_parts(*runs, p.switch_step, sizes)
    return [claim("C4", parts, p, [*study.runs.values(), *study.sizes.values()])]


def judge_edge(study: EdgeStudy) -> list[Verdict]:
    """C6: the edge and the alignment before the switch, C2 and C3 for GD, sharpness of Bulk-GD."""
    s, sharpness, aligned = study.switch, [], []
    factor = s.parameters.learning_rate / 2
    for seed, run in zip(s.parameters.seeds, s.of("none"), strict=True):
        before = s.switch_steps[seed] - run.table["step"]
        rows = run.table[(before >= 0) & (before <= EDGE_WINDOW)]
        sharpness.append(factor * rows["eigenvalue_01"].mean())
        aligned.append(rows["alignment"].mean())
    risen = [factor * tail(run, "eigenvalue_01") for run in s.of("bulk")]
    parts = [
        part("λ₁η/2 of GD before the switch", sharpness, at_least=EDGE[0], at_most=EDGE[1]),
        part("alignment of GD before the switch", aligned, at_least=EDGE_ALIGNED_AT_LEAST),
        progress_part(s, "dominant"),
        progress_part(s, "bulk"),
        part("λ₁η/2 of Bulk-GD at the end", risen, at_least=EDGE[1]),
    ]
    return [claim("C6", parts, s.parameters, s.trajectories.values())]


def judge_sam(study: SamStudy) -> list[Verdict]:
    """C7: C2 and C3 for SAM, with minibatches and with the full batch."""
    parts, runs = [], []
    for where, s in ((", minibatch", study.minibatch), (", full batch", study.edge)):
        parts += [progress_part(s, projection, where) for projection in ("dominant", "bulk")]
        runs += s.trajectories.values()
    return [claim("C7", parts, study.minibatch.parameters, runs)]


def judge_toy(study: ToyStudy) -> list[Verdict]:
    """C5: stationary variances against closed forms, then C2, C3 and C4, in both problems."""
    p, parts = study.parameters, []
    for says, of in (
        ("largest relative error of Var x, valley", "valley"),
        ("largest relative error along a dominant eigenvector, regression", "dominant"),
        ("relative error of the bulk's mean, regression", "bulk"),
    ):
        errors = [study.error(seed, of) for seed in p.seeds]
        parts.append(part(says, errors, at_most=AGREES_WITHIN))
    for problem in PROBLEMS:
        where = f", {problem}"
        sgd, gd, back = (study.of(problem, case) for case in ("SGD", "GD", "back"))
        for name, bounds in (
            ("Dom-SGD", {"at_most": DOM_AT_MOST}),
            ("Bulk-SGD", {"at_least": BULK_AT_LEAST}),
        ):
            pairs = zip(sgd, study.of(problem, name), strict=True)
            parts.append(part(f"progress({name}){where}", [progress(*x) for x in pairs], **bounds))
        cases = [study.of(problem, case) for case in study.by_batch_size(problem).values()]
        sizes = [[tail(run, "alignment") for run in runs] for runs in zip(*cases, strict=True)]
        switch = study.first(problem).switch_step
        parts += alignment_parts(sgd, gd, back, switch, sizes, where)
    return [claim("C5", parts, p, study.runs.values())]


def judge_momentum(study: MomentumStudy) -> list[Verdict]:
    """C8: amplification by both definitions of the effective rates, C2 and C3; heavy ball and Adam."""
    p, parts = study.parameters, []
    for optimizer in JUDGED:
        label = p.label(optimizer)
        for definition in ("slope", "mean"):
            found = [
                amplification(study.runs[label, "window", seed], definition, p.switch_step)
                / amplification(study.runs["SGD", "window", seed], definition, p.switch_step)
                for seed in p.seeds
            ]
            says = f"Bulk-LR/Dom-LR of {label} over SGD's, {definition}"
            parts.append(part(says, found, at_least=AMPLIFIED_AT_LEAST))
        switch = study.switch(optimizer)
        parts += [progress_part(switch, projection) for projection in ("dominant", "bulk")]
    return [claim("C8", parts, p, study.runs.values())]


JUDGES = {
    "01_dominant_subspace": (alignment_study, judge_alignment),
    "02_dom_vs_bulk": (switch_study, judge_switch),
    "03_full_batch_gd": (batch_study, judge_batches),
    "04_valley": (toy_study, judge_toy),
    "05_edge_of_stability": (edge_study, judge_edge),
    "06_sam": (sam_study, judge_sam),
    "07_momentum_adam": (momentum_study, judge_momentum),
}


def verdicts(store: Store | None = None) -> list[Verdict]:
    """All claims, judged from what the store holds."""
    judged = {}
    for chapter, (study, judge_study) in JUDGES.items():
        try:
            found = judge_study(study(BOOK[chapter], store or Store(), compute=False))
            judged.update({v.claim: v for v in found})
        except MissingRun:
            pass
        except Corrupted as error:
            print(f"{error} Run `make results` to compute it anew.", file=sys.stderr)
    return [judged.get(c.id, Verdict(c.id, "missing", c.criterion)) for c in CLAIMS.values()]


def table(rows: Sequence[Verdict]) -> str:
    """The verdicts as a Markdown table, a line for each quantity that a claim is judged by."""
    lines = [
        "| claim | verdict | judged by | measured | 95% interval | criterion |",
        "|-|-|-|-|-|-|",
    ]
    for v in rows:
        says = f"**{v.claim}** {CLAIMS[v.claim].says}"
        if not v.parts:
            lines.append(f"| {says} | {v.verdict} | | | | {v.criterion} |")
        for i, p in enumerate(v.parts):
            measured = "undefined" if p.measured is None else f"{p.measured:z.3f}"
            span = "" if p.interval is None else f"{p.interval[0]:z.3f} … {p.interval[1]:z.3f}"
            own = "" if len(v.parts) == 1 else f" ({p.verdict})"
            first = f"{says} | **{v.verdict}**" if i == 0 else " | "
            lines.append(f"| {first} | {p.says}{own} | {measured} | {span} | {p.criterion} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.claims", description="Judge the claims from the results store."
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--store", help="folder of results, default the repository's")
    options = parser.parse_args(arguments)
    rows = verdicts(Store(options.store))
    if options.json:
        print(json.dumps([dataclasses.asdict(v) for v in rows], indent=1, ensure_ascii=False))
    else:
        print(table(rows))


if __name__ == "__main__":
    main()
