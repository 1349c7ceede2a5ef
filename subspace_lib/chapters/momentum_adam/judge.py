"""C8: amplification by both definitions of the effective rates, C2 and C3; heavy ball and Adam."""

from __future__ import annotations

from subspace_lib.chapters.kit.switch.judge import progress_part
from subspace_lib.chapters.momentum_adam.study import JUDGED, MomentumStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Part, Verdict, part, verdict
from subspace_lib.runs.rates import amplification

(C8,) = CLAIMS = (
    Claim(
        "C8",
        "Momentum and Adam amplify the bulk part of the update",
        f"Bulk-LR/Dom-LR {criteria.AMPLIFIED} × that of SGD, by slope and by mean; C2, C3 for both",
        name="momentum and Adam",
        plain="Momentum and Adam amplify the bulk part of the update.",
        seen="momentum and Adam amplify the bulk part of the update",
    ),
)


def judge(study: MomentumStudy) -> list[Verdict]:
    """C8 on the windows from the switch on, and on the Dom- and Bulk- versions."""
    p = study.parameters
    parts: list[Part] = []
    for optimizer in JUDGED:
        label = p.label(optimizer)
        for definition in ("slope", "mean"):
            found = [
                amplification(study.runs[label, "window", seed], definition, p.switch_step)
                / amplification(study.runs["SGD", "window", seed], definition, p.switch_step)
                for seed in p.seeds
            ]
            says = f"Bulk-LR/Dom-LR of {label} over SGD's, {definition}"
            parts.append(part(says, found, criteria.AMPLIFIED))
        switch = study.switch(optimizer)
        parts.append(progress_part(switch, "dominant"))
        parts.append(progress_part(switch, "bulk", criterion=criteria.BULK_RULES))
    return [verdict(C8, parts, p, study.runs.values())]
