"""Chapter 05: C6, F5 and F7 by each of their parts, what a bounce is worth, a study from end to end."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import few_digits

from subspace_lib.chapters.edge_of_stability import answers, figures, tables
from subspace_lib.chapters.edge_of_stability.approach import approach
from subspace_lib.chapters.edge_of_stability.judge import judge
from subspace_lib.chapters.edge_of_stability.study import EdgeParameters, EdgeStudy, edge_study
from subspace_lib.chapters.kit.edge import bounce, gains, level_at_switch
from subspace_lib.chapters.kit.rows import rows
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.trajectory import Trajectory, progress

pytestmark = pytest.mark.usefixtures("narrow_mlp")

P = EdgeParameters()  # η = 0.1: the edge is at λ₁ = 20
SWITCH = P.switch_step


def test_rows_are_along_the_span_and_at_every_step_of_the_windows():
    fields = rows(25, (0, 100), (40, 52), (-3, 2), (95, 100))
    spans = ((0, 2), (25, 25), (40, 52), (75, 75), (95, 100))
    assert fields == {"record_every": 1, "record_spans": spans}
    assert rows(21, (130, 180))["record_spans"] == ((130, 130), (151, 151), (172, 172))


def run(table, status="complete", parameters=P, seed=11, **fields):
    experiment = parameters.experiment(seed, **fields)
    return Trajectory(experiment, pd.DataFrame(table), status, None, {"date": "2026-11-26"})


def levels(steps, *parts):
    """The value of the last part that has begun, at each step."""
    values = np.full(len(steps), np.nan)
    for begin, value in parts:
        values[steps >= begin] = value
    return values


def gd(sharpness=20.4, alignment=0.99, end=0.5, **fields):
    """GD whose loss bounces between 0.9 and 1.1 up to the switch; before the windows all is otherwise."""
    steps = np.arange(SWITCH - 150, P.steps + 1)
    loss = levels(steps, (0, 5.0), (SWITCH - 9, 1.0), (SWITCH + 1, 5.0), (0.98 * P.steps, end))
    loss[(steps > SWITCH - 10) & (steps <= SWITCH)] += np.tile([0.1, -0.1], 5)
    table = {"step": steps, "train_loss": loss}
    for name, value in (("eigenvalue_01", sharpness), ("alignment", alignment)):
        table[name] = levels(steps, (0, 0.0), (SWITCH - 100, value), (SWITCH, 0.0))
    table["gradient_top"] = np.where(steps % 2, 1.0, -1.0)
    return run(table, **fields)


def branch(projection, end, level=0.8, risen=60.0, status="complete", **fields):
    """A branch that loses its bounce, is level for 100 … 200 steps, and comes to its end."""
    steps = np.arange(SWITCH, P.steps + 1)
    loss = levels(
        steps, (0, 1.1), (SWITCH + 100, level), (SWITCH + 201, 9.0), (0.98 * P.steps, end)
    )
    table = {"step": steps, "train_loss": loss, "eigenvalue_01": levels(steps, (0, risen))}
    table["eigenvalue_11"] = levels(steps, (0, 20.0))
    return run(table, status, projection=projection, switch_step=SWITCH, **fields)


def way(loss, rate, seed, below=0.1, at_edge=0.95, arrival=1000, steps=3000):
    """GD whose λ₁ arrives at the edge at a step; aligned in the first tenth too, which does not count."""
    every = np.arange(0, steps + 1, 10)
    table = {"step": every, "eigenvalue_01": levels(every, (0, 1 / rate), (arrival, 2.01 / rate))}
    alignment = levels(every, (0, 0.99), (0.1 * arrival, below), (arrival, 0.3))
    alignment[every == arrival + 500] = at_edge
    alignment[every > arrival + 1000] = 0.99
    table["alignment"], table["angle_bound"] = alignment, np.ones(len(every))
    return run(table, seed=seed, loss=loss, learning_rate=rate, steps=steps)


def study(gd_fields=(), dom=0.79, bulk=0.5, risen=60.0, status="complete", **ways):
    runs = {}
    for seed in P.seeds:
        runs["none", seed] = gd(**dict(gd_fields), seed=seed)
        runs["dominant", seed] = branch("dominant", dom, status=status, seed=seed)
        runs["bulk", seed] = branch("bulk", bulk, risen=risen, seed=seed)
    approaches = {each: way(*each, **ways) for each in P.approaches()}
    switch = SwitchStudy(P, runs, dict.fromkeys(P.seeds, SWITCH), {})
    return EdgeStudy(switch, {}, {}, approaches)


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({}, None),
        ({"gd_fields": {"sharpness": 17.0}}, 0),
        ({"gd_fields": {"sharpness": 24.0}}, 0),
        ({"gd_fields": {"alignment": 0.85}}, 1),
        ({"dom": 0.7}, 2),  # (0.8 − 0.7)/(1.0 − 0.5)
        ({"bulk": 0.6}, 3),
    ],
)
def test_c6_fails_by_each_of_its_parts_and_by_nothing_else(changed, failing):
    c6, f5, f7 = judge(study(**changed))
    expected = ["reproduced"] * 4
    if failing is not None:
        expected[failing] = "not reproduced"
    assert [p.verdict for p in c6.parts] == expected
    assert (f5.verdict, f7.verdict) == ("holds", "holds")
    assert len(c6.seeds) == 5


def test_what_the_bounce_loses_is_no_learning():
    plain, dom = gd(), branch("dominant", 0.79)
    start = level_at_switch(study().switch, 11)
    assert start == pytest.approx(1.0)  # the mean, not the loss that a bounce ends at
    as_it_dies, later = gains(plain, dom, start)
    assert (as_it_dies, later) == pytest.approx((0.4, 0.02))
    assert as_it_dies + later == pytest.approx(progress(plain, dom, start))
    assert gains(plain, branch("dominant", 0.79, status="diverged at step 7"), start)[1] == -1
    assert np.isnan(gains(gd(end=0.95), dom, start)).all()  # GD itself made no progress
    assert "0.400" in bounce(study().switch).data


def test_a_diverged_dom_gd_has_gained_nothing_and_an_idle_gd_gives_no_verdict():
    c6, *_ = judge(study(status="diverged at step 900"))
    assert (c6.parts[2].measured, c6.parts[2].verdict) == (-1, "reproduced")
    c6, *_ = judge(study(gd_fields={"end": 0.95}))
    assert c6.verdict == "inconclusive"
    assert "GD gained less than 10% of the loss at the switch" in c6.parts[2].note


def test_f5_is_about_bulk_gd_alone():
    c6, f5, _ = judge(study(risen=22.0))
    assert (c6.verdict, f5.verdict) == ("reproduced", "does not hold")
    assert [p.measured for p in f5.parts] == pytest.approx([1.1, 1.0])
    assert f5.parts[1].verdict == "descriptive"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((8.0, 16.0, 16.4), "does not come up to 1 within 15,000 steps: it is 0.82 at most"),
        ((8.0, 21.0, 20.4), "at step 5,000. .* So at the end λ₁₁ is at the edge"),
        ((8.0, 21.0, 30.0), "goes on past it"),
        ((8.0, 21.0, 15.0), "is below the edge again"),
    ],
)
def test_whether_the_edge_comes_back_is_read_off_the_long_run(values, told):
    steps = np.arange(0, P.onward_steps + 1, 50)
    after = levels(steps, (0, values[0]), (5000, values[1]), (14_000, values[2]))
    table = {"step": steps, "train_loss": 1 / (1 + steps), "eigenvalue_11": after}
    table["eigenvalue_01"] = 100.0
    fields = {"projection": "bulk", "switch_step": SWITCH, "steps": P.onward_steps}
    found = replace(study(), onward={11: run(table, **fields)})
    assert re.search(told, answers.onward(found).data)
    f5 = judge(found)[1]
    assert f5.parts[2].measured == pytest.approx(values[2] / 20)
    assert (f5.parts[2].verdict, f5.verdict) == ("descriptive", "holds")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({}, "holds"), ({"below": 0.6}, "does not hold"), ({"at_edge": 0.8}, "does not hold")],
)
def test_f7_is_judged_before_and_after_the_edge(changed, expected):
    c6, _, f7 = judge(study(**changed))
    assert (c6.verdict, f7.verdict) == ("reproduced", expected)
    # two losses with two parts each; shown: the mean at the edge, and the smaller η of each
    assert [p.verdict for p in f7.parts].count("descriptive") == 4 and len(f7.parts) == 8
    assert set(f7.seeds) == {11, 12, 13} and len(f7.results) == 6


def test_where_the_edge_is_never_reached_f7_says_so():
    _, _, f7 = judge(study(arrival=9999))
    assert f7.verdict == "inconclusive"
    assert f7.parts[1].note == "λ₁ did not reach 2/η in 3 of 3 runs"


def test_how_few_rows_are_aligned_is_said_beside_the_verdict():
    found = next(v for v in judge(study()) if v.claim == "F7")
    assert (
        "With cross-entropy the alignment is ≥ 0.9 at 1 of 101 rows of a run, where nothing"
        in found.note
    )
    lasting = {each: way(*each) for each in P.approaches()}
    for made in lasting.values():
        made.table.loc[made.table["step"] > 1000, "alignment"] = 0.95
    assert (
        next(v for v in judge(replace(study(), approaches=lasting)) if v.claim == "F7").note == ""
    )


def test_what_is_read_off_a_way_to_the_edge():
    found = approach(way("mse", 0.05, 12))
    assert (found.arrival, found.aligned) == (1000, 1500)
    assert (found.before, found.highest) == pytest.approx((0.1, 0.95))
    assert found.furthest == pytest.approx(1.005)
    never = approach(way("mse", 0.05, 12, arrival=9999))
    assert (never.arrival, never.aligned, never.furthest) == (None, None, 0.5)
    text = tables.approaches(study(arrival=9999)).data
    assert "never" in text and "highest alignment" not in text


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The whole study at a small size: one seed of 300 digits, short windows."""
    p = EdgeParameters(
        dataset="digits",
        preprocessing="standardized",
        k=2,
        seeds=(3,),
        learning_rate=0.1,
        steps=60,
        switch_step=12,
        window=4,
        onward_steps=80,
        target_angle=0.5,
        record_every=15,
        spectrum_every=None,
        approach_losses=("cross_entropy",),
        approach_rates=(0.1,),
        approach_steps=(30,),
        approach_seeds=(3,),
    )
    store = Store(tmp_path_factory.mktemp("store"))
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(criteria, "EDGE_WINDOW", 5)
        patch.setattr(criteria, "BOUNCE", (6, 10))
        found, again = edge_study(p, store), edge_study(p, store, compute=False)
        other = p.model_copy(update={"approach_rates": (0.11,)})  # which is not stored
        yield found, again, edge_study(other, store, compute=False)


def test_every_step_that_a_criterion_averages_over_has_a_row(whole):
    found, again, _ = whole
    wanted = {*range(7, 13), *range(18, 23), 59, 0, 15, 30, 45, 60}
    assert set(found.switch.of("none")[0].table["step"]) == wanted
    dom = found.switch.of("dominant")[0].table["step"]
    assert set(dom) == {s for s in wanted if s >= 12}
    assert found.switch.of("bulk")[0].experiment.period == 2
    assert found.window.table["step"].tolist() == list(range(12, 17))
    assert repr(judge(found)) == repr(judge(again))  # NaN differs from itself


def test_its_figures_and_tables_are_drawn(whole):
    found, _, _ = whole
    drawn = [f(found) for f in (figures.cycles, figures.pair, figures.beyond, figures.onward)]
    for picture in [*drawn, figures.approaches(found), figures.sharpness(found.switch)]:
        for axes in picture.figure.axes:
            assert axes.get_ylabel()
            assert any(
                np.isfinite(np.asarray(line.get_ydata(), float)).any() for line in axes.lines
            )
    assert "cross-entropy" in tables.approaches(found).data
    assert len(found.runs()) == 7


def test_c6_does_not_wait_for_the_way_to_the_edge_nor_for_what_one_seed_shows(whole):
    *_, lacking = whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(criteria, "EDGE_WINDOW", 5)
        patch.setattr(criteria, "BOUNCE", (6, 10))
        assert [v.claim for v in judge(lacking)] == ["C6", "F5"]
    assert "not stored yet" in figures.approaches(lacking).says
    assert "not stored yet" in answers.approaches(lacking).data
    assert "not stored yet" not in answers.pair(lacking).data
    with pytest.raises(MissingRun, match=r"is not in .*make results"):
        _ = lacking.approaches["cross_entropy", 0.11, 3]
    assert len(lacking.runs()) == 6
