"""What a plan for a large network on many devices is reckoned from: measured on this machine, small."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from subspace_lib import data, models
from subspace_lib.models.transformer import Transformer
from subspace_lib.objective import Hessian, Objective

# The size of BERT-base (Devlin et al., 2019), on sentences of 128 tokens.
LARGE = {"width": 768, "heads": 12, "hidden": 3072, "layers": 12}
VOCABULARY, LENGTH, CLASSES = 30_522, 128, 2
BLOCK, REPEATS = 11, 5  # vectors in a block, and blocks that are timed, of the shared objective
RANKS = (1, 2)


def scale() -> dict[str, Any]:
    """The large Transformer's size, work and memory a sentence, and what a second rank brings."""
    torch.manual_seed(0)
    model = Transformer(VOCABULARY, LENGTH, CLASSES, **LARGE)
    return {"large": LARGE | {"length": LENGTH} | sentence(model), "ranks": shared("mnist5k")}


def sentence(model: torch.nn.Module) -> dict[str, Any]:
    """Of one more sentence: multiplications and additions, and bytes of graph.

    A block of products builds the graph once, ``graph_flops``; ``product_flops`` are those of a column.
    """
    one, two = (_worked(model, count) for count in (1, 2))
    more = {name: two[name] - one[name] for name in ("gradient", "column", "columns", "graph")}
    product = more["columns"] - more["column"]
    return {
        "parameters": one["parameters"],
        "gradient_flops": more["gradient"],
        "product_flops": product,
        "graph_flops": more["column"] - product,
        "graph": more["graph"],
    }


def _worked(model: torch.nn.Module, sentences: int) -> dict[str, Any]:
    """What a gradient and blocks of one and two columns take on so many sentences; bytes of the graph."""
    tokens = torch.randint(1, VOCABULARY, (sentences, LENGTH))
    labels = torch.arange(sentences) % CLASSES
    objective = Objective(model, "cross_entropy", tokens, labels, check=False, graph_memory=0)
    theta = objective.initial()
    block = torch.ones(2, objective.dim).T
    objective.hessian(theta) @ block[:, :1]  # measures the graph, by building one more
    found: dict[str, Any] = {"parameters": objective.dim}
    calls: dict[str, Callable[[], object]] = {
        "gradient": lambda: objective.gradient(theta),
        "column": lambda: objective.hessian(theta) @ block[:, :1],
        "columns": lambda: objective.hessian(theta) @ block,
    }
    for name, call in calls.items():
        with FlopCounterMode(display=False) as counter:
            call()
        found[name] = counter.get_total_flops()
    found["graph"] = sentences * objective.graph_bytes[Hessian]
    return found


def shared(dataset: str) -> list[dict[str, Any]]:
    """Hessian products a second of the MLP on all data, by one rank and by two, one thread each."""
    rows = []
    for count in RANKS:
        context = multiprocessing.get_context("spawn")
        with tempfile.TemporaryDirectory() as folder, context.Pool(count) as processes:
            ranks = [(rank, count, dataset, folder) for rank in range(count)]
            seconds = processes.starmap(_rank, ranks, chunksize=1)[0]
        rows.append({"ranks": count, "block": BLOCK, "products_a_second": BLOCK / seconds})
    return rows


def _rank(rank: int, count: int, dataset: str, folder: str) -> float:
    """Seconds of a block of products, as one of so many ranks; they meet in a folder."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count
    )
    loaded = data.load(dataset)
    network = models.build("mlp", loaded.shape, loaded.classes, seed=0)
    inputs, labels = loaded.train_inputs, loaded.train_labels
    objective = Objective(network, "mse", inputs, labels, together=True, chunk=1000)
    theta = objective.initial()
    columns = torch.randn(objective.dim, BLOCK, generator=torch.Generator().manual_seed(0))
    objective.hessian(theta) @ columns  # warm
    times = [_timed(objective, theta, columns) for _ in range(REPEATS)]
    dist.destroy_process_group()
    return statistics.median(times)


def _timed(objective: Objective, theta: Tensor, columns: Tensor) -> float:
    dist.barrier()
    begun = time.perf_counter()
    objective.hessian(theta) @ columns
    return time.perf_counter() - begun
