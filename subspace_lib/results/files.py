"""Files that are whole or not there, and the error that names those that are not what they should be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from subspace_lib.errors import Told


class Corrupted(Told, RuntimeError):
    """A file is incomplete or altered; the message names it."""


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one, never a half."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
