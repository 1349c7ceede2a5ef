"""What the pages say under their figures: the numbers choose the words, and no result is typed."""

import math
import re
from dataclasses import replace
from pathlib import Path

import jupytext
import pandas as pd
import pytest
from matplotlib.legend import Legend
from matplotlib.text import Text
from test_edge_of_stability import study as made_up_edge
from test_full_batch_gd import study as batch_study
from test_valley_chapter import made_up as valley_study

from subspace_lib import data
from subspace_lib.chapters.dom_vs_bulk import answers as dom_bulk
from subspace_lib.chapters.dom_vs_bulk.study import DomBulkParameters, DomBulkStudy, Setting
from subspace_lib.chapters.dominant_subspace import answers as dominant
from subspace_lib.chapters.edge_of_stability import answers as edge
from subspace_lib.chapters.full_batch_gd import answers as batches
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.names import title
from subspace_lib.chapters.kit.study import Absent
from subspace_lib.chapters.kit.style import PHONE
from subspace_lib.chapters.kit.switch import (
    answers as switch,
    figures as switch_figures,
    tables as switch_tables,
)
from subspace_lib.chapters.kit.switch.panel import over_sgd
from subspace_lib.chapters.momentum_adam import answers as momentum
from subspace_lib.chapters.momentum_adam.study import MomentumParameters, MomentumStudy
from subspace_lib.chapters.sam import answers as sam
from subspace_lib.chapters.sam.study import SamStudy
from subspace_lib.chapters.valley import answers as valley
from subspace_lib.models import ARCHITECTURES
from subspace_lib.results.store import MissingRun
from subspace_lib.trajectory import Trajectory

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
CHAPTERS = [path for path in NOTEBOOKS if path.stem[0].isdigit()]  # the others are how-tos
SWITCH, END = 100, 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.07731, "0.0773"),
        (-0.0123, "−0.0123"),
        (1234.5, "1,234"),
        (0.9996, "1.00"),
        (3.2e-6, "3.20 · 10⁻⁶"),
        (0, "0"),
        (math.nan, "not known"),
        (math.inf, "infinite"),
    ],
)
def test_a_number_is_said_with_three_digits_and_a_real_minus(value, text):
    assert says.number(value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.5, 0.7], "0.600 (0.500 … 0.700)"),
        ([8.9e-5, 7.43e-4], "4.16 (0.890 … 7.43) · 10⁻⁴"),
        ([3e6, 1e6], "2.00 (1.00 … 3.00) · 10⁶"),
        ([2e-6], "2.00 · 10⁻⁶"),
        ([1e-9, 1e-3], "0.000500 (1.00 · 10⁻⁹ … 0.00100)"),
        ([-2e-6, 1e-3], "0.000499 (−2.00 · 10⁻⁶ … 0.00100)"),
        ([math.nan], "not known"),
    ],
)
def test_a_range_has_one_power_of_ten(values, text):
    assert says.mean_of(values) == text


def test_words_are_chosen_by_the_numbers():
    assert says.moves(1, 2) == "rises from 1.00 to 2.00"
    assert says.moves(2, 1) == "falls from 2.00 to 1.00"
    assert says.moves(1, 1.001) == "stays at 1.00"
    assert says.moves(1, 1.02) == "stays near 1.00 (1.02 at the end)"
    assert says.moves(math.nan, 1) == "is not known"
    assert [says.compared(v, 2) for v in (3, 1, 2.01)] == ["above", "below", "about at"]
    assert [
        says.counted(hits)
        for hits in ([True] * 3, [True, False], [False] * 2, [False] * 3, [True], [False])
    ] == [
        "all 3 seeds",
        "1 of 2 seeds",
        "neither seed",
        "none of the 3 seeds",
        "the one seed",
        "no seed",
    ]
    assert says.mean_of([0.9, math.nan, 1.0], says.share) == "0.95 (0.90 … 1.00)"
    assert says.mean_of([math.nan]) == "not known"
    assert [says.percent(v) for v in (0, 0.004, 0.5, 0.996, 1)] == [
        "0%",
        "under 1%",
        "50%",
        "over 99%",
        "100%",
    ]


def run(p, seed, projection, end, alignment=0.95, status="complete", first=SWITCH, sharp=30.0):
    """A made-up run whose loss goes in a line from 0.3 at the switch to its end."""
    steps = list(range(first, END + 1, 10))
    since = [max(0, step - SWITCH) / (0.98 * END - SWITCH) for step in steps]
    loss = [0.3 + (end - 0.3) * min(1, share) for share in since]
    table = {"step": steps, "train_loss": loss, "test_loss": loss, "test_accuracy": 0.9}
    table |= {"alignment": alignment, "batch_alignment": alignment / 2, "turn": 0.02}
    table |= {"refreshes": [i // 5 for i in range(len(steps))]}
    table |= {"angle_bound": 0.1, "update_alignment": alignment, "batch_gradient_norm": 1.0}
    frame = pd.DataFrame(table)
    for i in range(1, 21):
        frame[f"eigenvalue_{i:02d}"] = (sharp if i <= p.k else 2.0) + 0.1 * sharp * pd.Series(since)
    fields = {} if projection == "none" else {"projection": projection, "switch_step": SWITCH}
    experiment = p.experiment(seed, steps=END, optimizer=p.optimizer, **fields)
    return Trajectory(experiment, frame, status, None, {"date": "2026-11-26"})


def study(dom=0.3, bulk=0.1, plain=0.1, dom_alignment=0.95, settings=False, **fields):
    """SGD, Dom-SGD and Bulk-SGD of three seeds with these losses at the end."""
    p = DomBulkParameters(seeds=(1, 2, 3), steps=END, switch_step=SWITCH, **fields)
    runs = {}
    for seed in p.seeds:
        runs["none", seed] = run(p, seed, "none", plain, first=0)
        runs["dominant", seed] = run(p, seed, "dominant", dom, dom_alignment)
        runs["bulk", seed] = run(p, seed, "bulk", bulk)
    each = dict.fromkeys(p.seeds, SWITCH)
    return DomBulkStudy(p, runs, each, dict.fromkeys(p.seeds, True), {}, None)


LEARNS = "outside the dominant subspace does the learning"
OUTCOMES = {
    "as the paper": ({}, ["Dom-SGD stays level", "Bulk-SGD learns as SGD does", LEARNS], []),
    "turned round": (
        {"dom": 0.1, "bulk": 0.3},
        ["Dom-SGD goes on learning", "falls behind SGD", "the dominant part learns by itself"],
        ["stays level", LEARNS],
    ),
    "Dom-SGD rises": ({"dom": 0.4}, ["The loss of Dom-SGD rises"], ["stays level"]),
    "both learn": (
        {"dom": 0.1},
        ["either part of the update learns by itself"],
        ["stays level", LEARNS],
    ),
    "neither": (
        {"bulk": 0.3},
        ["neither part of the update does by itself"],
        [LEARNS, "learns as SGD"],
    ),
    "SGD gains too little": (
        {"plain": 0.28, "bulk": 0.28},
        ["there is no verdict. Of what SGD gains, Dom-SGD gains 0.00 and Bulk-SGD 1.00."],
        ["gained next to nothing", LEARNS, "So the"],
    ),
    "SGD stands still": (
        {"plain": 0.3},
        ["gained next to nothing"],
        ["stays level", LEARNS, "So "],
    ),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_losses_of_a_switch_are_told_as_they_came_out(outcome):
    fields, there, absent = OUTCOMES[outcome]
    told = switch.losses(study(**fields)).data
    for phrase in there:
        assert phrase in told
    for phrase in absent:
        assert phrase not in told


def test_a_branch_that_diverged_is_named_and_left_out_of_the_means():
    found = study()
    gone = run(found.parameters, 2, "bulk", 9.0, status="diverged at step 500")
    found.trajectories["bulk", 2] = gone
    told = switch.losses(found).data
    assert "Bulk-SGD ended early in 1 of 3 seeds" in told
    assert "0.100 under Bulk-SGD" in told and "9.00" not in told


@pytest.mark.parametrize(("warm_up", "cold"), [(0.01, 40.0), (1.0, 0.0), (0.01, 4000.0)])
def test_gradients_a_step_are_those_of_the_measured_steps_alone(warm_up, cold):
    """Whatever was spent on the steps before the switch, and on the cold start at it."""
    found, a_step = study(), {"none": 0.25, "dominant": 3.0, "bulk": 5.0}
    for (side, _), made in found.trajectories.items():
        first = made.table["step"].iloc[0]
        since = made.table["step"] - first
        made.table["gradient_equivalents"] = warm_up * first + cold + a_step[side] * since
        made.table["refreshes"] = made.table["products"] = made.table["seconds"] = 1
    lines = [row for row in switch_tables.cost(found).data.splitlines() if row.startswith("|")]
    head, _, *rows = [row.split("|")[1:-1] for row in lines]
    column = [cell.strip() for cell in head].index("gradients per step")
    assert [row[column].strip() for row in rows] == ["0.25", "3.00", "5.00"]
    assert [row[column + 1].strip() for row in rows] == ["25.0 ×", "300.0 ×", "500.0 ×"]
    plain = 50 / 5000
    assert [over_sgd(found, side) for side in a_step] == pytest.approx(
        [w / plain for w in a_step.values()]
    )


def test_a_run_of_one_row_has_no_gradients_a_step():
    found = study()
    for seed in found.parameters.seeds:
        made = found.trajectories["dominant", seed]
        found.trajectories["dominant", seed] = replace(made, table=made.table.iloc[:1])
    for made in found.trajectories.values():
        made.table["gradient_equivalents"] = made.table["refreshes"] = 7
        made.table["products"] = made.table["seconds"] = 1
    assert "not known" in switch_tables.cost(found).data.splitlines()[3]


def test_a_high_alignment_is_no_riddle_when_dom_sgd_learns_or_is_not_aligned():
    riddle = "does not say where the learning happens"
    assert riddle in switch.alignments(study()).data
    assert riddle not in switch.alignments(study(dom=0.1)).data
    assert riddle not in switch.alignments(study(dom_alignment=0.2)).data


def test_the_sharpness_is_told_on_the_side_of_the_edge_where_it_is():
    assert "no run comes to it" in switch.spectra(study()).data  # 2/η is 200
    told = switch.spectra(study(learning_rate=0.1)).data  # 2/η is 20
    assert told.count("Dom-SGD in all") == told.count("Bulk-SGD in all") == 1


def test_settings_are_told_by_what_changes_its_side():
    found = study()
    assert "not stored yet" in dom_bulk.settings(found).data
    assert "not stored yet" in dom_bulk.drift(found).data

    class Made(Setting):
        def quantities(self):
            return dict(self.noise)

    good = {
        "late alignment": 0.9,
        "late λₖ/λₖ₊₁": 3.0,
        "progress(Dom-SGD)": 0.0,
        "progress(Bulk-SGD)": 1.0,
        "alignment before GD (C4)": 0.9,
        "under GD (C4)": 0.01,
        "under SGD again (C4)": 0.9,
    }
    one = study()
    object.__setattr__(one.parameters, "seeds", (1,))
    found.settings.update(own=Made(one, good), other=Made(one, good | {"under GD (C4)": 0.5}))
    told = dom_bulk.settings(found).data
    assert "With the settings as we read them, all quantities pass." in told
    assert "With other, under GD (C4) would fail its criterion; all else would pass." in told
    found.settings["other"] = Made(one, good)
    assert "With other, all quantities pass." in dom_bulk.settings(found).data


@pytest.mark.parametrize(
    ("fields", "there", "absent"),
    [
        (
            {},
            ["goes with the noise, and comes back with it", "where the noise points"],
            ["does not"],
        ),
        ({"without": 0.9}, ["does not go with the noise"], ["alignment goes with"]),
        ({"again": 0.5}, ["and comes back in part"], ["comes back with it"]),
        ({"again": 0.1}, ["and does not come back with it"], ["comes back"]),
        ({"isotropic": 0.9}, ["isotropic noise aligns the gradient as much"], ["where the noise"]),
    ],
)
def test_there_and_back_turns_with_its_outcome(fields, there, absent):
    told = batches.there_and_back(batch_study(**fields)).data
    assert all(phrase in told for phrase in there)
    assert not any(phrase in told for phrase in absent)


def edge_study(**fields):
    """Of chapter 05's tests; with an alignment of the branches too."""
    found = made_up_edge(**fields)
    for trajectory in found.switch.of("dominant"):
        trajectory.table["alignment"] = 0.5
    return found


def test_the_edge_is_told_as_it_came_out():
    told = edge.losses(edge_study()).data
    assert LEARNS in told and "Only what comes after the bounce is judged." in told
    assert (
        "the loss of Dom-GD falls by 0.40 in the first 200 steps, in which its bounce dies" in told
    )
    assert (
        "changes its sign at 100% of the 100 steps before the switch: it bounces from one" in told
    )
    turned = edge.losses(edge_study(dom=0.5, bulk=0.95)).data
    assert LEARNS not in turned and "falls behind GD" in turned
    assert "rises by 0.20 after that" in edge.losses(edge_study(dom=0.9)).data
    assert "So its sharpness goes past the edge" in edge.beyond(edge_study()).data
    assert "does not go clearly past" in edge.beyond(edge_study(risen=19.0)).data
    aligned = edge.sharpness(edge_study().switch).data
    assert "So at the edge the gradient is aligned" in aligned
    low = edge.sharpness(edge_study(gd_fields={"alignment": 0.5}).switch).data
    assert "not as aligned as the claim says" in low
    far = edge.sharpness(edge_study(gd_fields={"sharpness": 10.0}).switch).data
    assert "not at the edge there" in far and "aligned" not in far
    lasting = edge.approaches(edge_study()).data
    assert "in all 3 runs; within 1,000 steps of that" in lasting
    assert re.search(r", and (stays|does not stay): from there on its mean is 0\.\d+", lasting)
    assert "does not reach 2/η" in edge.approaches(edge_study(arrival=9000)).data


def test_whether_the_sharpness_falls_again_is_told_by_loss():
    found = edge_study()
    assert edge.approaches(found).data.count("the sharpness stays high") == 2
    for (loss, *_), made in found.approaches.items():
        if loss == "cross_entropy":
            late = made.table["step"] > 0.9 * made.experiment.steps
            made.table.loc[late, "eigenvalue_01"] *= 0.1
    told = edge.approaches(found).data
    assert "Cross-entropy: the sharpness falls again; at the end of these runs λ₁ is 0.10" in told
    assert "Mean squared error: the sharpness stays high" in told


@pytest.mark.parametrize(
    ("few", "told"),
    [
        ((0.9, 0.9), "holds as much of it at both of these steps: there"),
        ((0.1, 0.9), "holds as much of it at the last: there"),
        ((0.9, 0.1), "holds as much of it at the first: there"),
        ((0.1, 0.1), None),
    ],
)
def test_the_means_over_all_samples_are_compared_at_both_ends(monkeypatch, few, told):
    held = {"class_means": (0.9, 0.9), "mean_outputs": few, "random_span": (0.0, 0.0)}
    monkeypatch.setattr(dominant, "_over_anchors", lambda _, name: pd.Series(held[name], [0, 9]))
    said = dominant.class_spans(None).data
    assert "So most of the dominant subspace lies in the span of the class means all along." in said
    assert (told or "all along.") in said and (told is None) == said.endswith("all along.")


def test_that_bulk_sgd_gains_more_is_said_where_its_interval_is_above_that_of_sgd():
    more = "It gains a little more than SGD"
    assert more in switch.losses(study(bulk=0.097)).data
    assert more not in switch.losses(study()).data
    better = switch.losses(study(bulk=0.05)).data
    assert "Bulk-SGD does better than SGD" in better and more not in better
    unsure = "reaches down to 1 or below"
    assert unsure not in better
    spread = study(bulk=0.05)
    spread.trajectories["bulk", 1] = run(spread.parameters, 1, "bulk", 0.1)
    assert unsure in switch.losses(spread).data


def test_sam_is_told_on_the_side_of_its_edge_where_it_is():
    far, at = (study(optimizer="sam", learning_rate=rate) for rate in (0.01, 0.06))
    told = sam.edges(SamStudy(far, at, {}, None, {}, {})).data
    assert told.count("So SAM is below its own edge there.") == 1
    assert "With the full batch" in told and told.count("So SAM is") == 2
    assert (
        "Only one radius"
        in sam.rhos(SamStudy(far, at, {0.05: far.of("none")[0]}, None, {}, {})).data
    )


@pytest.mark.parametrize(("bulk", "count"), [(0.03, "all 3 seeds"), (0.01, "none of the 3 seeds")])
def test_the_amplification_is_told_as_it_came_out(bulk, count):
    p = MomentumParameters(seeds=(1, 2, 3))
    table = {}
    for (label, seed), experiment in p.table_runs().items():
        rates = {"dominant_rate": [0.01] * 4, "bulk_rate": [0.01 if label == "SGD" else bulk] * 4}
        table[label, seed] = Trajectory(experiment, pd.DataFrame(rates), "complete", None, {})
    told = momentum.first_steps(MomentumStudy(p, table, {}, {}, {}, {}, {}, {})).data
    assert told.count(f"amplifies the bulk part 1.3 times or more in {count}.") == 2
    assert f"Adam has {100 * bulk:.1f} times the ratio of SGD" in told


def test_the_valley_is_told_as_it_came_out():
    told = valley.losses(valley_study()).data
    assert (
        told.count("Dom-SGD stands still; Bulk-SGD ends above SGD's loss, 1.2 times as high.") == 2
    )
    turned = valley.losses(valley_study((("Dom-SGD", "train_loss"), 0.1))).data
    assert turned.count("Dom-SGD goes on learning") == 1


@pytest.mark.parametrize(
    "draw", [switch_figures.losses, switch_figures.alignments, switch_figures.angles]
)
def test_a_figure_is_readable_at_phone_width_and_no_line_runs_through_its_legend(draw):
    figure = draw(study()).figure
    figure.canvas.draw()
    pixels = PHONE / figure.bbox.width * figure.dpi / 72  # of a point
    sizes = [text.get_size() * pixels for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) >= 11
    legends = figure.findobj(Legend)
    assert len(legends) == (0 if draw is switch_figures.angles else 1)
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)


def cells(path):
    return jupytext.read(path).cells


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_every_figure_is_followed_by_its_answer_and_its_caption_asks_nothing(chapter):
    found = cells(chapter)
    figures = [i for i, cell in enumerate(found) if "mystnb" in cell.metadata]
    assert figures
    for i in figures:
        caption = found[i].metadata["mystnb"]["figure"]["caption"]
        assert "whether" not in caption.lower() and "to see" not in caption.lower()
        assert "?" not in caption and caption.endswith(".")
        assert re.match(r"(answers|own)\.\w+\(", found[i + 1].source), found[i].source


# Numbers with a decimal point that a page may type: none is a result. A factor of the protocol, a target.
PROTOCOL = {"0.9", "D.1"}


@pytest.mark.parametrize("chapter", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_result_is_typed_into_the_prose(chapter):
    for cell in cells(chapter):
        captions = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
        text = captions if cell.cell_type == "code" else cell.source
        text = re.sub(r"section \d\.\d", "", text)
        text = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\(\w[^)]*\)=", "", text, flags=re.S)
        typed = set(re.findall(r"\d+\.\d+|\d+ ?%|\d+ (?:of|times|seconds|minutes)\b", text))
        assert typed <= PROTOCOL, text
        assert not re.search(r"a (few|minute|couple of) (second|minute)s?", text)


def test_rows_without_a_certificate_are_told_and_stand_in_the_ledger():
    found = study()
    assert found.doubts() == "" and "there is no bound" not in switch.angles(found).data
    for trajectory in found.of("bulk"):
        trajectory.table.loc[trajectory.table.index % 2 == 0, "angle_bound"] = 1.0
    told = found.doubts(", full batch")
    assert re.fullmatch(
        r"Bulk-SGD, full batch: in (4|5)\d% of the steps there is no bound on the basis's error.",
        told,
    )
    told = switch.angles(found).data
    assert told.count("of the steps there is no bound") == 1 and "Bulk-SGD: in " in told
    assert told.count("| 0%") == 3 and told.count(" 20% ") == 3  # above the target; after a refresh


def test_a_branch_that_always_diverges_is_not_said_to_fall_behind():
    found = study()
    for seed in found.parameters.seeds:
        gone = run(found.parameters, seed, "bulk", 9.0, status="diverged at step 500")
        found.trajectories["bulk", seed] = gone
    told = switch.losses(found).data
    assert "Bulk-SGD diverges in all 3 seeds: that counts as a progress of −1." in told
    assert "falls behind" not in told and "not known" not in told


@pytest.mark.parametrize(("end", "said"), [(0.4, True), (0.3, False), (0.1, False)])
def test_where_the_loss_of_dom_heavy_ball_moves_its_sharpness_is_told_beside_it(end, said):
    found = study(dom=end)
    p = MomentumParameters(seeds=found.parameters.seeds)
    absent = Absent(MissingRun())
    told = momentum.losses(MomentumStudy(p, {}, {}, {}, {"momentum": found}, {}, absent, {})).data
    assert ("its sharpness rises from" in told and "Why it rises is not known" in told) == said


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        (0.31, "complete", "So most of the rise is due to the turn"),
        (0.39, "complete", "So the turn of the subspace is not the whole cause."),
        (0.25, "complete", "So most of the rise is due to the turn"),
        (9.0, "diverged at step 500", "Not all of these runs, and of those with a frozen"),
    ],
)
def test_what_is_left_of_the_rise_of_dom_heavy_ball_with_its_subspace_frozen(end, status, said):
    found = study(dom=0.4)
    p = MomentumParameters(seeds=found.parameters.seeds)
    frozen = {
        seed: run(found.parameters, seed, "dominant", end, status=status)
        for seed in found.parameters.seeds
    }
    told = momentum.losses(MomentumStudy(p, {}, {}, {}, {"momentum": found}, {}, frozen, {})).data
    assert said in told and ("is left" in told) == (status == "complete")


@pytest.mark.parametrize(
    ("followed", "kept", "said"),
    [((0.4, 20.0), (0.3, 30.0), True), ((0.4, 20.0), (0.4, 20.0), False)]
    + [((0.4, 30.0), (0.3, 30.0), False), ((0.2, 20.0), (0.1, 30.0), False)],
)
def test_a_rise_at_twice_the_learning_rate_is_put_down_to_the_turn(
    followed, kept, said, monkeypatch
):
    """Only where the loss rises and λ₁ falls with the one, and neither with the other."""
    found, pairs = study(), {"followed": followed, "refreshed every 500 steps": kept}
    runs = {}
    for kind, (loss, sharp) in pairs.items():
        runs[kind] = run(found.parameters, 1, "dominant", loss)
        runs[kind].table["eigenvalue_01"] = pd.Series([30.0, sharp]).reindex(range(500)).ffill()
    monkeypatch.setattr(DomBulkStudy, "doubled", lambda _: runs)
    assert ("fits the drift that a turning subspace causes" in dom_bulk.drift(found).data) == said


def test_a_loss_that_does_not_rise_in_every_seed_is_not_put_down_to_the_turn():
    """A ratio of two falls would pass for one of two rises."""
    found = study(dom=0.4)
    seeds = found.parameters.seeds
    found.trajectories["dominant", seeds[0]] = run(found.parameters, seeds[0], "dominant", 0.29)
    frozen = {s: run(found.parameters, s, "dominant", 0.2) for s in seeds}
    made = MomentumStudy(
        MomentumParameters(seeds=seeds), {}, {}, {}, {"momentum": found}, {}, frozen, {}
    )
    assert "It does not rise in every seed" in momentum.losses(made).data


def test_every_network_and_data_set_of_ours_has_a_name_to_be_read():
    for name in (*ARCHITECTURES, *data.DATASETS):
        assert "_" not in title(name), name


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (3, "exceeds that of the untrained network within 60 steps. So two old subspaces"),
        (1, "exceeds that of the untrained network in 1 of 3 seeds."),
        (0, "ends at 0.350."),
    ],
)
def test_two_frozen_subspaces_in_turn(gone, said):
    edge = made_up_edge()
    apart = {}
    for i, seed in enumerate((1, 2, 3)):
        ended, e = i < gone, edge.parameters.run(11, "dominant", 600)
        steps, losses = [600, 660 if ended else e.steps], [0.2, 9.0 if ended else 0.35]
        table = pd.DataFrame({"step": steps, "train_loss": losses})
        status = "diverged at step 660" if ended else "complete"
        apart[seed] = Trajectory(e, table, status, None, {})
    told = sam._apart(SamStudy(edge, edge, {}, None, {}, apart))
    assert said in told
    assert sam._apart(SamStudy(edge, edge, {}, None, {}, {})) == ""
