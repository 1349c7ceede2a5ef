"""What the figures of chapter 05 show, in words that their numbers choose."""

from __future__ import annotations

import math

import numpy as np
from IPython.display import Markdown

from subspace_lib.chapters.edge_of_stability import tables
from subspace_lib.chapters.edge_of_stability.approach import NAMES, Approach, approach
from subspace_lib.chapters.edge_of_stability.study import EdgeStudy
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.switch import answers as switch_answers
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import tail, window


def losses(study: EdgeStudy) -> Markdown:
    """What the branches make of the loss, and what of it is the bounce's."""
    return switch_answers.edge_losses(study.switch)


def angles(study: EdgeStudy) -> Markdown:
    """How exact the subspace was along the runs, and what following it cost."""
    return switch_answers.angles(study.switch, costs=True)


def sharpness(study: SwitchStudy) -> Markdown:
    """Sharpness and alignment of GD before the switch, and of the branches at the end."""
    p, names = study.parameters, [study.name(side) for side in PROJECTIONS]
    plain, dom, _ = names
    factor = p.learning_rate / 2
    relative, aligned, arrivals = [], [], []
    for seed, run in zip(p.seeds, study.of("none"), strict=True):
        span = study.switch_steps[seed] - criteria.EDGE_WINDOW, study.switch_steps[seed] - 1
        relative.append(factor * window(run, "eigenvalue_01", *span))
        aligned.append(window(run, "alignment", *span))
        there = run.table.loc[factor * run.table["eigenvalue_01"] >= 1, "step"]
        arrivals.append(math.nan if there.empty else float(there.iloc[0]))
    came = [math.isfinite(step) for step in arrivals]
    told = [
        f"{plain} has come to the edge, λ₁η/2 = 1, in {says.counted(came)}"
        + (f", first at step {says.mean_of(arrivals)}." if any(came) else "."),
        f"Over the {criteria.EDGE_WINDOW} steps before the switch λ₁η/2 is "
        f"{says.mean_of(relative, says.share)} and the alignment {says.mean_of(aligned, says.share)}.",
    ]
    high = criteria.EDGE_ALIGNED.at_least
    if says.mean(relative) < criteria.EDGE.at_least:
        told.append("So it is not at the edge there, and the claim says nothing about it.")
    elif math.isfinite(says.mean(aligned)):
        told.append(
            "So at the edge the gradient is "
            f"{says.whether(says.mean(aligned) >= high, 'aligned', 'not as aligned as the claim says')}, "
            "without any noise."
        )
    ends = {
        name: [factor * tail(run, "eigenvalue_01") for run in study.of(side)]
        for name, side in zip(names, PROJECTIONS, strict=True)
    }
    last = [tail(run, "alignment") for run in study.of("dominant")]
    told.append(
        f"At the end λ₁η/2 is {says.each(ends, says.share)}; the alignment of {dom} is "
        f"{says.mean_of(last, says.share)}."
    )
    return says.answer(*told)


def beyond(study: EdgeStudy) -> Markdown:
    """How sharp Bulk-GD gets, and whether λ_{k+1} comes up to the edge."""
    p, runs = study.parameters, study.switch.of("bulk")
    factor = p.learning_rate / 2
    first = [factor * tail(run, "eigenvalue_01") for run in runs]
    after = [factor * tail(run, f"eigenvalue_{p.k + 1:02d}") for run in runs]
    top, following = says.mean(first), says.mean(after)
    told = [f"At the end λ₁η/2 of Bulk-GD is {says.mean_of(first, says.share)}."]
    if math.isfinite(top):
        wanted = criteria.BEYOND_EDGE.at_least
        told.append(
            says.whether(
                top >= wanted,
                "So its sharpness goes past the edge, where GD's is held.",
                "So its sharpness does not go clearly past the edge.",
            )
        )
    if math.isfinite(following):
        come = says.compared(
            following, 1, "lies above the edge", "stays below the edge", "is at the edge"
        )
        told.append(
            f"{says.eigenvalue(p.k + 1)}η/2 is {says.mean_of(after, says.share)} there: it {come}."
        )
    return says.answer(*told)


@says.known
def onward(study: EdgeStudy) -> Markdown:
    """Whether λ_{k+1} comes to the edge in the long run, and whether it stays there."""
    p = study.parameters
    (run,) = study.onward.values()
    name, rows = says.eigenvalue(p.k + 1), run.table
    relative = p.learning_rate / 2 * rows[f"eigenvalue_{p.k + 1:02d}"].ffill()
    there = rows.loc[relative >= 1, "step"]
    if there.empty:
        return says.answer(
            f"{name}η/2 does not come up to 1 within {int(rows['step'].iloc[-1]):,} steps: it is "
            f"{says.share(float(relative.max()))} at most."
        )
    come = f"{name}η/2 first comes up to 1 at step {int(there.iloc[0]):,}."
    if not run.complete:
        return says.answer(f"{come} The run ended as {run.status}.")
    late = p.learning_rate / 2 * tail(run, f"eigenvalue_{p.k + 1:02d}")
    since = relative[rows["step"] >= there.iloc[0]]
    ends = says.compared(
        late,
        1,
        "So it does not stay at the edge: it goes on past it.",
        "So at the end it is below the edge again.",
        f"So at the end {name} is at the edge.",
    )
    sharp = p.learning_rate / 2 * rows["eigenvalue_01"].ffill()
    at_edge = float(sharp[rows["step"] >= there.iloc[0]].iloc[0])
    first, last = (float(rows["train_loss"].iloc[i]) for i in (0, -1))
    falls = says.whether(last < first, "falls", "does not fall")
    return says.answer(
        f"{come} From there on it lies between {says.share(float(since.min()))} and "
        f"{says.share(float(since.max()))}; over the last {criteria.TAIL:.0%} of the {p.onward_steps:,} "
        f"steps it is {says.share(late)}. {ends}",
        f"λ₁η/2 is {says.share(at_edge)} when {name} comes to the edge, and "
        f"{says.share(float(sharp.iloc[-1]))} at the end.",
        f"The training loss {falls} over this run, from {says.number(first)} to {says.number(last)}.",
    )


@says.known
def cycles(study: EdgeStudy) -> Markdown:
    """Whether the sign alternates, and whether the sharpness falls while the bounce is large."""
    rows = study.window.table
    gradient = rows["gradient_top"].to_numpy(dtype=float)
    relative = (
        study.window.experiment.learning_rate / 2 * rows["eigenvalue_01"].to_numpy(dtype=float)
    )
    changes = np.sign(gradient[1:]) != np.sign(gradient[:-1])
    falls, size = np.diff(relative) < 0, np.abs(gradient[:-1])
    large = size > np.median(size)
    told = [
        f"The gradient along the top eigenvector changes its sign at {says.percent(changes.mean())} of the "
        f"steps. λ₁η/2 moves between {says.share(np.nanmin(relative))} and "
        f"{says.share(np.nanmax(relative))}."
    ]
    if large.any() and (~large).any():
        told.append(_falls(falls[large], falls[~large]))
    if np.nanmin(relative) > 1:
        told.append("λ₁ does not come below 2/η here: no cycle is closed within these steps.")
    return says.answer(*told)


def _falls(large: np.ndarray, small: np.ndarray) -> str:
    """Whether the sharpness falls more often where the bounce is large, beyond twice the standard error."""
    shares = [float(found.mean()) for found in (large, small)]
    errors = [
        math.sqrt(p * (1 - p) / len(found)) for p, found in zip(shares, (large, small), strict=True)
    ]
    difference = shares[0] - shares[1]
    clear = abs(difference) > 2 * math.hypot(*errors)
    word = says.whether(difference > 0, "more", "less")
    shown = [f"{share:.0%} ± {error:.0%}" for share, error in zip(shares, errors, strict=True)]
    return (
        f"The sharpness falls at {shown[0]} of the steps with a large bounce (above the median), and at "
        f"{shown[1]} of the others (± a standard error). "
    ) + says.whether(
        clear,
        f"So the sharpness falls {word} often where the bounce is large.",
        "The difference is below twice its standard error, so these steps do not show that a large bounce "
        "lowers the sharpness.",
    )


def _stays(found: list[Approach]) -> str:
    """Whether the alignment lasts once it has come, by its mean over the rest of these steps."""
    lasting = [each.lasting for each in found]
    if math.isnan(says.mean(lasting)):
        return ""
    stays = says.mean(lasting) >= criteria.ALIGNED.at_least
    return (
        f", and {says.whether(stays, 'stays', 'does not stay')}: from there on its mean is "
        f"{says.mean_of(lasting, says.share)}"
    )


@says.known
def pair(study: EdgeStudy) -> Markdown:
    """Losses of GD, of its mean and of Bulk-GD, and how far they come apart; moments in the table."""
    rows = study.pair.table
    late = rows.iloc[len(rows) // 2 :]
    gd, averaged, bulk = (
        float(late[name].mean()) for name in ("loss", "loss_average", "loss_bulk")
    )
    end = rows.iloc[-1]
    told = [
        f"In the second half of these steps the mean loss is {says.number(gd)} for GD, "
        f"{says.number(averaged)} for the mean of its iterates and {says.number(bulk)} for Bulk-GD."
    ]
    if gd > bulk:
        removed = (gd - averaged) / (gd - bulk)
        told.append(
            f"Averaging removes {says.percent(removed)} of the difference between GD's loss and Bulk-GD's."
        )
    apart, way = float(end["distance_average"]), float(end["travelled"])
    told.append(
        f"At the end the mean of GD's last iterates lies {says.number(apart)} from Bulk-GD. That is "
        f"{says.percent(apart / way)} of Bulk-GD's distance from the switch, {says.number(way)}: "
        + says.whether(
            apart <= CLOSE * way,
            "Bulk-GD follows the path down the middle closely.",
            "Bulk-GD does not follow the middle of GD's path closely.",
        )
    )
    return says.answer(*told, table=tables.pair(study.pair))


CLOSE = 0.1  # of Bulk-GD's distance from the switch


@says.known
def approaches(study: EdgeStudy) -> Markdown:
    """Of each loss and η whether the alignment comes at the edge or before; every run in the table."""
    told = []
    ways = list(dict.fromkeys(way[:2] for way in study.approaches))
    for loss, rate in ways:
        found = [approach(run) for way, run in study.approaches.items() if way[:2] == (loss, rate)]
        came = [each.arrival is not None for each in found]
        before = [each.before for each in found]
        text = (
            f"{NAMES[loss].capitalize()}, η = {rate:g}: below the edge the mean alignment is "
            f"{says.mean_of(before, says.share)}"
        )
        if any(came):
            aligned = [each.aligned is not None for each in found if each.arrival is not None]
            text += (
                f"; λ₁ reaches 2/η in {says.counted(came, 'run')}; within {criteria.F7_WITHIN:,} steps of "
                f"that the alignment comes to {criteria.F7_AT_EDGE} in {sum(aligned)} of these "
                f"{len(aligned)}{_stays(found)}"
            )
        else:
            furthest = max(each.furthest for each in found)
            text += f"; λ₁ does not reach 2/η, its λ₁η/2 is {says.share(furthest)} at most"
        told.append(text + ".")
    if not told:
        return says.missing("Runs on their way to the edge are")
    first = [float(run.table["alignment"].iloc[0]) for run in study.approaches.values()]
    told.append(
        f"The first {criteria.F7_SKIP:.0%} of the steps before the edge are left out: at the "
        f"initialization the alignment is {says.share(min(first))} to {says.share(max(first))}, and decays."
    )
    told += [_later(study, loss) for loss in dict.fromkeys(loss for loss, _ in ways)]
    return says.answer(*told, table=tables.approaches(study))


FALLEN = 0.5  # of its largest value: a sharpness that ends below is said to fall again


def _later(study: EdgeStudy, loss: str) -> str:
    """Whether the sharpness falls again with this loss, by how much of its largest value is left."""
    runs = [run for way, run in study.approaches.items() if way[0] == loss]
    left = [tail(run, "eigenvalue_01") / float(run.table["eigenvalue_01"].max()) for run in runs]
    if not math.isfinite(says.mean(left)):
        return ""
    falls = says.whether(says.mean(left) < FALLEN, "falls again", "stays high")
    return (
        f"{NAMES[loss].capitalize()}: the sharpness {falls}; at the end of these runs λ₁ is "
        f"{says.mean_of(left, says.share)} of its largest value."
    )
