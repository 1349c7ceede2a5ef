"""The results store: found again, resumed after a kill, and never half a file read as a whole one."""

import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from subspace_lib import store as store_module
from subspace_lib.experiment import LATER, Experiment
from subspace_lib.store import Corrupted, MissingRun, Store, read_tensors, write_tensors
from subspace_lib.studies.switch import SwitchParameters, switch_study
from subspace_lib.training import Run

SMALL = {
    "dataset": "digits", "steps": 120, "switch_step": 40, "projection": "bulk",
    "record_every": 20, "spectrum_every": 60, "refresh": 10,
}  # fmt: skip
TINY = SMALL | {"steps": 12, "switch_step": 4, "record_every": 4, "spectrum_every": 400}

SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from subspace_lib import store
from subspace_lib.experiment import LATER, Experiment
store.CHECKPOINT_SECONDS = 0.05
store.Store(sys.argv[1]).run(Experiment(**{fields}))
"""


@pytest.fixture
def tiny(tmp_path):
    """A store with one finished tiny run."""
    results, experiment = Store(tmp_path), Experiment(**TINY)
    return results, experiment, results.run(experiment)


def test_a_run_is_computed_once_and_then_loaded(tiny, monkeypatch):
    results, experiment, trajectory = tiny
    monkeypatch.setattr(store_module, "Run", None)  # computing anything now would fail
    again = results.run(experiment)
    pd.testing.assert_frame_equal(again.table, trajectory.table)
    assert again.status == "complete"
    assert set(again.provenance) == {
        "commit", "command", "versions", "machine", "wall_seconds", "date",
    }  # fmt: skip
    assert [p.name for p in results.checkpoints.glob("*.safetensors")] == []


@pytest.mark.parametrize(
    ("victim", "damage"),
    [
        (victim, damage)
        for victim in ("description.json", "measurements.parquet", "provenance.json")
        for damage in ("truncated", "altered", "deleted")
        # a flipped digit of a date has no checksum: provenance vouches for the other two files only
        if (victim, damage) != ("provenance.json", "altered")
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


def test_everything_that_changes_the_numbers_changes_the_key():
    base = Experiment(**SMALL)
    changes = {
        "dataset": "mnist5k", "model": "cnn", "loss": "cross_entropy", "projection": "dominant",
        "k": 9, "learning_rate": 0.02, "batch_size": 49, "steps": 121, "switch_step": 41, "seed": 1,
        "refresh": "adaptive", "target_angle": 0.04, "guards": 4, "record_every": 30,
        "spectrum_every": 120, "chunk": 999, "watch_alignment": 0.9, "correction": 500,
        "record_spans": [[5, 60]], "classes": 3, "stop_above": 2, "period": 2,
        "project": "gradient", "optimizer": "sam", "before": [{"until": 9, "batch_size": 20}],
    }  # fmt: skip
    fields = [SMALL | {name: value} for name, value in changes.items()]
    sam, noisy = {"optimizer": "sam"}, {"batch_size": 1500, "noise": "sgd"}
    momentum = {"optimizer": "momentum"}
    fields += [SMALL | other for other in (momentum, momentum | {"beta": 0.5}, sam | {"rho": 0.1})]
    fields += [SMALL | other for other in (noisy, noisy | {"noise_batch": 9})]
    keys = {Experiment(**parameters).key for parameters in fields}
    assert len(keys | {base.key}) == len(fields) + 1
    # device needs a GPU to be anything else
    seen = {name for parameters in fields for name in parameters}
    assert set(Experiment.model_fields) - seen == {"device"}


def test_a_parameter_that_came_later_leaves_older_addresses_as_they_were():
    description = Experiment(**SMALL).describe()
    assert not set(description) & set(LATER)
    assert "rho" in Experiment(**SMALL, optimizer="sam", rho=0.1).describe()


def test_a_run_killed_at_random_moments_ends_with_the_same_numbers(tmp_path):
    script = SCRIPT.format(fields=SMALL)
    undisturbed = Store(tmp_path / "undisturbed").run(Experiment(**SMALL))
    victim, kills, resumed_from = Store(tmp_path / "killed"), 0, []
    checkpoint = victim.checkpoints / f"{Experiment(**SMALL).key}.safetensors"
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6))
    print(f"KILL_SEED={seed}")
    moments = random.Random(seed)
    while kills < 3:
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
    assert kills == 3, "the run ended before it was killed three times"
    assert resumed_from == sorted(set(resumed_from))
    table = victim.run(Experiment(**SMALL)).table
    columns = table.columns.difference(["seconds"])
    pd.testing.assert_frame_equal(table[columns], undisturbed.table[columns], check_exact=True)


def _step(checkpoint):
    return int(read_tensors(checkpoint)["counts"][0]) if checkpoint.exists() else 0


def test_a_checkpoint_of_another_version_is_named_and_not_used(tmp_path):
    results, experiment = Store(tmp_path), Experiment(**TINY)
    run = Run(experiment)
    while run.subspace.vectors is None:
        run.advance()
    state = {name: value for name, value in run.state().items() if not name.endswith(".ceilings")}
    assert len(state) == len(run.state()) - 1
    results.checkpoints.mkdir(parents=True)
    write_tensors(results.checkpoints / f"{experiment.key}.safetensors", state)
    with pytest.warns(UserWarning, match=r"is of another version.*from the beginning"):
        assert results.run(experiment).status == "complete"


def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path):
    results, experiment = Store(tmp_path), Experiment(**TINY)
    path = results.checkpoints / f"{experiment.key}.safetensors"
    path.parent.mkdir(parents=True)
    write_tensors(path, Run(experiment).state())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"safetensors is incomplete.*from the beginning"):
        assert results.run(experiment).status == "complete"


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
