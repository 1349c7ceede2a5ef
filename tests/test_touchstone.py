"""Touchstones: the code of today has been compared with that of stored runs; a change of numbers shows."""

import math

import pandas as pd
import pytest
import torch

from subspace_lib.results import touchstone
from subspace_lib.results.modules import modules_hash
from subspace_lib.results.store import COMMITTED
from subspace_lib.results.touchstone import RUNS, agree, measured, numbers, recorded, same_code
from subspace_lib.runs import KINDS


def test_every_kind_of_run_has_touchstones_of_todays_code():
    record = recorded(COMMITTED)
    assert RUNS.keys() == KINDS.keys()
    for kind, runs in RUNS.items():
        now = record[kind].get(modules_hash(kind), {})
        assert now.keys() == runs.keys(), (
            f"runs of the kind {kind} are computed by other code than its touchstones: "
            "python -m subspace_lib.results.touchstone"
        )
        assert all(values["complete"] == 1 for values in now.values())


def test_numbers_are_those_of_the_last_row_and_of_the_whole():
    table = pd.DataFrame({"step": [0, 5], "loss": [3.0, math.nan], "seconds": [1.0, 2.0]})
    found = numbers(table)
    assert found["rows"] == 2 and found["loss, count"] == 1 and found["loss, last"] == 3.0
    assert found["step, mean"] == 2.5 and "seconds, mean" not in found
    long = pd.DataFrame({"quantity": ["a", "a", "b"], "value": [1.0, 2.0, 7.0]})
    assert (numbers(long)["a, mean"], numbers(long)["b, last"]) == (1.5, 7.0)


def test_code_agrees_where_all_common_numbers_do():
    first = {"SGD": {"loss, last": 1.0, "rows": 3.0}, "young": {"loss, last": 5.0}}
    assert agree(first, {"SGD": {"loss, last": 1.00005, "rows": 3.0, "new, last": 2.0}})
    assert not agree(first, {"SGD": {"loss, last": 1.001, "rows": 3.0}})
    assert not agree(first, {"SGD": {"loss, last": 1.0, "rows": 4.0}})
    assert not agree(first, {"other": {"loss, last": 1.0}})  # nothing in common
    record = {"pair": {modules_hash("pair"): first, "old": first, "other": {"SGD": {"rows": 9.0}}}}
    assert same_code("pair", "old", record) and not same_code("pair", "other", record)
    assert not same_code("pair", "unknown", record) and not same_code("survey", "old", record)


def test_on_another_machine_code_is_compared_with_former_code_measured_there_too():
    record = {"pair": {"former": {"GD": {"loss, last": 1.0}}}}
    here = {"pair": {"hash": "former", "numbers": {"GD": {"loss, last": -1.0}}}}
    same = {"pair": {"hash": "now", "numbers": {"GD": {"loss, last": -1.0}, "new": {"rows": 2.0}}}}
    other = {"pair": {"hash": "now", "numbers": {"GD": {"loss, last": -1.1}}}}
    taken = touchstone._as_recorded(record, same, here)["pair"]
    assert taken == {"hash": "now", "numbers": {"GD": {"loss, last": 1.0}, "new": {"rows": 2.0}}}
    assert touchstone._as_recorded(record, other, here) == other
    assert touchstone._known({"pair": {}}, "pair", here) is None


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["pair", "weighted", "valley"])
def test_todays_code_has_the_recorded_numbers_and_another_has_not(kind, monkeypatch):
    torch.set_num_threads(1)
    known = recorded(COMMITTED)[kind][modules_hash(kind)]
    assert agree(measured(kind), known)
    name, fields = next(iter(RUNS[kind].items()))
    other = fields | {"learning_rate": 1.01 * fields.get("learning_rate", 1e-5)}
    monkeypatch.setitem(touchstone.RUNS, kind, {name: other})
    assert not agree(measured(kind), known)


def test_only_code_that_has_computed_stored_runs_is_kept():
    record, made = recorded(COMMITTED), touchstone._computed(COMMITTED)
    for kind, of_kind in record.items():
        assert of_kind.keys() <= made | {modules_hash(kind)}
