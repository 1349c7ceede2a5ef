"""Which problem the solvers are compared on: one of the stored cases, or one that is measured now."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field

from subspace_lib.benchmark.measure import run_case
from subspace_lib.benchmark.problem import CASES, PIXELS, Case
from subspace_lib.chapters import chapter
from subspace_lib.chapters.kit.names import trained
from subspace_lib.chapters.kit.study import DryRun, Plan, Profiled
from subspace_lib.chapters.kit.switch.study import SwitchStudy, switch_study
from subspace_lib.experiment import (
    DatasetName,
    Device,
    ModelName,
    Preprocessing,
    Rate,
    missing_device,
)
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import COMMITTED, MissingRun, Store, default_roots


class CostParameters(Profiled):
    """Which problem the solvers are compared on: a point of an SGD run with MSE loss, batch size 50, k 10.

    The defaults, and the other cases of ``make benchmark``, are stored; anything else is measured on the
    spot, with the peers that are installed.
    """

    QUICK: ClassVar[dict[str, Any]] = {
        "dataset": "digits",
        "preprocessing": "standardized",
        "after": 50,
        "points": 2,
    }

    dataset: DatasetName = "mnist5k"
    preprocessing: Preprocessing = (
        PIXELS  # not the paper's: the stored cases were measured on these
    )
    model: ModelName = "mlp"
    learning_rate: Rate = 0.01
    after: int = Field(500, ge=0, le=1_000_000, description="SGD steps before the first point")
    points: int = Field(5, ge=1, le=50, description="consecutive points to solve at")
    device: Device = "cpu"

    def case(self) -> Case:
        """The problem to solve: one of the stored cases where the parameters are its own."""
        p = self.resolved()
        if lacking := missing_device(p.device):
            raise InvalidParameter(f"{lacking}.")
        setting = (p.dataset, p.model, p.learning_rate, p.after, p.points)
        yours = Case("yours", *setting, device=p.device, preprocessing=p.preprocessing)
        standard = p.points == CostParameters.model_fields["points"].default
        for case in CASES.values():
            same = replace(yours, name=case.name, points=case.points) == case
            if same and standard:
                return case
        return yours


def stored() -> dict[str, Any]:
    """The measurements of ``make benchmark``: of the results folder in use, else of the repository.

    Raises:
        MissingRun: there are none.
    """
    for folder in _folders():
        if (folder / "benchmark.json").exists():
            return json.loads((folder / "benchmark.json").read_text())
    raise MissingRun("results/benchmark.json is missing; run `make benchmark`.")


def prices(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What training costs over plain SGD, by network.

    Raises:
        MissingRun: it has not been measured.
    """
    if not found.get("price"):
        raise MissingRun(
            "results/benchmark.json has no prices; run "
            "`python -m subspace_lib.benchmark --part price-mlp price-cnn price-transformer`."
        )
    return found["price"]


def book_runs() -> SwitchStudy:
    """The runs of chapter 02: of the results folder in use, else of the repository.

    Raises:
        MissingRun: one is missing from both.
    """
    *others, repository = _folders()
    for folder in others:
        with contextlib.suppress(MissingRun):
            return switch_study(chapter("02_dom_vs_bulk").parameters, Store(folder), compute=False)
    return switch_study(chapter("02_dom_vs_bulk").parameters, Store(repository), compute=False)


def _folders() -> list[Path]:
    return [*default_roots(), COMMITTED]


def comparison(
    parameters: CostParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> dict[str, Any]:
    """All solvers on the problem that the parameters name: from the stored cases, or measured now.

    Raises:
        MissingRun: it is not stored, and not to be measured.
        DryRun: it is not stored, and it was asked what would be measured.
    """
    case = parameters.case()
    cases = stored().get("cases", {})
    if case.name in cases:
        return cases[case.name]
    where = f"{trained(case.model, case.dataset)} after {case.after:,} steps at η = {case.learning_rate:g}"
    if parameters.dry_run:
        raise DryRun(
            f"{where} is not stored; the solvers would be measured there at {case.points} points."
        )
    if isinstance(compute, Plan):
        return {}
    if not compute:
        raise MissingRun(f"{where} is not in results/benchmark.json; run `make benchmark`.")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the stored cases
    try:
        return run_case(case)
    finally:
        torch.set_num_threads(threads)
