"""The front page: its texts on made-up verdicts, and the page itself, built and in a headless browser."""

import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlparse

import pandas as pd
import pytest
import yaml
from jupyter_book.sphinx import build_sphinx

from subspace_lib import book
from subspace_lib.book import card as preview
from subspace_lib.chapters import front, history, ledger, outcome
from subspace_lib.chapters.kit.switch.judge import part_of_pairs
from subspace_lib.chapters.kit.switch.panel import PanelParameters
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy
from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import MARKS, Criterion
from subspace_lib.evidence.verdicts import CLAIM, FINDING, Claim, Verdict, missing, part, verdict
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory

# of Jupyter Book's own extensions
pytestmark = [
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
CHAPTERS = [path for path in NOTEBOOKS if path.stem[0].isdigit()]  # the others are how-tos
PHONE = {"width": 390, "height": 844}
THEMES = ("light", "dark")
PAPERS = Criterion("2026-11-22", "paper: the loss stands still", at_most=0.1, marks=("rev", "cap"))
OURS = Criterion("2026-11-23", "own: it falls at every step", at_least=0.5)
CLAIMS = {name: Claim(name, f"{name} is so", "≤ 0.1") for name in ("C2", "C8", "X1")}


def judged(name, *parts):
    return verdict(CLAIMS[name], parts, SwitchParameters(), [])


GOOD = part("progress(Dom-SGD)", [0.01, 0.02, 0.03], PAPERS)
OPEN = part("progress(Dom-GD)", [0.0, 0.1, 0.2], PAPERS)
BAD = part("smallest <fall>", [-0.1, -0.2, -0.3], OURS)
NONE = part("progress(Bulk-Adam)", [math.nan] * 3, OURS, "3 of 3 runs of Bulk-Adam diverged")


SHOWN = part("late rate", [0.4], None)


def plain(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html).replace("&nbsp;", " ")).strip()


def card(*parts):
    """The card of a claim with these parts: all that is seen at once, and what is folded."""
    seen, _, folded = front.ledger([judged("X1", *parts)], CLAIMS).partition("<details>")
    return plain(seen), plain(folded)


def test_a_card_says_number_interval_and_verdict():
    seen, folded = card(GOOD)
    assert "X1 reproduced X1 is so." in seen
    assert "progress(Dom-SGD): 0.020 (−0.005 … 0.045) , needed: ≤ 0.1" in seen
    assert "decide" not in seen
    assert folded.startswith("Judged by 1 part progress(Dom-SGD) reproduced measured 0.020")
    assert "fixed on 2026-11-22" in folded and "The paper's statement" in folded.replace(
        "&#x27;", "'"
    )


def test_a_card_says_which_part_decides_and_whose_demand_it_is():
    seen, folded = card(GOOD, BAD)
    assert "not reproduced" in seen and "smallest &lt;fall&gt;: −0.200" in seen
    assert (
        "This decides : a demand of ours, not the paper&#x27;s: that it falls at every step."
        in seen
    )
    assert seen.endswith("Reproduced: progress(Dom-SGD).")
    assert "fixed on 2026-11-23" in folded and "Judged by 2 parts" in folded
    seen, _ = card(OPEN, GOOD)
    assert "inconclusive" in seen and "lies on both sides" in seen
    assert (
        "the paper&#x27;s statement (known from the paper&#x27;s public reviews and a figure caption "
        "quoted elsewhere), that the loss stands still; the bound is our reading" in seen
    )


def test_a_finding_is_shown_by_words_of_its_own_and_decides_no_claim():
    finding = Claim("F9", "It falls", "≥ 0.5", name="falling", kind="finding")
    fails = verdict(finding, [BAD], SwitchParameters(), [])
    shown = verdict(finding, [SHOWN], SwitchParameters(), [])
    text = plain(front.ledger([fails], {"F9": finding}))
    assert "F9 does not hold It falls." in text and "reproduced" not in text
    text = plain(front.ledger([shown], {"F9": finding}))
    assert "F9 descriptive It falls. late rate: 0.400 1 part shown, not judged" in text
    assert "needed" not in text and "Shown, not judged" in text
    rows, claims = [judged("C2", GOOD), fails], CLAIMS | {"F9": finding}
    answer = plain(outcome.answer(rows, claims, {}))
    assert "Reproduced, 1 of 1 claims" in answer and "Not reproduced : none." in answer
    assert re.search(
        r"Beyond the paper : does not hold \( F9 \): “It falls”\. .* \d\.\d+.*, needed", answer
    )
    assert "Not reproduced : none." not in plain(outcome.answer([judged("C8", BAD)], CLAIMS, {}))


def test_what_the_paper_shows_and_a_finding_does_not_see_is_not_called_beyond_the_paper():
    finding = Claim("F9", "It rises", "≤ 0.1", name="rising", kind="finding")
    seen_by_the_paper = part("progress(Dom-SGD)", [0.4, 0.41, 0.42], PAPERS)
    fails = verdict(finding, [seen_by_the_paper], SwitchParameters(), [])
    answer = plain(outcome.answer([judged("C2", GOOD), fails], CLAIMS | {"F9": finding}, {}))
    assert "Beyond the paper" not in answer and "Not reproduced : none." not in answer
    assert "does not hold as a whole" not in answer
    told = "Shown by the paper beside its claims, not confirmed here : does not hold ( F9 ): “It rises”."
    assert told in answer
    half = verdict(
        finding,
        [seen_by_the_paper, part("late rate", [0.04, 0.05, 0.06], PAPERS)],
        SwitchParameters(),
        [],
    )
    answer = plain(outcome.answer([judged("C2", GOOD), half], CLAIMS | {"F9": finding}, {}))
    assert (
        "does not hold as a whole ( F9 ): “It rises”. What fails: progress(Dom-SGD): 0.410"
        in answer
    )
    assert re.search(
        r"needed ≤.0\.1 \(our reading of the paper's statement\)\. What holds: late rate: 0\.050",
        answer,
    )


def test_parts_of_one_quantity_are_told_together_and_many_that_hold_are_counted():
    finding = Claim("F9", "It rises", "≤ 0.1", name="rising", kind="finding")
    low, high = [0.04, 0.05, 0.06], [0.4, 0.41, 0.42]
    parts = [part(f"rate, {where}", high, PAPERS) for where in ("a CNN", "an MLP")]
    parts += [part(f"late rate, {where}", low, PAPERS) for where in "abc"]
    row = verdict(finding, parts, SwitchParameters(), [])
    told = plain(outcome.answer([judged("C2", GOOD), row], CLAIMS | {"F9": finding}, {}))
    told = told.replace("\xa0", " ").replace("&nbsp;", " ")
    assert re.search(
        r"fails: rate: 0\.410 \(.{13}\) \(a CNN\) and 0\.410 \(.{13}\) \(an MLP\), needed", told
    )
    assert "The other 3 parts hold." in told and "late rate" not in told


def test_the_number_on_a_findings_card_is_the_one_that_is_judged():
    met = part("largest fall", [0.69, 0.7, 0.71], OURS)
    seen, _ = card(met, SHOWN)
    assert "largest fall: 0.700" in seen
    assert SHOWN.says not in seen


def test_what_the_protocol_did_is_said_on_the_card():
    row = verdict(CLAIMS["X1"], [GOOD], SwitchParameters(), [], "Switched by the fallback.")
    assert "Switched by the fallback." in plain(front.ledger([row], CLAIMS))


def test_what_is_undefined_is_explained_where_it_stands():
    for text in (*card(NONE), card(GOOD, BAD, NONE)[1]):
        assert "undefined (3 of 3 runs of Bulk-Adam diverged)" in text
    assert part("x", [math.nan, 1.0, 2.0], PAPERS).note == "undefined in 1 of 3 runs"
    assert "2 of the 3 seeds" in card(part("x", [0.0, 0.01], PAPERS))[0]
    assert GOOD.note == ""


def test_a_part_of_runs_says_which_of_them_diverged():
    def run(end, status="complete"):
        table = pd.DataFrame({"step": [500, 1000], "train_loss": [1.0, end]})
        return Trajectory(SwitchParameters(steps=1000).experiment(0), table, status, None, {})

    pairs = [(run(0.5), run(0.5, "diverged at step 7")), (run(1.2), run(1.0)), (run(0.5), run(0.5))]
    found = part_of_pairs("x", pairs, criteria.F3_BULK, ("Adam", "Bulk-Adam"))
    assert found.note == (
        "1 of 3 runs of Bulk-Adam diverged; Adam gained less than 10% of the loss at the switch in "
        "1 of 3 runs"
    )
    assert found.own and found.measured is None
    found = part_of_pairs("x", [pairs[0], *pairs[2:] * 2], criteria.F3_BULK, ("Adam", "Bulk-Adam"))
    assert found.values == (-1.0, 1.0, 1.0) and found.note == "1 of 3 runs of Bulk-Adam diverged"


def test_the_answer_has_every_kind_of_verdict_with_its_reason():
    rows = [judged("C2", GOOD), judged("C8", GOOD, BAD), judged("X1", OPEN)]
    text = plain(
        outcome.answer(
            rows, CLAIMS | ledger.claims(), {("mlp", "mnist5k", "standardized"): ["C2", "C8"]}
        )
    ).replace("&#x27;", "'")
    assert (
        "Reproduced, 1 of 3 claims : of Dom-SGD and Bulk-SGD, what the table shows ( C2 )" in text
    )
    assert (
        "Not reproduced, 1 of 3 claims : C8 (momentum and Adam): smallest &lt;fall&gt; is" in text
    )
    assert "needed. That is a demand of ours, not the paper's: that it falls at every step." in text
    assert "All else in it is reproduced." in text
    assert "Inconclusive, 1 of 3 claims : X1 : progress(Dom-GD) is 0.100 (" in text
    assert "Judged on : the MLP on MNIST-5k with standardized pixels (C2 and C8)." in text
    assert "x/255" in text and "the CNN on CIFAR10-5k and the Transformer on SST2-1k." in text


def test_what_is_still_missing_follows_from_the_runs():
    every = [("cnn", "cifar10_5k", "unit"), ("mlp", "mnist5k", "unit")]
    text = plain(outcome.still_missing([], [*every, ("transformer", "sst2_1k", "unit")]))
    assert "not yet run" not in text and text == "nothing."
    some = plain(outcome.still_missing([], every, (), {"02b_x": 4, "08_y": 1}))
    assert some.endswith("; runs: 4 of chapter 02b and 1 of chapter 08.")
    whole = [*every, ("transformer", "sst2_1k", "tokens")]
    alone = plain(outcome.still_missing([], whole, (), {"08_y": 1}))
    assert alone == "runs: 1 of chapter 08; no claim waits for them."
    text = plain(outcome.still_missing([missing(CLAIMS["X1"])], every))
    assert text == "not yet run: the Transformer on SST2-1k; no results yet for X1 ."


def test_the_settings_are_those_of_the_judged_claims_runs(tmp_path):
    for key, pixels in (("one", "unit"), ("two", "standardized")):
        (tmp_path / key).mkdir()
        described = {"model": "mlp", "dataset": "mnist5k", "preprocessing": pixels}
        (tmp_path / key / "description.json").write_text(json.dumps(described))
    rows = [
        Verdict("C2", "reproduced", "", results=("one",)),
        Verdict("F6", "descriptive", "", results=("one", "two"), kind=FINDING),
    ]
    assert outcome.settings(rows, Store(tmp_path)) == {("mlp", "mnist5k", "unit"): ["C2"]}


def test_without_results_the_texts_say_so(tmp_path):
    rows = ledger.verdicts(Store(tmp_path))
    assert "holds no results yet" in outcome.answer(rows, ledger.claims(), {})
    cards = front.ledger(rows, ledger.claims())
    assert cards.count("make results") == len(rows) and "<details" not in cards
    assert "has no runs yet" in front.main_figure(front.main_study(Store(tmp_path)))


def test_the_main_figure_has_a_panel_for_each_network_that_has_runs(tmp_path):
    assert front.other_studies(Store(tmp_path)) == []
    alone, p = (
        main_study(),
        PanelParameters(steps=1000, seeds=(11,), dataset="cifar10_5k", model="cnn"),
    )
    other = SwitchStudy(p, alone.trajectories, {11: 500}, {11: True})
    one, both = front.main_figure(alone), front.main_figure(alone, [other])
    assert "Training loss of the MLP on MNIST-5k (1 seed): one line for each seed" in one
    assert "the MLP on MNIST-5k (1 seed) and the CNN on CIFAR10-5k (1 seed): one" in both
    assert both.count("training loss L(θ)") == 2 * one.count("training loss L(θ)")
    names = [axes.get_title() for axes in preview.card([alone, other]).figure.axes]
    assert names == ["MLP on MNIST-5k", "CNN on CIFAR10-5k"]


def test_every_claim_of_the_book_has_its_words_and_every_criterion_its_source():
    claims = ledger.claims().values()
    assert all(c.name and c.plain for c in claims)
    assert all(c.seen for c in claims if c.kind == CLAIM)
    assert all(c.id.startswith("C") == (c.kind == CLAIM) for c in claims)
    for c in (c for c in vars(criteria).values() if isinstance(c, Criterion)):
        assert re.fullmatch(r"(paper|own): \S.*[^.]", c.source)
        # what the paper states is known from somewhere, what we ask is not
        assert bool(c.marks) == c.source.startswith("paper") and set(c.marks) <= set(MARKS)


def test_the_first_ledger_is_read_as_it_was_with_its_reasons():
    old = history.read("2026-11-22")
    then = {row["claim"]: row for row in old["verdicts"]}
    verdicts = [then[f"C{i}"]["verdict"] for i in range(1, 9)]
    assert verdicts == [
        "not reproduced",
        "reproduced",
        "reproduced",
        "not reproduced",
        "reproduced",
        "inconclusive",
        "reproduced",
        "not reproduced",
    ]
    text = plain(history.page(old, ledger.claims()))
    assert "C1 not reproduced Asked then:" in text and "1.229 (0.948 … 1.510)" in text
    assert text.count("Asked today:") == 8 and "no longer judged" not in text
    assert all(old["why"][name] in text.replace("&#x27;", "'") for name in then)
    assert "undefined (3 of 3 runs of Bulk-Adam diverged)" in text
    with pytest.raises(InvalidParameter, match="no ledger of 2026-01-01; there are 2026-11-22"):
        history.read("2026-01-01")


def test_a_link_without_an_address_is_left_out():
    assert front.links({"paper": "https://a.b/?c=1&d", "repository": ""}) == (
        '<p class="book-links"><a href="https://a.b/?c=1&amp;d">paper</a></p>'
    )
    assert front.links({"repository": None}) == ""


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapters_title_begins_with_its_number(chapter):
    title = re.search(r"^# # (.*)$", chapter.read_text(encoding="utf-8"), re.M)[1]
    assert title.startswith(f"{chapter.stem.partition('_')[0]} · ")


def invented():
    """A verdict on every claim and finding, of every kind, one of them with a note."""
    kinds = itertools.cycle([(GOOD,), (GOOD, BAD), (OPEN, GOOD), (GOOD, BAD, NONE)])
    rows = [
        verdict(claim, next(kinds), SwitchParameters(), [], "Switched by the fallback.")
        for claim in ledger.claims().values()
    ]
    rows[-1] = verdict(ledger.claims()[rows[-1].claim], [SHOWN], SwitchParameters(), [])
    rows[3] = missing(ledger.claims()[rows[3].claim])
    return rows


def main_study(store=None):
    """A made-up study for the main picture."""
    p, runs = SwitchParameters(steps=1000, seeds=(11,)), {}
    for projection, end in (("none", 0.5), ("dominant", 1.0), ("bulk", 0.5)):
        table = pd.DataFrame({"step": [500, 750, 1000], "train_loss": [1.0, 0.9, end]})
        branch = p.run(11, projection, 500)
        runs[projection, 11] = Trajectory(branch, table, "complete", None, {})
    return SwitchStudy(p, runs, {11: 500}, {11: True})


def build(folder, monkeypatch, results):
    """The book with its front page, glossary and references as they are; a chapter is a title
    and its formulas' labels.

    The page of chapter 07 has a table of verdicts, as chapters have.
    """
    source, out = folder / "book", folder / "html"
    shutil.copytree(
        ROOT / "book", source, ignore=lambda *_: ["notebooks", "_build"], symlinks=False
    )
    monkeypatch.setenv("SUBSPACE_RESULTS", str(results))
    book.judged.cache_clear()
    (source / "notebooks").mkdir()
    for chapter in NOTEBOOKS:
        text = chapter.read_text(encoding="utf-8")
        (title,) = re.findall(r"^# (# .*)$", text, re.M)[:1]
        formulas = "".join(f"\n$$x$$ ({name})\n" for name in re.findall(r"\$\$ \(([\w-]+)\)", text))
        table = ledger.table(ledger.verdicts()) if chapter.stem == "07_momentum_adam" else ""
        page = source / "notebooks" / f"{chapter.stem}.md"
        page.write_text(f"{title}\n\n{table}\n{formulas}", encoding="utf-8")
    code = build_sphinx(
        source,
        out,
        noconfig=True,
        path_config=source / "_config.yml",
        confoverrides={"latex_individualpages": False, "nitpicky": True},
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    book.judged.cache_clear()
    return out if code == 0 else None


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The built pages, with verdicts of every kind."""
    folder = tmp_path_factory.mktemp("front")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "verdicts", lambda *_: invented())
        patch.setattr(front, "main_study", main_study)
        out = build(folder, patch, folder / "results")
        assert out is not None
        return out


@pytest.fixture(scope="module")
def opened(browser, built):
    """A function that opens a page with a context's options."""

    def open_page(name="index", **options):
        page = browser.new_context(**options).new_page()
        page.goto((built / f"{name}.html").as_uri())
        return page

    return open_page


@pytest.fixture(scope="module")
def desk(opened):
    return opened(viewport={"width": 1280, "height": 900})


def test_the_page_has_a_card_for_every_claim_and_the_picture(desk):
    names = desk.locator("li.claim .claim-id").all_inner_texts()
    assert names == list(ledger.claims())
    assert desk.locator("li.claim .claim-head .verdict svg").count() == len(names)
    assert desk.locator("figure.main-figure svg[role=img]").get_attribute("aria-label")
    assert "start from the same point" in desk.locator("figure.main-figure figcaption").inner_text()
    above = desk.locator(".ledger-key").bounding_box()["y"]
    assert above < desk.locator("li.claim").first.bounding_box()["y"]


def test_every_link_of_the_page_leads_somewhere(desk, built):
    links = desk.locator("article a[href]").evaluate_all("all => all.map(a => a.href)")
    chapters = {path.stem for path in CHAPTERS}
    allowed = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]["book_links"]
    allowed = {address for address in allowed.values() if address}
    assert allowed <= set(links)
    for link in links:
        parts = urlparse(link)
        if parts.scheme == "https":
            assert link in allowed or parts.hostname.endswith("readthedocs.io")
            continue
        file = Path(unquote(parts.path))
        assert file.is_file() and file.is_relative_to(built)
        assert not parts.fragment or f'id="{unquote(parts.fragment)}"' in file.read_text()
        chapters.discard(file.stem)
    assert not chapters


def test_chapter_numbers_are_in_the_side_bar(desk):
    shown = desk.locator(".bd-sidebar-primary nav a").all_inner_texts()
    for chapter in CHAPTERS:
        assert any(text.startswith(f"{chapter.stem.partition('_')[0]} · ") for text in shown)


def test_a_fold_opens_by_keyboard_and_without_javascript(desk, opened):
    fold = desk.locator("#claim-C1 details")
    assert not fold.locator(".part").first.is_visible()
    desk.locator("#claim-C1 .claim-head a").focus()
    desk.keyboard.press("Tab")
    desk.keyboard.press("Enter")
    assert fold.locator(".part").first.is_visible()
    desk.keyboard.press("Space")
    assert not fold.locator(".part").first.is_visible()
    still = opened(java_script_enabled=False)
    still.locator("#claim-C8 summary").click()
    assert "3 of 3 runs of Bulk-Adam diverged" in still.locator("#claim-C8 .parts").inner_text()
    assert still.locator("figure.main-figure svg").is_visible()


def test_who_decides_is_seen_without_unfolding(desk):
    silent = ("reproduced", "holds", "descriptive", "missing")
    for card in desk.locator("li.claim").all():
        kind = card.locator(".claim-head .verdict").inner_text()
        assert (card.locator(".claim-why").count() == 1) == (kind not in silent)
        if kind not in silent:
            assert card.locator(".claim-why").is_visible()
            assert re.search("a demand of ours|the paper's statement", card.inner_text())


@pytest.mark.parametrize("name", ["index", "history", "comparison", "notebooks/07_momentum_adam"])
def test_on_a_phone_nothing_scrolls_sideways(opened, name):
    page = opened(name, viewport=PHONE, is_mobile=True, has_touch=True)
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    wide = page.evaluate(
        """() => [...document.querySelectorAll("article *")].filter((e) =>
             e.getBoundingClientRect().right > innerWidth + 1 ||
             (["auto", "scroll"].includes(getComputedStyle(e).overflowX) &&
              e.scrollWidth > e.clientWidth + 1)).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.locator("article :is(.verdict, table)").first.is_visible()
    cells = page.locator("table.verdicts td:visible").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect().width)"
    )
    assert all(width > PHONE["width"] / 2 for width in cells)
    assert bool(cells) == name.startswith("notebooks")


CONTRAST = """(selector) => {
  const channel = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (e) => {
    const colour = numbers(getComputedStyle(e).backgroundColor);
    return colour.length === 3 || !e.parentElement ? colour : ground(e.parentElement);
  };
  return [...document.querySelectorAll(selector)].map((e) => {
    const pair = [light(numbers(getComputedStyle(e).color)), light(ground(e))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  });
}"""
READ = ".verdict, .claim p, .claim li, .claim a, .claim summary, .answer, .ledger-key, figcaption"


@pytest.mark.parametrize("theme", THEMES)
def test_the_words_stand_out_from_their_ground(desk, theme):
    desk.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    desk.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    ratios = desk.evaluate(CONTRAST, READ)
    assert len(ratios) > 100 and min(ratios) >= 4.5
    grounds = desk.locator(".claim-head .verdict").evaluate_all(
        "all => all.map(e => [e.innerText, getComputedStyle(e).backgroundColor])"
    )
    assert len({tuple(ground) for ground in grounds}) == len({word for word, _ in grounds})
    assert all(badge.is_visible() for badge in desk.locator(".verdict").all())


@pytest.mark.whole
def test_without_results_the_page_is_built_and_says_so(tmp_path, monkeypatch):
    out = build(tmp_path, monkeypatch, tmp_path / "none")
    page = (out / "index.html").read_text()
    assert "This book holds no results yet" in page and "has no runs yet" in page
    assert page.count('class="claim"') == len(ledger.claims())
    assert '<span class="verdict missing">' in page
    assert "No claim has its runs in this folder yet" in (out / "comparison.html").read_text()


@pytest.mark.whole
def test_a_book_is_not_built_on_runs_that_may_not_be_judged(tmp_path, monkeypatch, capsys):
    run = main_study().of("none")[0]
    old = Trajectory(run.experiment, run.table, "complete", None, {"date": "2026-11-21"})
    row = verdict(ledger.claims()["C2"], [GOOD], SwitchParameters(), [old])
    monkeypatch.setattr(ledger, "verdicts", lambda *_: [row])
    assert build(tmp_path, monkeypatch, tmp_path / "none") is None
    assert "C2 rests on a run of 2026-11-21; its criterion was fixed on" in capsys.readouterr().err


def test_the_headline_has_a_number_for_each_network_that_was_judged():
    claims = ledger.claims()
    rows = [
        verdict(claims[name], [part("progress", [mean] * 3, None)], SwitchParameters(), [])
        for name, mean in (("C2", -0.001), ("C3", 1.01), ("C2b", 0.4))
    ]
    text = plain(outcome.headline(rows))
    assert "Dom-SGD makes 0.00 (MLP), and Bulk-SGD 1.01 (MLP)." in text
    assert outcome.headline(rows[2:]) == "" and outcome.headline([missing(claims["C2"])]) == ""


def test_the_table_has_a_row_for_each_rule_and_network_and_says_who_judges():
    def row(name, says, values, criterion):
        judging = verdict(
            ledger.claims()[name], [part(says, values, criterion)], SwitchParameters(), []
        )
        return replace(judging, model="mlp")

    verdicts = [
        row("F3", "progress(Bulk-Adam), update projected", [-1.0] * 3, criteria.F3_BULK),
        row("F3", "progress(Bulk-Adam), gradient projected", [0.5] * 3, criteria.F3_BULK),
        row("C2", "progress(Dom-SGD)", [0.01, 0.02, 0.03], criteria.DOM_RULES),
        row("C3", "progress(Bulk-SGD)", [1.0, 1.01, 1.02], criteria.F3_BULK),
        row("C8", "progress(Dom-Adam)", [math.nan] * 3, criteria.DOM_RULES),
        row(
            "C6", "gain of Dom-GD after its bounce, over that of GD", [0.0] * 3, criteria.DOM_RULES
        ),
        row("C1", "alignment of the gradient", [0.9] * 3, None),
    ]
    text = outcome.table(verdicts)
    rows = [plain(line) for line in re.findall("<tr>.*?</tr>", text)[1:]]
    assert [line.split(" (MLP)")[0].strip() for line in rows] == ["SGD", "GD", "Adam"]
    assert re.match(r"SGD \(MLP\) 0\.020 \(.*\) 1\.010 \(.*\) 3 C2 and C3 reproduced", rows[0])
    assert "GD (MLP) 0.000 (0.000 … 0.000) – 3 C6" in rows[1].replace("&nbsp;", " ")
    assert "undefined" in rows[2] and "0.5" not in text and "this part" not in text
    partly = [
        part("progress(Bulk-heavy ball), update projected", [1.0, 1.0, 1.01], criteria.F3_BULK),
        part("progress(Bulk-Adam), update projected", [0.1, 0.1, 0.11], criteria.F3_BULK),
    ]
    mixed = verdict(ledger.claims()["F3"], partly, SwitchParameters(), [])
    assert "F3 (this part) holds" in plain(outcome.table([replace(mixed, model="mlp")]))
    assert outcome.table([missing(ledger.claims()["C2"])]) == ""
