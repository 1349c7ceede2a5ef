"""The front page, made from verdicts: the answer, a card a claim, the main picture, the links; as HTML."""

from __future__ import annotations

import json
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
from subspace_lib.chapters.ledger import of_kind, profile
from subspace_lib.evidence.criteria import CONFIDENCE, MINIMUM_SEEDS
from subspace_lib.evidence.verdicts import (
    CLAIM,
    DESCRIPTIVE,
    FAILS,
    FINDING,
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
Setting = tuple[str, str, str]  # model, data set, preprocessing

MAIN, OTHERS = "02_dom_vs_bulk", "02b_architectures"
NO_RESULTS = "<code>make results</code> computes what is missing."
# The claims on Dom-SGD and on Bulk-SGD, by network.
NETWORKS = (("C2", "C3"), ("C2b", "C3b"), ("C2c", "C3c"))
HEADLINES = 2  # parts of a reproduced claim whose numbers stand on its card


# The paper's own settings, by its code very probably.
PAPER_MLP: Setting = ("mlp", "mnist5k", "unit")
PAPER_OTHERS = (("cnn", "cifar10_5k"), ("transformer", "sst2_1k"))
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
KINDS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, MISSING)
FOUND = (HOLDS, FAILS, INCONCLUSIVE, DESCRIPTIVE, MISSING)


def answer(
    verdicts: Sequence[Verdict], claims: Mapping[str, Claim], settings: Sequence[Setting]
) -> str:
    """What was reproduced, what was not and why, what was found beyond, what is still missing."""
    findings, verdicts = of_kind(FINDING, verdicts), of_kind(CLAIM, verdicts)
    of = {kind: [v for v in verdicts if v.verdict == kind] for kind in KINDS}
    if len(of[MISSING]) == len(verdicts):
        return f'<p class="answer">This book holds no results yet; {NO_RESULTS}</p>'
    items = []
    for kind in KINDS[:-1]:
        if of[kind]:
            lead = (
                f"<strong>{_first_up(kind)}, {len(of[kind])} of {len(verdicts)} claims</strong>: "
            )
            if kind == REPRODUCED:
                told = _items((_seen(v, claims[v.claim]) for v in of[kind]), "found")
            else:
                told = _items(_decided(v, claims[v.claim]) for v in of[kind])
            items.append(lead + told)
    if not of[NOT_REPRODUCED] and not of[INCONCLUSIVE]:
        items.append("<strong>Not reproduced</strong>: none.")
    if findings:
        items.append(f"<strong>Beyond the paper</strong>: {_found(findings, claims)}")
    items.append(f"<strong>Still missing</strong>: {still_missing(of[MISSING], settings)}")
    return _items(items, "answer")


def _found(findings: Sequence[Verdict], claims: Mapping[str, Claim]) -> str:
    """The findings by what became of them, what was seen where they hold; they decide no claim."""
    told = []
    for kind in FOUND:
        mine = [v for v in findings if v.verdict == kind]
        if kind == HOLDS:
            told += [_seen(v, claims[v.claim]) for v in mine]
        elif kind == FAILS:
            told += [f"{FAILS}: {_failing(v)}" for v in mine]
        elif mine:
            names = [
                _anchor(v) + (f" ({escape(claims[v.claim].name)})" if claims[v.claim].name else "")
                for v in mine
            ]
            told.append(f"{kind}: {_list(names)}")
    return _items(told, "found")


def _failing(v: Verdict) -> str:
    """What a finding fails by."""
    deciding = headlines(v)[0]
    return f"{escape(deciding.says)} {_number(deciding)}, needed {_needed(deciding)} ({_anchor(v)})"


def _items(items: Iterable[str], name: str = "reasons") -> str:
    return f'<ul class="{name}">' + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _seen(v: Verdict, claim: Claim) -> str:
    """What was seen of a claim that is reproduced, or of a finding that holds."""
    seen = claim.seen.format(n=_number(headlines(v)[0])) if claim.seen else escape(claim.says)
    return f"{seen} ({_anchor(v)})"


def headline(verdicts: Sequence[Verdict]) -> str:
    """The answer in a sentence: progress of Dom-SGD and of Bulk-SGD on each network that was judged."""
    by = {v.claim: v for v in verdicts if v.parts and v.parts[0].measured is not None}
    pairs = [(by[dom], by[bulk]) for dom, bulk in NETWORKS if dom in by and bulk in by]
    if not pairs:
        return ""
    doms, bulks = (
        _list([f"{says.share(v.parts[0].measured or 0.0)} ({_name(v.model or '')})" for v in side])
        for side in zip(*pairs, strict=True)
    )
    return (
        f"<p><strong>In short</strong>: from the switch on, Dom-SGD makes {doms} of SGD's progress in "
        f"training loss, Bulk-SGD {bulks}.</p>"
    )


def _decided(v: Verdict, claim: Claim) -> str:
    deciding = headlines(v)[0]
    name = f" ({claim.name})" if claim.name else ""
    others = {part.verdict for part in v.parts if part != deciding}
    rest = " All else in it is reproduced." if others == {REPRODUCED} else ""
    return (
        f"{_anchor(v)}{name}: <em>{escape(deciding.says)}</em> is {_number(deciding)}; "
        f"{_needed(deciding)} is needed. That is {escape(whose_demand(deciding))}.{rest}"
    )


def _anchor(v: Verdict) -> str:
    return f'<a href="#claim-{escape(v.claim)}">{escape(v.claim)}</a>'


def still_missing(missing: Sequence[Verdict], settings: Sequence[Setting]) -> str:
    """What the runs were made with, and what of the paper's settings and claims has no run."""
    lacks = []
    if PAPER_MLP not in settings:
        lacks.append("pixels as they are (x/255, by the code that is very probably the paper's)")
    for model, dataset in PAPER_OTHERS:
        if (model, dataset) not in [setting[:2] for setting in settings]:
            lacks.append(f"the {_name(model)} on {_name(dataset)}")
    have = [f"the {_name(m)} on {_name(d)} with {_name(p)}" for m, d, p in settings]
    told = []
    if lacks:
        told.append(f"not yet run: {_list(lacks)}")
    if missing:
        told.append(f"no results yet for {_list([_anchor(v) for v in missing])}")
    if not told:
        told.append("nothing of the paper's settings and claims")
    if have:
        told.append(f"what is here was judged on {_list(have)}")
    return "; ".join(told) + "."


def settings(verdicts: Iterable[Verdict], store: Store | None = None) -> list[Setting]:
    """Model, data set and preprocessing of the networks that the claims were judged on, by their runs."""
    roots, found = (store or Store()).roots, set()
    for key in {key for v in of_kind(CLAIM, verdicts) for key in v.results}:
        paths = [path for root in roots if (path := root / key / "description.json").exists()]
        described = json.loads(paths[0].read_text(encoding="utf-8")) if paths else {}
        if "model" in described:
            found.add((described["model"], described["dataset"], described["preprocessing"]))
    return sorted(found)


def how_to_read() -> str:
    """How a number becomes a verdict, in one sentence."""
    return (
        '<p class="ledger-key"><strong>How to read a verdict.</strong> '
        f"A part is {badge(REPRODUCED)} when the whole {CONFIDENCE:.0%} interval of its mean over "
        f"seeds meets the criterion, {badge(NOT_REPRODUCED)} when all of it fails, and "
        f"{badge(INCONCLUSIVE)} when the interval lies on both sides or there are fewer than "
        f"{MINIMUM_SEEDS} seeds; a claim gets its worst part's verdict. What we ask beyond the paper "
        f"is a finding: it {badge(HOLDS)} or {badge(FAILS)}, or is {badge(DESCRIPTIVE)} without a "
        f"criterion, and decides no claim. {badge(MISSING)}: its runs are not finished.</p>"
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
        f"<li>{_unbroken(part.says)}: <strong>{_number(part)}</strong>{_needs(part)}</li>"
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
    for verdict in WORST_FIRST:
        others = [escape(p.says) for p in v.parts if p.verdict == verdict != v.verdict]
        text += f" {_first_up(verdict)}: {'; '.join(others)}." if others else ""
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
    count = "1 part" if len(v.parts) == 1 else f"{len(v.parts)} parts"
    rows = []
    for part in v.parts:
        fixed = f", fixed on {escape(part.date)}" if part.date else ""
        rows.append(
            f'<li class="part"><p class="part-head"><span>{_unbroken(part.says)}</span>'
            f"{badge(part.verdict)}</p><p>measured <strong>{_number(part)}</strong>{_needs(part)}</p>"
            f'<p class="part-source">{escape(_first_up(whose_demand(part)))}{fixed}</p></li>'
        )
    summary = f"<summary>Judged by {count}</summary>"
    return f'<details>{summary}<ul class="parts">{"".join(rows)}</ul></details>'


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
        f"Training loss of {_list(nets)}: one line for each seed, the first bold. "
        f"Dots mark the switch, where {x}, {dom} and {bulk} start from the same point. From there on {dom} "
        f"applies only the part of each update that lies in the dominant subspace, {bulk} only the rest."
    )
    picture = losses_of(studies).svg()
    below = f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure class="main-figure">{picture}{below}</figure>'


def _network(study: SwitchStudy) -> str:
    p = study.parameters
    return trained(p.model, p.dataset)


def _seeds(study: SwitchStudy) -> str:
    count = len(study.parameters.seeds)
    return "1 seed" if count == 1 else f"{count} seeds"


def comparison(here: Sequence[Verdict], stored: Sequence[Verdict]) -> str:
    """A table of every quantity: as computed here, and as the repository stores it."""
    known = {(v.claim, part.says): part for v in stored for part in v.parts}
    lines = [
        f"<tr><td>{escape(v.claim)}</td><td>{escape(part.says)}</td><td>{_number(part)}</td>"
        f"<td>{_number(known[key]) if (key := (v.claim, part.says)) in known else 'not stored'}</td></tr>"
        for v in here
        for part in v.parts
    ]
    if not lines:
        return f"<p>No claim has its runs in this folder yet; {NO_RESULTS}</p>"
    heads = "".join(f"<th>{h}</th>" for h in ("claim", "quantity", "here", "stored"))
    return f'<table class="comparison"><tr>{heads}</tr>{"".join(lines)}</table>'


def links(addresses: Mapping[str, str | None]) -> str:
    """Links by their label; those without an address are left out."""
    found = [
        f'<a href="{escape(address)}">{escape(label)}</a>'
        for label, address in addresses.items()
        if address
    ]
    return f'<p class="book-links">{" · ".join(found)}</p>' if found else ""


def _number(part: Part) -> str:
    """Mean and interval; what is undefined says why."""
    if part.measured is None:
        return escape(f"undefined ({part.note})" if part.note else "undefined")
    note = f" ({escape(part.note)})" if part.note else ""
    mean, *span = interval_text(part.measured, part.interval).split(" ", 1)
    return " ".join([mean, *(text.replace(" ", "&nbsp;") for text in span)]) + note


def _needs(part: Part) -> str:
    """What is needed, after a number; nothing where it is shown without a criterion."""
    return f", needed: {_needed(part)}" if part.source else ""


def _needed(part: Part) -> str:
    """The criterion, on one line."""
    return escape(part.criterion).replace(" ", "&nbsp;")


def _unbroken(text: str) -> str:
    """Text in which a line does not break at the slash of a formula: "2/η"."""
    return re.sub(r"(?<=\S)/(?=\S)", "\u2060/\u2060", escape(text))


def _name(name: str) -> str:
    return escape(title(name))


def _list(items: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
