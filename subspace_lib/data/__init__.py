"""The data sets by name: where they come from, how many samples they have, how they are preprocessed."""

from __future__ import annotations

from subspace_lib.data import images, preprocessing as pixels
from subspace_lib.data.dataset import Dataset, DataUnavailable

__all__ = [
    "DATASETS",
    "PREPROCESSING",
    "DataUnavailable",
    "Dataset",
    "check_preprocessing",
    "default_preprocessing",
    "load",
    "samples",
    "sha256",
]

DATASETS = tuple(images.SOURCES)
PREPROCESSING = tuple(pixels.PREPROCESSING)


def load(name: str, preprocessing: str | None = None) -> Dataset:
    """Load a data set by name, from the first place that has it; preprocessed as in the paper if not said.

    Raises:
        ValueError: unknown name or preprocessing, or one that the data set has no numbers for.
        DataUnavailable: nowhere to be had, or its SHA-256 is not the expected one.
    """
    _known("dataset", name, DATASETS)
    if preprocessing is None:
        preprocessing = default_preprocessing(name)
    check_preprocessing(name, preprocessing)
    return images.load(name, preprocessing)


def default_preprocessing(name: str | None) -> str:
    """The default of a data set, the paper's by its code very probably; x/scale where there is none."""
    return images.SOURCES[name].preprocessing if name in images.SOURCES else "unit"


def check_preprocessing(name: str, preprocessing: str) -> None:
    """Raises ValueError where the data set has not the numbers that the preprocessing needs."""
    _known("preprocessing", preprocessing, PREPROCESSING)
    having = pixels.allowed(images.SOURCES[name])
    if preprocessing not in having:
        raise ValueError(
            f"preprocessing = {preprocessing!r} needs statistics of every pixel, which {name} does not "
            f"have; choose one of {', '.join(having)}"
        )


def samples(name: str) -> int:
    """Number of training samples; known without the data."""
    _known("dataset", name, DATASETS)
    return images.SOURCES[name].samples


def sha256(name: str) -> str:
    """Digest of the raw arrays; known without the data."""
    _known("dataset", name, DATASETS)
    return images.SOURCES[name].sha256


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"{what} = {name!r} is not known; choose one of {', '.join(names)}.")
