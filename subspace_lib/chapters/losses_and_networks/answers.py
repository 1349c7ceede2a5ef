"""What the figures of chapter 09 show, in words that their numbers choose."""

from __future__ import annotations

import math

from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.losses_and_networks import tables
from subspace_lib.chapters.losses_and_networks.judge import CLAIMS, CROSS_ENTROPY, judge, unresolved
from subspace_lib.chapters.losses_and_networks.study import LossesStudy
from subspace_lib.trajectory import Trajectory, progress

AS_IT_IS = "Dom-SGD as it is"


def opening(study: LossesStudy) -> Markdown:
    """The cases with cross-entropy, which are those that can be judged; else the first."""
    cases = {name: c for name, c in study.cases.items() if c.parameters.loss == CROSS_ENTROPY}
    told = [_case(name, case) for name, case in (cases or study.cases).items()]
    head = page.heads(judge(study), study.parameters, Q1="Shown, not judged")
    return page.told(
        study.parameters, head["Q1"], page.asked(CLAIMS[0]), *(told if cases else told[:1])
    )


def _case(name: str, case: SwitchStudy) -> str:
    """What becomes of the loss under Dom-SGD, and how much Bulk-SGD learns."""
    ratios = [tables.risen(run) for run in case.of("dominant")]
    ratio = says.mean(ratios)
    word = "diverges"
    if math.isfinite(ratio):
        word = says.compared(ratio, 1, "rises", "falls", "stays level")
    bulk = [progress(*pair) for pair in zip(case.of("none"), case.of("bulk"), strict=True)]
    return (
        f"{name}: Dom-SGD's loss {word} ({says.mean_of(ratios, says.share)} of that at the switch), "
        f"Bulk-SGD makes {says.mean_of(bulk, says.share)} of SGD's progress."
    )


def losses(study: LossesStudy) -> Markdown:
    """Whether Dom-SGD's loss rises and Bulk-SGD learns, case by case; the table below."""
    told = [_case(name, case) for name, case in study.cases.items()]
    told.append(unresolved(study))
    told += says.not_yet(study.parameters.cases(), study.cases)
    return says.answer(*told, table=tables.overview(study))


def causes(study: LossesStudy) -> Markdown:
    """Which changes stop the rise, which make it worse, and what the expansion says of it."""
    if not study.causes:
        return says.missing("The interventions are")
    base = tables.risen(study.causes[AS_IT_IS])
    words = []
    for name, run in study.causes.items():
        ratio = tables.risen(run)
        ended = f"{100 * (ratio - 1):+.1f}%".replace("-", "−") if run.complete else run.status
        words.append(f"{name}: {ended}")
    found = tables.terms(study.causes[AS_IT_IS])
    slope, bend = found["slope"].mean(), found["bend"].mean()
    noise = says.mean([1 - min(1.0, found["signal"].mean() / bend)]) if bend > 0 else math.nan
    whole = 1e6 * (found["slope"] + found["bend"])
    error = float(whole.std() / math.sqrt(len(whole))) if len(whole) > 1 else math.nan
    clear = says.whether(
        abs(whole.mean()) > 2 * error,
        "The sum differs from zero by more than twice its standard error.",
        "The sum does not differ from zero by more than twice its standard error.",
    )
    return says.answer(
        f"Change of the loss from the switch to the end: {'; '.join(words)}.",
        f"As it is, the loss {says.compared(base, 1, 'rises', 'falls', 'stays level')}.",
        f"By the expansion, in millionths a step, the first-order term is {says.number(1e6 * slope)}, the "
        f"second-order term {says.number(1e6 * bend)} and their sum {says.number(float(whole.mean()))} ± "
        f"{says.number(2 * error, 2)} (twice its standard error). "
        f"{clear if math.isfinite(error) else ''} At least {says.percent(noise)} of the "
        "second-order term is the minibatch noise's.",
        f"As it is, the sine of the angle in use was {says.share(_angle(study.causes[AS_IT_IS]))} in the "
        "median over rows.",
        "What this does not show: why the curvature changes. It is one seed of one case, and a larger "
        "batch changes the noise, and also how close training is to the edge of stability.",
        table=tables.expansion(study),
    )


def _angle(run: Trajectory) -> float:
    return float(run.table["angle"].median())
