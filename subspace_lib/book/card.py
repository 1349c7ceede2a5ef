"""``python -m subspace_lib.book.card FILE``: figure 1 in a row, for the README and previews of links."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from subspace_lib.chapters import front
from subspace_lib.chapters.kit.names import trained
from subspace_lib.chapters.kit.style import Picture, below, styled
from subspace_lib.chapters.kit.switch.figures import loss_panel
from subspace_lib.chapters.kit.switch.study import SwitchStudy

INCHES = 10.0, 5.25  # as wide to as high as previews are shown
DPI = 120


@styled
def card(studies: Sequence[SwitchStudy]) -> Picture:
    """Training loss of SGD, Dom-SGD and Bulk-SGD, a panel a network."""
    figure = Figure(figsize=INCHES, layout="constrained")
    parts = figure.subplots(1, len(studies), squeeze=False)[0]
    for axes, study in zip(parts, studies, strict=True):
        loss_panel(axes, study)
        axes.locator_params(axis="x", nbins=3)
        axes.set(title=trained(study.parameters.model, study.parameters.dataset), xlabel="step")
    for axes in parts[1:]:
        axes.set_ylabel("")
    below(figure, *parts)
    return Picture(figure, "Training loss over steps")


def main(arguments: Sequence[str]) -> None:
    """Draw it from the stored results; without them there is nothing to draw."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.book.card", description=main.__doc__
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a PNG to write")
    file = parser.parse_args(arguments).file
    study = front.main_study()
    if study is None:
        sys.exit("The runs of the main picture are not stored; make results computes them.")
    file.write_bytes(card([study, *front.other_studies()]).png(DPI))


if __name__ == "__main__":
    main(sys.argv[1:])
