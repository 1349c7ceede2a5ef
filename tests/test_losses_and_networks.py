"""Chapter 09 from parameters to page: one small study on digits and sentences."""

import re
from dataclasses import replace

import numpy as np
import pytest

from subspace_lib import data, models
from subspace_lib.chapters import chapter
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.chapters.losses_and_networks import answers, figures, tables
from subspace_lib.chapters.losses_and_networks.study import (
    AS_IT_IS,
    CHANGES,
    LossesParameters,
    tasks,
)
from subspace_lib.objective import Objective
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs.training import Run
from subspace_lib.trajectory import progress, tail_loss

pytestmark = pytest.mark.whole  # a chapter from parameters to page

NAME = "09_losses_and_networks"
SMALL = LossesParameters.QUICK | {
    "models": ("mlp_small", "transformer_small"),
    "dimensions": (3, 2),
    "step_counts": (12, 12),
    "switch_steps": (6, 6),
    "repeats": (3, 1),
    "seeds": (11, 12, 13),
    "cause_seed": 11,
    "cause_steps": (4,),
    "cause_rows": (4,),
    "record_every": 4,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LossesParameters, "QUICK", SMALL)
        store = Store(tmp_path_factory.mktemp("results"))
        own = chapter(NAME)
        yield own.study(own.at("quick"), store), store


def test_the_cases_are_those_of_the_question():
    cases = chapter(NAME).parameters.cases()
    found = {name: (len(p.seeds), p.steps) for name, p in cases.items()}
    assert found == {
        "MLP on MNIST-5k, cross-entropy": (3, 10_000),
        "CNN on CIFAR10-5k, cross-entropy": (3, 6000),
        "Transformer on SST2-1k, cross-entropy": (1, 3000),
        "VGG-11 (¼ width) on CIFAR10-1k": (1, 2000),
        "ResNet-8 (¼ width) on CIFAR10-1k": (1, 2000),
    }
    assert [len(stage) for stage in tasks(chapter(NAME).parameters)] == [3, 3, 1, 1, 1, 2]
    budgets = [p.run(11, side, 1000).budget for p in cases.values() for side in ("none", "bulk")]
    assert budgets == [None, None, *[10] * 8]
    typed = LossesParameters.parse(budgets="[None, 2.5, None, None, None]")
    assert [p.budget for p in typed.cases().values()] == [None, 2.5, None, None, None]
    for typed, meant in (("None, 10", (None, 10)), ("null", (None,)), (None, (None,)), (10, (10,))):
        assert LossesParameters.parse(budgets=typed).budgets == meant
    with pytest.raises(InvalidParameter, match="budgets 1"):
        LossesParameters.parse(budgets=None).cases()
    with pytest.raises(InvalidParameter, match="budgets"):
        LossesParameters.parse(budgets=[None, 1, None, None, None])
    with pytest.raises(
        InvalidParameter, match="Each case needs one entry of each of these; they have models 1, d"
    ):
        LossesParameters.parse(models="cnn").cases()


def test_judged_are_the_cases_with_cross_entropy_and_three_seeds(found):
    study, _ = found
    (v,) = chapter(NAME).judge(study)
    assert (v.claim, v.kind, v.seeds) == ("Q1", "finding", (11, 12, 13))
    judged = [p for p in v.parts if p.criterion != "none"]
    assert [p.criterion for p in judged] == ["≤ 0.1", "≤ −0.05", "≥ 0.9"]
    assert {p.date for p in judged} == {"2026-11-26"} and all("MLP" in p.says for p in judged)
    shown = [p for p in v.parts if p.criterion == "none"]
    assert {p.verdict for p in shown} == {"descriptive"} and len(shown) == 4
    dom = next(iter(study.cases.values())).of("dominant")
    ends = [tail_loss(run) / run.table["train_loss"].iloc[0] for run in dom]
    moved = "loss of Dom-SGD at the end, over that at the switch, MLP"
    assert shown[0].says.startswith(moved) and shown[0].values == pytest.approx(ends)
    assert shown[1].says.startswith("sine of the angle of the basis in use by Dom-SGD")
    assert shown[1].values == pytest.approx([run.table["angle"].median() for run in dom])
    mlp = study.cases["MLP (small) on digits-300, cross-entropy"]
    expected = [progress(*pair) for pair in zip(mlp.of("none"), mlp.of("dominant"), strict=True)]
    np.testing.assert_allclose(judged[0].values, expected)
    # with one seed of those that are asked for it is not yet decided
    name, p = next(iter(study.cases)), mlp.parameters
    first = {key: run for key, run in mlp.trajectories.items() if key[1] == p.seeds[0]}
    few = replace(mlp, parameters=p.model_copy(update={"seeds": p.seeds[:1]}), trajectories=first)
    (v,) = chapter(NAME).judge(replace(study, cases={**study.cases, name: few}))
    assert v.verdict == v.parts[0].verdict == "inconclusive" and v.parts[0].criterion == "≤ 0.1"
    mse = study.parameters.model_copy(update={"losses": ("mse", "mse")})
    assert LossesParameters.parse(**mse.model_dump()).cases().keys() != study.cases.keys()


def test_an_intervention_changes_one_thing_at_the_switch(found):
    study, _ = found
    (changed,) = study.causes.values()
    runs = {name: run.experiment for name, run in changed.items()}
    assert list(runs) == list(CHANGES)
    for e in runs.values():
        assert (e.projection, e.switch_step, e.seed) == ("dominant", 6, 11)
        (before,) = e.before
        assert (before.until, before.learning_rate, before.batch_size) == (6, 0.1, 50)
    lengths = {name: round(e.learning_rate * (e.steps - 6), 9) for name, e in runs.items()}
    assert set(lengths.values()) == {0.4}  # as much time, η times steps
    told = {name: (e.learning_rate, e.batch_size, e.refresh_every) for name, e in runs.items()}
    assert told == {
        "Dom-SGD as it is": (0.1, 50, "adaptive"),
        "η/4": (0.025, 50, "adaptive"),
        "batch × 10": (0.1, 300, "adaptive"),  # as many as there are
        "full batch": (0.1, 300, "adaptive"),
        "fixed basis": (0.1, 50, 10),
        "4η": (0.4, 50, "adaptive"),
    }
    starts = {round(run.table["train_loss"].iloc[0], 6) for run in changed.values()}
    assert len(starts) == 1


def test_the_terms_are_those_of_a_direct_expansion(found):
    """At the switch, from the run's own basis, the minibatch gradient and a Hessian product."""
    study, _ = found
    (changed,) = study.causes.values()
    trajectory = changed[AS_IT_IS]
    e = trajectory.experiment
    run = Run(e)
    while not run.rows:
        theta = run.theta
        run.advance()
    d = data.load(e.dataset)
    model = models.build(e.model, d.shape, d.classes, e.seed)
    o = Objective(model, e.loss, d.train_inputs, d.train_labels, check=False)
    _, g = o.gradient(theta)
    _, batch = o.gradient(theta, run.trainer.batches.rows(6))
    u = -e.learning_rate * run.subspace.project(batch)
    first = tables.terms(trajectory).iloc[0]
    assert first["step"] == 6
    assert first["slope"] == pytest.approx(float(g @ u), rel=1e-3)
    bend = float(u @ (o.hessian(theta) @ u[:, None])[:, 0]) / 2
    assert first["bend"] == pytest.approx(bend, rel=2e-2)  # of the refresh's Ritz values
    assert first["change"] == pytest.approx(first["slope"] + first["bend"])
    inside = run.subspace.project(g)
    full = e.learning_rate**2 / 2 * float(inside @ (o.hessian(theta) @ inside[:, None])[:, 0])
    assert full <= first["signal"] * (1 + 1e-4)


def test_noise_is_called_the_cause_only_where_less_of_it_stops_the_rise(found):
    study, _ = found
    (runs,) = study.causes.values()
    cause = "So without the minibatch noise in the dominant directions the loss does not rise"
    turning = "With a fixed basis, under the same minibatches, the loss ends where it began too."

    def told(risen=(), flatter=(AS_IT_IS,)):
        made = {}
        for name, run in runs.items():
            part = np.linspace(0, 1, 21)
            table = run.table.iloc[[0] * 21].assign(step=np.linspace(6, run.experiment.steps, 21))
            loss = 0.5 + 0.1 * part if name in (AS_IT_IS, *risen) else 0.5 + 0 * part
            top = 20 - 8 * part if name in flatter else 20 + 0 * part
            made[name] = replace(
                run,
                table=table.assign(train_loss=loss, eigenvalue_01=top, refresh_step=table["step"]),
            )
        one = replace(study, causes={"a case": made})
        assert (
            "a case, where one thing at a time is changed: without a change Dom-SGD's loss rises, +"
            in answers.opening(one).data
        ) == (cause in answers.causes(one).data)
        return answers.causes(one).data

    text = told()
    assert turning in text and turning not in told(risen=["fixed basis"])
    assert cause in told(risen=["fixed basis"]) and turning not in told(risen=["full batch"])
    assert cause in text and "(batch × 10, full batch), λ₁ stays" in text
    assert "The rise is gone with: η/4, batch × 10, full batch, fixed basis, 4η;" in text
    assert cause not in told(risen=["full batch"])
    assert cause not in told(flatter=())
    assert cause not in told(flatter=(AS_IT_IS, "batch × 10"))


def test_its_page_shows_every_case_and_what_is_missing(found, tmp_path):
    study, store = found
    assert len(figures.losses(study).figure.axes) == 2
    assert len(figures.causes(study).figure.axes[0].lines) == len(CHANGES) + 1
    text = answers.losses(study).data
    mlp = study.cases["MLP (small) on digits-300, cross-entropy"]
    falls = [
        100 * (tail_loss(run) / dom.table["train_loss"].iloc[0] - 1)
        for run, dom in zip(mlp.of("none"), mlp.of("dominant"), strict=True)
    ]
    said = re.search(r"MLP \(small\) on digits-300, cross-entropy: SGD −([\d.]+)%", text)[1]
    assert float(said) == pytest.approx(-np.mean(falls), abs=0.06)
    assert re.search(r"\| +\| MLP \(small\) on .* \| Transformer \(small\) on sentences", text)
    assert (
        "Change of the loss from the switch to the last 2% of the steps: Dom-SGD as it is"
        in answers.causes(study).data
    )
    plan = Plan(store)
    chapter(NAME).study(study.parameters, store, compute=plan)
    assert plan.missing == []
    other = study.parameters.model_copy(update={"learning_rates": (0.1, 0.07), "cause_steps": (5,)})
    partial = chapter(NAME).study(other, store, compute=False)
    assert len(partial.cases) == 1 and partial.causes == {}
    assert "not stored yet" in answers.causes(partial).data
    assert "not stored yet" in figures.causes(partial).says
    assert (
        "*Transformer (small) on sentences, cross-entropy: not stored yet.*"
        in answers.losses(partial).data
    )
    assert tables.protocol(partial).data.count("**missing**") == 2
    case, runs = next(iter(study.causes.items()))
    few = {name: run for name, run in runs.items() if name != "4η"}
    some = replace(study, causes={case: few})
    none = study.parameters.model_copy(update={"cause_cases": ()})
    assert none.origins() == {} and len(tasks(none)) == 3 and tasks(none)[-1] == []
    assert "Left out" in answers.causes(replace(study, parameters=none)).data
    wrong = study.parameters.model_copy(update={"cause_cases": (3,)})
    with pytest.raises(InvalidParameter, match="cause_cases = 3, but there are 2 cases"):
        wrong.origins()
    assert "**missing**: 4η" in tables.protocol(some).data
    assert "4η" not in answers.causes(some).data.split("Change of the loss")[1].split(". ")[0]
    with pytest.raises(MissingRun):
        chapter(NAME).study(other, Store(tmp_path), compute=False)
