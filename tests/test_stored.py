"""What a stored notebook says is what today's code says of the stored runs."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

CHAPTERS = sorted(Path("notebooks").glob("[0-9]*.ipynb"))
SAYS = "text/markdown"


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("SUBSPACE_UNFINISHED", "quick")  # as make notebooks has it
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def said(shell: InteractiveShell, source: str) -> list[str]:
    """The Markdown that a cell puts out: what it displays, and its last value."""
    with capture_output() as captured:
        done = shell.run_cell(source, store_history=True)
        done.raise_error()
    last = shell.display_formatter.format(done.result)[0]
    return [data[SAYS] for data in [*(o.data for o in captured.outputs), last] if SAYS in data]


@pytest.mark.whole
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_stored_texts_are_those_of_todays_code(path: Path, shell: InteractiveShell) -> None:
    stale = []
    for cell in nbformat.read(path, 4).cells:
        stored = [output.get("data", {}) for output in cell.get("outputs", ())]
        if cell.cell_type != "code" or any("image/png" in data for data in stored):
            continue  # figures are drawn from the same study; their captions are not outputs
        if said(shell, cell.source) != [data[SAYS] for data in stored if SAYS in data]:
            stale.append(cell.source.splitlines()[-1])
    assert not stale, (
        f"{path} is older than the code or the runs: make notebooks. Others now: {stale}"
    )
