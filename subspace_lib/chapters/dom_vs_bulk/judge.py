"""C2 and C3: does Dom-SGD stop, does Bulk-SGD go on? F6: what of C1 to C4 the uncertain settings change."""

from __future__ import annotations

from subspace_lib.chapters.dom_vs_bulk.study import DomBulkStudy
from subspace_lib.chapters.kit.switch.judge import progress_part
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import FINDING, Claim, Verdict, part, verdict

C2, C3, F6 = CLAIMS = (
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
    Claim(
        "F6",
        "What C1 to C4 would be with standardized pixels, or at 2η",
        "descriptive, no verdict; one seed",
        name="uncertain settings",
        plain=(
            "Two settings of the paper are uncertain: how the pixels are scaled, and a factor ½ in the "
            "loss, which is a factor 2 in η. What the other choice gives is shown, not judged."
        ),
        seen="the uncertain settings are shown with either choice",
        kind=FINDING,
    ),
)


def judge(study: DomBulkStudy) -> list[Verdict]:
    """C2 and C3 on the runs of the switch study; F6 where its runs are there."""
    verdicts = []
    for claim, projection in ((C2, "dominant"), (C3, "bulk")):
        pairs = zip(study.of("none"), study.of(projection), strict=True)
        runs = [run for pair in pairs for run in pair]
        parts = [progress_part(study, projection)]
        verdicts.append(verdict(claim, parts, study.parameters, runs, study.note()))
    return [*verdicts, settings_verdict(study)] if study.settings else verdicts


def settings_verdict(study: DomBulkStudy) -> Verdict:
    """F6: every quantity of every setting."""
    parts = [
        part(f"{name}, {label}", [value], None)
        for label, setting in study.settings.items()
        for name, value in setting.quantities().items()
    ]
    runs = [run for setting in study.settings.values() for run in setting.runs()]
    notes = {label: setting.switch.note() for label, setting in study.settings.items()}
    note = " ".join(f"{label}: {says}" for label, says in notes.items() if says)
    return verdict(F6, parts, study.parameters, runs, note)
