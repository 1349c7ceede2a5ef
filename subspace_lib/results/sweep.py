"""Many runs at once: by processes of this machine, or by the workers of a Dask scheduler."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from subspace_lib.errors import Told
from subspace_lib.experiment import RunDescription
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.estimate import price, steps_of
from subspace_lib.results.files import as_store_error
from subspace_lib.results.modules import modules_hash
from subspace_lib.results.store import Store
from subspace_lib.results.workers import Crew, cores, report
from subspace_lib.runs import described
from subspace_lib.runs.protocol import RunInProgress
from subspace_lib.trajectory import Trajectory

ATTEMPTS = 5  # on a run whose worker was lost
WORD = 1.0  # seconds between two words of a worker
Display = Callable[["Standing"], object]


class SweepFailed(Told, RuntimeError):
    """Some runs of a sweep could not be computed; the message names the first, all others are stored."""


class Standing:
    """How far a sweep is.

    Attributes:
        runs: how many were missing; done: how many of them are stored by now.
        steps: of all that were missing; step: how many of them have been made.
        price: what following the subspace costs the dearest of those at work (``estimate.price``).
    """

    def __init__(self, missing: Iterable[RunDescription]):
        self._steps = {experiment.key: steps_of(experiment) for experiment in missing}
        self._at: dict[str, int] = {}
        self._ended: set[str] = set()
        self._prices: dict[str, float] = {}
        self.runs, self.steps = len(self._steps), sum(self._steps.values())
        self.resumed = 0  # steps that interrupted runs had made before

    @property
    def done(self) -> int:
        """Runs that have ended."""
        return len(self._ended)

    @property
    def step(self) -> int:
        """Steps made, of all runs together."""
        return sum(self._at.values())

    @property
    def price(self) -> float:
        """Of the dearest run at work."""
        return max([0.0, *(p for key, p in self._prices.items() if key not in self._ended)])

    def note(self, key: str, step: int, price: float = 0.0) -> None:
        """A run is at this step, at such a price."""
        if key not in self._at:
            self.resumed += step
        if key not in self._ended:
            self._at[key], self._prices[key] = step, price

    def end(self, key: str) -> None:
        """A run has ended, also where it diverged long before its last step."""
        self._ended.add(key)
        self._at[key] = self._steps[key]


def run_all(
    experiments: Iterable[RunDescription],
    *,
    store: Store | None = None,
    scheduler: str | None = None,
    jobs: int | None = None,
    crew: Crew | None = None,
    display: Display = lambda standing: None,
) -> list[Trajectory]:
    """The trajectories of all experiments, in their order: loaded, or computed side by side and stored.

    Args:
        experiments: descriptions; equal ones are computed once.
        store: where results are looked for and kept; ``Store()`` if None.
        scheduler: address of a Dask scheduler, as "tcp://host:8786". Its workers need this version of
            ``subspace_lib`` and the data. Where they see the store's folder they write into it, and a run
            whose worker is lost goes on from its checkpoint; else they send their results back. None:
            processes of this machine.
        jobs: how many processes; as many as cores if None. One, or one run: this process.
        crew: processes that there are already, in place of ``jobs``; they stay for more.
        display: is called with the ``Standing`` now and then.

    Raises:
        InvalidParameter: ``jobs`` is below 1.
        SweepFailed: a run could not be computed, the scheduler cannot be reached, or a worker has another
            version, or the package ``distributed`` is not there; what has been computed is stored.
    """
    if jobs is not None and jobs < 1:
        raise InvalidParameter(f"jobs = {jobs} must be at least 1 process, or None for one a core.")
    wanted = list(experiments)
    store = store or Store()
    missing = list({e.key: e for e in wanted if not store.holds(e)}.values())
    standing = Standing(missing)
    if missing and scheduler is not None:
        _by_dask(missing, store, scheduler, standing, display)
    elif len(missing) > 1 and (crew.jobs if crew else jobs or cores()) > 1:
        with contextlib.ExitStack() as own:
            at_work = crew or own.enter_context(Crew(min(jobs or cores(), len(missing))))
            _by_processes(missing, store, at_work, standing, display)
    else:
        _in_turn(missing, store, standing, display)
    return [store.run(experiment) for experiment in wanted]


def _in_turn(
    missing: Sequence[RunDescription], store: Store, standing: Standing, display: Display
) -> None:
    failed: dict[str, BaseException] = {}
    for experiment in missing:
        try:
            store.run(experiment, lambda run: _tell(standing, display, run))
        except Exception as error:  # the others are tried all the same
            failed[experiment.key] = error
        standing.end(experiment.key)
        display(standing)
    _check(failed, len(missing))


def _tell(standing: Standing, display: Display, run: RunInProgress) -> None:
    standing.note(run.experiment.key, run.step, price(run))
    display(standing)


def _by_processes(
    missing: Sequence[RunDescription],
    store: Store,
    crew: Crew,
    standing: Standing,
    display: Display,
) -> None:
    def told(key: str, step: int, price: float) -> None:
        standing.note(key, step, price)
        display(standing)

    crew.told = told
    left, failed, attempts = list(missing), {}, 0
    while left:
        try:
            futures = {
                crew.workers.submit(_compute, str(store.root), e.describe()): e for e in left
            }
            for future in as_completed(futures):
                experiment, error = futures[future], future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise error
                left.remove(experiment)
                if error is not None:
                    failed[experiment.key] = error
                standing.end(experiment.key)
                attempts = 0
        except BrokenProcessPool:  # a worker was killed, and with it the pool
            crew.lost()
            attempts += 1
            for e in [e for e in left if store.holds(e)]:
                left.remove(e)
                standing.end(e.key)
            if attempts == ATTEMPTS:
                lost = RuntimeError(f"its process was lost {ATTEMPTS} times")
                failed |= dict.fromkeys((e.key for e in left), lost)
                break
    _check(failed, len(missing))


def _compute(root: str, description: dict[str, Any]) -> None:
    """A worker's task: one run, into the store's folder."""
    Store(root).run(described(description), _reporting())


def _reporting() -> Callable[[RunInProgress], None]:
    last = 0.0

    def word(run: RunInProgress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= WORD:
            last = now
            report(run.experiment.key, run.step, price(run))

    return word


def _check(failed: dict[str, BaseException], of: int) -> None:
    if failed:
        key, error = next(iter(failed.items()))
        reason = " ".join(str(error).split())
        reason = f"{reason[:157]}..." if len(reason) > 160 else f"{reason.rstrip('.')}."
        raise SweepFailed(
            f"{len(failed)} of {of} runs failed, {key} with {type(error).__name__}: {reason} "
            "All others are stored."
        ) from error


def _by_dask(
    missing: Sequence[RunDescription],
    store: Store,
    address: str,
    standing: Standing,
    display: Display,
) -> None:
    dask, by_key = _package(), {e.key: e for e in missing}
    failed: dict[str, BaseException] = {}
    losses = dict.fromkeys(by_key, 0)
    root = str(store.root.resolve())
    with _client(dask, address) as client, _marked(store) as marker:

        def submit(e: RunDescription) -> Any:
            name = f"{e.key}/{losses[e.key]}/{marker}"  # a lost run is another task than it was
            return client.submit(
                remote, e.describe(), e.key, modules_hash(e.kind), root, marker, key=name
            )

        tasks = dask.as_completed([submit(e) for e in missing])
        for future in tasks:
            experiment = by_key[future.key.split("/")[0]]
            if future.cancelled():
                raise SweepFailed(
                    f"The scheduler at {address[:80]} was lost: start it, and say the same once more; what "
                    "is stored is not computed again."
                )
            fault = future.exception()
            if isinstance(fault, dask.KilledWorker) and losses[experiment.key] < ATTEMPTS:
                losses[experiment.key] += 1
                tasks.add(submit(experiment))
                continue
            if fault is not None:
                failed[experiment.key] = fault
            elif (files := future.result()) is not None:
                store.adopt(experiment, files)
            standing.end(experiment.key)
            display(standing)
    _check(failed, len(missing))


def _package() -> Any:
    """The package ``distributed``, which has no types."""
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise SweepFailed(
            "A scheduler needs the package distributed: pip install -r requirements-sweep.txt."
        ) from None


def _client(dask: Any, address: str) -> Any:
    try:
        return dask.Client(address, timeout=20)
    except (OSError, ValueError, TypeError) as error:
        raise SweepFailed(
            f"scheduler = {address[:80]!r} cannot be reached; give the address that `dask scheduler` "
            "prints, as tcp://host:8786."
        ) from error


@contextmanager
def _marked(store: Store) -> Iterator[str]:
    """A file of a random name in the store's folder, by which workers know whether they see it too."""
    name = uuid.uuid4().hex
    path = store.checkpoints / f"{name}.seen"
    with as_store_error(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    try:
        yield name
    finally:
        path.unlink(missing_ok=True)


_one_at_a_time = (
    threading.Lock()
)  # a worker may have several threads; runs share PyTorch's settings


def remote(
    description: dict[str, Any], key: str, modules: str, root: str, marker: str
) -> dict[str, bytes] | None:
    """The task of a Dask worker: one run, into the shared folder, or its files sent back.

    Raises:
        SweepFailed: the worker has another version of ``subspace_lib``.
    """
    experiment = described(description)
    if experiment.key != key or modules_hash(experiment.kind) != modules:
        raise SweepFailed(
            "A worker has another version of subspace_lib than this process: install the same everywhere."
        )
    with _one_at_a_time:
        if (Path(root) / ".checkpoints" / f"{marker}.seen").exists():
            Store(root).run(experiment)
            return None
        own = Store(Path(platformdirs.user_cache_dir("subspace_lib")) / "sweep")
        own.run(experiment)
        return own.files(experiment)
