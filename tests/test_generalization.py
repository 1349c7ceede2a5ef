"""Chapter 10 from parameters to page: one small study on digits."""

import numpy as np
import pandas as pd
import pytest

from subspace_lib.chapters import chapter
from subspace_lib.chapters.generalization import answers, figures, tables
from subspace_lib.chapters.generalization.judge import ahead, at_equal_loss
from subspace_lib.chapters.generalization.study import GeneralizationParameters, at_loss, tasks
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.trajectory import Trajectory

pytestmark = pytest.mark.whole  # a chapter from parameters to page

NAME = "10_generalization"
SMALL = GeneralizationParameters.QUICK | {
    "dataset": "digits_300",
    "k": 3,
    "steps": 60,
    "switch_step": 30,
    "seeds": (11, 12, 13),
    "record_every": 10,
    "spectrum_every": 30,
    "edge_seeds": (0,),
    "edge_learning_rate": 0.25,
    "edge_period": 1,
    "edge_steps": 300,
    "edge_switch_step": 120,
    "edge_rows": 41,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GeneralizationParameters, "QUICK", SMALL)
        store = Store(tmp_path_factory.mktemp("results"))
        own = chapter(NAME)
        yield own.study(own.at("quick"), store), store


def keys(study, parameters, store):
    plan = Plan(store)
    study(parameters, store, compute=plan)
    return {experiment.key for experiment in plan.missing}


@pytest.mark.parametrize(
    ("group", "other", "part"),
    [
        ("GD, full batch", "05_edge_of_stability", "switch"),
        ("SAM", "06_sam", "minibatch"),
        ("SGD, CNN on CIFAR10-5k", "02b_architectures", "b"),
        ("SGD, Transformer on SST2-1k", "02b_architectures", "c"),
    ],
)
def test_the_groups_are_the_runs_of_other_chapters(tmp_path, group, other, part):
    """Of the plain runs: where a branch begins, its own switch says."""
    store, theirs = Store(tmp_path), chapter(other)
    ours = chapter(NAME).parameters.groups()[group]
    plain = {ours.run(seed, "none").key for seed in ours.seeds}
    assert plain <= keys(theirs.study, theirs.parameters, store)


def test_no_earlier_chapter_has_its_seeds():
    used = {
        seed
        for name in ("02_dom_vs_bulk", "05_edge_of_stability", "06_sam", "07_momentum_adam")
        for seed in chapter(name).parameters.seeds
    }
    own = chapter(NAME).parameters
    assert not used & set(own.seeds)
    assert [len(stage) for stage in tasks(own)] == [5, 5 + 3 + 3 + 3]


def test_a_level_is_looked_up_on_the_line_of_the_run():
    losses = np.linspace(2, 1, 60)
    table = pd.DataFrame(
        {"train_loss": losses, "test_loss": 3 * losses + 1, "test_accuracy": 1 - losses / 9}
    )
    run = Trajectory(None, table, "complete", None, {})
    assert at_loss(run, "test_loss", 1.5) == pytest.approx(5.5)
    assert np.isnan(at_loss(run, "test_loss", 0.9))


def test_judged_are_the_differences_to_the_plain_run(found):
    study, _ = found
    (v,) = chapter(NAME).judge(study)
    assert (v.claim, v.kind, v.seeds) == ("Q4", "finding", (11, 12, 13))
    accuracy, loss = v.parts
    for seed, value in zip(study.parameters.seeds, accuracy.values, strict=True):
        ends = [
            study.trajectories[side, seed].table["test_accuracy"].iloc[-1]
            for side in ("bulk", "none")
        ]
        assert value == pytest.approx(ends[0] - ends[1])
    assert list(loss.values) == at_equal_loss(study)
    assert max(abs(np.log(loss.values))) < 0.5  # SGD and Bulk-SGD are not as different as that
    assert min(ahead(study, "bulk")) > min(ahead(study, "dominant"))


def test_its_page_names_every_group_and_says_what_its_numbers_say(found):
    study, store = found
    assert list(study.groups) == ["SGD", "GD, full batch"]
    for draw in (figures.over_steps, figures.over_loss, figures.over_sharpness):
        assert len(draw(study).svg()) > 5000
    text = answers.over_loss(study).data
    assert "**GD, full batch**: at the end the test accuracy of Bulk-GD is" in text
    assert text.count("\n|") == 2 + 6  # header, ruler, three methods a group
    assert "Bulk-SGD does" in answers.opening(study).data
    assert "rank correlation" in answers.over_sharpness(study).data
    assert "switch, GD, full batch" in tables.protocol(study).data
    lacking = study.parameters.model_copy(update={"edge_steps": 301})
    again = chapter(NAME).study(lacking, store, compute=False)
    assert list(again.groups) == ["SGD"]
    assert "GD, full batch: not stored yet" in answers.over_loss(again).data
    with pytest.raises(MissingRun):
        other = study.parameters.model_copy(update={"seeds": (21,)})
        chapter(NAME).study(other, store, compute=False)
