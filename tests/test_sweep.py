"""Many runs at once: the same results whoever computes them, whatever is killed meanwhile."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
from test_store import TINY

from subspace_lib.experiment import Experiment
from subspace_lib.results import sweep, workers
from subspace_lib.results.files import Corrupted
from subspace_lib.results.store import Store
from subspace_lib.results.sweep import SweepFailed, run_all

pytestmark = pytest.mark.whole


def runs(count, **fields):
    return [Experiment(**TINY | fields | {"seed": seed}) for seed in range(count)]


def same(found, expected):
    """Bit for bit, the seconds apart."""
    columns = expected.table.columns.difference(["seconds"])
    pd.testing.assert_frame_equal(found.table[columns], expected.table[columns], check_exact=True)
    assert (found.status, found.trigger_step) == (expected.status, expected.trigger_step)


def test_processes_compute_what_one_would_whatever_is_killed_or_fails(tmp_path):
    experiments = runs(3, steps=60, record_every=20)
    alone = run_all(experiments, store=Store(tmp_path / "alone"), jobs=1)
    store, killed = Store(tmp_path / "together"), []
    store.root.mkdir()
    (store.root / experiments[1].key).write_text("in the way")

    def kill(standing):  # called as the workers report
        if not killed:
            children = subprocess.run(
                ["pgrep", "-f", "-P", str(os.getpid()), "spawn_main"],
                capture_output=True,
                text=True,
            )
            killed.append(int(children.stdout.split()[0]))
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(SweepFailed) as caught:
        run_all(experiments, store=store, jobs=2, display=kill)
    assert killed
    text = str(caught.value)
    assert text.startswith(f"1 of 3 runs failed, {experiments[1].key} with StoreError: Cannot")
    assert len(text) < 500 and "\n" not in text
    for i in (0, 2):
        same(store.load(experiments[i]), alone[i])
    assert not list(tmp_path.rglob("*.tmp"))
    (store.root / experiments[1].key).unlink()
    for found, expected in zip(run_all(experiments, store=store, jobs=1), alone, strict=True):
        same(found, expected)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_one_process_too_tries_every_run_and_tells_of_the_first_that_failed(tmp_path, monkeypatch):
    wanted, run, told = runs(3), Store.run, []

    def fails(self, experiment, *rest):
        if experiment.seed == 1:
            raise OSError("no such disk")
        return run(self, experiment, *rest)

    monkeypatch.setattr(Store, "run", fails)
    with pytest.raises(
        SweepFailed, match=r"^1 of 3 runs failed, .* with OSError: no such disk\. All"
    ):
        run_all(
            wanted,
            store=Store(tmp_path),
            jobs=1,
            display=lambda standing: told.append(standing.done),
        )
    assert [Store(tmp_path).holds(e) for e in wanted] == [True, False, True] and max(told) == 3


def test_there_are_no_more_processes_than_cores_that_may_be_used(tmp_path, monkeypatch):
    """On one core of however many: two runs are computed here, and a crew of its own choice is of one."""
    allowed = os.sched_getaffinity(0)
    monkeypatch.setattr(os, "cpu_count", lambda: max(2, len(allowed)))
    monkeypatch.setattr(workers, "pool", None)  # a process would be an error
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert workers.Crew().jobs == 1
        found = run_all(runs(2), store=Store(tmp_path))
    finally:
        os.sched_setaffinity(0, allowed)
    assert [t.experiment.seed for t in found] == [0, 1]
    assert workers.Crew().jobs == len(allowed)


def test_a_run_that_is_asked_for_twice_is_computed_once_and_order_is_kept(tmp_path):
    first, second = runs(2)
    store = Store(tmp_path)
    found = run_all([second, first, second], store=store, jobs=1)
    assert [t.experiment.seed for t in found] == [1, 0, 1]
    assert len(list(tmp_path.glob("*/provenance.json"))) == 2


POOL = """
import os, signal, sys, time
from subspace_lib.results.workers import pool
def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with pool(2) as workers:
        futures = [workers.submit(os.getpid) for _ in range(8)]
        print(*{f.result() for f in futures}, flush=True)
        workers.submit(time.sleep, 600).result()
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, how):
    (tmp_path / "script.py").write_text(POOL)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert pids
    parent.send_signal(how)
    parent.wait(timeout=20)
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers go on without their parent"
        time.sleep(0.1)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_what_is_no_worker_reports_to_nobody():
    workers.report("nothing happens", 0)


def test_results_are_sent_back_where_the_folder_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (experiment,) = runs(1)
    modules = sweep.modules_hash(experiment.kind)
    files = sweep.remote(experiment.describe(), experiment.key, modules, str(tmp_path), "no marker")
    store = Store(tmp_path / "mine")
    store.adopt(experiment, files)
    same(store.load(experiment), Store(tmp_path / "alone").run(experiment))
    damaged = files | {"measurements.parquet": files["measurements.parquet"][:-1]}
    other = Store(tmp_path / "other")
    with pytest.raises(Corrupted):
        other.adopt(experiment, damaged)
    assert other.load(experiment) is None


def test_a_worker_of_another_version_refuses(tmp_path):
    (experiment,) = runs(1)
    for key, modules in ((experiment.key, "else"), ("else", sweep.modules_hash(experiment.kind))):
        with pytest.raises(SweepFailed, match="another version of subspace_lib"):
            sweep.remote(experiment.describe(), key, modules, str(tmp_path), "marker")


def test_a_scheduler_that_is_not_there_is_said_in_a_sentence(tmp_path):
    pytest.importorskip("distributed")
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1"):
        with pytest.raises(SweepFailed, match="cannot be reached; give the address"):
            run_all(runs(1), store=Store(tmp_path), scheduler=address)


@contextlib.contextmanager
def cluster(folder, count=2):
    """A Dask scheduler and workers as processes on loopback; its address, they, and a start of another."""
    pytest.importorskip("distributed")
    file, started = folder / "scheduler.json", []

    def start(module, *options):
        command = [sys.executable, "-m", f"distributed.cli.{module}", *options]
        with open(folder / f"{module}.log", "ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
        return started[-1]

    def worker():
        return start(
            "dask_worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny",
            "--no-dashboard", "--host", "127.0.0.1",
        )  # fmt: skip

    try:
        start(
            "dask_scheduler", "--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0",
            "--no-dashboard",
        )  # fmt: skip
        at_work = [worker() for _ in range(count)]
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline, "no scheduler"
            time.sleep(0.1)
        import json

        yield json.loads(file.read_text())["address"], at_work, worker
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def test_a_dask_cluster_computes_what_one_process_would(tmp_path):
    experiments = runs(2)
    with cluster(tmp_path, count=1) as (address, _, _):
        found = run_all(experiments, store=Store(tmp_path / "dask"), scheduler=address)
    alone = run_all(experiments, store=Store(tmp_path / "alone"), jobs=1)
    for one, other in zip(found, alone, strict=True):
        same(one, other)


@pytest.mark.timeout(300)
def test_a_scheduler_that_is_killed_ends_in_a_sentence_and_nothing_is_lost(tmp_path):
    experiments = runs(6, steps=150, model="mlp_small", record_every=50)
    store = Store(tmp_path / "dask")
    with cluster(tmp_path, count=1) as (address, _, _):

        def kill(standing):
            if standing.done == 2:
                subprocess.run(["pkill", "-9", "-f", f"dask_scheduler.*{tmp_path}"], check=True)

        with pytest.raises(SweepFailed, match=r"The scheduler at .* was lost.*once more"):
            run_all(experiments, store=store, scheduler=address, display=kill)
    kept = {e.key for e in experiments if store.holds(e)}
    assert 2 <= len(kept) < 6
    before = {key: (store.root / key / "provenance.json").stat().st_mtime_ns for key in kept}
    (tmp_path / "again").mkdir()
    with cluster(tmp_path / "again", count=1) as (address, _, _):
        found = run_all(experiments, store=store, scheduler=address)
    alone = run_all(experiments, store=Store(tmp_path / "alone"), jobs=1)
    for one, other in zip(found, alone, strict=True):
        same(one, other)
    assert before == {k: (store.root / k / "provenance.json").stat().st_mtime_ns for k in kept}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_64_runs_on_a_dask_cluster_whose_workers_are_killed_three_times(tmp_path):
    experiments = runs(64, steps=200, record_every=50)
    done = []
    with cluster(tmp_path) as (address, at_work, worker):
        over = threading.Event()

        def kill_now_and_then():
            for kills in range(3):
                while sum(done[-1:]) < 10 * (kills + 1) and not over.is_set():
                    time.sleep(0.05)
                at_work[0].kill()
                at_work.append(worker())
                at_work.pop(0)

        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        store = Store(tmp_path / "dask")
        found = run_all(
            experiments, store=store, scheduler=address, display=lambda s: done.append(s.done)
        )
        over.set()
        killer.join()
    assert len(list(store.root.glob("*/provenance.json"))) == 64
    assert not list(store.root.rglob("*.tmp"))
    alone = run_all(experiments, store=Store(tmp_path / "alone"))
    for one, other in zip(found, alone, strict=True):
        same(one, other)
