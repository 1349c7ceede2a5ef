"""The Hessian and the Gauss–Newton matrix of an objective, given by their block products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from subspace_lib.linalg.matmul import fast_matmul
from subspace_lib.objective.network import settled
from subspace_lib.objective.samples import Rows

if TYPE_CHECKING:
    from subspace_lib.objective.objective import Objective


class Graph(NamedTuple):
    """What the products of a matrix on a chunk are made from; the tensors hold their autograd graphs.

    Attributes:
        loss, gradient: on the chunk, (D,), without a graph.
        leaves: the parameters, as the graph knows them.
        derivatives: what is differentiated once more for a product, one for each of ``rows_of_theta``.
        others: what else a product needs.
    """

    loss: Tensor
    gradient: Tensor
    leaves: Sequence[Any]
    derivatives: list[tuple[int, Tensor]]
    others: tuple[Any, ...] = ()


class Hessian:
    """H(θ) of an ``Objective``, given by its block products: ``hessian @ V`` is (D, m) for V (D, m).

    A vector (D,) is multiplied too.

    Products come from double backward. The graph of the gradient is built chunk by chunk and kept for
    later products at the same θ, as far as ``graph_memory`` goes; what is left is built anew for each
    block. ``loss`` and ``gradient`` (over the same data) fall out of every product.

    Args:
        objective, theta: whose, and where.
        samples: of a fixed subset of the data (``Objective.subset``); None for all of them.

    Raises:
        ValueError: θ is not (D,) in the objective's dtype and on its device, or a block does not fit it.

    Source: Pearlmutter, Fast exact multiplication by the Hessian, 1994.
    """

    def __init__(self, objective: Objective, theta: Tensor, samples: int | None = None):
        objective.check_vector(theta)
        self.objective = objective
        with torch.inference_mode(False):
            self.theta = theta.detach().clone()
        self.loss: Tensor | None = None
        self.gradient: Tensor | None = None
        self._kept: dict[int, Graph] = {}  # by the first sample of their chunk
        self._held = objective.network.held()
        self._free = float(objective.graph_memory)  # bytes
        whole = len(objective)
        self._samples = whole if samples is None else min(samples, whole)
        self._rows = objective.subset(self._samples) if self._samples < whole else None

    @property
    def kept(self) -> float:
        """Bytes of the graphs that are kept for later products."""
        return self.objective.graph_memory - self._free

    def on(self, samples: int) -> Hessian:
        """The Hessian at the same θ of the loss on a fixed subset of the data.

        Raises:
            ValueError: the loss is neither a mean over samples nor their sum: some do not tell of the rest.
        """
        if not self.objective.additive:
            raise ValueError(
                "The loss is neither a mean over its samples nor their sum, so that it cannot be estimated "
                "from some of them; take all: subset = 0, correction = 0."
            )
        return type(self)(self.objective, self.theta, samples)

    @fast_matmul()
    @settled(second=True)
    def __matmul__(self, block: Tensor) -> Tensor:
        objective, share = self.objective, self._samples / len(self.objective)
        objective.check_vector(block, block=True)
        if block.ndim == 1:
            return (self @ block[:, None])[:, 0]
        if self._rows is None:
            objective.products += block.shape[1]
        objective.gradient_equivalents += objective.PRODUCT_COST * block.shape[1] * share
        before = objective.gradient_equivalents
        columns = block.detach().T.contiguous()
        result = torch.zeros_like(columns)
        loss, gradient = self.theta.new_zeros(()), torch.zeros_like(self.theta)
        with objective.network.at(self.theta):
            for part, weight in objective.weights(self._rows):
                graph = self._graph(part, (part.stop - part.start) / self._samples * share)
                loss = loss + weight * graph.loss
                gradient = gradient + weight * graph.gradient
                self.add_products(graph, columns, weight, result)
        if objective.ranks.count > 1:
            graphs = self.theta.new_tensor(objective.gradient_equivalents - before)
            objective.ranks.add_up(result, loss, gradient, graphs)
            objective.gradient_equivalents = before + float(graphs)
        self.loss, self.gradient = loss, gradient
        return result.T

    def add_products(self, graph: Graph, columns: Tensor, weight: float, result: Tensor) -> None:
        """result (m, D) += weight · the products of columns (m, D) on a chunk."""
        if not graph.derivatives:  # the loss is linear in θ
            return
        numbers = [i for i, _ in graph.derivatives]
        slopes = [slope for _, slope in graph.derivatives]
        batched = self.objective.batches_products(self, graph, columns)
        for i, column in [(slice(None), columns)] if batched else list(enumerate(columns)):
            pieces = self.objective.network.parts(column)
            products = torch.autograd.grad(
                slopes,
                graph.leaves,
                [pieces[n] for n in numbers],
                retain_graph=True,
                is_grads_batched=batched,
                allow_unused=True,
            )
            self.add_pieces(products, weight, result[i])

    def add_pieces(self, products: Sequence[Tensor | None], weight: float, result: Tensor) -> None:
        """result (…, D) += weight · derivatives by each of the parameters."""
        sizes = self.objective.network.sizes
        for piece, product in zip(result.split(sizes, -1), products, strict=True):
            if product is not None:
                piece.add_(product.reshape(piece.shape), alpha=weight)

    def _graph(self, part: slice, share: float) -> Graph:
        """Loss and gradient on a chunk, which makes up this share of all data, with their graph."""
        objective = self.objective
        if self._held != (held := objective.network.held()):
            self._kept, self._held = {}, held  # graphs of another function than today's
            self._free = float(objective.graph_memory)
        if part.start in self._kept:
            return self._kept[part.start]
        rows = part if self._rows is None else self._rows[part]
        objective.gradient_equivalents += objective.GRAPH_COST * share
        graph = objective.measured(self, rows, part.stop - part.start)
        size = (part.stop - part.start) * objective.graph_bytes[type(self)]
        size += 2 * objective.dim * self.theta.element_size()  # its gradient, and that with a graph
        if size <= self._free:
            self._free -= size
            self._kept[part.start] = graph
        return graph

    def build(self, rows: Rows) -> Graph:
        """Loss and gradient on some samples, with the graph for products; θ must be in the model."""
        network = self.objective.network
        inputs, labels = self.objective.samples.rows(rows)
        loss = network.value(inputs, labels)
        leaves = [get_gradient_edge(p) for p in network.parameters]
        found = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
        slopes = [(i, g) for i, g in enumerate(found) if g is not None and g.requires_grad]
        gradient = network.flat([None if g is None else g.detach() for g in found])
        return Graph(loss.detach(), gradient, leaves, slopes)


class GaussNewton(Hessian):
    """G(θ) = (1/N) Σ_i J_iᵀ ∇²ℓ_i J_i with J_i = ∂f(x_i)/∂θ: the part of H(θ) without ∂²f/∂θ².

    Positive semidefinite where ℓ is convex in f. A product is J v by forward mode, or by two backward
    passes where forward mode does not exist or does not see all of θ; then one backward pass. It is exact
    and counted like a Hessian product.

    Raises:
        ValueError: the model's output is no tensor, or the loss depends on θ by other ways than f.

    Source: Schraudolph, Fast curvature matrix-vector products for second-order gradient descent, 2002.
    """

    def build(self, rows: Rows) -> Graph:
        """As in ``Hessian``."""
        network = self.objective.network
        inputs, labels = self.objective.samples.rows(rows)
        outputs = network.outputs(inputs)
        if not isinstance(outputs, Tensor):
            raise ValueError(
                f"The model returns a {type(outputs).__name__}; a Gauss–Newton matrix needs one tensor: "
                "wrap the model so that it returns that."
            )
        leaf = outputs.detach().requires_grad_()
        loss = network.loss(leaf, labels)
        leaves = [get_gradient_edge(p) for p in network.parameters]
        (slope, *apart) = torch.autograd.grad(
            loss, [leaf, *network.parameters], create_graph=True, allow_unused=True
        )
        if any(g is not None for g in apart):
            raise ValueError(
                "The loss depends on the parameters by other ways than the model's outputs (a "
                "regularizer?), which a Gauss–Newton matrix does not hold; use hessian(theta)."
            )
        found = torch.autograd.grad(
            outputs, leaves, slope.detach(), retain_graph=True, allow_unused=True
        )
        forward = self.objective.has_forward_mode(self.theta)
        back = () if forward else self._backward_twice(outputs, leaves)
        bent = [(0, slope)] if slope.requires_grad else []
        return Graph(
            loss.detach(), network.flat(found), leaves, bent, (inputs, outputs, leaf, *back)
        )

    def _backward_twice(self, outputs: Tensor, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """u (n, C) and Jᵀu, linear in u, so that its derivative along v is J v."""
        along = torch.zeros_like(outputs, requires_grad=True)
        slopes = torch.autograd.grad(outputs, leaves, along, create_graph=True, allow_unused=True)
        return along, slopes

    def add_products(self, graph: Graph, columns: Tensor, weight: float, result: Tensor) -> None:
        """As in ``Hessian``, one column after the other."""
        inputs, outputs, leaf, *back = graph.others
        for column, target in zip(columns, result, strict=True) if graph.derivatives else ():
            if back:
                change = jacobian_product(back[0], back[1], self.objective.network.parts(column))
            else:
                change = self.objective.forward(self.theta, inputs, column)
            ((_, slope),) = graph.derivatives
            (bent,) = torch.autograd.grad(slope, leaf, change, retain_graph=True)
            products = torch.autograd.grad(
                outputs, graph.leaves, bent, retain_graph=True, allow_unused=True
            )
            self.add_pieces(products, weight, target)


def jacobian_product(
    along: Tensor, slopes: Sequence[Tensor | None], pieces: list[Tensor]
) -> Tensor:
    """J v from Jᵀu, given by its pieces with their graph in u: the derivative of vᵀJᵀu by u."""
    known = [(s, p) for s, p in zip(slopes, pieces, strict=True) if s is not None]
    (change,) = torch.autograd.grad(
        [s for s, _ in known],
        along,
        [p for _, p in known],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return change
