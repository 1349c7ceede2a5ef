"""Where a data set of images comes from: ``$SUBSPACE_DATA``, the user's cache, or a download."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from subspace_lib.data.dataset import DataUnavailable

Arrays = dict[str, np.ndarray]


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


def cache() -> Path:
    """The user's own folder for what was downloaded or computed."""
    return platformdirs.user_cache_path("subspace_lib")


def find(file: str) -> Path | None:
    """The file in the first place that has it, or None."""
    places = [Path(p) for p in [os.environ.get("SUBSPACE_DATA", "")] if p] + [cache()]
    return next((place / file for place in places if (place / file).exists()), None)


def read(path: Path, names: tuple[str, ...]) -> Arrays:
    """The named arrays of an .npz file.

    Raises:
        DataUnavailable: it cannot be read, or lacks one.
    """
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in names}
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

    Raises:
        DataUnavailable: there is no network; ``file`` is what would do instead.
    """
    import torchvision

    kind = getattr(torchvision.datasets, source.torchvision)
    try:
        images = kind(cache() / "download", train=train, download=True)
    except Exception as error:
        raise DataUnavailable(
            f"{file} is not on this machine and {source.torchvision} could not be downloaded "
            f"({type(error).__name__}): set SUBSPACE_DATA to a folder that holds {file}, or choose "
            "dataset = 'digits', which needs no download."
        ) from error
    return np.asarray(images.data), np.asarray(images.targets)
