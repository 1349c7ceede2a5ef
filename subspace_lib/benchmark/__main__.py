"""Measure, keep in ``results/benchmark.json``, print as a table: ``python -m subspace_lib.benchmark``."""

from __future__ import annotations

import argparse
import functools
import json
import platform
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch

from subspace_lib.benchmark import adaptive, growth
from subspace_lib.benchmark.measure import run_case
from subspace_lib.benchmark.problem import ANGLE, CASES, RESIDUAL, K
from subspace_lib.results.provenance import commit, processor
from subspace_lib.results.store import COMMITTED

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "primme",
    "pyhessian",
    "hessian-eigenthings",
    "curvlinops-for-pytorch",
    "skerch",
)


def machine() -> dict[str, Any]:
    """What the figures were measured on, and with."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": versions,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "target": {"residual": RESIDUAL, "angle": ANGLE, "k": K},
    }


def main() -> None:
    calls: dict[str, Callable[[], object]] = {
        "products": growth.products,
        "adaptive": adaptive.adaptive,
        "growth": growth.growth,
        "memory": growth.memory,
    }
    parts = [*CASES, *calls]
    parser = argparse.ArgumentParser(prog="python -m subspace_lib.benchmark", description=__doc__)
    parser.add_argument("--part", nargs="*", choices=parts, default=parts)
    torch.set_num_threads(1)
    wanted = parser.parse_args().part
    file = COMMITTED / "benchmark.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    for part in wanted:
        print(f"== {part}", flush=True)
        if part in CASES:
            found.setdefault("cases", {})[part] = run_case(
                CASES[part], functools.partial(print, flush=True)
            ) | {"machine": machine()}
        else:
            found[part] = {"measured": calls[part](), "machine": machine()}
            print(json.dumps(found[part]["measured"], indent=1))
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
