"""Earlier ledgers, each frozen with its criteria, its numbers and why it was given up; as HTML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from subspace_lib.chapters.front import badge
from subspace_lib.chapters.kit.table import interval_text
from subspace_lib.evidence.verdicts import Claim
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import COMMITTED

FOLDER = COMMITTED / "history"
Ledger = Mapping[str, Any]


def dates() -> list[str]:
    """When the criteria of the earlier ledgers were fixed."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(date: str, folder: Path = FOLDER) -> Ledger:
    """An earlier ledger by the date of its criteria.

    Raises:
        InvalidParameter: there is none; the message lists those that there are.
    """
    path = folder / f"{date}.json"
    if not path.exists():
        raise InvalidParameter(f"There is no ledger of {date}; there are {', '.join(dates())}.")
    found: Ledger = json.loads(path.read_text(encoding="utf-8"))
    return found


def page(old: Ledger, now: Mapping[str, Claim]) -> str:
    """Why its criteria changed, and a card a claim: its verdict, its parts, and what is asked today."""
    cards = "".join(_card(row, old, now) for row in old["verdicts"])
    return f'<p>{escape(old["why"]["all"])}</p><ul class="ledger">{cards}</ul>'


def _card(row: Mapping[str, Any], old: Ledger, now: Mapping[str, Claim]) -> str:
    name = row["claim"]
    today = escape(now[name].criterion) if name in now else "no longer judged"
    lines = "".join(
        f"<li>{escape(part['says'])}: <strong>{_number(part)}</strong>, needed: "
        f"{escape(part['criterion'])} ({_whose(part)}); {escape(part['verdict'])}</li>"
        for part in row["parts"]
    )
    return (
        f'<li class="claim"><p class="claim-head"><span class="claim-id">{escape(name)}</span>'
        f"{badge(row['verdict'])}</p><p>Asked then: {escape(row['criterion'])}.</p>"
        f"<p>Asked today: {today}.</p><p>{escape(old['why'].get(name, ''))}</p>"
        f"<details><summary>Its numbers, seeds {_seeds(row['seeds'])}</summary>"
        f"<ul>{lines}</ul></details></li>"
    )


def _number(part: Mapping[str, Any]) -> str:
    if part["measured"] is None:
        return escape(f"undefined ({part['note']})")
    return escape(interval_text(part["measured"], part["interval"]))


def _whose(part: Mapping[str, Any]) -> str:
    return "a demand of ours" if part["source"].startswith("own") else "read from the paper"


def _seeds(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))
