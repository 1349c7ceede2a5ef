"""What the figures of chapter 11 show, in words that their numbers choose."""

from __future__ import annotations

import math

import pandas as pd
from IPython.display import Markdown
from torch import Tensor

from subspace_lib.chapters.curvature import tables
from subspace_lib.chapters.curvature.dense import DATA, STEPS, THRESHOLDS, K, compared
from subspace_lib.chapters.curvature.judge import judge
from subspace_lib.chapters.curvature.study import CurvatureStudy
from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.names import title
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import FAILS, HOLDS
from subspace_lib.linalg.quadrature import mean_error

SO = {
    HOLDS: "So there the dominant subspace is that of the Gauss–Newton matrix.",
    FAILS: "So there the dominant subspace is not that of the Gauss–Newton matrix alone.",
}
MOST = 0.9  # mean squared cosine from which on a space is said to lie in another
EDGE = 0.01  # of λ₁: eigenvalues below minus that are said to be negative


def opening(study: CurvatureStudy) -> Markdown:
    """The chapter's answer: overlap and alignments at the last anchor."""
    end, last = study.at_end, study.parameters.anchors[-1]
    found = {name: says.mean_of(end("alignment", name), says.share) for name in ("H", "G", "F")}
    word = page.word(judge(study)[0], study.parameters)
    return page.told(
        study.parameters,
        f"**{word}.** At step {last:,} the leading spaces of the Hessian and of the "
        f"Gauss–Newton matrix overlap by {says.mean_of(end('overlap', 'G'), says.share)} (mean squared "
        f"cosine; needed {criteria.Q7_OVERLAP}). The alignment of the gradient with the Gauss–Newton "
        f"space is {found['G']} (needed {criteria.Q7_ALIGNED}), with the Hessian's {found['H']}, with that "
        f"of the functional part {found['F']}. {says.over(len(study.runs))}",
        SO.get(word.removeprefix("Q7, "), ""),
    )


@says.known
def spectrum(study: CurvatureStudy) -> Markdown:
    """How many eigenvalues the densities count above the cut and below zero, PyHessian's beside it."""
    anchor, k = study.looked()[-1], study.parameters.k
    dim, cut = study.dim, study.cut(anchor, "H")
    ours, other = study.density(anchor, "H"), study.density(anchor, "G")
    below = -EDGE * float(ours.nodes.max())
    negative = [_with_error(dim * (d.moment(0) - d.share_above(below))) for d in (ours, other)]
    told = [
        f"At step {anchor:,}, first seed: of the Hessian's {dim:,} eigenvalues {negative[0]} are counted "
        f"below −{says.percent(EDGE)} of λ₁, and {negative[1]} of the Gauss–Newton matrix's. (With a "
        "convex loss that matrix has no negative eigenvalue.)"
    ]
    if math.isfinite(cut):
        above = _with_error(dim * ours.share_above(cut))
        between = f"between {says.eigenvalue(k)} and {says.eigenvalue(k + 1)}"
        told.append(f"Above the cut {between} the density counts {above}; the solver found {k}.")
    told.append("Errors: standard errors over probes.")
    if study.parameters.pyhessian and anchor == study.parameters.anchors[-1]:
        theirs = study.density(anchor, "PyHessian")
        top = [says.number(float(found.nodes.max())) for found in (theirs, ours)]
        traces = [dim * found.moment(1) for found in (theirs, ours)]
        trace = [_with_error(values) for values in traces]
        told.append(
            f"The largest Ritz value is {top[0]} with PyHessian and {top[1]} with ours; the trace "
            f"{trace[0]} with PyHessian and {trace[1]} with ours{_apart(*traces)}."
        )
    return says.answer(*told)


def against_dense(study: CurvatureStudy) -> Markdown:
    """How far a density of as many probes and steps is from a spectrum that is known as a whole."""
    found = compared(study.parameters)
    dim, density = len(found.values), found.found
    return says.answer(
        f"An MLP of {dim} parameters is trained on {title(DATA)}, a part of scikit-learn's digits, for "
        f"{STEPS} steps, and all eigenvalues of its Hessian are computed. Of these {K} lie above the cut "
        f"between {says.eigenvalue(K)} and {says.eigenvalue(K + 1)}; the density, of as many probes and "
        f"steps as above, counts {_with_error(dim * density.share_above(found.cut))}.",
        f"The trace is {says.number(float(found.values.sum()))}, by the density "
        f"{_with_error(dim * density.moment(1))}.",
        f"In each of the {THRESHOLDS} widest gaps of the exact spectrum the eigenvalues above it are "
        f"counted and compared with the density's count: the two differ by {says.percent(found.off())} of "
        "all eigenvalues at most.",
        f"The largest eigenvalue is {says.number(float(found.values[0]), 5)}, the largest Ritz value "
        f"{says.number(float(density.nodes.max()), 5)}.",
    )


def _with_error(values: Tensor) -> str:
    error = f" ± {says.number(float(mean_error(values)), 2)}" if len(values) > 1 else ""
    return says.number(float(values.mean())) + error


def _apart(first: Tensor, second: Tensor) -> str:
    """How many standard errors of their difference two means are apart."""
    if min(len(first), len(second)) < 2:
        return ""
    error = math.hypot(*(float(mean_error(values)) for values in (first, second)))
    apart = abs(float(first.mean() - second.mean())) / error if error else math.nan
    return f", {says.number(apart, 2)} standard errors of the difference apart"


def evolution(study: CurvatureStudy) -> Markdown:
    """How the largest eigenvalue moves between the anchors."""
    means = study.over_anchors("eigenvalue", "H", 1).mean(axis=1)
    return says.answer(
        _moved("λ₁ of the Hessian", means),
        f"{says.eigenvalue(study.parameters.k + 1)} in the table is an estimate from below, which may be "
        "far too low; chapter 01 has full spectra.",
        table=tables.values(study),
    )


def _moved(name: str, means: pd.Series) -> str:
    """From the first anchor to the last, by the lowest or highest between where that lies beyond both."""
    told = f"{name} {says.moves(float(means.iloc[0]), float(means.iloc[-1]))}"
    for value, step, word in (
        (float(means.min()), means.idxmin(), "lowest"),
        (float(means.max()), means.idxmax(), "highest"),
    ):
        if step not in means.index[[0, -1]]:
            told += f"; it is {word}, {says.number(value)}, at step {step:,}"
    return f"{told}."


def spaces(study: CurvatureStudy) -> Markdown:
    """The overlap over the steps, and whose the curvature in the Hessian's space is."""
    overlap = study.over_anchors("overlap", "G").mean(axis=1).dropna()
    share = says.mean_of(study.at_end("curvature_share", "G"), says.percent)
    told = [f"At the end {share} of the curvature in the Hessian's space is that of G."]
    if len(overlap):
        first, last = overlap.index[[0, -1]]
        told.append(
            f"The overlap of the spaces of H and G {says.moves(overlap[first], overlap[last], says.share)} "
            f"between step {first:,} and step {last:,}; it is least at step {overlap.idxmin():,}, with "
            f"{says.share(overlap.min())}."
        )
    return says.answer(*told, table=tables.spaces(study))


def layers(study: CurvatureStudy) -> Markdown:
    """Where most of the mass is at the end, and where it is densest for its number of parameters."""
    shares = study.masses()
    last, size = shares.iloc[-2].to_dict(), shares.iloc[-1].to_dict()
    if not all(map(math.isfinite, last.values())):
        return says.missing("Dominant eigenvectors are")
    most, dense = (
        max(last, key=last.__getitem__),
        max(last, key=lambda name: last[name] / size[name]),
    )
    rows = shares.iloc[:-2].to_dict("index")
    earlier = [(float(x), n, name) for n, row in rows.items() for name, x in row.items() if x == x]
    share, step, name = max(earlier, default=(0.0, 0, most))
    told = (
        f"At step {step:,}, {says.percent(share)} of the dominant eigenvectors' squared mass lies in "
        f"`{name}`."
        if name != most
        else ""
    )
    return says.answer(
        told,
        f"At the end, {says.percent(last[most])} of the dominant eigenvectors' squared mass lies in "
        f"`{most}`, which has {says.percent(size[most])} of the parameters. For its size `{dense}` has "
        f"most: {says.percent(last[dense])} of the mass, {says.number(last[dense] / size[dense], 2)} times "
        "its share of the parameters.",
        _shifted(shares.iloc[:-1].dropna()),
    )


def _shifted(shares: pd.DataFrame) -> str:
    """Which parameter's share of the mass rises most from the first anchor to the last, and which falls."""
    if len(shares) < 2:
        return ""
    first, last = shares.iloc[0].astype(float), shares.iloc[-1].astype(float)
    change = last - first
    up, down = (
        f"`{name}` {says.moves(first[name], last[name], says.percent)}"
        for name in map(str, (change.idxmax(), change.idxmin()))
    )
    return (
        f"Between the first point and the last the mass in {up}, the largest rise; that in {down}, the "
        "largest fall."
    )


def classes(study: CurvatureStudy) -> Markdown:
    """How much of the space of H, and of that of G, what the classes span holds at the end."""
    spans = {
        title: f"{says.mean_of(study.at_end(quantity, 'H'), says.share)} of H's space and "
        f"{says.mean_of(study.at_end(quantity, 'G'), says.share)} of G's"
        for title, quantity in tables.SPANS.items()
    }
    told = "; ".join(f"{title}: {value}" for title, value in spans.items())
    held = {title: says.mean(study.at_end(name, "H")) for title, name in tables.SPANS.items()}
    whole = [title for title, value in held.items() if value >= MOST]
    return says.answer(
        f"At step {study.parameters.anchors[-1]:,} (mean squared cosines; 1 where one holds the other): "
        f"{told}.",
        f"So the Hessian's dominant space lies in what these span: {says.listed(whole)}."
        if whole
        else "So none of them spans the Hessian's dominant space.",
        table=tables.classes(study),
    )
