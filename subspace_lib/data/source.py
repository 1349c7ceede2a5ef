"""Where a data set of images comes from: ``$SUBSPACE_DATA``, the user's cache, or a download."""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from subspace_lib.data.dataset import DataUnavailable
from subspace_lib.data.download import ARCHIVES, kept

Arrays = dict[str, np.ndarray]
SPARE = 2**20  # bytes


@dataclass(frozen=True)
class Source:
    """Where a data set of images comes from, and what its pixels are.

    Attributes:
        file: its name in ``$SUBSPACE_DATA``; torchvision: the name of its class there.
        samples, test_samples: how many there are; shape: (channels, height, width) of one.
        mean, std: of a channel, of pixels over ``scale``.
        sha256: digest of the raw arrays.
        preprocessing: the paper's, which is the default.
        statistics: file with mean and deviation of each pixel and channel over the whole original training
            set; its digest is that of the two arrays, to six decimals.
        large: training images stay the bytes that they are, and are preprocessed chunk by chunk.
    """

    file: str
    torchvision: str
    samples: int
    test_samples: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str
    shape: tuple[int, int, int]
    scale: float = 255.0
    classes: int = 10
    preprocessing: str = "unit"
    statistics: str = ""
    statistics_sha256: str = ""
    large: bool = False

    @property
    def bytes(self) -> int:
        """At most of its arrays: eight a number, and what a file has beside them."""
        count = self.samples + self.test_samples
        return SPARE + 8 * count * (1 + math.prod(self.shape))


def cache() -> Path:
    """The user's own folder for what was downloaded or computed."""
    return platformdirs.user_cache_path("subspace_lib")


def find(file: str) -> Path | None:
    """The file in the first place that has it, or None."""
    places = [Path(p) for p in [os.environ.get("SUBSPACE_DATA", "")] if p] + [cache()]
    return next((place / file for place in places if (place / file).exists()), None)


def read(path: Path, names: tuple[str, ...], most: int) -> Arrays:
    """The named arrays of an .npz file, which together have at most so many bytes.

    Sizes are looked at first: a small archive can hold any number of zeros.

    Raises:
        DataUnavailable: it cannot be read, is larger, or lacks one.
    """
    try:
        if not path.is_file():  # what waits for a writer would be waited for
            raise OSError(f"{path} is no file")
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if max(size, path.stat().st_size) > most:
            raise ValueError(f"{size} bytes are more than {most}")
        with np.load(path) as arrays:
            return {name: arrays[name] for name in names}
    except Exception as error:
        raise DataUnavailable(
            f"{path} cannot be read ({type(error).__name__}); delete it or replace it by an intact copy."
        ) from error


def keep(file: str, arrays: Arrays) -> None:
    """Put arrays into the cache, for the next time."""
    cache().mkdir(parents=True, exist_ok=True)
    temporary = cache() / f"{os.getpid()}-{file}"
    np.savez_compressed(temporary, allow_pickle=False, **arrays)
    os.replace(temporary, cache() / file)


def download(source: Source, file: str, *, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """All images (N, height, width) or (N, height, width, 3), uint8, and labels (N,) of torchvision's set.

    torchvision unpacks archives whose SHA-256 has been checked, in a folder of their own that goes again:
    by itself it downloads without https, and unpickles what has the right MD5.

    Raises:
        DataUnavailable: there is no network; ``file`` is what would do instead.
    """
    import torchvision

    archives = {
        wanted.name: kept(wanted, cache() / "download", file, "digits")
        for wanted in ARCHIVES[source.torchvision]
    }
    kind = getattr(torchvision.datasets, source.torchvision)
    with tempfile.TemporaryDirectory() as root:
        idx = len(archives) > 1
        folder = Path(root, source.torchvision, "raw") if idx else Path(root)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in archives.items():
            (folder / name).write_bytes(content)
        images = kind(root, train=train, download=True)
        return np.asarray(images.data), np.asarray(images.targets)
