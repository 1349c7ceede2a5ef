"""C5: stationary variances against closed forms, then C2, C3 and C4, in both problems."""

from __future__ import annotations

from dataclasses import replace

from subspace_lib.chapters.kit.noise import C4, noise_parts
from subspace_lib.chapters.kit.switch.judge import BOUNDS, part_of_pairs
from subspace_lib.chapters.valley.study import PROBLEMS, ValleyStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.evidence.verdicts import Claim, Part, Verdict, part, verdict

(C5,) = CLAIMS = (
    Claim(
        "C5",
        "A quadratic valley with noise shows the same",
        f"valley and regression: stationary variances within {criteria.CLOSED_FORM.at_most:.0%} of their "
        "closed form; C2, C3, C4 hold",
        name="the valley",
        plain=(
            "It takes no network: on a quadratic valley with noise (and, our addition, in a linear "
            "regression) SGD's gradient aligns, Dom-SGD stops and Bulk-SGD learns."
        ),
        seen="a quadratic valley shows what C2, C3 and C4 say, without a network, for some η and noise",
    ),
)
PAPERS = "valley"  # the problem that is the paper's; the regression is ours
ERRORS = {
    "valley": "largest relative error of Var x, valley",
    "dominant": "largest relative error along a dominant eigenvector, regression",
    "bulk": "relative error of the bulk's mean, regression",
}


def judge(study: ValleyStudy) -> list[Verdict]:
    """C5 on the simulations of both problems."""
    p = study.parameters
    parts = [
        part(says, [study.error(seed, of) for seed in p.seeds], criteria.CLOSED_FORM)
        for of, says in ERRORS.items()
    ]
    for problem in PROBLEMS:
        parts += _of_problem(study, problem)
    return [verdict(C5, parts, p, study.runs.values())]


def _in_regression(criterion: Criterion) -> Criterion:
    """The same bound, asked by us of a regression too: there it is no statement of the paper."""
    return replace(
        criterion,
        source=criterion.source.replace("paper: ", "own: in our regression too "),
        marks=(),
    )


def _of_problem(study: ValleyStudy, problem: str) -> list[Part]:
    where, parts = f", {problem}", []
    asked = [BOUNDS["dominant"], BOUNDS["bulk"], *C4]
    if problem != PAPERS:
        asked = [_in_regression(criterion) for criterion in asked]
    for name, criterion in zip(("Dom-SGD", "Bulk-SGD"), asked[:2], strict=True):
        pairs = list(zip(study.of(problem, "SGD"), study.of(problem, name), strict=True))
        parts.append(part_of_pairs(f"progress({name}){where}", pairs, criterion, ("SGD", name)))
    seen = [study.alignments(problem, seed) for seed in study.parameters.seeds]
    before, without, again = zip(*seen, strict=True)
    return parts + noise_parts(before, without, again, where, asked[2:])
