"""Chapter 07: its study from parameters to figures, its judge, and what its Bulk- versions project."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import few_digits
from torch import nn

from subspace_lib import models
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.study import Absent
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.momentum_adam import answers, figures, tables
from subspace_lib.chapters.momentum_adam.judge import CLAIMS, judge
from subspace_lib.chapters.momentum_adam.study import (
    JUDGED,
    MomentumParameters,
    MomentumStudy,
    momentum_study,
    tasks,
)
from subspace_lib.evidence import criteria
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs.training import Run
from subspace_lib.trajectory import Trajectory

SMALL = {
    "dataset": "digits",
    "k": 2,
    "seeds": (3, 4),
    "table_steps": 4,
    "steps": 12,
    "switch_alignment": None,
    "switch_step": 6,
    "anchors": (8,),
    "window": 4,
    "directions": 3,
    "betas": (),
    "others": ("rmsprop",),
    "intervals": (2, 4),
    "record_every": 6,
    "refresh_every": 4,
    "target_angle": 0.3,
}


def tiny(*arguments):
    torch.manual_seed(4)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The study of a tiny network, computed piece by piece as the results command does."""
    root, parameters = tmp_path_factory.mktemp("results"), MomentumParameters(**SMALL)
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", tiny)
        patch.setenv("SUBSPACE_RESULTS", str(root))
        for stage in tasks(parameters):
            for piece, fields in stage:
                piece(fields)
        yield momentum_study(parameters, Store(root), compute=False)


def test_a_study_from_parameters_to_figures_and_tables(small):
    study = small
    verdicts = judge(study)
    assert [v.claim for v in verdicts] == [claim.id for claim in CLAIMS]
    assert {v.verdict for v in verdicts} == {"inconclusive", "descriptive"}  # two seeds
    for draw in (
        figures.first_steps,
        figures.ratios,
        figures.amplified,
        figures.amplified_adaptive,
        figures.transfer,
        figures.bulk_ways,
    ):
        figure = draw(study).figure
        assert all(axes.get_ylabel() for axes in figure.axes) and figure.axes[-1].get_xlabel()
    for show in (tables.first_steps, tables.later, tables.predictions):
        assert "| RMSProp" in show(study).data
    assert "| Adam, β₁ = 0" in tables.first_steps(study).data
    assert "| switch of Adam, seed 4" in tables.protocol(study).data
    assert tables.ingredients(study).data.count("\n") == 2
    assert tables.bulk_ways(study).data.count("| both projected") == 2
    rows = tables.by_interval(study).data.splitlines()[2:5]
    assert [row.split("|")[1].strip() for row in rows] == ["as elsewhere (median 4)", "2", "4"]
    assert rows[0].split("|")[2:5] == rows[2].split("|")[2:5]  # as refresh_every has it
    assert "*Rare refreshes.*" in answers.losses(study).data


def test_the_judged_rules_have_every_seed_and_all_else_the_second(small):
    study = small
    first = [*study.table, *study.others]
    seeds = {label: [s for name, s in first if name == label] for label, _ in first}
    judged = {"SGD", "heavy ball 0.9", "Adam"}
    assert {label for label, found in seeds.items() if sorted(found) == [3, 4]} == judged
    assert seeds["RMSProp"] == seeds["Adam, β₁ = 0"] == [4]
    assert {run.experiment.seed for run in study.windows.values()} == {4}
    assert {run.experiment.seed for run in study.alternatives.values()} == {4}
    assert study.first_steps("RMSProp")[0].experiment.refresh_every == 1
    assert study.first_steps("Adam, β₁ = 0")[0].experiment.beta == 0


def test_runs_of_one_rule_that_diverged_are_told_apart(small):
    gone = [
        dataclasses.replace(r, status="diverged at step 9") for r in small.ways("adam").values()
    ]
    told = page.in_force(small.parameters, gone).data
    for way in ("update", "gradient", "both"):
        assert f"| Bulk-Adam, seed 4, η = 0.001, projected = {way} " in told
    alone = page.in_force(small.parameters, gone[:1]).data
    assert "| Bulk-Adam, seed 4, η = 0.001 " in alone


@pytest.mark.parametrize("way", ["update", "gradient", "both"])
def test_what_is_projected_by_hand(small, way):
    """Bulk-heavy ball, whose state began before the switch; the basis is the run's own."""
    study = small
    e = study.ways("momentum")[f"{way} projected"].experiment
    assert (e.projected, e.projection, e.switch_step) == (way, "bulk", 6)
    run, theta, m = Run(e), None, None
    while run.step < e.steps:
        if run.step == e.switch_step:
            theta, m = run.theta, run.trainer.rule_state["momentum"]
        step = run.step
        _, g = run.objective.gradient(run.theta, run.trainer.batches.rows(step))
        run.advance()
        if step >= e.switch_step:
            m = 0.9 * m + (g if way == "update" else g - run.subspace.project(g))
            update = -e.learning_rate * m
            theta = theta + (update if way == "gradient" else update - run.subspace.project(update))
            torch.testing.assert_close(run.theta, theta)


def test_a_frozen_subspace_stays_that_of_the_switch(small):
    """The bulk does not move, until the last row refreshes the basis; every seed."""
    study = small
    assert set(study.frozen) == set(study.parameters.seeds)
    run = Run(study.frozen[3].experiment)
    while run.step <= 6:
        run.advance()
    basis, begun = run.subspace.basis.clone(), run.theta
    while run.step < 12:
        run.advance()
        assert torch.equal(run.subspace.basis, basis)
    moved = run.theta - begun
    torch.testing.assert_close(basis @ (basis.T @ moved), moved)
    run.advance()
    assert run.refreshes == 2 and run.status == "complete"


@pytest.mark.parametrize("beta", [0.0, 0.9])
@pytest.mark.parametrize("interval", [1, 3, 12])
def test_a_projected_step_drifts_down_the_sharpness(beta, interval):
    """Chapter 07b's drift, against steps of Dom-SGD and Dom-heavy ball made by hand, λ = 50 + slope b.

    The basis is the top eigenvector of the exact Hessian, found anew every few steps; Var and Cov are those
    of the sample.
    """
    sharp, slope, rate, paths = 50.0, 0.3, 0.004, 20_000
    rng = np.random.default_rng(3)
    x, b, m = np.zeros((3, paths))
    before, drift, turns = x, 0.0, 40
    for turn in range(-20, turns):  # a while to settle, in which nothing is projected
        curvature, tilt = sharp + slope * b, slope * x
        basis = np.stack([(curvature + np.sqrt(curvature**2 + 4 * tilt**2)) / 2, tilt])
        basis /= np.linalg.norm(basis, axis=0)
        before, start = x, b
        for _ in range(interval):
            m = beta * m + (sharp + slope * b) * x + rng.standard_normal(paths)
            if turn < 0:
                x = x - rate * m
            else:  # the bulk's own gradient is no part of the drift in question
                along = -rate * m * basis[0]
                x, b = x + along * basis[0], b + along * basis[1]
        if turn >= 0:
            lost = np.mean(before**2) - np.mean(before * x)
            drift += np.mean(b - start) / (-lost * slope / sharp) / turns
    assert drift == pytest.approx(1, abs=0.05)


def test_where_a_late_ratio_is_not_defined_the_window_is_named(small):
    run = small.windows["Adam"]
    table = run.table.copy()
    moved = table["quantity"] == "part_displacement"
    table.loc[moved, "value"] = np.where(table.loc[moved, "index"] == 0, -1.0, 1.0)
    windows = small.windows | {"Adam": dataclasses.replace(run, table=table)}
    told = answers.ratios(dataclasses.replace(small, windows=windows)).data
    assert "By displacement it is not defined for Adam: a rate of Adam is negative" in told
    assert "in the window from step 8." in told
    lost = small.windows | {"Adam": dataclasses.replace(run, status="diverged at step 9")}
    told = answers.ratios(dataclasses.replace(small, windows=lost)).data
    assert "By slope it is not defined for Adam: the run of Adam diverged at step 9" in told


def rates(parameters, label, seed, dominant, bulk):
    """A run of Table 1 with these mean rates, which differ from step to step."""
    table = pd.DataFrame(
        {
            "dominant_rate": [dominant - 0.1, dominant + 0.1],
            "bulk_rate": [bulk + 0.2, bulk - 0.2],
        }
    )
    run = (parameters.table_runs() | parameters.other_runs())[label, seed]
    return Trajectory(run, table, "complete", None, {})


def made_up(table, dom=0.99, bulk=0.51, status="complete"):
    """A study with these mean Dom-LR and Bulk-LR by rule, and losses at the end; X comes to 0.5 from 1."""
    p, switches = MomentumParameters(), {}
    first = {
        (p.label(name), seed): rates(p, p.label(name), seed, *table[name])
        for name in ("sgd", *JUDGED)
        for seed in p.seeds
    }
    ends = {"none": 0.5, "dominant": dom, "bulk": bulk}
    for name in JUDGED:
        runs = {}
        for (projection, end), seed in ((item, s) for item in ends.items() for s in p.seeds):
            losses = pd.DataFrame({"step": [3000, 20_000], "train_loss": [1.0, end]})
            run, how = p.switch(name).run(seed, projection, 3000), "complete"
            if projection == "bulk":
                how = status
            runs[projection, seed] = Trajectory(run, losses, how, None, {})
        steps = dict.fromkeys(p.seeds, 3000)
        switches[name] = SwitchStudy(p.switch(name), runs, steps, dict.fromkeys(p.seeds, True))
    other = {key: runs["bulk", p.shown] for key in p.alternatives()}
    absent = Absent(MissingRun())  # so there is no F2 and no F4
    return MomentumStudy(p, first, {}, absent, switches, other, absent, absent)


TABLE = {"sgd": (0.012, 0.010), "momentum": (0.006, 0.033), "adam": (0.015, 0.035)}


def frozen(study, end):
    """The study, with runs of a frozen subspace whose loss goes from 1 to this end."""
    moving = {
        seed: study.switches["momentum"].trajectories["dominant", seed]
        for seed in study.parameters.seeds
    }
    losses = pd.DataFrame({"step": [3000, 20_000], "train_loss": [1.0, end]})
    return dataclasses.replace(
        study, frozen={key: dataclasses.replace(run, table=losses) for key, run in moving.items()}
    )


def test_f8_shows_what_a_frozen_subspace_leaves_of_a_rise():
    found = judge(frozen(made_up(TABLE, dom=1.4), 1.1))[-1]
    assert (found.claim, found.verdict, len(found.results)) == ("F8", "descriptive", 10)
    assert found.parts[0].values == pytest.approx([0.25] * 5)
    level = judge(frozen(made_up(TABLE, dom=0.9), 1.1))[-1].parts[0]
    assert level.measured is None and "5 of 5 pairs of Dom-" in level.note


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "reproduced"),
        ({"momentum": (0.030, 0.0320)}, "not reproduced"),  # 1.28 × SGD's
        ({"momentum": (0.030, 0.0326)}, "reproduced"),  # 1.304 ×
        ({"adam": (0.030, 0.030)}, "not reproduced"),
        ({"momentum": (-0.001, 0.033)}, "reproduced"),  # a mean near zero has no meaningful ratio
        ({"momentum": (0.0, -0.001)}, "not reproduced"),
    ],
)
def test_c8_asks_for_an_amplification_by_the_factor(changes, expected):
    assert pytest.approx(1.3) == criteria.FACTOR
    assert judge(made_up(TABLE | changes))[0].verdict == expected


def test_c8_is_paired_by_seed_and_in_units_of_eta():
    study = made_up(TABLE)
    p = study.parameters
    study.table["SGD", 13] = rates(p, "SGD", 13, 0.010, 0.020)
    (momentum, adam, *_) = judge(study)[0].parts
    usual, other = 0.033 - 1.3 * 0.010 / 0.012 * 0.006, 0.033 - 1.3 * 2 * 0.006
    assert momentum.values == pytest.approx(np.array([usual, usual, other, usual, usual]) / 0.01)
    assert adam.values[0] == pytest.approx((0.035 - 1.3 * 0.010 / 0.012 * 0.015) / 0.001)


def test_c8_needs_dom_versions_that_stop_and_not_bulk_versions_that_learn():
    assert judge(made_up(TABLE, dom=0.8))[0].verdict == "not reproduced"
    c8, f3 = judge(made_up(TABLE, bulk=0.9))
    assert (c8.verdict, f3.verdict) == ("reproduced", "does not hold")
    c8, f3 = judge(made_up(TABLE, status="diverged at step 9000"))
    assert (c8.verdict, f3.verdict) == ("reproduced", "does not hold")
    assert f3.parts[0].measured == -1


def test_a_way_to_project_that_one_seed_alone_shows_has_no_verdict():
    f3 = judge(made_up(TABLE))[1]
    assert [part.verdict for part in f3.parts] == ["holds"] * 2 + ["inconclusive"] * 4
    assert "1 of the 3 seeds" in f3.parts[-1].note


def test_a_rule_that_diverged_decides_nothing_and_the_table_says_so():
    study = made_up(TABLE)
    run = study.table["Adam", 12]
    study.table["Adam", 12] = Trajectory(run.experiment, run.table, "diverged at step 2", None, {})
    assert judge(study)[0].verdict == "inconclusive"


def test_c8_does_not_wait_for_what_one_seed_alone_shows():
    study = made_up(TABLE)
    study = dataclasses.replace(study, alternatives=study.windows)
    assert [v.claim for v in judge(study)] == ["C8"]
    for draw in (figures.ratios, figures.amplified, figures.amplified_adaptive, figures.bulk_ways):
        assert "not stored yet" in draw(study).says
    for say in (answers.ratios, answers.ingredients, answers.bulk_ways, answers.predicted):
        assert "not stored yet" in say(study).data
    shown, lacking = tables.first_steps(study).data.split("Not stored yet: ")
    assert shown.count("\n") == 6  # SGD, heavy ball, Adam
    assert "Nesterov; RMSProp" in lacking
    assert len(study.runs()) == 15 + 2 * 15


def test_c8_rests_on_every_run_of_the_judged_seeds():
    c8 = judge(made_up(TABLE))[0]
    assert c8.seeds == (11, 12, 13, 14, 15)
    assert len(set(c8.results)) == 5 * (3 + 2 * 2)


@pytest.mark.parametrize(
    ("most", "says"),
    [
        (0.020, "4.0 with β = 0.99 times the ratio of SGD (seed 12): more momentum need not"),
        (0.060, "12 with β = 0.99 times the ratio of SGD (seed 12): more momentum amplifies more."),
    ],
)
def test_what_more_momentum_does_follows_from_its_runs(most, says):
    study, p = made_up(TABLE), MomentumParameters()
    assert "β =" not in answers.first_steps(study).data  # of one β alone
    for beta, bulk in ((0.5, 0.01), (0.99, most)):
        label = f"heavy ball {beta:g}"
        study.others[label, p.shown] = rates(p, label, p.shown, 0.006, bulk)
    said = answers.first_steps(study).data
    assert "Heavy ball has 2.0 with β = 0.5, 6.6 with β = 0.9 and " + says in said


@pytest.mark.parametrize(
    ("bulk", "says"),
    [(0.0125, "has 1.0 times the ratio of SGD, less than"), (0.1, "of SGD, no less than")],
)
def test_what_adam_does_without_momentum_follows_from_its_run(bulk, says):
    study, p = made_up(TABLE), MomentumParameters()
    assert "β₁ = 0) has" not in answers.first_steps(study).data
    label = "Adam, β₁ = 0"
    study.others[label, p.shown] = rates(p, label, p.shown, 0.015, bulk)
    assert f"{says} the 2.8 with it (seed 12)." in answers.first_steps(study).data
