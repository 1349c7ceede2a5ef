"""The solvers, ours and others', each as a function of a problem and a point.

A solver returns a basis (D, K) and the number of single-vector Hessian products that it took. Peers that
bring no product of their own get ours, with the graph kept between calls where all data fit. Settings
with "plain product" have the one that a few lines of PyTorch give instead: the graph kept, all data at
once, PyTorch's own choice of matrix products.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from subspace_lib.benchmark.problem import K, Point, Problem
from subspace_lib.linalg.eigensolver import top_eigenpairs
from subspace_lib.linalg.matmul import default_matmul
from subspace_lib.objective import Objective
from subspace_lib.subspace import DominantSubspace

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Found = tuple[Tensor, int]
Solve = Callable[[Problem, Point, Tensor], Found]


@dataclass(frozen=True)
class Solver:
    """A method in one setting.

    Attributes:
        peer: the library; setting: which method and tolerance; warm: starts from the previous answer.
        solve: (problem, point, previous basis) → (basis, products).
        points: at how many points it is measured at most; needs: the package that it imports.
        dear: takes so long that only the stored cases have it.
    """

    peer: str
    setting: str
    warm: bool
    solve: Solve
    points: int = 5
    needs: str | None = None
    dear: bool = False

    @property
    def missing(self) -> bool:
        """Whether its package is not installed."""
        return self.needs is not None and importlib.util.find_spec(self.needs) is None


class Counted:
    """Our Hessian product for numpy callers, counting vectors; the graph is kept if all data fit."""

    def __init__(self, problem: Problem, point: Point, plain: bool = False):
        whole = problem.objective
        objective = whole
        if problem.case.model == "mlp":
            objective = Objective(
                whole.model,
                whole.loss,
                whole.inputs,
                whole.labels,
                chunk=len(whole),
                device=problem.case.device,
            )
        self.hessian, self.device = objective.hessian(point.theta), problem.case.device
        self.dim, self.products = whole.dim, 0
        self.matmul: Callable[[], contextlib.AbstractContextManager[None]] = (
            default_matmul if plain else contextlib.nullcontext
        )

    def __call__(self, block: np.ndarray) -> np.ndarray:
        columns = torch.from_numpy(np.ascontiguousarray(block, dtype=np.float32))
        columns = columns.reshape(self.dim, -1).to(self.device)
        return self.torch(columns).cpu().numpy().reshape(block.shape)

    def torch(self, block: Tensor) -> Tensor:
        self.products += block.shape[1]
        with self.matmul():
            return self.hessian @ block

    def scipy(self) -> LinearOperator:
        from scipy.sparse.linalg import LinearOperator

        shape = (self.dim, self.dim)
        return LinearOperator(shape, matvec=self, matmat=self, dtype=np.float32)


class Ours:
    """The tracker with a refresh at every step."""

    def __init__(self, **options: int):
        self.options = options

    def prepare(self, problem: Problem) -> None:
        """Start at the point before the first one measured, as other warm solvers do."""
        first = problem.points[0]
        self.tracker = DominantSubspace(problem.objective, K, refresh_every=1, **self.options)
        self.tracker.refresh(first.theta, first.step, first.probe)

    def __call__(self, problem: Problem, point: Point, start: Tensor) -> Found:
        before = problem.objective.products
        self.tracker.refresh(point.theta, point.step, point.probe)
        return self.tracker.basis, problem.objective.products - before


def cold(block: int) -> Solve:
    def solve(problem: Problem, point: Point, start: Tensor) -> Found:
        hessian = Counted(problem, point).hessian
        pairs = top_eigenpairs(hessian, K, problem.random(block), tolerance=1e-3)
        return pairs.vectors[:, :K], pairs.products

    return solve


def eigsh(warm: bool, plain: bool = False, **options: Any) -> Solve:
    def solve(problem: Problem, point: Point, start: Tensor) -> Found:
        from scipy.sparse.linalg import eigsh

        product = Counted(problem, point, plain)
        rng = np.random.default_rng(0)
        v0 = (
            start.sum(1).cpu().numpy()
            if warm
            else rng.standard_normal(product.dim).astype(np.float32)
        )
        _, vectors = eigsh(product.scipy(), K, which="LA", v0=v0, **options)
        return torch.from_numpy(vectors), product.products

    return solve


def scipy_lobpcg(warm: bool, **options: Any) -> Solve:
    def solve(problem: Problem, point: Point, start: Tensor) -> Found:
        from scipy.sparse.linalg import lobpcg

        product = Counted(problem, point)
        block = (start if warm else problem.random(K)).cpu().numpy()
        if options.get("tol"):
            options_here = options | {"tol": options["tol"] * float(point.values[0])}
        else:
            options_here = options
        _, vectors = lobpcg(product.scipy(), block, largest=True, **options_here)
        return torch.from_numpy(vectors), product.products

    return solve


def torch_lobpcg(warm: bool, plain: bool = False, niter: int = 50, **options: Any) -> Solve:
    # Without a limit it may go on for ever: where the residual's rounding stays above its tolerance.
    def solve(problem: Problem, point: Point, start: Tensor) -> Found:
        from torch import _linalg_utils

        product = Counted(problem, point, plain)
        # torch.lobpcg wants a tensor for A: an empty sparse one stands for it, and its product is ours.
        stand_in = torch.sparse_coo_tensor(
            torch.empty((2, 0), dtype=torch.int64),
            torch.empty(0),
            (product.dim, product.dim),
            device=product.device,
            check_invariants=False,
        )
        matmul = _linalg_utils.matmul

        def multiply(A: Tensor | None, B: Tensor) -> Tensor:
            return product.torch(B) if A is not None and A.is_sparse else matmul(A, B)

        _linalg_utils.matmul = multiply
        try:
            block = start if warm else problem.random(K)
            _, vectors = torch.lobpcg(
                stand_in, X=block.clone(), largest=True, niter=niter, **options
            )
        finally:
            _linalg_utils.matmul = matmul
        return vectors, product.products

    return solve


def primme(warm: bool, method: str | None, block: int, tol: float, plain: bool = False) -> Solve:
    def solve(problem: Problem, point: Point, start: Tensor) -> Found:
        import primme

        product = Counted(problem, point, plain)
        options = {"maxBlockSize": block} | ({"method": method} if method else {})
        v0 = start.cpu().numpy() if warm else None
        _, vectors = primme.eigsh(product.scipy(), K, which="LA", v0=v0, tol=tol, **options)
        return torch.from_numpy(np.ascontiguousarray(vectors)), product.products

    return solve


def _model_at(problem: Problem, point: Point) -> torch.nn.Module:
    from torch.nn.utils import vector_to_parameters

    vector_to_parameters(point.theta, problem.model.parameters())
    return problem.model


def pyhessian(**options: Any) -> Solve:
    def solve(problem: Problem, point: Point, start: Tensor) -> Found:
        import pyhessian

        # The package's attribute of that name is the class.
        module: Any = sys.modules["pyhessian.hessian"]
        model, o = _model_at(problem, point), problem.objective
        count, product = [0], module.hessian_vector_product

        def counted(*arguments: Any) -> Any:
            count[0] += 1
            return product(*arguments)

        torch.manual_seed(0)
        module.hessian_vector_product = counted
        try:
            hessian = pyhessian.hessian(
                model, o.loss, data=(o.inputs, o.labels), cuda=o.inputs.is_cuda
            )
            _, vectors = hessian.eigenvalues(top_n=K, **options)
        finally:
            module.hessian_vector_product = product
            model.zero_grad()
        flat = [torch.cat([part.reshape(-1) for part in v]) for v in vectors]
        return torch.stack(flat, 1).detach(), count[0]

    return solve


def eigenthings(**options: Any) -> Solve:
    def solve(problem: Problem, point: Point, start: Tensor) -> Found:
        import hessian_eigenthings as library

        model, o = _model_at(problem, point), problem.objective
        operator = library.HessianOperator(
            model, [(o.inputs, o.labels)], library.supervised_loss(o.loss)
        )
        count, product = [0], operator.matvec

        def counted(v: Any) -> Any:
            count[0] += 1
            return product(v)

        operator.matvec = counted
        result = library.lanczos(operator, k=K, which="LA", seed=0, **options)
        vectors = result.eigenvectors
        return (vectors if vectors.shape[0] == o.dim else vectors.T), count[0]

    return solve


def curvlinops(**options: Any) -> Solve:
    def solve(problem: Problem, point: Point, start: Tensor) -> Found:
        from curvlinops import HessianLinearOperator
        from scipy.sparse.linalg import LinearOperator, eigsh

        model, o = _model_at(problem, point), problem.objective
        onehot = torch.nn.functional.one_hot(o.labels).to(o.inputs)
        # Its loss is ours times 2/classes: the same eigenvectors.
        operator = HessianLinearOperator(
            model,
            torch.nn.MSELoss(),
            list(model.parameters()),
            [(o.inputs, onehot)],
            check_deterministic=False,
        ).to_scipy()
        count = [0]

        def counted(v: Any) -> Any:
            count[0] += 1
            return operator @ v

        counting = LinearOperator(operator.shape, matvec=counted, dtype=np.float32)
        v0 = np.random.default_rng(0).standard_normal(o.dim).astype(np.float32)
        _, vectors = eigsh(counting, K, which="LA", v0=v0, **options)
        return torch.from_numpy(vectors), count[0]

    return solve


def skerch(measurements: int) -> Solve:
    def solve(problem: Problem, point: Point, start: Tensor) -> Found:
        from skerch.algorithms import seigh

        product = Counted(problem, point)

        class Operator:
            shape = (product.dim, product.dim)

            def __matmul__(self, block: Tensor) -> Tensor:
                return product.torch(block.reshape(product.dim, -1)).reshape(block.shape)

            def __rmatmul__(self, block: Tensor) -> Tensor:  # symmetric
                return (self @ block.T.contiguous()).T

        values, vectors = seigh(
            Operator(), torch.device(product.device), torch.float32, measurements, by_mag=False
        )
        return vectors[:, values.argsort(descending=True)[:K]], product.products

    return solve


GD, LOBPCG = "PRIMME_GD_Olsen_plusK", "PRIMME_LOBPCG_OrthoBasis"


def solvers() -> list[Solver]:
    """Every method: the peers' defaults first, then the cheapest settings that reach the target."""
    found = [
        Solver("subspace_lib", "every step", True, Ours()),
        Solver("subspace_lib", "every step, watcher every 4th", True, Ours(watch=4)),
        Solver(
            "subspace_lib",
            "every step, corrected on 500 samples",
            True,
            Ours(watch=4, correction=500),
        ),
        Solver(
            "subspace_lib",
            "every step, corrected on 1,000 samples",
            True,
            Ours(watch=4, correction=1000),
        ),
        Solver("subspace_lib", "block 1, tol 1e-3", False, cold(1), 3),
        Solver("subspace_lib", "block 3, tol 1e-3", False, cold(3), 3),
        Solver("PRIMME", "default", False, primme(False, None, 1, 0), 1, "primme"),
    ]
    for warm in (False, True):
        for method, label in ((GD, "GD+k"), (LOBPCG, "LOBPCG")):
            for block in (1, 5, 10):
                solve = primme(warm, method, block, 1e-3)
                setting = f"{label}, block {block}, tol 1e-3"
                found.append(Solver("PRIMME", setting, warm, solve, 5 if warm else 2, "primme"))
    warm_plain = primme(True, LOBPCG, 10, 1e-3, plain=True)
    return found + [
        Solver("PRIMME", "LOBPCG, block 10, plain product", True, warm_plain, 3, "primme"),
        Solver("scipy eigsh", "default", False, eigsh(False), 1),
        Solver("scipy eigsh", "tol 1e-3", False, eigsh(False, tol=1e-3), 3),
        Solver("scipy eigsh", "tol 1e-3", True, eigsh(True, tol=1e-3), 5),
        Solver("scipy eigsh", "tol 1e-3, plain product", True, eigsh(True, True, tol=1e-3), 3),
        Solver("scipy lobpcg", "default", False, scipy_lobpcg(False), 1),
        Solver("scipy lobpcg", "tol 1e-3", True, scipy_lobpcg(True, tol=1e-3, maxiter=20), 3),
        Solver("torch.lobpcg", "default", False, torch_lobpcg(False), 1, None, True),
        Solver("torch.lobpcg", "tol 1e-3", True, torch_lobpcg(True, tol=1e-3), 5),
        Solver(
            "torch.lobpcg", "tol 1e-3, plain product", True, torch_lobpcg(True, True, tol=1e-3), 3
        ),
        Solver(
            "torch.lobpcg", "tol 1e-3, 3 iterations", True, torch_lobpcg(True, tol=1e-3, niter=3), 3
        ),
        Solver("curvlinops + eigsh", "default", False, curvlinops(), 1, "curvlinops"),
        Solver("curvlinops + eigsh", "tol 1e-3", False, curvlinops(tol=1e-3), 2, "curvlinops"),
        Solver("hessian-eigenthings", "default", False, eigenthings(), 1, "hessian_eigenthings"),
        Solver(
            "hessian-eigenthings",
            "30 steps",
            False,
            eigenthings(max_iter=30),
            2,
            "hessian_eigenthings",
        ),
        Solver(
            "hessian-eigenthings",
            "60 steps",
            False,
            eigenthings(max_iter=60),
            1,
            "hessian_eigenthings",
        ),
        Solver("skerch", "seigh, 20 measurements", False, skerch(20), 1, "skerch"),
        Solver("skerch", "seigh, 60 measurements", False, skerch(60), 1, "skerch"),
        Solver("PyHessian", "default", False, pyhessian(), 5, "pyhessian"),
        Solver(
            "PyHessian",
            "200 iterations, tol 3e-4",
            False,
            pyhessian(maxIter=200, tol=3e-4),
            5,
            "pyhessian",
            True,
        ),
        Solver(
            "PyHessian",
            "300 iterations, tol 1e-4",
            False,
            pyhessian(maxIter=300, tol=1e-4),
            2,
            "pyhessian",
            True,
        ),
    ]
