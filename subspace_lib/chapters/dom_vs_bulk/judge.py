"""C2 and C3: does Dom-SGD stop, does Bulk-SGD go on?"""

from __future__ import annotations

from subspace_lib.chapters.kit.switch.judge import progress_part
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Verdict, verdict

DOM, BULK = CLAIMS = (
    Claim(
        "C2",
        "Dom-SGD stops decreasing the training loss",
        f"progress(Dom-SGD) {criteria.DOM_PROGRESS}",
        name="Dom-SGD",
        plain=(
            "Dom-SGD, which keeps only the dominant part of each update, stops decreasing the "
            "training loss."
        ),
        seen="Dom-SGD made {n} of SGD's progress after the switch",
    ),
    Claim(
        "C3",
        "Bulk-SGD is as effective as SGD",
        f"progress(Bulk-SGD) {criteria.BULK_PROGRESS}",
        name="Bulk-SGD",
        plain="Bulk-SGD, which takes that part away, is as effective as SGD.",
        seen="Bulk-SGD made {n} of SGD's progress",
    ),
)


def judge(study: SwitchStudy) -> list[Verdict]:
    """C2 and C3 on the runs of a switch study."""
    verdicts = []
    for claim, projection in ((DOM, "dominant"), (BULK, "bulk")):
        pairs = zip(study.of("none"), study.of(projection), strict=True)
        runs = [run for pair in pairs for run in pair]
        verdicts.append(verdict(claim, [progress_part(study, projection)], study.parameters, runs))
    return verdicts
