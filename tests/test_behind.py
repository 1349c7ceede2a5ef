"""The runs behind a figure: noted while it is drawn, named below it in the book."""

import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from subspace_lib.book import behind
from subspace_lib.chapters.kit.style import Picture, styled
from subspace_lib.experiment import Experiment
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory, looked_at, until

ROOT = Path(__file__).parent.parent
THEORY = {"figures.transfer(study)"}  # drawn from formulas alone
CHAPTERS = sorted(p for p in (ROOT / "notebooks").glob("[01]*.ipynb") if p.stem != "12_cost")


class _Described:
    def __init__(self, key):
        self.key = key


def made(key):
    return Trajectory(_Described(key), key.upper(), "complete", None, {})


def test_only_runs_whose_tables_are_looked_at_are_noted():
    first, second, third = map(made, ("a", "b", "c"))
    with looked_at() as keys:
        assert second.table == "B" and second.complete and third.status
        with looked_at() as inner:
            assert third.table == "C"
        assert first.table == "A" and second.table == "B"
    assert list(keys) == ["b", "a"] and list(inner) == ["c"]
    assert third.table == "C" and list(keys) == ["b", "a"]


def test_a_picture_knows_the_runs_that_it_was_drawn_from():
    @styled
    def draw(run, other):
        assert run.table and other.complete
        return Picture(Figure(figsize=(1, 1)), "a picture")

    picture = draw(made("key-1"), made("key-2"))
    assert picture.runs == ("key-1",)
    assert behind.DRAWN.search(picture.svg())[1] == "key-1"
    assert behind.DRAWN.search(Picture(Figure(), "no runs").svg()) is None


def test_below_each_figure_stand_its_known_runs_and_no_others():
    drawn = '<svg role="img" data-runs="a b"></svg>'
    figure = f"<figure><div>{drawn}</div><figcaption>One</figcaption></figure>"
    bare = "<figure><svg></svg></figure>"
    text = behind.below(f"<p>x</p>{figure}<p>y</p>{bare}<p>z</p>", {"a"}, "../s.html", "../runs")
    assert text.count("<details") == 1
    assert "</figure><details" in text and text.endswith(f"<p>y</p>{bare}<p>z</p>")
    for link in ("../s.html#run-a", "../runs/a.csv", "../runs/a.json"):
        assert f'href="{link}"' in text
    assert "run-b" not in text and "The run behind" in text
    assert behind.below(figure, set(), "s", "d") == figure


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_figure_of_a_chapter_names_runs_that_are_there(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    figures = [c for c in cells if c["metadata"].get("mystnb", {}).get("figure")]
    assert figures
    for cell in figures:
        text = "".join("".join(o.get("data", {}).get("text/html", "")) for o in cell["outputs"])
        drawn = behind.DRAWN.search(text)
        if "not stored yet" in text or "".join(cell["source"]) in THEORY:
            continue
        assert drawn, cell["source"]
        quick = re.search(r"digits|sentences", drawn[1])  # of a chapter without runs at full size
        assert quick or all((ROOT / "results" / key).exists() for key in drawn[1].split())


def test_a_run_of_the_store_is_noted_by_its_key_and_so_is_a_part_of_it():
    key = next((ROOT / "results").glob("mnist5k-mlp-sgd-s11-*")).name
    run = Store().of(key)
    assert isinstance(run.experiment, Experiment)
    part = until(until(run, run.experiment.steps - 1), run.experiment.steps // 2)
    for looked in (run, part):
        with looked_at() as keys:
            assert looked.table is not None
        assert list(keys) == [key]
