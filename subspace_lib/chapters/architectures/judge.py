"""C2b, C3b, C2c, C3c: chapter 02's claims on the paper's two other networks."""

from __future__ import annotations

from subspace_lib.chapters.architectures.study import ArchitecturesStudy
from subspace_lib.chapters.kit.switch.judge import progress_part
from subspace_lib.chapters.kit.switch.panel import label
from subspace_lib.evidence import criteria
from subspace_lib.evidence.verdicts import Claim, Verdict, verdict

NAMES = {"b": "the CNN on CIFAR10-5k", "c": "the Transformer on SST2-1k"}
OF = {"b": ("cnn", "cifar10_5k"), "c": ("transformer", "sst2_1k")}
SIDES = {"2": "dominant", "3": "bulk"}  # by the claim's number


def _dom(letter: str) -> Claim:
    where = NAMES[letter]
    return Claim(
        f"C2{letter}",
        f"Dom-SGD stops decreasing the training loss: {where}",
        f"progress(Dom-SGD) {criteria.DOM_PROGRESS}",
        name=f"Dom-SGD, {where}",
        plain=f"The same for {where}: the dominant part of each update alone does not lower the loss.",
        seen=f"with {where} Dom-SGD made {{n}} of SGD's progress",
    )


def _bulk(letter: str) -> Claim:
    where = NAMES[letter]
    return Claim(
        f"C3{letter}",
        f"Bulk-SGD is as effective as SGD: {where}",
        f"progress(Bulk-SGD) {criteria.BULK_PROGRESS}",
        name=f"Bulk-SGD, {where}",
        plain=f"The same for {where}: without the dominant part of each update it learns as with it.",
        seen=f"with {where} Bulk-SGD made {{n}} of SGD's progress",
    )


CLAIMS = tuple(make(letter) for letter in NAMES for make in (_dom, _bulk))


def judge(study: ArchitecturesStudy) -> list[Verdict]:
    """Two verdicts for each panel that is there."""
    verdicts = []
    for claim in CLAIMS:
        panel = study.panels.get(claim.id[-1])
        if panel is None:
            continue
        side = SIDES[claim.id[1]]
        runs = [run for pair in zip(panel.of("none"), panel.of(side), strict=True) for run in pair]
        part = progress_part(panel, side)
        note = [panel.note()]
        if (panel.parameters.model, panel.parameters.dataset) != OF[claim.id[-1]]:
            note.insert(0, f"Judged here on {label(panel)}.")
        told = " ".join(filter(None, note))
        verdicts.append(verdict(claim, [part], panel.parameters, runs, told))
    return verdicts
