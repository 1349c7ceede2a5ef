"""What to use when: the recommendations follow the results, also where these turn out otherwise."""

import math
import re
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import pandas as pd
import pytest

from subspace_lib.book import advice
from subspace_lib.book.advice import Evidence
from subspace_lib.chapters import ledger
from subspace_lib.chapters.kit.switch.study import SwitchParameters
from subspace_lib.chapters.threshold.cuts import Case
from subspace_lib.chapters.threshold.spaces import hessian_of, kept
from subspace_lib.evidence.verdicts import part, verdict
from subspace_lib.trajectory import Trajectory


def judged(**means):
    """Verdicts of claims whose first part has such a mean."""
    claims, p = ledger.claims(), SwitchParameters()
    return {
        name: verdict(claims[name], [part("progress", [mean] * 3, None)], p, [])
        for name, mean in means.items()
    }


def plain(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


@pytest.mark.parametrize("topic", advice.TOPICS)
def test_without_results_nothing_is_recommended(topic):
    assert "ot measured yet: the runs of chapter" in plain(
        advice.TOPICS[topic](Evidence({}, {}, None))
    )


def test_training_in_the_subspace_is_advised_against_only_where_it_fails():
    found = plain(advice.saving(Evidence(judged(C2=0.01, C3=1.0, Q4=0.25), {}, None)))
    assert found.startswith("Do not train in the subspace alone. On the MLP Dom-SGD made 0.01")
    assert "did no harm" in found and "Bulk-SGD ends 25.0 points above SGD's (Q4)." in found
    found = plain(advice.saving(Evidence(judged(C2=0.7, C3=0.4), {}, None)))
    assert "Dom-SGD made 0.70 of SGD's progress and Bulk-SGD 0.40" in found
    assert "Do not" not in found and "did no harm" not in found and "test" not in found
    both = judged(C2=0.01, C3=1.0, C2b=0.5, C3b=1.0)
    assert "Do not" not in plain(advice.saving(Evidence(both, {}, None)))


def test_what_to_project_follows_each_rules_progress():
    claims, p = ledger.claims(), SwitchParameters()
    parts = [
        part("progress(Bulk-heavy ball), update projected", [1.0] * 3, None),
        part("progress(Bulk-heavy ball), both projected", [0.95], None),
        replace(
            part("progress(Bulk-Adam), update projected", [-1.0] * 3, None),
            note="3 of 3 runs diverged",
        ),
        part("progress(Bulk-Adam), both projected", [0.99], None),
        part("progress(Bulk-Muon), update projected", [0.2], None),
    ]
    text = plain(advice.rules(Evidence({"F3": verdict(claims["F3"], parts, p, [])}, {}, None)))
    assert (
        "Bulk-heavy ball, its progress over that of the rule itself, by what is projected: update "
        "projected 1.00; both projected 0.95. So all of these did as well as the rule." in text
    )
    assert (
        "update projected (3 of 3 runs diverged); both projected 0.99. So it did as well as the rule only"
        in text
    )
    assert (
        "both projected 0.99. So it did as well as the rule only with both projected." in text
        and "update projected 0.20. So none of these did as well as the rule." in text
    )
    assert "some of these numbers are of one seed.)" in text
    whole = {"F3": verdict(claims["F3"], parts[:1], p, [])}
    assert "one seed" not in plain(advice.rules(Evidence(whole, {}, None)))


def case(dominant, inside, spectrum, cut=3, loose=MappingProxyType({}), plain=MappingProxyType({})):
    """A case of chapter 08 with these numbers by k; sines of the branches' bases, and of SGD's."""
    found = SimpleNamespace(
        parameters=SimpleNamespace(k=2, cuts=tuple(dominant), seeds=(11,), steps=20, cut_steps=10),
        progress=lambda k, side: [dominant[k]],
        alignment=lambda k: [inside[k]],
        spectrum=lambda seed: spectrum,
        rules=lambda fractions: {"the largest gap": [cut]},
        unresolved=lambda: loose,
        plain_angle=lambda k: plain[k],
        plain_unresolved=lambda: list(plain),
    )
    found.only_near = lambda: Case.only_near(found)
    return found


def dimensions(**numbers):
    study = SimpleNamespace(
        cases={"MLP on MNIST-5k": case(**numbers)}, parameters=SimpleNamespace(fractions=())
    )
    return plain(advice.dimensions(Evidence({}, {}, study)))


def test_the_number_of_dimensions_follows_alignment_progress_and_spectrum():
    inside, spectrum = {1: 0.5, 2: 0.95, 4: 0.99}, [9.0, 8.0, 4.0, 1.0, 0.5]
    text = dimensions(dominant={1: 0.0, 2: 0.0, 4: 0.3}, inside=inside, spectrum=spectrum)
    most = "MLP on MNIST-5k (one seed): k = 2 is the smallest that was run at which SGD's late alignment is"
    assert text.startswith(f"{most} 0.9 or more (0.95).")
    numbers = {"dominant": {1: 0.0, 2: 0.0, 4: 0.3}, "inside": inside, "spectrum": spectrum}
    assert "not known to be exact" not in dimensions(**numbers, loose={2: 0.97, 4: 0.9})
    vague = dimensions(**numbers, plain={2: 0.57, 4: 0.9})  # of SGD, whose alignment it is
    assert "(0.95), though its space is not known to be exact (sine 0.57)." in vague
    assert "begins to learn at k = 4 (classes: 2)" in text
    assert "behind λ₃, a ratio of 4.0; behind λ₂ it is 2.0." in text
    inside = dict.fromkeys(inside, 0.4)
    text = dimensions(dominant=dict.fromkeys(inside, 0.0), inside=inside, spectrum=spectrum)
    assert (
        "at no k up to 4 is SGD's late alignment 0.9 or more" in text
        and "does not learn at any k that was run" in text
    )
    assert "near the exact one" not in text
    still = dict.fromkeys(inside, 0.0)
    text = dimensions(dominant=still, inside=inside, spectrum=spectrum, loose={2: 0.6, 4: 0.9})
    assert (
        "(classes: 2); the basis in use is known to be near the exact Sₖ with k = 1 only." in text
    )
    unknown = dict.fromkeys(inside, math.nan)
    text = dimensions(dominant=unknown, inside=inside, spectrum=spectrum)
    assert "SGD gained too little" in text and "does not learn" not in text
    text = dimensions(dominant=inside, inside=inside, spectrum=[], cut=None)
    assert "The largest gap of the spectrum is not known." in text and "nan" not in text


def test_age_and_samples_are_the_most_forgiving_that_met_all_bounds(monkeypatch):
    names = [kept(1), kept(10), kept(100), hessian_of(50), hessian_of(500)]
    good = set(names)
    monkeypatch.setattr(advice, "as_in_s_k", lambda study, name: name in good)
    sines = {"dominant": 0.03, "bulk": 0.36}
    monkeypatch.setattr(advice, "apart", lambda study, name, side: [sines[side]])
    study = SimpleNamespace(
        cases={},
        spaces=SimpleNamespace(
            names=lambda: names,
            of=lambda name, side: [None] * (1 if name == kept(1) else 3),
            switch=SimpleNamespace(parameters=SwitchParameters()),
        ),
        parameters=SimpleNamespace(
            kept=(1, 10, 100), subsets=(50, 500), space_steps=5000, target_angle=0.05
        ),
    )
    both = lambda: [plain(f(Evidence({}, {}, study))) for f in (advice.refreshes, advice.samples)]  # noqa: E731
    far = " So an old basis is good enough to project on, but does not say where S k is."
    long = (
        " The runs go on for 5,000 steps after the switch. Kept for up to 100 steps, a basis is at a sine "
        "of 0.030 to S k under Dom-SGD and of 0.36 under Bulk-SGD, the root mean square over directions "
        f"and rows.{far}"
    )
    where = "MLP on MNIST-5k , η = 0.01, mean over 3 seeds: "
    met = "still met Q5's bounds: Dom-SGD stands still, Bulk-SGD learns, the gradient lies inside."
    assert both() == [
        f"{where}a basis kept for 100 steps {met}{long}",
        f"{where}a basis of 50 samples {met}",
    ]
    good -= {kept(100), hessian_of(50)}
    assert both() == [
        f"{where}a basis kept for 10 steps {met} Not so kept for 100 steps.{long}",
        f"{where}a basis of 500 samples {met} Not so of 50 samples.",
    ]
    good.clear()
    alone = where.replace("mean over 3 seeds", "one seed")
    none = "no basis that was tried met Q5's bounds."
    assert both() == [f"{alone}{none}{long}", f"{where}{none}"]
    names[3:] = []
    assert (
        both()[1]
        == "Not measured yet: chapter 08's runs with H of 50 samples and H of 500 samples are missing."
    )


def run(seed, projection="dominant", **columns):
    e = SwitchParameters(steps=1000).experiment(seed, projection=projection, switch_step=500)
    rows = {"step": [500, 1000], "refreshes": [1, 6], "gradient_equivalents": [60.0, 110.0]}
    return Trajectory(e, pd.DataFrame(rows | columns), "complete", None, {})


def test_the_trackers_own_refreshes_are_counted_by_method():
    runs = [
        run(11, angle=[0.01, 0.03]),
        run(12, angle=[math.nan, 0.01], refreshes=[1, 16]),
        run(11, "none", angle=[0.5, 0.5]),
        run(11, "bulk"),  # of an older table, without the column
    ]
    chosen = advice.branches([*runs, Trajectory(SimpleNamespace(kind="x"), None, "", None, {})])
    assert chosen == runs[:2]
    text = plain(advice.refreshes(Evidence({}, {}, None, runs=chosen)))
    assert "MLP on MNIST-5k Dom-SGD, batch 50, η 0.01 50 0.10 0.015 0.030" in text
    ended_at_once = run(13, angle=[0.0, 0.0])
    ended_at_once = replace(ended_at_once, table=ended_at_once.table.head(1))
    assert "<table" not in advice.refreshes(Evidence({}, {}, None, runs=[ended_at_once]))


def test_the_price_names_ways_and_budgets():
    row = {"method": "SGD", "rows": False, "budget": None, "projection": "none", "ratio": 2.0}
    part = {
        "model": "cnn",
        "dataset": "cifar10_5k",
        "cold_start": {"gradient_equivalents": 51.3},
        "rows": [row, row | {"rows": True, "ratio": 9.0}, row | {"budget": 4.0, "ratio": 3.1}],
    }
    text = plain(advice.price(Evidence({}, {"price": {"cnn": part}}, None)))
    assert text == (
        "CNN on CIFAR10-5k : 2.0 × for SGD whose subspace is followed, after a cold start of 51 gradients. "
        "With a budget: 3.1 × at 4. It limits gradients, so the seconds may exceed it; where it is not "
        "needed it changes nothing."
    )
    part["rows"] = [row | {"budget": 10.0, "ratio": 9.1}]
    text = plain(advice.price(Evidence({}, {"price": {"cnn": part}}, None)))
    assert "CNN on CIFAR10-5k : with a budget of 10, 9.1 × for SGD, after a cold start" in text


def spans(*held):
    """Chapter 11's study with so much of S_k in the span of the mean outputs, anchor by anchor."""
    steps = [0, 500, 20_000][: len(held)]
    frame = pd.DataFrame({11: held, 12: held}, index=steps)
    return SimpleNamespace(
        parameters=SimpleNamespace(model="mlp", dataset="mnist5k"),
        over_anchors=lambda quantity, operator: frame,
    )


def test_the_mean_outputs_stand_in_for_the_subspace_only_where_they_hold_it():
    def told(*held):
        return plain(advice.outputs(Evidence({}, {}, None, spans(*held))))

    good = told(0.94, 0.9956, 0.997)
    assert "span 0.94 of S k at step 0, and at least 0.99 from step 500 on" in good
    assert "without one Hessian-vector product; there is no bound" in good
    assert "from step" not in told(0.95) and "first look" in told(0.95)
    assert "So they do not stand in for it all along." in told(0.94, 0.5, 0.99)
    assert "Not measured yet" in told(math.nan, math.nan)
