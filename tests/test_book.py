"""The book's sources: notebook pairs in step, pages from the results that the repository holds."""

import json
import re
from pathlib import Path

import jupytext
import pytest
import yaml

from subspace_lib import claims, figures, notebook
from subspace_lib.amplification import Amplification
from subspace_lib.benchmark import report
from subspace_lib.simulation import Simulation
from subspace_lib.store import Store, parse
from subspace_lib.studies import BOOK
from subspace_lib.studies.momentum import momentum_study
from subspace_lib.studies.switch import SwitchParameters, replication_study, switch_study
from subspace_lib.survey import Survey

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.py"))
RESULTS = sorted(p for p in (ROOT / "results").iterdir() if p.is_dir() and p.name[0] != ".")
FIGURE_CALL = "figures."


def cells(path):
    return jupytext.read(path).cells


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_the_two_files_of_a_pair_are_in_step(chapter):
    text, executed = cells(chapter), cells(chapter.with_suffix(".ipynb"))
    assert [(c.cell_type, c.source) for c in text] == [(c.cell_type, c.source) for c in executed]
    for ours, theirs in zip(text, executed, strict=True):
        for key in ("tags", "mystnb"):
            assert ours.metadata.get(key) == theirs.metadata.get(key)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_a_committed_notebook_was_executed_without_an_error(chapter):
    code = [c for c in cells(chapter.with_suffix(".ipynb")) if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert not [o for c in code for o in c.outputs if o.output_type in ("error", "stream")]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_is_short_and_its_figures_say_what_to_see(chapter):
    code = [c for c in cells(chapter) if c.cell_type == "code"]
    lines = [ln for c in code for ln in c.source.splitlines() if ln and not ln.startswith("#")]
    assert len(chapter.read_text().splitlines()) < 150
    assert len(lines) < 40
    pictures = [c for c in code if c.source.startswith(FIGURE_CALL) or "mystnb" in c.metadata]
    assert pictures
    for cell in pictures:
        assert "What to see" in cell.metadata["mystnb"]["figure"]["caption"]


def test_the_pages_of_the_contents_exist_and_links_point_where_jupyter_book_looks():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    for name in [toc["root"], *(c["file"] for c in toc["chapters"])]:
        assert any((ROOT / "book" / f"{name}{end}").exists() for end in (".md", ".ipynb"))
    for name in ("_toc.yml", "_config.yml", "notebooks"):
        assert (ROOT / "book" / name).is_symlink()


@pytest.mark.parametrize("folder", RESULTS, ids=lambda p: p.name)
def test_committed_results_are_intact_and_lie_where_their_description_says(folder):
    description = json.loads((folder / "description.json").read_text())
    experiment = parse(description)
    assert experiment.key == folder.name
    trajectory = Store(ROOT / "results").load(experiment)
    table = trajectory.table
    if isinstance(experiment, Simulation):  # one long table of all cases
        for _, rows in table.groupby(["case", "quantity"]):
            assert rows["index"].is_monotonic_increasing and rows["index"].is_unique
    elif not isinstance(experiment, (Survey, Amplification)):
        assert table["step"].is_monotonic_increasing
    assert trajectory.status == "complete" or trajectory.status.startswith("diverged")
    assert sum(f.stat().st_size for f in folder.iterdir()) < 200_000


def shown(chapter):
    """The Markdown that a chapter's code cells have put out."""
    return [
        output.data.get("text/markdown")
        for cell in cells(ROOT / "notebooks" / f"{chapter}.ipynb")
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    ]


# A study may be computed, or still be on its way, before its chapter is written.
STUDIED = [path.stem for path in CHAPTERS if path.stem in BOOK]


@pytest.mark.parametrize("chapter", STUDIED)
def test_a_chapter_shows_the_verdict_that_the_store_gives_today(chapter):
    study, judge = claims.JUDGES[chapter]
    found = study(BOOK[chapter], Store(ROOT / "results"), compute=False)
    assert notebook.verdict(judge(found)).data in shown(chapter)


@pytest.mark.parametrize("chapter", STUDIED)
def test_the_parameters_of_a_chapter_are_those_of_its_study(chapter):
    source = next(
        c.source for c in cells(ROOT / "notebooks" / f"{chapter}.py") if c.metadata.get("tags")
    )
    names = {}
    exec(source, {}, names)
    assert type(BOOK[chapter]).parse(**names) == BOOK[chapter]


def test_chapter_02_shows_its_protocol_and_the_drift_that_the_store_gives_today():
    store, chapter = Store(ROOT / "results"), "02_dom_vs_bulk"
    study = switch_study(BOOK[chapter], store, compute=False)
    assert notebook.protocol(study).data in shown(chapter)
    drift = notebook.drift(replication_study(BOOK[chapter], store, compute=False))
    assert drift.data in shown(chapter)


def test_the_chapters_on_momentum_show_the_rates_that_the_store_gives_today():
    study = momentum_study(BOOK["07_momentum_adam"], Store(ROOT / "results"), compute=False)
    for table in (notebook.effective_rates, notebook.ingredients, notebook.projections):
        assert table(study).data in shown("07_momentum_adam")
    assert notebook.predictions(study).data in shown("07b_momentum_theory")


def test_the_cost_chapter_shows_the_stored_benchmark():
    found = report.stored()
    expected = [report.table(report.comparison(report.CostParameters())), report.ratios(found)]
    expected += [report.along_runs(found), report.per_product(found), report.where_from(found)]
    expected += [report.verdict(found), report.ways(found), report.memory(found)]
    shown = json.loads((ROOT / "notebooks" / "12_cost.ipynb").read_text())["cells"]
    outputs = [o for cell in shown for o in cell.get("outputs", []) if "data" in o]
    text = ["".join(o["data"].get("text/markdown", "")) for o in outputs]
    for table in expected:
        assert table.data in text


def test_the_readmes_example_runs(capsys):
    readme = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    exec(compile(code.replace("range(100)", "range(3)"), "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_the_readme_names_only_parameters_and_targets_that_exist():
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"-p (\w+)", readme)) <= set(SwitchParameters.model_fields)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)`?", readme):
        assert f"\n{target}:" in makefile
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", readme):
        assert (ROOT / picture).exists()


def test_a_picture_in_the_book_keeps_its_text_and_takes_the_pages_ink():
    study = switch_study(BOOK["02_dom_vs_bulk"], Store(ROOT / "results"), compute=False)
    svg = figures.losses(study).svg()
    assert "scale(0.015625)" in svg and "scale(0.0)" not in svg  # the glyphs' size
    assert figures.INK not in svg and "currentColor" in svg
    assert svg.count("<svg") == 1 and 'role="img"' in svg
