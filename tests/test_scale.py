"""What is said of memory and of many devices comes from what was measured."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from subspace_lib.benchmark import footprint, scale
from subspace_lib.chapters.cost import plan, tables
from subspace_lib.models.transformer import Transformer
from subspace_lib.objective import Objective

MEASURED = {
    "memory": {"measured": {"k": 4, "second pass": 20.0}},
    "scale": {
        "measured": {
            "large": {
                "length": 128,
                "parameters": 100_000_000,
                "graph": 5e8,
                "gradient_flops": 6e10,
                "product_flops": 1.5e11,
                "graph_flops": 1e11,
            },
            "ranks": [
                {"ranks": 1, "block": 11, "products_a_second": 10.0},
                {"ranks": 2, "block": 11, "products_a_second": 17.0},
            ],
        }
    },
}


def test_the_plan_is_arithmetic_on_what_was_measured():
    p = plan.plan(MEASURED)
    assert p.vector == 4e8 and p.tracker == 8e9
    assert p.graph == 16 * 5e8
    assert p.total == pytest.approx(25 * 4e8 + 8e9)
    assert p.product == pytest.approx(67_349 * 1.5e11 / (0.4 * 67e12 * 8))
    assert p.step == pytest.approx(256 * 6e10 / (0.4 * 67e12 * 8))
    assert p.refresh == pytest.approx(67_349 * (1e11 + 5 * 1.5e11) / (0.4 * 67e12 * 8))
    assert p.steps == pytest.approx(p.refresh / p.step)
    assert p.traffic == pytest.approx(2 * 7 / 8 * 4e8)
    assert p.largest == pytest.approx((80e9 - 8e9) / (4 * 25))


def test_its_sentences_follow_its_numbers():
    told = " ".join(plan.answers(MEASURED))
    assert (
        "fits each GPU whole" in told
        and "slows the steps, not the subspace" in told
        and "1.70 times" in told
    )
    turned = copy.deepcopy(MEASURED)
    turned["memory"]["measured"]["second pass"] = 400.0
    turned["scale"]["measured"]["large"]["product_flops"] = 1e8
    told = " ".join(plan.answers(turned))
    assert "does not fit a GPU" in told and "the connection limits both" in told
    assert all(line.text for line in plan.lines(turned))


def test_work_and_memory_of_a_sentence_are_those_of_the_objective(monkeypatch):
    monkeypatch.setattr(scale, "VOCABULARY", 50)
    monkeypatch.setattr(scale, "LENGTH", 7)
    torch.manual_seed(0)
    model = Transformer(50, 7, 2, width=8, heads=2, hidden=16, layers=1)
    found = scale.sentence(model)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    tokens, labels = torch.randint(1, 50, (6, 7)), torch.arange(6) % 2
    objective = Objective(model, "cross_entropy", tokens, labels, check=False)
    with FlopCounterMode(display=False) as counter:
        objective.gradient(objective.initial())
    assert 6 * found["gradient_flops"] == pytest.approx(counter.get_total_flops(), rel=1e-9)
    assert found["product_flops"] > found["gradient_flops"] > 0
    block = torch.randn(objective.dim, 5)
    with FlopCounterMode(display=False) as counter:
        objective.hessian(objective.initial()) @ block
    # The first graph of an objective is built twice: once to see what it keeps.
    assert counter.get_total_flops() == pytest.approx(
        6 * (2 * found["graph_flops"] + 5 * found["product_flops"]), rel=1e-9
    )
    assert found["graph"] > 7 * 8 * 4


@pytest.mark.whole
def test_ranks_multiply_together(monkeypatch):
    rows = scale.shared("digits")
    assert [row["ranks"] for row in rows] == [1, 2]
    assert all(row["products_a_second"] > 0 for row in rows)


@pytest.mark.whole
def test_peak_memory_is_looked_at_in_each_quarter():
    if not footprint.RESET.exists():
        pytest.skip("only Linux tells a process its peak")
    small = {"steps": 80, "refresh_every": 20, "record_every": 10, "spectrum_every": 40, "k": 2}
    fields = footprint.SETTING | small | {"dataset": "digits_300", "model": "mlp_small"}
    row = footprint.followed(fields)
    assert row["status"] == "complete" and len(row["peaks"]) == 4
    assert min(row["peaks"]) > row["graphs"] > 0
    begun = footprint.peak()
    held = torch.ones(60_000_000)  # 240 MB, so that it can be seen
    assert footprint.peak() > begun + 150e6 and len(held)
    del held
    footprint.RESET.write_text("5")
    assert footprint.peak() < begun + 150e6


def test_memory_is_told_by_the_rows():
    row = {"dataset": "mnist5k", "model": "mlp", "samples": 5000, "parameters": 10, "steps": 1000}
    few = row | {"before": 2**29, "peaks": [2**30] * 4, "graphs": 2**20, "reckoned": 2**30}
    many = few | {"dataset": "mnist", "samples": 60_000, "peaks": [2**31] * 4, "graphs": 2**29}
    found = {"footprint": {"mlp": few, "mnist": many, "cnn": {"failed": "no data"}}}
    told = tables.footprint(found).data
    assert "rises by at most 0%" in told and "12 times the samples the peak is 1.00 higher" in told
    few["peaks"] = [2**30, 2**30, 2**31, 2**30]
    assert "rises by at most 100%" in tables.footprint(found).data
    assert "Not measured: `python -m subspace_lib.benchmark --part footprint-cnn f" in told
    assert "footprint-mlp" not in told and "footprint-mlp" in tables.footprint({}).data
