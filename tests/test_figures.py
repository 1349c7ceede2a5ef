"""Figures of the pages from the stored runs: named axes, nothing empty, text that a phone shows."""

from pathlib import Path

import jupytext
import numpy as np
import pandas as pd
import pytest
from matplotlib.legend import Legend
from matplotlib.text import Text

from subspace_lib.chapters.kit.style import BESIDE, PHONE, WIDTH, rolling
from subspace_lib.results.store import MissingRun, Store

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Store(ROOT / "results")
# Bars, single marks and a grid of numbers.
NO_CURVES = (
    "figures.layers(study)",
    "figures.price(found)",
    "figures.accuracy(case)",
    "figures.weights(study)",
)
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))


def shown(chapter):
    """The figures of a chapter's page by the cells that draw them, at the book's parameters."""
    cells = [cell for cell in jupytext.read(chapter).cells if cell.cell_type == "code"]
    names = {}
    for cell in cells:
        imports = [
            line for line in cell.source.splitlines() if line.startswith("from subspace_lib")
        ]
        exec("\n".join(imports), names)
    own = names["CHAPTER"]
    names["study"] = names["case"] = own.study(own.parameters, RESULTS, compute=False)
    if "stored" in names:
        names["found"] = names["stored"]()
    drawing = [cell.source for cell in cells if "mystnb" in cell.metadata]
    return {source: eval(source, names).figure for source in drawing}


@pytest.fixture(scope="module", params=CHAPTERS, ids=lambda path: path.stem)
def figures(request):
    try:
        return shown(request.param)
    except MissingRun as error:  # its runs are not finished
        pytest.skip(str(error))


def test_every_axis_is_named_and_holds_finite_points(figures):
    there = {source: figure.axes for source, figure in figures.items() if figure.axes}
    assert there  # the others say that their runs are missing
    for source, axes in there.items():
        assert axes[0].get_xlabel() or axes[-1].get_xlabel(), source
        for each in axes if source not in NO_CURVES else ():
            beside = each.get_shared_y_axes().get_siblings(each)
            assert any(one.get_ylabel() for one in beside), source
            curves = [line for line in each.lines if len(line.get_xdata()) > 2]
            assert curves, source
            for line in curves:
                assert np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any(), source


def test_text_is_readable_on_a_phone(figures):
    pixels = PHONE / (72 * WIDTH)  # of a point
    for source, figure in figures.items():
        assert figure.get_figwidth() == WIDTH, source
        assert pixels * min(text.get_size() for text in figure.findobj(Text)) >= 11, source


def test_no_legend_and_no_title_is_wider_than_its_figure(figures):
    for source, figure in figures.items():
        wide = [(one, BESIDE if one.axes else 0) for one in figure.findobj(Legend)]
        wide += [(axes.title, 0) for axes in figure.axes]
        for one, beside in wide:
            assert one.get_window_extent().width <= (WIDTH - beside) * figure.dpi, source


def test_a_short_run_is_smoothed_over_a_tenth_of_its_rows():
    long, short = pd.Series(np.arange(200.0)), pd.Series([3.0, 1.0, 2.0])
    assert rolling(long, 10).iloc[-1] == np.mean(np.arange(190, 200))
    assert rolling(long[:40], 10).iloc[-1] == np.mean([36, 37, 38, 39])
    assert list(rolling(short, 10)) == list(short)
