"""``torchrun --nproc-per-node 2 -m subspace_lib.results.together NAME=VALUE …``: one run, many devices.

Each process takes its share of the samples of every gradient and every Hessian product (``Ranks``); rank 0
keeps the results, as for any other run. How many have computed it stands in the provenance; it changes
rounding only, so the description and its key do not say it. On GPUs process i takes ``cuda:i`` of its
machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist

from subspace_lib.experiment import Experiment
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results import memory
from subspace_lib.results.files import StoreError
from subspace_lib.results.store import Store, resumed

STORED = b"stored"  # in the place of a checkpoint's content


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute one training run, whose parameters are given as NAME=VALUE, on all ranks together."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        experiment = Experiment.parse(**dict(_named(word) for word in words))
        memory.check(
            experiment
        )  # before the ranks are joined: each measures a few samples by itself
    except InvalidParameter as error:
        raise SystemExit(f"InvalidParameter: {error}") from None
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    begin(experiment.device)
    try:
        status = compute(experiment, Store())
    except StoreError as error:
        raise SystemExit(f"StoreError: {error}") from None
    else:
        if dist.get_rank() == 0:
            print(f"{experiment.key}: {status}, {dist.get_world_size()} ranks")
    finally:
        dist.destroy_process_group()


def _named(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign:
        raise InvalidParameter(f"{word[:80]!r} is no parameter; write it as NAME=VALUE.")
    return name, value


def begin(device: str) -> None:
    """Join the other ranks; torchrun has told each who it is."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")


def compute(experiment: Experiment, store: Store) -> str:
    """The run's status: loaded, or computed by all ranks and kept by rank 0.

    All go on from the checkpoint of rank 0, and from then on take the same steps.
    """
    device = experiment.device
    if dist.get_rank() == 0:  # what it reads under its lock is what the others get
        tell = lambda kept: _from_first(STORED if kept is None else kept, device)  # noqa: E731
        return store.run(experiment, begin=tell).status
    content = _from_first(b"", device)
    if content == STORED:
        return ""
    run = resumed(experiment, content)
    run.train()
    return run.status


def _from_first(content: bytes, device: str) -> bytes:
    """Rank 0's bytes, on every rank."""
    size = torch.tensor([len(content)], device=device)
    dist.broadcast(size, 0)
    buffer = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if dist.get_rank() == 0 and content:
        buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    if len(buffer):
        dist.broadcast(buffer, 0)
    return bytes(buffer.cpu().numpy())


if __name__ == "__main__":
    main()
