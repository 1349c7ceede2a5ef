"""The block of vectors that a refresh multiplies: the basis, its guards, a watcher, the probe."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

from subspace_lib.linalg.eigensolver import orthonormalize, stack

CLEAR = 0.85  # of λ_k: an eigenvalue below that is clear of it
MAX_GUARDS = 10


class Kind(Enum):
    """What a refresh multiplies."""

    FULL = "the k vectors, all guards and the probe"
    LEAN = "the k vectors and the watcher, the first guard with a tenth of the probe"
    BARE = "the k vectors"


class GuardedBlock:
    """k vectors V_k and their guards, orthonormal; guards that take no part are set aside as they were.

    Args:
        k: vectors that span the basis; guards: Ritz vectors kept beyond them at least.
        dim: D, of the whole space.

    Attributes:
        columns: those in use; (D, k + guards) or more after a full refresh, (D, k + 1) after a lean one,
            (D, k) after a bare one. ValueError where there are none yet.
        full_step: step of the last full refresh; watch_step: of the last that was not bare.
    """

    def __init__(self, k: int, guards: int, dim: int):
        self.k, self.guards, self.dim = k, guards, dim
        self.full_step = self.watch_step = 0
        self._columns: Tensor | None = None
        self._spare: Tensor | None = None  # guards set aside, (D, s), s ≥ 1

    @property
    def empty(self) -> bool:
        """Whether there are no columns: before the first refresh, or after a solution was interrupted."""
        return self._columns is None

    @property
    def columns(self) -> Tensor:
        """Those in use, the basis first."""
        if self._columns is None:
            raise ValueError(
                "There is no basis yet: the first refresh(theta, step, probe) makes one."
            )
        return self._columns

    @columns.setter
    def columns(self, columns: Tensor) -> None:
        self._columns = columns

    @property
    def basis(self) -> Tensor:
        """V_k (D, k)."""
        return self.columns[:, : self.k]

    @property
    def width(self) -> int:
        """How many columns are in use."""
        return self.columns.shape[1]

    def begin(self, columns: Tensor) -> None:
        """Take these columns (D, k or more) and forget all others, those set aside too."""
        self._columns, self._spare = columns, None

    def give_away(self) -> Tensor:
        """The columns, which are no longer held here: whoever gets them may let them go (memory)."""
        columns, self._columns = self.columns, None
        return columns

    def prepare(self, kind: Kind, probe: Tensor) -> Tensor:
        """Orthonormal columns (D, m) to multiply, the basis first.

        The block lies in their memory from now on, and is still whole if the product fails.

        Args:
            probe: (D,), may show an eigenvector that the block has missed.
        """
        k = self.k
        if kind is Kind.BARE:
            self._set_aside(k)
            return self.columns
        if kind is Kind.LEAN:
            self._set_aside(k + 1)
            watcher = self.columns[:, k] + 0.1 * probe / probe.norm().clamp_min(1e-30)
            columns, width = stack(self.basis, orthonormalize(watcher[:, None], self.basis)), k + 1
        else:
            self.take_back()
            width = self.width
            columns = stack(self.columns, orthonormalize(probe[:, None], self.columns))
        self.columns = columns[:, :width]
        return columns

    def kept(self, kind: Kind, values: Tensor) -> int:
        """How many columns to keep of those that ``prepare`` gave, from their Ritz values (m,).

        After a full refresh there is one guard more while the last is not clearly below θ_k, one less when
        the one before it is.
        """
        k = self.k
        if kind is not Kind.FULL:
            return k if kind is Kind.BARE else k + 1
        width, clear = self.width, CLEAR * float(values[k - 1])
        most = min(k + MAX_GUARDS, self.dim - 1)
        if float(values[width - 1]) > clear and width < most:
            return width + 1
        if width > k + self.guards and float(values[width - 2]) < clear:
            return width - 1
        return width

    def replace(self, columns: Tensor, kind: Kind, step: int) -> None:
        """Go on with the columns that a refresh of this kind has found."""
        self.columns = columns
        if kind is not Kind.BARE:
            self.watch_step = step
        if kind is Kind.FULL:
            self.full_step = step

    def take_back(self, count: int | None = None) -> None:
        """Add the first ``count`` guards that were set aside, or all of them."""
        if self._spare is not None:
            guards, rest = self._spare[:, :count], self._spare[:, count:] if count else None
            self.columns = stack(self.columns, orthonormalize(guards, self.columns))
            self._spare = rest if rest is not None and rest.shape[1] else None

    def _set_aside(self, count: int) -> None:
        """Keep all but the first ``count`` columns as they are, for a later refresh."""
        rest = self.columns[:, count:]
        if rest.shape[1]:
            self._spare = columnwise_copy(rest) if self._spare is None else stack(rest, self._spare)
            self.columns = self.columns[:, :count]

    def lay_columnwise(self) -> None:
        """Make the columns contiguous: one layout, so that a resumed run rounds alike."""
        self.columns = self.columns.T.contiguous().T

    def to_(self, device: torch.device) -> None:
        """Move everything to where it is needed: a state that was loaded lies where its file was read."""
        if self._columns is not None:
            self._columns = self._columns.to(device)
        if self._spare is not None:
            self._spare = self._spare.to(device)

    def state(self) -> dict[str, Tensor]:
        """All of it as tensors, a row for each column."""
        rows, spare = self.columns.T, self._spare
        return {
            "vectors": rows,
            "spare": rows.new_empty(0, self.dim) if spare is None else spare.T,
            "steps": torch.tensor([self.full_step, self.watch_step], device="cpu"),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()``."""
        spare = state["spare"].T
        self._columns, self._spare = state["vectors"].T, spare if spare.shape[1] else None
        self.full_step, self.watch_step = state["steps"].tolist()


def columnwise_copy(columns: Tensor) -> Tensor:
    """A copy of a block (D, m) whose columns are contiguous."""
    return columns.T.clone(memory_format=torch.contiguous_format).T
