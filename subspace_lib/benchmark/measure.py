"""One case measured: every solver at every point, as rows that go into ``results/benchmark.json``."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from subspace_lib.benchmark.peers import Solver, solvers
from subspace_lib.benchmark.problem import ANGLE, CASES, RESIDUAL, Case, K, Problem, clock, prepare

# On the CNN a product takes seconds: one point, and the methods that stand a chance.
ON_CNN = {
    ("subspace_lib", "every step", True),
    ("subspace_lib", "every step, watcher every 4th", True),
    ("subspace_lib", "block 1, tol 1e-3", False),
    ("PRIMME", "GD+k, block 1, tol 1e-3", False),
    ("PRIMME", "LOBPCG, block 10, tol 1e-3", True),
    ("scipy eigsh", "tol 1e-3", True),
}


def measure(problem: Problem, solver: Solver) -> dict[str, Any]:
    """One row: products, seconds, accuracy at each point; a failure is a row as well."""
    row: dict[str, Any] = {"peer": solver.peer, "setting": solver.setting, "warm": solver.warm}
    if solver.missing:
        return row | {"setting": "any", "failed": "not installed"}
    if hasattr(solver.solve, "prepare"):
        solver.solve.prepare(problem)
    runs, start = [], problem.points[0].exact
    for point in problem.points[1 : 1 + solver.points]:
        begun = clock()
        try:
            vectors, products = solver.solve(problem, point, start)
        except Exception as error:  # a peer may fail in any way; that is a result
            return row | {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        took = clock() - begun
        vectors = vectors.to(point.theta)
        if vectors.shape[1] < K or not torch.isfinite(vectors).all():
            return row | {"failed": f"returned {vectors.shape[1]} vectors, or values not finite"}
        residual, angle = problem.judge(point, vectors)
        runs.append((products, took, took / problem.gradient_seconds, residual, angle))
        start = vectors
    names = ("products", "seconds", "gradients", "residual", "angle")
    for name, column in zip(names, zip(*runs, strict=True), strict=True):
        row[name] = statistics.median(column)
        row[f"{name}_range"] = [min(column), max(column)]
    reached = all(r <= RESIDUAL and a <= ANGLE for *_, r, a in runs)
    return row | {"points": len(runs), "reached": reached}


def run_case(case: Case, watch: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """All solvers on one case; ``watch`` gets each finished row as a line."""
    problem = prepare(case)
    rows, missing = [], set()
    for solver in solvers():
        if solver.peer in missing or (solver.dear and case.name not in CASES):
            continue
        if solver.missing:
            missing.add(solver.peer)
        if case.model == "cnn" and (solver.peer, solver.setting, solver.warm) not in ON_CNN:
            continue
        rows.append(measure(problem, solver))
        watch(line(rows[-1]))
    values = problem.points[1].values
    return {
        "dataset": case.dataset,
        "preprocessing": case.preprocessing,
        "model": case.model,
        "learning_rate": case.learning_rate,
        "after": case.after,
        "parameters": problem.objective.dim,
        "gradient_seconds": problem.gradient_seconds,
        "eigenvalues": [round(float(v), 3) for v in values[: K + 2]],
        "rows": rows,
    }


def line(row: dict[str, Any]) -> str:
    """One row of the printed table."""
    start = "warm" if row["warm"] else "cold"
    head = f"{row['peer']:20} {row['setting']:38} {start:5}"
    if "failed" in row:
        return f"{head} failed: {row['failed']}"
    return (
        f"{head} {row['products']:7.0f} {row['seconds']:8.2f} {row['gradients']:9.1f} "
        f"{row['residual']:9.1e} {row['angle']:8.4f}  {'reached' if row['reached'] else 'NOT reached'}"
    )
