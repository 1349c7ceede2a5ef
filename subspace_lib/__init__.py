"""The dominant subspace of the loss Hessian, followed along training and certified.

``Objective``, ``DominantSubspace`` and ``top_eigenpairs`` are for your own question; ``Experiment``,
``Run`` and ``Store`` are what the book's results are made with. Each is loaded when it is first used.
Source of the definitions: arXiv 2405.16002.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subspace_lib.experiment import Experiment
    from subspace_lib.linalg.eigensolver import top_eigenpairs
    from subspace_lib.objective import Objective
    from subspace_lib.results.store import Store
    from subspace_lib.runs.training import Run
    from subspace_lib.subspace import DominantSubspace
    from subspace_lib.trajectory import Trajectory

__all__ = [
    "DominantSubspace",
    "Experiment",
    "Objective",
    "Run",
    "Store",
    "Trajectory",
    "top_eigenpairs",
]
# Nobody waits for pandas who wants a subspace only, and the book is built without PyTorch.
LATER = {
    "DominantSubspace": "subspace_lib.subspace",
    "Experiment": "subspace_lib.experiment",
    "Objective": "subspace_lib.objective",
    "Run": "subspace_lib.runs.training",
    "Store": "subspace_lib.results.store",
    "Trajectory": "subspace_lib.trajectory",
    "top_eigenpairs": "subspace_lib.linalg.eigensolver",
}


def __getattr__(name: str) -> object:
    if name in LATER:
        return getattr(import_module(LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
