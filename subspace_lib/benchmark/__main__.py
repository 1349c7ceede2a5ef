"""Measure, keep in ``results/benchmark.json``, print as a table: ``python -m subspace_lib.benchmark``."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import torch

from subspace_lib.benchmark import adaptive, footprint, growth, parallel, price, scale
from subspace_lib.benchmark.measure import run_case
from subspace_lib.benchmark.problem import ANGLE, CASES, RESIDUAL, K
from subspace_lib.results.files import replace
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
        "load": round(os.getloadavg()[0], 1),  # processes of the last minute, its own included
        "python": platform.python_version(),
        "packages": versions,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "target": {"residual": RESIDUAL, "angle": ANGLE, "k": K},
    }


PRICED = {f"price-{name}": name for name in price.PRICES}
FOLLOWED = {f"footprint-{name}": name for name in footprint.RUNS}
CALLS: dict[str, Callable[[], object]] = {
    "products": growth.products,
    "adaptive": adaptive.adaptive,
    "growth": growth.growth,
    "memory": growth.memory,
    "scale": scale.scale,
    "parallel": parallel.parallel,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts that are named, or all; the others stay as they are."""
    parts = [*PRICED, *CASES, *CALLS, *FOLLOWED]
    parser = argparse.ArgumentParser(prog="python -m subspace_lib.benchmark", description=__doc__)
    parser.add_argument("--part", nargs="*", choices=parts, default=parts)
    own = price.PRICES["cnn"].steps
    parser.add_argument("--cnn-steps", type=_count, default=own, help=f"of price-cnn: {own}")
    torch.set_num_threads(1)
    given = parser.parse_args(arguments)
    file = COMMITTED / "benchmark.json"
    for part in given.part:
        print(f"== {part}", flush=True)
        measured = measure(part, given.cnn_steps) | {"machine": machine()}
        # Read only now: another part may have been written meanwhile.
        found = json.loads(file.read_text()) if file.exists() else {}
        if part in CASES:
            found.setdefault("cases", {})[part] = measured
        elif part in PRICED:
            found.setdefault("price", {})[PRICED[part]] = measured
        elif part in FOLLOWED:
            found.setdefault("footprint", {})[FOLLOWED[part]] = measured
        else:
            found[part] = measured
        file.parent.mkdir(exist_ok=True)
        replace(file, (json.dumps(found, indent=1) + "\n").encode())


def measure(part: str, cnn_steps: int) -> dict[str, Any]:
    """What is measured of one part, printed as well."""
    if part in CASES:
        return run_case(CASES[part], functools.partial(print, flush=True))
    if part in PRICED:
        setting = price.PRICES[PRICED[part]]
        if part == "price-cnn":
            setting = dataclasses.replace(setting, steps=cnn_steps)
        found = price.price(setting)
    elif part in FOLLOWED:
        found = footprint.footprint(FOLLOWED[part])
    else:
        found = {"measured": CALLS[part]()}
    print(json.dumps(found, indent=1))
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of steps of at least 1.")
    return int(text)


if __name__ == "__main__":
    main()
