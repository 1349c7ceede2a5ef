"""A chapter's page where the outcome is turned round: runs of Dom-SGD and Bulk-SGD have changed places.

What the page says then, in its text, its captions and its answers, must not be what was seen before.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from subspace_lib.chapters import chapter
from subspace_lib.results.provenance import SEAL, seal

ROOT = Path(__file__).parent.parent
NAME, TABLE = "02_dom_vs_bulk", "measurements.parquet"


def exchange(first, second, folder):
    """The runs of two folders under results, each with the other's measurements, in a folder of results."""
    for key, other in ((first, second), (second, first)):
        shutil.copytree(ROOT / "results" / key, folder / key)
        shutil.copy(ROOT / "results" / other / TABLE, folder / key / TABLE)
        path = folder / key / "provenance.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        del record[SEAL]
        record["sha256"][TABLE] = hashlib.sha256((folder / key / TABLE).read_bytes()).hexdigest()
        path.write_text(json.dumps(seal(record)), encoding="utf-8")


def words(notebook):
    """All that a reader of the page reads: prose, captions and what cells have put out."""
    for cell in notebook.cells:
        yield cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
        if cell.cell_type == "markdown":
            yield cell.source
        for output in cell.get("outputs", ()):
            assert output.output_type != "error", output
            yield output.get("data", {}).get("text/markdown", "")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder, own = tmp_path_factory.mktemp("results"), chapter(NAME)
    study = own.study(own.parameters, None, compute=False)
    for seed in own.parameters.seeds:
        keys = (study.trajectories[side, seed].experiment.key for side in ("dominant", "bulk"))
        exchange(*keys, folder)
    for path in (ROOT / "results").iterdir():
        if not path.name.startswith(".") and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    notebook = nbformat.read(ROOT / "notebooks" / f"{NAME}.ipynb", as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBSPACE_RESULTS", str(folder))
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    return "\n".join(words(notebook))


@pytest.mark.whole
def test_the_verdicts_are_turned_round(page):
    assert "**C2, not reproduced.**" in page and "**C3, not reproduced.**" in page
    assert re.search(r"progress\(Dom-SGD\) 1\.\d", page)


@pytest.mark.whole
@pytest.mark.parametrize(
    "outcome",
    [
        r"C[23], reproduced",
        r"Dom-SGD (?:stops|does not learn|stays|stands still)[^.:]*\.",
        r"loss of Dom-SGD (?:stays|does not fall)",
        r"Bulk-SGD (?:learns|does as well|goes on) as",
    ],
)
def test_nothing_on_the_page_says_what_was_seen_before(page, outcome):
    found = [m[0] for m in re.finditer(rf"[^.\n]*{outcome}[^.\n]*", page)]
    claims = "paper|claim|{cite|not reproduced"  # what others say, said as theirs
    assert [text for text in found if not re.search(claims, text)] == []
