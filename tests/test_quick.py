"""The quick profile: every chapter's own, long enough for a verdict, and on data that need no download."""

import pytest

from subspace_lib.chapters import chapter as named, registered
from subspace_lib.chapters.kit.rows import rows, thinned
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.evidence.criteria import AGAIN_WINDOW, EDGE_START, EDGE_WINDOW, MINIMUM_SEEDS
from subspace_lib.results.store import Store

JUDGED = [chapter for chapter in registered().values() if chapter.judge is not None]


@pytest.fixture(params=JUDGED, ids=lambda chapter: chapter.name)
def chapter(request):
    return request.param


def test_it_has_the_seeds_that_a_verdict_needs(chapter):
    quick = type(chapter.parameters).QUICK
    seeds = [value for name, value in quick.items() if name.endswith("seeds")]
    assert seeds and all(
        len(set(each)) >= MINIMUM_SEEDS for each in seeds if each
    )  # () is left out


def test_it_is_on_digits(chapter):
    kind = type(chapter.parameters)
    if "dataset" in kind.model_fields:
        assert kind.QUICK["dataset"] == "digits"


def test_its_parameters_parse_and_plan(chapter, tmp_path):
    quick = type(chapter.parameters).parse(profile="quick").resolved()
    assert set(quick.filled) == set(type(quick).QUICK)
    plan = Plan(Store(tmp_path))
    chapter.study(quick, Store(tmp_path), compute=plan)
    assert plan.missing
    assert list(tmp_path.iterdir()) == []


def test_a_thinned_window_keeps_its_last_step_and_one_in_one_is_all_of_it():
    assert thinned(5, (90, 103)) == [(103, 103), (98, 98), (93, 93)]
    assert thinned(3, (-5, 4)) == [(4, 4), (1, 1)]
    assert rows(7, (0, 40), *thinned(1, (10, 20))) == rows(7, (0, 40), (10, 20))


def recorded(experiment):
    """Steps that have a row because they lie in a span."""
    return {s for first, last in experiment.record_spans for s in range(first, last + 1)}


def test_at_the_edge_long_windows_are_thinned_and_short_ones_are_not():
    paper = named("05_edge_of_stability").parameters
    switch, every = paper.switch_step, 9
    whole = recorded(paper.run(11, "none"))
    few = recorded(paper.model_copy(update={"window_every": every}).run(11, "none"))
    short = {*range(switch - EDGE_START + 1, switch + 1), *range(3528, 3601)}
    assert few < whole and short <= few
    first = switch - EDGE_WINDOW
    assert set(range(first, switch + 1)) <= whole
    along = set(range(0, paper.steps + 1, paper.record_every))
    rest = {s for s in few if first <= s <= switch} - short - along
    assert rest == {s for s in range(first, switch - EDGE_START + 1) if (switch - s) % every == 0}


def test_there_and_back_has_a_row_at_every_step_that_counts_or_at_one_in_so_many(tmp_path):
    for every in (1, 10):
        p = named("03_full_batch_gd").parameters.model_copy(update={"window_every": every})
        plan = Plan(Store(tmp_path))
        named("03_full_batch_gd").study(p, Store(tmp_path), compute=plan)
        (_, before, gd, back, shaped, *_) = plan.missing
        assert before.record_every == gd.record_every == every
        for run in (back, shaped):
            late = {s for s in recorded(run) if s > run.steps - AGAIN_WINDOW}
            wanted = set(range(run.steps - AGAIN_WINDOW + 1, run.steps + 1))
            assert late == wanted if every == 1 else len(late) < 0.4 * len(wanted)
            assert run.steps in late
