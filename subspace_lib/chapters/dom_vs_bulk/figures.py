"""The figure of chapter 02 beside those of every switch study."""

from __future__ import annotations

import numpy as np

from subspace_lib.chapters.dom_vs_bulk.study import DomBulkStudy
from subspace_lib.chapters.kit.style import CYCLE, INK, Picture, below, panels, styled, waiting
from subspace_lib.evidence import criteria

MARKERS = ("o", "s", "^")
BOUNDS = {  # what each quantity is judged by where it is judged
    "late alignment": criteria.ALIGNED.at_least,
    "late λₖ/λₖ₊₁": criteria.GAP.at_least,
    "progress(Dom-SGD)": criteria.DOM_PROGRESS.at_most,
    "progress(Bulk-SGD)": criteria.BULK_PROGRESS.at_least,
    "alignment before GD (C4)": criteria.ALIGNED_BEFORE.at_least,
    "under GD (C4)": criteria.UNALIGNED.at_most,
    "under SGD again (C4)": criteria.ALIGNED_AGAIN.at_least,
}


@styled
def settings(study: DomBulkStudy) -> Picture:
    """C1's to C4's quantities, a row each, a marker a setting; bars: what the criteria ask for."""
    if not study.settings:
        return waiting("The runs with other settings are")
    figure, (axes,) = panels(1, height=4.2)
    rows = np.arange(len(BOUNDS))
    axes.vlines(list(BOUNDS.values()), rows - 0.4, rows + 0.4, color=INK, lw=1)
    for i, (label, setting) in enumerate(study.settings.items()):
        found = setting.quantities()
        values, places = [found[name] for name in BOUNDS], rows + 0.2 * (i - 1)
        axes.plot(values, places, MARKERS[i], color=CYCLE[i], ms=6, label=label)
    axes.set_yticks(rows, list(BOUNDS))
    axes.set_ylim(len(BOUNDS) - 0.5, -0.5)
    axes.set(xlabel="value; bar: criterion", ylabel="quantity of C1 to C4")
    below(figure, axes)
    says = (
        f"Quantities of C1 to C4 by pixels and learning rate, seed {study.parameters.setting_seed}"
    )
    return Picture(figure, says)
