"""The front page's cards, made from verdicts, its main picture and links; as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from subspace_lib.chapters import chapter, registered
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.names import title, trained
from subspace_lib.chapters.kit.switch.figures import losses_of
from subspace_lib.chapters.kit.switch.study import SwitchStudy
from subspace_lib.chapters.kit.table import interval_text
from subspace_lib.chapters.ledger import profile
from subspace_lib.evidence.criteria import CONFIDENCE, DIVERGED_PROGRESS, MINIMUM_SEEDS
from subspace_lib.evidence.verdicts import (
    DESCRIPTIVE,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    MET,
    MISSING,
    NOT_REPRODUCED,
    REPRODUCED,
    WORST_FIRST,
    Claim,
    Part,
    Verdict,
)
from subspace_lib.results.files import Corrupted
from subspace_lib.results.store import MissingRun, Store

Link = Callable[[str], str | None]  # a chapter's name to the address of its page, if it has one

MAIN, OTHERS = "02_dom_vs_bulk", "02b_architectures"
NO_RESULTS = "<code>make results</code> computes what is missing."
HEADLINES = 2  # parts of a reproduced claim whose numbers stand on its card
_TICK, _CROSS = "M3 8.5 6.5 12 13 4.5", "M4 4 12 12 M12 4 4 12"
ICONS = {
    REPRODUCED: _TICK,
    HOLDS: _TICK,
    NOT_REPRODUCED: _CROSS,
    FAILS: _CROSS,
    INCONCLUSIVE: "M2 9.5C4 5 6 5 8 8S12 11 14 6.5",
    DESCRIPTIVE: "M3 5H13 M3 8H13 M3 11H9",
    MISSING: "M3 8H13",
}


def anchor(v: Verdict) -> str:
    """A claim's name, leading to its card."""
    return f'<a href="#claim-{escape(v.claim)}">{escape(v.claim)}</a>'


def how_to_read() -> str:
    """How a number becomes a verdict, in one sentence."""
    return (
        '<p class="ledger-key"><strong>How to read a verdict.</strong> '
        f"A part is {badge(REPRODUCED)} when the whole {CONFIDENCE:.0%} interval of its mean over "
        f"seeds (Student's t; it may reach beyond what is possible) meets the criterion, "
        f"{badge(NOT_REPRODUCED)} when all of it fails, and {badge(INCONCLUSIVE)} when the interval lies "
        f"on both sides or there are fewer than {MINIMUM_SEEDS} seeds; a claim gets its worst part's "
        f"verdict. What we ask beyond the paper is a finding: it {badge(HOLDS)} or {badge(FAILS)}, or is "
        f"{badge(DESCRIPTIVE)} without a criterion, and decides no claim. {badge(MISSING)}: its runs are "
        "not finished.</p>"
    )


def ledger(
    verdicts: Sequence[Verdict], claims: Mapping[str, Claim], link: Link = lambda name: None
) -> str:
    """A card a claim or finding: sentence, number, verdict, link; who decides; folded, all parts."""
    where = {claim.id: c.name for c in registered().values() for claim in c.claims}
    cards = [_card(v, claims[v.claim], where.get(v.claim, ""), link) for v in verdicts]
    return '<ul class="ledger">' + "".join(cards) + "</ul>"


def _card(v: Verdict, claim: Claim, name: str, link: Link) -> str:
    says = _unbroken(claim.plain or f"{claim.says}.")
    address, number = link(name), name.partition("_")[0]
    to = f'<a href="{escape(address)}">Chapter {escape(number)}</a>' if address else ""
    head = f'<span class="claim-id">{escape(v.claim)}</span>{badge(v.verdict)}{to}'
    body = f'<p class="claim-head">{head}</p><p class="claim-says">{says}</p>'
    body += _numbers(v) if v.parts else f"<p>Needed: {escape(v.criterion)}. {NO_RESULTS}</p>"
    body += f'<p class="claim-note">{escape(v.note)}</p>' if v.note else ""
    return f'<li class="claim" id="claim-{escape(v.claim)}">{body}{_fold(v)}</li>'


def headlines(v: Verdict) -> list[Part]:
    """The parts that decide; where none fails, the first of those that the paper states, else of ours."""
    if v.verdict not in (*MET, DESCRIPTIVE):
        return [part for part in v.parts if part.verdict == v.verdict]
    judged = [part for part in v.parts if part.source]
    return ([part for part in judged if not part.own] or judged or list(v.parts))[:HEADLINES]


def _numbers(v: Verdict) -> str:
    shown = headlines(v)
    lines = "".join(
        f"<li>{_unbroken(part.says)}: <strong>{number(part)}</strong>{_needs(part)}</li>"
        for part in shown
    )
    text = f'<ul class="claim-numbers">{lines}</ul>'
    if v.verdict in MET or v.verdict == DESCRIPTIVE:
        return text
    decides = "This decides" if len(shown) == 1 else "These decide"
    whose = "; ".join(whose_demand(part) for part in _once(shown))
    text += f'<p class="claim-why"><strong>{decides}</strong>: {escape(whose)}.'
    if v.verdict == INCONCLUSIVE and any(part.interval and not part.note for part in shown):
        text += " The interval lies on both sides of what is needed."
    for verdict in (kind for kind in WORST_FIRST if kind != DESCRIPTIVE):
        others = [escape(p.says) for p in v.parts if p.verdict == verdict != v.verdict]
        text += f" {first_up(verdict)}: {'; '.join(others)}." if others else ""
    return text + "</p>"


def whose_demand(part: Part) -> str:
    """Whether a part is the paper's statement or a demand of ours, and what it says."""
    _, _, why = part.source.partition(": ")
    if not part.source:
        return "shown, not judged"
    if part.own:
        return f"a demand of ours, not the paper's: that {why}"
    known = f" (known from {part.known_from})" if part.known_from else ""
    return f"the paper's statement{known}, that {why}; the bound is our reading"


def _once(parts: Iterable[Part]) -> list[Part]:
    return [next(same) for _, same in groupby(parts, key=lambda part: part.source)]


def _fold(v: Verdict) -> str:
    if not v.parts:
        return ""
    rows = []
    for part in v.parts:
        fixed = f", fixed on {escape(part.date)}" if part.date else ""
        rows.append(
            f'<li class="part"><p class="part-head"><span>{_unbroken(part.says)}</span>'
            f"{badge(part.verdict)}</p><p>measured <strong>{number(part)}</strong>{_needs(part)}</p>"
            f'<p class="part-source">{escape(first_up(whose_demand(part)))}{fixed}</p></li>'
        )
    judged = sum(part.verdict != DESCRIPTIVE for part in v.parts)
    shown = len(v.parts) - judged
    counts = [f"judged by {_parts(judged)}"] * (judged > 0)
    counts += [f"{_parts(shown)} shown, not judged"] * (shown > 0)
    summary = f"<summary>{first_up('; '.join(counts))}</summary>"
    return f'<details>{summary}<ul class="parts">{"".join(rows)}</ul></details>'


def _parts(count: int) -> str:
    return "1 part" if count == 1 else f"{count} parts"


def badge(verdict: str) -> str:
    """A verdict as icon, word and colour."""
    icon = f'<svg viewBox="0 0 16 16" aria-hidden="true"><path d="{ICONS[verdict]}"/></svg>'
    return f'<span class="verdict {verdict.replace(" ", "-")}">{icon}{verdict}</span>'


def main_study(store: Store | None = None) -> SwitchStudy | None:
    """The study of the main picture, or None where a run of it is missing or damaged."""
    return stored_study(MAIN, store)


def other_studies(store: Store | None = None) -> list[SwitchStudy]:
    """Those of the other networks, as far as their runs are there."""
    study = stored_study(OTHERS, store)
    return [] if study is None else list(study.panels.values())


def stored_study(name: str, store: Store | None) -> Any:
    """A chapter's study as it is stored; None where it is not, or is damaged."""
    found = chapter(name)
    try:
        return found.study(found.at(profile()), store or Store(), compute=False)
    except (MissingRun, Corrupted):
        return None


def main_figure(study: SwitchStudy | None, others: Sequence[SwitchStudy] = ()) -> str:
    """The main picture, in the page's own ink, with what to see in it."""
    if study is None:
        return f'<p class="main-figure">The main picture has no runs yet; {NO_RESULTS}</p>'
    x, dom, bulk = map(study.name, ("none", "dominant", "bulk"))
    studies = {_network(one): one for one in (study, *others)}
    nets = [f"the {name} ({_seeds(one)})" for name, one in studies.items()]
    caption = (
        f"Training loss of {says.listed(nets)}: one line for each seed, the first bold. "
        f"Dots mark the switch, where {x}, {dom} and {bulk} start from the same point. From there on {dom} "
        f"applies only the part of each update that lies in the dominant subspace, {bulk} only the rest. "
        "The first steps, up to a tenth of the way to the first switch, may lie outside the axes."
    )
    picture = losses_of(studies).svg()
    below = f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure class="main-figure">{picture}{below}</figure>'


def _network(study: SwitchStudy) -> str:
    p = study.parameters
    return trained(p.model, p.dataset)


def _seeds(study: SwitchStudy) -> str:
    return says.seeds(len(study.parameters.seeds))


def comparison(here: Sequence[Verdict], stored: Sequence[Verdict]) -> str:
    """A table of every quantity: as computed here, and as the repository stores it."""
    known = {(v.claim, part.says): part for v in stored for part in v.parts}
    lines = [
        f"<tr><td>{escape(v.claim)}</td><td>{escape(part.says)}</td><td>{number(part)}</td>"
        f"<td>{number(known[key]) if (key := (v.claim, part.says)) in known else 'not stored'}</td></tr>"
        for v in here
        for part in v.parts
    ]
    if not lines:
        return f"<p>No claim has its runs in this folder yet; {NO_RESULTS}</p>"
    heads = "".join(f"<th>{h}</th>" for h in ("claim", "quantity", "here", "stored"))
    return f'<table class="comparison"><tr>{heads}</tr>{"".join(lines)}</table>'


def stacked(heads: Iterable[str], rows: Iterable[Iterable[str]], name: str) -> str:
    """A table of HTML cells, each with its column's name for a phone, where they stand below each other."""
    names = list(heads)
    head = "".join(f'<th scope="col">{h}</th>' for h in names)
    body = "".join(
        "<tr>"
        + "".join(f'<td data-label="{n}">{c}</td>' for n, c in zip(names, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<table class="stacked {name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def links(addresses: Mapping[str, str | None]) -> str:
    """Links by their label; those without an address are left out."""
    found = [
        f'<a href="{escape(address)}">{escape(label)}</a>'
        for label, address in addresses.items()
        if address
    ]
    return f'<p class="book-links">{" · ".join(found)}</p>' if found else ""


def number(part: Part) -> str:
    """Mean and interval; what is undefined says why."""
    if part.measured is None:
        return escape(f"undefined ({part.note})" if part.note else "undefined")
    if part.note and set(part.values) == {DIVERGED_PROGRESS}:
        return escape(part.note)
    note = f" ({escape(part.note)})" if part.note else ""
    mean, *span = interval_text(part.measured, part.interval).split(" ", 1)
    return " ".join([mean, *(text.replace(" ", "&nbsp;") for text in span)]) + note


def _needs(part: Part) -> str:
    """What is needed, after a number; nothing where it is shown without a criterion."""
    return f", needed: {needed(part)}" if part.source else ""


def needed(part: Part) -> str:
    """The criterion, on one line."""
    return escape(part.criterion).replace(" ", "&nbsp;")


def _unbroken(text: str) -> str:
    """Text in which a line does not break at the slash of a formula: "2/η"."""
    return re.sub(r"(?<=\S)/(?=\S)", "\u2060/\u2060", escape(text))


def title_of(name: str) -> str:
    """A network's or data set's name as a reader knows it, as HTML."""
    return escape(title(name))


def first_up(text: str) -> str:
    """The text with a capital first letter, where that is a letter and no symbol."""
    return text[:1].upper() + text[1:] if text[:1].isascii() else text
