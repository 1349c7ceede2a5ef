"""Chapter 13 from parameters to page, and its kinds of run: one small study on digits."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from subspace_lib.chapters import chapter
from subspace_lib.chapters.follow_ups import answers, figures, tables
from subspace_lib.chapters.follow_ups.judge import fall
from subspace_lib.chapters.follow_ups.study import METHODS, SGD, FollowUpParameters, tasks
from subspace_lib.chapters.kit import says
from subspace_lib.experiment import Experiment
from subspace_lib.linalg.eigensolver import top_eigenpairs
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store
from subspace_lib.runs.training import Run
from subspace_lib.runs.trials import CHANGES, FRACTIONS, Trials, TrialsRun
from subspace_lib.runs.weighted import Averaged, AveragedRun, Weighted, WeightedRun

pytestmark = pytest.mark.whole  # a chapter from parameters to page

NAME = "13_follow_ups"
FEW = {
    "dataset": "digits_300",
    "model": "mlp_small",
    "k": 3,
    "steps": 12,
    "switch_step": 4,
    "record_every": 4,
    "spectrum_every": None,
    "refresh_every": 1,
}
SMALL = FollowUpParameters.QUICK | {
    "dataset": "digits_300",
    "k": 3,
    "steps": 40,
    "switch_step": 20,
    "record_every": 10,
    "spectrum_every": 10,
    "weighted_steps": 12,
    "noise_steps": 12,
    "noise_every": 4,
    "renew": 4,
    "seeds": (11, 12, 13),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FollowUpParameters, "QUICK", SMALL)
        store = Store(tmp_path_factory.mktemp("results"))
        own = chapter(NAME)
        yield own.study(own.at("quick"), store), store


@pytest.mark.parametrize(
    ("weights", "projection"), [((1, 1), "none"), ((1, 0), "dominant"), ((0, 1), "bulk")]
)
def test_weights_of_one_and_nothing_are_x_dom_x_and_bulk_x(weights, projection):
    run = WeightedRun(Weighted(**FEW, dominant=weights[0], bulk=weights[1]))
    other = Run(Experiment(**FEW, projection=projection))
    run.train()
    other.train()
    torch.testing.assert_close(run.theta, other.theta, atol=1e-6, rtol=0)


def test_a_weighted_step_is_the_sum_of_its_weighted_parts():
    run = WeightedRun(Weighted(**FEW | {"switch_step": 0}, dominant=0.5, bulk=3.0))
    before = run.theta
    run.advance()
    basis, (_, _, update) = run.subspace.basis, Run(Experiment(**FEW)).trainer.peek()
    inside = basis @ (basis.T @ update)
    expected = 0.5 * inside + 3.0 * (update - inside)
    torch.testing.assert_close(run.theta - before, expected, atol=1e-6, rtol=0)


def test_the_averaged_gradient_is_that_of_the_loss_and_the_mean_curvature():
    """Against differences of ½ Σ C_i λ_i(θ), in the mean over many draws."""
    run = AveragedRun(Averaged(**FEW | {"switch_step": 0, "batch_size": 300}, noise_of=5))
    o, theta = run.objective, run.theta
    gradient = run.trainer.gradient()
    run._follow(gradient, record=True)
    run._used(gradient)
    basis, spread = run.subspace.basis, run.spread.to(theta)
    direction = basis @ torch.ones(3) / 3**0.5

    def curvature(at):  # ½ Σ C_i v_iᵀ H(θ) v_i, the v_i held fixed
        return float((spread**2 * (basis * (o.hessian(at) @ basis)).sum(0)).sum()) / 2

    wanted = (curvature(theta + 0.02 * direction) - curvature(theta - 0.02 * direction)) / 0.04
    draws = []
    for step in range(400):
        run.step = step if step % run.experiment.renew else step + 1  # the noise as it was measured
        draws.append(float((run._used(gradient) - gradient) @ direction))
    error = np.std(draws) / len(draws) ** 0.5
    assert np.mean(draws) == pytest.approx(wanted, abs=4 * error + 0.05 * abs(wanted))
    assert abs(wanted) > 4 * error  # it says something


def test_the_spread_is_that_of_noise_and_curvature_along_the_basis_in_use():
    """However long ago the last refresh: against gradients of single samples, and differences of them."""
    own = {"switch_step": 0, "steps": 61, "refresh_every": 1000, "learning_rate": 0.1}
    run = AveragedRun(Averaged(**FEW | own, batch_size=300, noise_of=5, renew=20))
    while run.step < 60:
        run.advance()
    theta, basis, o = run.theta, run.subspace.basis, run.objective
    run.advance()  # measured at the last multiple of ``renew``
    assert run._seen.step == 0
    singles = [o.gradient(theta, torch.tensor([i]))[1] @ basis for i in range(300)]
    variance = torch.stack(singles).double().var(0, correction=0) * (300 - 5) / (299 * 5)
    steps = 1e-2 * basis.T
    curvature = torch.stack(
        [(o.gradient(theta + s)[1] - o.gradient(theta - s)[1]) @ s / 2e-4 for s in steps]
    ).double()
    expected = 0.1 * variance / (curvature * (2 - 0.1 * curvature))
    assert (expected > 0).all()
    torch.testing.assert_close(run.spread**2, expected, rtol=0.02, atol=0)
    then = run._seen.values[:3].double()
    assert ((then / curvature - 1).abs() > 0.1).any()  # the curvature has changed since


@pytest.mark.parametrize(("name", "value"), [("noise", "sgd"), ("period", 2)])
def test_an_averaged_run_has_neither_noise_nor_another_period(name, value):
    full = FEW | {"batch_size": 300, name: value}
    Experiment.parse(**full)
    with pytest.raises(InvalidParameter, match=f"{name} = .* has no meaning .* kind averaged"):
        Averaged.parse(**full)


def test_where_noise_comes_to_rest_is_the_variance_of_a_noisy_quadratic():
    eta, curvature, sigma, rng = 0.1, 4.0, 0.3, np.random.default_rng(0)
    x, seen = 0.0, []
    for _ in range(40_000):
        x -= eta * (curvature * x + sigma * rng.standard_normal())
        seen.append(x)
    closed = eta * sigma**2 / (curvature * (2 - eta * curvature))
    assert np.var(seen) == pytest.approx(closed, rel=0.05)


def test_averaging_is_of_full_batch_gradient_descent_only():
    with pytest.raises(InvalidParameter, match="is full-batch gradient descent; use 300 and 'sgd'"):
        Averaged.parse(**FEW)
    with pytest.raises(InvalidParameter, match="noise_of = 301 must be at most 300"):
        Averaged.parse(**FEW | {"batch_size": 300}, noise_of=301)


TRIED = FEW | {"anchors": (0, 6, 12), "batches": 3, "refresh_every": "adaptive"}


def test_a_step_of_dom_sgd_is_tried_from_the_point_of_the_plain_run_and_not_taken():
    """Against the steps themselves, one batch after the other, in another run at the same point."""
    run, plain = TrialsRun(Trials(**TRIED, target_angle=1e-3)), Run(Experiment(**FEW))
    run.train()
    table = run.table()
    assert run.status == "complete" and list(table["step"]) == [0, 6, 12]
    for row in table.itertuples():
        while plain.step < row.step:
            plain.advance()
        o, theta, batches = plain.objective, plain.theta, plain.trainer.batches
        pairs = top_eigenpairs(o.hessian(theta), 3, torch.randn(o.dim, 8), angle=1e-4)
        basis = pairs.vectors[:, :3]
        loss, full = o.gradient(theta)
        slopes, bends, steps = [], [], []
        for i in range(3):
            gradient = o.gradient(theta, batches.rows(row.step + i))[1]
            inside = basis @ (basis.T @ gradient)
            steps.append(inside)
            slopes.append(float(inside @ full))
            bends.append(float(inside @ (o.hessian(theta) @ inside[:, None])[:, 0]))
        assert row.slope == pytest.approx(np.mean(slopes), rel=0.02)
        assert row.bend == pytest.approx(np.mean(bends), rel=0.02)
        assert row.critical == pytest.approx(2 * row.slope / row.bend)
        for name, rate in {"change": 0.1, "change_200": 2 * row.critical}.items():
            rate = run.experiment.learning_rate if name == "change" else rate
            after = [float(o.evaluate(theta - rate * step)[0]) for step in steps]
            wanted = np.mean(after) - float(loss)
            assert getattr(row, name) == pytest.approx(wanted, rel=0.05, abs=1e-6)
    torch.testing.assert_close(run.trainer.theta, plain.theta, atol=1e-6, rtol=0)


def test_the_expansion_holds_for_small_steps_and_where_the_slope_is_negative_none_is_tried():
    run = TrialsRun(Trials(**TRIED))
    full, values = torch.tensor([1.0, -2.0]), torch.tensor([5.0, 3.0])
    found = run._expanded(full, torch.tensor([[1.0, 0.0], [3.0, -1.0]]), values)
    assert found == {"slope": 3.0, "bend": 26.5, "critical": pytest.approx(6 / 26.5)}
    assert np.isnan(run._expanded(full, -full[None], values)["critical"])
    assert np.isnan(run._expanded(full, full[None], -values)["critical"])


def test_trials_are_made_within_the_run():
    with pytest.raises(InvalidParameter, match=r"anchors = .* must be at most steps = 12"):
        Trials.parse(**TRIED | {"anchors": (3, 13)})


def test_its_findings_are_judged_by_what_the_runs_say(found):
    study, _ = found
    verdicts = {v.claim: v for v in chapter(NAME).judge(study)}
    assert list(verdicts) == ["Q6", "Q8", "Q9"]
    assert {v.kind for v in verdicts.values()} == {"finding"}
    falls = verdicts["Q9"].parts[0].values
    for run, value in zip(study.plain.values(), falls, strict=True):
        rows = run.table["alignment"]
        assert value == fall(run) == pytest.approx(rows.iloc[0] - rows.min())
    assert len(verdicts["Q6"].parts[0].values) == len(verdicts["Q8"].parts[0].values) == 3
    assert [len(stage) for stage in tasks(chapter(NAME).parameters)] == [3, 1]


def test_its_page_shows_and_says_what_is_there(found):
    study, store = found
    assert len(study.weighted) == 4 + 2 + 2
    assert len(study.noise) == 3 * len(METHODS)
    assert list(study.trials) == list(study.repeated)
    for draw in (figures.weights, figures.noise, figures.early, figures.trials):
        assert len(draw(study).svg()) > 5000
    assert "times that of SGD" in answers.weights(study).data
    assert "λ₁ ends at" in answers.noise(study).data
    assert "The alignment begins at" in answers.early(study).data
    assert "there is a critical learning rate" in answers.trials(study).data
    lacking = study.parameters.model_copy(update={"weighted_steps": 13, "noise_steps": 13})
    again = chapter(NAME).study(lacking, store, compute=False)
    assert [v.claim for v in chapter(NAME).judge(again)] == ["Q9"]
    assert "not stored yet" in answers.weights(again).data
    assert "weighted updates | **missing**" in " ".join(tables.protocol(again).data.split())


@pytest.mark.parametrize(
    ("both", "told"),
    [(2.2, "twice the dominant part adds nothing"), (3.0, "adds to it"), (1.0, "takes from it")],
)
def test_twice_the_bulk_is_told_beside_twice_the_learning_rate(both, told):
    gains = {(1.0, 1.0): 1.0, (1.0, 2.0): 2.2}
    assert told in answers._at_twice_the_rate(gains | {(2.0, 2.0): both})
    assert answers._at_twice_the_rate(gains) == ""


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ([(2, 1), (2, 4), (2, 8)], ["all with α = 2"]),
        ([(2, 1), (2, 4), (2, 8), (1, 8), (0, 8)], ["all with α = 2", "the others with β = 8"]),
        ([(0, 8), (1, 8), (2, 8)], ["all with β = 8"]),
        (
            [(2, 1), (2, 4), (2, 8), (1, 8)],
            ["all with α = 2", "also (1, 8)"],
        ),
        ([(1, 8), (2, 8)], ["(1, 8) and (2, 8)"]),
    ],
)
def test_where_runs_diverged_is_told_by_rows_and_columns_of_the_map(lost, told):
    gains = dict.fromkeys(product((0, 1, 2), (1, 4, 8)), 1.0)
    assert answers._where(lost, gains) == told


def test_a_bulk_part_that_needs_the_dominant_one_is_told():
    grid = list(product((0.0, 0.5, 4.0), (8.0, 64.0)))
    told = answers._without_dominant([(0.0, 64.0), (4.0, 64.0)], grid)
    assert "With β = 64 a run without the dominant part, α = 0, diverges; with α = 0.5 it" in told
    assert answers._without_dominant([(0.0, 64.0), (0.5, 64.0), (4.0, 64.0)], grid) == ""
    assert answers._without_dominant([(4.0, 8.0), (4.0, 64.0)], grid) == ""


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_map_of_weights_is_drawn_where_runs_diverged_with_a_cross_for_each(found, kept):
    """All of them, SGD too, or all but one beside SGD."""
    study, _ = found
    whole = [SGD, (0.0, 2.0)] if kept else []
    weighted = {
        (weights, seed): run if weights in whole else replace(run, status="diverged at step 21")
        for (weights, seed), run in study.weighted.items()
    }
    picture = figures.weights(replace(study, weighted=weighted))
    texts = [text.get_text() for text in picture.figure.axes[0].texts]
    assert len(texts) == 4 and texts.count("×") == 4 - 2 * kept
    assert len(picture.svg()) > 5000


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (
            (50.0, 100.0, 60.0),
            "makes 0.80 of the difference between GD and SGD. So .* accounts for most of it",
        ),
        ((50.0, 100.0, 90.0), "a part of it at most"),
        ((50.0, 100.0, 10.0), "goes further than SGD"),
        ((100.0, 100.0, 100.0), r"no difference is shown\.$"),
        ((50.0, 100.0, 120.0), "Averaged GD goes the other way"),
        ((100.0, 50.0, 75.0), "Minibatch noise raises λ₁ by 100%\\."),
        ((100.0, 101.0, 100.0), r"Minibatch noise lowers λ₁ by under 1%, which is little\."),
        ((50.0, float("nan"), 60.0), r"nothing can be said of the noise\.$"),
    ],
)
def test_the_noise_is_told_as_it_came_out(found, ends, told):
    study, _ = found
    made = {
        key: replace(run, table=run.table.assign(eigenvalue_01=ends[METHODS.index(key[0])]))
        for key, run in study.noise.items()
    }
    assert re.search(told, answers.noise(replace(study, noise=made)).data)


def test_the_other_eigenvalues_are_counted_against_those_of_gd(found):
    study, _ = found
    k, ends = study.parameters.k, dict(zip(METHODS, (0.9, 1.0, 1.2), strict=True))
    made = {}
    for key, run in study.noise.items():
        sizes = {f"eigenvalue_{i:02d}": ends[key[0]] * (k + 1 - i) for i in range(1, k + 1)}
        sizes |= {f"eigenvalue_{k:02d}": 1.0}  # the same in all three
        made[key] = replace(run, table=run.table.assign(**sizes))
    told = answers.noise(replace(study, noise=made)).data
    assert f"Of λ₂ … {says.eigenvalue(k)}, {k - 2} of {k - 1} end lower under SGD" in told
    assert f"and 0 of {k - 1} under averaged GD" in told


def test_a_dominant_step_lowers_the_loss_where_its_eta_is_below_the_critical_one(found):
    study, _ = found
    for run in study.plain.values():
        steps, critical = tables.dominant_steps(run), tables.critical(run)
        assert len(steps) == len(critical) > 0
        known = critical.notna()
        # η_c over η above 1 and a positive slope: the step lowers the loss
        assert (steps["lowers"][known] == (critical[known] > 1)).all()
        assert not steps["lowers"][steps["against"]].any()
    told = answers.early(study).data
    whole = pd.concat([tables.dominant_steps(run) for run in study.plain.values()])
    late = whole[whole.index >= 20]
    assert f"lowers the loss in {int(late['lowers'].sum())} of these {len(late)} rows" in told
    none = f"{int(late['against'].sum())} of the {len(late)} rows with a refresh have none"
    assert f"After the switch {none}" in told


@pytest.mark.parametrize(
    ("half", "twice", "told"),
    [
        (-1.0, 1.0, "a step of Dom-SGD well below it lowers the loss"),
        (1.0, 1.0, "with twice it raises the loss at all 6"),
        (1.0, 1.0, "with half of it lowers the loss at 0 of 6"),
        (-1.0, -1.0, "So the second-order expansion does not tell everywhere"),
    ],
)
def test_the_trials_are_told_as_they_came_out(found, half, twice, told):
    study, _ = found
    made = {
        seed: replace(
            run,
            table=run.table.iloc[:3].assign(
                step=[0, 20, 40],
                critical=[0.01, 1.0, np.nan],
                slope=[1.0, 1.0, -1.0],
                train_loss=1.0,
                change=[1.0, -1.0, 1.0],
                change_050=half,
                change_200=twice,
            ),
        )
        for seed, run in study.trials.items()
    }
    said = answers.trials(replace(study, trials=made)).data
    assert told in said
    assert "At 3 the mean slope is not positive: no learning rate lowers the loss there." in said
    assert "At 6 of 9 points there is a critical learning rate" in said
    assert "at all 3 points before the switch and at 0 of 3 points after the switch" in said
    assert "as the expansion says at all 6." in said


def test_changes_below_rounding_and_runs_that_diverged_count_for_nothing(found):
    study, _ = found
    first, second, third = study.repeated
    base = study.trials[first].table.assign(
        train_loss=1.0, **dict.fromkeys(("change", *CHANGES), 1e-3)
    )
    small = base.assign(change_050=1e-7)
    made = {
        first: replace(study.trials[first], table=base),
        second: replace(study.trials[second], table=small),
        third: replace(study.trials[third], table=base, status="diverged at step 3"),
    }
    whole = tables.tried(replace(study, trials=made))
    assert whole[["change", *CHANGES]].notna().all().all()  # for the figure
    points = tables.resolved(whole)
    assert len(points) == 2 * len(base)
    assert points["change_050"].notna().sum() == len(base) and points["change"].notna().all()
    none = {seed: made[third] for seed in made}
    assert "All runs diverged" in answers.trials(replace(study, trials=none)).data
    assert len(figures.trials(replace(study, trials=none)).svg()) > 3000


@pytest.mark.parametrize(("name", "value"), [("optimizer", "adam"), ("budget", 4)])
def test_trials_are_of_plain_sgd(name, value):
    with pytest.raises(InvalidParameter, match=f"{name} = .* has no meaning .* kind trials"):
        Trials.parse(**TRIED | {name: value})


def test_the_changes_are_drawn_over_their_fractions_of_the_critical_rate(found):
    study, _ = found
    made = {
        seed: replace(
            run,
            table=run.table.assign(
                critical=2.0,
                slope=0.5,
                **{c: f * f - f for c, f in zip(CHANGES, FRACTIONS, strict=True)},
            ),
        )
        for seed, run in study.trials.items()
    }
    (axes,) = figures.trials(replace(study, trials=made)).figure.axes
    for line in axes.lines[:3]:  # before, after, second order: all on the parabola
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        np.testing.assert_allclose(y, x * x - x, atol=1e-12)


def test_the_map_of_weights_is_computed_on_the_first_seed_alone():
    p = chapter(NAME).parameters
    whole, *others = [piece for _, piece in tasks(p)[0]]
    assert (whole.weights_dominant, whole.weights_bulk) == (p.weights_dominant, p.weights_bulk)
    assert [(o.seeds, o.weights_dominant, o.weights_bulk) for o in others] == [
        ((17,), (1.0,), (1.0, 2.0)),
        ((18,), (1.0,), (1.0, 2.0)),
    ]
