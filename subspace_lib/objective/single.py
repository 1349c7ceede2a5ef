"""Derivatives of single samples and single outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from subspace_lib.linalg.matmul import fast_matmul
from subspace_lib.objective.curvature import jacobian_product
from subspace_lib.objective.network import settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from subspace_lib.objective.losses import Loss, Weighing
    from subspace_lib.objective.network import Network
    from subspace_lib.objective.samples import Loaded, Samples


class SingleSamples:
    """What an ``Objective`` knows of its single samples, ℓ_i such that L is their mean."""

    network: Network
    samples: Samples | Loaded
    weighing: Weighing
    loss: Loss
    dim: int
    gradient_equivalents: float
    additive: bool
    check_vector: Callable[..., None]
    _forward_mode: bool | None = None
    _total: float | None = None  # what all samples count

    def __len__(self) -> int:
        return len(self.samples)

    @fast_matmul()
    @settled()
    def weighted_gradient(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Σ_i w_i ∇ℓ_i(θ) over all data, for weights (N,) of any sign; shape (D,)."""
        self.check_vector(theta)
        if weights.shape != (len(self),):
            raise ValueError(
                f"The weights have the shape {tuple(weights.shape)}; give one for each of the {len(self)} "
                "samples."
            )
        self.gradient_equivalents += 1
        total = torch.zeros_like(theta)
        with self.network.at(theta):
            for part in self.samples.parts():
                inputs, labels, scale = self._scaled(part)
                outputs = self.network.outputs(inputs)
                losses = self._each(outputs, labels, scale)
                total += self.network.gradient(losses @ weights[part])
        return total

    @fast_matmul()
    @settled()
    def gradient_variance(self, theta: Tensor, basis: Tensor) -> tuple[Tensor, float]:
        """How the gradients of single samples scatter: S = (1/N) Σ_i (∇ℓ_i − g)(∇ℓ_i − g)ᵀ.

        Args:
            basis: (D, m), orthonormal columns v_j.

        Returns:
            v_jᵀ S v_j, shape (m,), and the trace of S. A minibatch of B samples drawn without
            replacement has the covariance (N − B)/((N − 1) B) · S.
        """
        self.check_vector(theta)
        self.check_vector(basis, block=True)
        self.gradient_equivalents += 3  # measured on the MNIST-5k MLP
        mean, squares = torch.zeros_like(theta), 0.0
        along = torch.zeros(basis.shape[1], dtype=torch.float64, device=basis.device)
        for part in self.samples.parts(50):  # as many gradients of length D are held at a time
            gradients = self._gradients(theta, part)
            mean += gradients.sum(0) / len(self)
            squares += float(gradients.double().square().sum()) / len(self)
            along = along + (gradients @ basis).double().square().sum(0) / len(self)
        return along - (basis.T @ mean).double().square(), squares - float(
            mean.double() @ mean.double()
        )

    @fast_matmul()
    @settled(second=True)
    def slopes(self, theta: Tensor, block: Tensor) -> Tensor:
        """v_jᵀ∇ℓ_i(θ) of every sample i along every column v_j of a block (D, m); shape (N, m).

        By forward mode: a pass over the data for each column, and no gradient of a single sample is held.
        Where forward mode does not exist, by two backward passes.
        """
        self.check_vector(theta)
        self.check_vector(block, block=True)
        self.gradient_equivalents += block.shape[1]
        found = theta.new_empty(len(self), block.shape[1])
        with self.network.at(theta):
            for part in self.samples.parts():
                along = self._along(theta, part)
                for j, column in enumerate(block.T):
                    found[part, j] = along(column.contiguous())
        return found

    def _along(self, theta: Tensor, part: slice) -> Callable[[Tensor], Tensor]:
        """vᵀ∇ℓ_i of the samples of a chunk, as a function of v; within ``at(θ)``."""
        inputs, labels, scale = self._scaled(part)
        network = self.network
        if self.has_forward_mode(theta):

            def losses(t: Tensor) -> Tensor:
                return self._each(network.functional(t, inputs), labels, scale)

            def forward(column: Tensor) -> Tensor:
                with torch.no_grad():
                    return torch.func.jvp(losses, (theta,), (column,))[1]

            return forward
        single = self._each(network.outputs(inputs), labels, scale)
        if not single.requires_grad:  # nothing here counts
            return lambda column: single
        along = torch.zeros_like(single, requires_grad=True)
        pulled = torch.autograd.grad(
            single, network.parameters, along, create_graph=True, allow_unused=True
        )
        return lambda column: jacobian_product(along, pulled, network.parts(column))

    @fast_matmul()
    @settled()
    def mean_output_gradients(self, theta: Tensor) -> Tensor:
        """∇ mean_i f_c(x_i) for each output c, (D, C), in the dtype of θ; no labels, no Hessian.

        The leading eigenvectors of a classifier's Hessian lie near their span (Fort & Ganguli 2019): see
        chapters 01 and 11. Costs one pass forward and C back, counted as C gradients.

        Raises:
            ValueError: θ is not (D,), or the outputs are not (N, C).
        """
        self.check_vector(theta)
        return self._output_sums(theta, None) / len(self)

    @fast_matmul()
    @settled()
    def class_output_gradients(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """∇ mean_i f_c (D, C), and ∇ mean over each class a of f_c (D, C²), class by class.

        Labels must be class numbers (N,) int64; of a class without samples there are no columns, and
        samples with the label that the loss ignores take no part.

        Raises:
            ValueError: the labels are something else, or the outputs are not (N, C).
        """
        self.check_vector(theta)
        labels = [self.samples.rows(part)[1] for part in self.samples.parts()]
        if not all(isinstance(y, Tensor) and y.ndim == 1 for y in labels) or (
            labels[0].is_floating_point()
        ):
            raise ValueError(
                "class_output_gradients needs labels (N,) that are class numbers, int64."
            )
        present, counts = torch.cat(labels).unique(return_counts=True)
        if self.weighing.ignored is not None:
            counted = present != self.weighing.ignored
            present, counts = present[counted], counts[counted]
        by_class = self._output_sums(theta, present).reshape(len(theta), len(present), -1)
        return by_class.sum(1) / int(counts.sum()), (by_class / counts.to(theta)[:, None]).flatten(
            1
        )

    def _output_sums(self, theta: Tensor, present: Tensor | None) -> Tensor:
        """Σ over the samples of each class present of ∇ f_c, (D, classes · C); None: over all, (D, C)."""
        sums: Tensor | None = None
        with self.network.at(theta):
            for part in self.samples.parts():
                inputs, y = self.samples.rows(part)
                outputs = self.network.outputs(inputs)
                if not isinstance(outputs, Tensor) or outputs.ndim != 2:
                    found = tuple(getattr(outputs, "shape", ())) or type(outputs).__name__
                    raise ValueError(
                        f"The model's outputs are {found}; gradients of mean outputs need (samples, C)."
                    )
                every = torch.ones_like(outputs[:, :1])
                member = every if present is None else (y[:, None] == present).to(every)
                block = self._backward_of_sums(outputs, member)
                sums = block if sums is None else sums + block
        assert sums is not None  # no data, no objective
        self.gradient_equivalents += sums.shape[1]
        return sums

    def _backward_of_sums(self, outputs: Tensor, onehot: Tensor) -> Tensor:
        """∇ Σ_{i of class a} f_c, (D, classes · C), class by class."""
        heads = torch.eye(outputs.shape[1], device=outputs.device, dtype=outputs.dtype)
        columns = []
        for a in range(onehot.shape[1]):
            for head in heads:
                found = torch.autograd.grad(
                    outputs,
                    self.network.parameters,
                    onehot[:, a, None] * head,
                    retain_graph=True,
                    allow_unused=True,
                )
                columns.append(self.network.flat(found))
        return torch.stack(columns, 1)

    def _regularized(self, theta: Tensor, rows: slice) -> bool:
        """Whether the loss depends on θ by other ways than the outputs."""
        inputs, labels = self.samples.rows(rows)
        with torch.enable_grad():
            outputs = tree_map(lambda t: t.detach(), self.network.outputs(inputs))
            return self.loss(outputs, labels).requires_grad

    def forward(self, theta: Tensor, inputs: Any, column: Tensor) -> Tensor:
        """J v of the outputs, by forward mode."""
        return torch.func.jvp(lambda t: self.network.functional(t, inputs), (theta,), (column,))[1]

    def has_forward_mode(self, theta: Tensor) -> bool:
        """Whether forward mode exists for the model, and gives what two backward passes give.

        Tried once, on two samples. Forward mode puts θ where the model's own attributes are: what is
        reached by other ways is missing there.
        """
        if self._forward_mode is None:
            network, part = self.network, self.samples.parts()[0]
            first = slice(part.start, min(part.stop, part.start + 2))
            inputs = tree_map(lambda t: t[first], self.samples.rows(part)[0])
            generator = torch.Generator(device="cpu").manual_seed(0)
            column = torch.randn(self.dim, generator=generator, device="cpu").to(theta)
            with torch.enable_grad():
                outputs = network.outputs(inputs)
                along = torch.zeros_like(outputs, requires_grad=True)
                pulled = torch.autograd.grad(
                    outputs, network.parameters, along, create_graph=True, allow_unused=True
                )
                right = jacobian_product(along, pulled, network.parts(column))
            try:
                change = self.forward(theta, inputs, column)
                same = bool((change - right).norm() <= 1e-3 * right.norm())
                self._forward_mode = same and not self._regularized(theta, first)
            except (RuntimeError, NotImplementedError, TypeError, ValueError):
                self._forward_mode = False
        return self._forward_mode

    def _scaled(self, part: slice) -> tuple[Any, Any, Tensor | None]:
        """Inputs, labels and the factors of single losses, of a chunk."""
        if not self.additive:
            raise ValueError(
                "The loss is not a mean over its samples, so that a single sample has no loss of its own; "
                "use gradient(theta) and hessian(theta), which need none."
            )
        inputs, labels = self.samples.rows(part)
        weighing = self.weighing
        if weighing.uniform:
            return inputs, labels, None
        if self._total is None:
            rows = [(p, self.samples.rows(p)[1]) for p in self.samples.parts()]
            self._total = sum(weighing.amount(y, _size(p)) for p, y in rows)
        return inputs, labels, weighing.scale(labels, _size(part), self._total, len(self))

    def _each(self, outputs: Any, labels: Any, scale: Tensor | None = None) -> Tensor:
        """Losses ℓ_i of the single samples (n,), whatever the loss is."""
        if scale is None:
            return self._singly(outputs, labels)
        found = outputs.new_zeros(len(scale))
        counts = torch.nonzero(scale)[:, 0]  # what is ignored has no loss: 0/0
        if len(counts):
            some = self._singly(outputs[counts], labels[counts])
            found = found.index_put((counts,), some * scale[counts].to(some))
        return found

    def _singly(self, outputs: Any, labels: Any) -> Tensor:
        try:
            return torch.func.vmap(self._one)(outputs, labels)
        except RuntimeError:  # an operation of the loss does not know vmap
            count = len(tree_leaves(labels)[0])
            rows = [tree_map(lambda t, i=i: t[i], (outputs, labels)) for i in range(count)]
            return torch.stack([self._one(*row) for row in rows])

    def _one(self, outputs: Any, labels: Any) -> Tensor:
        return self.loss(_alone(outputs), _alone(labels))

    def _gradients(self, theta: Tensor, part: slice) -> Tensor:
        """∇ℓ_i of the samples of a chunk, (n, D): side by side if the model allows it, or one by one."""
        inputs, labels, scale = self._scaled(part)
        with self.network.at(theta):
            gradients = None
            if self.has_forward_mode(theta):
                gradients = self._side_by_side(theta, inputs, labels)
            if gradients is None:
                index = [slice(i, i + 1) for i in range(_size(part))]
                rows = [tree_map(lambda t, i=i: t[i], (inputs, labels)) for i in index]
                single = [self.network.gradient(self.network.value(*row)) for row in rows]
                gradients = torch.stack(single)
        if scale is None:
            return gradients
        return torch.where(scale[:, None] > 0, gradients, 0.0) * scale[:, None].to(gradients)

    def _side_by_side(self, theta: Tensor, inputs: Any, labels: Any) -> Tensor | None:
        """The same by vmap; None where an operation of the model does not know that."""

        def single(t: Tensor, x: Any, y: Any) -> Tensor:
            return self.loss(self.network.functional(t, _alone(x)), _alone(y))

        every = torch.func.vmap(torch.func.grad(single), in_dims=(None, 0, 0))
        try:
            return every(theta, inputs, labels)
        except RuntimeError:
            return None


def _alone(tree: Any) -> Any:
    """One sample as a batch of one."""
    return tree_map(lambda t: t[None], tree)


def _size(part: slice) -> int:
    return part.stop - part.start
