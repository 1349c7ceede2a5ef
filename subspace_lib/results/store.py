"""Results on disk: one folder a run, found by the hash of its description.

``results/<key>/description.json`` what was run, ``measurements.parquet`` what was measured,
``provenance.json`` how it was made and ended, with the SHA-256 of the other two and of itself. The last is
written last: a folder without it, or whose files do not match it, does not count. Unfinished runs keep a
checkpoint in ``results/.checkpoints`` and go on from there.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from subspace_lib import runs
from subspace_lib.errors import Told
from subspace_lib.experiment import RunDescription, address
from subspace_lib.parameters import quoted
from subspace_lib.results import memory
from subspace_lib.results.checkpoint import decode_checkpoint, resume, write_checkpoint
from subspace_lib.results.files import (
    Corrupted,
    StoreError,
    as_store_error,
    content,
    digest,
    remove_leftovers,
    replace,
)
from subspace_lib.results.lock import locked
from subspace_lib.results.modules import modules_hash
from subspace_lib.results.provenance import provenance, read_sealed, seal
from subspace_lib.runs.protocol import RUNNING, RunInProgress
from subspace_lib.trajectory import Trajectory, certified

CHECKPOINT_SECONDS = 20.0
FILES = ("description.json", "measurements.parquet")
NAME = re.compile(r"\w[\w.-]*")  # a key names a folder of the store, and none outside of it
ALL_FILES = (*FILES, "provenance.json")
Watch = Callable[[RunInProgress], object]


REPOSITORY = Path(__file__).resolve().parent.parent.parent
COMMITTED = REPOSITORY / "results"  # what the book shows


def default_roots() -> tuple[Path, ...]:
    """Folders of results: the first is written to, all are read.

    ``$SUBSPACE_RESULTS`` alone where it is set. Else ``my-results``, which is the reader's own and no part
    of the repository, in the repository or where you are; and then the results that the repository holds.
    """
    if os.environ.get("SUBSPACE_RESULTS"):
        return (Path(os.environ["SUBSPACE_RESULTS"]),)
    here = REPOSITORY if (REPOSITORY / "_toc.yml").exists() else Path.cwd()
    return (here / "my-results", COMMITTED) if COMMITTED.exists() else (here / "my-results",)


class MissingRun(Told, LookupError):
    """A run is not in the store, and was not to be computed."""


class Store:
    """A folder of results, and others that are only read.

    Args:
        root: the folder; ``default_roots()`` if None.
    """

    def __init__(self, root: Path | str | None = None):
        self.roots = default_roots() if root is None else (Path(root),)
        self.root = self.roots[0]
        self.checkpoints = self.root / ".checkpoints"

    def folder(self, experiment: RunDescription) -> Path:
        """Where the experiment's results are, or will be."""
        return self._folder(experiment.key) or self.root / experiment.key

    def _folder(self, key: str) -> Path | None:
        """The first folder that has results under this key, also damaged ones."""
        folders = (root / key for root in self.roots)
        return next((f for f in folders if os.path.lexists(f / "provenance.json")), None)

    def holds(self, experiment: RunDescription) -> bool:
        """Whether there are results of the experiment; they may turn out to be damaged."""
        return self._folder(experiment.key) is not None

    def load(self, experiment: RunDescription) -> Trajectory | None:
        """The stored trajectory, or None where there is none.

        Raises:
            Corrupted: a file of the folder is missing, incomplete or altered.
        """
        return _read(self.folder(experiment), experiment) if self.holds(experiment) else None

    def of(self, key: str) -> Trajectory:
        """The trajectory in the folder of that name, also one of older numerics, which no description has.

        Raises:
            MissingRun: there is none; Corrupted: as ``load``, or its description is not the key's.
            InvalidParameter: its model or data were the user's own, and are not here as they were.
        """
        folder = self._folder(key) if NAME.fullmatch(key) else None
        if folder is None:
            raise MissingRun(f"No results are stored under {quoted(key)}.")
        description = _json(folder / "description.json")
        if not key.endswith(address(description)):
            raise Corrupted(f"{key}/description.json describes another run.")
        return _read(folder, runs.described(description), description)

    def files(self, experiment: RunDescription) -> dict[str, bytes]:
        """The three files of a stored run by name, to be sent somewhere else."""
        folder = self.folder(experiment)
        return {name: (folder / name).read_bytes() for name in ALL_FILES}

    def adopt(self, experiment: RunDescription, files: dict[str, bytes]) -> None:
        """Keep a run that was computed somewhere else, from its files.

        Raises:
            Corrupted: they are not whole, or those of another run; StoreError: as ``run``.
        """
        with as_store_error(self.checkpoints, "write"):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        with locked(self.checkpoints / f"{experiment.key}.lock"):
            self._prepare(experiment.key)
            for name in ALL_FILES:  # the provenance last: without it a folder does not count
                replace(self.root / experiment.key / name, files[name])
            try:
                _read(self.root / experiment.key, experiment)
            except Corrupted:
                (self.root / experiment.key / "provenance.json").unlink()
                raise

    def run(
        self,
        experiment: RunDescription,
        watch: Watch = lambda run: None,
        begin: Callable[[bytes | None], object] = lambda checkpoint: None,
    ) -> Trajectory:
        """The trajectory of the experiment: loaded if stored, else computed and stored.

        It is computed from its last checkpoint on. ``watch`` is called after every step, for progress.
        ``begin`` is called once, with the content of that checkpoint, b"" where there is none, while no
        other process can change it; with None where the run is stored.

        A second process that asks for the same run waits for the first. A checkpoint that cannot be
        written is a warning, and the run goes on.

        Raises:
            StoreError: the folder cannot be written; found out before anything is computed.
            InvalidParameter: the run does not fit the machine's memory; likewise.
        """
        found = self._load_or_warn(experiment)
        if found is not None:
            begin(None)
            return found
        memory.check(experiment)
        with as_store_error(self.checkpoints, "write"):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        with locked(self.checkpoints / f"{experiment.key}.lock"):
            self._prepare(experiment.key)
            found = self._load_or_warn(experiment)
            if found is not None:
                begin(None)
                return found
            path = self.checkpoint(experiment)
            kept = content(path) if path.exists() else b""
            begin(kept)
            return self._compute(experiment, watch, kept)

    def _prepare(self, key: str) -> None:
        """Before anything is computed: what killed processes left goes, and what will be written can be."""
        folder = self.root / key
        paths = (self.checkpoints / f"{key}.safetensors", *(folder / name for name in ALL_FILES))
        for path in paths:
            with as_store_error(path, "write"):
                if path.exists() and not path.is_file():
                    raise IsADirectoryError(errno.EISDIR, "")
        with as_store_error(folder, "write"):
            remove_leftovers(self.checkpoints, key)
            remove_leftovers(folder)
            if folder.exists() and not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "")
            if not os.access(folder if folder.exists() else self.root, os.W_OK):
                raise PermissionError(errno.EACCES, "")

    def _load_or_warn(self, experiment: RunDescription) -> Trajectory | None:
        try:
            return self.load(experiment)
        except Corrupted as error:
            warnings.warn(f"{error} The run is computed anew.", stacklevel=3)
            return None

    def checkpoint(self, experiment: RunDescription) -> Path:
        """Where the state of the experiment's run is kept until it ends."""
        return self.checkpoints / f"{experiment.key}.safetensors"

    def _compute(self, experiment: RunDescription, watch: Watch, kept: bytes) -> Trajectory:
        path = self.checkpoint(experiment)
        modules_hash(experiment.kind)  # of the code that is running now, kept for the provenance
        run = resumed(experiment, kept)
        saved = time.monotonic()

        def pause(run: RunInProgress) -> None:
            nonlocal saved
            # A run that has ended is stored as results, not as a checkpoint.
            if run.status == RUNNING and time.monotonic() - saved > CHECKPOINT_SECONDS:
                try:
                    write_checkpoint(path, run)
                except StoreError as error:
                    warnings.warn(f"{error} The run goes on without a checkpoint.", stacklevel=5)
                saved = time.monotonic()
            watch(run)

        run.train(pause)
        self._write(run)
        path.unlink(missing_ok=True)
        return _read(self.root / experiment.key, experiment)

    def _write(self, run: RunInProgress) -> None:
        folder = self.root / run.experiment.key
        with as_store_error(folder, "write"):
            (folder / "provenance.json").unlink(missing_ok=True)
        description = json.dumps(run.experiment.describe(), indent=1, sort_keys=True) + "\n"
        replace(folder / "description.json", description.encode())
        table = run.table()
        narrow = table.select_dtypes("float64").columns.difference(["seconds"])
        sink = io.BytesIO()
        table.astype(dict.fromkeys(narrow, "float32")).to_parquet(
            sink, index=False, compression="zstd"
        )
        replace(folder / "measurements.parquet", sink.getvalue())
        digests = {name: digest(folder / name) for name in FILES}
        outcome = {"status": run.status, "trigger_step": run.trigger_step, "sha256": digests}
        record = seal({**outcome, **provenance(run)})
        text = json.dumps(record, indent=1, sort_keys=True) + "\n"
        replace(folder / "provenance.json", text.encode())


def resumed(experiment: RunDescription, checkpoint: bytes) -> RunInProgress:
    """The experiment's run, from the content of its checkpoint on; b"": from the beginning.

    What is no checkpoint of it is a warning, and the run starts from the beginning.
    """
    run = runs.start(experiment)
    if not checkpoint:
        return run
    name = f"{experiment.key}.safetensors"
    try:
        resume(run, decode_checkpoint(checkpoint, name, experiment))
        return run
    # What it lacks, or what is of another shape than this version wants.
    except (Corrupted, KeyError, ValueError, RuntimeError) as error:
        reason = error if isinstance(error, Corrupted) else f"{name} is of another version."
        warnings.warn(f"{reason} The run starts from the beginning.", stacklevel=5)
        return runs.start(experiment)


def _read(
    folder: Path, experiment: RunDescription, description: dict[str, Any] | None = None
) -> Trajectory:
    record = read_sealed(folder)
    digests = record.pop("sha256")
    status, trigger = record.pop("status"), record.pop("trigger_step")
    for name in FILES:
        try:
            whole = digest(folder / name) == digests.get(name)
        except OSError:
            whole = False
        if not whole:
            raise Corrupted(f"{folder.name}/{name} is missing, incomplete or altered.")
    wanted = description or experiment.describe()
    if _json(folder / "description.json") != wanted:
        raise Corrupted(f"{folder.name}/description.json describes another run.")
    table = pd.read_parquet(folder / "measurements.parquet")
    return Trajectory(experiment, certified(table), status, trigger, record)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(content(path))
    except (OSError, ValueError, RecursionError) as error:
        raise Corrupted(f"{path.parent.name}/{path.name} is incomplete or altered.") from error
    if not isinstance(found, dict):
        raise Corrupted(f"{path.parent.name}/{path.name} is incomplete or altered.")
    return found
