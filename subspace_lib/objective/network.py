"""A model and a loss at any θ: the only place where autograd, and what surrounds it, is set."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from subspace_lib.linalg.precision import full_precision
from subspace_lib.objective.calls import Call
from subspace_lib.objective.inputs import noisy, refuse_noise
from subspace_lib.objective.losses import Loss


@contextmanager
def settled(second: bool = False) -> Iterator[None]:
    """Within it, gradients are taken in the dtype of the data, whatever has been set around it.

    no_grad, inference mode, autocast, caches of parametrizations and fused encoder layers are off; with
    ``second`` attention is computed by the kernel that has second derivatives. Also a decorator.
    """
    mha: Any = torch.backends.mha
    fast = mha.get_fastpath_enabled()
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        stack.enter_context(full_precision())
        if second or not torch.backends.cuda.math_sdp_enabled():
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if fast:
            mha.set_fastpath_enabled(False)
            stack.callback(mha.set_fastpath_enabled, True)
        stack.enter_context(uncached())
        yield


@contextmanager
def uncached() -> Iterator[None]:
    """Within it, ``parametrize.cached()`` around it neither gives old weights nor keeps ours."""
    before = parametrize._cache_enabled, parametrize._cache
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        yield
    finally:
        parametrize._cache_enabled, parametrize._cache = before


class Network:
    """Puts θ into a model's own parameters for the time of a computation, and its values back afterwards.

    Whatever reaches a parameter then finds θ: recomputed layers, a regularizer over
    ``model.parameters()``, tied weights, references kept elsewhere. θ holds the parameters that require
    a gradient, in the order of ``named_parameters()``, each once. Buffers, frozen parameters and those of
    the loss keep their values; where their dtype or device is another than θ's, a copy takes their place
    for the time.

    Args:
        model, loss: as the user gave them; call: how the model takes its inputs.
        device, dtype: of θ.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, call: Call, device: torch.device, dtype: torch.dtype
    ):
        self.model, self.loss, self.call = model, loss, call
        self.device, self.dtype = device, dtype
        kept = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in kept]
        self.parameters = [p for _, p in kept]
        self.shapes = [p.shape for p in self.parameters]
        self.sizes = [p.numel() for p in self.parameters]
        own = self._own
        whole = [model, loss] if isinstance(loss, nn.Module) else [model]
        # Modules, not tensors: what a buffer's name refers to can be replaced.
        self._others = [
            module
            for one in whole
            for module in one.modules()
            if any(id(p) not in own for p in _tensors(module))
        ]
        self.noisy = noisy(model)
        self.differentiates = (
            False  # in its forward pass, as one that gives forces; the self-test asks
        )
        self._modes = [(module, module.training) for module in model.modules()]

    @property
    def _own(self) -> set[int]:
        """Which tensors θ stands for; asked anew, because a copy of the model has others."""
        return set(map(id, self.parameters))

    def initial(self) -> Tensor:
        """The model's current values as θ (D,), a copy."""
        self.check_parameters()
        with torch.inference_mode(False):
            flat = [p.detach().reshape(-1).to(self.device, self.dtype) for p in self.parameters]
            return torch.cat(flat)

    def parts(self, theta: Tensor) -> list[Tensor]:
        """θ (…, D) as views in the shapes of the parameters."""
        pieces = theta.split(self.sizes, -1)
        lead = theta.shape[:-1]
        return [p.view((*lead, *s)) for p, s in zip(pieces, self.shapes, strict=True)]

    @contextmanager
    def as_given(self) -> Iterator[None]:
        """Within it, modules are in the mode that they were given in, and hooks on gradients are off.

        Raises:
            ValueError: the model is in a mode that has no L(θ), or has other parameters than it had.
        """
        refuse_noise(self.noisy)
        self.check_parameters()
        moved = [module for module, mode in self._modes if module.training != mode]
        hooked = [(p, p._backward_hooks) for p in self.parameters if p._backward_hooks]
        try:
            for module in moved:
                module.training = not module.training
            for p, _ in hooked:
                p._backward_hooks = None
            yield
        finally:
            for module in moved:
                module.training = not module.training
            for p, hooks in hooked:
                p._backward_hooks = hooks

    def check_parameters(self) -> None:
        """That θ still stands for the model's parameters; raises ValueError where it does not."""
        now = [p for p in self.model.parameters() if p.requires_grad]
        if len(now) != len(self.parameters) or any(map(operator.is_not, now, self.parameters)):
            raise ValueError(
                "The model has other parameters, or others that require a gradient, than when the "
                "Objective was made of it (a layer replaced, load_state_dict(assign=True), "
                "requires_grad_); make a new Objective."
            )

    @contextmanager
    def at(self, theta: Tensor) -> Iterator[None]:
        """Within it, the model's parameters have the values θ, and gradients are taken by them."""
        with self.as_given(), self._moved_to(theta):
            yield

    @contextmanager
    def _moved_to(self, theta: Tensor) -> Iterator[None]:
        theta = theta.clone() if theta.is_inference() else theta.detach()
        values = self.parts(theta)
        before = [p.data for p in self.parameters]
        moved = self._moved() if self._others else []
        try:
            for p, value in zip(self.parameters, values, strict=True):
                p.data = value
            for tensor, _, copy in moved:
                tensor.data = copy
            yield
        finally:
            for p, value in zip(self.parameters, before, strict=True):
                p.data = value
            for tensor, own, _ in moved:
                tensor.data = own

    def _moved(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What else the model holds and cannot be used as it is, its values, and those to be used."""
        found = []
        for tensor in self._rest().values():
            dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
            if tensor.dtype != dtype or tensor.device != self.device:
                found.append((tensor, tensor.data, tensor.data.to(self.device, dtype)))
        return found

    def _rest(self) -> dict[int, Tensor]:
        """Frozen parameters and buffers, each once."""
        tensors = (t for module in self._others for t in _tensors(module))
        return {id(t): t for t in tensors if id(t) not in self._own}

    def forward_only(self) -> torch.set_grad_enabled:
        """Within it no graph is built, unless the model's own forward pass needs one."""
        return torch.set_grad_enabled(self.differentiates)

    def held(self) -> tuple[int, ...]:
        """Changes when a frozen parameter or a buffer is written to, as by batch normalization."""
        return tuple(t._version for t in self._rest().values() if not t.is_inference())

    def outputs(self, inputs: Any) -> Any:
        """f(x; θ), within ``at(θ)``."""
        return self.call(self.model, inputs)

    def value(self, inputs: Any, labels: Any) -> Tensor:
        """The loss, within ``at(θ)``."""
        loss = self.loss(self.outputs(inputs), labels)
        return loss.reshape(()) if loss.ndim else loss

    def gradient(self, loss: Tensor) -> Tensor:
        """∂ loss/∂θ (D,), within ``at(θ)``; zeros by parameters that take no part."""
        if not loss.requires_grad:
            return self.flat([None] * len(self.sizes))
        return self.flat(torch.autograd.grad(loss, self.parameters, allow_unused=True))

    def flat(self, found: Any) -> Tensor:
        """One vector (D,) of derivatives by each of the parameters, None for zeros."""
        pieces = [
            torch.zeros(size, dtype=self.dtype, device=self.device) if g is None else g.reshape(-1)
            for g, size in zip(found, self.sizes, strict=True)
        ]
        return torch.cat(pieces)

    def flatten(self, tensors: Mapping[str, Tensor] | Iterable[Tensor | None]) -> Tensor:
        """As ``Objective.flatten``."""
        if isinstance(tensors, Mapping):
            missing = [name for name in self.names if name not in tensors]
            if missing:
                raise ValueError(
                    f"flatten needs a tensor for each of {len(self.names)} parameters; "
                    f"{missing[0]!r} is missing."
                )
            pieces: list[Tensor | None] = [tensors[name] for name in self.names]
        else:
            given, every = list(tensors), list(self.model.parameters())
            kept = (
                [p.requires_grad for p in every]
                if len(given) == len(every)
                else [True] * len(given)
            )
            pieces = list(itertools.compress(given, kept))
        shapes = [s if t is None else t.shape for t, s in zip(pieces, self.shapes, strict=False)]
        if len(pieces) != len(self.shapes) or shapes != self.shapes:
            raise ValueError(
                f"flatten needs {len(self.shapes)} tensors of the parameters' shapes, in their order "
                f"(objective.layout); it got {len(pieces)}, or others."
            )
        found = [None if t is None else t.detach().to(self.device, self.dtype) for t in pieces]
        return self.flat(found)

    def functional(self, theta: Tensor, inputs: Any) -> Any:
        """f(x; θ) as a function of θ, for forward mode and vmap.

        What is reached by other ways than the model's own attributes keeps the model's values here.
        """
        values: dict[str, Tensor] = dict(zip(self.names, self.parts(theta), strict=True))
        if self._others:
            for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
                if id(tensor) not in self._own:
                    dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
                    values[name] = tensor.detach().to(self.device, dtype)
        return functional_call(self.model, values, *self.call.arguments(inputs))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """A module's own parameters and buffers."""
    for tensor in (*module._parameters.values(), *module._buffers.values()):
        if tensor is not None:
            yield tensor
