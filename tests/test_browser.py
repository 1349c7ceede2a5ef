"""The built book in a real browser: each page from a folder and from a server, the explorer, the valley.

``make browser`` builds the book and runs these; elsewhere ``$SUBSPACE_BOOK`` names the folder of its pages.
"""

import functools
import gzip
import http.server
import json
import os
import re
import threading
from io import BytesIO
from operator import sub
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageStat

from subspace_lib.book import pdf

SITE = Path(os.environ.get("SUBSPACE_BOOK") or "nowhere").resolve()
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in [*SITE.glob("*.html"), *SITE.glob("notebooks/*.html")]
    if path.stem not in ("genindex", "search", "py-modindex")
)
pytestmark = [
    pytest.mark.skipif(not PAGES, reason="No built book: make browser builds it and runs these."),
    pytest.mark.timeout(300),
]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOCAL = ("127.0.0.1", "")  # hosts that may be asked
NEAR = 40  # of 255, in each channel: a blurred colour is still seen as that one


@pytest.fixture(scope="module")
def served():
    """The address of the pages on a local server."""
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that does not print what it is asked."""

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture(scope="module")
def desk(browser):
    """A page as wide as on a desk; what goes wrong on it is collected in ``desk.wrong``."""
    return watched(browser.new_context(viewport=DESK).new_page())


@pytest.fixture(scope="module")
def phone(browser):
    return watched(browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True).new_page())


def watched(page):
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(f"error: {error}"))
    page.on(
        "requestfailed",
        lambda request: (
            page.wrong.append(f"failed: {request.url}")
            if request.failure != "net::ERR_ABORTED"  # by leaving the page
            else None
        ),
    )
    page.on(
        "console",
        lambda said: (
            page.wrong.append(f"{said.type}: {said.text}")
            if said.type in ("error", "warning")
            else None
        ),
    )
    page.on(
        "request",
        lambda request: (
            page.wrong.append(f"elsewhere: {request.url}")
            if urlparse(request.url).hostname not in (None, *LOCAL)
            else None
        ),
    )
    return page


def show(page, name, root=None):
    page.wrong.clear()
    page.goto(f"{root}/{name}" if root else (SITE / name).as_uri())
    page.evaluate("() => window.MathJax?.startup?.promise")
    return page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_from_a_folder(desk, name):
    show(desk, name)
    assert desk.wrong == []
    assert desk.title() and desk.locator("article h1").count() == 1
    # every formula is typeset, none as an error
    formulas = desk.locator("article .math").count()
    assert desk.locator("article mjx-container").count() >= formulas
    assert desk.locator("mjx-merror").count() == 0
    # figures are there and not empty
    for figure in desk.locator("article figure svg:visible, article img:visible").all():
        box = figure.bounding_box()
        assert box["width"] > 100 and box["height"] > 50


@pytest.mark.parametrize("name", [name for name in PAGES if "<svg" in (SITE / name).read_text()])
def test_each_figure_is_drawn_and_is_seen_in_the_dark(desk, name):
    show(desk, name)
    inks = {}
    for theme in ("light", "dark"):
        desk.evaluate(
            "theme => Object.assign(document.documentElement.dataset, {theme, mode: theme})", theme
        )
        desk.wait_for_timeout(300)  # colours pass into each other
        figures = desk.locator("article figure svg:visible").all()
        inks[theme] = [ink(Image.open(BytesIO(figure.screenshot()))) for figure in figures]
    for light, dark in zip(*inks.values(), strict=True):
        assert dark > max(0.015, light / 4) and light > 0.015, inks


def ink(image):
    """Share of the pixels that stand out from the background, which is the colour that most have."""
    grey = image.convert("L")
    counts = grey.histogram()
    background = max(range(256), key=counts.__getitem__)
    return sum(n for level, n in enumerate(counts) if abs(level - background) > NEAR) / sum(counts)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_from_a_server(desk, served, name):
    show(desk, name, served)
    assert desk.wrong == []


@pytest.mark.parametrize("name", PAGES)
def test_on_a_phone_no_page_scrolls_sideways(phone, name):
    show(phone, name)
    assert phone.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert phone.wrong == []


def test_every_anchor_leads_somewhere(desk):
    ids = {name: set(re.findall(r'\bid="([^"]+)"', (SITE / name).read_text())) for name in PAGES}
    files = {path.relative_to(SITE).as_posix() for path in SITE.rglob("*") if path.is_file()}
    dead = []
    for name in PAGES:
        for link in re.findall(r'<a[^>]* href="([^"]+)"', (SITE / name).read_text()):
            parts = urlparse(link.replace("&amp;", "&"))
            if parts.scheme or parts.netloc:
                continue
            path = unquote(parts.path)
            target = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
            anchor = unquote(parts.fragment)
            if target not in files or (
                anchor and target in ids and anchor not in ids[target] and "=" not in anchor
            ):
                dead.append(f"{name}: {link}")
    assert dead == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_finding_of_accessibility(desk, name, theme):
    show(desk, name)
    desk.add_style_tag(content="* { transition: none !important; }")
    desk.evaluate(
        "theme => Object.assign(document.documentElement.dataset, {theme, mode: theme})", theme
    )
    # The other theme has other colours and nothing else; pictures and formulas have labels of their own.
    rules = ["wcag2a", "wcag2aa"] if theme == "light" else ["color-contrast"]
    options = {"resultTypes": ["violations"], "runOnly": rules}
    context = {"exclude": [["svg"], ["mjx-container"]]}
    found = Axe().run(desk, context=context, options=options).response["violations"]
    told = [
        f"{v['id']}: {node['target']} {node['html'][:120]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"][:3]
    ]
    assert told == []


def lightness(page, selector):
    """Mean brightness of what an element looks like, 0 … 255."""
    image = Image.open(BytesIO(page.locator(selector).first.screenshot())).convert("L")
    return ImageStat.Stat(image).mean[0]


def test_the_dark_toggle_turns_the_page_and_its_figures_dark(desk):
    show(desk, "index.html")
    light = lightness(desk, "figure.main-figure")
    for _ in range(3):
        desk.locator("button.theme-switch-button").first.click()
        if desk.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert desk.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = lightness(desk, "figure.main-figure")
    assert light > 200 and dark < 90
    assert (
        desk.locator("figure.main-figure svg").evaluate("e => getComputedStyle(e).color")
        != "rgb(0, 0, 0)"
    )
    desk.evaluate("localStorage.clear()")


@pytest.mark.parametrize("where", ["folder", "server"])
def test_search_finds_a_term(browser, served, where):
    root = SITE.as_uri() if where == "folder" else served
    page = watched(browser.new_page())  # the summaries arrive when they like, also on the next page
    show(page, "search.html?q=sharpness", root)
    page.locator("#search-results li a").first.wait_for()
    assert page.locator("#search-results li a").count() >= 3
    assert where == "folder" or page.wrong == []  # from a folder the summaries cannot be fetched
    page.close()


def test_the_copy_button_of_the_rerun_line_copies_it(browser, served):
    context = browser.new_context(viewport=DESK)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = show(watched(context.new_page()), "notebooks/02_dom_vs_bulk.html", served)
    box = page.locator("#run-this-page-again .highlight-bash").first
    box.scroll_into_view_if_needed()
    box.hover()
    box.locator("button.copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("papermill notebooks/02_dom_vs_bulk.ipynb mine.ipynb")
    context.close()


def test_the_code_of_a_chapter_opens_and_stays_open(browser, served):
    context = browser.new_context(viewport=DESK)
    page = show(watched(context.new_page()), "notebooks/02_dom_vs_bulk.html", served)
    code, button = page.locator(".cell_input").first, page.locator(".code-button")
    assert not code.is_visible()
    button.focus()
    page.keyboard.press("Enter")
    assert code.is_visible() and button.get_attribute("aria-expanded") == "true"
    show(page, "notebooks/03_full_batch_gd.html", served)
    assert page.locator(".cell_input").first.is_visible()
    page.locator(".code-button").click()
    assert page.locator(".cell_input:visible").count() == 0
    context.close()


def test_the_code_of_a_chapter_is_there_without_scripts(browser, served):
    context = browser.new_context(viewport=DESK, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served}/notebooks/02_dom_vs_bulk.html")
    assert page.locator(".cell_input").first.is_visible()
    context.close()


def test_a_verdicts_link_and_a_runs_link_lead_to_what_they_name(desk):
    show(desk, "index.html")
    card = desk.locator("#claim-C2")
    card.locator(".claim-head a").click()
    assert urlparse(desk.url).path.endswith("notebooks/02_dom_vs_bulk.html")
    run = desk.locator("a[href*='status.html#run-']").first
    key = run.text_content()  # also where it is folded
    run.evaluate("link => link.closest('details') && (link.closest('details').open = true)")
    run.evaluate("link => link.click()")
    row = desk.locator(f"[id='run-{key}']")
    row.wait_for(state="visible")
    data = (
        row.locator("xpath=ancestor::td").locator("a").evaluate_all("all => all.map(a => a.href)")
    )
    table, told = (Path(unquote(urlparse(address).path)) for address in data)
    assert table.read_text().splitlines()[0].count(",") >= 3
    record = json.loads(told.read_text())
    assert record["key"] == key and key in record["repeat"] and record["provenance"]["commit"]


# ---- the explorer -------------------------------------------------------------------------------------


@pytest.fixture
def explorer(desk):
    show(desk, "explorer.html")
    desk.locator(".explorer-table tbody tr").first.wait_for()
    return desk


def rows(page):
    return page.locator(".explorer-table tbody tr")


def values(page):
    return page.locator(".explorer-value").all_inner_texts()


def test_the_explorer_weighs_little_and_holds_what_the_store_holds(explorer):
    files = ("explorer-data.js", "explorer.js", "densities.js", "explorer.css")
    files = [*files, "vendor/uPlot.iife.min.js", "vendor/uPlot.min.css"]
    files = [SITE / "explorer.html", *(SITE / "_static" / name for name in files)]
    assert sum(path.stat().st_size for path in files) < 600_000
    explorer.locator("#explorer-step").press("End")
    first = rows(explorer).filter(has_not=explorer.locator("td.explorer-value:text-is('–')")).first
    key = first.locator("a").first.get_attribute("href").partition("#run-")[2]
    shown = float(first.locator(".explorer-value").inner_text())
    lines = (SITE / "runs" / f"{key}.csv").read_text().splitlines()
    column = lines[0].split(",").index("train_loss")
    step = int(explorer.locator("#explorer-step").input_value())
    (kept,) = [row.split(",")[column] for row in lines[1:] if row.split(",")[0] == str(step)]
    assert shown == pytest.approx(float(kept), rel=6e-3)  # three digits of what is packed


def test_the_explorer_by_mouse(explorer):
    page = explorer
    drawn = lambda: set(rows(page).locator("th").all_inner_texts())  # noqa: E731
    methods = page.locator(".explorer-boxes").first
    shown = methods.locator("input:checked").first.get_attribute("value")
    assert shown in drawn()
    methods.locator(f'input[value="{shown}"]').uncheck()
    assert drawn() and shown not in drawn()
    page.locator("#explorer-quantity").select_option("alignment")
    assert "C1: ≥ 0.8" in page.locator(".explorer-note").inner_text()
    plot = page.locator(".explorer-plot .u-over")
    plot.hover(position={"x": 100, "y": 80})
    early = values(page)
    box = plot.bounding_box()
    plot.hover(position={"x": box["width"] - 60, "y": 80})
    assert values(page) != early
    assert "quantity=alignment" in page.url
    page.reload()
    assert page.locator("#explorer-quantity").input_value() == "alignment"
    assert page.wrong == []


def test_the_explorer_by_keyboard(explorer):
    page = explorer
    page.locator("#explorer-quantity").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#explorer-quantity").input_value() == "progress"
    # One that is shown: of others, as of a rule that is not projected, there may be no progress to show.
    page.locator(".explorer-boxes").first.locator("input:checked").first.focus()
    before = rows(page).count()
    page.keyboard.press("Space")
    assert rows(page).count() != before
    assert page.evaluate("document.activeElement.type") == "checkbox"  # the focus stays
    page.keyboard.press("Space")
    page.locator("#explorer-step").focus()
    page.keyboard.press("End")
    late = page.locator(".explorer-step output").inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".explorer-step output").inner_text() != late
    assert page.wrong == []


END = "view=end&end=progress&against=k"


def at_the_end(page, choice=END):
    page.evaluate("choice => { location.hash = choice; location.reload(); }", choice)
    page.locator("#explorer-against").wait_for()
    page.wait_for_function("() => document.querySelector('.explorer-hover').textContent")
    return page


def test_the_explorers_ends_by_mouse(explorer):
    page = at_the_end(explorer)
    count = rows(page).count()
    assert count > 10 and page.locator(".explorer-spectrum canvas").is_visible()
    assert all(value for value in values(page))
    plot = page.locator(".explorer-plot .u-over")
    box = plot.bounding_box()
    hovered = set()
    for share in range(1, 10):
        for height in (0.1, 0.9):
            plot.hover(position={"x": box["width"] * share / 10, "y": box["height"] * height})
            hovered.add(page.locator(".explorer-hover").inner_text())
    assert len(hovered) > 4
    told = page.locator(".explorer-hover").inner_text()
    near = page.locator("tr.explorer-near")
    assert near.count() == 1 and near.locator(".explorer-value").inner_text() in told
    page.locator("#explorer-quantity").select_option("gain")
    page.locator("#explorer-against").select_option("map")
    assert not page.locator(".explorer-spectrum").is_visible()
    assert "SGD-weighted" in rows(page).first.inner_text()
    assert "against=map" in page.url
    page.locator("#explorer-view").select_option("steps")
    assert not page.locator("#explorer-against").is_visible()
    assert page.wrong == []


def test_the_explorers_ends_by_keyboard(explorer):
    page = at_the_end(explorer)
    page.locator("#explorer-view").focus()
    page.keyboard.press("ArrowUp")
    assert page.locator("#explorer-step").get_attribute("aria-valuetext") is None
    page.keyboard.press("ArrowDown")
    assert page.locator("#explorer-view").input_value() == "end"
    page.locator("#explorer-step").focus()
    first = page.locator(".explorer-hover").inner_text()
    page.keyboard.press("ArrowRight")
    second = page.locator(".explorer-hover").inner_text()
    assert first != second == page.locator("#explorer-step").get_attribute("aria-valuetext")
    page.keyboard.press("End")
    assert rows(page).last.get_attribute("class") == "explorer-near"
    assert page.wrong == []


def test_the_densities_by_keyboard(explorer):
    page = explorer
    told = page.locator(".density-told")
    chosen = page.locator("tr.density-near th")
    for control in ("operator", "seed"):
        page.locator(f"#density-{control}").focus()
        before = told.inner_text(), page.locator(".density-table a").first.inner_text()
        page.keyboard.press("ArrowDown")
        assert (told.inner_text(), page.locator(".density-table a").first.inner_text()) != before
    page.locator("#density-step").focus()
    page.keyboard.press("Home")
    first = told.inner_text()
    assert chosen.inner_text() == "0" and "step 0" in first
    page.keyboard.press("ArrowRight")
    assert (
        first != told.inner_text() == page.locator("#density-step").get_attribute("aria-valuetext")
    )
    assert f"step {chosen.inner_text()}" in told.inner_text()
    # both parts are drawn, in their colours
    image = Image.open(BytesIO(page.locator(".density-plot").screenshot())).convert("RGB")
    colours = page.evaluate("() => ['SGD', 'Dom-SGD'].map((name) => subspaceRuns.colours[name])")
    for colour in colours:
        wanted = tuple(bytes.fromhex(colour[1:]))
        assert any(
            max(abs(a - b) for a, b in zip(pixel, wanted, strict=True)) < 40
            for _, pixel in image.getcolors(image.width * image.height)
        )
    assert page.wrong == []


def test_the_explorers_ends_are_whole_on_a_phone_and_without_serious_findings(phone):
    show(phone, "explorer.html")
    views = [f"view=end&end={end}" for end in ("progress&against=k", "progress&against=angle")]
    views.append("view=end&end=gain&against=map")
    for view in views:
        page = at_the_end(phone, view)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.wrong == []
    # Last: Axe asks for styles, which a page from a folder may not, and hears of that some time later.
    options = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa"]}
    for view in views:
        found = Axe().run(at_the_end(phone, view), options=options).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    page.goto("about:blank")
    page.wrong.clear()


def test_the_explorers_lines_are_seen_in_both_themes(explorer):
    for theme in ("light", "dark"):
        explorer.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        explorer.wait_for_timeout(100)
        shot = explorer.locator(".explorer-plot").screenshot()
        image = Image.open(BytesIO(shot)).convert("RGB")
        found = image.getcolors(image.width * image.height)
        for line in ((213, 94, 0), (0, 114, 178)):  # Dom-SGD, SGD; thin lines are blurred
            near = [n for n, c in found if max(map(abs, map(sub, c, line))) <= NEAR]
            assert sum(near) > 100, (theme, line)


def test_the_valley_of_the_book_runs_by_mouse_and_keyboard(desk):
    (name,) = [n for n in PAGES if 'class="valley"' in (SITE / n).read_text()][:1]
    show(desk, name)
    step = desk.locator(".valley-app [data-number=step]")
    desk.locator(".valley-app button:text-is('Play')").click()
    desk.wait_for_function(
        "() => Number(document.querySelector('[data-number=step]').textContent) > 5"
    )
    desk.locator(".valley-app button:text-is('Pause')").focus()
    desk.keyboard.press("Enter")
    stopped = step.inner_text()
    desk.wait_for_timeout(200)
    assert step.inner_text() == stopped
    handle = desk.locator(".valley-handle")
    before = handle.get_attribute("aria-valuetext")
    handle.focus()
    desk.keyboard.press("ArrowRight")
    assert handle.get_attribute("aria-valuetext") != before
    assert desk.wrong == []


def test_a_term_has_a_note_by_mouse_and_by_keyboard(desk):
    show(desk, "index.html")
    link = desk.locator("article a[href*='glossary.html#term-']").first
    link.scroll_into_view_if_needed()
    link.hover()
    note = desk.locator("#subspace-note")
    note.wait_for(state="visible")
    assert len(note.inner_text()) > 40
    desk.keyboard.press("Escape")
    assert not note.is_visible()
    desk.mouse.move(0, 0)
    desk.keyboard.press("Tab")
    link.focus()
    note.wait_for(state="visible")
    assert link.get_attribute("aria-describedby") == "subspace-note"
    desk.keyboard.press("Tab")
    assert not note.is_visible()
    assert desk.wrong == []


def test_a_chapters_code_is_folded_and_that_of_a_how_to_is_there_to_be_read(desk):
    show(desk, "notebooks/your_own_network.html")
    assert desk.locator(".cell_input:visible").count() >= 8
    assert desk.locator(".code-button").count() == 0
    show(desk, "notebooks/02_dom_vs_bulk.html")
    assert desk.locator(".cell_input:visible").count() == 0
    desk.locator(".code-button").click()
    assert desk.locator(".cell_input:visible").count() >= 8
    desk.evaluate("localStorage.clear()")


def test_a_link_has_a_preview(desk):
    show(desk, "explorer.html")
    for name in ("og:title", "og:description"):
        assert len(desk.locator(f"meta[property='{name}']").get_attribute("content")) > 10
    site = desk.locator("meta[property='og:site_name']").get_attribute("content")
    assert site == "Does SGD really happen in tiny subspaces?"
    assert desk.locator("meta[name=description]").count() == 1
    icon = desk.locator("link[rel~=icon]").first.evaluate("e => e.href")
    assert Path(unquote(urlparse(icon).path)).is_file()


def test_a_downloaded_notebook_has_no_raw_roles():
    found = sorted((SITE / "_sources" / "notebooks").glob("*.ipynb"))
    assert found
    for path in found:
        notebook = json.loads(path.read_text())
        text = "\n".join(
            "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
        )
        assert not re.search(r"\{[a-z:]+\}`|^(```|:::)\{|^\([\w-]+\)=$", text, re.M), path.name
        assert notebook["nbformat"] == 4


def test_a_print_of_the_front_page_opens_what_no_other_page_has(browser):
    page = browser.new_context(viewport=DESK).new_page()
    page.goto((SITE / "index.html").as_uri())
    page.evaluate(pdf.OPEN)
    folds = page.locator("details")
    parts = folds.filter(has=page.locator("ul.parts"))
    assert parts.count() > 0 and folds.count() > parts.count()
    is_open = "folds => folds.map((fold) => fold.open)"
    assert not any(parts.evaluate_all(is_open))
    assert sum(folds.evaluate_all(is_open)) == folds.count() - parts.count()
    assert page.locator("details.runs-of").count() == 0
    page.context.close()


def test_the_front_page_weighs_less_than_a_megabyte(browser, served):
    """All that it asks for, fonts too, each compressed."""
    page, asked = browser.new_page(), []
    page.on("requestfinished", lambda request: asked.append(urlparse(request.url).path))
    page.goto(f"{served}/index.html", wait_until="networkidle")
    page.close()
    paths = {SITE / unquote(path).lstrip("/") for path in asked}
    assert len(paths) > 5
    assert sum(len(gzip.compress(path.read_bytes())) for path in paths) < 1_000_000
