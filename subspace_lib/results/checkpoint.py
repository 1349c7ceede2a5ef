"""Checkpoints: the state of a run that goes on, with its key and a checksum; no pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors
import safetensors.torch

from subspace_lib.experiment import RunDescription
from subspace_lib.results.files import Corrupted, replace
from subspace_lib.results.provenance import all_machines
from subspace_lib.runs.protocol import RunInProgress, State, as_tensor, as_text

IDENTITY = "key"  # of the run, beside its tensors
MACHINES = "machines"  # that have computed it so far


def write_checkpoint(path: Path, run: RunInProgress) -> None:
    """Write the state of a run that goes on, and whose it is, in one atomic step."""
    own = {IDENTITY: run.experiment.key, MACHINES: json.dumps(all_machines(run))}
    write_tensors(path, run.state() | {name: as_tensor(text) for name, text in own.items()})


def resume(run: RunInProgress, state: State) -> None:
    """Let the run go on from the state that ``decode_checkpoint`` gives."""
    run.load_state(state)
    if MACHINES in state:  # older checkpoints do not say
        run.machines = json.loads(as_text(state[MACHINES]))


def decode_checkpoint(content: bytes, name: str, experiment: RunDescription) -> State:
    """The state that ``write_checkpoint`` has kept of this experiment, from the content of a file.

    Raises:
        Corrupted: it is incomplete or altered, or the checkpoint of another run; the message has the name.
    """
    state = _decode(content, name)
    whose = as_text(state.pop(IDENTITY, as_tensor("a run without a name")))
    if whose != experiment.key:
        raise Corrupted(f"{name} is the checkpoint of {whose}.")
    return state


def write_tensors(path: Path, tensors: State) -> None:
    """Write named tensors in one atomic step, with a checksum at the end; no pickle."""
    content = safetensors.torch.save(tensors)
    replace(path, content + hashlib.sha256(content).digest())


def read_tensors(path: Path) -> State:
    """Read what ``write_tensors`` wrote.

    Raises:
        Corrupted: the file is incomplete or altered.
    """
    return _decode(path.read_bytes(), path.name)


def _decode(content: bytes, name: str) -> State:
    if len(content) < 32 or hashlib.sha256(content[:-32]).digest() != content[-32:]:
        raise Corrupted(f"{name} is incomplete or altered.")
    try:
        tensors = safetensors.torch.load(content[:-32])
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise Corrupted(f"{name} holds no tensors.") from error
    # Copies lie in aligned memory, where products round as they do in an undisturbed run.
    return {name: t.clone() for name, t in tensors.items()}
