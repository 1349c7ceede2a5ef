"""Q4: does Bulk-SGD do as well as SGD on data that neither has seen?"""

from __future__ import annotations

from subspace_lib.chapters.generalization.study import GeneralizationStudy, at_loss, reached
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import FINDING, Claim, Verdict, part, verdict
from subspace_lib.trajectory import tail

CLAIMS = (
    Claim(
        "Q4",
        "Bulk-SGD generalizes as SGD does: what it leaves out is not needed for that",
        f"test accuracy (0 to 1) of Bulk-SGD minus that of SGD, at equal steps, {criteria.Q4_ACCURACY}; "
        f"its test loss over SGD's, at equal training loss, {criteria.Q4_LOSS}",
        name="generalization",
        plain=(
            "On the MLP Bulk-SGD generalizes as SGD does: for test loss and test accuracy the part of the "
            "update that it leaves out is not needed."
        ),
        seen="the test accuracy (0 to 1) of Bulk-SGD minus that of SGD is {n} on the MLP",
        kind=FINDING,
    ),
)


def judge(study: GeneralizationStudy) -> list[Verdict]:
    """Judged is SGD on the network that the parameters name; the groups beside it are shown."""
    names = study.name("bulk"), study.name("none")
    parts = [
        part(
            f"test accuracy (0 to 1) of {names[0]} minus that of {names[1]}, at the end",
            ahead(study, "bulk"),
            criteria.Q4_ACCURACY,
        ),
        part(
            f"test loss of {names[0]} over that of {names[1]}, at equal training loss",
            at_equal_loss(study),
            criteria.Q4_LOSS,
        ),
    ]
    runs = study.trajectories.values()
    return [verdict(CLAIMS[0], parts, study.parameters, runs, study.note())]


def ahead(study: SwitchStudy, side: str, column: str = "test_accuracy") -> list[float]:
    """The branch's mean over the last 2% of the steps less X's, one number per seed; NaN if it diverged."""
    pairs = zip(study.of("none"), study.of(side), strict=True)
    return [
        tail(branch, column) - tail(plain, column)
        if plain.complete and branch.complete
        else float("nan")
        for plain, branch in pairs
    ]


def at_equal_loss(study: SwitchStudy, side: str = "bulk") -> list[float]:
    """Test loss of the branch over X's where both have the training loss of the one that ends higher."""
    found = []
    for plain, branch in zip(study.of("none"), study.of(side), strict=True):
        level = max(reached(plain), reached(branch))
        found.append(at_loss(branch, "test_loss", level) / at_loss(plain, "test_loss", level))
    return found
