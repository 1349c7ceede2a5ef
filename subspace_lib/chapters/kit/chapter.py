"""A chapter: all that the ledger, the results command and the notebook ask of it, in one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from subspace_lib.evidence.verdicts import Claim, Verdict
from subspace_lib.parameters import Description

# A piece of work: a function, and the parameters to call it with in a process of its own.
Task = tuple[Callable[[Any], object], Description]
# Pieces that can be computed at the same time, stage after stage.
Stages = Sequence[Sequence[Task]]


@dataclass(frozen=True)
class Chapter:
    """One chapter of the book.

    Attributes:
        name: of its notebook, without the suffix; chapters come in the order of their names.
        parameters: those that the book shows.
        study: (parameters, store, compute=False or True) to what the figures and the judge need; it raises
            MissingRun where it may not compute what is missing.
        judge: that to verdicts, in the order of ``claims``; None where nothing is judged.
        claims: what is judged.
        tasks: parameters to the chapter's runs, in pieces.
    """

    name: str
    parameters: Any
    study: Callable[..., Any]
    judge: Callable[[Any], list[Verdict]] | None = None
    claims: tuple[Claim, ...] = ()
    tasks: Callable[[Any], Stages] = lambda parameters: ()

    def at(self, profile: str) -> Any:
        """The parameters of a profile: those that the book shows, or what "quick" makes of them.

        Raises:
            InvalidParameter: there is no such profile.
        """
        return type(self.parameters).parse(**{**_given(self.parameters), "profile": profile})


def _given(parameters: Description) -> dict[str, Any]:
    """What was given when the parameters were made."""
    return {name: getattr(parameters, name) for name in parameters.model_fields_set}
