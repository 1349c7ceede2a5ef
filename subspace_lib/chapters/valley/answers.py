"""What the figures of chapter 04 show, in words that their numbers choose."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.valley import tables
from subspace_lib.chapters.valley.study import PROBLEMS, ValleyStudy
from subspace_lib.evidence import criteria
from subspace_lib.runs.simulation import case_of
from subspace_lib.trajectory import tail_loss


def losses(study: ValleyStudy) -> Markdown:
    """Losses at the switch and at the end in both problems, and what Bulk-SGD keeps."""
    told = []
    for problem in PROBLEMS:
        runs = {name: study.of(problem, name) for name in ("SGD", "Dom-SGD", "Bulk-SGD")}
        starts = [float(run.table["train_loss"].iloc[0]) for run in runs["Dom-SGD"]]
        ends = {name: [tail_loss(run) for run in found] for name, found in runs.items()}
        told.append(
            f"In the {problem} the loss is {says.mean_of(starts)} at the switch; at the end it is "
            f"{says.each(ends)}."
        )
        dom = says.mean(study.progresses(problem, "Dom-SGD"))
        sgd, bulk = says.mean(ends["SGD"]), says.mean(ends["Bulk-SGD"])
        if math.isfinite(dom):
            still = dom <= criteria.DOM_PROGRESS.at_most
            word = says.compared(bulk, sgd, "above", "below", "where")
            times = (
                f", {says.number(bulk / sgd, 2)} times as high"
                if sgd > 0 and word == "above"
                else ""
            )
            where = "where SGD does" if word == "where" else f"{word} SGD's loss{times}"
            told.append(
                f"Dom-SGD {says.whether(still, 'stands still', 'goes on learning')}; Bulk-SGD ends {where}."
            )
            if word == "above":
                share = says.mean_of(study.progresses(problem, "Bulk-SGD"), says.share)
                told.append(
                    "Bulk-SGD keeps what the noise had put into the dominant directions before the switch. "
                    f"Progress counts by how much a loss falls: Bulk-SGD makes {share} of SGD's."
                )
    return says.answer(*told, f"Means over seeds {_seeds(study)}.")


def _seeds(study: ValleyStudy) -> str:
    return says.listed(map(str, study.parameters.seeds))


def window(study: ValleyStudy) -> Markdown:
    """How far simulation and closed forms are apart, and where the chapter's setting lies."""
    e, off, aligned_off, mean_off = study.valley, [], [], dict[float, list[float]]()
    for sharp in e.sharpnesses:
        for seed in study.parameters.seeds:
            case = case_of(sharp)
            shares, progress, typical, aligned = (
                study.values("valley", seed, case, name)
                for name in ("share", "progress", "typical", "alignment")
            )
            for cross in shares.index:
                rate = e.valley.rate(float(shares[cross]))
                off.append(abs(float(progress[cross]) - e.valley.bulk_progress(rate)))
                aligned_off.append(abs(float(typical[cross]) - e.valley.typical_alignment(rate)))
                off_mean = abs(float(aligned[cross]) - e.valley.mean_alignment(rate))
                mean_off.setdefault(sharp, []).append(off_mean)
    low, high = e.valley.window(criteria.ALIGNED_BEFORE.at_least, criteria.BULK_PROGRESS.at_least)
    own = e.valley.share(e.learning_rate)
    inside = low <= own <= high
    worst, typical_worst = max(off), max(aligned_off)
    together = max(worst, typical_worst) <= says.LEVEL
    mean = [f"{says.number(max(found), 1)} at ηκ = {sharp:g}" for sharp, found in mean_off.items()]
    return says.answer(
        f"There are {len(off)} simulations, of all ηκ and c. Against a, "
        f"{says.whether(together, 'all of them lie', 'not all of them lie')} on the closed form's curves: "
        f"Bulk-SGD's progress differs from it by at most {says.number(worst, 1)}, the alignment of a "
        f"typical gradient by at most {says.number(typical_worst, 1)}. The mean of χ differs from the "
        f"dashed curve, which is for small ηκ, by up to {says.listed(mean)}.",
        f"Both criteria are met for a between {says.number(low, 2)} and {says.number(high, 2)}. This "
        f"chapter's setting, a = {says.number(own, 2)}, lies {says.whether(inside, 'inside', 'outside')}.",
        tables.limits(study),
    )


def there_and_back(study: ValleyStudy) -> Markdown:
    """The alignment under SGD, GD and SGD again, and how long each change takes."""
    told = []
    high, low = criteria.ALIGNED_BEFORE.at_least, criteria.UNALIGNED.at_most
    half = (high + low) / 2
    for problem in PROBLEMS:
        seen = [study.alignments(problem, seed) for seed in study.parameters.seeds]
        before, without, again = zip(*seen, strict=True)
        told.append(
            f"In the {problem} the alignment is {says.mean_of(before, says.share)} under SGD, "
            f"{says.mean_of(without, lambda v: says.number(v, 1))} at the end of GD and "
            f"{says.mean_of(again, says.share)} under SGD again."
        )
        down = _steps_to(study, problem, "GD", lambda v: v < half)
        up = _steps_to(study, problem, "back", lambda v: v > half)
        if math.isfinite(down) and math.isfinite(up):
            word = says.compared(up, down, "more slowly than", "faster than", "about as fast as")
            told.append(
                f"It passes {says.share(half)}, half way between the criteria's {high:g} and {low:g}, "
                f"after {down:,.0f} steps of GD and after {up:,.0f} of SGD again: it returns {word} it "
                "went."
            )
    return says.answer(*told)


def _steps_to(study: ValleyStudy, problem: str, case: str, there: Callable[[float], bool]) -> float:
    """Mean over seeds of the steps after which the alignment is there; NaN where it never is."""
    found = []
    for run in study.of(problem, case):
        rows = run.table.set_index("step")["alignment"].dropna()
        hits = rows[rows.map(there)]
        found.append(math.nan if hits.empty else float(hits.index[0] - rows.index[0]))
    return says.mean(found)


def regression_settled(study: ValleyStudy) -> Markdown:
    """Simulated over closed form along the dominant eigenvectors, with and without SGD's own noise."""
    seeds, allowed = study.parameters.seeds, criteria.CLOSED_FORM.at_most
    ratios = {
        name: pd.concat([study.ratios(seed, of) for seed in seeds])
        for name, of in (("with", "dominant"), ("without", "at minimum"))
    }
    inside = {name: (found - 1).abs() <= allowed for name, found in ratios.items()}
    without = float(ratios["without"].mean())
    return says.answer(
        f"The closed form that counts SGD's own share in the noise is within {says.percent(allowed)} of "
        f"the simulation in {says.counted(inside['with'], 'case')}, an eigenvector and a seed each.",
        f"With the noise at the minimum alone it is so in {says.counted(inside['without'], 'case')}. The "
        f"simulated variances are {says.number(without)} times that form on average, and above it in "
        f"{says.counted(ratios['without'] > 1, 'case')}.",
    )
