"""Surveys and valleys: against bases and losses computed apart from them; resumed as if undisturbed."""

import pandas as pd
import pytest
import torch
from conftest import reference

from subspace_lib import data
from subspace_lib.eigensolver import sin_largest_angle, top_eigenpairs
from subspace_lib.experiment import Experiment, InvalidParameter
from subspace_lib.store import read_tensors, write_tensors
from subspace_lib.survey import QUANTITIES, Survey, SurveyRun
from subspace_lib.training import Run
from subspace_lib.valley import Valley, ValleyRun

FIELDS = {"dataset": "digits", "k": 3, "guards": 2, "classes": 3, "batch_size": 20}


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    path = tmp_path_factory.mktemp("survey")
    run = SurveyRun(Survey(**FIELDS, steps=30, anchors=(5, 20), lags=(1, 8), window=2))
    thetas, states = {0: run.run.theta}, {}

    def keep(run):
        thetas[run.step] = run.run.theta
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
    objective, bases = run.run.objective, {}
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
    o = run.run.objective
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


def test_mean_output_gradients_match_single_samples():
    r = reference("mlp", "mse", chunk=10)
    o = r.objective

    def outputs(theta):
        return o.outputs(theta, o.inputs)

    jacobian = torch.func.jacrev(outputs)(r.theta)  # (N, C, D)
    whole, classes = o.mean_output_gradients(r.theta)
    torch.testing.assert_close(whole, jacobian.mean(0).T)
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


VALLEY = {
    "dataset": "digits", "batch_size": 1500, "learning_rate": 0.1, "projection": "bulk",
    "switch_step": 6, "steps": 20, "record_every": 3, "average": 4,
}  # fmt: skip


def test_a_valley_that_ends_before_its_first_row_has_the_row_of_the_switch():
    run = ValleyRun(Valley(**VALLEY | {"switch_step": 7, "steps": 9, "record_every": 5}))
    run.train()
    assert run.table()["step"].tolist() == [7]


def test_a_valley_compares_the_two_runs_that_it_says(tmp_path):
    run = ValleyRun(Valley(**VALLEY))
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
        fields = {k: v for k, v in VALLEY.items() if k != "average"} | {"projection": projection}
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
    again = ValleyRun(run.experiment)
    again.load_state(states[10])
    again.train()
    columns = table.columns.drop("seconds")
    pd.testing.assert_frame_equal(again.table().set_index("step")[columns], table[columns])
