"""The ledger: every claim and finding of every registered chapter, judged from what the store holds.

``python -m subspace_lib.claims`` prints a table, with ``--json`` a list of objects in which ``kind`` tells
claims from findings; it computes no run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Sequence

from subspace_lib.chapters import registered
from subspace_lib.chapters.kit.page import VERDICT_COLUMNS, verdict_rows
from subspace_lib.chapters.kit.table import markdown
from subspace_lib.evidence.criteria import PILOT_SEED
from subspace_lib.evidence.verdicts import CLAIM, FINDING, Claim, Verdict, missing
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.files import Corrupted
from subspace_lib.results.store import MissingRun, Store

PAPER = "paper"
TITLES = {CLAIM: "Claims of the paper", FINDING: "Findings beyond it, which decide no claim"}


def profile() -> str:
    """The profile whose runs are judged: ``$SUBSPACE_PROFILE``, the paper's size if it is not set."""
    return os.environ.get("SUBSPACE_PROFILE") or PAPER


def claims() -> dict[str, Claim]:
    """All claims and findings by their name, in its order."""
    found: dict[str, Claim] = {}
    for chapter in registered().values():
        for claim in chapter.claims:
            if claim.id in found:
                raise InvalidParameter(
                    f"Two claims are called {claim.id}; one is of {chapter.name}."
                )
            found[claim.id] = claim
    return dict(sorted(found.items()))


def verdicts(store: Store | None = None, size: str | None = None) -> list[Verdict]:
    """All claims and findings, judged from what the store holds, in the order of their names.

    ``size`` is the profile whose runs are looked for, ``profile()`` if None.
    """
    judged: dict[str, Verdict] = {}
    for chapter in registered().values():
        if chapter.judge is None:
            continue
        try:
            study = chapter.study(chapter.at(size or profile()), store or Store(), compute=False)
            judged |= {v.claim: v for v in chapter.judge(study)}
        except MissingRun:
            pass
        except Corrupted as error:
            print(f"{error} Run `make results` to compute it anew.", file=sys.stderr)
    return [judged.get(name, missing(claim)) for name, claim in claims().items()]


def of_kind(kind: str, judged: Iterable[Verdict]) -> list[Verdict]:
    """The claims, or the findings, among them."""
    return [v for v in judged if v.kind == kind]


def objections(judged: Iterable[Verdict]) -> list[str]:
    """A sentence for each verdict that rests on a run older than its criterion, or on the pilots' seed."""
    said = []
    for v in judged:
        fixed = max((part.date for part in v.parts), default="")
        if v.results and v.oldest[:10] < fixed:
            age = f"a run of {v.oldest[:10]}" if v.oldest else "a run without a date"
            said.append(f"{v.claim} rests on {age}; its criterion was fixed on {fixed}.")
        if v.results and PILOT_SEED in v.seeds:
            said.append(f"{v.claim} rests on seed {PILOT_SEED}, which pilots have seen.")
    return said


def table(rows: Sequence[Verdict]) -> str:
    """The verdicts as Markdown tables, claims and findings apart, a line for each quantity."""
    found = {title: of_kind(kind, rows) for kind, title in TITLES.items()}
    return "\n\n".join(
        f"{title}\n\n{markdown(verdict_rows(own, claims().values()), VERDICT_COLUMNS)}"
        for title, own in found.items()
        if own
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; it exits with 1 where a verdict rests on runs that must not be judged."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.claims", description="Judge the claims from the results store."
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--store", help="folder of results, default the repository's")
    parser.add_argument("--profile", choices=(PAPER, "quick"), help="size of the runs to judge")
    options = parser.parse_args(arguments)
    size = options.profile or profile()
    rows = verdicts(Store(options.store), size)
    if options.json:
        print(json.dumps([dataclasses.asdict(v) for v in rows], indent=1, ensure_ascii=False))
    else:
        print(table(rows))
    said = objections(rows) if size == PAPER else []
    if said:
        print("\n".join(said), file=sys.stderr)
        sys.exit(1)
