"""The data sets by name: where they come from, how many samples they have, how they are preprocessed."""

from __future__ import annotations

from dataclasses import dataclass

from subspace_lib.data import images, preprocessing as pixels, text
from subspace_lib.data.dataset import Dataset, DataUnavailable
from subspace_lib.data.source import Source
from subspace_lib.data.text import TextSource

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
    "shape",
]


@dataclass(frozen=True)
class Subset:
    """The first so many training samples of another set, with its test data."""

    of: str
    samples: int


SUBSETS = {"cifar10_1k": Subset("cifar10_5k", 1000), "digits_300": Subset("digits", 300)}
DATASETS = (*images.SOURCES, *text.SOURCES, *SUBSETS)
PREPROCESSING = (*pixels.PREPROCESSING, text.TOKENS)


def load(name: str, preprocessing: str | None = None) -> Dataset:
    """Load a data set by name, from the first place that has it; preprocessed as in the paper if not said.

    Raises:
        ValueError: unknown name or preprocessing, or one that the data set has no numbers for.
        DataUnavailable: nowhere to be had, damaged, or its SHA-256 is not the expected one.
    """
    _known("dataset", name, DATASETS)
    if preprocessing is None:
        preprocessing = default_preprocessing(name)
    check_preprocessing(name, preprocessing)
    if name in SUBSETS:
        subset = SUBSETS[name]
        return load(subset.of, preprocessing).first(subset.samples, name)
    return text.load(name) if name in text.SOURCES else images.load(name, preprocessing)


def default_preprocessing(name: str | None) -> str:
    """The default of a data set, the paper's by its code very probably; x/scale where there is none."""
    if name not in DATASETS:
        return "unit"
    source = _source(name)
    return source.preprocessing if isinstance(source, Source) else text.TOKENS


def check_preprocessing(name: str, preprocessing: str) -> None:
    """Raises ValueError where the data set is of another kind, or has not the numbers that are needed."""
    _known("preprocessing", preprocessing, PREPROCESSING)
    source = _source(name)
    having = pixels.allowed(source) if isinstance(source, Source) else (text.TOKENS,)
    if preprocessing in having:
        return
    why = f"needs statistics of every pixel, which {name} does not have"
    if not isinstance(source, Source):
        why = f"is for images, and {name} has sentences of tokens"
    elif preprocessing == text.TOKENS:
        why = f"is for sentences of tokens, and {name} has images"
    raise ValueError(f"preprocessing = {preprocessing!r} {why}; choose one of {', '.join(having)}")


def samples(name: str) -> int:
    """Number of training samples; known without the data."""
    _known("dataset", name, DATASETS)
    return SUBSETS[name].samples if name in SUBSETS else _source(name).samples


def sha256(name: str) -> str:
    """Digest of the raw arrays, of a subset that of the whole; known without the data."""
    _known("dataset", name, DATASETS)
    return _source(name).sha256


def shape(name: str) -> tuple[int, ...]:
    """Of one input, (channels, height, width) or (length, vocabulary); known without the data."""
    _known("dataset", name, DATASETS)
    return _source(name).shape


def _source(name: str) -> Source | TextSource:
    whole = SUBSETS[name].of if name in SUBSETS else name
    return text.SOURCES[whole] if whole in text.SOURCES else images.SOURCES[whole]


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"{what} = {name!r} is not known; choose one of {', '.join(names)}.")
