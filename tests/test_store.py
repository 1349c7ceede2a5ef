"""The results store: found again, resumed after a kill, and never half a file read as a whole one."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import examples
from hypothesis import HealthCheck, given, settings, strategies as st

from subspace_lib import runs
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_study
from subspace_lib.experiment import NOT_DESCRIBED, Experiment
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results import provenance as provenance_module, store as store_module
from subspace_lib.results.checkpoint import read_tensors, write_checkpoint, write_tensors
from subspace_lib.results.files import Corrupted
from subspace_lib.results.provenance import processors
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs.training import Run
from subspace_lib.trajectory import certified

SMALL = {
    "dataset": "digits",
    "classes": 4,
    "k": 4,
    "guards": 2,
    "steps": 120,
    "switch_step": 40,
    "projection": "bulk",
    "record_every": 20,
    "spectrum_every": 60,
    "refresh_every": 10,
}
TINY = SMALL | {"steps": 12, "switch_step": 4, "record_every": 4, "spectrum_every": 400}

SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from subspace_lib.results import store
from subspace_lib.experiment import Experiment
store.CHECKPOINT_SECONDS = 0.05
store.Store(sys.argv[1]).run(Experiment(**{fields}))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder of results with one finished tiny run."""
    root = tmp_path_factory.mktemp("finished")
    Store(root).run(Experiment(**TINY))
    return root


@pytest.fixture
def tiny(finished, tmp_path):
    """A store of one's own with that run."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    results, experiment = Store(tmp_path), Experiment(**TINY)
    return results, experiment, results.load(experiment)


def test_a_run_is_computed_once_and_then_loaded(tiny, monkeypatch):
    results, experiment, trajectory = tiny
    monkeypatch.setattr(runs, "start", None)  # computing anything now would fail
    again = results.run(experiment)
    pd.testing.assert_frame_equal(again.table, trajectory.table)
    assert again.status == "complete"
    assert set(again.provenance) == {
        "commit",
        "modules",
        "command",
        "versions",
        "machine",
        "wall_seconds",
        "date",
    }
    assert [p.name for p in results.checkpoints.glob("*.safetensors")] == []


@pytest.mark.parametrize(
    ("victim", "damage"),
    [
        (victim, damage)
        for victim in ("description.json", "measurements.parquet", "provenance.json")
        for damage in ("truncated", "altered", "deleted")
    ],
)
def test_damaged_files_are_named_and_computed_anew(tiny, victim, damage):
    results, experiment, trajectory = tiny
    path = results.folder(experiment) / victim
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.unlink()
    if victim == "provenance.json" and damage == "deleted":  # the sign of an unfinished write
        assert results.load(experiment) is None
        again = results.run(experiment)
    else:
        with pytest.raises(Corrupted, match=victim):
            results.load(experiment)
        with pytest.warns(UserWarning, match=f"{victim}.*computed anew"):
            again = results.run(experiment)
    columns = again.table.columns.difference(["seconds"])
    pd.testing.assert_frame_equal(again.table[columns], trajectory.table[columns])


def edited(old, new):
    return lambda text: text.replace(old, new)


UNREADABLE = {
    "a digit of the switch": edited('"trigger_step": null', '"trigger_step": 9'),
    "how it ended": edited('"status": "complete"', '"status": "diverged at step 9"'),
    "the date": edited('"date": "2', '"date": "3'),
    "a name more": edited('"status"', '"by": "me", "status"'),
    "no seal": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "seal"}),
    "a list": lambda text: "[]",
    "null": lambda text: "null",
    "a number": lambda text: "7",
    "nothing": lambda text: "",
    "deep nesting": lambda text: "[" * 100_000,
    "no text": lambda text: "\udcff\udcfe",
    "not a number": lambda text: text.replace('"wall_seconds": ', '"wall_seconds": NaN, "x": '),
}


@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=UNREADABLE)
def test_whatever_is_wrong_with_a_provenance_is_one_sentence(tiny, damage):
    results, experiment, _ = tiny
    path = results.folder(experiment) / "provenance.json"
    text = path.read_text()
    assert damage(text) != text
    path.write_bytes(damage(text).encode(errors="surrogateescape"))
    with pytest.raises(Corrupted) as error:
        results.load(experiment)
    assert str(error.value) == f"{experiment.key}/provenance.json is incomplete or altered."


def test_a_provenance_that_is_a_folder_is_corrupted(tiny):
    results, experiment, _ = tiny
    path = results.folder(experiment) / "provenance.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(Corrupted, match=r"provenance\.json is incomplete"):
        results.load(experiment)


@given(st.integers(0, 10**6), st.integers(0, 7))
@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_flipped_bit_of_a_provenance_changes_no_outcome(tiny, position, bit):
    """Whitespace may change; what is read may not: it is the same, or Corrupted."""
    results, experiment, trajectory = tiny
    path = results.folder(experiment) / "provenance.json"
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    whole = path.read_bytes()
    path.write_bytes(bytes(content))
    try:
        found = results.load(experiment)
        assert (found.status, found.trigger_step) == (trajectory.status, trajectory.trigger_step)
        assert found.provenance == trajectory.provenance
    except Corrupted:
        pass
    finally:
        path.write_bytes(whole)


def test_everything_that_changes_the_numbers_changes_the_key():
    base = Experiment(**SMALL)
    changes = {
        "dataset": "mnist5k",
        "model": "cnn",
        "loss": "cross_entropy",
        "projection": "dominant",
        "k": 9,
        "learning_rate": 0.02,
        "batch_size": 49,
        "steps": 121,
        "switch_step": 41,
        "seed": 1,
        "refresh_every": "adaptive",
        "target_angle": 0.04,
        "guards": 4,
        "record_every": 30,
        "spectrum_every": 120,
        "chunk": 999,
        "preprocessing": "standardized",
        "watch_from": 800,
        "switch_from": 1001,
        "switch_by": 3000,
        "correction": 500,
        "subset": 0,
        "budget": 2.0,
        "fresh_spans": [[50, 60]],
        "record_spans": [[5, 60]],
        "classes": 3,
        "stop_above": 2,
        "period": 2,
        "projected": "gradient",
        "optimizer": "sam",
        "before": [{"until": 9, "batch_size": 20}],
    }
    fields = [SMALL | {name: value} for name, value in changes.items()]
    sam = {"optimizer": "sam"}
    noisy = {"batch_size": 1500, "noise": "sgd", "classes": 10}
    momentum = {"optimizer": "momentum"}
    fields += [SMALL | other for other in (momentum, momentum | {"beta": 0.5}, sam | {"rho": 0.1})]
    fields += [SMALL | other for other in (noisy, noisy | {"noise_batch": 9})]
    early = {"watch_from": 9, "switch_from": 9}
    fields += [SMALL | other for other in (early, early | {"watch_alignment": 0.9})]
    keys = {Experiment(**parameters).key for parameters in fields}
    assert len(keys | {base.key}) == len(fields) + 1
    # device needs a GPU to be anything else
    seen = {name for parameters in fields for name in parameters}
    assert set(Experiment.model_fields) - seen == {"device"}


def test_where_a_run_is_computed_does_not_change_its_key(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert Experiment(**SMALL, device="cuda").key == Experiment(**SMALL).key
    assert not set(Experiment(**SMALL).describe()) & NOT_DESCRIBED


def test_a_description_says_what_kind_of_run_it_is_and_leaves_nothing_to_a_default():
    description = Experiment(**SMALL).describe()
    assert description["kind"] == "training" and description["preprocessing"] == "unit"
    assert set(Experiment.model_fields) - set(description) == NOT_DESCRIBED
    for kind, (described, _) in runs.KINDS.items():
        assert described.kind == kind
    assert runs.described(description) == Experiment(**SMALL)
    for wrong in ({}, description | {"kind": "guess"}, description | {"nonsense": 1}):
        with pytest.raises(InvalidParameter):
            runs.described(wrong)


@pytest.mark.whole
def test_a_run_killed_at_random_moments_ends_with_the_same_numbers(tmp_path):
    script = SCRIPT.format(fields=SMALL)
    undisturbed = Store(tmp_path / "undisturbed").run(Experiment(**SMALL))
    victim, kills, resumed_from = Store(tmp_path / "killed"), 0, []
    checkpoint = victim.checkpoints / f"{Experiment(**SMALL).key}.safetensors"
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6))
    print(f"KILL_SEED={seed}")
    moments = random.Random(seed)
    while kills < 2:
        before = _step(checkpoint)
        process = subprocess.Popen([sys.executable, "-c", script, str(victim.root)])
        deadline = time.monotonic() + 60
        while _step(checkpoint) <= before + 5 and process.poll() is None:
            assert time.monotonic() < deadline, "no checkpoint appeared"
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if victim.load(Experiment(**SMALL)) is not None:
            break
        kills += 1
        resumed_from.append(_step(checkpoint))
    assert kills == 2, "the run ended before it was killed twice"
    assert resumed_from == sorted(set(resumed_from))
    table = victim.run(Experiment(**SMALL)).table
    columns = table.columns.difference(["seconds"])
    pd.testing.assert_frame_equal(table[columns], undisturbed.table[columns], check_exact=True)


def _step(checkpoint):
    return int(read_tensors(checkpoint)["step"][0]) if checkpoint.exists() else 0


def test_a_checkpoint_of_another_version_is_named_and_not_used(tmp_path):
    results, experiment = Store(tmp_path), Experiment(**TINY)
    run = Run(experiment)
    while run.subspace.vectors is None:
        run.advance()
    whole = run.state()
    state = {name: value for name, value in whole.items() if not name.endswith(".generator")}
    assert len(state) == len(whole) - 1
    run.state = lambda: state
    results.checkpoints.mkdir(parents=True)
    write_checkpoint(results.checkpoints / f"{experiment.key}.safetensors", run)
    with pytest.warns(UserWarning, match=r"is of another version.*from the beginning"):
        assert results.run(experiment).status == "complete"


def test_the_provenance_names_the_machines_of_former_parts(tmp_path, monkeypatch):
    experiment = Experiment(**TINY)
    first, second = Store(tmp_path / "first"), Store(tmp_path / "second")
    run = Run(experiment)
    run.advance()
    for store in (first, second):
        store.checkpoints.mkdir(parents=True)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(provenance_module, "processor", lambda: "another processor")
        write_checkpoint(first.checkpoint(experiment), run)
    write_checkpoint(second.checkpoint(experiment), run)
    moved, stayed = (store.run(experiment).provenance for store in (first, second))
    here = stayed["machine"]["processor"]
    assert moved["machine"]["before"] == ["another processor"]
    assert processors(moved) == f"another processor, then {here}"
    assert processors(stayed) == here


def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path):
    results, experiment = Store(tmp_path), Experiment(**TINY)
    path = results.checkpoints / f"{experiment.key}.safetensors"
    path.parent.mkdir(parents=True)
    write_checkpoint(path, Run(experiment))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"safetensors is incomplete.*from the beginning"):
        assert results.run(experiment).status == "complete"


OTHERS = {
    "seed": {"seed": 1},
    "rate": {"learning_rate": 0.02},
    "rule": {"optimizer": "momentum"},
}


@pytest.mark.parametrize("changed", OTHERS.values(), ids=OTHERS)
def test_the_checkpoint_of_another_run_is_named_and_not_used(tmp_path, changed):
    results, experiment = Store(tmp_path), Experiment(**TINY)
    other = Run(Experiment(**TINY | changed))
    other.advance()
    path = results.checkpoints / f"{experiment.key}.safetensors"
    path.parent.mkdir(parents=True)
    write_checkpoint(path, other)
    with pytest.warns(
        UserWarning, match=f"is the checkpoint of {other.experiment.key}.*from the beg"
    ):
        again = results.run(experiment)
    undisturbed = Run(experiment)
    undisturbed.train()
    columns = again.table.columns.difference(["seconds"])
    expected = certified(undisturbed.table())[columns]
    pd.testing.assert_frame_equal(again.table[columns], expected, check_dtype=False, rtol=1e-6)


def test_a_checksum_around_something_else_is_no_checkpoint(tmp_path):
    content = b"no tensors at all, but a right checksum"
    (tmp_path / "t").write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(Corrupted, match="t holds no tensors"):
        read_tensors(tmp_path / "t")


def test_a_run_that_has_ended_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "CHECKPOINT_SECONDS", 0.0)
    written = []
    monkeypatch.setattr(
        store_module, "write_checkpoint", lambda path, run: written.append(run.step)
    )
    results, experiment = Store(tmp_path), Experiment(**TINY)
    results.run(experiment)
    assert written == list(
        range(1, experiment.steps + 1)
    )  # after every step but the last, which moves nothing


def test_tensors_come_back_as_they_were(tmp_path):
    tensors = {
        "a": torch.randn(3, 4),
        "b": torch.tensor([1, 2]),
        "c": torch.tensor([], dtype=torch.float64),
    }
    write_tensors(tmp_path / "t", tensors)
    for name, value in read_tensors(tmp_path / "t").items():
        assert torch.equal(value, tensors[name])


def test_loading_without_computing_says_what_is_missing(tmp_path):
    with pytest.raises(MissingRun, match="make results"):
        switch_study(SwitchParameters(profile="quick"), Store(tmp_path), compute=False)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_nothing_looked_before_are_not_taken_for_exact(tmp_path):
    """A basis that is refreshed at every fifth step, with a row at every second."""
    small = {"dataset": "digits_300", "model": "mlp_small", "batch_size": 20, "k": 2, "steps": 12}
    e = Experiment(**small, record_every=2, refresh_every=5, spectrum_every=None, projection="bulk")
    run = Run(e)
    run.train()
    raw, table = run.table(), Store(tmp_path).run(e).table
    blind = (raw["angle_bound"] == 0) & (raw["refresh_step"] != raw["step"])
    assert 0 < blind.sum() < len(raw)
    assert (table["angle_bound"] > 0).all() and table["angle"][blind].isna().all()
    kept = ["turn", "angle_bound", "angle"]
    np.testing.assert_allclose(table.loc[~blind, kept], raw.loc[~blind, kept], rtol=1e-5)
    # what the next refresh measures holds for the stretch before it; after the last one nothing is known
    at = raw.index[blind & (raw["step"] < 10)][0]
    seen = raw.index[(raw.index > at) & (raw["angle_bound"] > 0)][0]
    assert table["angle_bound"][at] == pytest.approx(raw["angle_bound"][seen])
    last = raw.assign(angle_bound=0.0, refresh_step=0)
    assert (certified(last)["angle_bound"].iloc[1:] == 1).all()
    older = raw.drop(columns="refresh_step")
    assert certified(older) is older


def test_the_commit_of_a_repository_around_the_package_is_not_the_codes(tmp_path, monkeypatch):
    installed = tmp_path / "site" / "subspace_lib" / "results" / "provenance.py"
    installed.parent.mkdir(parents=True)
    for words in (
        ("init",),
        ("-c", "user.name=a", "-c", "user.email=a", "commit", "--allow-empty", "-m", "x"),
    ):
        subprocess.run(("git", *words), cwd=tmp_path, check=True, capture_output=True)
    assert re.fullmatch("[0-9a-f]{40}(\\+changes)?", provenance_module.commit())
    monkeypatch.setattr(provenance_module, "__file__", str(installed))
    assert provenance_module.commit() == "unknown"
