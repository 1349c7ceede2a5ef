"""A chapter run again: what was typed wins, what is to be computed is said first, errors are a sentence."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import few_digits

from subspace_lib.chapters import registered
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.progress import Progress, dear, duration
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_study
from subspace_lib.experiment import Experiment
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results import store
from subspace_lib.results.estimate import price
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.results.sweep import Standing
from subspace_lib.runs.training import Run

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = registered()


def papermills(**given):
    """The cells of a kernel in which papermill has put parameters."""
    return ["", "a = 1\n", "# Parameters\n" + "".join(f"{n} = {v!r}\n" for n, v in given.items())]


def every_parameter():
    """Chapter and name of every parameter, those that a profile fills in and the others."""
    return [
        pytest.param(chapter, name, id=f"{chapter.name}-{name}")
        for chapter in CHAPTERS.values()
        for name in type(chapter.parameters).model_fields
        if name != "profile"
    ]


@pytest.mark.parametrize(("chapter", "name"), every_parameter())
def test_a_typed_value_wins_over_the_profile_even_where_it_is_the_default(chapter, name):
    default = getattr(chapter.parameters, name)
    names = chapter.parameters.model_dump() | {"profile": "quick", name: default}
    names["In"] = papermills(profile="quick", **{name: default})
    found = page.parameters(names, chapter)
    assert getattr(found, name) == default
    assert name not in found.filled
    others = {n: v for n, v in type(chapter.parameters).QUICK.items() if n != name}
    if name == "dataset":  # its preprocessing belongs to quick's own data
        others.pop("preprocessing", None)
    assert set(found.filled) == set(others)
    for other, value in others.items():
        assert getattr(found, other) == getattr(type(found).parse(**{other: value}), other)


def test_a_value_edited_by_hand_wins_too():
    chapter = CHAPTERS["02_dom_vs_bulk"]
    names = chapter.parameters.model_dump() | {"profile": "quick", "steps": 300, "In": []}
    found = page.parameters(names, chapter)
    assert found.steps == 300 and found.dataset == "digits"


def test_what_the_issue_asks_for_word_by_word():
    """-p profile quick -p dataset mnist5k -p steps 300 runs MNIST for 300 steps."""
    chapter = CHAPTERS["02_dom_vs_bulk"]
    given = {"profile": "quick", "dataset": "mnist5k", "steps": 300}
    found = page.parameters(
        chapter.parameters.model_dump() | given | {"In": papermills(**given)}, chapter
    )
    assert (found.dataset, found.steps, found.profile) == ("mnist5k", 300, "quick")
    text = page.in_force(found, []).data
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "filled in by quick" in lines["switch_step"]
    assert "filled in by quick" not in lines["dataset"] + lines["steps"] + lines["loss"]


def test_parameters_that_the_rule_has_no_use_for_are_not_in_the_table():
    kind = type(CHAPTERS["02_dom_vs_bulk"].parameters)

    def names(**given):
        text = page.in_force(kind.parse(**given), []).data
        return {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")}

    assert not names() & {"rho", "beta", "period"} and {"steps", "optimizer"} <= names()
    assert "rho" in names(optimizer="sam") and "beta" in names(optimizer="momentum", beta=0.8)
    assert "period" in names(period=2)
    watch = {"watch_from", "switch_from"}
    assert watch <= names() and not watch & names(switch_alignment=None)


def test_a_switch_that_comes_early_is_watched_for_before_it():
    kind = type(CHAPTERS["02_dom_vs_bulk"].parameters)
    found = kind.parse(switch_step=800)
    assert (found.watch_from, found.switch_from) == (400, 400)
    assert found.run(0, "none").watch_from == 400
    usual = kind.parse(switch_step=1500)
    assert (usual.watch_from, usual.switch_from) == (900, 1000)
    quick = kind.parse(profile="quick", switch_alignment=0.9).resolved()
    assert quick.watch_from < quick.switch_from < quick.switch_step
    with pytest.raises(InvalidParameter, match="watch_from = 900 must be below switch_step = 800"):
        kind.parse(switch_step=800, watch_from=900).run(0, "none")


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [
        ("02b_architectures", {"switch_step": 800}, {"switch_step": 1000}),
        ("07_momentum_adam", {"switch_step": 800}, {"steps": 1000}),
        ("08_threshold", {"switch_steps": (3000, 800, 5000)}, {"switch_steps": (3000, 1000, 5000)}),
        ("09_losses_and_networks", {"switch_steps": (1000, 800)}, {"switch_steps": (1000, 2000)}),
    ],
)
def test_an_early_switch_is_watched_for_in_every_chapter_that_watches(name, early, late):
    kind = type(CHAPTERS[name].parameters)
    assert (kind.parse(**early).watch_from, kind.parse(**early).switch_from) == (400, 400)
    assert (kind.parse(**late).watch_from, kind.parse(**late).switch_from) == (900, 1000)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"steps": -5}, "steps = -5 is not allowed: input should be greater than or equal to 1."),
        (
            {"lerning_rate": 0.1},
            "lerning_rate is not a parameter (did you mean learning_rate?); the",
        ),
        ({"k": True}, "k = True is not allowed: True and False are no numbers and no names."),
        ({"k": {"a": 1}}, "k = {'a': 1} is not allowed: input should be a valid integer."),
        ({"seeds": "0;1"}, "seeds = '0;1' is not allowed"),
    ],
)
def test_a_mistake_is_one_sentence_about_what_was_typed(given, sentence):
    chapter = CHAPTERS["02_dom_vs_bulk"]
    names = chapter.parameters.model_dump() | given | {"In": papermills(**given)}
    with pytest.raises(InvalidParameter) as error:
        page.parameters(names, chapter)
    assert str(error.value).startswith(sentence)
    assert error.value._render_traceback_() == [f"InvalidParameter: {error.value}"]


@pytest.mark.parametrize("text", ["[0, 2]", "0,2", "(0, 2)", "0 2"])
def test_lists_are_read_as_the_parameters_cell_writes_them(text):
    kind = type(CHAPTERS["07_momentum_adam"].parameters)
    assert kind.parse(seeds=text).seeds == (0, 2)
    assert kind.parse(others='["nesterov", "adamw"]').others == ("nesterov", "adamw")
    assert kind.parse(others="['nesterov']").others == ("nesterov",)


@pytest.mark.whole
def test_before_a_run_it_is_said_what_is_missing_and_a_dry_run_stops_there(tmp_path, capsys):
    with few_digits():
        results = Store(tmp_path)
        tiny = {
            "dataset": "digits",
            "steps": 4,
            "switch_step": 2,
            "k": 2,
            "seeds": (3,),
            "record_every": 4,
        }
        tiny |= {"spectrum_every": None, "switch_alignment": None}
        with pytest.raises(page.DryRun) as stopped:
            page.study(switch_study, SwitchParameters.parse(**tiny, dry_run=True), results)
        says = str(stopped.value)
        assert says.startswith(
            "3 runs are not stored: SGD (1), Dom-SGD (1), Bulk-SGD (1); 12 steps, about "
        )
        assert says.endswith("dry_run = True: nothing was computed.")
        assert list(tmp_path.iterdir()) == []
        page.study(switch_study, SwitchParameters.parse(**tiny), results)
        assert "3 runs are not stored" in capsys.readouterr().out
        plan = Plan(results)
        switch_study(SwitchParameters.parse(**tiny), results, compute=plan)
        assert plan.missing == []
        # nothing is missing: no stop
        page.study(switch_study, SwitchParameters.parse(**tiny, dry_run=True), results)
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [n for n, c in CHAPTERS.items() if c.judge is not None])
def test_every_chapter_can_say_what_it_would_compute(name, tmp_path):
    chapter, plan = CHAPTERS[name], Plan(Store(tmp_path))
    chapter.study(chapter.parameters, Store(tmp_path), compute=plan)
    assert plan.missing
    results = Store(ROOT / "results")
    stored = Plan(results)
    chapter.study(chapter.parameters, results, compute=stored)
    assert not any(results.holds(run) for run in stored.missing)
    try:  # nothing is planned that the chapter's page can do without
        chapter.study(chapter.parameters, results, compute=False)
    except MissingRun:
        assert stored.missing


def test_a_reruns_results_are_the_readers_own(monkeypatch, tmp_path):
    monkeypatch.delenv("SUBSPACE_RESULTS", raising=False)
    own, committed = Store().roots
    assert (own.name, committed) == ("my-results", ROOT / "results")
    ignored = subprocess.run(["git", "check-ignore", "-q", str(own / "x")], cwd=ROOT)
    assert ignored.returncode == 0
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path))
    assert Store().roots == (tmp_path,)


@pytest.mark.whole
def test_what_is_stored_in_either_folder_is_loaded_and_written_to_the_first(monkeypatch, tmp_path):
    first, second = tmp_path / "own", tmp_path / "committed"
    monkeypatch.setattr(store, "default_roots", lambda: (first, second))
    chapter = CHAPTERS["02_dom_vs_bulk"]
    fields = {"dataset": "digits", "steps": 2, "k": 2, "record_every": None, "spectrum_every": None}
    one, two = (chapter.parameters.experiment(seed, **fields) for seed in (0, 1))
    Store(second).run(one)
    assert Store().holds(one) and not Store().holds(two)
    assert Store().load(one).status == "complete"
    assert not first.exists()
    Store().run(two)
    assert (first / two.key).exists() and not (second / two.key).exists()


def test_progress_says_step_rate_and_time_left_in_one_line(monkeypatch, capsys):
    class Run:
        step = 0

        class experiment:
            steps = 1000

    now = iter([0.0, 0.0, 61.0, 62.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    progress, run = Progress("SGD, seed 0"), Run()
    progress(run)
    run.step = 250
    progress(run)
    progress.close("complete")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "SGD, seed 0: step 250 of 1,000, 4.1 steps a second, 3 min left",
        "SGD, seed 0: complete, 62 s",
    ]
    assert [duration(s) for s in (5, 600, 7200)] == ["5 s", "10 min", "2.0 h"]


def dear_run(**fields):
    """A run whose subspace is refreshed at every step, just before its last row."""
    small = {"dataset": "digits", "model": "mlp_small", "batch_size": 20, "steps": 12, "k": 3}
    run = Run(Experiment(**small, switch_step=4, **{"projection": "dominant"} | fields))
    while run.step < 12:
        run.advance()
    return run


def test_the_price_of_a_run_is_that_of_its_looks_and_refreshes_over_its_steps():
    run = dear_run(record_every=100, spectrum_every=None)
    first, spent, steps = None, 0.0, 0
    again = Run(run.experiment)
    while again.step < 12:
        before, step = again.objective.gradient_equivalents, again.step
        again.advance()
        if step == 4:  # the cold start
            first = again.objective.gradient_equivalents
        elif step > 4:
            spent += again.objective.gradient_equivalents - before
    steps = 12 - 5
    own = 20 / run.experiment.samples
    # of 8 steps since the cold start; 7 of them beyond it, each with its own gradient
    assert spent / steps / own - 1 == pytest.approx(price(run) * 8 / 7, rel=0.02)
    assert first is not None and price(run) > 20
    assert price(dear_run(record_every=100, spectrum_every=None, budget=2.0)) == 0.0


def test_what_looks_at_its_rows_alone_has_no_price_that_a_budget_limits():
    run = dear_run(projection="none", record_every=2, spectrum_every=None)
    assert run.refreshes + run.objective.gradient_equivalents > 1
    assert price(run) == 0.0


def test_a_budget_is_of_the_adaptive_schedule():
    with pytest.raises(
        InvalidParameter, match="budget = 8 limits refresh_every = 'adaptive'; with 1"
    ):
        SwitchParameters.parse(budget=8, refresh_every=1)
    p = SwitchParameters.parse(budget=8)
    assert p.run(0, "dominant", 300).budget == 8
    assert p.experiment(0, refresh_every=50).budget is None


def test_progress_says_what_costs_much_and_what_limits_it(monkeypatch, capsys):
    run = dear_run(record_every=100, spectrum_every=None)
    now = iter([0.0, 0.0, 61.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    progress = Progress("Dom-SGD, seed 0")
    progress(run)
    progress(run)
    (line,) = capsys.readouterr().err.splitlines()
    told = f"costs {price(run):.0f} times as much as the steps: a budget limits that"
    assert line.endswith(told)

    standing = Standing([run.experiment])
    standing.note(run.experiment.key, run.step, price(run))
    assert dear(standing.price).endswith(told)
    standing.end(run.experiment.key)
    assert dear(standing.price) == ""


@pytest.mark.parametrize(
    "chapter",
    [c for c in CHAPTERS.values() if "budget" in type(c.parameters).model_fields],
    ids=lambda chapter: chapter.name,
)
def test_a_budget_reaches_every_run_that_follows_the_subspace(chapter):
    plan = Plan(Store(Path("nowhere")))
    given = {"profile": "quick", "budget": 7.5}
    chapter.study(type(chapter.parameters).parse(**given), plan.store, compute=plan)
    runs = [e for e in plan.missing if e.kind in ("training", "weighted", "averaged")]
    assert {e.budget for e in runs if e.refresh_every == "adaptive"} == {7.5}
    assert {e.budget for e in runs if e.refresh_every != "adaptive"} <= {None}


@pytest.mark.whole
@pytest.mark.parametrize(
    "given",
    [
        ["-p", "steps", "-5"],
        pytest.param(["-p", "lerning_rate", "0.1"], marks=pytest.mark.slow),  # a kernel once more
    ],
)
def test_papermill_ends_with_the_sentence_and_no_stack_of_the_library(tmp_path, given):
    out = tmp_path / "out.ipynb"
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        str(ROOT / "notebooks" / "02_dom_vs_bulk.ipynb"),
        str(out),
        *given,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"InvalidParameter: {given[1]} ") and last.endswith(".")
    errors = [
        output
        for cell in nbformat.read(out, 4).cells
        for output in cell.get("outputs", ())
        if output.output_type == "error"
    ]
    assert [len(error.traceback) for error in errors] == [1]
