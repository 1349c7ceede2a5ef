"""Chapter 02b from parameters to page: one small study on digits and sentences, whole and in part."""

import pytest

from subspace_lib.chapters import chapter, ledger
from subspace_lib.chapters.architectures import answers, figures, tables
from subspace_lib.chapters.architectures.study import ArchitecturesParameters, tasks
from subspace_lib.chapters.kit import page, says
from subspace_lib.chapters.kit.names import title
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.chapters.kit.switch.panel import over_sgd
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs.training import Run
from subspace_lib.trajectory import progress

pytestmark = pytest.mark.whole  # a chapter from parameters to page

NAME = "02b_architectures"
SMALL = ArchitecturesParameters.QUICK | {
    "dimensions": (3, 2),
    "step_counts": (12, 12),
    "switch_step": 6,
    "seeds": (12,),
    "doubled_seed": 12,
    "refresh_every": 6,
    "record_every": 6,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The study and its store, at a small size that goes by the name of quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ArchitecturesParameters, "QUICK", SMALL)
        store = Store(tmp_path_factory.mktemp("results"))
        own = chapter(NAME)
        yield own.study(own.at("quick"), store), store


def test_the_panels_are_the_papers():
    panels = chapter(NAME).parameters.panels()
    runs = {letter: panel.experiment(11) for letter, panel in panels.items()}
    assert [(e.dataset, e.model, e.k, e.learning_rate, e.batch_size) for e in runs.values()] == [
        ("cifar10_5k", "cnn", 10, 0.001, 50),
        ("sst2_1k", "transformer", 2, 0.001, 50),
    ]
    assert [e.preprocessing for e in runs.values()] == ["per_pixel", "tokens"]
    plain = panels["b"].run(11, "none")
    watched = (plain.watch_alignment, plain.watch_from, plain.switch_from, plain.switch_by)
    assert watched == (0.95, 900, 1000, 5000)
    assert {letter: e.steps for letter, e in runs.items()} == {"b": 20_000, "c": 20_000}
    assert {(e.refresh_every, e.target_angle) for e in runs.values()} == {("adaptive", 0.05)}
    assert all(panel.seeds == (11, 12, 13) for panel in panels.values())


def test_spectra_have_twice_k_eigenvalues_and_no_more():
    panels = chapter(NAME).parameters.panels()
    cnn, transformer = (panels[letter].experiment(11) for letter in "bc")
    assert cnn.spectrum_every == 4950 and cnn.fresh_spans == ()
    # a refresh sees k + 3 = 5 of the 4 that are wanted; the last row has one
    assert transformer.spectrum_every is None and transformer.fresh_spans == ((20_000, 20_000),)


def test_twice_the_rate_is_one_seed_of_each():
    twice = chapter(NAME).parameters.doubled()
    assert [(p.learning_rate, p.seeds) for p in twice.values()] == [(0.002, (12,))] * 2
    stages = tasks(chapter(NAME).parameters)
    assert [len(stage) for stage in stages] == [3, 3, 2]


def test_lists_of_different_lengths_are_refused_in_a_sentence():
    with pytest.raises(
        InvalidParameter,
        match=r"needs one entry of each of these; they have datasets 1, models 2, dim",
    ):
        ArchitecturesParameters.parse(datasets="cifar10_5k").panels()
    one = ArchitecturesParameters.parse(
        datasets="mnist5k", models="mlp", dimensions=10, learning_rates=0.01, step_counts=9000
    )
    assert list(one.panels()) == ["b"] and one.panels()["b"].dataset == "mnist5k"


def test_a_combination_without_sense_is_refused_before_anything_runs(tmp_path):
    own = ArchitecturesParameters.parse(models="cnn cnn")
    with pytest.raises(
        InvalidParameter, match="'cnn' does not take sentences of tokens, which sst2_1k"
    ):
        chapter(NAME).study(own, Store(tmp_path), compute=Plan(Store(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_its_verdicts_are_the_progress_of_each_panel(found):
    study, _ = found
    verdicts = {v.claim: v for v in chapter(NAME).judge(study)}
    assert list(verdicts) == ["C2b", "C3b", "C2c", "C3c"]
    for name, v in verdicts.items():
        panel, side = study.panels[name[-1]], {"2": "dominant", "3": "bulk"}[name[1]]
        expected = progress(panel.of("none")[0], panel.of(side)[0])
        assert v.parts[0].values == pytest.approx((expected,), nan_ok=True)
        assert (v.dataset, v.model) == (panel.parameters.dataset, panel.parameters.model)
        assert v.parts[0].date == "2026-11-25" and len(v.results) == 2
        assert v.note.startswith(f"Judged here on {title(panel.parameters.model)} on ")
    own = {letter: study.panels[letter].of("none")[0].experiment.dataset for letter in "bc"}
    assert own == {"b": "digits_300", "c": "sentences"}


def test_the_work_is_that_of_the_measured_steps_over_plain_sgds(found):
    """Against a run whose work is looked at after its first row, with the cold start, and at its end."""
    panel = found[0].panels["c"]
    (stored,) = panel.of("bulk")
    run, spent = Run(stored.experiment), {}
    run.train(lambda run: spent.update({run.step: run.objective.gradient_equivalents}))
    assert spent[6] == 2.0  # the warm-up: batches of 50, 50 and 20 sentences, twice
    batches = 50 / 120  # gradients of all sentences in a step
    work = (run.objective.gradient_equivalents - spent[7]) / (6 * batches)
    assert over_sgd(panel, "bulk") == pytest.approx(work)
    rows = tables.cost(found[0]).data.splitlines()
    told = f"{says.number(work, 2)} ×"
    assert any("sentences" in row and "Bulk" in row and told in row for row in rows)


def test_its_figures_and_tables_show_both_panels(found):
    study, _ = found
    for draw in (
        figures.losses,
        figures.alignments,
        figures.spectra,
        figures.angles,
        figures.test_losses,
    ):
        picture = draw(study)
        assert len(picture.figure.axes) % 2 == 0 and "digits-300" in picture.says
        assert all(axes.lines for axes in picture.figure.axes)
        assert picture.svg().startswith("<svg")
    for say in (
        answers.losses,
        answers.alignments,
        answers.spectra,
        answers.angles,
        answers.test_losses,
    ):
        text = say(study).data
        assert (
            "**CNN (small) on digits-300" in text and "**Transformer (small) on sentences" in text
        )
    told = answers.doubled(study).data
    assert (
        told.count("from the switch on Dom-SGD's loss ") == len(study.doubled)
        and "At η it " in told
    )
    assert tables.doubled(study).data.count("η = 0.3") == 1
    shown = tables.protocol(study).data
    assert "switch, panel c, seed 12" in shown and "missing" not in shown
    assert len({run.experiment.key for run in study.runs()}) == 12
    assert page.answer(chapter(NAME), study).data.count("needed") == 4


def test_no_panel_waits_for_the_other(found, tmp_path):
    study, store = found
    first, _ = study.parameters.learning_rates
    other = study.parameters.model_copy(update={"learning_rates": (first, 0.07)})
    partial = chapter(NAME).study(other, store, compute=False)
    assert list(partial.panels) == ["b"] and list(partial.doubled) == ["b"]
    assert [v.claim for v in chapter(NAME).judge(partial)] == ["C2b", "C3b"]
    assert "*Panel c: not stored yet.*" in answers.losses(partial).data
    assert tables.protocol(partial).data.count("**missing**") == 2
    assert len(figures.losses(partial).figure.axes) == 1
    with pytest.raises(MissingRun):
        chapter(NAME).study(other, Store(tmp_path), compute=False)


def test_a_panel_is_shown_by_the_seeds_that_have_their_runs_and_not_judged_by_too_few(found):
    study, store = found
    partial = chapter(NAME).study(
        study.parameters.model_copy(update={"seeds": (11, 12, 13)}), store, compute=False
    )
    assert {letter: panel.parameters.seeds for letter, panel in partial.panels.items()} == {
        "b": (12,),
        "c": (12,),
    }
    verdicts = chapter(NAME).judge(partial)
    assert {(v.verdict, v.seeds) for v in verdicts} == {("inconclusive", (12,))}
    told = answers.losses(partial).data
    assert told.startswith(answers.losses(study).data)
    assert "*Panel b: not stored yet of seed 11 and 13.*" in told
    assert "**missing**: the runs of seed 11 and 13" in tables.protocol(partial).data


def test_an_empty_store_has_its_claims_as_missing(tmp_path):
    rows = {v.claim: v for v in ledger.verdicts(Store(tmp_path))}
    assert {rows[name].verdict for name in ("C2b", "C3b", "C2c", "C3c")} == {"missing"}
    assert all(rows[name].kind == "claim" for name in ("C2b", "C3b", "C2c", "C3c"))
