"""What is done to pixels before a network sees them, by name.

The paper's, by its code very probably: MNIST x/255 and nothing else, CIFAR-10 by pixel and channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from subspace_lib.data import source as sources
from subspace_lib.data.dataset import DataUnavailable
from subspace_lib.data.source import Arrays, Source

BLOCK = 5000  # images at a time whose squares are summed


def unit(pixels: Tensor, source: Source) -> Tensor:
    """x/scale: pixels (N, channels, height, width) in 0 … 1, as they are."""
    return pixels


def standardized(pixels: Tensor, source: Source) -> Tensor:
    """(x/scale − mean)/std by channel, mean and std over the whole original training set."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (source.mean, source.std))
    return (pixels - mean) / std


def per_pixel(pixels: Tensor, source: Source) -> Tensor:
    """(x/scale − mean)/std by pixel and channel, over the whole original training set.

    Raises:
        DataUnavailable: its statistics are neither on this machine nor computable, or are others.
    """
    found = _statistics(source)
    mean, std = (
        torch.from_numpy(found[name]).permute(2, 0, 1).to(pixels.dtype) for name in ("mean", "std")
    )
    return (pixels - mean) / std


Preprocessing = Callable[[Tensor, Source], Tensor]
PREPROCESSING: dict[str, Preprocessing] = {
    "unit": unit,
    "standardized": standardized,
    "per_pixel": per_pixel,
}


def allowed(source: Source) -> tuple[str, ...]:
    """Names of the preprocessings that the data set has the numbers for."""
    return tuple(name for name in PREPROCESSING if name != "per_pixel" or source.statistics)


def pixel_statistics(images: np.ndarray, scale: float = 255.0) -> Arrays:
    """Mean and population deviation of each pixel and channel of uint8 images (N, height, width, channels).

    By exact sums of integers; float64, shapes (height, width, channels).
    """
    count, total = len(images), images.sum(axis=0, dtype=np.int64)
    squares = np.zeros(images.shape[1:], np.int64)
    for start in range(0, count, BLOCK):
        squares += np.square(images[start : start + BLOCK].astype(np.int64)).sum(axis=0)
    variance = (count * squares - total**2) / count**2
    return {"mean": total / count / scale, "std": np.sqrt(variance) / scale}


def statistics_sha256(arrays: Arrays) -> str:
    """Digest of mean and deviation to six decimals: summation in another order changes the 14th."""
    digest = hashlib.sha256()
    for name in ("mean", "std"):
        whole = np.round(1e6 * arrays[name]).astype(np.int64)
        digest.update(f"{name}:{whole.shape}".encode())
        digest.update(whole.tobytes())
    return digest.hexdigest()


def _statistics(source: Source) -> Arrays:
    path = sources.find(source.statistics)
    if path is None:
        images, _ = sources.download(source, source.statistics, train=True)
        found, origin = (
            pixel_statistics(images, source.scale),
            f"torchvision's {source.torchvision}",
        )
    else:
        found, origin = sources.read(path, ("mean", "std"), source.bytes), str(path)
    if statistics_sha256(found) != source.statistics_sha256:
        raise DataUnavailable(
            f"{origin} does not have the mean and deviation by pixel that the results were computed with; "
            f"delete it or point SUBSPACE_DATA to an intact {source.statistics}."
        )
    if path is None:
        sources.keep(source.statistics, found)
    return found
