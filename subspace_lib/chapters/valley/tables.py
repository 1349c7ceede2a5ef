"""The chapter's answer (chapter 04)."""

from __future__ import annotations

import numpy as np
from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.valley.judge import CLAIMS, judge
from subspace_lib.chapters.valley.study import PROBLEMS, ValleyStudy
from subspace_lib.evidence import criteria
from subspace_lib.runs.simulation import case_of
from subspace_lib.trajectory import tail_loss


def answer(study: ValleyStudy) -> Markdown:
    """The verdict, and what both problems show, from the runs."""
    (c5,) = judge(study)
    verdict = f"**{c5.claim}, {c5.verdict}.** {CLAIMS[0].says}."
    return page.told(study.parameters, verdict, _shown(study).replace(" -", " −"))


def _shown(study: ValleyStudy) -> str:
    told = []
    for problem in PROBLEMS:
        dom, bulk = (np.mean(study.progresses(problem, name)) for name in ("Dom-SGD", "Bulk-SGD"))
        seen = [study.alignments(problem, seed) for seed in study.parameters.seeds]
        before, without, again = np.mean(seen, axis=0)
        told.append(
            f"In the {problem} the progress of Dom-SGD is {dom:z.3f}, that of Bulk-SGD {bulk:.3f} (its "
            f"loss ends at {says.number(_ends(study, problem), 2)} times that of SGD); the "
            f"alignment is {before:.2f} under SGD, {says.number(without, 1)} under GD, {again:.2f} under "
            "SGD again."
        )
    return " ".join(told)


def _ends(study: ValleyStudy, problem: str) -> float:
    """Bulk-SGD's loss at the end over that of SGD, means over seeds."""
    bulk, sgd = (
        np.mean([tail_loss(run) for run in study.of(problem, name)]) for name in ("Bulk-SGD", "SGD")
    )
    return float(bulk / sgd)


def limits(study: ValleyStudy) -> str:
    """Where the valley stops showing it: closed forms, and Bulk-SGD's progress with the largest c."""
    e, seeds = study.valley, study.parameters.seeds
    aligned, good = criteria.ALIGNED_BEFORE.at_least, criteria.BULK_PROGRESS.at_least
    low, high = e.valley.window(aligned, good)
    cross, found = max(e.crosses), []
    for sharp in e.sharpnesses:
        values = [study.values("valley", seed, case_of(sharp), "progress")[cross] for seed in seeds]
        found.append(f"{np.mean(values):.2f} at η = {says.number(sharp / e.condition, 1)}")
    first, last = (says.number(e.valley.rate(share), 2) for share in (low, high))
    return (
        "The closed form of Bulk-SGD's progress here is "
        f"{e.valley.bulk_progress(e.learning_rate):.3f}. With c = {e.cross:g} the mean alignment reaches "
        f"{aligned:g} at η = {first}, and Bulk-SGD's progress is down to {good:g} at η = {last}: above "
        f"that Bulk-SGD is *not* as good as SGD. Simulated with c = {cross:g}, its progress is "
        f"{says.listed(found)}. Below κ = {low * e.condition / high:.0f} no η and c meet both."
    )
