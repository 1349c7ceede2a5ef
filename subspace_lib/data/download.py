"""Files from the web: by https alone, and nobody looks into one whose SHA-256 is not the expected one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from subspace_lib.data.dataset import DataUnavailable

SCHEME = "https"
TIMEOUT = 60  # seconds without a byte
LARGEST = 2**28  # bytes of a file: the largest that is wanted has 163 MiB


@dataclass(frozen=True)
class Download:
    """A file on the web: its address and the SHA-256 of its bytes."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name, without a path."""
        return Path(urlsplit(self.url).path).name


def _idx(address: str, *digests: str) -> tuple[Download, ...]:
    """The four files of a data set in MNIST's format."""
    names = (
        f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
    )
    return tuple(
        Download(f"{address}/{name}-ubyte.gz", digest)
        for name, digest in zip(names, digests, strict=True)
    )


# By the name of torchvision's class, which unpacks them.
ARCHIVES = {
    "MNIST": _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    # torchvision's own address of it has no https.
    "FashionMNIST": _idx(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    "CIFAR10": (
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        ),
    ),
}


class _SameScheme(HTTPRedirectHandler):
    """Follows no redirection to another scheme."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str) -> None:
    if urlsplit(url).scheme != SCHEME:
        raise URLError(f"{url} is not {SCHEME}")


def fetch(wanted: Download, file: str, instead: str) -> bytes:
    """The bytes at an address, checked before anyone looks into them.

    Raises:
        DataUnavailable: there is no network, the address is not https or leads away from it, the file is
            too large, or has another SHA-256; ``file`` and the data set ``instead`` would do.
    """
    try:
        _check(wanted.url)
        with build_opener(_SameScheme).open(wanted.url, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise URLError("too large")
    except (OSError, HTTPException) as error:
        raise DataUnavailable(
            f"{file} is not on this machine and {wanted.url} could not be downloaded "
            f"({type(error).__name__}): set SUBSPACE_DATA to a folder that holds {file}, or choose "
            f"dataset = '{instead}', which needs no download."
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != wanted.sha256:
        raise DataUnavailable(
            f"{wanted.url} is not what it was: its SHA-256 is {digest[:12]}…, not {wanted.sha256[:12]}…; "
            f"set SUBSPACE_DATA to a folder that holds {file}."
        )
    return content


def kept(wanted: Download, folder: Path, file: str, instead: str) -> bytes:
    """As ``fetch``, from the folder where an intact copy lies there, and kept there for the next time."""
    path = folder / wanted.name
    if path.is_file() and path.stat().st_size <= LARGEST:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == wanted.sha256:
            return content
    content = fetch(wanted, file, instead)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as temporary:
        temporary.write(content)
    os.replace(temporary.name, path)
    return content
