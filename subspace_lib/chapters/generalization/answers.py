"""What the figures of chapter 10 show, in words that their numbers choose."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.generalization import tables
from subspace_lib.chapters.generalization.judge import ahead, at_equal_loss, judge
from subspace_lib.chapters.generalization.study import GeneralizationStudy, at_loss, reached
from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.names import title
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import INCONCLUSIVE, interval
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import tail, tail_loss


def opening(study: GeneralizationStudy) -> Markdown:
    """The answer in two sentences, after a word on a quick run."""
    gap, ratio = says.mean(ahead(study, "bulk")), says.mean(at_equal_loss(study))
    if not (math.isfinite(gap) and math.isfinite(ratio)):
        return page.told(study.parameters, "A run diverged: nothing can be compared.")
    bulk, plain = study.name("bulk"), study.name("none")
    verdicts = judge(study)
    as_good = gap >= criteria.Q4_ACCURACY.at_least and ratio <= criteria.Q4_LOSS.at_most
    word = says.whether(as_good, "as well as", "worse than")
    if any(v.verdict == INCONCLUSIVE for v in verdicts):
        word = f"in the mean over seeds {word}"
    return page.told(
        study.parameters,
        page.heads(verdicts, study.parameters)["Q4"],
        f"On data that neither has seen {bulk} does {word} {plain}: its test accuracy is "
        f"{points(gap, plain)} at the end, its test loss "
        f"{says.number(ratio)} times that of {plain} where both have the same training loss.",
    )


def over_steps(study: GeneralizationStudy) -> Markdown:
    """Test accuracies at the end, and how the branches differ from X."""
    found = {
        study.name(side): [tail(run, "test_accuracy") for run in study.of(side)]
        for side in PROJECTIONS
    }
    stands, plain = says.mean(ahead(study, "dominant")), study.name("none")
    return says.answer(
        f"At the end the test accuracy is {says.each(found, tables.percent)}.",
        says.over(len(study.parameters.seeds)),
        f"That of {study.name('bulk')} is {points(says.mean(ahead(study, 'bulk')), plain)}, "
        f"that of {study.name('dominant')} {points(stands, plain)}.",
        _sizes(study),
    )


def _sizes(study: GeneralizationStudy) -> str:
    """How many samples stand behind an accuracy."""
    sizes = [f"{title(name)} {count:,}" for name, count in tables.test_samples(study).items()]
    return f"Test samples: {says.listed(sizes)}." if sizes else ""


def over_loss(study: GeneralizationStudy) -> Markdown:
    """Whether the methods lie on one line; the table of all groups below."""
    bulk, dom, plain = study.name("bulk"), study.name("dominant"), study.name("none")
    ratio, dominant = at_equal_loss(study), dominant_at_its_level(study)
    kept = says.mean(_kept(study))
    bound = criteria.Q4_LOSS.at_most
    told = says.answer(
        f"At equal training loss the test loss of {bulk} is {says.mean_of(ratio, says.share)} times that "
        f"of {plain}. {dom} at its end has {says.mean_of(dominant, says.share)} times the test loss that "
        f"{plain} had at the same training loss.",
        f"Q4 asks that {bulk} be at {bound:g} times at most: "
        f"{says.whether(says.mean(ratio) <= bound, 'it is', 'it is not')}.",
        says.whether(
            abs(kept - 1) <= says.LEVEL,
            f"{dom} ends at {says.share(kept)} of its loss at the switch. So it is compared with {plain} "
            "near the switch only, which says little.",
            "",
        ),
    )
    others = [_group(name, group) for name, group in list(study.groups.items())[1:]]
    missing = " ".join(says.not_yet(study.parameters.groups(), study.groups))
    text = "\n\n".join(filter(None, [told.data, *others, missing]))
    return says.answer(text, table=tables.ends(study))


def dominant_at_its_level(study: SwitchStudy) -> list[float]:
    """Test loss of Dom-X at its end over that of X where X's training loss was the same."""
    pairs = zip(study.of("none"), study.of("dominant"), strict=True)
    return [
        at_loss(dom, "test_loss", reached(dom)) / at_loss(plain, "test_loss", reached(dom))
        for plain, dom in pairs
    ]


def _kept(study: SwitchStudy) -> list[float]:
    """Training loss of Dom-X at its end over that at the switch."""
    return [reached(run) / float(run.table["train_loss"].iloc[0]) for run in study.of("dominant")]


def _group(name: str, group: SwitchStudy) -> str:
    bulk, plain, ratio = group.name("bulk"), group.name("none"), at_equal_loss(group)
    losses = [says.mean(map(tail_loss, group.of(side))) for side in ("bulk", "none")]
    return (
        f"**{name}**: at the end the test accuracy of {bulk} is "
        f"{points(says.mean(ahead(group, 'bulk')), plain)}{_range(ahead(group, 'bulk'))}, and its "
        f"training loss {says.number(losses[0] / losses[1])} times that of {plain}. Where both have the "
        f"same training loss, its test loss is {says.mean_of(ratio)} times that of {plain}."
    )


def _range(gaps: Sequence[float]) -> str:
    """The 95% interval over seeds, in points, and whether it tells of a difference."""
    if len(gaps) < 2 or not np.isfinite(gaps).all():
        return ""
    low, high = (100 * end for end in interval(gaps))
    open_ = ", so no difference is shown" if low <= 0 <= high else ""
    return f" (95% interval over seeds: {low:.1f} … {high:.1f}{open_})".replace("-", "−")


def points(gap: float, other: str) -> str:
    """ "0.3 points above SGD's"; of accuracy, in percentage points."""
    if not math.isfinite(gap):
        return says.UNKNOWN
    if abs(gap) < 0.0005:
        return f"on average within 0.05 percentage points of {other}'s"
    return f"{abs(100 * gap):.1f} points {says.whether(gap > 0, 'above', 'below')} {other}'s"


def over_sharpness(study: GeneralizationStudy) -> Markdown:
    """Whether a flatter end goes with a better test accuracy."""
    runs = [
        run
        for group in study.alike().values()
        for side in ("none", "bulk")
        for run in group.of(side)
        if run.complete
    ]
    alike = dict.fromkeys(
        group.name(s) for group in study.alike().values() for s in ("none", "bulk")
    )
    sharp = pd.Series([tables.sharpness(run) for run in runs], dtype=float)
    accuracy = pd.Series([tail(run, "test_accuracy") for run in runs], dtype=float)
    order = math.nan  # Spearman's: the correlation of the ranks
    if len(runs) > 2:
        order = float(np.corrcoef(sharp.rank(), accuracy.rank())[0, 1])
    word = "is undefined"
    if math.isfinite(order):
        word = says.whether(
            abs(order) < 0.5, "does not follow", says.whether(order > 0, "rises with", "falls with")
        )
    return says.answer(
        f"Over the runs of X and Bulk-X on the first network and data ({says.listed(alike)}) λ₁ at the end "
        f"goes from {says.number(sharp.min())} to {says.number(sharp.max())}; test accuracy {word} it "
        f"(rank correlation {says.share(order)}, {len(runs)} runs).",
        "These runs differ in learning rate, batch size and rule as well, and form a cluster for each. So "
        "they do not show whether sharpness by itself has an effect.",
    )
