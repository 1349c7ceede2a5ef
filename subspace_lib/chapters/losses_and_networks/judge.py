"""Q1: does what C2 and C3 say hold with cross-entropy, and does the loss rise under Dom-SGD?"""

from __future__ import annotations

from dataclasses import replace

from subspace_lib.chapters.kit.switch.judge import progress_part
from subspace_lib.chapters.kit.switch.panel import (
    angle_in_use,
    angles_in_use,
    not_near,
    unresolved as vague,
)
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.losses_and_networks.study import LossesStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import DESCRIPTIVE, FINDING, Claim, Part, Verdict, part, verdict
from subspace_lib.trajectory import tail_loss

CLAIMS = (
    Claim(
        "Q1",
        "With cross-entropy Dom-SGD's loss rises, and Bulk-SGD learns as SGD does",
        f"with cross-entropy, three seeds: progress(Dom-SGD) {criteria.Q1_DOM} (it does not learn) and "
        f"{criteria.Q1_RISES} (its loss rises); progress(Bulk-SGD) {criteria.Q1_BULK}; other "
        "cases are shown, not judged",
        name="other losses and networks",
        plain=(
            "With cross-entropy the loss of Dom-SGD rises, and Bulk-SGD still learns as SGD does. Deeper "
            "networks are shown beside it where their runs are finished."
        ),
        seen="with cross-entropy Dom-SGD made {n} of SGD's progress",
        kind=FINDING,
    ),
)
CROSS_ENTROPY = "cross_entropy"
IN_USE = "sine of the angle of the basis in use by Dom-SGD, median over rows"
MOVED = "loss of Dom-SGD at the end, over that at the switch"


def judge(study: LossesStudy) -> list[Verdict]:
    """Judged are the cases with cross-entropy that are asked of seeds enough; the others are shown."""
    asked = study.parameters.cases()
    judged: list[Part] = []
    shown: list[Part] = []
    beside: list[Part] = []
    for name, case in study.cases.items():
        where, p = f", {name}", case.parameters
        if p.loss == CROSS_ENTROPY and len(asked[name].seeds) >= criteria.MINIMUM_SEEDS:
            judged += [
                progress_part(case, "dominant", where, criteria.Q1_DOM),
                progress_part(case, "dominant", f" as a rise{where}", criteria.Q1_RISES),
                progress_part(case, "bulk", where, criteria.Q1_BULK),
            ]
            in_use = [angle_in_use(run) for run in case.of("dominant")]
            beside.append(part(f"{MOVED}{where}", _moved(case), None))
            beside.append(part(f"{IN_USE}{where}", in_use, None))
        else:
            shown += [_shown(progress_part(case, side, where)) for side in ("dominant", "bulk")]
    runs = [run for case in study.cases.values() for run in case.trajectories.values()]
    notes = [f"{name}: {told}" for name, case in study.cases.items() if (told := case.note())]
    parts = [*judged, *beside, *shown]
    return [verdict(CLAIMS[0], parts, study.parameters, runs, _note(study, notes))]


def _note(study: LossesStudy, switches: list[str]) -> str:
    """What a reader must know: fallbacks, which bases were not certain, which cases are missing."""
    lacking = [name for name in study.parameters.cases() if name not in study.cases]
    missing = f"The runs of these are not finished: {'; '.join(lacking)}." if lacking else ""
    return " ".join(filter(None, [*switches, unresolved(study), missing]))


def unresolved(study: LossesStudy) -> str:
    """In which cases the space that was used is not known to be near the dominant subspace."""
    sines = {name: angles_in_use(case) for name, case in study.cases.items()}
    return not_near(vague(sines, study.parameters.target_angle))


def _moved(case: SwitchStudy) -> list[float]:
    runs = case.of("dominant")
    return [tail_loss(run) / float(run.table["train_loss"].iloc[0]) for run in runs]


def _shown(part: Part) -> Part:
    """The part without its criterion."""
    return replace(part, verdict=DESCRIPTIVE, criterion="none", source="", date="", known_from="")
