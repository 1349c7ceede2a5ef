"""What was found: in a sentence, in a table, claim by claim, and what is missing; as HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType

from subspace_lib.chapters.edge_of_stability.judge import AT_THE_EDGE
from subspace_lib.chapters.follow_ups.judge import AT_TWICE_THE_RATE
from subspace_lib.chapters.front import (
    NO_RESULTS,
    anchor,
    badge,
    first_up,
    headlines,
    needed,
    number,
    stacked,
    title_of,
    whose_demand,
)
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.ledger import of_kind
from subspace_lib.chapters.losses_and_networks.judge import IN_USE, MOVED
from subspace_lib.evidence.criteria import MINIMUM_SEEDS
from subspace_lib.evidence.verdicts import (
    CLAIM,
    DESCRIPTIVE,
    FAILS,
    FINDING,
    HOLDS,
    INCONCLUSIVE,
    MISSING,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    Part,
    Verdict,
)
from subspace_lib.results.store import Store

Setting = tuple[str, str, str]  # model, data set, preprocessing

# The claims on Dom-SGD and on Bulk-SGD, by network.
NETWORKS = (("C2", "C3"), ("C2b", "C3b"), ("C2c", "C3c"))
# What the table shows, in its order; and how a part is named that compares Dom-X or Bulk-X with X.
COMPARED = (*(claim for pair in NETWORKS for claim in pair), "C6", "C7", "C8", "F3")
COMPARES = re.compile(
    r"(?:progress\((Dom|Bulk)-(?P<rule>[^)]+)\)|gain of (Dom)-.+?, over that of (?P<other>[^,]+))"
    r"(?:, (?P<where>.+))?"
)
SIDES = "Dom", "Bulk"
COLUMNS = "X", "progress of Dom-X", "progress of Bulk-X", "seeds", "verdict"
# What is not judged and is said beside what was seen; how such a part begins.
BESIDE = (AT_TWICE_THE_RATE, AT_THE_EDGE, MOVED, IN_USE)
FEW_PARTS = 2  # more that hold are counted
USUAL, UNUSUAL = "update projected", ("gradient projected", "both projected")
# The paper's own settings, by its code very probably.
PAPER_MLP: Setting = ("mlp", "mnist5k", "unit")
PAPER_STEPS = 20_000
PAPER_OTHERS = (("cnn", "cifar10_5k"), ("transformer", "sst2_1k"))
KINDS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, MISSING)
FOUND = (HOLDS, FAILS, INCONCLUSIVE, DESCRIPTIVE, MISSING)


@dataclass
class Row:
    """Dom-X and Bulk-X of one rule and network: the part that judges each, and the verdicts of these."""

    label: str
    parts: dict[str, Part] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)


def headline(verdicts: Sequence[Verdict]) -> str:
    """The answer in a sentence: progress of Dom-SGD and of Bulk-SGD on each network that was judged."""
    by = {v.claim: v for v in verdicts if v.parts and v.parts[0].measured is not None}
    pairs = [(by[dom], by[bulk]) for dom, bulk in NETWORKS if dom in by and bulk in by]
    if not pairs:
        return ""
    doms, bulks = (
        says.listed(
            f"{says.share(v.parts[0].measured or 0.0)} ({title_of(v.model or '')})" for v in side
        )
        for side in zip(*pairs, strict=True)
    )
    return (
        "<p><strong>In short</strong>: after the first steps of SGD we go on with one part of each update. "
        f"Of the progress in training loss that SGD makes from there on, Dom-SGD makes {doms}, and "
        f"Bulk-SGD {bulks}.</p>"
    )


def rows(verdicts: Sequence[Verdict]) -> list[Row]:
    """What was judged of Dom-X and Bulk-X, a row a rule and network."""
    found = dict[tuple[str, ...], Row]()
    for v in sorted(
        (v for v in verdicts if v.claim in COMPARED), key=lambda v: COMPARED.index(v.claim)
    ):
        for part in v.parts:
            match = COMPARES.fullmatch(part.says)
            if match is None or match["where"] in UNUSUAL:
                continue
            rule, side = match["rule"] or match["other"], match[1] or match[3]
            where = "" if match["where"] in (None, USUAL) else f", {match['where']}"
            key = (rule, where, v.model or "")
            label = f"{rule}{where} ({title_of(v.model or '')})"
            row = found.setdefault(key, Row(label))
            row.parts[side], row.verdicts[side] = part, v
    return list(found.values())


def table(verdicts: Sequence[Verdict]) -> str:
    """Progress of Dom-X and Bulk-X for each rule X and network; nothing without results."""
    lines, found = list[list[str]](), rows(verdicts)
    for row in found:
        seeds = max(len(part.values) for part in row.parts.values())
        told = dict[str, dict[str, None]]()
        for side, v in row.verdicts.items():
            # A part may be met where the whole is not.
            part = "" if row.parts[side].verdict == v.verdict else " (this part)"
            told.setdefault(row.parts[side].verdict, {})[f"{anchor(v)}{part}"] = None
        decided = "<br>".join(f"{says.listed(names)} {badge(kind)}" for kind, names in told.items())
        lines.append(
            [escape(row.label), *(_cell(row, side) for side in SIDES), str(seeds), decided]
        )
    if not lines:
        return ""
    whole = stacked(COLUMNS, lines, "advice")
    doms = {row.label: row.parts.get("Dom") for row in found}
    after = [label for label, part in doms.items() if part and part.says.startswith("gain")]
    if after:
        whole += (
            f"<p>{says.listed(map(escape, after))}: at the switch X jumps between the walls of a valley. "
            "The loss of Dom-X first falls because this bounce dies out; that fall is not counted.</p>"
        )
    return whole


def _cell(row: Row, side: str) -> str:
    """A part's number; why there is none, the list below the table says."""
    part = row.parts.get(side)
    if part is None:
        return "–"
    return number(part) if part.measured is not None else "undefined"


def answer(
    verdicts: Sequence[Verdict],
    claims: Mapping[str, Claim],
    settings: Mapping[Setting, Sequence[str]],
    lacking: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """The table, what was reproduced, what was not and why, what was found beyond, what is missing.

    ``settings``: the claims that were judged on each. ``lacking``: how many runs chapters lack, by name.
    """
    findings, judged = of_kind(FINDING, verdicts), of_kind(CLAIM, verdicts)
    of = {kind: [v for v in judged if v.verdict == kind] for kind in KINDS}
    if len(of[MISSING]) == len(judged):
        return f'<p class="answer">This book holds no results yet; {NO_RESULTS}</p>'
    items = []
    for kind in KINDS[:-1]:
        if of[kind]:
            lead = f"<strong>{first_up(kind)}, {len(of[kind])} of {len(judged)} claims</strong>: "
            told = _reproduced if kind == REPRODUCED else _items_decided
            items.append(lead + told(of[kind], claims))
    otherwise = [v for v in findings if v.verdict == FAILS and not headlines(v)[0].own]
    if otherwise:
        seen = _items((_failing(v, claims[v.claim]) for v in otherwise), "found")
        items.append(
            f"<strong>Shown by the paper beside its claims, not confirmed here</strong>: {seen}"
        )
    elif not of[NOT_REPRODUCED] and not of[INCONCLUSIVE]:
        items.append("<strong>Not reproduced</strong>: none.")
    if findings := [v for v in findings if v not in otherwise]:
        items.append(f"<strong>Beyond the paper</strong>: {_found(findings, claims)}")
    few = [v for v in judged if v.verdict == INCONCLUSIVE and len(v.seeds) < MINIMUM_SEEDS]
    items.append(
        f"<strong>Still missing</strong>: {still_missing(of[MISSING], settings, few, lacking)}"
    )
    have = [
        f"the {title_of(m)} on {title_of(d)} with {title_of(p)} ({says.listed(claims_there)})"
        for (m, d, p), claims_there in settings.items()
    ]
    if have:
        items.append(f"<strong>Judged on</strong>: {says.listed(have)}.")
    return table(verdicts) + _items(items, "answer")


def _reproduced(verdicts: Sequence[Verdict], claims: Mapping[str, Claim]) -> str:
    """What was seen; those claims together of which the table shows everything."""
    pairs = {claim for pair in NETWORKS for claim in pair}
    shown = [v for v in verdicts if v.claim in pairs and rows([v])]
    told = [f"of Dom-SGD and Bulk-SGD, what the table shows ({says.listed(map(anchor, shown))})"]
    others = [_seen(v, claims[v.claim]) for v in verdicts if v not in shown]
    return _items((told if shown else []) + others, "found")


def _items_decided(verdicts: Sequence[Verdict], claims: Mapping[str, Claim]) -> str:
    return _items(_decided(v, claims[v.claim]) for v in verdicts)


def _found(findings: Sequence[Verdict], claims: Mapping[str, Claim]) -> str:
    """The findings by what became of them, what was seen where they hold; they decide no claim."""
    told = []
    for kind in FOUND:
        mine = [v for v in findings if v.verdict == kind]
        if kind == HOLDS:
            told += [_seen(v, claims[v.claim]) for v in mine]
        elif kind == FAILS:
            told += [_failing(v, claims[v.claim]) for v in mine]
        elif mine:
            names = [
                anchor(v) + (f" ({escape(claims[v.claim].name)})" if claims[v.claim].name else "")
                for v in mine
            ]
            told.append(f"{kind}: {says.listed(names)}")
    return _items(told, "found")


def _failing(v: Verdict, claim: Claim) -> str:
    """What does not hold, all that it fails by, and which parts of it do hold."""
    lost, met = ([part for part in v.parts if part.verdict == kind] for kind in (FAILS, HOLDS))
    lost = lost or headlines(v)[:1]
    whole = " as a whole" if met else ""
    told = f"{FAILS}{whole} ({anchor(v)}): “{escape(claim.says)}”. What fails: {_by_quantity(lost)}"
    told += " (our reading of the paper's statement)." if any(map(_read, lost)) else "."
    if met:
        few = len(met) <= FEW_PARTS
        told += (
            f" What holds: {_by_quantity(met)}." if few else f" The other {len(met)} parts hold."
        )
    return told + (f" Beside it: {'; '.join(shown)}." if (shown := _beside(v)) else "")


def _read(part: Part) -> bool:
    return bool(part.source) and not part.own


def _by_quantity(parts: Sequence[Part]) -> str:
    """Numbers with their bounds; those of one quantity together, each with where it was measured."""
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        groups.setdefault((part.says.partition(", ")[0], needed(part)), []).append(part)
    return "; ".join(
        f"{_together(name, of)}, needed {bound}" for (name, bound), of in groups.items()
    )


def _together(name: str, parts: Sequence[Part]) -> str:
    if len(parts) == 1:
        return f"{escape(parts[0].says)}: {number(parts[0])}"
    places = (part.says.partition(", ")[2] for part in parts)
    numbers = (
        f"{number(part)} ({escape(place)})" for part, place in zip(parts, places, strict=True)
    )
    return f"{escape(name)}: {says.listed(numbers)}"


def _beside(v: Verdict) -> list[str]:
    """What is shown and not judged, a quantity each."""
    found = []
    for name in BESIDE:
        shown = [p for p in v.parts if p.verdict == DESCRIPTIVE and p.says.startswith(name)]
        places = [part.says.removeprefix(name).removeprefix(", ") for part in shown]
        numbers = [
            number(part) + (f" ({escape(place)})" if place else "")
            for part, place in zip(shown, places, strict=True)
        ]
        found += [f"{escape(name)}: {says.listed(numbers)}"] if shown else []
    return found


def _items(items: Iterable[str], name: str = "reasons") -> str:
    return f'<ul class="{name}">' + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _seen(v: Verdict, claim: Claim) -> str:
    """What was seen of a claim that is reproduced, or of a finding that holds."""
    seen = claim.seen.format(n=number(headlines(v)[0])) if claim.seen else escape(claim.says)
    seen += "".join(f"; {shown}" for shown in _beside(v))
    return f"{seen} ({anchor(v)})"


def _decided(v: Verdict, claim: Claim) -> str:
    """What decides a claim that is not reproduced, and whose demand that is; or leaves it open."""
    deciding = headlines(v)[0]
    name = f" ({claim.name})" if claim.name else ""
    others = {part.verdict for part in v.parts if part != deciding}
    rest = " All else in it is reproduced." if others == {REPRODUCED} else ""
    whose = f" That is {escape(whose_demand(deciding))}." if v.verdict == NOT_REPRODUCED else ""
    return (
        f"{anchor(v)}{name}: <em>{escape(deciding.says)}</em> is {number(deciding)}; "
        f"{needed(deciding)} is needed.{whose}{rest}"
    )


def still_missing(
    missing: Sequence[Verdict],
    settings: Collection[Setting],
    few: Sequence[Verdict] = (),
    lacking: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """What of the paper's settings and claims has no run or too few, and which chapters lack runs."""
    lacks = []
    if PAPER_MLP not in settings:
        lacks.append("pixels as they are (x/255, by the code that is very probably the paper's)")
    for model, dataset in PAPER_OTHERS:
        if (model, dataset) not in [setting[:2] for setting in settings]:
            lacks.append(f"the {title_of(model)} on {title_of(dataset)}")
    told = []
    if lacks:
        told.append(f"not yet run: {says.listed(lacks)}")
    if missing:
        told.append(f"no results yet for {says.listed(map(anchor, missing))}")
    if few:
        short = sorted({f"{v.steps:,}" for v in few if v.steps and v.steps < PAPER_STEPS})
        told.append(
            f"fewer than {MINIMUM_SEEDS} seeds for {says.listed(map(anchor, few))}"
            + (f", with {says.listed(short)} of the paper's {PAPER_STEPS:,} steps" if short else "")
        )
    waits = "" if told else "; no claim waits for them" if lacking else "nothing"
    if lacking:
        of = [f"{count} of chapter {name.partition('_')[0]}" for name, count in lacking.items()]
        told.append(f"runs: {says.listed(of)}")
    return "; ".join(told) + f"{waits}."


def settings(verdicts: Iterable[Verdict], store: Store | None = None) -> dict[Setting, list[str]]:
    """The claims by what they were judged on: model, data set and preprocessing, by their runs."""
    roots, found = (store or Store()).roots, dict[Setting, list[str]]()
    for v in of_kind(CLAIM, verdicts):
        for key in v.results:
            paths = [path for root in roots if (path := root / key / "description.json").exists()]
            described = json.loads(paths[0].read_text(encoding="utf-8")) if paths else {}
            if "model" in described:
                names = ("model", "dataset", "preprocessing")
                claims = found.setdefault(tuple(described[name] for name in names), [])
                claims += [] if v.claim in claims else [v.claim]
    return dict(sorted(found.items()))
