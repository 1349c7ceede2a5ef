"""Parameters as papermill gives them: text where a list is meant, or nothing."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

Budget = Annotated[  # times SGD's price; papermill gives a missing one as text
    Annotated[float, Field(gt=1)] | None,
    BeforeValidator(lambda typed: None if str(typed).lower() in ("none", "null") else typed),
]


def numbers(value: Any) -> Any:
    """A tuple parameter as papermill may give it: text, a single number, or a list.

    Text is "0,1", or a list as the parameters cell writes it: "[0, 1]", '["nesterov", "adamw"]'.
    """
    if isinstance(value, str):
        return [part for part in re.split(r"[\s,\[\]()\"']+", value) if part]
    return [value] if isinstance(value, (int, float)) else value


def distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds; raises ValueError where two are the same."""
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds = {list(seeds)} must differ from each other")
    return seeds
