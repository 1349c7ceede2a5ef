"""What adaptive refreshing costs along whole runs, and how true its basis stays."""

from __future__ import annotations

import random
import time
from typing import Any

from subspace_lib.benchmark.problem import PIXELS, K
from subspace_lib.experiment import Experiment
from subspace_lib.linalg.eigensolver import sin_largest_angle, top_eigenpairs
from subspace_lib.runs.training import Run

FROM, STEPS, CHECKS = 2000, 2000, 50


def adaptive() -> list[dict[str, Any]]:
    """SGD, Dom-SGD and Bulk-SGD at η = 0.01 for 2,000 steps, and GD at the edge of stability.

    GD with one subspace, with a correction on 500 samples, and with those of even and odd steps apart.
    """
    rows = [
        _follow(projection, 0.01, 50, FROM, STEPS, CHECKS)
        for projection in ("none", "dominant", "bulk")
    ]
    edge: tuple[dict[str, int], ...] = ({}, {"correction": 500}, {"period": 2})
    return rows + [_follow("none", 0.08, 5000, 100, 100, 25, **setting) for setting in edge]


def _follow(
    projection: str,
    learning_rate: float,
    batch_size: int,
    first: int,
    steps: int,
    checks: int,
    period: int = 1,
    correction: int = 0,
) -> dict[str, Any]:
    """One run from ``first`` on; at random steps its basis is compared with a solution to 1e-4 λ_1."""
    experiment = Experiment(
        preprocessing=PIXELS,
        learning_rate=learning_rate,
        batch_size=batch_size,
        projection=projection,
        switch_step=first,
        steps=first + steps,
        record_every=None,
        spectrum_every=None,
        period=period,
        correction=correction,
    )
    chosen = set(random.Random(0).sample(range(first + 50, first + steps), checks))
    run = Run(experiment)
    # SGD and GD have no use for the subspace between rows; here it is measured there.
    run.follows = True
    probe = Run(experiment)  # its objective counts what the checks cost
    before, checking, begun, started = run.theta, 0.0, 0.0, 0.0
    angles: list[float] = []
    errors: list[float] = []

    def look(run: Run) -> None:
        nonlocal before, checking, begun, started
        step = run.step - 1  # the basis is the one that this step used, at the θ it started from
        if step == first:  # the cold start is a cost of its own
            begun, started = time.perf_counter(), run.objective.gradient_equivalents
        if step in chosen and run.status == "running":
            pause = time.perf_counter()
            hessian = probe.objective.hessian(before)
            used = run.subspaces[step % period]
            assert used.vectors is not None  # this step has used them
            pairs = top_eigenpairs(hessian, K, used.vectors, tolerance=1e-4)
            exact = pairs.vectors[:, :K]
            gradient = hessian.gradient
            assert gradient is not None  # it comes with the first product
            true = float((exact.T @ gradient).norm() / gradient.norm())
            angles.append(sin_largest_angle(used.basis, exact))
            errors.append(abs(used.alignment(gradient) - true))
            checking += time.perf_counter() - pause
        before = run.theta

    run.train(look)
    took = time.perf_counter() - begun - checking
    theta = run.theta
    times = []
    for _ in range(7):
        pause = time.perf_counter()
        probe.objective.gradient(theta)
        times.append(time.perf_counter() - pause)
    gradient_seconds = sorted(times)[3]
    counted = run.objective.gradient_equivalents - started
    plain = 1.0 if batch_size == 5000 else batch_size / 5000
    method = experiment.method if batch_size < 5000 else "GD"
    if period == 2:
        method += ", even and odd steps apart"
    if correction:
        method += f", corrected on {correction} samples"
    return {
        "method": method,
        "learning_rate": learning_rate,
        "steps": steps,
        "refreshes": run.refreshes,
        "counted_per_step": counted / steps,
        "of_them_training": plain,
        "measured_per_step": took / steps / gradient_seconds,
        "checks": len(angles),
        "largest_angle": max(angles),
        "median_angle": sorted(angles)[len(angles) // 2],
        "largest_alignment_error": max(errors),
        "target": experiment.target_angle,
    }
