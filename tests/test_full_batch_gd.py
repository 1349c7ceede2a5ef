"""Chapter 03: C4 and F1 by each of their parts, the quadratic model, a study from end to end."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from conftest import few_digits

from subspace_lib.chapters import chapter
from subspace_lib.chapters.full_batch_gd import answers, figures, judge, tables
from subspace_lib.chapters.full_batch_gd.study import BatchParameters, BatchStudy, batch_study
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory

pytestmark = pytest.mark.usefixtures("narrow_mlp")

SWITCH = 2000


@dataclass
class Stub:
    """A trajectory of which only the table is used."""

    table: pd.DataFrame


@pytest.mark.parametrize("batch", [10, 50, 1000, 5000])
def test_predicted_alignment_is_that_of_a_simulated_quadratic(batch):
    """60 eigenvalues, noise of any size along the leading 20 and proportional to λ beyond, and a drift."""
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [np.linspace(60, 20, 10), np.linspace(8, 4, 10), np.linspace(3, 0.5, 40)]
    )
    noise = np.concatenate([rng.uniform(0.5, 2, 20), np.full(40, 0.02)]) * values
    eta, drift = 0.01, 0.05
    p = BatchParameters(learning_rate=eta, k=10)
    index = range(1, 21)
    lines = [("eigenvalue", i, values[i - 1]) for i in index]
    lines += [("noise", i, noise[i - 1]) for i in index]
    lines += [
        ("noise", 0, noise.sum()),
        ("trace", 0, values.sum()),
        ("square", 0, (values**2).sum()),
    ]
    survey = pd.DataFrame(lines, columns=["quantity", "index", "value"])
    gd = pd.DataFrame({"step": [3000, 3100, 3200], "gradient_norm": [9.0, 9.0, drift]})
    study = BatchStudy(p, None, {("GD", 0): Stub(gd)}, {}, {0: Stub(survey)})

    scale = np.sqrt((5000 - batch) / (4999 * batch) * noise)
    x, energy, whole = np.zeros(60), 0.0, 0.0
    for step in range(40_000):
        gradient = values * x
        x = x - eta * (gradient + scale * rng.standard_normal(60))
        if step > 2000:
            energy += (gradient[:10] ** 2).sum()
            whole += (gradient**2).sum() + drift**2
    simulated = np.sqrt(energy / whole)
    assert study.predicted(0, batch) == pytest.approx(simulated, abs=0.02)


def run(p, seed, table, **fields):
    """A complete run with these columns, which ends at the last of its steps."""
    steps = int(table["step"][-1])
    experiment = p.experiment(seed, steps=steps, **fields)
    return Trajectory(experiment, pd.DataFrame(table), "complete", None, {"date": "2026-11-26"})


def stepwise(first, last, *parts):
    """Rows at every step; the alignment is the value of the last part that has begun."""
    steps = np.arange(first, last + 1)
    alignment = np.zeros(len(steps))
    for begin, value in parts:
        alignment[steps >= begin] = value
    return {"step": steps, "alignment": alignment, "eigenvalue_01": 20.0}


def study(
    before=0.9, without=0.05, again=0.9, shaped=0.9, isotropic=0.2, sizes=(0.95, 0.9, 0.6, 0.0)
):
    """Every seed alike; outside the windows that count, the alignment is the opposite of what is needed."""
    p = BatchParameters(steps=5000, k=10)
    runs, by_size, end = {}, {}, SWITCH + 160
    for seed in p.seeds:
        table = stepwise(SWITCH - 150, SWITCH, (SWITCH - 100, before), (SWITCH, 0.0))
        runs["before", seed] = run(p, seed, table, switch_step=SWITCH - 150)
        table = stepwise(SWITCH, end, (SWITCH, 1.0), (end - 16, without))
        full = {"batch_size": 5000, "switch_step": SWITCH}
        runs["GD", seed] = run(p, seed, table, **full)
        table = stepwise(end, end + 1000, (end + 901, again))
        runs["back", seed] = run(p, seed, table, switch_step=end)
        for name, value in (("shaped", shaped), ("isotropic", isotropic)):
            opposite = 0.0 if name == "shaped" else 1.0
            table = stepwise(SWITCH, SWITCH + 1000, (SWITCH, opposite), (SWITCH + 901, value))
            kind = {"shaped": "sgd", "isotropic": "isotropic"}[name]
            runs[name, seed] = run(p, seed, table, noise=kind, **full)
        for size, value in zip((10, 50, 1000, 5000), sizes, strict=True):
            table = {"step": [0, SWITCH, 4000, 5000], "alignment": [0.5, 0.5, 0.5, value]}
            by_size[size, seed] = run(p, seed, table, batch_size=size)
    plain = {("none", seed): by_size[50, seed] for seed in p.seeds}
    switch = SwitchStudy(p, plain, dict.fromkeys(p.seeds, SWITCH), dict.fromkeys(p.seeds, True))
    return BatchStudy(p, switch, runs, by_size, {})


@pytest.mark.parametrize(
    ("changed", "failing"),
    [({}, None), ({"before": 0.7}, 0), ({"without": 0.2}, 1), ({"again": 0.5}, 2)],
)
def test_c4_fails_by_each_of_its_parts_and_by_nothing_else(changed, failing):
    c4, f1 = judge(study(**changed))
    expected = ["reproduced"] * 3
    if failing is not None:
        expected[failing] = "not reproduced"
    assert [p.verdict for p in c4.parts] == expected
    assert f1.verdict == "holds"


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        (
            {"sizes": (0.95, 0.75, 0.6, 0.0)},
            0,
        ),  # the smaller of the small, less the larger of the large
        ({"sizes": (0.95, 0.9, 0.2, 0.75)}, 0),
        ({"shaped": 0.7}, 1),
        ({"isotropic": 0.6}, 2),
    ],
)
def test_f1_fails_by_each_of_its_parts_and_c4_does_not_mind(changed, failing):
    c4, f1 = judge(study(**changed))
    expected = ["holds"] * 3
    expected[failing] = "does not hold"
    assert [p.verdict for p in f1.parts] == expected
    assert c4.verdict == "reproduced" and {c4.kind, f1.kind} == {"claim", "finding"}


def test_without_a_large_batch_f1_says_what_is_lacking():
    found = study()
    few = {way: r for way, r in found.sizes.items() if way[0] <= 50}
    asked = found.parameters.model_copy(update={"batch_sizes": (10,)})
    _, f1 = judge(BatchStudy(asked, found.switch, found.runs, few, {}))
    assert (f1.verdict, f1.parts[0].measured) == ("inconclusive", None)
    assert "or none from 1,000 on" in f1.parts[0].note


@pytest.mark.parametrize("lost", range(4))
def test_f1_has_no_number_where_a_batch_size_diverged_whatever_its_place(lost):
    """Of the seed whose run it is; the others keep theirs, and no batch size is said to be lacking."""
    sizes = [math.nan if i == lost else value for i, value in enumerate((0.95, 0.9, 0.6, 0.0))]
    found, broken = study(), study(sizes=sizes)
    for size in (10, 50, 1000, 5000):
        found.sizes[size, 13] = broken.sizes[size, 13]
    _, f1 = judge(found)
    assert (f1.parts[0].verdict, f1.parts[0].measured) == ("inconclusive", None)
    assert [math.isnan(value) for value in f1.parts[0].values] == [False, False, True]
    assert f1.parts[0].note == "undefined in 1 of 3 runs"


def test_c4_does_not_wait_for_the_batch_sizes_of_f1():
    found = study()
    own = {way: r for way, r in found.sizes.items() if way[0] == 50}
    verdicts = judge(BatchStudy(found.parameters, found.switch, found.runs, own, {}))
    assert [(v.claim, v.verdict) for v in verdicts] == [("C4", "reproduced")]


def test_the_alignment_after_the_switch_is_the_mean_of_the_rows_there():
    found = study()
    steps = [SWITCH, SWITCH + 99, SWITCH + 100, SWITCH + 2000, SWITCH + 2001, 5000]
    table = {"step": steps, "alignment": [9.0, 9.0, 0.2, 0.4, 9.0, 9.0]}
    found.sizes[10, 12] = run(found.parameters, 12, table, batch_size=10)
    object.__setattr__(found, "predicted", lambda seed, size: math.nan)
    frame = figures.alignment_by_size(found).set_index(["batch", "seed"])
    assert frame.loc[(10, 12), "after the switch"] == pytest.approx(0.3)


def test_losses_are_compared_at_the_same_steps_however_many_rows_a_run_has():
    """All four fall by the same straight line, some with a row in 90 steps, some with one a step."""
    found, sparse, dense = study(), np.arange(0, 1081, 90), np.array([0, *range(901, 1001)])

    def falling(since, **fields):
        table = {"step": SWITCH + since, "train_loss": 1 - 1e-4 * since, "alignment": 0.5}
        return run(found.parameters, seed, table, **fields)

    seed, full = found.parameters.seeds[0], {"batch_size": 5000}
    found.switch.trajectories["none", seed] = falling(sparse)
    found.sizes[5000, seed] = falling(sparse, **full)
    for name in ("shaped", "isotropic"):
        found.runs[name, seed] = falling(dense, **full)
    told = answers.learning(found).data
    assert "by 0.0900 under SGD, 0.0900 under GD" in told
    assert "So the runs learn alike, whatever the alignment of their gradient." in told
    found.runs["shaped", seed] = replace(
        found.runs["shaped", seed], table=found.runs["shaped", seed].table.assign(train_loss=1.0)
    )
    told = answers.learning(found).data
    assert "100% less under GD with noise of SGD's covariance" in told


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The whole study at a small size: one seed of 300 digits, short windows."""
    p = BatchParameters(
        dataset="digits",
        preprocessing="standardized",
        k=2,
        learning_rate=0.06,
        seeds=(3,),
        steps=60,
        switch_step=40,
        switch_alignment=None,
        target_angle=0.5,
        record_every=20,
        spectrum_every=None,
        batch_sizes=(300,),
        branch_every=10,
        back_steps=20,
        start_steps=20,
    )
    store = Store(tmp_path_factory.mktemp("store"))
    with few_digits(), pytest.MonkeyPatch.context() as patch:
        for name, value in (("BEFORE_WINDOW", 10), ("WITHOUT_NOISE", 2.0), ("AGAIN_WINDOW", 8)):
            patch.setattr(criteria, name, value)
        yield batch_study(p, store), batch_study(p, store, compute=False)


def test_gd_takes_up_where_sgd_stands_and_sgd_where_gd_does(whole):
    found, again = whole
    for seed in found.parameters.seeds:
        before, gd, back = (found.runs[name, seed].table for name in ("before", "GD", "back"))
        assert before["step"].tolist() == list(range(30, 41))
        assert gd["train_loss"].iloc[0] == pytest.approx(before["train_loss"].iloc[-1])
        assert back["train_loss"].iloc[0] == pytest.approx(gd["train_loss"].iloc[-1])
        steps = math.ceil(2 / (0.06 * before["eigenvalue_02"].iloc[-1]))
        assert gd["step"].iloc[-1] - gd["step"].iloc[0] == steps
        for name in ("shaped", "isotropic"):
            assert found.runs[name, seed].table["step"].tolist() == [40, *range(52, 61)]
    assert judge(found) == judge(again)
    assert found.batch_sizes() == [50, 300]


def test_its_figures_and_tables_are_drawn(whole):
    found, _ = whole
    for draw in (
        figures.there_and_back,
        figures.by_batch_size,
        figures.single_sample_noise,
        figures.from_the_start,
        figures.learning,
    ):
        for axes in draw(found).figure.axes:
            assert axes.get_ylabel()
            assert any(
                np.isfinite(np.asarray(line.get_ydata(), float)).any() for line in axes.lines
            )
    assert tables.noise_shares(found).data.count("\n| ") == 1
    assert "300" in tables.batch_sizes(found).data


def test_a_finding_whose_runs_are_missing_has_a_row_without_numbers():
    own, whole = chapter("03_full_batch_gd"), study()
    assert "missing" not in page.verdict(own, whole).data
    lacking = replace(whole, sizes={})
    row = [
        cell.strip() for cell in page.verdict(own, lacking).data.splitlines()[-1].split("|")[1:5]
    ]
    assert row[0].startswith("**F1**") and row[1:] == ["missing", "", ""]
    quick = replace(lacking, parameters=lacking.parameters.model_copy(update={"profile": "quick"}))
    text = page.verdict(own, quick).data
    assert "**F1**" not in text and "reproduced" not in text and "| quick" in text
