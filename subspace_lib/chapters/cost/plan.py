"""A plan for a large Transformer on several GPUs, reckoned from what this machine has measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from subspace_lib.chapters.kit import says

# NVIDIA's data sheet of the H100 SXM: memory, float32 without tensor cores, NVLink in each direction.
MEMORY, PEAK, LINK = 80e9, 67e12, 450e9
NETWORK = 12.5e9  # bytes a second of a network of 100 Gbit/s, between machines
SHARE = 0.4  # of the data sheet's rate that is reached: an assumption
DEVICES = 8
SENTENCES = 67_349  # all training phrases of GLUE's SST-2
BATCH = 256  # sentences of a step
CHUNK = 16  # sentences in one graph
STATE = 5  # vectors: θ, gradient, update, and Adam's two
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Line:
    """What is reckoned, from what, and what comes out, in the units of ``text``."""

    name: str
    how: str
    text: str


@dataclass(frozen=True)
class Plan:
    """What the network needs on each device, and how long what takes.

    Attributes:
        vector: bytes of one vector (D,); tracker: of all that a refresh holds at its peak.
        graph: bytes of the graph of a chunk; total: of everything on a device.
        product: seconds of a Hessian product on all sentences; step: of a minibatch's gradient; refresh:
            of k + 1 products on the same graphs, the smallest that certifies.
        traffic: bytes that a device sends for a product; all receive as much.
    """

    parameters: int
    vector: float
    vectors: float
    tracker: float
    graph: float
    total: float
    product: float
    step: float
    refresh: float
    traffic: float

    @property
    def largest(self) -> float:
        """Parameters of the largest network whose vectors fit a device beside the same graph."""
        return (MEMORY - self.graph) / (FLOAT * (STATE + self.vectors))

    @property
    def steps(self) -> float:
        """Steps of SGD in the time of one refresh."""
        return self.refresh / self.step


def plan(found: dict[str, Any]) -> Plan:
    """The plan, from ``results/benchmark.json``: its parts "scale" and "memory"."""
    large, memory = found["scale"]["measured"]["large"], found["memory"]["measured"]
    dim, vectors = large["parameters"], memory["second pass"]
    vector, graph = FLOAT * dim, CHUNK * large["graph"]
    rate = SHARE * PEAK * DEVICES
    return Plan(
        parameters=dim,
        vector=vector,
        vectors=vectors,
        tracker=vectors * vector,
        graph=graph,
        total=(STATE + vectors) * vector + graph,
        product=SENTENCES * large["product_flops"] / rate,
        step=BATCH * large["gradient_flops"] / rate,
        refresh=SENTENCES
        * (large["graph_flops"] + (memory["k"] + 1) * large["product_flops"])
        / rate,
        traffic=2 * (DEVICES - 1) / DEVICES * vector,
    )


def lines(found: dict[str, Any]) -> list[Line]:
    """The rows of the page's table."""
    p, large = plan(found), found["scale"]["measured"]["large"]
    work, graph = (large[f"{n}_flops"] / large["gradient_flops"] for n in ("product", "graph"))
    columns = found["memory"]["measured"]["k"] + 1
    return [
        Line("parameters D", "measured", f"{p.parameters / 1e6:,.1f} million"),
        Line("one vector", "4 bytes a parameter", gigabytes(p.vector)),
        Line(
            "the tracker at its peak",
            f"measured: {p.vectors:.0f} vectors (k {found['memory']['measured']['k']})",
            gigabytes(p.tracker),
        ),
        Line("θ, gradient, update, Adam's state", f"{STATE} vectors", gigabytes(STATE * p.vector)),
        Line(
            f"graph of a chunk of {CHUNK} sentences",
            f"measured: {large['graph'] / 1e6:,.0f} MB a sentence of {large['length']} tokens",
            gigabytes(p.graph),
        ),
        Line("memory of each GPU", f"the sum; it has {gigabytes(MEMORY)}", gigabytes(p.total)),
        Line(
            f"a step of {BATCH} sentences",
            f"counted: {large['gradient_flops'] / 1e9:,.0f} GFLOP a sentence; {DEVICES} GPUs at "
            f"an assumed {SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s each",
            seconds(p.step),
        ),
        Line(
            f"a Hessian product on {SENTENCES:,} sentences",
            f"counted: {work:.1f} gradients per product, and {graph:.1f} for the graph, once per block of "
            "vectors",
            seconds(p.product),
        ),
        Line("a refresh", f"k + 1 = {columns} products, and the graphs", seconds(p.refresh)),
        Line(
            "sent by each GPU for a product",
            f"ring: 2 · {DEVICES - 1}/{DEVICES} of a vector",
            gigabytes(p.traffic),
        ),
        Line("… between GPUs of one machine", f"{LINK / 1e9:.0f} GB/s", seconds(p.traffic / LINK)),
        Line("… between machines", f"{NETWORK / 1e9:.1f} GB/s", seconds(p.traffic / NETWORK)),
    ]


def answers(found: dict[str, Any]) -> list[str]:
    """What the table means, in sentences that its numbers choose."""
    p = plan(found)
    fits = says.whether(p.total < MEMORY, "fits each GPU whole", "does not fit a GPU")
    moved, beside = p.traffic / NETWORK / p.product, p.traffic / NETWORK / p.step
    told = [
        f"Everything {fits}: each holds all vectors and its share of the sentences. Up to about "
        f"{p.largest / 1e6:,.0f} million parameters would; beyond that the vectors have to be cut up over "
        "the GPUs, which this library does not do.",
        f"Between machines the sum over processes takes {moved:.1%} of the time of computing a Hessian "
        f"product, and {beside:.0%} of that of computing a step of SGD, whose sum is as large: "
        + says.whether(
            moved < 0.1 <= beside,
            "the connection slows the steps, not the subspace.",
            says.whether(
                moved < 0.1, "the connection limits neither.", "the connection limits both."
            ),
        ),
        f"A refresh takes as long as {p.steps:,.0f} steps of SGD. So it must be rare, or see fewer "
        "sentences: its cost is proportional to them. Chapter 08 asks, for the MLP, how few samples "
        "still give the subspace.",
    ]
    ranks = {row["ranks"]: row["products_a_second"] for row in found["scale"]["measured"]["ranks"]}
    if len(ranks) > 1:
        most = max(ranks)
        told.append(
            f"On this book's machine {most} processes (ranks) of one thread each make "
            f"{ranks[most] / ranks[1]:.2f} times as many Hessian products a second as one (MLP, blocks of "
            f"{found['scale']['measured']['ranks'][0]['block']})."
        )
    return told


def gigabytes(count: float) -> str:
    """Bytes in GB, of 10⁹."""
    return f"{count / 1e9:,.2f} GB" if count < 1e10 else f"{count / 1e9:,.0f} GB"


def seconds(time: float) -> str:
    """A time in the unit that reads well."""
    if time < 1:
        return f"{1000 * time:,.1f} ms"
    return f"{time:,.1f} s" if time < 120 else f"{time / 60:,.0f} min"
