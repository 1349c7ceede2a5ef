"""A data set of the user's own: what ``load()`` returns, checked and hashed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NoReturn

import torch
from torch import Tensor

from subspace_lib.data.dataset import Dataset
from subspace_lib.data.text import sha256
from subspace_lib.own import CONTRACT, Own, called

AS_GIVEN = "none"  # the one preprocessing of own data
NAMES = ("inputs", "labels", "test inputs", "test labels")


@lru_cache(maxsize=4)
def load(own: Own) -> Dataset:
    """The data set that the function returns, called with PyTorch's generator seeded by 0.

    Inputs are floats (N, …), then float32; bytes (N, …) of uint8, of which the network sees x/255, those of
    training chunk by chunk; or token ids (N, length) of int64. Labels (N,) are class numbers 0 … C − 1 of
    any integer type. Arrays are as good as tensors, a ``numpy.memmap`` among them.

    Raises:
        ValueError: it fails, or returns something else; one sentence.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = called("dataset", own)
    if not isinstance(found, (tuple, list)) or len(found) != len(NAMES):
        size = f" and length {len(found)}" if isinstance(found, (tuple, list)) else ""
        _refuse(own, f"something of type {type(found).__name__}{size}")
    x_train, y_train, x_test, y_test = map(_tensor, [own] * len(NAMES), NAMES, found)
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if x.shape[1:] != x_train.shape[1:] or x.dtype != x_train.dtype or len(x) != len(y):
            shapes = ", ".join(str(tuple(t.shape)) for t in (x_train, y_train, x_test, y_test))
            _refuse(own, f"the shapes {shapes}, which do not belong together")
    labels = torch.cat([y_train, y_test])
    classes = int(labels.max()) + 1
    if int(labels.min()) < 0 or classes < 2:
        _refuse(
            own, f"labels from {int(labels.min())} to {classes - 1}, not class numbers 0 … C − 1"
        )
    vocabulary, pixels = 0, x_train.dtype == torch.uint8
    if not (pixels or x_train.is_floating_point()):
        vocabulary = 1 + max(int(x_train.max()), int(x_test.max()))
    arrays = dict(zip(NAMES, (t.numpy() for t in (x_train, y_train, x_test, y_test)), strict=True))
    digest, prepare = sha256(arrays), over_255 if pixels else None
    x_test = over_255(x_test) if pixels else x_test
    return Dataset(own.path, x_train, y_train, x_test, y_test, classes, digest, vocabulary, prepare)


def over_255(pixels: Tensor) -> Tensor:
    """Inputs (n, …), float32, of bytes of that shape."""
    return pixels.float() / 255


def _tensor(own: Own, name: str, given: Any) -> Tensor:
    """Inputs as float32, uint8 or int64, labels as int64, on the CPU."""
    try:
        tensor = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        _refuse(own, f"{name} of type {type(given).__name__}, not a tensor")
    whole = tensor.dtype in (torch.int64, torch.int32)
    if "labels" in name:
        if tensor.is_floating_point() or tensor.dtype == torch.bool or tensor.ndim != 1:
            _refuse(own, f"{name} {_kind(tensor)}, not class numbers (N,) of int64")
        return tensor.long().contiguous()
    pixels = tensor.dtype == torch.uint8
    if not (
        ((tensor.is_floating_point() or pixels) and tensor.ndim > 1) or (whole and tensor.ndim == 2)
    ):
        _refuse(
            own,
            f"{name} {_kind(tensor)}, not floats or bytes (N, …), or token ids (N, length) of int64",
        )
    if pixels and len(tensor):
        return tensor.contiguous()
    if not len(tensor) or not bool(torch.isfinite(tensor).all()) or (whole and tensor.min() < 0):
        _refuse(own, f"{name} {_kind(tensor)} that are none, not finite or negative token ids")
    return (tensor.long() if whole else tensor.float()).contiguous()


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def _refuse(own: Own, what: str) -> NoReturn:
    raise ValueError(f"dataset = {own.path!r} returned {what}; give {CONTRACT['dataset']}")
