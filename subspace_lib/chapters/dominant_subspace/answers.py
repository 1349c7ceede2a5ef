"""What the figures of chapter 01 show, in words that their numbers choose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown

from subspace_lib.chapters.dominant_subspace import tables
from subspace_lib.chapters.dominant_subspace.figures import NAMES, loss_change_table
from subspace_lib.chapters.dominant_subspace.study import AlignmentStudy
from subspace_lib.chapters.kit import says
from subspace_lib.evidence import criteria
from subspace_lib.trajectory import tail

SPANS = {
    "the span of the class means (C² directions, with C classes)": "class_means",
    "the span of the means over all samples (C directions)": "mean_outputs",
    "a span of C² random directions": "random_span",
}
MOST = 0.5  # of S_k: a span that holds more of it is said to hold most of it
STEADY = 0.05  # of the turn of a hundred steps


def gradients(study: AlignmentStudy) -> Markdown:
    """Late alignment of the full-batch and of the minibatch gradient."""
    runs = list(study.plain.values())
    full, mini = ([tail(run, c) for run in runs] for c in ("alignment", "batch_alignment"))
    mean, high = says.mean(full), criteria.ALIGNED.at_least
    lower = [b < a for a, b in zip(full, mini, strict=True)]
    return says.answer(
        _on_the_way([run.table for run in runs]),
        f"Over the last {says.percent(criteria.TAIL)} of the steps the alignment of the full-batch "
        f"gradient is {says.mean_of(full, says.share)}, that of a minibatch gradient "
        f"{says.mean_of(mini, says.share)}. {says.over(len(runs))}",
        f"So the {study.parameters.k} dominant directions hold "
        f"{says.whether(mean >= high, 'most', 'a part')} of the full-batch gradient: "
        f"{says.percent(mean**2)} of its squared length."
        if math.isfinite(mean)
        else "",
        f"The minibatch gradient is less aligned in {says.counted(lower)}.",
        says.whether(all(lower), "Its noise spreads over more directions.", ""),
    )


def _on_the_way(tables: Sequence[pd.DataFrame]) -> str:
    """Where the alignment of the full-batch gradient begins, and its lowest row."""
    known = [table.set_index("step")["alignment"].dropna() for table in tables]
    begins, low = [float(found.iloc[0]) for found in known], [float(found.min()) for found in known]
    where = says.mean_of(
        [float(found.index[int(found.argmin())]) for found in known], lambda step: f"{step:,.0f}"
    )
    return (
        f"The alignment of the full-batch gradient is {says.mean_of(begins, says.share)} at the "
        f"initialization. Its lowest recorded value is {says.mean_of(low, says.share)}, at step {where}. "
        "The figure averages over rows, so its dip is shallower."
    )


def outliers(study: AlignmentStudy) -> Markdown:
    """λ_k/λ_{k+1} over training, and how near the sharpness comes to 2/η."""
    k, runs = study.parameters.k, list(study.plain.values())
    ratios = []
    for run in runs:
        rows = run.table[run.table[NAMES[-1]].notna()]
        ratios.append((rows[NAMES[k - 1]] / rows[NAMES[k]]).to_numpy())
    known = [found for found in ratios if len(found)]
    top = float(runs[0].table[NAMES[0]].max())
    edge = 2 / study.parameters.learning_rate
    told = [
        f"The largest eigenvalue of the first seed reaches {says.number(top)}; 2/η is "
        f"{says.number(edge)}, so it {says.whether(top < edge, 'stays below', 'goes past')} the edge of "
        "stability."
    ]
    if known:
        last, wanted = [float(found[-1]) for found in known], criteria.GAP.at_least
        low = min(float(found.min()) for found in known)
        outlier = says.counted([gap >= wanted for gap in last])
        told.insert(
            0,
            f"At the last full spectrum {says.eigenvalue(k)} is {says.mean_of(last)} times "
            f"{says.eigenvalue(k + 1)}. {says.over(len(known))} The criterion asks for {wanted:g}; it is "
            f"met in {outlier}. The smallest ratio of the whole training is {says.number(low)}.",
        )
    return says.answer(*told)


def by_classes(study: AlignmentStudy) -> Markdown:
    """Where the spectrum breaks after training on fewer classes; the table says it for each."""
    broken, clear = [], []
    for count in study.classes:
        values = study.spectrum(count)
        steps = [first / second for first, second in itertools.pairwise(values)]
        broken.append(steps.index(max(steps)) + 1 == count)
        clear += [max(steps) >= criteria.GAP.at_least] if broken[-1] else []
    if not broken:
        return says.missing("Runs on fewer classes are")
    return says.answer(
        f"The largest step down comes right after the last class in {says.counted(broken, 'case')}"
        + (
            f"; in {sum(clear)} of these it is at least the ratio that C1 asks for."
            if clear
            else "."
        ),
        says.whether(
            all(broken),
            "So the number of outliers is the number of classes.",
            "So the number of classes alone does not say where the outliers end.",
        ),
        table=tables.class_gaps(study),
    )


def class_spans(study: AlignmentStudy) -> Markdown:
    """How much of the dominant subspace each span holds, at the first and at the last anchor."""
    found = {name: _over_anchors(study, quantity) for name, quantity in SPANS.items()}
    means, *_ = found.values()
    told = [
        f"{name[0].upper()}{name[1:]} holds {says.share(values.iloc[0])} of the dominant subspace at step "
        f"{values.index[0]:,}"
        + (
            f" and {says.share(values.iloc[-1])} at step {values.index[-1]:,}"
            if len(values) > 1
            else ""
        )
        + "."
        for name, values in found.items()
        if len(values)
    ]
    if len(means):
        most = means >= MOST
        told.append(
            says.whether(
                bool(most.all()),
                "So most of the dominant subspace lies in the span of the class means all along."
                f"{_few(found)}",
                says.whether(
                    bool(most.any()),
                    "So the dominant subspace is mostly that of the class means at "
                    f"{says.counted(most, 'anchor')}, not all along.",
                    "So the dominant subspace is not that of the class means.",
                ),
            )
        )
    return says.answer(*told)


def _few(found: Mapping[str, pd.Series]) -> str:
    """Where the C directions of the mean outputs hold as much of it as the C² of the class means."""
    many, few, *_ = (values.iloc[[0, -1]].to_numpy() for values in found.values())
    first, last = few >= (1 - says.LEVEL) * many
    if not (first or last):
        return ""
    where = "at both of these steps" if first and last else f"at the {'last' if last else 'first'}"
    return (
        f" The span of the C means over all samples holds as much of it {where}: there the other "
        "directions add next to nothing."
    )


def turning(study: AlignmentStudy) -> Markdown:
    """How far the subspace turns in one step and in the longest lag, early and late."""
    table = study.survey()
    angles = table[(table["quantity"] == "angle") & table["value"].notna()]
    told = []
    if len(angles):
        wide = angles.pivot_table(index="anchor", columns="index", values="value")
        lags = sorted({*wide.columns[[0, -1]]})
        told = [_turns(lag, wide[lag].dropna()) for lag in lags]
        told += dict.fromkeys(_compares(wide[lag].dropna()) for lag in lags)
        if {1, 100} <= set(wide.columns):
            told.append(_jitter(wide))
    final = _over_anchors(study, "final_overlap")
    if len(final) > 1:
        told.append(
            f"The overlap with the last subspace {says.moves(final.iloc[0], final.iloc[-1], says.share)} "
            f"between step {final.index[0]:,} and step {final.index[-1]:,}."
        )
    return says.answer(*told)


def _turns(lag: int, known: pd.Series) -> str:
    """The angle after so many steps, from the first anchor and from the last."""
    after = "one step" if lag == 1 else f"{lag:,} steps"
    first, last = float(known.iloc[0]), float(known.iloc[-1])
    told = (
        f"The sine of the largest angle after {after} is {says.number(first, 2)} counted from step "
        f"{known.index[0]:,}"
    )
    if len(known) == 1:
        return f"{told}."
    return f"{told} and {says.number(last, 2)} counted from step {known.index[-1]:,}."


def _compares(known: pd.Series) -> str:
    """Whether the subspace turns faster late than early, by these angles."""
    if len(known) == 1:
        return ""
    turns = says.compared(known.iloc[-1], known.iloc[0], "faster", "more slowly", "as fast")
    than = says.whether(turns == "as fast", "as", "than")
    return f"So late in training the subspace turns {turns} {than} early."


def _jitter(wide: pd.DataFrame) -> str:
    """How much of the turn of a hundred steps one step has, from the last anchor that has both."""
    both = wide[[1, 100]].dropna()
    if both.empty:
        return ""
    part = float(both[1].iloc[-1] / both[100].iloc[-1])
    told = (
        f"Right after step {both.index[-1]:,} one step turns the subspace by {says.percent(part)} of what "
        "100 steps do"
    )
    if part > STEADY:
        return (
            f"{told}; at a steady pace it would be 1%. So the subspace moves to and fro, presumably with "
            "the minibatches."
        )
    return f"{told}, as at a steady pace."


def changes(study: AlignmentStudy) -> Markdown:
    """Which part of the update lowers the loss, and whether the expansion agrees with it."""
    frame = loss_change_table(study)
    told = []
    for part in ("bulk", "dominant"):
        mean, error = (
            frame[f"measured_{part}"],
            2 * frame[f"error_measured_{part}"].fillna(math.inf),
        )
        lowers = says.counted(mean < -error, "anchor")
        raises = says.counted(mean > error, "anchor")
        told.append(
            f"The {part} part lowers the loss by more than twice its error at {lowers} and raises it at "
            f"{raises}."
        )
    first, whole = float(frame["measured_dominant"].iloc[0]), float(frame["measured_whole"].iloc[0])
    if first < 0 and whole < 0:
        told.append(
            f"In the {study.parameters.window} steps after step {frame.index[0]:,} the dominant part has "
            f"{says.percent(first / whole)} of the fall of the loss."
        )
    near = []
    for part in ("bulk", "dominant"):
        gap = (frame[f"predicted_{part}"] - frame[f"measured_{part}"]).abs()
        near += list(gap <= 2 * frame[f"error_measured_{part}"].fillna(math.inf))
    told.append(
        "Expansion and measurement differ by less than twice the measurement's standard error in "
        f"{says.counted(near, 'case')}; each anchor has two, one for each part."
    )
    return says.answer(*told, table=tables.loss_changes(study))


def _over_anchors(study: AlignmentStudy, quantity: str) -> pd.Series:
    """Mean over seeds by anchor, of what is known."""
    table = study.survey()
    rows = table[(table["quantity"] == quantity) & table["value"].notna()]
    return rows.groupby("anchor")["value"].mean().astype(np.float64)
