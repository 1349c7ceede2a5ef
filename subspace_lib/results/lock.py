"""One process a run: the others wait, and say whom they wait for."""

from __future__ import annotations

import datetime
import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from subspace_lib.results.files import as_store_error

REMIND = 60.0  # seconds between two words on a lock that others hold


@contextmanager
def locked(path: Path, remind: float = REMIND) -> Iterator[None]:
    """Hold the lock of a run; while another process holds it, warn at once and every ``remind`` seconds.

    Who holds it, and since when, stands in the lock's file.

    Raises:
        StoreError: the file system refuses the file or the lock.
    """
    # No lock by existence of a file: one left by a killed process would be held for ever.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        with as_store_error(path, "lock"):
            _wait(lock, path, remind)
            _sign(path)
        yield
    finally:
        lock.release()


def _wait(lock: FileLock, path: Path, remind: float) -> None:
    wait = 0.0
    while True:
        try:
            lock.acquire(timeout=wait, poll_interval=min(1.0, remind))
            return
        except Timeout:
            warnings.warn(f"{path.stem} waits: {holder(path)}", stacklevel=6)
            wait = remind


def _sign(path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    path.write_text(
        json.dumps({"process": os.getpid(), "machine": socket.gethostname(), "since": now})
    )


def holder(path: Path) -> str:
    """Who holds a lock, since when, and what to do where it cannot go on: a sentence or two."""
    try:
        who = json.loads(path.read_text())
        process, machine, since = (
            int(who["process"]),
            str(who["machine"])[:80],
            str(who["since"])[:80],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return f"another process computes it, and has not signed {path}."
    said = f"process {process} on {machine} computes it since {since}."
    if machine == socket.gethostname() and _stopped(process):
        said += f" It is stopped: kill -CONT {process} lets it go on, kill -9 {process} gives the run free."
    return said


def _stopped(process: int) -> bool:
    """Whether a process of this machine is stopped, as far as /proc tells."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "Tt"
