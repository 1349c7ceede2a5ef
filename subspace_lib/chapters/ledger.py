"""The ledger: every claim of every registered chapter, judged from what the store holds.

``python -m subspace_lib.claims`` prints a table, with ``--json`` a list of objects; it computes no run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from subspace_lib.chapters import registered
from subspace_lib.chapters.kit.page import VERDICT_COLUMNS, verdict_rows
from subspace_lib.chapters.kit.table import markdown
from subspace_lib.evidence.verdicts import Claim, Verdict, missing
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.files import Corrupted
from subspace_lib.results.store import MissingRun, Store


def claims() -> dict[str, Claim]:
    """All claims by their name, in its order."""
    found: dict[str, Claim] = {}
    for chapter in registered().values():
        for claim in chapter.claims:
            if claim.id in found:
                raise InvalidParameter(
                    f"Two claims are called {claim.id}; one is of {chapter.name}."
                )
            found[claim.id] = claim
    return dict(sorted(found.items()))


def verdicts(store: Store | None = None) -> list[Verdict]:
    """All claims, judged from what the store holds, in the order of their names."""
    judged: dict[str, Verdict] = {}
    for chapter in registered().values():
        if chapter.judge is None:
            continue
        try:
            study = chapter.study(chapter.parameters, store or Store(), compute=False)
            judged |= {v.claim: v for v in chapter.judge(study)}
        except MissingRun:
            pass
        except Corrupted as error:
            print(f"{error} Run `make results` to compute it anew.", file=sys.stderr)
    return [judged.get(name, missing(claim)) for name, claim in claims().items()]


def table(rows: Sequence[Verdict]) -> str:
    """The verdicts as a Markdown table, a line for each quantity that a claim is judged by."""
    return markdown(verdict_rows(rows, claims().values()), VERDICT_COLUMNS)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m subspace_lib.claims", description="Judge the claims from the results store."
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--store", help="folder of results, default the repository's")
    options = parser.parse_args(arguments)
    rows = verdicts(Store(options.store))
    if options.json:
        print(json.dumps([dataclasses.asdict(v) for v in rows], indent=1, ensure_ascii=False))
    else:
        print(table(rows))
