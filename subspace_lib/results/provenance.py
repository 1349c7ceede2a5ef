"""How a run was made and how it ended: ``provenance.json``, sealed by a digest of itself."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from subspace_lib.objective.ranks import Ranks
from subspace_lib.results.files import Corrupted, content as file_content
from subspace_lib.results.modules import modules_hash
from subspace_lib.runs.protocol import RunInProgress

SEAL = "seal"  # the SHA-256 of all else that is in the record


def provenance(run: RunInProgress) -> dict[str, Any]:
    """Commit, hash of the modules, versions, machine, threads, wall time and date of a run."""
    here = machine(run)
    before = [name for name in run.machines if name != here]
    return {
        "commit": commit(),
        "modules": modules_hash(run.experiment.kind),
        "command": Path(sys.argv[0]).name,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "subspace_lib")},
        },
        "machine": {
            "device": run.experiment.device,
            "processor": here,
            **({"before": before} if before else {}),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "ranks": Ranks().count,
            "system": platform.system(),
        },
        "wall_seconds": round(run.seconds, 1),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def machine(run: RunInProgress) -> str:
    """The name of what the run is computed on now."""
    return torch.cuda.get_device_name() if run.experiment.device == "cuda" else processor()


def all_machines(run: RunInProgress) -> list[str]:
    """Names of what it has been computed on so far, each once."""
    return list(dict.fromkeys([*run.machines, machine(run)]))


def processors(record: dict[str, Any]) -> str:
    """What a run was computed on, by its provenance, one after the other if it has moved."""
    return ", then ".join([*record["machine"].get("before", ()), record["machine"]["processor"]])


def seal(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the SHA-256 of all else that is in it, so that no value can change unnoticed."""
    content = json.dumps(record, sort_keys=True)
    return record | {SEAL: hashlib.sha256(content.encode()).hexdigest()}


def read_sealed(folder: Path) -> dict[str, Any]:
    """What the folder's provenance.json says, without its seal."""
    damaged = f"{folder.name}/provenance.json is incomplete or altered."
    try:
        record = json.loads(file_content(folder / "provenance.json"))
    except (OSError, ValueError, RecursionError) as error:
        raise Corrupted(damaged) from error
    if not isinstance(record, dict):
        raise Corrupted(damaged)
    rest = {name: value for name, value in record.items() if name != SEAL}
    if seal(rest) != record:
        raise Corrupted(damaged)
    return rest


def commit() -> str:
    """The commit of the code, with "+changes" where subspace_lib differs from it."""
    here = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        done = subprocess.run(("git", *words), cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != here.parent:
            return "unknown"  # installed: the repository around it is somebody else's
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """The name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
