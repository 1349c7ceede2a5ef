"""How a model takes its inputs: one tensor, or several in a tuple or a dict."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Call:
    """``model(x)``, ``model(*x)`` or ``model(**x)``: as "whole", "spread" or "named"."""

    way: str = "whole"

    @classmethod
    def of(cls, model: nn.Module, inputs: Any) -> Call:
        """Read off the signature of ``forward``.

        A tuple or list of several tensors is spread over a forward that takes so many and needs more than
        one; a dict is given by names where forward has all of them. Otherwise it is one argument.
        """
        if not isinstance(inputs, (tuple, list, dict)):
            return cls()
        parameters = inspect.signature(model.forward).parameters
        if isinstance(inputs, dict):
            any_name = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
            needed = [n for n, p in parameters.items() if _needed(p)]
            named = all(n in parameters or any_name for n in inputs)
            return cls("named") if named and all(n in inputs for n in needed) else cls()
        needed = [n for n, p in parameters.items() if _needed(p)]
        many = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values())
        room = sum(p.kind in POSITIONAL for p in parameters.values())
        if len(needed) > 1 or (many and not needed):
            return cls("spread") if len(needed) <= len(inputs) <= room or many else cls()
        return cls()

    def arguments(self, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments."""
        if self.way == "spread":
            return tuple(inputs), {}
        if self.way == "named":
            return (), dict(inputs)
        return (inputs,), {}

    def __call__(self, model: nn.Module, inputs: Any) -> Any:
        """What the model returns for the inputs."""
        if self.way == "whole":
            return model(inputs)
        positional, keywords = self.arguments(inputs)
        return model(*positional, **keywords)


def _needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind in POSITIONAL
