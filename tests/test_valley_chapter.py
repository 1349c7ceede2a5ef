"""Chapter 04 from parameters to verdict, figures and answer; its judge on made-up simulations."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from subspace_lib.chapters import valley
from subspace_lib.chapters.valley import answers, figures, tables
from subspace_lib.chapters.valley.study import ValleyParameters, ValleyStudy, valley_study
from subspace_lib.results.store import Store
from subspace_lib.runs.simulation import case_of
from subspace_lib.theory.valley import Valley
from subspace_lib.trajectory import Trajectory

RESULTS = Store(Path(__file__).resolve().parent.parent / "results")
FIGURES = (figures.losses, figures.window, figures.there_and_back, figures.regression_settled)
SMALL = ValleyParameters(
    seeds=(3,),
    learning_rate=5e-4,
    cross=20.0,
    steps=1200,
    switch_step=100,
    record_every=10,
    paths=20,
    sharpnesses=(0.5, 1.0),
    crosses=(3.0, 10.0),
    settle_paths=100,
    dimension=12,
    samples=60,
    outliers=3,
    regression_steps=1000,
    regression_switch_step=100,
    regression_paths=4,
    regression_settle_paths=20,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A study of one seed at the smallest size, and its store."""
    store = Store(tmp_path_factory.mktemp("store"))
    return valley_study(SMALL, store), store


def test_a_study_from_parameters_to_verdict_and_figures(small):
    found, store = small
    (c5,) = valley.judge(found)
    assert c5.verdict == "inconclusive" and len(c5.parts) == 13  # one seed
    assert all(part.measured is not None for part in c5.parts)
    for draw in FIGURES:
        assert all(axes.get_ylabel() for axes in draw(found).figure.axes)
    assert valley.judge(valley_study(SMALL, store, compute=False)) == [c5]


def test_the_answer_has_the_runs_numbers_and_the_closed_form(small):
    found, _ = small
    told = tables.answer(found).data + answers.window(found).data
    assert f"is {Valley(cross=20.0).bulk_progress(5e-4):.3f}." in told
    assert f"that of Bulk-SGD {found.progresses('regression', 'Bulk-SGD')[0]:.3f} (its loss" in told
    swept = found.values("valley", 3, case_of(0.5), "progress")[10.0]
    assert f"{swept:.2f} at η = 0.0005" in told
    assert " -" not in told  # a minus is no hyphen


def test_the_alignments_are_means_over_c4s_windows(small):
    """By hand, on the stored table."""
    found, _ = small
    table = found.runs["valley", 3].table.query("quantity == 'alignment'")

    def mean(case, first, last):
        rows = table[(table["case"] == case) & table["index"].between(first, last)]
        assert len(rows) == last - first + 1
        return rows["value"].mean()

    # GD takes 10/ηκ = 20 steps; its last tenth is 2 of them, with both ends
    expected = mean("start", 0, 99), mean("GD", 118, 120), mean("back", 1021, 1120)
    assert found.alignments("valley", 3) == pytest.approx(expected)


def test_the_stored_simulations_lie_on_the_closed_form():
    """What the figure of the window draws, against the formula once more."""
    found = valley_study(ValleyParameters(), RESULTS, compute=False)
    axes = figures.window(found).figure.axes[0]
    points = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert len(points) > 10
    for line in points:
        a, progress = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        np.testing.assert_allclose(progress, 1 / (1 + a), atol=0.05)


def made_up(changed=(("SGD", "train_loss"), 0.1), of="valley"):
    """Both problems as they should be, one number of one of them changed: ((case, quantity), value)."""
    p = ValleyParameters(outliers=2, sharpnesses=(0.5,), crosses=(3.0,))
    good = {("start", "alignment"): 0.9, ("GD", "alignment"): 0.01, ("back", "alignment"): 0.9}
    good |= {("SGD", "train_loss"): 0.1, ("Dom-SGD", "train_loss"): 1.0}
    good |= {("Bulk-SGD", "train_loss"): 0.12, ("SGD", "steep"): 1.0}
    good |= {(case, "variance"): 1.01 for case in ("ηκ = 0.5", "dominant", "bulk")}
    runs = {}
    for problem in ("valley", "regression"):
        values = good | (dict([changed]) if problem == of else {})
        for seed in p.seeds:
            table = pd.DataFrame(
                rows(p.simulation(problem, seed), values),
                columns=["case", "quantity", "index", "value"],
            )
            runs[problem, seed] = Trajectory(
                p.simulation(problem, seed), table, "complete", None, {"date": "2026-11-25"}
            )
    return ValleyStudy(p, runs)


def rows(e, values):
    """A simulation's table with what the judge reads; the closed forms are 1, losses fall from 1."""
    out = []
    for (case, quantity), value in values.items():
        if quantity == "train_loss":
            out += [(case, quantity, e.switch_step, 1.0), (case, quantity, e.steps, value)]
        elif (
            quantity == "alignment"
        ):  # as it should be at the last, which the window of SGD leaves out
            out += [(case, quantity, step, value) for step in range(300)]
        elif quantity == "steep":
            variance = getattr(e, "valley", Valley()).stationary_variance(e.learning_rate, 1.0)
            out += [(case, quantity, e.steps, value), (case, "flat", e.steps, 1 / variance)]
        elif case.startswith("ηκ"):
            out += [(case, quantity, 3.0, value), (case, "expected", 3.0, 1.0)]
        else:
            for i in (1, 2) if case == "dominant" else (3, 4):
                out += [("settled", quantity, i, value)]
                out += [("settled", name, i, 1.0) for name in ("expected", "stationary")]
    return out


def test_c5_is_reproduced_where_all_is_as_it_should_be():
    (c5,) = valley.judge(made_up())
    assert c5.verdict == "reproduced" and len(c5.parts) == 13 and len(c5.results) == 6
    assert c5.parts[0].measured == pytest.approx(0.01)
    assert c5.seeds == (11, 12, 13)
    assert (c5.dataset, c5.model) == (None, None)


@pytest.mark.parametrize(
    ("changed", "of", "failing"),
    [
        ((("ηκ = 0.5", "variance"), 0.94), "valley", 0),
        ((("SGD", "steep"), 1.06), "valley", 0),
        ((("dominant", "variance"), 1.06), "regression", 1),
        ((("bulk", "variance"), 0.94), "regression", 2),
        *[
            (changed, problem, first + i)
            for problem, first in (("valley", 3), ("regression", 8))
            for i, changed in enumerate(
                [
                    (("Dom-SGD", "train_loss"), 0.5),
                    (("Bulk-SGD", "train_loss"), 0.3),
                    (("start", "alignment"), 0.7),
                    (("GD", "alignment"), 0.2),
                    (("back", "alignment"), 0.5),
                ]
            )
        ],
    ],
)
def test_c5_fails_by_each_of_its_parts(changed, of, failing):
    (c5,) = valley.judge(made_up(changed, of))
    assert c5.verdict == "not reproduced"
    assert [i for i, p in enumerate(c5.parts) if p.verdict == "not reproduced"] == [failing]
