"""Results on disk: one folder a run, found by the hash of its description.

``results/<key>/description.json`` what was run, ``measurements.parquet`` what was measured,
``provenance.json`` how it was made and ended, with the SHA-256 of the other two and of itself. The last is
written last: a folder without it, or whose files do not match it, does not count. Unfinished runs keep a
checkpoint in ``results/.checkpoints`` and go on from there.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors
import safetensors.torch
import torch
from filelock import FileLock
from torch import Tensor

from subspace_lib.amplification import Amplification, AmplificationRun
from subspace_lib.experiment import Experiment
from subspace_lib.protocol import as_tensor, as_text
from subspace_lib.simulation import RegressionSimulation, SimulationRun, ValleySimulation
from subspace_lib.survey import Survey, SurveyRun
from subspace_lib.training import Run, Trajectory
from subspace_lib.valley import Valley, ValleyRun

CHECKPOINT_SECONDS = 20.0
RUNS = {  # what computes what
    Experiment: Run, Survey: SurveyRun, Valley: ValleyRun, Amplification: AmplificationRun,
    ValleySimulation: SimulationRun, RegressionSimulation: SimulationRun,
}  # fmt: skip
FILES = ("description.json", "measurements.parquet")
SEAL = "seal"  # in provenance.json
IDENTITY = "key"  # of the run, in its checkpoint


class Corrupted(RuntimeError):
    """A file is incomplete or altered; the message names it."""


def default_root() -> Path:
    """``$SUBSPACE_RESULTS``, else the repository's ``results``, else ``results`` where you are."""
    if os.environ.get("SUBSPACE_RESULTS"):
        return Path(os.environ["SUBSPACE_RESULTS"])
    repository = Path(__file__).resolve().parent.parent
    return (repository if (repository / "_toc.yml").exists() else Path.cwd()) / "results"


class MissingRun(LookupError):
    """A run is not in the store, and was not to be computed."""


def parse(description: dict[str, Any]) -> Experiment:
    """The experiment, or other kind of run, that a ``description.json`` describes.

    Raises:
        InvalidParameter: no kind of run has these parameters.
    """
    fields = {n: v for n, v in description.items() if n not in ("data_sha256", "numerics")}
    kind = next((kind for kind in RUNS if set(fields) <= set(kind.model_fields)), Experiment)
    return kind.parse(**fields)


class Store:
    """A folder of results.

    Args:
        root: the folder; ``default_root()`` if None.
    """

    def __init__(self, root: Path | str | None = None):
        self.root = Path(root) if root is not None else default_root()
        self.checkpoints = self.root / ".checkpoints"

    def folder(self, experiment: Experiment) -> Path:
        """Where the experiment's results are, or will be."""
        return self.root / experiment.key

    def load(self, experiment: Experiment) -> Trajectory | None:
        """The stored trajectory, or None where there is none.

        Raises:
            Corrupted: a file of the folder is missing, incomplete or altered.
        """
        folder = self.folder(experiment)
        if not (folder / "provenance.json").exists():
            return None
        return _read(folder, experiment)

    def run(
        self, experiment: Experiment, watch: Callable[[Run], None] = lambda run: None
    ) -> Trajectory:
        """The trajectory of the experiment: loaded if stored, else computed, from its last
        checkpoint on, and stored. ``watch`` is called after every step, for progress.

        A second process that asks for the same run waits for the first.
        """
        found = self._load_or_warn(experiment)
        if found is not None:
            return found
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with FileLock(self.checkpoints / f"{experiment.key}.lock"):
            found = self._load_or_warn(experiment)
            return found if found is not None else self._compute(experiment, watch)

    def _load_or_warn(self, experiment: Experiment) -> Trajectory | None:
        try:
            return self.load(experiment)
        except Corrupted as error:
            warnings.warn(f"{error} The run is computed anew.", stacklevel=3)
            return None

    def _compute(self, experiment: Experiment, watch: Callable[[Run], None]) -> Trajectory:
        path = self.checkpoints / f"{experiment.key}.safetensors"
        start = RUNS[type(experiment)]
        run = start(experiment)
        if path.exists():
            try:
                run.load_state(read_checkpoint(path, experiment))
            except (Corrupted, KeyError) as error:  # KeyError: it lacks what this version wants
                reason = (
                    error if isinstance(error, Corrupted) else f"{path.name} is of another version."
                )
                warnings.warn(f"{reason} The run starts from the beginning.", stacklevel=4)
                run = start(experiment)
        saved = time.monotonic()

        def pause(run: Run) -> None:
            nonlocal saved
            # A run that has ended is stored as results, not as a checkpoint.
            if run.status == "running" and time.monotonic() - saved > CHECKPOINT_SECONDS:
                write_checkpoint(path, run)
                saved = time.monotonic()
            watch(run)

        run.train(pause)
        self._write(run)
        path.unlink(missing_ok=True)
        return _read(self.folder(experiment), experiment)

    def _write(self, run: Run) -> None:
        folder = self.folder(run.experiment)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "provenance.json").unlink(missing_ok=True)
        description = json.dumps(run.experiment.describe(), indent=1, sort_keys=True) + "\n"
        _replace(folder / "description.json", description.encode())
        table = run.table()
        narrow = table.select_dtypes("float64").columns.difference(["seconds"])
        sink = folder / "measurements.parquet.tmp"
        table.astype(dict.fromkeys(narrow, "float32")).to_parquet(
            sink, index=False, compression="zstd"
        )
        os.replace(sink, folder / "measurements.parquet")
        digests = {name: _digest(folder / name) for name in FILES}
        outcome = {"status": run.status, "trigger_step": run.trigger_step, "sha256": digests}
        record = seal({**outcome, **provenance(run)})
        content = json.dumps(record, indent=1, sort_keys=True) + "\n"
        _replace(folder / "provenance.json", content.encode())


def provenance(run: Run) -> dict[str, Any]:
    """Commit, versions, machine, threads, wall time and date of a run."""
    on_gpu = run.experiment.device == "cuda"
    return {
        "commit": commit(),
        "command": Path(sys.argv[0]).name,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "subspace_lib")},
        },
        "machine": {
            "processor": torch.cuda.get_device_name() if on_gpu else processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "system": platform.system(),
        },
        "wall_seconds": round(run.seconds, 1),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def write_checkpoint(path: Path, run: Run) -> None:
    """Write the state of a run that goes on, and whose it is, in one atomic step."""
    write_tensors(path, run.state() | {IDENTITY: as_tensor(run.experiment.key)})


def read_checkpoint(path: Path, experiment: Experiment) -> dict[str, Tensor]:
    """The state that ``write_checkpoint`` has kept of this experiment.

    Raises:
        Corrupted: the file is incomplete or altered, or the checkpoint of another run.
    """
    state = read_tensors(path)
    whose = as_text(state.pop(IDENTITY, as_tensor("a run without a name")))
    if whose != experiment.key:
        raise Corrupted(f"{path.name} is the checkpoint of {whose}.")
    return state


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors in one atomic step, with a checksum at the end; no pickle."""
    content = safetensors.torch.save(tensors)
    _replace(path, content + hashlib.sha256(content).digest())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read what ``write_tensors`` wrote.

    Raises:
        Corrupted: the file is incomplete or altered.
    """
    content = path.read_bytes()
    if len(content) < 32 or hashlib.sha256(content[:-32]).digest() != content[-32:]:
        raise Corrupted(f"{path.name} is incomplete or altered.")
    try:
        tensors = safetensors.torch.load(content[:-32])
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise Corrupted(f"{path.name} holds no tensors.") from error
    # Copies lie in aligned memory, where products round as they do in an undisturbed run.
    return {name: t.clone() for name, t in tensors.items()}


def _read(folder: Path, experiment: Experiment) -> Trajectory:
    record = _sealed(folder)
    digests = record.pop("sha256")
    status, trigger = record.pop("status"), record.pop("trigger_step")
    for name in FILES:
        if not (folder / name).exists() or _digest(folder / name) != digests.get(name):
            raise Corrupted(f"{folder.name}/{name} is missing, incomplete or altered.")
    if json.loads((folder / "description.json").read_text()) != experiment.describe():
        raise Corrupted(f"{folder.name}/description.json describes another run.")
    table = pd.read_parquet(folder / "measurements.parquet")
    return Trajectory(experiment, table, status, trigger, record)


def seal(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the SHA-256 of all else that is in it, so that no value can change unnoticed."""
    content = json.dumps(record, sort_keys=True)
    return record | {SEAL: hashlib.sha256(content.encode()).hexdigest()}


def _sealed(folder: Path) -> dict[str, Any]:
    """What the folder's provenance.json says, without its seal."""
    damaged = f"{folder.name}/provenance.json is incomplete or altered."
    try:
        record = json.loads((folder / "provenance.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Corrupted(damaged) from error
    if not isinstance(record, dict):
        raise Corrupted(damaged)
    rest = {name: value for name, value in record.items() if name != SEAL}
    if seal(rest) != record:
        raise Corrupted(damaged)
    return rest


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one, never a half."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commit() -> str:
    """The commit of the code, with "+changes" where subspace_lib differs from it."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(("git", *words), cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
