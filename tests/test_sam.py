"""Chapter 06: C7 on both regimes, the pilot that chooses ρ, a study from end to end."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import few_digits
from test_edge_of_stability import branch, gd

from subspace_lib.chapters.kit.edge import EdgeSwitchParameters
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy
from subspace_lib.chapters.sam import CHAPTER, answers, figures, judge, tables
from subspace_lib.chapters.sam.pilot import Pilot, PilotParameters, pilot_study
from subspace_lib.chapters.sam.study import SamParameters, SamStudy, sam_study
from subspace_lib.evidence import criteria
from subspace_lib.results.store import COMMITTED, MissingRun, Store
from subspace_lib.trajectory import Trajectory

SEEDS = (11, 12, 13)


def minibatch(dom=0.98, bulk=0.5):
    p = SwitchParameters(seeds=SEEDS, optimizer="sam", steps=1000, switch_step=500)
    runs = {}
    for seed in SEEDS:
        for projection, end in (("none", 0.5), ("dominant", dom), ("bulk", bulk)):
            table = pd.DataFrame({"step": [500, 990, 1000], "train_loss": [1.0, end, end]})
            e = p.run(seed, projection, 500)
            runs[projection, seed] = Trajectory(e, table, "complete", None, {"date": "2026-11-26"})
    return SwitchStudy(p, runs, dict.fromkeys(SEEDS, 500), dict.fromkeys(SEEDS, False))


def full_batch(dom=0.79, bulk=0.5):
    p, runs = EdgeSwitchParameters(seeds=SEEDS, optimizer="sam"), {}
    for seed in SEEDS:
        runs["none", seed] = gd(seed=seed, optimizer="sam")
        runs["dominant", seed] = branch("dominant", dom, seed=seed, optimizer="sam")
        runs["bulk", seed] = branch("bulk", bulk, seed=seed, optimizer="sam")
    return SwitchStudy(p, runs, dict.fromkeys(SEEDS, p.switch_step), {})


@pytest.mark.parametrize(
    ("mini", "full", "failing"),
    [
        ({}, {}, None),
        ({"dom": 0.7}, {}, 0),
        ({"bulk": 0.7}, {}, 1),
        ({}, {"dom": 0.7}, 2),
        ({}, {"bulk": 0.7}, 3),
    ],
)
def test_c7_fails_by_each_of_its_parts(mini, full, failing):
    (c7,) = judge(SamStudy(minibatch(**mini), full_batch(**full), {}, None, {}, {}))
    expected = ["reproduced"] * 4
    if failing is not None:
        expected[failing] = "not reproduced"
    assert [p.verdict for p in c7.parts] == expected
    assert "SAM, seeds 11, 12, 13: switched at step 500 by the fallback" in c7.note


def pilot(**sharpness):
    """λ₁ by ρ at the switch, step 1,234; at later rows it is far lower, which does not count."""
    p, runs = PilotParameters(), {}
    for (rho, e), value in zip(p.runs().items(), sharpness.values(), strict=True):
        table = {"step": [1200, 1230, 1240], "eigenvalue_01": [9 * value, value, 0.1 * value]}
        runs[rho] = Trajectory(e, pd.DataFrame(table), "complete", 1234, {})
    return Pilot(p, runs)


def test_the_pilot_takes_the_smallest_rho_that_lowers_the_sharpness_by_a_fifth():
    found = pilot(sgd=20.0, a=19.0, b=15.9, c=10.0, d=16.1)
    assert (found.sharpness(0.0), found.chosen()) == (20.0, 0.02)
    text = tables.pilot(found).data
    assert "ρ = 0.02." in text and "0.80" in text  # 15.9/20
    none = pilot(sgd=20.0, a=19.0, b=17.0, c=17.0, d=16.1)
    assert none.chosen() is None and "none does" in tables.pilot(none).data


def test_the_pilots_runs_are_of_seed_0_and_none_of_them_is_judged():
    p = CHAPTER.parameters
    runs = p.pilot().runs()
    assert {run.seed for run in runs.values()} == {0} and 0 not in p.seeds
    assert runs[0.0].method == "SGD" and runs[0.1].method == "SAM"
    assert {run.switch_by for run in runs.values()} == {p.switch_step}
    assert all(run.steps > p.switch_step for run in runs.values())
    study = SamStudy(
        minibatch(), full_batch(), {}, pilot(sgd=2.0, a=1.0, b=1.0, c=1.0, d=1.0), {}, {}
    )
    (c7,) = judge(study)
    assert c7.seeds == SEEDS and len(study.trajectories()) == len(c7.results) + 5


def test_the_chapters_rho_is_what_its_stored_pilot_chooses():
    try:
        found = pilot_study(CHAPTER.parameters.pilot(), Store(COMMITTED), compute=False)
    except MissingRun:
        pytest.skip("the pilot is not stored yet")
    assert found.chosen() == CHAPTER.parameters.rho


@pytest.mark.slow  # the quick notebook of chapter 06, part of .ci/run, goes the same way
def test_a_study_from_parameters_to_figures(tmp_path):
    """All of it at the smallest size: both regimes, another ρ, the pilot, the verdict."""
    parameters = SamParameters(
        dataset="digits",
        k=2,
        seeds=(3,),
        target_angle=0.5,
        edge_target_angle=0.5,
        refresh_every=4,
        steps=8,
        switch_step=4,
        watch_from=1,
        switch_from=2,
        record_every=4,
        spectrum_every=None,
        rhos=(0.1,),
        pilot_rhos=(0.1,),
        edge_steps=30,
        edge_switch_step=4,
        edge_record_every=10,
    )
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(criteria, "EDGE_WINDOW", 3)
        patch.setattr(criteria, "BOUNCE", (6, 10))
        found = sam_study(parameters, Store(tmp_path))
        assert {run.experiment.batch_size for run in found.edge.trajectories.values()} == {300}
        assert sorted(found.rhos) == [0.05, 0.1] and sorted(found.pilot.runs) == [0, 0.1]
        assert found.minibatch.name("bulk") == "Bulk-SAM"
        # One frozen subspace, although those of even and odd steps are followed apart.
        still = found.frozen[3]
        assert found.edge.of("dominant")[0].experiment.period == 2
        apart = found.apart[3].experiment
        assert (apart.period, apart.refresh_every, apart.stop_above) == (2, 30, 1.0)
        assert still.experiment.period == 1
        assert still.table["refreshes"].iloc[-2:].tolist() == [1, 2]
        (c7,) = judge(found)
        assert c7.verdict == "inconclusive" and len(c7.parts) == 4  # one seed
        for draw in (figures.edges, figures.ascents, figures.rhos):
            for axes in draw(found).figure.axes:
                assert axes.get_ylabel()
                assert any(np.isfinite(np.asarray(c.get_ydata(), float)).any() for c in axes.lines)
        again = sam_study(parameters, Store(tmp_path), compute=False)
        assert repr(judge(again)) == repr([c7])  # NaN differs from itself


def test_alignments_are_means_over_steps_at_which_the_basis_has_a_bound():
    table = pd.DataFrame(
        {
            "step": [0, 10, 20, 40, 41, 42],
            "angle_bound": [0.1, 0.1, 0.2, 0.3, 1.0, math.nan],
            "alignment": [0.0, 0.1, 0.4, 0.7, 9.0, 9.0],
        }
    )
    run = Trajectory(SwitchParameters(optimizer="sam").experiment(11), table, "complete", None, {})
    assert answers._bounded(run, "alignment", 15) == pytest.approx((10 * 0.4 + 20 * 0.7) / 30)
    assert math.isnan(answers._bounded(run, "alignment", 41))
