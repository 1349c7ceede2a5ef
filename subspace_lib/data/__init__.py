"""The data sets by name: where they come from, how many samples they have, how they are preprocessed."""

from __future__ import annotations

from subspace_lib.data import images
from subspace_lib.data.dataset import Dataset, DataUnavailable

__all__ = ["DATASETS", "PREPROCESSING", "DataUnavailable", "Dataset", "load", "samples", "sha256"]

DATASETS = tuple(images.SOURCES)
PREPROCESSING = tuple(images.PREPROCESSING)


def load(name: str, preprocessing: str = "standardized") -> Dataset:
    """Load a data set by name, from the first place that has it.

    Raises:
        ValueError: unknown name or preprocessing.
        DataUnavailable: nowhere to be had, or its SHA-256 is not the expected one.
    """
    _known("dataset", name, DATASETS)
    _known("preprocessing", preprocessing, PREPROCESSING)
    return images.load(name, preprocessing)


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
