"""The book's sources: notebook pairs in step, pages from the results that the repository holds."""

import json
import re
from pathlib import Path

import jupytext
import pandas as pd
import pytest
import torch
import yaml

from subspace_lib.chapters import registered
from subspace_lib.chapters.cost import study as cost, tables as cost_tables
from subspace_lib.chapters.dom_vs_bulk import tables as switch_tables
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.style import INK
from subspace_lib.chapters.kit.switch import figures
from subspace_lib.chapters.kit.switch.study import SwitchParameters
from subspace_lib.chapters.kit.switch.tables import protocol
from subspace_lib.chapters.momentum_adam import tables as momentum_tables
from subspace_lib.experiment import NUMERICS
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs.amplification import DIRECTION, Amplification
from subspace_lib.runs.curvature import Curvature
from subspace_lib.runs.simulation import Simulation
from subspace_lib.runs.survey import Survey
from subspace_lib.runs.training import SPECTRUM

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
NUMBERED = [path for path in NOTEBOOKS if path.stem[0].isdigit()]  # chapters; others are how-tos
RESULTS = sorted(path.parent for path in (ROOT / "results").glob("*/description.json"))
CHAPTERS = registered()
FIGURE_CALL = "figures."


def cells(path):
    return jupytext.read(path).cells


@pytest.mark.parametrize("chapter", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_two_files_of_a_pair_are_in_step(chapter):
    text, executed = cells(chapter), cells(chapter.with_suffix(".ipynb"))
    assert [(c.cell_type, c.source) for c in text] == [(c.cell_type, c.source) for c in executed]
    for ours, theirs in zip(text, executed, strict=True):
        for key in ("tags", "mystnb"):
            assert ours.metadata.get(key) == theirs.metadata.get(key)


@pytest.mark.parametrize("chapter", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_committed_notebook_was_executed_without_an_error(chapter):
    code = [c for c in cells(chapter.with_suffix(".ipynb")) if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert not [o for c in code for o in c.outputs if o.output_type == "error"]
    shown = [c for c in code if "remove-output" not in c.metadata.get("tags", ())]
    assert not [o for c in shown for o in c.outputs if o.output_type == "stream"]


@pytest.mark.parametrize("chapter", NUMBERED, ids=lambda p: p.stem)
def test_a_chapter_is_short_and_its_figures_are_captioned(chapter):
    code = [c for c in cells(chapter) if c.cell_type == "code"]
    lines = [ln for c in code for ln in c.source.splitlines() if ln and not ln.startswith("#")]
    assert len(chapter.read_text().splitlines()) < 150
    assert len(lines) < 40
    pictures = [c for c in code if c.source.startswith(FIGURE_CALL) or "mystnb" in c.metadata]
    assert pictures
    for cell in pictures:
        assert cell.metadata["mystnb"]["figure"]["caption"]


def test_the_pages_of_the_contents_exist_and_links_point_where_jupyter_book_looks():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    for name in [toc["root"], *(c["file"] for c in toc["chapters"])]:
        assert any((ROOT / "book" / f"{name}{end}").exists() for end in (".md", ".ipynb"))
    for name in ("_toc.yml", "_config.yml", "notebooks"):
        assert (ROOT / "book" / name).is_symlink()


@pytest.mark.parametrize("folder", RESULTS, ids=lambda p: p.name)
def test_committed_results_are_intact_and_lie_where_their_description_says(folder):
    description = json.loads((folder / "description.json").read_text())
    trajectory = Store(ROOT / "results").of(folder.name)
    experiment, table = trajectory.experiment, trajectory.table
    if description["numerics"] == NUMERICS:  # older ones are told apart by their key
        assert experiment.key == folder.name
        assert Store(ROOT / "results").load(experiment).table.equals(table)
    if isinstance(experiment, Simulation):  # one long table of all cases
        for _, rows in table.groupby(["case", "quantity"]):
            assert rows["index"].is_monotonic_increasing and rows["index"].is_unique
    elif not isinstance(experiment, (Survey, Amplification, Curvature)):
        assert table["step"].is_monotonic_increasing
    assert trajectory.status == "complete" or trajectory.status.startswith("diverged")
    assert sum(f.stat().st_size for f in folder.iterdir()) < 200_000


def shown(chapter):
    """The Markdown that a chapter's code cells have put out, one after the other."""
    return "\n\n".join(
        output.data.get("text/markdown", "")
        for cell in cells(ROOT / "notebooks" / f"{chapter}.ipynb")
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    )


# A study may be computed, or still be on its way, before its chapter is written.
STUDIED = [path.stem for path in NOTEBOOKS if path.stem in CHAPTERS]
JUDGED = [name for name in STUDIED if CHAPTERS[name].judge is not None]


def study(name):
    """The chapter's study from the committed results, as far as its runs are finished."""
    chapter = CHAPTERS[name]
    try:
        return chapter.study(chapter.parameters, Store(ROOT / "results"), compute=False)
    except MissingRun as error:
        pytest.skip(str(error))


def test_every_column_of_a_stored_table_is_explained():
    named = set(re.findall(r"`([^`]+)`", (ROOT / "book" / "columns.md").read_text()))
    orders, sides = ("first", "second", "change"), ("dominant", "bulk")
    named |= {f"{order}_{side}" for order in orders for side in sides}
    named |= {f"p_{name}" for name in DIRECTION} | {
        f"eigenvalue_{i:02d}" for i in range(1, SPECTRUM + 1)
    }
    found = {json.loads((folder / "description.json").read_text())["kind"] for folder in RESULTS}
    for folder in RESULTS:
        table = pd.read_parquet(folder / "measurements.parquet")
        found |= {*table.columns, *table.get("quantity", ())}
    assert found <= named, found - named


def test_every_registered_chapter_has_its_notebook():
    assert set(CHAPTERS) <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("name", JUDGED)
def test_a_chapter_shows_the_verdict_that_the_store_gives_today(name):
    assert page.verdict(CHAPTERS[name], study(name)).data in shown(name)


@pytest.mark.parametrize("name", STUDIED)
def test_the_parameters_of_a_chapter_are_those_of_its_study(name):
    source = next(
        c.source for c in cells(ROOT / "notebooks" / f"{name}.py") if c.metadata.get("tags")
    )
    names = {}
    exec(source, {}, names)
    assert page.parameters(names, CHAPTERS[name]) == CHAPTERS[name].parameters
    assert type(CHAPTERS[name].parameters).parse(**names) == CHAPTERS[name].parameters


def test_chapter_02_shows_its_protocol_and_its_settings_as_the_store_gives_them_today():
    name = "02_dom_vs_bulk"
    found = study(name)
    assert protocol(found).data in shown(name)
    beside = (switch_tables.settings, switch_tables.drift) if found.settings else ()
    for table in (*beside, switch_tables.descent):
        assert table(found).data in shown(name)


def test_the_chapters_on_momentum_show_the_rates_that_the_store_gives_today():
    found = study("07_momentum_adam")
    for name in ("first_steps", "later", "ingredients", "bulk_ways"):
        assert getattr(momentum_tables, name)(found).data in shown("07_momentum_adam")
    assert momentum_tables.predictions(found).data in shown("07b_momentum_theory")


def test_the_cost_chapter_shows_the_stored_benchmark():
    found = cost.stored()
    expected = [cost_tables.solvers(cost.comparison(cost.CostParameters()))]
    for name in (
        "answer",
        "price",
        "ratios",
        "along_runs",
        "per_product",
        "where_from",
        "verdict",
        "ways",
        "memory",
    ):
        expected.append(getattr(cost_tables, name)(found))
    for table in expected:
        assert table.data in shown("12_cost")


@pytest.mark.whole
def test_the_readmes_examples_run_one_after_the_other(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    readme, names = (ROOT / "README.md").read_text(), {}
    for code in re.findall(r"```python\n(.*?)```", readme, re.S):
        short = code.replace("range(100)", "range(3)").replace("range(8)", "range(1)")
        short = short.replace("switch_step=100, ", "").replace("steps=200", "steps=2")
        exec(compile(short, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) >= 5 and "complete" in printed
    outside = names["update"] - names["subspace"].project(names["update"])
    now = torch.cat([p.detach().reshape(-1) for p in names["model"].parameters()])
    torch.testing.assert_close(now, names["before"] + outside)


def test_the_readme_names_only_parameters_and_targets_that_exist():
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"-p (\w+)", readme)) <= set(SwitchParameters.model_fields)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)`?", readme):
        assert f"\n{target}:" in makefile
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", readme):
        assert (ROOT / picture).exists()


def test_a_picture_in_the_book_keeps_its_text_and_takes_the_pages_ink():
    svg = figures.losses(study("02_dom_vs_bulk")).svg()
    assert "scale(0.015625)" in svg and "scale(0.0)" not in svg  # the glyphs' size
    assert INK not in svg and "currentColor" in svg
    assert svg.count("<svg") == 1 and 'role="img"' in svg
