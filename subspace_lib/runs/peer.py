"""PyHessian's spectral density at a point of a run, asked for as its users ask."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from subspace_lib.linalg.quadrature import Quadrature
from subspace_lib.objective import Objective
from subspace_lib.objective.network import settled


class _WithEig:
    """The torch module, with the ``torch.eig`` that PyHessian 0.1 calls and PyTorch has had until 1.13.

    PyHessian calls it for the symmetric tridiagonal matrix of its Lanczos steps only: ``eigh`` does.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
        """Eigenvalues (n, 2), real and imaginary parts, and eigenvectors (n, n) as columns."""
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], 1), vectors


@contextmanager
def with_eig() -> Iterator[Any]:
    """PyHessian's module, which within it finds a ``torch.eig``; nobody else does."""
    import pyhessian  # noqa: F401 - its submodule of that name is hidden by the class in it

    module: Any = sys.modules["pyhessian.hessian"]
    before = module.torch
    module.torch = _WithEig()
    try:
        yield module
    finally:
        module.torch = before


@settled(second=True)
def pyhessian_quadrature(
    objective: Objective, theta: Tensor, steps: int, probes: int, seed: int
) -> Quadrature:
    """``pyhessian.hessian(model, criterion, dataloader=…).density(iter=steps, n_v=probes)`` at θ (D,).

    The data come in the objective's chunks, the model is a copy. PyHessian draws its probes from PyTorch's
    global generator, which is seeded for it and is afterwards as it was.

    Source: Yao et al., PyHessian: neural networks through the lens of the Hessian, 2020.
    """
    model = copy.deepcopy(objective.model).to(objective.device, objective.dtype)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in objective.unflatten(theta).items():
            own[name].copy_(values)
    batches = [objective.samples.rows(part) for part in objective.samples.parts()]
    with torch.random.fork_rng(), warnings.catch_warnings(), with_eig() as module:
        warnings.filterwarnings("ignore", "Using backward", UserWarning)  # with create_graph=True
        torch.manual_seed(seed)
        theirs = module.hessian(
            model, objective.loss, dataloader=batches, cuda=objective.device.type == "cuda"
        )
        nodes, weights = theirs.density(iter=steps, n_v=probes)
    return Quadrature(*(torch.tensor(rows, dtype=torch.float64) for rows in (nodes, weights)))
