"""Chapter 02 from parameters to page: one study on few digits, its ledger, its figure, its tables."""

import math
from dataclasses import replace

import pytest
from conftest import few_digits

from subspace_lib.chapters import chapter, front, ledger
from subspace_lib.chapters.dom_vs_bulk import answers, figures, tables
from subspace_lib.chapters.dom_vs_bulk.study import DomBulkParameters, uncertain
from subspace_lib.chapters.kit import noise, page
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.chapters.losses_and_networks.study import LossesParameters
from subspace_lib.evidence.verdicts import part, verdict
from subspace_lib.results.store import Store

pytestmark = pytest.mark.usefixtures("narrow_mlp")

SMALL = {
    "dataset": "digits",
    "learning_rate": 0.05,
    "k": 3,
    "steps": 60,
    "switch_alignment": None,
    "switch_step": 40,
    "seeds": (12,),
    "target_angle": 0.5,
    "refresh_every": 20,
    "record_every": 20,
    "spectrum_every": None,
    "again_steps": 5,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The study and its store, all of it at a small size that goes by the name of quick."""
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(DomBulkParameters, "QUICK", SMALL)
        store = Store(tmp_path_factory.mktemp("results"))
        own = chapter("02_dom_vs_bulk")
        yield own.study(own.at("quick"), store), store


def test_the_settings_are_the_papers_other_pixels_and_twice_the_rate():
    paper = chapter("02_dom_vs_bulk").parameters
    assert (paper.preprocessing, paper.seeds) == ("unit", (11, 12, 13, 14, 15))
    changed = [(p.preprocessing, p.learning_rate, p.seeds) for p in uncertain(paper)]
    assert changed == [("unit", 0.01, (12,)), ("standardized", 0.01, (12,)), ("unit", 0.02, (12,))]
    cifar = uncertain(DomBulkParameters(dataset="cifar10_5k"))
    assert [p.preprocessing for p in cifar] == ["per_pixel", "standardized", "per_pixel"]


def test_the_first_setting_is_the_studys_own_run(found):
    study, store = found
    (own,) = next(iter(study.settings.values())).switch.of("dominant")
    assert own.experiment == study.trajectories["dominant", 12].experiment
    assert len(study.settings) == 3 and len({run.experiment.key for run in study.runs()}) == 19
    plan = Plan(store)
    chapter("02_dom_vs_bulk").study(study.parameters, store, compute=plan)
    assert plan.missing == []


def test_there_and_back_follows_its_protocol(found):
    setting = next(iter(found[0].settings.values()))
    before, gd, back = (setting.noise[name] for name in ("before", "GD", "back"))
    assert list(before.table["step"]) == list(range(41))  # 100 steps, or as many as there are
    value = before.table["eigenvalue_03"].iloc[-1]
    assert gd.experiment.steps - 40 == math.ceil(10 / (0.05 * value))
    assert gd.experiment.method == "GD" and back.experiment.method == "SGD"
    assert back.experiment.steps == gd.experiment.steps + 5
    # the three begin where the one before has ended
    for first, then in ((before, gd), (gd, back)):
        assert first.table["train_loss"].iloc[-1] == pytest.approx(then.table["train_loss"].iloc[0])
    rows = gd.table.set_index("step")["alignment"]
    length = gd.experiment.steps - 40
    expected = rows[rows.index >= gd.experiment.steps - 0.1 * length].mean()
    assert noise.alignment_without(gd) == pytest.approx(expected)
    assert noise.alignment_before(before) == pytest.approx(before.table["alignment"][:-1].mean())


def test_its_figure_and_tables_show_every_setting(found):
    study, _ = found
    (axes,) = figures.settings(study).figure.axes
    assert len([line for line in axes.lines if len(line.get_xdata()) == 7]) == 3
    shown = tables.settings(study).data
    assert all(label in shown for label in study.settings)
    assert len(study.settings) == 3 and "η = 0.1" in shown and "standardized" in shown
    assert "refreshed every 6 steps" in tables.drift(study).data
    assert page.answer(chapter("02_dom_vs_bulk"), study).data.startswith("**A quick run.**")


def test_a_book_of_another_folder_has_its_ledger_and_its_numbers_beside_the_stored(
    found, monkeypatch
):
    study, store = found
    only = {"02_dom_vs_bulk": chapter("02_dom_vs_bulk")}
    monkeypatch.setattr(ledger, "registered", lambda: only)
    rows = {v.claim: v for v in ledger.verdicts(store, "quick")}
    assert rows["C2"].parts and rows["C2"].seeds == (12,)
    assert (rows["F6"].verdict, rows["F6"].kind, len(rows["F6"].parts)) == (
        "descriptive",
        "finding",
        21,
    )
    assert {v.verdict for v in ledger.verdicts(store, "paper")} == {"missing"}
    c2 = ledger.claims()["C2"]
    stored = verdict(
        c2, [part("progress(Dom-SGD)", [0.25, 0.25, 0.25], None)], study.parameters, []
    )
    table = front.comparison(list(rows.values()), [stored]).replace("&nbsp;", " ")
    here = front.comparison([rows["C2"]], [])
    assert table.count("<tr>") == 1 + sum(len(v.parts) for v in rows.values())
    assert "<td>0.250 (0.250 … 0.250)</td>" in table and "not stored" in table
    assert "0.250" not in here
    monkeypatch.setenv("SUBSPACE_PROFILE", "quick")
    assert front.main_study(store) is not None
    monkeypatch.delenv("SUBSPACE_PROFILE")
    assert front.main_study(store) is None


def test_c2_and_c3_do_not_wait_for_the_uncertain_settings(found, tmp_path):
    study, store = found
    other = study.parameters.model_copy(update={"again_steps": 11})  # some of F6's runs are missing
    own = chapter("02_dom_vs_bulk")
    partial = own.study(other, store, compute=False)
    assert partial.settings == {} and partial.stale is None
    assert [v.claim for v in own.judge(partial)] == ["C2", "C3"]


def test_the_other_settings_can_be_left_out(found):
    study, store = found
    alone = study.parameters.model_copy(update={"other_settings": False})
    plan = Plan(store)
    few = chapter("02_dom_vs_bulk").study(alone, store, compute=plan)
    assert plan.missing == [] and few.settings == {} and few.stale is None
    assert len(few.runs()) == 3 and [len(s) for s in chapter("02_dom_vs_bulk").tasks(alone)] == [1]
    for say in (answers.settings, answers.drift):
        assert "Left out" in say(few).data


@pytest.mark.parametrize("value", [-0.4, 0.0, 1e-9, math.nan])
def test_gd_ends_where_the_slowest_direction_does_not_shrink(found, value):
    before = found[0].settings[next(iter(found[0].settings))].noise["before"]
    table = before.table.assign(eigenvalue_03=value)
    assert noise.steps_without_noise(replace(before, table=table), 1000) == 1000
    assert noise.steps_without_noise(before, 10**6) < 10**6


def test_a_short_rerun_has_rows_enough_by_default():
    paper = DomBulkParameters()
    assert (paper.record_every, paper.spectrum_every, paper.setting_seed) == (90, 1800, None)
    short = DomBulkParameters(steps=60, switch_step=30, seeds=(0,))
    assert (short.record_every, short.spectrum_every) == (3, 30)
    assert [p.seeds for p in uncertain(short)] == [(0,)] * 3
    typed = DomBulkParameters(steps=60, switch_step=30, record_every=90, spectrum_every=None)
    assert (typed.record_every, typed.spectrum_every) == (90, None)
    assert LossesParameters(step_counts=(40, 100, 20, 30, 50)).record_every == 5
