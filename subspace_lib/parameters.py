"""Validated parameters: whatever is described by names and values says in one sentence what is wrong."""

from __future__ import annotations

import difflib
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from subspace_lib.errors import Told

QUOTED = 80  # characters of a value that a message shows
SENTENCE = 290  # characters of a message


class InvalidParameter(Told, ValueError):
    """A parameter is unknown or out of bounds; the message is one sentence that lists what is allowed."""


class Description(BaseModel):
    """Base of everything that is described by validated parameters: frozen, and no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        """``True`` would pass for 1, also in a list."""
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            if field is not None and field.annotation is not bool and _has_truth(value):
                told = f"{name} = {quoted(value)} is not allowed"
                raise ValueError(f"{told}: True and False are no numbers and no names")
        return values

    @classmethod
    def parse(cls, **parameters: Any) -> Self:
        """Build one from keyword arguments.

        Raises:
            InvalidParameter: one sentence for the first thing that is wrong.
        """
        try:
            return cls(**parameters)
        except ValidationError as error:
            raise InvalidParameter(_sentence(error, cls)) from None


def _has_truth(value: Any) -> bool:
    """Whether a value is a bool, or a list that has one."""
    if isinstance(value, (list, tuple)):
        return any(map(_has_truth, value))
    return isinstance(value, bool)


def ascending(steps: tuple[int, ...], name: str = "anchors", least: int = 0) -> tuple[int, ...]:
    """The steps, if they are different, in ascending order and from ``least`` on; ValueError otherwise."""
    if list(steps) != sorted(set(steps)) or (steps and steps[0] < least):
        raise ValueError(
            f"{name} = {quoted(list(steps))} must be different steps in ascending order, from {least} on"
        )
    return steps


def apart(spans: tuple[tuple[int, int], ...], end: int, name: str) -> None:
    """ValueError unless spans of steps lie one after the other in 0 … end, first step before last."""
    before = -1
    for first, last in spans:
        if first <= before or last < first or last > end:
            raise ValueError(
                f"{name} = {quoted(list(spans))}: the span {first} … {last} must begin after step "
                f"{before}, and end neither before it begins nor after steps = {end}"
            )
        before = last


def quoted(value: Any) -> str:
    """A value as it was typed, on one line, and cut where it is longer than a reader would read."""
    text = " ".join(repr(value).split())
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 3]}..."


def _sentence(error: ValidationError, cls: type[BaseModel]) -> str:
    # A name that is misspelt is missing too.
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    kind, name = _place(first["loc"], cls)
    if first["type"] == "extra_forbidden":
        return _unknown(name, list(kind.model_fields))
    if first["type"] == "missing":
        return f"{name} is missing: give it a value."
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    if first["type"] == "value_error":
        return _cut(message, first["input"]) + "."
    return _cut(
        f"{name} = {quoted(first['input'])} is not allowed: {message[0].lower()}{message[1:]}."
    )


def _place(path: tuple[int | str, ...], cls: type[BaseModel]) -> tuple[type[BaseModel], str]:
    """What the faulty value is a parameter of, and its name: a phase in a list is described too."""
    names = [str(step) for step in path if isinstance(step, str)]
    if len(names) > 1 and cls.model_fields.get(names[0]) is not None:
        for inner in get_args(cls.model_fields[names[0]].annotation):
            if isinstance(inner, type) and issubclass(inner, Description):
                return inner, names[1]
    return cls, str(path[0]) if path else ""


def _unknown(name: str, names: list[str]) -> str:
    """That there is no such parameter, and which there are; of many the nearest."""
    near = difflib.get_close_matches(name, names, 1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    shown = name if name.isidentifier() and len(name) <= QUOTED else quoted(name)
    says = f"{shown} is not a parameter{meant}; the parameters are"
    listed = ", ".join(names)
    if len(says) + len(listed) > SENTENCE:
        likely = difflib.get_close_matches(name, names, 8, cutoff=0.0)
        listed = f"{', '.join(likely)} and {len(names) - len(likely)} others"
    return f"{says} {listed}."


def _cut(message: str, typed: Any = None) -> str:
    """One line of a length that is read: what was typed is cut first, then the rest."""
    for value in (*typed.values(), typed) if isinstance(typed, dict) else (typed,):
        message = message.replace(repr(value), quoted(value))
    message = " ".join(message.split())
    return message if len(message) <= SENTENCE else f"{message[: SENTENCE - 3]}..."
