"""The quick profile: every chapter's own, long enough for a verdict, and on data that need no download."""

import pytest

from subspace_lib.chapters import registered
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.evidence.criteria import MINIMUM_SEEDS
from subspace_lib.results.store import Store

JUDGED = [chapter for chapter in registered().values() if chapter.judge is not None]


@pytest.fixture(params=JUDGED, ids=lambda chapter: chapter.name)
def chapter(request):
    return request.param


def test_it_has_the_seeds_that_a_verdict_needs(chapter):
    quick = type(chapter.parameters).QUICK
    seeds = [value for name, value in quick.items() if name.endswith("seeds")]
    assert seeds and all(len(set(each)) >= MINIMUM_SEEDS for each in seeds)


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
