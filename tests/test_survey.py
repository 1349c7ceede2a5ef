"""Surveys and valleys: against bases and losses computed apart from them; resumed as if undisturbed."""

import functools
from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import reference

from subspace_lib import data
from subspace_lib.experiment import Experiment
from subspace_lib.linalg.eigensolver import sin_largest_angle, top_eigenpairs
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.checkpoint import read_tensors, write_tensors
from subspace_lib.runs import survey
from subspace_lib.runs.pair import Pair, PairRun
from subspace_lib.runs.survey import QUANTITIES, Survey, SurveyRun
from subspace_lib.runs.training import Run

FIELDS = {
    "preprocessing": "standardized",
    "dataset": "digits",
    "k": 3,
    "guards": 2,
    "classes": 3,
    "batch_size": 20,
}


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    path = tmp_path_factory.mktemp("survey")
    run = SurveyRun(Survey(**FIELDS, steps=30, anchors=(5, 20), lags=(1, 8), window=2))
    thetas, states = {0: run.trainer.theta}, {}

    def keep(run):
        thetas[run.step] = run.trainer.theta
        write_tensors(path / "state", run.state())  # as checkpoints are
        states[run.step] = read_tensors(path / "state")

    run.train(keep)
    return run, thetas, states


def values(run, anchor, quantity):
    table = run.table()
    rows = table[(table["anchor"] == anchor) & (table["quantity"] == quantity)]
    return rows.set_index("index")["value"]


def test_a_survey_goes_along_the_plain_run(surveyed):
    _, thetas, _ = surveyed
    plain = Run(Experiment(**FIELDS, steps=30, switch_step=29))
    plain.train(lambda run: torch.testing.assert_close(run.theta, thetas[run.step]))
    assert plain.status == "complete"


def test_a_surveys_angles_are_those_between_exact_subspaces(surveyed):
    run, thetas, _ = surveyed
    objective, bases = run.trainer.objective, {}
    for step in (5, 6, 13, 20, 21, 28, 30):
        start = torch.randn(objective.dim, 8, generator=torch.Generator().manual_seed(step))
        pairs = top_eigenpairs(objective.hessian(thetas[step]), 3, start, tolerance=1e-4)
        bases[step] = pairs.vectors[:, :3]
    for anchor, lag in ((5, 1), (5, 8), (20, 1), (20, 8)):
        exact = sin_largest_angle(bases[anchor], bases[anchor + lag])
        # each basis is certified to a sine of 0.01
        assert values(run, anchor, "angle")[lag] == pytest.approx(exact, abs=0.02)
        cosines = torch.linalg.svdvals(bases[anchor].T @ bases[anchor + lag])
        overlap = float(cosines.square().mean())
        assert values(run, anchor, "overlap")[lag] == pytest.approx(overlap, abs=0.01)
    exact = sin_largest_angle(bases[5], bases[30])
    assert values(run, 5, "final_angle")[25] == pytest.approx(exact, abs=0.02)


def test_the_parts_of_an_update_change_the_loss_as_predicted(surveyed):
    run, thetas, _ = surveyed
    o = run.trainer.objective
    for anchor in (5, 20):
        for index in (0, 1):
            whole = values(run, anchor, "change")[index]
            before, after = (
                o.evaluate(thetas[anchor + index + i], o.inputs, o.labels)[0] for i in (0, 1)
            )
            assert whole == pytest.approx(after - before, rel=1e-3, abs=1e-7)
            for part in ("dominant", "bulk"):
                first = values(run, anchor, f"first_{part}")[index]
                second = values(run, anchor, f"second_{part}")[index]
                change = values(run, anchor, f"change_{part}")[index]
                assert first + second == pytest.approx(change, rel=0.05, abs=2e-6)
                assert second > 0 if part == "dominant" else True


def test_a_survey_measures_every_quantity_and_its_trace_exceeds_its_eigenvalues(surveyed):
    run, _, _ = surveyed
    assert set(run.table()["quantity"]) == set(QUANTITIES)
    for anchor in (5, 20):
        assert float(values(run, anchor, "trace")[0]) > values(run, anchor, "eigenvalue").sum()
        leading = values(run, anchor, "eigenvalue")
        assert float(values(run, anchor, "square")[0]) > (leading**2).sum()
        noise = values(run, anchor, "noise")
        assert 0 < noise.loc[1:].sum() < noise[0]
        assert (
            values(run, anchor, "class_means")[0] >= values(run, anchor, "mean_outputs")[0] - 1e-6
        )


@pytest.mark.parametrize("step", [4, 6, 21])
def test_a_survey_resumes_as_if_nothing_had_happened(surveyed, step):
    run, _, states = surveyed
    again = SurveyRun(run.experiment)
    again.load_state(states[step])
    again.train()
    pd.testing.assert_frame_equal(again.table(), run.table())


PARTS = {f"{n}_{part}" for n in ("first", "second", "change") for part in ("dominant", "bulk")}
SPANS = {"mean_outputs", "class_means", "random_span"}
# By the solve that fails, of those at 5, 5 (spectrum), 6, 13, 20, 20 (spectrum), 21, 28, 30, in this order:
# (anchor, quantity, index) of what rests on it, and (anchor, index) where it is counted.
RESTS = {
    0: (
        {(5, n, i) for n in ("angle", "overlap") for i in (1, 8)}
        | {(5, n, 25) for n in ("final_angle", "final_overlap")}
        | {(5, n, 0) for n in SPANS | PARTS},
        {(5, 0)},
    ),
    1: (
        {(5, "eigenvalue", i) for i in range(1, 21)}
        | {(5, "noise", i) for i in range(1, 21)}
        | {(5, "trace", 0), (5, "square", 0)},
        {(5, 0)},
    ),
    2: ({(5, "angle", 1), (5, "overlap", 1)} | {(5, n, 1) for n in PARTS}, {(5, 1)}),
    3: ({(5, "angle", 8), (5, "overlap", 8)}, {(5, 8)}),
    8: (
        {(a, n, 30 - a) for a in (5, 20) for n in ("final_angle", "final_overlap")},
        {(5, 25), (20, 10)},
    ),
}


def failing(monkeypatch, module, fails):
    """The solves of a module of these numbers reach what they do, and say that it is not enough."""
    count = 0

    def solve(*args, **options):
        nonlocal count
        count += 1
        pairs = top_eigenpairs(*args, **options)
        assert pairs.converged
        return replace(pairs, converged=False) if count - 1 in fails else pairs

    monkeypatch.setattr(module, "top_eigenpairs", solve)


def by_key(run):
    return run.table().set_index(["anchor", "quantity", "index"])["value"]


@pytest.mark.parametrize("solve", RESTS)
def test_what_rests_on_a_solve_that_did_not_converge_is_unknown_and_nothing_else(
    surveyed, monkeypatch, solve
):
    usual, (expected, counted) = by_key(surveyed[0]), RESTS[solve]
    failing(monkeypatch, survey, {solve})
    run = SurveyRun(surveyed[0].experiment)
    run.train()
    found = by_key(run)
    assert set(found[found.isna()].index) == expected
    told = found.xs("unconverged", level="quantity")
    assert set(told[told > 0].index) == counted and told.sum() == len(counted)
    rest = found.notna() & (found.index.get_level_values("quantity") != "unconverged")
    pd.testing.assert_series_equal(found[rest], usual[rest])
    assert run.status == "complete" and (usual.xs("unconverged", level="quantity") == 0).all()


def test_a_survey_whose_anchor_is_unknown_resumes_as_if_nothing_had_happened(surveyed, monkeypatch):
    failing(monkeypatch, survey, {0})
    whole, states = SurveyRun(surveyed[0].experiment), {}
    whole.train(lambda run: states.update({run.step: run.state()}))
    again = SurveyRun(whole.experiment)
    again.load_state(states[10])
    again.train()
    pd.testing.assert_frame_equal(again.table(), whole.table())


def test_a_survey_whose_solves_all_run_out_of_products_measures_what_needs_none(
    surveyed, monkeypatch
):
    solve = functools.partial(top_eigenpairs, max_products=1)
    monkeypatch.setattr(survey, "top_eigenpairs", solve)
    run = SurveyRun(surveyed[0].experiment)
    run.train()
    found, usual = by_key(run), by_key(surveyed[0])
    known = found[found.notna()]
    assert run.status == "complete" and found.index.equals(usual.index)
    solves = known.xs("unconverged", level="quantity").to_dict()
    looks = [(5, 0), (5, 1), (5, 8), (5, 25), (20, 0), (20, 1), (20, 8), (20, 10)]
    assert solves == {look: 2 if look[1] == 0 else 1 for look in looks}
    rest = known.drop(index="unconverged", level="quantity")
    assert set(rest.index) == {(a, "noise", 0) for a in (5, 20)} | {
        (a, "change", i) for a in (5, 20) for i in (0, 1)
    }
    pd.testing.assert_series_equal(rest, usual[rest.index])


def test_mean_output_gradients_match_single_samples():
    r = reference("mlp", "mse", chunk=10)
    o = r.objective

    def outputs(theta):
        return o.outputs(theta, o.inputs)

    jacobian = torch.func.jacrev(outputs)(r.theta)  # (N, C, D)
    whole, classes = o.class_output_gradients(r.theta)
    torch.testing.assert_close(whole, jacobian.mean(0).T)
    torch.testing.assert_close(o.mean_output_gradients(r.theta), jacobian.mean(0).T)
    for a in range(3):
        mean = jacobian[o.labels == a].mean(0).T
        torch.testing.assert_close(classes[:, 3 * a : 3 * a + 3], mean)


def test_the_first_classes_are_all_samples_of_those_labels():
    whole = data.load("digits")
    part = whole.first_classes(3)
    assert part.classes == 3 and set(part.train_labels.tolist()) == {0, 1, 2}
    assert len(part.train_labels) == int((whole.train_labels < 3).sum())
    assert whole.first_classes(10) is whole


def test_a_batch_larger_than_the_samples_of_those_classes_is_an_error():
    with pytest.raises(InvalidParameter, match="at most"):
        Run(Experiment(dataset="digits", classes=2, batch_size=1000))


PAIR = {
    "dataset": "digits",
    "classes": 3,
    "k": 3,
    "batch_size": 452,
    "learning_rate": 0.1,
    "projection": "bulk",
    "switch_step": 6,
    "steps": 20,
    "record_every": 3,
    "average": 4,
}


def test_a_pair_that_ends_before_its_first_row_has_the_row_of_the_switch():
    run = PairRun(Pair(**PAIR | {"switch_step": 7, "steps": 9, "record_every": 5}))
    run.train()
    assert run.table()["step"].tolist() == [7]


def test_a_pair_compares_the_two_runs_that_it_says(tmp_path):
    run = PairRun(Pair(**PAIR))
    states = {}

    def keep(run):
        write_tensors(tmp_path / "state", run.state())  # as checkpoints are
        states[run.step] = read_tensors(tmp_path / "state")

    run.train(keep)
    table = run.table().set_index("step")
    assert table.index.tolist() == [6, 9, 12, 15, 18]
    assert table["distance"][6] == 0 and table["travelled"][6] == 0
    thetas = {}
    for projection in ("none", "bulk"):
        fields = {k: v for k, v in PAIR.items() if k != "average"} | {"projection": projection}
        other = Run(Experiment(**fields))
        other.train(
            lambda run, p=projection: thetas.update({(p, run.step): run.theta, "o": run.objective})
        )
    mean = torch.stack([thetas["none", step] for step in (12, 13, 14, 15)]).mean(0)
    apart = thetas["none", 15] - thetas["bulk", 15]
    assert table["distance"][15] == pytest.approx(float(apart.norm()), rel=1e-2)
    assert table["distance_average"][15] == pytest.approx(
        float((mean - thetas["bulk", 15]).norm()), rel=1e-2
    )
    o = thetas["o"]
    assert table["loss_average"][15] == pytest.approx(
        o.evaluate(mean, o.inputs, o.labels)[0], rel=1e-4
    )
    again = PairRun(run.experiment)
    again.load_state(states[10])
    again.train()
    columns = table.columns.drop("seconds")
    pd.testing.assert_frame_equal(again.table().set_index("step")[columns], table[columns])
