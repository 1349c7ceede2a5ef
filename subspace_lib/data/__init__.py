"""The data sets by name: where they come from, how many samples they have, how they are preprocessed.

A name is one of ``DATASETS``, or the import path of a function of your own, ``module:function``. Every
function here takes either; an ``Own`` in place of the path is that function as it was when it was found.
"""

from __future__ import annotations

from dataclasses import dataclass

from subspace_lib.data import images, own as owned, preprocessing as pixels, text
from subspace_lib.data.dataset import Dataset, DataUnavailable
from subspace_lib.data.source import Source
from subspace_lib.data.text import TextSource
from subspace_lib.own import Own, find, is_path

__all__ = [
    "DATASETS",
    "PREPROCESSING",
    "DataUnavailable",
    "Dataset",
    "check_preprocessing",
    "classes",
    "default_preprocessing",
    "in_bytes",
    "load",
    "samples",
    "sha256",
    "shape",
    "tokens",
]


@dataclass(frozen=True)
class Subset:
    """The first so many training samples of another set, with its test data."""

    of: str
    samples: int


SUBSETS = {"cifar10_1k": Subset("cifar10_5k", 1000), "digits_300": Subset("digits", 300)}
DATASETS = (*images.SOURCES, *text.SOURCES, *SUBSETS)
PREPROCESSING = (*pixels.PREPROCESSING, text.TOKENS, owned.AS_GIVEN)
Name = str | Own


def load(name: Name, preprocessing: str | None = None) -> Dataset:
    """Load a data set by name, from the first place that has it; preprocessed as in the paper if not said.

    Raises:
        ValueError: unknown name or preprocessing, or one that the data set has no numbers for; an import
            path that leads to no data (``find``, ``data.own.load``).
        DataUnavailable: nowhere to be had, damaged, or its SHA-256 is not the expected one.
    """
    source = _source(name)
    if preprocessing is None:
        preprocessing = default_preprocessing(name)
    check_preprocessing(name, preprocessing)
    if isinstance(source, Dataset):
        return source
    assert isinstance(name, str)
    if name in SUBSETS:
        subset = SUBSETS[name]
        return load(subset.of, preprocessing).first(subset.samples, name)
    return text.load(name) if name in text.SOURCES else images.load(name, preprocessing)


def default_preprocessing(name: Name | None) -> str:
    """The default of a data set, the paper's by its code very probably; x/scale where there is none."""
    if isinstance(name, Own) or is_path(name):
        return owned.AS_GIVEN
    if name not in DATASETS:
        return "unit"
    source = _source(name)
    return source.preprocessing if isinstance(source, Source) else text.TOKENS


def check_preprocessing(name: Name, preprocessing: str) -> None:
    """Raises ValueError where the data set is of another kind, or has not the numbers that are needed."""
    _known("preprocessing", preprocessing, PREPROCESSING)
    source = _source(name)
    having: tuple[str, ...] = (default_preprocessing(name),)
    if isinstance(source, Source):
        having = pixels.allowed(source)
    if preprocessing in having:
        return
    why = f"needs statistics of every pixel, which {name} does not have"
    if isinstance(source, Dataset):
        why = f"is for the data of this book, and {source.name} is used as it returns them"
    elif preprocessing == owned.AS_GIVEN:
        why = "is for data of your own"
    elif not isinstance(source, Source):
        why = f"is for images, and {name} has sentences of tokens"
    elif preprocessing == text.TOKENS:
        why = f"is for sentences of tokens, and {name} has images"
    raise ValueError(f"preprocessing = {preprocessing!r} {why}; choose one of {', '.join(having)}")


def samples(name: Name) -> int:
    """Number of training samples; known without the data, as all that follows, but of own data."""
    source = _source(name)
    if isinstance(source, Dataset):
        return len(source.train_labels)
    return SUBSETS[name].samples if name in SUBSETS else source.samples


def sha256(name: Name) -> str:
    """Digest of the raw arrays, of a subset that of the whole."""
    return _source(name).sha256


def shape(name: Name) -> tuple[int, ...]:
    """Of one input, (channels, height, width) or (length, vocabulary); that of own inputs as they are."""
    return _source(name).shape


def classes(name: Name) -> int:
    """Number of classes C."""
    return _source(name).classes


def in_bytes(name: Name) -> bool:
    """Whether training images stay bytes in memory, a fourth of floats, until their chunk is used."""
    source = _source(name)
    return bool(getattr(source, "large", False) or getattr(source, "prepare", None))


def tokens(name: Name) -> bool:
    """Whether inputs are sentences of tokens."""
    source = _source(name)
    return isinstance(source, TextSource) or bool(getattr(source, "vocabulary", 0))


def _source(name: Name) -> Source | TextSource | Dataset:
    if isinstance(name, Own):
        return owned.load(name)
    if is_path(name):
        return owned.load(find("dataset", name))
    _known("dataset", name, DATASETS)
    whole = SUBSETS[name].of if name in SUBSETS else name
    return text.SOURCES[whole] if whole in text.SOURCES else images.SOURCES[whole]


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"{what} = {name!r} is not known; choose one of {', '.join(names)}.")
