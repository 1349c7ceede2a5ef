"""About how much memory a run will take, before it is begun; what cannot fit is refused in a sentence."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

import torch

from subspace_lib import data, models
from subspace_lib.experiment import Experiment, RunDescription
from subspace_lib.objective import Hessian, Objective
from subspace_lib.own import Own, is_path
from subspace_lib.parameters import InvalidParameter
from subspace_lib.runs.amplification import Amplification
from subspace_lib.runs.curvature import Curvature
from subspace_lib.runs.pair import Pair
from subspace_lib.runs.simulation import (
    BRANCHES,
    RegressionSimulation,
    Simulation,
    ValleySimulation,
)
from subspace_lib.runs.substitute import Substitute
from subspace_lib.runs.training import COLUMNS, SPECTRUM
from subspace_lib.runs.trials import Trials

GIB = 2**30
LIBRARIES = 0.7 * GIB  # Python, PyTorch and the rest, before anything is computed
GRAPHS = 2**30  # bytes of graphs that are kept for later products (``Objective``)
KEPT = 6  # blocks of vectors that a solve keeps: three of a Krylov basis, three of their products
SPARE = 4  # vectors that each of them has beyond those wanted
NUMBER = 32  # bytes of a number in a list of Python's own
SINGLE = 50  # samples whose gradients are held at a time
FIT = 0.9  # of the machine's memory


def check(experiment: RunDescription) -> None:
    """Refuse a run that cannot fit, into the network's parameters or into memory.

    Raises:
        InvalidParameter: what it needs, what there is, and which parameter to change.
    """
    limit = available(experiment.device)
    try:
        wanted, dim = needed(experiment), _dimension(experiment)
    except Exception:
        if is_path(getattr(experiment, "model", None)):
            return  # the run itself says what is wrong with a network of the user's own
        raise
    if isinstance(experiment, Experiment) and experiment.k >= dim:
        raise InvalidParameter(
            f"k = {experiment.k} must be below {dim}, the number of parameters of {experiment.model}."
        )
    if not wanted <= FIT * limit:
        raise InvalidParameter(
            f"{experiment.method}: it needs about {wanted / GIB:,.1f} GiB of memory, and this machine has "
            f"{limit / GIB:,.1f}; choose smaller values of {largest(experiment)}."
        )


def _dimension(experiment: RunDescription) -> float:
    """Number of parameters of the network; without one there is no limit."""
    if not isinstance(experiment, Experiment):
        return math.inf
    return size(
        experiment.origin(experiment.model), experiment.origin(experiment.dataset), experiment.loss
    )[0]


def needed(experiment: RunDescription) -> float:
    """Bytes at the peak, within a factor of two where it is much."""
    return LIBRARIES + sum(parts(experiment).values())


def largest(experiment: RunDescription) -> str:
    """The parameters that make up most of it."""
    found = parts(experiment)
    return max(found, key=lambda name: found[name])


def parts(e: RunDescription) -> dict[str, float]:
    """Bytes by the parameters that decide on them."""
    if isinstance(e, Simulation):
        return _simulation(e)
    assert isinstance(e, Experiment)
    samples, origin = e.samples, e.origin(e.dataset)
    dim, graph = size(e.origin(e.model), origin, e.loss)
    solved = max(e.k + e.guards, SPECTRUM)
    if isinstance(e, Amplification):
        solved = max(solved, 2 * e.directions)
    rows = e.steps / e.record_every if e.record_every else 2.0
    found = {
        "chunk": graph * (3 * min(e.chunk, samples) + min(samples, GRAPHS / graph)),
        "model": dim * 4 * SINGLE,
        "k, guards or model": dim * 4 * KEPT * (solved + SPARE) * e.period,
        "dataset": samples * math.prod(_shape(origin)) * (2 if data.in_bytes(origin) else 16),
        "steps, or a larger record_every": rows * len(COLUMNS) * NUMBER,
    }
    if isinstance(e, Pair):
        found["average"] = dim * 4 * 2.0 * e.average
    if isinstance(e, Curvature):
        # ours keeps all probes at a time; PyHessian one, with its products
        found["lanczos_steps or probes"] = dim * 4.0 * e.lanczos_steps * max(e.probes, 2)
    if isinstance(e, Trials):
        found["trial_batches"] = dim * 4 * 3.0 * e.batches
    if isinstance(e, Substitute) and e.space == "batch_gradients":
        found["batches"] = dim * 4 * 2.0 * e.batches
    return found


def _simulation(e: Simulation) -> dict[str, float]:
    rows = e.steps / e.record_every * len(BRANCHES) * 4
    found = {"steps, or a larger record_every": rows * 6 * NUMBER}
    if isinstance(e, ValleySimulation):
        found["paths"] = e.paths * len(BRANCHES) * 2 * 8 * 6.0
        found["settle_paths or crosses"] = e.settle_paths * max(1, len(e.crosses)) * 2 * 2 * 8 * 6.0
    if isinstance(e, RegressionSimulation):
        drawn = max(e.paths, e.settle_paths) * e.batch_size
        found["batch_size, paths, settle_paths or dimension"] = drawn * e.dimension * 8 * 2.0
        found["samples or dimension"] = e.samples * e.dimension * 8 * 4.0
        found["settle_steps or dimension"] = e.settle_steps * e.dimension * 8 * 2.0
    return found


def _shape(dataset: data.Name) -> tuple[int, ...]:
    """Of the tensor of one input: of a sentence its positions, not the vocabulary."""
    shape = data.shape(dataset)
    return shape[:1] if data.tokens(dataset) else shape


@cache
def size(model: str | Own, dataset: data.Name, loss: str) -> tuple[int, float]:
    """Number of parameters, and bytes of the graph of a product for each sample, measured on a few."""
    network = models.build(model, data.shape(dataset), data.classes(dataset), 0)
    kind = torch.int64 if data.tokens(dataset) else torch.float32
    kept = {}
    for count in (2, 6):
        inputs = torch.zeros(count, *_shape(dataset), dtype=kind)
        labels = torch.zeros(count, dtype=torch.int64)
        objective = Objective(network, loss, inputs, labels, chunk=count, check=False)
        theta = objective.initial()
        objective.hessian(theta) @ torch.ones_like(theta)[:, None]
        kept[count] = count * objective.graph_bytes[Hessian]
    return len(theta), max(1.0, (kept[6] - kept[2]) / 4)


def available(device: str) -> float:
    """Bytes of memory of the device: all of it, whoever uses it now; of a container what it may have."""
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[1])
    found = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdecimal():
        found = min(found, float(text))
    return found
