"""The stored runs that the book shows: every one of the folder of results, and those that pages name."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.names import title
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.files import Corrupted
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.trajectory import Trajectory

KEY = re.compile(r"\b[a-z][a-z0-9_+-]*-s\d+-[0-9a-f]{10}\b")  # as ``RunDescription.key`` makes it
DATA = "runs"  # folder of the site with a file of numbers and one of words for each run


@dataclass(frozen=True)
class ShownRun:
    """A stored run with where it lies and which pages name it."""

    key: str
    folder: Path
    description: Mapping[str, Any]
    run: Trajectory
    pages: tuple[str, ...]

    @property
    def setting(self) -> str:
        """The network, the data and the pixels in a few words: "MLP · MNIST-5k · pixels x/255"."""
        d = self.description
        if "model" not in d:
            return {"valley": "The valley", "regression": "The spiked regression"}[d["kind"]]
        told = [title(d["model"]), title(d["dataset"])]
        if d["dataset"] != "sst2_1k":
            told.append(title(d.get("preprocessing")))
        if (loss := d.get("loss", "mse")) != "mse":  # the rule: not said
            told.append(title(loss))
        return " · ".join(told)

    @property
    def method(self) -> str:
        """The rule, what is projected and what was measured, as the book calls it."""
        return says.rule(self.run.experiment.method)

    @property
    def parameters(self) -> str:
        """What else it was run with, as far as it is not the rule."""
        d, told = self.description, []
        if "learning_rate" in d:
            told.append(f"η {d['learning_rate']:g}")
        if "batch_size" in d:
            told.append(f"batch {d['batch_size']:,}")
        told += _special(d)
        if "steps" in d:
            # Its steps are counted from the beginning of the run that it goes on from.
            told.append(f"to step {d['steps']:,}" if d.get("before") else f"{d['steps']:,} steps")
        return " · ".join(told)


def _special(d: Mapping[str, Any]) -> list[str]:
    """What a run has that most do not, a few words each."""
    told = []
    if d.get("optimizer") in ("momentum", "nesterov", "adam", "adamw"):
        told.append(f"β {d['beta']:g}")
    if d.get("optimizer") == "sam":
        told.append(f"ρ {d['rho']:g}")
    if d.get("before"):
        told.append(f"from step {d['before'][-1]['until']:,} of another run")
    if d.get("noise", "none") != "none":
        told.append(f"noise {d['noise']}")
    if d.get("kind") == "weighted":
        told.append(f"α {d['dominant']:g}, β {d['bulk']:g}")
    if d.get("k", d.get("classes")) != d.get("classes"):
        told.append(f"k {d['k']}")
    for name, rule in (
        ("space", None),
        ("matrix_samples", None),
        ("drawn", "evenly"),
        ("projected", "update"),
        ("period", 1),
        ("correction", 0),
        ("refresh_every", "adaptive"),
        ("target_angle", 0.05),
    ):
        if d.get(name, rule) != rule:
            told.append(f"{name.replace('_', ' ')} {d[name]}")
    return told


def named_in(notebook: Path) -> set[str]:
    """Keys of runs that a notebook's text and outputs name."""
    return set(KEY.findall(notebook.read_text(encoding="utf-8")))


def runs(notebooks: Mapping[str, Path], store: Store | None = None) -> list[ShownRun]:
    """The runs of the last of the store's folders, and those of the others that a notebook names.

    ``notebooks`` are the book's, by the names of their pages. Damaged runs are left out with a word.
    """
    store = store or Store()
    pages: dict[str, list[str]] = {}
    for page, path in notebooks.items():
        for key in named_in(path):
            pages.setdefault(key, []).append(page)
    known = {path.parent.name for path in store.roots[-1].glob("*/provenance.json")}
    found = []
    for key in sorted(known | set(pages)):
        try:
            run = store.of(key)
        except MissingRun:
            continue  # checks.objections names those that a page leans on
        except Corrupted as error:
            print(f"{error} Run `make results` to compute it anew.", file=sys.stderr)
            continue
        except InvalidParameter as error:  # a model or data of one's own that is not here any more
            print(f"{key}: {error}", file=sys.stderr)
            continue
        folder = next(r / key for r in store.roots if (r / key / "provenance.json").exists())
        description = json.loads((folder / "description.json").read_text(encoding="utf-8"))
        found.append(ShownRun(key, folder, description, run, tuple(sorted(pages.get(key, ())))))
    return found
