"""A stored run computed once more: equal where nothing has changed, and a difference is seen."""

import math
import shutil
from dataclasses import replace

import pytest

from subspace_lib.experiment import Experiment
from subspace_lib.results import repeat
from subspace_lib.results.store import Store
from subspace_lib.runs.training import Run

SMALL = Experiment(
    dataset="digits",
    classes=2,
    k=2,
    steps=20,
    switch_step=10,
    projection="dominant",
    record_every=5,
    spectrum_every=None,
)


def test_a_repeated_run_is_the_stored_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path))
    first = Store().run(SMALL)
    repeat.main([SMALL.key])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"{SMALL.key}, complete | complete")
    found = repeat.compare(first, Store(tmp_path).run(SMALL))
    measured = found[found["column"] != "seconds"]
    assert len(measured) == len(repeat.COLUMNS) - 1
    assert (measured["difference"] == 0).all()
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == [SMALL.key]


@pytest.mark.parametrize("commit", ["a" * 40, "a" * 40 + "+changes"])
def test_only_what_this_commit_has_computed_is_taken_up_again(tmp_path, monkeypatch, commit):
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path))
    Store().run(SMALL)
    steps, advance = [], Run.advance
    monkeypatch.setattr(Run, "advance", lambda run: steps.append(run.step) or advance(run))
    monkeypatch.setattr(repeat, "commit", lambda: commit)
    repeat.main([SMALL.key])
    assert len(steps) == SMALL.steps + 1
    repeat.main([SMALL.key])
    assert len(steps) == (SMALL.steps + 1) * (2 if "+changes" in commit else 1)
    monkeypatch.setattr(repeat, "commit", lambda: "b" * 40)
    repeat.main([SMALL.key])
    assert steps.count(0) == (3 if "+changes" in commit else 2)


def test_a_difference_is_seen_at_its_step(tmp_path):
    first = Store(tmp_path).run(SMALL)
    table = first.table.copy()
    table.loc[table["step"] == 15, "train_loss"] += 0.5
    found = repeat.compare(first, replace(first, table=table)).set_index("column")
    assert found["difference"]["train_loss"] == pytest.approx(0.5, rel=1e-5)
    assert found["step"]["train_loss"] == 15
    assert found["difference"]["alignment"] == 0
    table["alignment"] = math.nan
    lost = repeat.compare(first, replace(first, table=table)).set_index("column")
    assert lost["difference"]["alignment"] == math.inf
    assert repeat.compare(first, replace(first, table=table[:0])).empty


@pytest.mark.parametrize(
    "key", ["mnist5k-nothing", "../elsewhere", "/etc", "$(touch x)", "", "two\nlines", "x" * 999]
)
def test_a_name_that_is_no_run_is_one_sentence(tmp_path, monkeypatch, capsys, key):
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path / "results"))
    outside = tmp_path / "elsewhere"
    Store(outside.parent / "results").run(SMALL)
    shutil.copytree(tmp_path / "results" / SMALL.key, outside)
    with pytest.raises(SystemExit):
        repeat.main([key])
    told = capsys.readouterr().err
    assert "No results are stored under" in told
    assert len(told) < 400


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 10**5, '{"kind": "nonsense"}'])
def test_a_damaged_description_is_one_sentence(tmp_path, monkeypatch, capsys, content):
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path))
    Store().run(SMALL)
    (tmp_path / SMALL.key / "description.json").write_text(content)
    with pytest.raises(SystemExit):
        repeat.main([SMALL.key])
    assert f"{SMALL.key}/description.json" in capsys.readouterr().err
