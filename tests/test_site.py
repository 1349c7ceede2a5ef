"""The pages beside the chapters: explorer, status, the paper's figures, reruns, downloads, checks."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from docutils import nodes
from docutils.core import publish_doctree
from hypothesis import given, settings, strategies as st

from subspace_lib.book import (
    checks,
    citation,
    densities,
    download,
    ends,
    explorer,
    icons,
    made as directives,
    packing,
    page,
    paper,
    release,
    rerun,
    site as site_parts,
    status,
    version,
)
from subspace_lib.book.shown import ShownRun, runs
from subspace_lib.chapters import ledger, registered
from subspace_lib.chapters.follow_ups.judge import gain
from subspace_lib.chapters.follow_ups.study import SGD, FollowUpParameters, follow_up_study
from subspace_lib.chapters.kit.page import NOT_YET
from subspace_lib.chapters.kit.table import markdown
from subspace_lib.chapters.threshold.study import ThresholdParameters, threshold_study
from subspace_lib.chapters.threshold.tables import apart
from subspace_lib.evidence.criterion import MARKS
from subspace_lib.evidence.verdicts import INCONCLUSIVE, MISSING, Verdict, missing, part
from subspace_lib.experiment import NUMERICS, Experiment
from subspace_lib.optimizers import RULES
from subspace_lib.results import modules
from subspace_lib.results.store import REPOSITORY, Store
from subspace_lib.runs.substitute import Substitute
from subspace_lib.runs.weighted import Averaged, Weighted
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory, progress

KEY = "mnist5k-mlp-sgd-s11-0123456789"


# ---- the explorer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [np.geomspace(1e-4, 3, 50), np.linspace(-2, 5, 50), np.array([0.25]), np.full(4, 7.0)]
)
def test_packed_numbers_come_back(values):
    low, high, log, text = packing.pack(values)
    again = packing.unpack(low, high, log, text)
    scale = values if (values > 0).all() else np.ptp(values)
    assert np.abs((again - values) / scale).max() < 7e-4
    assert len(text) == 2 * len(values)
    assert json.dumps(text)[1:-1] == text  # nothing that JSON writes longer


def test_a_thinned_series_keeps_its_ends_and_drops_what_is_no_number():
    series = pd.Series(np.arange(1000.0), index=np.arange(1000) * 10)
    series.iloc[[5, 7]] = [np.nan, np.inf]
    whole = packing.known(series)
    kept = packing.thin(whole, 40)
    assert len(whole) == 998 and len(kept) == 40
    assert kept.index[0] == 0 and kept.index[-1] == 9990
    assert (series[kept.index] == kept).all()
    assert len(packing.thin(whole.iloc[:10], 40)) == 10


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 3000), st.integers(12, 160))
def test_a_thinned_series_has_as_many_rows_as_it_may_and_is_denser_early(rows, points):
    kept = packing.thin(pd.Series(np.arange(float(rows))), points)
    assert len(kept) == min(rows, points) and kept.index.is_unique
    steps = np.diff(kept.index)
    assert (steps > 0).all() and steps[: len(steps) // 2].sum() <= rows / 2
    if rows > 5 * points:
        assert steps[0] <= steps[-1] / 2


def test_a_steep_fall_is_kept():
    # Of 224 rows a loss falls to a third in the first ten: 18 evenly spread would draw a line.
    loss = pd.Series(0.2 + 0.4 * np.exp(-np.arange(224) / 3), index=90 * np.arange(224))
    kept = packing.thin(loss, 36)
    drawn = np.interp(loss.index, kept.index, kept)
    assert np.abs(drawn - loss).max() < 0.03


def made(projection, losses, seed=11, kind=Experiment, **fields):
    """A shown run with these losses at every tenth step."""
    length = 10 * (len(losses) - 1)
    experiment = kind(
        **{"dataset": "mnist5k", "preprocessing": "unit", "steps": length, "seed": seed}
        | {"projection": projection} | fields,
    )  # fmt: skip
    table = pd.DataFrame({"step": 10 * np.arange(len(losses)), "train_loss": losses})
    table["alignment"], table["gradient_equivalents"] = 0.5, 1.0 * table["step"]
    run = Trajectory(experiment, table, "complete", None, {})
    return ShownRun(experiment.key, None, experiment.describe(), run, ())


def told(found, shown, names):
    """A run of the explorer's data, with the values that stand in the order of these names."""
    (run,) = [run for run in found["runs"] if run["key"] == shown.key and "series" in run]
    return run, dict(zip(found[names], run["series" if names == "quantities" else names]))  # noqa: B905


def test_the_explorer_compares_a_projected_run_with_the_rule_itself():
    plain = made("none", [2.0, 1.5, 1.0])
    other = made("none", [2.0, 1.0, 0.1], seed=12)
    dom = made("dominant", [2.0, 1.9, 1.8])
    found = explorer.data([plain, other, dom])
    _, own = told(found, plain, "quantities")
    assert {name for name, series in own.items() if series} == {"train_loss", "alignment", "cost"}
    _, series = told(found, dom, "quantities")
    place, *packed = series["progress"]
    assert np.cumsum(found["steps"][place]).tolist() == [0, 10, 20]
    # of its own seed's gain of 1: 0, 0.1, 0.2
    np.testing.assert_allclose(packing.unpack(*packed), [0, 0.1, 0.2], atol=1e-4)
    _, last = told(found, dom, "ends")
    assert last["progress"] == pytest.approx(progress(plain.run, dom.run)) == pytest.approx(0.2)
    assert found["quantities"]["progress"]["lines"][0]["at"] == 0.1
    assert "C1: ≥ 0.8" in [line["says"] for line in found["quantities"]["alignment"]["lines"]]
    assert explorer.script(found).startswith("window.subspaceRuns={")


def test_a_run_is_compared_with_as_much_of_a_longer_one_as_it_has_steps():
    longer = made("none", [2.0, 1.5, 1.0, 0.1])
    dom = made("dominant", [2.0, 1.9, 1.8], k=5)
    _, last = told(explorer.data([longer, dom]), dom, "ends")
    assert last["progress"] == pytest.approx(0.2)


def test_a_longer_run_stands_among_those_with_other_k_as_far_as_they_go():
    losses = [2.0, 1.5, 1.0]
    cuts = [made("none", losses, k=k, steps=20) for k in (2, 5)]
    found = explorer.data([*cuts, made("none", [*losses, 0.1])])
    (beginning,) = [run for run in found["runs"] if "series" not in run]
    assert beginning["at"][0] == 10 and beginning["status"] == "the beginning of a longer run"
    assert beginning["ends"][[*found["ends"]].index("train_loss")] == 1.0
    assert found["words"][beginning["parameters"]].endswith("20 steps")


def test_densities_are_the_gaussians_around_the_stored_nodes():
    nodes, weights = [0.0, 1.0, 10.0], [0.7, 0.2, 0.1]
    rows = [("node", "H", i, value) for i, value in enumerate(2 * nodes)]
    rows += [("weight", "H", i, value) for i, value in enumerate(2 * weights)]
    rows += [("eigenvalue", "H", i, value) for i, value in ((1, 10.0), (2, 1.0), (3, math.nan))]
    rows += [("parameters", "", 0, 100.0)]
    table = pd.DataFrame(rows, columns=["quantity", "operator", "index", "value"]).assign(
        anchor=500
    )
    description = {"kind": "curvature", "seed": 11, "k": 2, "probes": 2, "pyhessian": 0}
    run = SimpleNamespace(
        key=KEY, setting="MLP", description=description, run=SimpleNamespace(table=table)
    )
    (found,) = densities.densities([run, made("none", [2.0, 1.0])])
    assert (found["step"], found["seed"], found["top"]) == (500, 11, [10.0, 1.0, None])
    x = np.linspace(found["low"], found["high"], densities.POINTS)
    width = 0.1  # a hundredth of the nodes' range
    bumps = [np.exp(-(((x - node) / width) ** 2) / 2) for node in nodes]
    height = 1 / (width * math.sqrt(2 * math.pi))
    curve = height * np.dot(weights, bumps)
    assert found["single"] == pytest.approx(height / 100, rel=1e-3)
    expected = np.maximum(curve, height / 1000)
    np.testing.assert_allclose(packing.unpack(*found["values"]), expected, rtol=5e-3)


def test_runs_of_older_numerics_are_drawn_where_a_page_shows_them():
    new, old = made("none", [2.0, 1.0]), made("none", [2.0, 1.5], seed=12)
    old = replace(old, description={**old.description, "numerics": NUMERICS - 1})
    assert explorer.explored([new, old]) == [new]
    shown = replace(old, pages=("08_threshold",))
    assert explorer.explored([new, shown]) == [new, shown]
    alone = replace(new, run=replace(new.run, table=new.run.table.drop(columns="alignment")))
    assert explorer.explored([alone, new]) == [new]


def test_every_method_has_the_colour_of_its_family():
    shown = [
        made(side, [2.0, 1.0], optimizer=rule, batch_size=batch)
        for rule in RULES
        for batch in (50, 5000)
        for side in PROJECTIONS
    ]
    shown += [made("none", [2.0, 1.0], kind=Weighted, bulk=2.0)]
    shown += [made("none", [2.0, 1.0], kind=Averaged, batch_size=5000)]
    shown += [made("dominant", [2.0, 1.0], kind=Substitute, space="random")]
    found = explorer.data(shown)["colours"]
    sgd = {"SGD", "Dom-SGD", "Bulk-SGD"}
    assert len({found[name] for name in sgd}) == 3
    families = {name.removeprefix("Dom-").removeprefix("Bulk-") for name in found}
    assert len({found[name] for name in families}) == len(families) >= len(RULES) + 3
    for name in {*found} - sgd:
        assert found[name] == found[name.removeprefix("Dom-").removeprefix("Bulk-")]
    with pytest.raises(KeyError):
        explorer.colour("Dom-Adagrad")


def test_what_does_not_fit_is_thinned_further(monkeypatch):
    shown = [made("none", list(np.geomspace(1, 0.1, 150)), seed=s) for s in range(11, 21)]
    whole = explorer.data(shown)
    size = len(explorer.script(whole).encode())
    monkeypatch.setattr(explorer, "BUDGET", size - 10 * (2 * 2 + 1) * 50)
    less = explorer.data(shown)

    def lengths(found):
        return {len(s[4]) // 2 for run in found["runs"] for s in run["series"] if s}

    assert max(lengths(whole)) == 150 and 90 <= max(lengths(less)) <= 110
    assert len(explorer.script(less).encode()) <= explorer.BUDGET


def test_the_explorers_page_stays_light():
    static = REPOSITORY / "book" / "_static"
    files = [
        "explorer.js",
        "explorer.css",
        *(f"vendor/uPlot.{end}" for end in ("iife.min.js", "min.css")),
    ]
    page = 25_000  # its HTML
    assert page + explorer.BUDGET + sum((static / name).stat().st_size for name in files) < 600_000


@pytest.mark.whole
def test_ends_are_the_numbers_of_the_chapters():
    """Progress and angles of chapter 08, gains of chapter 13, from their own studies."""
    threshold = threshold_study(ThresholdParameters.parse(), compute=False)
    follow_ups = follow_up_study(FollowUpParameters.parse(), compute=False)
    wanted = {}
    for case in threshold.cases.values():
        for k in case.parameters.cuts:
            for side in PROJECTIONS[1:]:
                for (_, run), value in zip(
                    case.pairs(k, side), case.progress(k, side), strict=True
                ):
                    wanted[run.part_of or run.experiment.key, run.experiment.steps, "progress"] = (
                        value
                    )
    spaces = threshold.spaces
    for name in spaces.names()[1:]:
        for side in PROJECTIONS[1:]:
            values = spaces.progress(name, side), apart(spaces, name, side)
            for run, made, angle in zip(spaces.of(name, side), *values, strict=True):
                e = run.experiment
                wanted[e.key, e.steps, "progress"], wanted[e.key, e.steps, "angle"] = made, angle
    for (_, seed), run in follow_ups.weighted.items():
        value = gain(run) / gain(follow_ups.weighted[SGD, seed])
        wanted[run.experiment.key, run.experiment.steps, "gain"] = value
    shown = explorer.explored(runs({}))
    shorter = ends.cut(shown)
    found = {}
    for some in (shown, shorter):
        numbers = ends.ends(ends.beside(some, shown))
        for run in some:
            for name in ("progress", "angle", "gain"):
                found[run.key, run.description["steps"], name] = numbers[name].of(run)
    assert len(wanted) > 150
    for place, value in wanted.items():
        assert found[place] == pytest.approx(value, rel=1e-9, nan_ok=True), place


def test_a_run_says_what_it_is_in_a_few_words():
    run = made("none", [1.0, 0.5], optimizer="sam", rho=0.02, k=5)
    assert run.setting == "MLP · MNIST-5k · pixels x/255"
    assert run.parameters == "η 0.01 · batch 50 · ρ 0.02 · k 5 · 10 steps"


def test_the_books_runs_are_those_of_the_folder_and_those_that_pages_name(tmp_path):
    results = REPOSITORY / "results"
    here, there, other = sorted(p.parent.name for p in results.glob("valley-*/provenance.json"))[:3]
    mine, stored = tmp_path / "mine", tmp_path / "stored"
    for key, root in ((here, stored), (there, mine), (other, mine)):
        shutil.copytree(results / key, root / key)
    notebook = tmp_path / "04.ipynb"
    notebook.write_text(f"`{there}`")
    store = Store(stored)
    store.roots = (mine, stored)
    found = {run.key: run.pages for run in runs({"notebooks/04": notebook}, store)}
    assert found == {here: (), there: ("notebooks/04",)}


# ---- status -------------------------------------------------------------------------------------------


def test_a_runs_state_is_said_as_far_as_it_is_known(monkeypatch):
    run = made("none", [1.0, 0.5])
    assert status.state(run) == status.UNKNOWN
    run.run.provenance["modules"] = modules.modules_hash("training")
    assert status.state(run) == status.CURRENT
    run.run.provenance["modules"] = "0" * 16
    assert status.state(run) == status.CHANGED
    same = {"SGD": {"loss, last": 1.0}}
    record = {"training": {modules.modules_hash("training"): same, "0" * 16: same}}
    monkeypatch.setattr(status, "touchstones", lambda folder: record)
    assert status.state(run) == status.SAME
    assert (
        status.state(ShownRun(KEY, None, {"numerics": NUMERICS - 1}, run.run, ())) == status.OLDER
    )


def test_runs_of_other_code_are_named_with_what_to_do_about_them(monkeypatch, tmp_path):
    run = made("none", [1.0, 0.5])
    folders = (checks.COMMITTED / "a", tmp_path / "my-results" / "b")
    old = [ShownRun(KEY, f, run.description, run.run, ("notebooks/02",)) for f in folders]
    monkeypatch.setattr(checks, "runs", lambda app: old)
    for state in (status.CHANGED, status.OLDER, status.UNKNOWN):
        monkeypatch.setattr(checks, "state", lambda run, state=state: state)
        stored, own = checks.changed(None)
        assert "results.touchstone" in stored and "my-results" not in stored
        assert f"1 runs of {tmp_path / 'my-results'}" in own and "execute notebooks/02 again" in own
        assert f"({state})" in stored and f"({state})" in own
    # what no page shows may be old: it is kept as evidence
    unseen = [ShownRun(KEY, folders[0], run.description, run.run, ())]
    monkeypatch.setattr(checks, "runs", lambda app: unseen)
    assert list(checks.changed(None)) == []
    monkeypatch.setattr(checks, "runs", lambda app: old)
    for state in (status.SAME, status.CURRENT):
        monkeypatch.setattr(checks, "state", lambda run, state=state: state)
        assert list(checks.changed(None)) == []


def test_comments_and_docstrings_change_no_hash_and_code_does(tmp_path):
    module = tmp_path / "module.py"
    forms = (
        'def f(x):\n    """Twice."""\n    return 2 * x  # twice\n',
        "def f(x):\n\n    return 2 * x\n",
        "def f(x):\n    return 3 * x\n",
        'def f(x):\n    return "2 # x"\n',
    )
    found = []
    for text in forms:
        module.write_text(text)
        found.append(modules.essence(module))
    assert found[0] == found[1] != found[2] and '"2 # x"' in found[3]


def test_the_modules_of_a_run_are_those_that_compute_it():
    names = {p.relative_to(modules.HOUSE).as_posix() for p in modules.computing("training")}
    assert {
        "runs/training.py",
        "optimizers.py",
        "linalg/eigensolver.py",
        "subspace/tracker.py",
    } <= names
    assert not {
        name for name in names if name.startswith(("chapters", "results", "evidence", "book"))
    }
    assert modules.modules_hash("training") != modules.modules_hash("valley")


@pytest.mark.parametrize("kind", ["valley", "regression"])
def test_what_lays_out_simulated_runs_is_in_their_hash_and_a_new_criterion_is_not(
    kind, tmp_path, monkeypatch
):
    house = tmp_path / "subspace_lib"
    shutil.copytree(modules.HOUSE, house, ignore=shutil.ignore_patterns("*.pyc", "_static"))
    used = set(re.findall(r"\b[a-z]+\.([A-Z_]{4,})\b", (house / "runs/simulation.py").read_text()))
    evidence = {path: path.read_text() for path in (house / "evidence").glob("*.py")}
    used = {name for name in used if any(f"\n{name} = " in text for text in evidence.values())}
    assert len(used) == 6
    monkeypatch.setattr(modules, "HOUSE", house)
    now = modules.modules_hash.__wrapped__
    first, seen = now(kind), set()
    for name in used:
        for path, text in evidence.items():
            path.write_text(re.sub(rf"\n{name} = [^ ]+", f"\n{name} = 77", text))
        seen.add(now(kind))
        for path, text in evidence.items():
            path.write_text(text)
    assert len(seen) == 6 and first not in seen
    with (house / "evidence/criteria.py").open("a") as file:
        file.write('Q99 = Criterion("2026-12-01", "own: something else", at_least=0.5)\n')
    assert now(kind) == first


def test_the_time_of_a_notebook_is_read_from_its_cells():
    times = {
        "iopub.execute_input": "2026-11-26T01:00:00.5Z",
        "shell.execute_reply": "2026-11-26T01:00:03Z",
    }
    cells = [{"metadata": {"execution": times}}, {"metadata": {}}]
    assert status.executed({"cells": cells}) == (2.5, "2026-11-26")
    assert status.executed({"cells": cells[1:]}) == (None, None)


def test_the_data_of_a_run_are_those_that_are_stored(tmp_path):
    key = next(
        path.parent.name for path in (REPOSITORY / "results").glob("valley-*/provenance.json")
    )
    shown = [run for run in runs({}, Store(REPOSITORY / "results")) if run.key == key]
    status.write_data(shown, tmp_path)
    again = pd.read_csv(tmp_path / f"{key}.csv")
    pd.testing.assert_frame_equal(again, shown[0].run.table, check_dtype=False, rtol=1e-5)
    told = json.loads((tmp_path / f"{key}.json").read_text())
    assert told["description"] == shown[0].description and "repeat" not in told
    before = (tmp_path / f"{key}.csv").stat().st_mtime_ns
    status.write_data(shown, tmp_path)
    assert (tmp_path / f"{key}.csv").stat().st_mtime_ns == before


# ---- the paper ----------------------------------------------------------------------------------------


def test_every_item_of_the_paper_says_how_it_is_known_and_leads_to_what_took_it_up():
    claims = ledger.claims()
    for item in paper.ITEMS:
        assert item.marks and set(item.marks) <= set(MARKS)
        assert item.absent or set(item.claims) & set(claims), item.name
    taken = {claim for item in paper.ITEMS for claim in item.claims}
    assert {name for name, claim in claims.items() if claim.kind == "claim"} <= taken
    assert len({item.id for item in paper.ITEMS}) == len(paper.ITEMS)


def test_a_card_of_the_paper_has_verdict_seeds_and_links_or_the_reason():
    claims = ledger.claims()
    done = Verdict("C2", "reproduced", "", seeds=(11, 12, 13), steps=20_000)
    other = Verdict("Q1", "does not hold", "", parts=(part("progress, MLP", [0.1], None),))
    rows = [done, other, *(missing(claims[name]) for name in ("C1", "C5"))]
    html = paper.page(rows, lambda name: f"x/{name}.html", "index.html")
    cards = dict(
        re.findall(
            r'<li class="claim" id="([\w-]+)">(.*?)</li>(?=<li class="claim"|</ul><p>)', html
        )
    )
    assert "index.html#claim-C2" in cards["fig-1a"] and "reproduced" in cards["fig-1a"]
    assert "seeds 11, 12, 13, 20,000 steps" in cards["fig-1a"]
    assert 'href="x/02_dom_vs_bulk.html">Chapter 02<' in cards["fig-1a"]
    assert "<strong>Not judged yet</strong>, because its runs are not finished" in cards["fig-3"]
    assert "<strong>Not judged yet</strong>, because the runs of a network of" in cards["fig-17"]
    assert "Chapter 09<" in cards["fig-17"]
    assert "does not hold" in cards["fig-14"]
    deep = replace(other, parts=(part("progress, VGG-11", [0.1], None),))
    html = paper.page([deep], str, "")
    assert (
        html.count("does not hold") == 1
        and "descriptive</span>, 1 seed: progress, VGG-11: 0.100" in html
    )
    assert "Figures 2, 4 to 7" in html


# ---- reruns -------------------------------------------------------------------------------------------


def notebook(*cells, **metadata):
    found = nbformat.v4.new_notebook(metadata=metadata)
    for kind, source, tags in cells:
        make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        cell = make(source, metadata={"tags": list(tags)} if tags else {})
        if kind == "code":
            cell.execution_count = 1
        found.cells.append(cell)
    return json.loads(nbformat.writes(found))


PARAMETERS = (
    "code",
    "k = 10  # its size\nseeds = [11, 12]\nloss = None\ndry_run = False",
    ["parameters"],
)
GIVEN = ("code", "# Parameters\nk = 5", ["injected-parameters"])


def test_the_rerun_line_has_the_pages_own_parameters():
    made_ = notebook(PARAMETERS, GIVEN)
    given = rerun.values(made_, rerun.GIVEN)
    assert rerun.line("02", given) == "papermill notebooks/02.ipynb mine.ipynb -p k 5"
    every = rerun.values(made_, rerun.DEFAULTS) | given
    assert rerun.line("02", every).endswith("mine.ipynb -p k 5 -p seeds 11,12 -p loss None")


def test_the_rerun_line_means_to_papermill_what_the_page_says():
    from papermill.cli import _resolve_type

    chapter = registered()["02_dom_vs_bulk"]
    source = jupytext.read(REPOSITORY / "notebooks" / "02_dom_vs_bulk.py")
    whole = json.loads(nbformat.writes(source))
    words = rerun.line("02_dom_vs_bulk", rerun.values(whole, rerun.DEFAULTS)).split(" -p ")[1:]
    typed = {name: _resolve_type(text) for name, text in (word.split(" ", 1) for word in words)}
    assert type(chapter.parameters).parse(**typed) == chapter.parameters


def rerun_of(chapter, *cells):
    return notebook(*cells, papermill={"input_path": f"notebooks/{chapter}.ipynb"})


def test_a_rerun_becomes_a_page_behind_its_chapter_with_labels_of_its_own(tmp_path):
    text = (
        "# 02 · Title\n\nSee {numref}`fig-loss`, {eq}`eq-a` and {eq}`eq-b`.\n\n"
        "```{math}\n:label: eq-a\nx\n```\n\n$$\ny\n$$ (eq-b)\n"
    )
    mine = rerun_of("02_dom_vs_bulk", ("markdown", text, ()), PARAMETERS, GIVEN)
    mine["cells"][1]["metadata"]["mystnb"] = {"figure": {"name": "fig-loss", "caption": "c"}}
    shown = {"output_type": "execute_result", "data": {}, "metadata": {}, "execution_count": 1}
    mine["cells"][1]["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": "8 s left"},
        shown,
    ]
    (tmp_path / "my run.ipynb").write_text(json.dumps(mine))
    (place,) = page.copy([tmp_path / "my run.ipynb"], tmp_path / "copy")
    assert place == tmp_path / "copy/book/notebooks/my-run.ipynb"
    found = json.loads(place.read_text())
    first = found["cells"][0]["source"]
    assert first.startswith("# 02 · Title: k = 5\n")
    assert "**A rerun of yours, not the book's result**, from `my-run.ipynb`" in first
    assert "Parameters given: `k = 5`." in first and "{doc}`02_dom_vs_bulk`" in first
    assert found["cells"][1]["outputs"] == [shown]  # no line of progress
    assert "{numref}`fig-loss-my-run`" in first and first.count("eq-a-my-run") == 2
    assert first.count("eq-b-my-run") == 2
    assert found["cells"][1]["metadata"]["mystnb"]["figure"]["name"] == "fig-loss-my-run"
    files = [
        c["file"] for c in yaml.safe_load((place.parents[1] / "_toc.yml").read_text())["chapters"]
    ]
    assert files.index("notebooks/my-run") == files.index("notebooks/02_dom_vs_bulk") + 1
    assert not (REPOSITORY / "notebooks" / "my-run.ipynb").exists()
    assert not list(place.parent.glob("*.py"))
    # Several stand in the order in which they are named, and what an earlier call has left goes.
    built = tmp_path / "copy/_build/html/notebooks/my-run.html"
    built.parent.mkdir(parents=True)
    built.write_text("old")
    (tmp_path / "next.ipynb").write_text(json.dumps(mine))
    page.copy([tmp_path / "my run.ipynb", tmp_path / "next.ipynb"], tmp_path / "copy")
    toc = yaml.safe_load((place.parents[1] / "_toc.yml").read_text())["chapters"]
    files = [c["file"] for c in toc]
    first = files.index("notebooks/02_dom_vs_bulk")
    assert files[first + 1 : first + 3] == ["notebooks/my-run", "notebooks/next"]
    assert not built.exists()


def test_what_cannot_become_a_page_is_told_in_a_sentence(tmp_path, capsys):
    failed = rerun_of("02_dom_vs_bulk", PARAMETERS)
    failed["cells"][0]["outputs"] = [
        {
            "output_type": "error",
            "ename": "InvalidParameter",
            "evalue": "kk is none.",
            "traceback": [],
        }
    ]
    cases = {
        "none.ipynb": (None, "does not exist"),
        "text.ipynb": ("no JSON", "is not a notebook"),
        "failed.ipynb": (json.dumps(failed), "ended in InvalidParameter: kk is none"),
        "other.ipynb": (json.dumps(notebook(PARAMETERS)), "is no rerun of a chapter"),
        "02_dom_vs_bulk.ipynb": (
            json.dumps(rerun_of("02_dom_vs_bulk", PARAMETERS)),
            "has the name of another page",
        ),
    }
    for name, (content, says) in cases.items():
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(page.NoPage, match=says):
            page.copy([tmp_path / name], tmp_path / "copy")
    with pytest.raises(SystemExit):
        page.main([f"{tmp_path}/none.ipynb {tmp_path}/text.ipynb"])  # as make hands several over
    assert capsys.readouterr().err.startswith(f"{tmp_path}/none.ipynb does not exist")


# ---- downloads ----------------------------------------------------------------------------------------


def test_a_download_has_plain_markdown():
    def names(kind, target):
        return f"<{kind} {target}>"

    text = (
        "(top)=\n# Title\n\nThe {term}`alignment` of {term}`Dom-SGD <Dom-SGD, Bulk-SGD>`, "
        "{cite:t}`song2025`.\n\n```{math}\n:label: eq-a\nx^2\n```\n\n"
        "```{note} Mind\n:class: tip\nOne\n\ntwo {doc}`../glossary`\n```\n\n"
        "$$\ny\n$$ (eq-rest)\n\n$$z.$$ (eq-z)\n"
    )
    assert download.plain(text, names) == (
        "# Title\n\nThe <term alignment> of *Dom-SGD*, <cite:t song2025>.\n\n"
        "$$\nx^2\n$$\n\n> **Mind**\n>\n> One\n>\n> two <doc ../glossary>\n\n"
        "$$\ny \\tag{rest} $$\n\n$$z. \\tag{z} $$\n"
    )


def test_citations_read_as_authors_and_year():
    found = download.citations(REPOSITORY / "book" / "references.bib")
    assert (
        found["song2025"] == "Song et al., 2025" and found["davis1970"] == "Davis and Kahan, 1970"
    )


# ---- checks -------------------------------------------------------------------------------------------


def objections(tmp_path, made_):
    path = tmp_path / "02.ipynb"
    path.write_text(json.dumps(made_, ensure_ascii=False))
    return list(checks.objections(path, [tmp_path]))


def test_a_page_with_a_failed_a_skipped_cell_or_a_missing_run_is_not_built(tmp_path):
    good = notebook(PARAMETERS, ("code", "1", ()))
    assert objections(tmp_path, good) == []
    skipped = notebook(PARAMETERS, ("code", "1", ()))
    skipped["cells"][1]["execution_count"] = None
    assert objections(tmp_path, skipped) == [
        "02.ipynb: code cell 2 was not executed; make notebooks does it."
    ]
    failed = notebook(PARAMETERS)
    failed["cells"][0]["outputs"] = [
        {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": []}
    ]
    assert objections(tmp_path, failed) == ["02.ipynb: code cell 1 ended in KeyError: 'x'"]
    lost = notebook(("markdown", f"`{KEY}`", ()))
    (said,) = objections(tmp_path, lost)
    assert said.startswith(f"02.ipynb shows {KEY}, which no folder of results holds")
    # a page that says that its runs are not finished may be built
    lost["cells"][0]["source"] = f"{NOT_YET} `{KEY}`"
    assert objections(tmp_path, lost) == []
    (tmp_path / KEY).mkdir()
    (tmp_path / KEY / "provenance.json").touch()
    assert objections(tmp_path, notebook(("markdown", f"`{KEY}`", ()))) == []


def test_a_pair_that_differs_is_not_built(tmp_path):
    made_ = notebook(("markdown", "# A", ()))
    (tmp_path / "02.py").write_text("# %% [markdown]\n# # A\n")
    assert objections(tmp_path, made_) == []
    (tmp_path / "02.py").write_text("# %% [markdown]\n# # B\n")
    (said,) = objections(tmp_path, made_)
    assert said == "02.py and 02.ipynb differ; make notebooks executes them anew."


# ---- releases and citation ----------------------------------------------------------------------------


def test_a_release_holds_what_its_manifest_says_and_is_the_same_each_time(tmp_path):
    site, results = tmp_path / "site", tmp_path / "results"
    for path, text in ((site / "index.html", "page"), (results / "a" / "x.json", "{}")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (results / ".checkpoints").mkdir()
    (results / ".checkpoints" / "half").write_text("unfinished")
    files = release.members(site, results)
    assert list(files) == ["book/index.html", "results/a/x.json"]
    first = release.pack(files, tmp_path / "a.tar.gz", "t").read_bytes()
    assert release.pack(files, tmp_path / "a.tar.gz", "t").read_bytes() == first
    release.check(tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        tar.extractall(tmp_path / "out", filter="data")
    (tmp_path / "out" / "t" / "book" / "index.html").write_text("altered")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "out" / "t", "t")
    with pytest.raises(ValueError, match=r"book/index\.html is missing, altered"):
        release.check(tmp_path / "b.tar.gz")


def test_the_version_stands_in_one_place_and_the_citation_has_it():
    from importlib.metadata import version as installed

    told = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert told["version"] == installed("subspace_lib")
    assert {"cff-version", "message", "title", "authors"} <= set(told)
    entry = citation.bibtex(told)
    assert entry.startswith("@software{subspace_lib,") and "{SGD}" in entry
    assert f"{{{told['version']}}}" in entry


def test_a_release_writes_its_version_once_and_stops_where_the_changelog_does_not_fit(tmp_path):
    def put(name, text):
        (tmp_path / name).write_text(text)

    put("pyproject.toml", '[project]\nversion = "1.0"\n')
    put("CITATION.cff", "title: A\nversion: 0.9\ndate-released: 2026-01-01\nlicense: MIT\n")
    put("CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n### Added\n- A.\n\n## 0.9, 2026-01-01\n")
    assert version.settle(tmp_path, "2026-12-01") == ["CITATION.cff", "CHANGELOG.md"]
    told = yaml.safe_load((tmp_path / "CITATION.cff").read_text())
    assert told == {
        "title": "A",
        "version": "1.0",
        "date-released": "2026-12-01",
        "license": "MIT",
    }
    log = (tmp_path / "CHANGELOG.md").read_text()
    assert log == ("# Changelog\n\n## 1.0, 2026-12-01\n\n### Added\n- A.\n\n## 0.9, 2026-01-01\n")
    assert version.settle(tmp_path, "2026-12-24") == []  # another day: the release keeps its date
    put("CHANGELOG.md", log.replace("## 1.0", "## Unreleased\n\n- B.\n\n## 1.0"))
    with pytest.raises(version.NoRelease, match="raise version in pyproject"):
        version.settle(tmp_path, "2026-12-24")
    put("CHANGELOG.md", log.replace("## 1.0", "## Unreleased\n\n## 1.0"))
    assert version.settle(tmp_path, "2026-12-24") == []
    put("pyproject.toml", '[project]\nversion = "1.1"\n')
    with pytest.raises(version.NoRelease, match=r"say there what 1\.1 brings"):
        version.settle(tmp_path, "2026-12-24")


def test_make_release_looks_at_the_version_before_it_builds():
    done = subprocess.run(
        ["make", "-n", "release"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    commands = (
        "-m subspace_lib.book.version",
        "jupyter-book build",
        "-m subspace_lib.book.release",
    )
    places = [done.stdout.index(command) for command in commands]
    assert places == sorted(places)


def test_a_previews_site_has_the_books_title():
    from jupyter_book.config import get_final_config

    cli = {"latex_individualpages": False}
    final, _ = get_final_config(user_yaml=REPOSITORY / "_config.yml", cli_config=cli)
    title = final["html_title"]
    page = publish_doctree("A\n=\n\nText.\n")
    app = SimpleNamespace(
        env=SimpleNamespace(titles={}),
        # "Project name not set" is what Sphinx says of a project without a name
        config=SimpleNamespace(html_title=title, html_baseurl="", project="Project name not set"),
    )
    context = {}
    site_parts.describe(app, "a", "page.html", context, page)
    assert title == "Does SGD really happen in tiny subspaces?"
    assert f'<meta property="og:site_name" content="{title}">' in context["metatags"]


def test_the_lock_and_the_book_alone_have_the_versions_of_the_requirements():
    def pins(name):
        text = (REPOSITORY / name).read_text()
        found = re.findall(r"^([\w.-]+)==([\w.]+)", text, re.M)
        return {re.sub("[-_.]+", "-", package).lower(): number for package, number in found}

    wanted = pins("requirements.txt")
    assert pins("requirements-book.txt").items() <= wanted.items()
    assert wanted.items() <= pins("requirements.lock").items()
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert lock.count("==") <= lock.count("--hash=sha256:") and "://" not in lock


@pytest.mark.whole
def test_the_book_is_imported_without_what_only_computing_or_testing_needs():
    only = (
        "torchvision",
        "scipy",
        "pyarrow",
        "sklearn",
        "tokenizers",
        "papermill",
        "playwright",
        "hypothesis",
        "pytest",
    )
    code = f"import sys; sys.modules.update(dict.fromkeys({only})); import subspace_lib.book"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.whole
def test_the_book_judges_the_same_without_pytorch_and_what_writes_tables():
    code = """
import importlib.util, sys
sys.modules.update({name: None for name in ("scipy", "pyarrow") if "torch"})
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else find(name, *more)
from subspace_lib.book import judged
import torch
assert not hasattr(torch, "__version__")
print([str(verdict) for verdict in judged()])
"""
    environment = {**os.environ, "SUBSPACE_RESULTS": str(REPOSITORY / "results")}
    found = [
        subprocess.run(
            [sys.executable, "-c", text],
            check=True,
            env=environment,
            capture_output=True,
            text=True,
        ).stdout
        for text in (code, code.replace('"torch"', '""').replace("not hasattr", "hasattr"))
    ]
    assert found[0] == found[1] and "reproduced" in found[0]


def test_of_the_icons_those_that_are_named_are_left():
    script = (
        'var p={bars:[448,512,["navicon"],"f0c9","M0 96"],"arrow-up":[384,512,[8593],"f062",["M1","M2"]],'
        'ghost:[384,512,[128123],"f6e2","M40"]};f(p)'
    )
    assert icons.reduced(script, {"navicon", "arrow-up"}) == script.replace(
        'ghost:[384,512,[128123],"f6e2","M40"]', ""
    )
    assert icons.reduced(script, {"ghost"}).startswith("var p={ghost:")
    assert icons.reduced("another script", {"ghost"}) == "another script"


@pytest.mark.parametrize(
    ("columns", "said", "wide"),
    [
        (2, "(0.1\u00a0…\u00a00.2)", False),
        (7, "(0.1\u00a0…\u00a00.2)", True),
        (9, "(0.1\u00a0… 0.2)", True),
    ],
)
def test_a_range_in_a_table_is_not_torn(columns, said, wide):
    cells = ", ".join(["0.15 (0.1 … 0.2)"] * columns)
    page = publish_doctree(f"0.1 … 0.2\n\n.. csv-table::\n\n   {cells}\n")
    site_parts.mend_tables(None, page)
    paragraph, table = page.children
    assert paragraph.astext() == "0.1 … 0.2"
    assert [cell.astext() for cell in table.findall(nodes.entry)] == [f"0.15 {said}"] * columns
    assert ("wide" in table["classes"]) is wide


def test_negative_numbers_in_tables_have_a_real_minus():
    cells = {
        "-0.5 ± 1.0": "−0.5 ± 1.0",
        "0.1 (-0.2 … -.1)": "0.1 (−0.2 … −.1)",
        "2026-11-27": "2026-11-27",
        "1e-3": "1e-3",
        "`x -1`": "`x -1`",
        "Dom-2": "Dom-2",
    }
    row = markdown([{str(i): cell for i, cell in enumerate(cells)}]).splitlines()[-1]
    assert [cell.strip() for cell in row.strip("|").split("|")] == list(cells.values())


def test_a_chapter_lacks_what_is_not_stored_each_run_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path))
    few = {name: registered()[name] for name in ("02b_architectures", "12_cost")}
    monkeypatch.setattr(directives, "registered", lambda: few)
    directives.forget()
    lacks = directives.lacking()
    directives.forget()
    assert lacks == {"02b_architectures": 24}


def test_the_status_page_says_which_chapters_lack_runs():
    chapter = registered()["02b_architectures"]
    lacks, few, whole = (claim.id for claim in chapter.claims[:3])
    rows = [
        Verdict(lacks, MISSING, "≤ 0.1"),
        Verdict(few, INCONCLUSIVE, "≤ 0.1", seeds=(11,)),
        Verdict(whole, INCONCLUSIVE, "≤ 0.1", seeds=(11, 12, 13)),
    ]
    told = status.completeness(chapter.name, rows)
    assert told == f"not finished for {lacks}; too few seeds for {few}"
    assert status.completeness(chapter.name, rows[2:]) == "complete"
    assert status.completeness(chapter.name, rows[2:], 4) == "4 runs missing"
    assert status.completeness(chapter.name, rows[:1], 1).endswith(f"{lacks}; 1 run missing")
    assert status.completeness("your_own_network", rows) == "–"
