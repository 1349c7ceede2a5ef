"""Figures from the stored studies: every axis is named, nothing that is drawn is empty."""

from pathlib import Path

import numpy as np
import pytest

from subspace_lib.chapters import chapter
from subspace_lib.chapters.dominant_subspace import figures as alignment
from subspace_lib.chapters.edge_of_stability import figures as edge
from subspace_lib.chapters.full_batch_gd import figures as batches
from subspace_lib.chapters.kit.switch import figures as switch
from subspace_lib.chapters.momentum_adam import figures as momentum
from subspace_lib.chapters.sam import figures as sam
from subspace_lib.chapters.valley import figures as valley
from subspace_lib.results.store import MissingRun, Store

RESULTS = Store(Path(__file__).resolve().parent.parent / "results")
DRAWN = {
    "01_dominant_subspace": (
        alignment.outliers,
        alignment.gradients,
        alignment.by_classes,
        alignment.class_spans,
        alignment.turning,
        alignment.changes,
    ),
    "02_dom_vs_bulk": (
        switch.losses,
        switch.alignments,
        switch.spectra,
        switch.angles,
        switch.test_losses,
    ),
    "03_full_batch_gd": (
        batches.there_and_back,
        batches.single_sample_noise,
        batches.by_batch_size,
        batches.learning,
        batches.from_the_start,
    ),
    "04_valley": (
        valley.losses,
        valley.window,
        valley.there_and_back,
        valley.regression_settled,
    ),
    "05_edge_of_stability": (edge.cycles, edge.pair, edge.beyond, edge.approaches),
    "06_sam": (sam.edges, sam.ascents, sam.rhos),
    "07_momentum_adam": (
        momentum.first_steps,
        momentum.ratios,
        momentum.amplified,
        momentum.amplified_adaptive,
        momentum.transfer,
        momentum.bulk_ways,
    ),
}


def stored(name):
    """The study of a chapter from the repository's results, with the parameters that the book shows."""
    try:
        return chapter(name).study(chapter(name).parameters, RESULTS, compute=False)
    except MissingRun as error:  # its runs are not finished
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=DRAWN)
def drawn(request):
    found = stored(request.param)
    figures = [draw(found).figure for draw in DRAWN[request.param]]
    there = [figure for figure in figures if figure.axes]
    assert there
    return there  # the others say that their runs are missing


def test_every_axis_is_named_and_holds_finite_points(drawn):
    for figure in drawn:
        assert figure.axes[-1].get_xlabel()
        for axes in figure.axes:
            assert axes.get_ylabel()
            curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
            assert curves
            for line in curves:
                assert np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any()
