"""The chapter's answer (chapter 04)."""

from __future__ import annotations

import numpy as np
from IPython.display import Markdown

from subspace_lib.chapters.valley.judge import judge
from subspace_lib.chapters.valley.study import PROBLEMS, ValleyStudy
from subspace_lib.evidence import criteria
from subspace_lib.runs.simulation import case_of


def answer(study: ValleyStudy) -> Markdown:
    """The verdict, what both problems show, and where the valley stops showing it, from the runs."""
    (c5,) = judge(study)
    told = f"**{c5.claim}, {c5.verdict}.** {_shown(study)} {_limits(study)}"
    return Markdown(told.replace(" -", " −"))


def _shown(study: ValleyStudy) -> str:
    told = []
    for problem in PROBLEMS:
        dom, bulk = (np.mean(study.progresses(problem, name)) for name in ("Dom-SGD", "Bulk-SGD"))
        seen = [study.alignments(problem, seed) for seed in study.parameters.seeds]
        before, without, again = np.mean(seen, axis=0)
        told.append(
            f"In the {problem} the progress of Dom-SGD is {dom:z.3f}, that of Bulk-SGD {bulk:.3f}; the "
            f"alignment is {before:.2f} under SGD, {without:.1g} under GD, {again:.2f} under SGD again."
        )
    return " ".join(told)


def _limits(study: ValleyStudy) -> str:
    e, seeds = study.valley, study.parameters.seeds
    aligned, good = criteria.ALIGNED_BEFORE.at_least, criteria.BULK_PROGRESS.at_least
    low, high = e.valley.window(aligned, good)
    cross, found = max(e.crosses), []
    for sharp in e.sharpnesses:
        values = [study.values("valley", seed, case_of(sharp), "progress")[cross] for seed in seeds]
        found.append(f"{np.mean(values):.2f} at η = {sharp / e.condition:g}")
    return (
        f"The closed form of Bulk-SGD's progress in the valley is "
        f"{e.valley.bulk_progress(e.learning_rate):.3f}. But the valley shows both only in a window: with "
        f"c = {e.cross:g}, by closed forms, the mean alignment reaches {aligned:g} at "
        f"η = {e.valley.rate(low):.1e}, and Bulk-SGD's progress is down to {good:g} at "
        f"η = {e.valley.rate(high):.1e}; above that Bulk-SGD is *not* as good as SGD. Simulated with "
        f"c = {cross:g}, its progress is {', '.join(found)}. With κ below {low * e.condition / high:.0f} "
        "no η and c have both."
    )
