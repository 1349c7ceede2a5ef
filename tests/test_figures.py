"""Figures from the stored studies: every axis is named, nothing that is drawn is empty."""

from pathlib import Path

import numpy as np
import pytest

from subspace_lib import claims, figures, notebook
from subspace_lib.store import Store
from subspace_lib.studies import BOOK
from subspace_lib.studies.sam import SamParameters, sam_study
from subspace_lib.studies.toy import ToyParameters, toy_study

ROOT = Path(__file__).resolve().parent.parent
DRAWN = {
    "01_dominant_subspace": (
        figures.outliers, figures.gradients, figures.by_classes, figures.class_spans,
        figures.turning, figures.changes,
    ),
    "02_dom_vs_bulk": (
        figures.losses, figures.alignments, figures.spectra, figures.angles, figures.test_losses,
    ),
    "03_full_batch_gd": (
        figures.there_and_back, figures.single_sample_noise, figures.by_batch_size,
        figures.learning, figures.from_the_start,
    ),
    "04_valley": (
        figures.valley_plane, figures.toy_losses, figures.toy_there_and_back, figures.toy_batch_sizes,
        figures.valley_settled, figures.valley_moments, figures.regression_settled,
    ),
    "05_edge_of_stability": (figures.cycles, figures.rates, figures.valley),
    "06_sam": (figures.edges, figures.ascents, figures.rhos),
    "07_momentum_adam": (
        figures.ratios, figures.amplified, figures.amplified_adaptive,
        figures.transfer, figures.bulk_adam,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=DRAWN)
def drawn(request):
    study = claims.JUDGES[request.param][0]
    found = study(BOOK[request.param], Store(ROOT / "results"), compute=False)
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


def test_a_sam_study_from_parameters_to_figures(tmp_path):
    """All of it at the smallest size: SAM, Dom-SAM and Bulk-SAM in both regimes, another ρ, verdict."""
    parameters = SamParameters(
        dataset="digits", k=3, seeds=(0,), target_angle=0.3, edge_target_angle=0.3, refresh=4,
        steps=16, switch_step=8, record_every=4, spectrum_every=400, rhos=(0.1,),
        edge_steps=12, edge_switch_step=6, edge_record_every=3, edge_seeds=(0,),
    )  # fmt: skip
    found = sam_study(parameters, Store(tmp_path))
    assert {run.experiment.batch_size for run in found.edge.trajectories.values()} == {1500}
    assert sorted(found.rhos) == [0.02, 0.1]
    assert found.minibatch.name("bulk") == "Bulk-SAM"
    (c7,) = claims.judge_sam(found)
    assert c7.verdict == "inconclusive" and len(c7.parts) == 4  # one seed
    for draw in (figures.edges, figures.ascents, figures.rhos):
        assert all(axes.get_ylabel() for axes in draw(found).figure.axes)
    again = sam_study(parameters, Store(tmp_path), compute=False)
    assert again.rhos.keys() == found.rhos.keys()


def test_a_toy_study_from_parameters_to_figures_and_tables(tmp_path):
    """All of it at the smallest size, with one seed and fewer values."""
    parameters = ToyParameters(
        seeds=(3,), steps=300, switch_step=50, full_steps=50, paths=20, batch_sizes=(10,), settle_paths=200,
        sharpnesses=(0.5, 1.0), crosses=(3.0, 10.0), distances=(0.1, 1.0), dimension=12, samples=60,
        outliers=3, regression_steps=150, regression_switch_step=40, regression_full_steps=40,
        regression_paths=4, regression_settle_paths=20, regression_batch_sizes=(40,),
    )  # fmt: skip
    found = toy_study(parameters, Store(tmp_path))
    (c5,) = claims.judge_toy(found)
    assert c5.verdict == "inconclusive" and len(c5.parts) == 15  # one seed
    for draw in DRAWN["04_valley"]:
        assert all(axes.get_ylabel() for axes in draw(found).figure.axes)
    assert notebook.valley_times(found).data.count("|\n") == 4
    again = toy_study(parameters, Store(tmp_path), compute=False)
    assert claims.judge_toy(again) == [c5]


def test_the_toys_alignments_are_means_over_the_last_rows():
    found = claims.JUDGES["04_valley"][0](BOOK["04_valley"], Store(ROOT / "results"), compute=False)
    frame = figures.toy_alignment(found, "regression").set_index(["batch", "seed"])
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
    found = claims.JUDGES["04_valley"][0](BOOK["04_valley"], Store(ROOT / "results"), compute=False)
    monkeypatch.setattr(type(found), "predicted_alignment", lambda *_: 0.1)
    for axes in figures.toy_batch_sizes(found).figure.axes:
        assert list(axes.lines[0].get_ydata()) == pytest.approx([0.1] * 5)


def test_the_alignment_after_the_branch_is_the_mean_of_its_rows():
    """Against the stored tables, by hand."""
    found = claims.JUDGES["03_full_batch_gd"][0](
        BOOK["03_full_batch_gd"], Store(ROOT / "results"), compute=False
    )
    frame = figures.alignment_by_size(found).set_index(["batch", "seed"])
    table = found.sizes[250, 1].table
    rows = [a for s, a in zip(table["step"], table["alignment"], strict=True) if 3100 < s <= 5000]
    assert frame.loc[(250, 1), "after the branch"] == pytest.approx(sum(rows) / len(rows))
    assert frame["predicted"].between(0, 1).all()
