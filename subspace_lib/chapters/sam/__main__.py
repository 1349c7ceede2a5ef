"""``python -m subspace_lib.chapters.sam``: the pilot on seed 0 that chooses ρ, computed and kept."""

from __future__ import annotations

import os

import torch

from subspace_lib.chapters.sam import CHAPTER, tables
from subspace_lib.chapters.sam.pilot import pilot_study
from subspace_lib.results.store import COMMITTED


def main() -> None:
    """Compute what is missing of the pilot, and print its table."""
    os.environ.setdefault("SUBSPACE_RESULTS", str(COMMITTED))
    torch.set_num_threads(1)  # as the stored runs
    print(tables.pilot(pilot_study(CHAPTER.parameters.pilot())).data)


if __name__ == "__main__":
    main()
