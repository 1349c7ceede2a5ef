"""What a file system can refuse, and what other processes can leave: one sentence, and nothing lost."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
from test_store import TINY

from subspace_lib.experiment import Experiment
from subspace_lib.results import lock as lock_module, store as store_module
from subspace_lib.results.files import Corrupted, StoreError
from subspace_lib.results.lock import holder, locked
from subspace_lib.results.store import Store
from subspace_lib.runs import training

EXPERIMENT = Experiment(**TINY)


def refused(caught, path):
    """One sentence with its remedy, which names the path."""
    text = str(caught.value)
    assert str(path) in text
    assert len(text) < 300 and "\n" not in text
    return text


def never(*_):
    raise AssertionError("something was computed")


def test_a_file_where_the_folder_should_be_is_said_before_anything_is_computed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(training.Run, "train", never)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        Store(tmp_path / "file").run(EXPERIMENT)
    assert "SUBSPACE_RESULTS" in refused(caught, tmp_path / "file")


@pytest.mark.parametrize("name", ["description.json", "provenance.json", "measurements.parquet"])
def test_a_folder_in_a_files_place_is_said_before_anything_is_computed(tmp_path, monkeypatch, name):
    monkeypatch.setattr(training.Run, "train", never)
    (tmp_path / EXPERIMENT.key / name).mkdir(parents=True)
    with warnings.catch_warnings(), pytest.raises(StoreError) as caught:
        warnings.simplefilter("ignore")
        Store(tmp_path).run(EXPERIMENT)
    assert "remove it" in refused(caught, name)
    if name == "provenance.json":
        with pytest.raises(Corrupted):
            Store(tmp_path).load(EXPERIMENT)


READ_ONLY = """
import os, sys
from subspace_lib.experiment import Experiment
from subspace_lib.results import memory
from subspace_lib.results.store import Store
from subspace_lib.runs.training import Run
Run.train = None  # would be an error
experiment = Experiment(**{fields})
memory.check(experiment)  # what it imports may be closed to nobody
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    Store(sys.argv[1]).run(experiment)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.whole
def test_a_folder_that_may_not_be_written_is_said_before_anything_is_computed(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY.replace("{fields}", str(TINY)), str(closed)],
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("StoreError Cannot write"), done.stderr
    assert "Set SUBSPACE_RESULTS to a folder that you may write." in done.stdout


FULL = """
import resource, sys, warnings
from subspace_lib.experiment import Experiment
from subspace_lib.results import store
store.CHECKPOINT_SECONDS = 0.0
results, experiment = store.Store(sys.argv[1]), Experiment(**{fields})
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
warnings.simplefilter("once")
try:
    print("status", results.run(experiment).status)
except store.StoreError as error:
    print("StoreError", error)
"""


def short(folder, limit):
    """A run on a disk that takes no file longer than the limit."""
    script = FULL.replace("{fields}", str(TINY))
    command = [sys.executable, "-c", script, str(folder), str(limit)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.whole
def test_a_checkpoint_that_cannot_be_written_warns_and_the_run_goes_on(tmp_path):
    done = short(tmp_path, 100_000)  # room for the results, not for a checkpoint
    assert done.stdout == "status complete\n", done.stderr
    assert "ulimit" in done.stderr and "The run goes on without a checkpoint." in done.stderr
    assert not list(tmp_path.rglob("*.tmp"))
    assert Store(tmp_path).load(EXPERIMENT).status == "complete"


@pytest.mark.whole
def test_results_that_cannot_be_written_end_in_a_sentence_and_leave_no_half_of_a_run(tmp_path):
    done = short(tmp_path, 2000)  # not even for the results
    assert done.stdout.startswith("StoreError Cannot write"), done.stderr
    assert "ulimit" in done.stdout
    assert Store(tmp_path).load(EXPERIMENT) is None
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_is_removed_during_a_run_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "CHECKPOINT_SECONDS", 0.0)
    results = Store(tmp_path / "results")

    def remove(run):
        if run.step == 6:
            shutil.rmtree(results.root)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert results.run(EXPERIMENT, remove).status == "complete"
    assert results.load(EXPERIMENT).status == "complete"


def test_what_killed_processes_have_left_goes_and_nothing_else(tmp_path):
    results, key = Store(tmp_path), EXPERIMENT.key
    folder = tmp_path / key
    folder.mkdir()
    results.checkpoints.mkdir()
    left = [
        folder / "provenance.json.123.tmp",
        folder / "measurements.parquet.7.tmp",
        results.checkpoints / f"{key}.safetensors.99.tmp",
    ]
    kept = [
        folder / "notes.tmp",
        results.checkpoints / "another-run.safetensors.99.tmp",  # whose process may be at work
    ]
    for path in left + kept:
        path.write_text("")
    results.run(EXPERIMENT)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_with_the_way_out(tmp_path, monkeypatch, number):
    def refuse(fd, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(training.Run, "train", never)
    with pytest.raises(StoreError) as caught:
        Store(tmp_path).run(EXPERIMENT)
    assert "a local disk" in refused(caught, f"{EXPERIMENT.key}.lock")


HOLD = """
import sys, time
from pathlib import Path
from subspace_lib.results.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.whole
def test_who_waits_says_for_whom_and_since_when_and_again_where_the_owner_is_stopped(tmp_path):
    path = tmp_path / "some-run.lock"
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout.readline() == "held\n"
        assert re.search(rf"process {owner.pid} on .* since 20\d\d-", holder(path))
        owner.send_signal(signal.SIGSTOP)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")

            def let_go(path):
                said = [str(w.message) for w in told]
                if len(said) == 3:  # so it was said again and again
                    assert all(f"kill -CONT {owner.pid}" in text for text in said[1:])
                    owner.kill()
                return holder(path)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(lock_module, "holder", let_go)
                begun = time.monotonic()
                with locked(path, remind=0.2):
                    assert json.loads(path.read_text())["process"] == os.getpid()
        assert len(told) >= 3
        assert time.monotonic() - begun < 20
        assert all(str(w.message).startswith("some-run waits: process") for w in told)
    finally:
        owner.kill()
        owner.wait()


@pytest.mark.whole
def test_a_lock_is_free_again_when_its_owner_was_killed(tmp_path):
    path = tmp_path / "some-run.lock"
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    owner.stdout.readline()
    owner.kill()
    owner.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with locked(path):
            pass


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00" * 9, '{"process": "x"}'])
def test_an_owner_that_has_not_signed_is_said_to_be_unknown(tmp_path, content):
    path = tmp_path / "some-run.lock"
    path.write_text(content)
    assert "another process computes it" in holder(path)
