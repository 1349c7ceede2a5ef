"""Processes that compute side by side, each on its share of the cores, and end with their parent."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import AuthenticationError, current_process
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import torch


def cores() -> int:
    """How many cores this process may use: a container or a batch system may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Ear:
    """Hears what workers report, each by a connection of its own: a killed one holds no lock of the others.

    Args:
        told: is called with each name and its numbers, in a thread.
    """

    def __init__(self, told: Callable[..., object]):
        self._told = told
        self._listener = Listener(authkey=current_process().authkey)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where workers connect to."""
        return str(self._listener.address)

    def close(self) -> None:
        """Hear no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except (OSError, AuthenticationError, EOFError):
                return
            threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: Connection) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._told(*json.loads(connection.recv_bytes(1000)))


_mouth: Connection | None = None


@contextmanager
def pool(jobs: int, ear: Ear | None = None) -> Iterator[ProcessPoolExecutor]:
    """``jobs`` fresh processes; an ear hears what they ``report``.

    One thread a process beats all threads in one: minibatch steps are too small to share. Whatever ends the
    block before its time, an interrupt for instance, ends the processes at once.
    """
    share = max(1, cores() // jobs)
    threads = min(share, torch.get_num_threads())  # what OMP_NUM_THREADS allows
    before = set(multiprocessing.active_children())
    # A forked process would share locks of threads that it has not.
    spawn, address = multiprocessing.get_context("spawn"), ear.address if ear else None
    executor = ProcessPoolExecutor(jobs, spawn, _begin, (threads, address))
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise
    executor.shutdown()


class Crew:
    """Processes that stay for several rounds of work, begun when first needed and anew when one is lost.

    Args:
        jobs: how many; as many as cores if None.

    Attributes:
        told: is called with what they ``report``, in a thread.
    """

    def __init__(self, jobs: int | None = None):
        self.jobs = jobs or cores()
        self.told: Callable[..., object] = lambda name, *numbers: None
        self._pool: ProcessPoolExecutor | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: Any) -> None:
        self._pool = None
        self._open.__exit__(*error)

    @property
    def workers(self) -> ProcessPoolExecutor:
        """The processes."""
        if self._pool is None:
            ear = Ear(lambda name, *numbers: self.told(name, *numbers))
            self._open.callback(ear.close)
            self._pool = self._open.enter_context(pool(self.jobs, ear))
        return self._pool

    def lost(self) -> None:
        """One of them is gone, and with it all the others."""
        self._pool = None
        self._open.close()


def report(name: str, *numbers: float) -> None:
    """Tell the parent, from a worker of a pool with an ear; elsewhere nothing."""
    if _mouth is not None:
        with contextlib.suppress(OSError):  # nobody hears any more
            _mouth.send_bytes(json.dumps([name, *numbers]).encode())


def _begin(threads: int, address: str | None) -> None:
    global _mouth
    torch.set_num_threads(threads)
    if address is not None:
        _mouth = Client(address, authkey=current_process().authkey)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers to stop. What they have stored is whole at any moment."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
