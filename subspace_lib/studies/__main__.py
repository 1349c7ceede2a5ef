"""``python -m subspace_lib.studies``: computes all studies that the book shows.

What is stored already is loaded, what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

from subspace_lib.experiment import Description
from subspace_lib.studies import BOOK
from subspace_lib.studies.alignment import alignment_study
from subspace_lib.studies.base import compute
from subspace_lib.studies.batches import batch_study
from subspace_lib.studies.edge import edge_study
from subspace_lib.studies.sam import sam_study
from subspace_lib.studies.switch import replication_study, switch_study
from subspace_lib.studies.toy import toy_study

Task = tuple[Callable[[Description], object], Description]


def tasks(chapter: str) -> tuple[list[Task], list[Task]]:
    """The chapter's runs in pieces that can be computed at the same time, and what is to come last.

    What a study asks of its first seed alone, it asks of the one seed that it is given here: so seeds
    are computed without it, and the whole study adds it.
    """
    whole = BOOK[chapter]

    def by_seed(**changes) -> list[Description]:
        return [whole.model_copy(update={"seeds": (seed,), **changes}) for seed in whole.seeds]

    if chapter == "01_dominant_subspace":
        return [(alignment_study, p) for p in by_seed(classes=())], [(alignment_study, whole)]
    if chapter == "03_full_batch_gd":
        core = [(batch_study, p) for p in by_seed(batch_sizes=())]
        return core, [(batch_study, p) for p in by_seed()]
    if chapter == "04_valley":
        return [(toy_study, p) for p in by_seed()], []
    if chapter == "05_edge_of_stability":
        return [(switch_study, p) for p in by_seed()], [(edge_study, whole)]
    if chapter == "07_momentum_adam":
        return [(compute, run) for run in whole.runs().values()], []
    if chapter == "06_sam":
        edge = whole.at_edge()
        at_edge = [
            (switch_study, edge.model_copy(update={"seeds": (seed,)})) for seed in edge.seeds
        ]
        return [*at_edge, *[(switch_study, p) for p in by_seed()]], [(sam_study, whole)]
    return [(switch_study, p) for p in by_seed()], [(replication_study, whole)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute every study of the book whose results are missing, several runs at a time."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.studies", description=main.__doc__
    )
    parser.add_argument(
        "chapters", nargs="*", metavar="CHAPTER", help=f"of {', '.join(BOOK)}; all if none is named"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes, of one share of the cores each"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.chapters) - set(BOOK)
    if unknown:
        parser.error(f"{', '.join(unknown)} is not a chapter with runs: {', '.join(BOOK)}")
    pieces = [tasks(chapter) for chapter in options.chapters or BOOK]
    todo = [task for first, _ in pieces for task in first]
    todo += [task for _, last in pieces for task in last]
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    # One thread a process beats all threads in one: minibatch steps are too small to share.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, spawn, torch.set_num_threads, (threads,)) as pool:
        for done in [pool.submit(study, parameters) for study, parameters in todo]:
            done.result()


if __name__ == "__main__":
    main()
