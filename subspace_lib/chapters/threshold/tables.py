"""Tables of chapter 08."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_lowercase

from IPython.display import Markdown

from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.table import Row, span, table
from subspace_lib.chapters.threshold.cuts import Case, height, ratio
from subspace_lib.chapters.threshold.spaces import FOLLOWED, RANDOM, SpaceStudy
from subspace_lib.chapters.threshold.study import ThresholdStudy
from subspace_lib.trajectory import gradients_per_step, tail


def protocol(study: ThresholdStudy) -> Markdown:
    """The parameters in force, the switches, and what is missing."""
    rows: list[Row] = []
    for name in study.parameters.cases():
        told = "**missing**: not all of its runs are stored"
        if name in study.cases:
            steps = span(study.cases[name].switch.switch_steps.values(), ",.0f")
            told = f"switch at step {steps}. {study.cases[name].switch.note()}".strip()
            if absent := study.lacking(name):
                told += f" **Missing**: runs with k = {says.listed(map(str, absent))}"
        rows.append({"parameter": name, "in force": told})
    there = set() if study.spaces is None else set(study.spaces.names())
    missing = [
        name for part in study.parameters.spaces() for name in part.spaces() if name not in there
    ]
    if missing:
        told = f"**missing**: not stored ({', '.join(missing)})"
        rows.append({"parameter": "other spaces", "in force": told})
    return page.in_force(study.parameters, study.runs(), rows)


def cuts(study: ThresholdStudy) -> Markdown:
    """A row for each case and k: progress, alignment, spectrum, and which rule would cut there."""
    rows = [
        _cut(name, case, k, study.parameters.fractions)
        for name, case in study.cases.items()
        for k in case.parameters.cuts
    ]
    return table(
        rows,
        note="Means over seeds, with their range. Angle in use: sine of the largest principal angle, as "
        "far as known, the median over the rows of Dom-SGD and Bulk-SGD; it may be 1 where the spectrum "
        "has no gap behind λₖ. Alignment: SGD's gradient with Sₖ, over the last 2% of "
        "the steps. Eigenvalues: at the switch. Rules that choose it: each picks a k from that spectrum "
        "and stands in the row nearest to it for the first seed, with the k that it picks. The largest gap "
        "is sought between the smallest and the largest k of the table.",
    )


def _cut(name: str, case: Case, k: int, fractions: Sequence[float]) -> Row:
    spectra = [case.spectrum(seed) for seed in case.parameters.seeds]
    return {
        "case": name,
        "k": k,
        "progress(Dom)": says.progress(case.progress(k, "dominant")),
        "progress(Bulk)": says.progress(case.progress(k, "bulk")),
        "angle in use": says.mean_of(case.angle(k), says.share),
        "alignment, late": says.mean_of(case.alignment(k), "{:.3f}".format),
        "λₖ/λ₁": says.mean_of((height(s, k) for s in spectra), says.share),
        "λₖ/λₖ₊₁": says.mean_of((ratio(s, k) for s in spectra), says.share),
        "rules that choose it": _chosen_by(case, k, fractions) if spectra[0] else says.UNKNOWN,
    }


def _chosen_by(case: Case, k: int, fractions: Sequence[float]) -> str:
    """The rules whose cut for the first seed is nearest to this k, and where they cut."""
    found: dict[str, list[str]] = {}
    for rule, places in case.rules(fractions).items():
        if places[0] is not None and case.nearest(places[0]) == k:
            at = span((place for place in places if place is not None), "d")
            found.setdefault(at, []).append(rule)
    return "; ".join(f"at {at}: {says.listed(rules)}" for at, rules in found.items())


def spaces(study: ThresholdStudy) -> Markdown:
    """A row for each space: progress, angle to S_k, share of the gradient inside, cost."""
    if study.spaces is None:
        return says.missing("The runs in other spaces are")
    return table(
        [_space(study.spaces, name) for name in study.spaces.names()],
        note="Means over seeds, with their range. Inside, in Sₖ: alignment of Dom-SGD's full-batch "
        "gradient with the space and with Sₖ, over the last 2% of the steps. Where there are two numbers, "
        "the first is Dom-SGD's, the second Bulk-SGD's. Sines of the principal angles to Sₖ, which is "
        "certified up to a sine of 0.01, over the rows after the switch: root mean square of all, and of "
        "the largest. Work: gradients over all data per step, comparisons included. Unfinished: refreshes "
        "whose solve ended before its target.",
    )


def _space(study: SpaceStudy, name: str) -> Row:
    dom, bulk = study.of(name, "dominant"), study.of(name, "bulk")
    letters = [other for other in study.names() if other != FOLLOWED]
    followed = name == FOLLOWED
    anew = "as it turns" if followed else f"{dom[0].experiment.refresh_every:,}"
    row: Row = {
        "": "" if followed else ascii_lowercase[letters.index(name)],
        "space": name,
        "found anew": "never" if name == RANDOM else anew,
        "seeds": len(dom),
        "progress(Dom)": says.progress(study.progress(name, "dominant")),
        "progress(Bulk)": says.progress(study.progress(name, "bulk")),
        "inside": says.mean_of(study.inside(name, "dominant"), says.share),
    }
    if followed:
        return row
    sides = ("dominant", "bulk")
    return {
        **row,
        "in Sₖ": says.mean_of((tail(run, "exact_alignment") for run in dom), says.share),
        "sine, rms": ", ".join(says.number(says.mean(apart(study, name, s)), 2) for s in sides),
        "sine, largest": ", ".join(
            says.number(says.mean(widest(study, name, s)), 2) for s in sides
        ),
        "work": ", ".join(
            says.share(says.mean(map(gradients_per_step, runs))) for runs in (dom, bulk)
        ),
        "unfinished": sum(int(run.table["unconverged"].iloc[-1]) for run in (*dom, *bulk)),
    }


def apart(study: SpaceStudy, name: str, side: str) -> list[float]:
    """√(1 − mean overlap), the root mean squared sine of the principal angles to S_k, by seed."""
    overlaps = study.along(name, side, "overlap")
    return [math.sqrt(max(0.0, 1 - overlap)) for overlap in overlaps]


def widest(study: SpaceStudy, name: str, side: str) -> list[float]:
    """The root mean square over rows of the sine of the largest principal angle to S_k, by seed."""
    return [math.sqrt((run.table["sine"].iloc[1:] ** 2).mean()) for run in study.of(name, side)]
