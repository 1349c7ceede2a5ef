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
from subspace_lib.chapters.sam.study import SamParameters
from subspace_lib.chapters.valley import figures as valley, tables as valley_tables
from subspace_lib.chapters.valley.study import ValleyParameters
from subspace_lib.results.store import Store

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
        valley.plane,
        valley.losses,
        valley.there_and_back,
        valley.batch_sizes,
        valley.settled,
        valley.moments,
        valley.regression_settled,
    ),
    "05_edge_of_stability": (edge.cycles, edge.rates, edge.pair),
    "06_sam": (sam.edges, sam.ascents, sam.rhos),
    "07_momentum_adam": (
        momentum.ratios,
        momentum.amplified,
        momentum.amplified_adaptive,
        momentum.transfer,
        momentum.bulk_adam,
    ),
}


def stored(name):
    """The study of a chapter from the repository's results, with the parameters that the book shows."""
    return chapter(name).study(chapter(name).parameters, RESULTS, compute=False)


@pytest.fixture(scope="module", params=DRAWN)
def drawn(request):
    found = stored(request.param)
    return [draw(found).figure for draw in DRAWN[request.param]]


def test_every_axis_is_named_and_holds_finite_points(drawn):
    for figure in drawn:
        assert figure.axes[-1].get_xlabel()
        for axes in figure.axes:
            assert axes.get_ylabel()
            curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
            assert curves
            for line in curves:
                assert np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any()


@pytest.mark.slow  # the quick notebook of chapter 06, part of .ci/run, goes the same way
def test_a_sam_study_from_parameters_to_figures(tmp_path):
    """All of it at the smallest size: SAM, Dom-SAM and Bulk-SAM in both regimes, another ρ, verdict."""
    parameters = SamParameters(
        dataset="digits",
        k=2,
        seeds=(0,),
        target_angle=0.5,
        edge_target_angle=0.5,
        refresh_every=4,
        steps=8,
        switch_step=4,
        record_every=4,
        spectrum_every=400,
        rhos=(0.1,),
        edge_steps=8,
        edge_switch_step=4,
        edge_record_every=2,
        edge_seeds=(0,),
    )
    study = chapter("06_sam").study
    found = study(parameters, Store(tmp_path))
    assert {run.experiment.batch_size for run in found.edge.trajectories.values()} == {1500}
    assert sorted(found.rhos) == [0.02, 0.1]
    assert found.minibatch.name("bulk") == "Bulk-SAM"
    (c7,) = chapter("06_sam").judge(found)
    assert c7.verdict == "inconclusive" and len(c7.parts) == 4  # one seed
    for draw in DRAWN["06_sam"]:
        assert all(axes.get_ylabel() for axes in draw(found).figure.axes)
    again = study(parameters, Store(tmp_path), compute=False)
    assert again.rhos.keys() == found.rhos.keys()


def test_a_valley_study_from_parameters_to_figures_and_tables(tmp_path):
    """All of it at the smallest size, with one seed and fewer values."""
    parameters = ValleyParameters(
        seeds=(3,),
        steps=300,
        switch_step=50,
        full_steps=50,
        paths=20,
        batch_sizes=(10,),
        settle_paths=200,
        sharpnesses=(0.5, 1.0),
        crosses=(3.0, 10.0),
        distances=(0.1, 1.0),
        dimension=12,
        samples=60,
        outliers=3,
        regression_steps=150,
        regression_switch_step=40,
        regression_full_steps=40,
        regression_paths=4,
        regression_settle_paths=20,
        regression_batch_sizes=(40,),
    )
    study, judge = chapter("04_valley").study, chapter("04_valley").judge
    found = study(parameters, Store(tmp_path))
    (c5,) = judge(found)
    assert c5.verdict == "inconclusive" and len(c5.parts) == 15  # one seed
    for draw in DRAWN["04_valley"]:
        assert all(axes.get_ylabel() for axes in draw(found).figure.axes)
    assert valley_tables.times(found).data.count("|\n") == 4
    again = study(parameters, Store(tmp_path), compute=False)
    assert judge(again) == [c5]


def test_the_alignments_of_chapter_04_are_means_over_the_last_rows():
    found = stored("04_valley")
    frame = valley.alignment_table(found, "regression").set_index(["batch", "seed"])
    table = found.runs["regression", 2].table
    rows = table[
        (table["case"] == "batch 40")
        & (table["quantity"] == "alignment")
        & (table["index"] >= 1960)
    ]
    assert len(rows) == 5
    assert frame.loc[(40, 2), "mean of χ"] == pytest.approx(rows["value"].mean())
    assert frame.loc[("full", 0), "predicted"] == 0


def test_three_seeds_that_agree_are_drawn(monkeypatch):
    """The mean of three times 0.1 is above 0.1 by a rounding error."""
    found = stored("04_valley")
    monkeypatch.setattr(type(found), "predicted_alignment", lambda *_: 0.1)
    for axes in valley.batch_sizes(found).figure.axes:
        assert list(axes.lines[0].get_ydata()) == pytest.approx([0.1] * 5)


def test_the_alignment_after_the_branch_is_the_mean_of_its_rows():
    """Against the stored tables, by hand."""
    found = stored("03_full_batch_gd")
    frame = batches.alignment_by_size(found).set_index(["batch", "seed"])
    table = found.sizes[250, 1].table
    rows = [a for s, a in zip(table["step"], table["alignment"], strict=True) if 3100 < s <= 5000]
    assert frame.loc[(250, 1), "after the branch"] == pytest.approx(sum(rows) / len(rows))
    assert frame["predicted"].between(0, 1).all()
