"""``python -m subspace_lib.chapters``: computes the runs that the book shows; ``--list`` names them.

What is stored already is loaded, what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Sequence
from typing import get_args

from subspace_lib.chapters import chapter, registered
from subspace_lib.chapters.kit.chapter import Chapter, Stages
from subspace_lib.experiment import Device, missing_device
from subspace_lib.parameters import Description, InvalidParameter
from subspace_lib.results.store import COMMITTED
from subspace_lib.results.workers import cores, pool


def stages(chapters: Sequence[Chapter], device: str = "cpu") -> Stages:
    """The tasks of all chapters: the first stages of all, then the second, and so on."""
    own = [chapter.tasks(on(device, chapter.parameters)) for chapter in chapters]
    together = itertools.zip_longest(*own, fillvalue=())
    return [list(itertools.chain.from_iterable(stage)) for stage in together]


def on(device: str, parameters: Description) -> Description:
    """The parameters, with what they describe computed there where they have a say in that."""
    if "device" not in type(parameters).model_fields:
        return parameters
    return parameters.model_copy(update={"device": device})


def listing(chapters: Sequence[Chapter]) -> str:
    """A line for each chapter: its name, its claims, and how many pieces its runs come in."""
    return "\n".join(
        f"{c.name:24} {', '.join(claim.id for claim in c.claims) or '-':12} "
        f"{sum(map(len, c.tasks(c.parameters)))} tasks"
        for c in chapters
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute every run of the book whose results are missing, several at a time."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.chapters", description=main.__doc__
    )
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="all if none is named")
    parser.add_argument("--list", action="store_true", help="name the chapters, compute nothing")
    parser.add_argument(
        "--jobs", type=int, default=cores(), help="processes, of one share of the cores each"
    )
    parser.add_argument(
        "--device", choices=get_args(Device), default="cpu", help="cuda: all processes share a GPU"
    )
    options = parser.parse_args(arguments)
    if lacking := missing_device(options.device):
        parser.error(lacking)
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs} must be at least 1 process.")
    try:
        wanted = [chapter(name) for name in options.chapters] or list(registered().values())
    except InvalidParameter as error:
        parser.error(str(error))
    if options.list:
        print(listing(wanted))
        return
    os.environ.setdefault("SUBSPACE_RESULTS", str(COMMITTED))  # also of the processes that compute
    with pool(options.jobs) as workers:
        tasks = [task for stage in stages(wanted, options.device) for task in stage]
        for done in [workers.submit(study, parameters) for study, parameters in tasks]:
            done.result()


if __name__ == "__main__":
    main()
