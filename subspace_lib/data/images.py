"""Images: small subsets of real data, the same for everyone, checked by their SHA-256.

Looked for in ``$SUBSPACE_DATA``, then in the user's cache, then downloaded with torchvision and cut to
the same subset. ``digits`` comes with scikit-learn and always works.
"""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import torch
from torch import Tensor

from subspace_lib.data import source as sources
from subspace_lib.data.dataset import Dataset, DataUnavailable
from subspace_lib.data.preprocessing import PREPROCESSING
from subspace_lib.data.source import Arrays, Source

SOURCES = {
    "mnist5k": Source(
        "mnist5k.npz",
        "MNIST",
        5000,
        10000,
        (0.1307,),
        (0.3081,),
        "5a478a69dac1fbcdf9b5a820e0a73c02499e96472b6ce2669cbc7bac8ace0ed9",
        (1, 28, 28),
    ),
    "mnist": Source(
        "mnist.npz",
        "MNIST",
        60000,
        10000,
        (0.1307,),
        (0.3081,),
        "d26d2adaa9029d4b5d4cc448a0074f3acce4d51b1157c6c8118b7ec95839eb9b",
        (1, 28, 28),
        large=True,
    ),
    "fashion_mnist5k": Source(
        "fashion_mnist5k.npz",
        "FashionMNIST",
        5000,
        2000,
        (0.2860,),
        (0.3530,),
        "284a8b3910fbdb6fe74712ea6129d3e93650eb16b6bfe8431f241babcb343c80",
        (1, 28, 28),
    ),
    "cifar10_5k": Source(
        "cifar10_5k.npz",
        "CIFAR10",
        5000,
        1000,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        "df7c879758402d1dd2ac11c0b33ad540489f1d8b1395286861b7cfde349a53e2",
        (3, 32, 32),
        preprocessing="per_pixel",
        statistics="cifar10_pixel_stats.npz",
        statistics_sha256="ea3ae3cc4561b2e57a77ae5ef94ddbc3ef76c446bb460fc9c808804758f81eff",
    ),
    "digits": Source(
        "",
        "",
        1500,
        297,
        (0.3053,),
        (0.3761,),
        "f095f3b627c09679b6c5ae6c10573e3db887acc4ba88b0d6fcab5ed841737ea3",
        (1, 8, 8),
        scale=16.0,
    ),
}
NAMES = ("x_train", "y_train", "x_test", "y_test")


def load(name: str, preprocessing: str) -> Dataset:
    """Load images by the name of their set, from the first place that has them.

    Raises:
        DataUnavailable: nowhere to be had, or the SHA-256 is not the expected one.
    """
    source = SOURCES[name]
    arrays, origin = _digits(source) if name == "digits" else _find(source)
    digest = sha256(arrays)
    if digest != source.sha256:
        raise DataUnavailable(
            f"{origin} is not the {name} that the results were computed with (SHA-256 {digest[:12]}…, "
            f"expected {source.sha256[:12]}…); delete it or point SUBSPACE_DATA to an intact copy."
        )
    prepare = partial(_prepared, source=source, preprocessing=preprocessing)
    x_train, y_train, x_test, y_test = (torch.from_numpy(arrays[key]) for key in NAMES)
    x_train, x_test = map(_channels_first, (x_train, x_test))
    return Dataset(
        name,
        x_train if source.large else prepare(x_train),
        y_train,
        prepare(x_test),
        y_test,
        source.classes,
        digest,
        prepare=prepare if source.large else None,
    )


def sha256(arrays: Arrays) -> str:
    """Digest of the four raw arrays (dtype, shape and bytes), in a fixed order."""
    digest = hashlib.sha256()
    for key in NAMES:
        array = np.ascontiguousarray(arrays[key])
        digest.update(f"{key}:{array.dtype}:{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _channels_first(pixels: Tensor) -> Tensor:
    return pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)


def _prepared(pixels: Tensor, source: Source, preprocessing: str) -> Tensor:
    """Inputs (n, channels, height, width), float32, of bytes of that shape."""
    return PREPROCESSING[preprocessing](pixels.float() / source.scale, source).contiguous()


def _digits(source: Source) -> tuple[Arrays, str]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    return _cut(x, y, x[source.samples :], y[source.samples :], source), "scikit-learn's digits"


def _find(source: Source) -> tuple[Arrays, str]:
    path = sources.find(source.file)
    if path is not None:
        return sources.read(path, NAMES, source.bytes), str(path)
    x, y = sources.download(source, source.file, train=True)
    arrays = _cut(x, y, *sources.download(source, source.file, train=False), source)
    if sha256(arrays) == source.sha256:
        sources.keep(source.file, arrays)
    return arrays, f"torchvision's {source.torchvision}"


def _cut(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, source: Source
) -> Arrays:
    return {
        "x_train": x[: source.samples],
        "y_train": y[: source.samples].astype(np.int64),
        "x_test": x_test[: source.test_samples],
        "y_test": y_test[: source.test_samples].astype(np.int64),
    }
