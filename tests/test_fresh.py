"""An incremental build: made pages are read anew where what they are made from has changed."""

import json
from types import SimpleNamespace

import pytest

from subspace_lib.book import fresh


@pytest.fixture
def app(tmp_path, monkeypatch):
    """A site of one page with made HTML and one notebook, with results in a folder of its own."""
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    cells = [{"cell_type": "markdown", "metadata": {}, "source": ["# 02 · Title"]}]
    (tmp_path / "02.ipynb").write_text(json.dumps({"cells": cells}, indent=1, ensure_ascii=False))
    paths = {"index": tmp_path / "index.md", "notebooks/02": tmp_path / "02.ipynb"}
    env = SimpleNamespace(found_docs=set(paths), doc2path=paths.__getitem__)
    env.made_pages = {"index", "gone"}
    return SimpleNamespace(env=env, doctreedir=str(tmp_path), _warncount=0, folder=tmp_path)


def anew(app, added=(), removed=()):
    return fresh.outdated(app, app.env, set(added), set(), set(removed))


def test_after_a_build_without_a_warning_nothing_is_made_anew(app):
    assert anew(app) == ["index"]  # there was no build yet
    fresh.keep(app, None)
    assert anew(app) == []
    (app.folder / "02.ipynb").touch()  # says what it said
    assert anew(app) == []
    assert anew(app, added=["notebooks/03"]) == anew(app, removed=["notebooks/02"]) == ["index"]


def change_a_result(folder, monkeypatch):
    (folder / "results" / "a.json").write_text("{}")


def change_the_heading(folder, monkeypatch):
    path = folder / "02.ipynb"
    path.write_text(path.read_text().replace("Title", "Another"))


def change_the_profile(folder, monkeypatch):
    monkeypatch.setenv("SUBSPACE_PROFILE", "quick")


@pytest.mark.parametrize("change", [change_a_result, change_the_heading, change_the_profile])
def test_what_a_made_page_depends_on_makes_it_anew(app, monkeypatch, change):
    fresh.keep(app, None)
    change(app.folder, monkeypatch)
    assert anew(app) == ["index"]


@pytest.mark.parametrize(("warnings", "error"), [(1, None), (0, RuntimeError())])
def test_after_a_build_that_failed_all_is_made_anew(app, warnings, error):
    fresh.keep(app, None)
    app._warncount = warnings
    fresh.keep(app, error)
    assert anew(app) == ["index"]


def test_the_environment_forgets_a_page_and_takes_in_what_others_have_read(app):
    fresh.purge(app, app.env, "index")
    assert app.env.made_pages == {"gone"}
    other = SimpleNamespace(made_pages={"index", "notebooks/02"})
    fresh.merge(app, app.env, ["index"], other)
    assert app.env.made_pages == {"gone", "index"}
