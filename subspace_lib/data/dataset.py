"""A data set in memory, whatever its samples are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from subspace_lib.errors import Told


class DataUnavailable(Told, RuntimeError):
    """The data set is neither on this machine nor downloadable, or it is not what it should be."""


@dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes:
        train_inputs: (N, ...), preprocessed; images are float32, (N, channels, height, width), sentences
            of tokens int64, (N, length), padded with 0.
        train_labels: (N,) int64; the same for test.
        classes: number of classes C.
        sha256: digest of the raw arrays.
        vocabulary: number of different tokens; 0 where inputs are no tokens.
        prepare: makes the inputs of some of ``train_inputs``, which are pixels as they are stored, when
            their turn comes; None where they are ready.
    """

    name: str
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int
    sha256: str
    vocabulary: int = 0
    prepare: Callable[[Tensor], Tensor] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, (channels, height, width) or (length, vocabulary) of a sentence."""
        whole = tuple(self.train_inputs.shape[1:])
        return (*whole, self.vocabulary) if self.vocabulary else whole

    def first(self, samples: int, name: str) -> Dataset:
        """Only the first so many training samples, under a name of their own."""
        inputs, labels = self.train_inputs[:samples], self.train_labels[:samples]
        return replace(self, name=name, train_inputs=inputs, train_labels=labels)

    def first_classes(self, count: int) -> Dataset:
        """Only the samples whose label is below ``count``, which must be at least 2."""
        if count >= self.classes:
            return self
        train, test = self.train_labels < count, self.test_labels < count
        return replace(
            self,
            train_inputs=self.train_inputs[train],
            train_labels=self.train_labels[train],
            test_inputs=self.test_inputs[test],
            test_labels=self.test_labels[test],
            classes=count,
        )
