"""The example for strangers does what it says, and stays short."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "minimal.py"


@pytest.mark.whole
def test_the_minimal_example_shows_that_dom_sgd_stops_and_bulk_sgd_goes_on(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    losses = {m[1]: float(m[2]) for m in re.finditer(r"^(\S+).*?loss ([\d.]+)", printed, re.M)}
    gained = {name: losses["switch"] - loss for name, loss in losses.items()}
    assert gained["SGD"] > 0.02
    assert gained["Dom-SGD"] < 0.1 * gained["SGD"]
    assert gained["Bulk-SGD"] > 0.9 * gained["SGD"]


def test_the_minimal_example_is_under_150_lines_and_needs_no_deep_import():
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) < 150
    assert re.findall(r"from subspace_lib[\w.]* import", text) == ["from subspace_lib import"]
