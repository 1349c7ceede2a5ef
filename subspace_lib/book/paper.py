"""The paper, figure by figure: what of it is known, where this book has it, what differs, what is not done.

The paper's running text was not at hand: each item says how it is known, by the marks of
``evidence.criterion``. Verdicts, seeds and links come from the registered chapters and the stored runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from subspace_lib.book.made import Made, judged
from subspace_lib.chapters import front, registered
from subspace_lib.evidence.criterion import MARKS
from subspace_lib.evidence.verdicts import MISSING, Verdict

Link = Callable[[str], str | None]


@dataclass(frozen=True)
class Item:
    """A figure, table or section of the paper.

    Attributes:
        id: its anchor; name: as the paper calls it; shows: what it shows, in our words.
        marks: how it is known, names of ``MARKS``.
        claims: claims and findings of this book that take it up.
        differs: what differs here, a sentence; absent: why it is not done, where no chapter has it.
        case: in the name of a part that a verdict must have to be about this item; "" for any.
    """

    id: str
    name: str
    shows: str
    marks: tuple[str, ...]
    claims: tuple[str, ...]
    differs: str = ""
    absent: str = ""
    case: str = ""


NARROW = "the runs of a network of a quarter of the paper's width are not finished"
ITEMS = (
    Item(
        "fig-1a",
        "Figure 1a",
        "Training loss of SGD, Dom-SGD and Bulk-SGD: MLP on MNIST-5k.",
        ("rev", "cap"),
        ("C2", "C3"),
        "The switch: the threshold is the replication's; its earliest and latest step are our choice. The "
        "subspace is refreshed when it has turned by too much, not at every step.",
    ),
    Item(
        "fig-1b",
        "Figure 1b",
        "The same: CNN on CIFAR10-5k.",
        ("rev", "cap"),
        ("C2b", "C3b"),
        "The switch comes by step 5,000 at the latest.",
    ),
    Item(
        "fig-1c",
        "Figure 1c",
        "The same: Transformer on SST2-1k.",
        ("rev", "cap"),
        ("C2c", "C3c"),
        "Embedding rows of tokens that do not occur are left out of θ: they never move.",
    ),
    Item(
        "fig-3",
        "Figure 3",
        "The alignment of the gradient rises after a warm-up.",
        ("rev", "cap"),
        ("C1",),
        "Judged at the end of 20,000 steps; its course is shown.",
    ),
    Item(
        "section-4",
        "Section 4",
        "Minibatch noise causes the alignment below the edge of stability.",
        ("rev",),
        ("C4",),
        "The paper's η, the step at which it takes the noise away, and for how long are not known. Ours "
        "are those of the first figure, the switch, and 10/(ηλₖ) steps.",
    ),
    Item(
        "fig-8",
        "Figure 8",
        "A toy of two sample losses, an ill-conditioned valley with a term ±100xy, has the same phenomena.",
        ("rev", "cap"),
        ("C5",),
        "Its other constants are our choice. A spiked regression is added.",
    ),
    Item(
        "fig-9",
        "Figures 9 and 10",
        "At the edge of stability Bulk-GD is less noisy and faster than GD; Dom-GD fails.",
        ("rev", "cap"),
        ("C6", "F5"),
        "η and the switch are our choice. What Dom-GD gains as its bounce dies out is shown apart. Noise "
        "is not measured. F5 is our addition.",
    ),
    Item(
        "section-5-2",
        "Section 5.2",
        "The same for SAM.",
        ("rev",),
        ("C7",),
        "The paper's ρ is not known. A pilot chose the smallest that lowers the sharpness by a fifth.",
    ),
    Item(
        "table-1",
        "Table 1",
        "Effective learning rates in both parts of the gradient: momentum and Adam amplify the bulk's.",
        ("rev", "code"),
        ("C8", "F2"),
        "The table's numbers and Adam's η are not known. Medians and later windows are shown beside the "
        "mean of the first 1,000 steps.",
    ),
    Item(
        "fig-14",
        "Figure 14",
        "With cross-entropy the loss rises under Dom-SGD.",
        ("rev", "cap"),
        ("Q1",),
        "η and the switch are not known; ours are those of Figure 1a (MLP) and 1b (CNN), in fewer steps. "
        "The subspace is refreshed less often than at every step.",
    ),
    Item(
        "fig-15",
        "Figure 15",
        "The top 10 eigenvalues lie significantly above the next 10.",
        ("rev", "cap"),
        ("C1",),
        "“Significantly” is read as λₖ/λₖ₊₁ ≥ 2.",
    ),
    Item(
        "fig-17",
        "Figure 17",
        "VGG-11: the loss rises under Dom-SGD.",
        ("rev", "cap"),
        ("Q1",),
        "A quarter of the paper's width, 1,000 images; shown, not judged.",
        absent=NARROW,
        case="VGG-11",
    ),
    Item(
        "app-d-1",
        "Appendix D.1",
        "GD with a small η and cross-entropy.",
        ("rev",),
        ("F7",),
        "What the appendix shows is not known to us; network, η, lengths and the question are ours.",
    ),
    Item(
        "app-f",
        "Appendix F",
        "Momentum and Adam, projected on the dominant part, stop learning.",
        ("rep",),
        ("C8", "F3"),
        "Bulk- versions are added (F3).",
    ),
)
UNKNOWN = (
    "Figures 2, 4 to 7, 11 to 13 and 16 and the other appendices are not known to us: they stand neither "
    "in the reviews nor in captions that are quoted elsewhere. What is in them may be missing here."
)


def page(verdicts: Sequence[Verdict], link: Link, to_claim: str) -> str:
    """A card for each item, and what is not known.

    ``link`` has the address of a chapter's page, ``to_claim`` that of the page with the claims' cards.
    """
    judged_ = {v.claim: v for v in verdicts}
    where = {claim.id: c.name for c in registered().values() for claim in c.claims}
    cards = "".join(_card(item, _about(item, judged_), where, link, to_claim) for item in ITEMS)
    return f'<ul class="ledger">{cards}</ul><p>{UNKNOWN}</p>'


def _about(item: Item, verdicts: Mapping[str, Verdict]) -> list[Verdict]:
    """The verdicts that have looked at the item."""
    found = [verdicts[claim] for claim in item.claims if claim in verdicts]
    return [v for v in found if not item.case or any(item.case in part.says for part in v.parts)]


def _card(
    item: Item, found: Sequence[Verdict], where: Mapping[str, str], link: Link, to_claim: str
) -> str:
    head = f'<span class="claim-id">{escape(item.name)}</span>{_chapters(item.claims, where, link)}'
    known = " and ".join(MARKS[mark] for mark in item.marks)
    body = (
        f'<p class="claim-head">{head}</p><p class="claim-says">{escape(item.shows)}</p>'
        f"{_here(item, found, to_claim)}"
        f'<p class="claim-note">Known from {escape(known)}.</p>'
    )
    return f'<li class="claim" id="{item.id}">{body}</li>'


def _chapters(claims: Sequence[str], where: Mapping[str, str], link: Link) -> str:
    """Links to the chapters, each once, at the right of a card's head."""
    names = dict.fromkeys(where[claim] for claim in claims if claim in where)
    links = [
        f'<a href="{escape(address)}">Chapter {escape(name.partition("_")[0])}</a>'
        for name in names
        if (address := link(name))
    ]
    return f'<span class="item-chapters">{" ".join(links)}</span>' if links else ""


def _of_case(v: Verdict, case: str) -> str:
    """What a verdict has of one case, with that case's own seeds."""
    parts = [part for part in v.parts if case in part.says]
    seeds = max(len(part.values) for part in parts)
    told = "; ".join(f"{escape(part.says)}: {front.number(part)}" for part in parts)
    return f"{front.badge(parts[0].verdict)}, {seeds} seed{'s' * (seeds > 1)}: {told}"


def _whole(v: Verdict) -> str:
    """A verdict with its seeds and steps."""
    seeds = ", ".join(map(str, v.seeds))
    of = f", seeds {seeds}" if len(v.seeds) > 1 else f", seed {seeds}" if seeds else ""
    steps = f", {v.steps:,} steps" if v.steps else ""
    return f"{front.badge(v.verdict)}{of}{steps}"


def _here(item: Item, found: Sequence[Verdict], to_claim: str) -> str:
    if not found or all(v.verdict == MISSING for v in found):
        absent = item.absent or "its runs are not finished"
        lead = "Not judged yet" if item.claims else "Not done"  # with a chapter or without
        return f"<p><strong>{lead}</strong>, because {absent}.</p>"
    lines = [
        f'<li><a href="{to_claim}#claim-{escape(v.claim)}">{escape(v.claim)}</a> '
        f"{_of_case(v, item.case) if item.case else _whole(v)}</li>"
        for v in found
    ]
    differs = f"<p>What differs: {item.differs}</p>" if item.differs else ""
    return f'<ul class="claim-numbers">{"".join(lines)}</ul>{differs}'


class Figures(Made):
    """``{paper-figures}``: a card for each figure, table and section of the paper that is known."""

    def html(self) -> str:
        """The cards, with links to chapters and claims."""
        return page(judged(), self.address, self.to("index") or "")
