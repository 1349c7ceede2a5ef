"""Files that are whole or not there, and errors that name those that are not what they should be."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from subspace_lib.errors import Told

REMEDIES = {
    errno.ENOSPC: "Free some space, and start again: a run goes on from its last checkpoint.",
    errno.EDQUOT: "Free some of your quota, and start again: a run goes on from its last checkpoint.",
    errno.EACCES: "Set SUBSPACE_RESULTS to a folder that you may write.",
    errno.EPERM: "Set SUBSPACE_RESULTS to a folder that you may write.",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f).",
    errno.EROFS: "Set SUBSPACE_RESULTS to a folder that can be written.",
    errno.ENOTDIR: "Set SUBSPACE_RESULTS to a folder; a file stands where one is needed.",
    errno.EEXIST: "Set SUBSPACE_RESULTS to a folder; a file stands where one is needed.",
    errno.EISDIR: "A folder, or a pipe, stands where a file is needed: remove it, and start again.",
    errno.ENOTEMPTY: "A folder stands where a file is needed: remove it, and start again.",
    errno.ENAMETOOLONG: "Set SUBSPACE_RESULTS to a folder with a shorter name.",
    errno.ELOOP: "Symbolic links go round in a circle: set SUBSPACE_RESULTS to a real folder.",
}
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO)
LOCAL = "This file system refuses locks: set SUBSPACE_RESULTS to a folder on a local disk."
TEMPORARY = re.compile(r"\.\d+\.tmp$")


class Corrupted(Told, RuntimeError):
    """A file is incomplete or altered; the message names it."""


class StoreError(Told, RuntimeError):
    """The file system refuses what a store needs; the message names the path and a way out."""


@contextmanager
def as_store_error(path: Path, deed: str) -> Iterator[None]:
    """What the file system refuses while we read, write or lock a path becomes one sentence with a remedy.

    Raises:
        StoreError: in place of each other OSError.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        number = error.errno or 0
        remedy = LOCAL if deed == "lock" and number in NO_LOCKS else REMEDIES.get(number)
        reason = os.strerror(number) if number else type(error).__name__
        raise StoreError(
            f"Cannot {deed} {path}: {reason}. {remedy or 'Set SUBSPACE_RESULTS to another folder.'}"
        ) from error


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one, never a half.

    A folder that has been removed meanwhile is made again.

    Raises:
        StoreError: the file system refuses.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with as_store_error(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove temporary files that killed processes have left of files that begin with a name.

    Only under the lock of the run that they belong to: those of a process at work are there too.
    """
    for left in folder.glob(f"{name}*.tmp") if folder.is_dir() else ():
        if TEMPORARY.search(left.name):
            left.unlink(missing_ok=True)


def content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: there is none, or it is something that would be waited for, as a pipe.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, f"{path} is no file")
    return path.read_bytes()


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(content(path)).hexdigest()
