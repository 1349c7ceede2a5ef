"""``python -m subspace_lib.results.touchstone``: does today's code compute the numbers of former code?

The hash of the modules that compute a run (``modules``) changes with every change of code, though seldom a
number does. So each kind of run has touchstones, runs of seconds on data that everybody has. Their numbers
are kept in ``results/touchstones.json`` by that hash. Code whose touchstones have the same numbers as those
of the code that computed a stored run is taken for the same; from a run of other code no book is built.

``--of COMMIT`` measures what a former commit computes, from a checkout of its own. Processors round
differently, and where an eigenvector's sign or the gap is open, so do numbers. ``--like COMMIT`` measures
that commit too, here: where today's code agrees with it, the numbers on record for it are today's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch

FILE = "touchstones.json"
TOLERANCE = 1e-4  # relative; processors differ by rounding, which these few steps carry on a little
COSTS = ("seconds", "gradient_equivalents")  # what a change may well be for
HOUSE = Path(__file__).resolve().parent.parent.parent

_SMALL: dict[str, Any] = {
    "dataset": "digits",
    "preprocessing": "standardized",
    "model": "mlp",
    "k": 3,
    "steps": 40,
    "learning_rate": 0.1,
    "record_every": 7,
    "spectrum_every": 14,
}
_SWITCHED = _SMALL | {"switch_step": 12}
_FULL = _SWITCHED | {"batch_size": 1500}
# Of kinds that are as old as this data set and this network.
_TINY = _SMALL | {"dataset": "digits_300", "model": "mlp_small"}
_TINY_FULL = _TINY | {"switch_step": 12, "batch_size": 300}
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "training": {
        "SGD, watched": _SMALL | {"watch_alignment": 0.5, "watch_from": 5, "switch_from": 10},
        "Dom-SGD": _SWITCHED | {"projection": "dominant"},
        "Bulk-GD": _FULL | {"projection": "bulk", "period": 2, "fresh_spans": ((20, 30),)},
        "Dom-Adam": _SWITCHED
        | {
            "projection": "dominant",
            "optimizer": "adam",
            "projected": "both",
            "learning_rate": 0.01,
        },
        "Bulk-SAM": _SWITCHED | {"projection": "bulk", "optimizer": "sam"},
        "GD, noise": _FULL | {"noise": "sgd"},
        "CNN": _SWITCHED
        | {
            "dataset": "digits_300",
            "model": "cnn_small",
            "loss": "cross_entropy",
            "projection": "bulk",
        },
        "Transformer": _SWITCHED
        | {"dataset": "sentences", "preprocessing": "tokens", "model": "transformer_small"}
        | {"projection": "bulk", "k": 2},
    },
    "survey": {"SGD": _SMALL | {"anchors": (5, 25), "lags": (1, 10), "window": 2}},
    "curvature": {
        "SGD": _TINY | {"anchors": (5, 40), "lanczos_steps": 8, "probes": 2, "pyhessian": 1}
    },
    "pair": {"GD": _TINY_FULL | {"projection": "bulk", "average": 4}},
    "substitute": {
        space: _TINY
        | {"switch_step": 12, "projection": "dominant", "space": space, "refresh_every": 5}
        | {"spectrum_every": None}
        for space in ("gauss_newton", "batch_hessian", "random")
    },
    "rates": {
        rule: _SMALL | {"optimizer": rule, "learning_rate": rate, "spectrum_every": None}
        for rule, rate in (("sgd", 0.1), ("momentum", 0.02), ("adam", 0.005))
    },
    "amplification": {
        "heavy ball": _TINY
        | {"optimizer": "momentum", "anchors": (10,), "window": 10, "directions": 4}
    },
    "weighted": {"SGD": _TINY | {"switch_step": 12, "dominant": 0.5, "bulk": 2.0}},
    "trials": {"SGD": _TINY | {"anchors": (5, 40), "batches": 3, "spectrum_every": None}},
    "averaged": {"GD": _TINY_FULL | {"noise_of": 50, "renew": 10}},
    "valley": {
        "valley": {"steps": 400, "switch_step": 200, "paths": 10, "record_every": 50}
        | {"settle_paths": 20, "sharpnesses": (0.5,), "crosses": (10.0,), "learning_rate": 5e-4}
    },
    "regression": {
        "regression": {"steps": 300, "switch_step": 200, "paths": 3, "settle_paths": 10}
        | {"settle_steps": 20, "dimension": 20, "samples": 60, "outliers": 2}
    },
}
Numbers = dict[str, float]
Record = dict[str, dict[str, Any]]  # by hash or commit: its touchstones' numbers by name


def measured(kind: str) -> dict[str, Numbers]:
    """The numbers of a kind's touchstones by name, of the code that is imported.

    A touchstone that this code cannot describe, being older than a parameter, is left out.
    """
    from subspace_lib.runs import KINDS  # of another checkout, where this file is its only guest

    found = {}
    for name, fields in RUNS[kind].items():
        try:
            experiment = KINDS[kind][0].parse(**fields)
        except (KeyError, ValueError):
            continue
        run = KINDS[kind][1](experiment)
        run.train()
        found[name] = numbers(run.table()) | {"complete": float(run.status == "complete")}
    return found


def numbers(table: pd.DataFrame) -> Numbers:
    """How many rows and numbers there are, and mean and last of each column; of quantities, of each."""
    if "quantity" in table:
        groups = table.groupby("quantity", sort=True)["value"]
        parts = {str(name): values for name, values in groups}
    else:
        parts = {str(name): table[name] for name in table if name not in COSTS}
    found = {"rows": float(len(table))}
    for name, values in parts.items():
        known = values.astype("float64").dropna()
        found[f"{name}, count"] = float(len(known))
        if len(known):
            found |= {f"{name}, mean": float(known.mean()), f"{name}, last": float(known.iloc[-1])}
    return found


def agree(first: Mapping[str, Numbers], second: Mapping[str, Numbers]) -> bool:
    """Whether two versions have a touchstone in common, and the same numbers where both have one."""
    common = first.keys() & second.keys()
    return bool(common) and all(
        math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-6)
        for name in common
        for a, b in _pairs(first[name], second[name])
    )


def _pairs(first: Numbers, second: Numbers) -> Iterator[tuple[float, float]]:
    return ((first[name], second[name]) for name in first.keys() & second.keys())


def same_code(kind: str, former: str, record: Mapping[str, Record]) -> bool:
    """Whether today's code has the touchstones of that hash, or commit, as far as they are on record."""
    from subspace_lib.results.modules import modules_hash

    of_kind = record.get(kind, {})
    now, then = of_kind.get(modules_hash(kind)), of_kind.get(former)
    return now is not None and then is not None and agree(now, then)


@cache
def recorded(folder: Path) -> dict[str, Record]:
    """What ``results/touchstones.json`` holds, by kind of run; nothing where there is none."""
    path = folder / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _emit(kinds: Sequence[str]) -> None:
    """Print numbers and hashes of the imported code, for the process that has asked for them."""
    from subspace_lib.runs import KINDS

    torch.set_num_threads(1)
    found = {}
    for kind in kinds:
        if kind in KINDS:
            found[kind] = {"hash": _hash(kind), "numbers": measured(kind)}
    print(json.dumps(found))


def _hash(kind: str) -> str | None:
    try:
        from subspace_lib.results.modules import modules_hash
    except ImportError:  # it is younger than that commit
        return None
    return modules_hash(kind)


def _of(checkout: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """What the code in a checkout computes, by a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--emit", *kinds]
    # From elsewhere: the folder where a process begins is looked in first.
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            words, env=environment, cwd=elsewhere, check=True, stdout=subprocess.PIPE, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Keep the numbers of the touchstones under the hash of today's modules, and say whose they are."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.results.touchstone", description=main.__doc__
    )
    parser.add_argument("--of", metavar="COMMIT", nargs="*", default=[], help="former commits")
    parser.add_argument(
        "--like", metavar="COMMIT", help="one on record, measured on another machine"
    )
    parser.add_argument("--kind", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument("--emit", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.emit:
        _emit(given.emit)
        return
    from subspace_lib.results.files import replace
    from subspace_lib.results.store import COMMITTED

    record, liked = recorded(COMMITTED), set[str]()
    for typed in given.of:
        _keep(record, *_of_commit(typed, given.kind))
    if not given.of:
        now = _of(HOUSE, given.kind)
        if given.like:
            former = _of_commit(given.like, given.kind)[0]
            if lacking := [kind for kind in former if not _known(record, kind, former)]:
                parser.error(
                    f"--like {given.like}: touchstones.json has no numbers of its {', '.join(lacking)}; "
                    "name the commit that the file is from."
                )
            now = _as_recorded(record, now, former)
            liked = {str(of_kind["hash"]) for of_kind in former.values()}  # its runs may come later
        _keep(record, now, None)
    wanted = _computed(COMMITTED)
    for kind, of_kind in record.items():  # nobody asks for code that has computed nothing
        known = wanted | liked | {_hash(kind)}
        record[kind] = {name: found for name, found in of_kind.items() if name in known}
    replace(COMMITTED / FILE, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    for kind in given.kind:
        now = record.get(kind, {}).get(_hash(kind) or "", {})
        same = [name for name, then in record.get(kind, {}).items() if agree(now, then)]
        print(f"{kind}: today's code has the numbers of {len(same)} of {len(record.get(kind, {}))}")


def _of_commit(typed: str, kinds: Sequence[str]) -> tuple[dict[str, Any], str]:
    """What a former commit computes, and its full name."""
    git = ["git", "-C", str(HOUSE)]
    asked = [*git, "rev-parse", "--verify", f"{typed}^{{commit}}"]
    found = subprocess.run(asked, check=False, capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"{typed[:80]!r} is no commit of this repository; git log names them.")
    commit = found.stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        tree, checkout = [*git, "worktree"], Path(folder, "checkout")
        subprocess.run([*tree, "add", "--quiet", "--detach", str(checkout), commit], check=True)
        try:
            return _of(checkout, kinds), commit
        finally:
            subprocess.run([*tree, "remove", "--force", str(checkout)], check=True)


def _known(record: Mapping[str, Record], kind: str, found: Mapping[str, Any]) -> Any:
    """What is on record for the code that these numbers of a kind are of; None where nothing is."""
    return record.get(kind, {}).get(found[kind]["hash"] or "")


def _as_recorded(
    record: Mapping[str, Record], now: dict[str, Any], former: Mapping[str, Any]
) -> dict[str, Any]:
    """Today's numbers, or those on record for a former code that agrees with today's on this machine."""
    found = dict(now)
    for kind, here in former.items():
        if agree(now[kind]["numbers"], here["numbers"]):
            known = _known(record, kind, former)
            found[kind] = now[kind] | {"numbers": now[kind]["numbers"] | known}
    return found


def _computed(folder: Path) -> set[str]:
    """Hashes of the modules, or the commits, that have computed the runs in a folder of results."""
    made = [json.loads(path.read_text()) for path in folder.glob("*/provenance.json")]
    return {record.get("modules") or record["commit"] for record in made}


def _keep(record: dict[str, Record], found: Mapping[str, Any], commit: str | None) -> None:
    """Under the hash of the modules; where that commit had none, under the commit."""
    for kind, of_kind in found.items():
        record.setdefault(kind, {})[of_kind["hash"] or str(commit)] = of_kind["numbers"]


if __name__ == "__main__":
    main()
