"""The interactive valley in a headless browser: its arithmetic, its controls, its fallback."""

import re
from pathlib import Path

import numpy as np
import pytest

from subspace_lib import book
from subspace_lib.book import site
from subspace_lib.theory.valley import METHODS, Valley, path, signs

pytestmark = pytest.mark.whole

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>valley</title><meta name="viewport" content="width=device-width">
<style>html {{ color: #222; }} html[data-theme="dark"] {{ color: #ddd; background: #111; }}</style>
<link rel="stylesheet" href="{static}/valley.css"><script defer src="{static}/valley.js"></script></head>
<body>{body}</body></html>"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page with the directive's HTML and the script."""
    file = tmp_path_factory.mktemp("valley") / "page.html"
    file.write_text(PAGE.format(static=STATIC.as_uri(), body=book.valley_html()), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def opened(browser, address):
    """A function that opens the page with a context's options; no request and no error goes unseen."""
    requests, errors = [], []

    def open_page(**options):
        page = browser.new_context(**options).new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    assert requests and all(url.startswith("file://") for url in requests)
    assert not errors


@pytest.fixture(scope="module")
def desk(opened):
    """The page as wide as on a desk."""
    return opened(viewport={"width": 1000, "height": 900})


@pytest.fixture
def page(desk):
    """The same page, as it is when it has just been loaded."""
    desk.reload()
    return desk


def number(page, name):
    """A number that the page shows."""
    digits, _, power = page.locator(f"[data-number={name}]").inner_text().partition(" × 10")
    raised = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return float(digits) * 10.0 ** int(raised or 0)


def coordinates(page):
    """The starting point as the handle tells it."""
    told = page.locator(".valley-handle").get_attribute("aria-valuetext")
    return tuple(float(v) for v in re.fullmatch(r"x = (\S+), y = (\S+)", told).groups())


def status(page):
    return page.locator(".valley-status").inner_text()


def press(page, name):
    page.locator(f"button:text-is('{name}')").click()


def run_until(page, step):
    press(page, "Play")
    page.wait_for_function(
        "step => Number(document.querySelector('[data-number=step]').textContent) >= step", arg=step
    )
    press(page, "Pause")


@pytest.fixture
def model(desk):
    """A function that evaluates an expression of window.SubspaceValley."""
    return desk.evaluate


def test_the_signs_are_those_of_the_library(model):
    for seed in (0, 1, 7, 123_456, 2**31 + 5, 2**32 - 1):
        drawn = model("seed => SubspaceValley.signs(seed, 500)", seed)
        assert drawn == signs(seed, 500).tolist()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("valley", "sharp"), [(Valley(), 0.01), (Valley(50.0, 3.0), 1.7)])
def test_a_path_is_that_of_the_library(model, method, valley, sharp):
    rate, start, options = sharp / valley.condition, (0.02, 1.0), {"beta": 0.9, "rho": 0.005}
    theirs = model(
        "([valley, method, rate, start, options]) =>"
        " SubspaceValley.path(valley, method, rate, start, 300, 11, options)",
        [vars(valley), method, rate, start, options],
    )
    ours = path(valley, method, rate, start, 300, 11, **options)
    np.testing.assert_allclose(np.array(theirs), ours, rtol=1e-9)


def test_the_defaults_and_the_methods_are_those_of_the_library(model):
    assert model("Object.keys(SubspaceValley.METHODS)") == list(METHODS)
    valley = Valley()
    call = "valley => SubspaceValley.path(valley, 'SAM', 5e-4, [0.02, 1], 50)"
    ours = path(valley, "SAM", 5e-4, (0.02, 1.0), 50)
    np.testing.assert_allclose(model(call, vars(valley)), ours, rtol=1e-9)


@pytest.mark.parametrize("sharp", [0.01, 0.5, 1.9, 2.1])
@pytest.mark.parametrize("cross", [0.0, 10.0, 100.0, 400.0])
def test_the_progress_in_closed_form_is_that_of_the_library(model, sharp, cross):
    valley = Valley(1000.0, cross)
    theirs = model(
        "([valley, rate]) => String(SubspaceValley.bulkProgress(valley, rate))",
        [vars(valley), sharp / 1000],
    )
    assert float(theirs) == pytest.approx(valley.bulk_progress(sharp / 1000), nan_ok=True)


def test_the_files_are_small():
    files = ("valley.js", "valley.css")
    assert sum((STATIC / name).stat().st_size for name in files) < 100_000
    assert len(book.valley_html()) < 150_000


@pytest.mark.parametrize("method", ["SGD", "SAM"])
def test_what_the_page_shows_is_what_the_library_computes(page, method):
    page.select_option("[name=method]", method)
    page.fill("[name=condition]", "2")  # κ = 100
    page.fill("[name=sharp]", "0")  # ηκ = 1
    page.fill("[name=cross]", "20")
    page.fill("[name=seed]", "3")
    page.locator("[name=seed]").blur()
    for _ in range(5):
        press(page, "Step")
    valley, start = Valley(100.0, 20.0), coordinates(page)
    points = path(valley, method, 0.01, start, 5, 3, rho=0.005)
    assert number(page, "step") == 5
    assert number(page, "loss") == pytest.approx(valley.loss(points)[-1], rel=0.01)
    assert number(page, "chi") == pytest.approx(valley.alignment(points)[-1], abs=0.01)
    assert number(page, "recent") == pytest.approx(valley.alignment(points).mean(), abs=0.01)
    assert number(page, "expected") == pytest.approx(valley.bulk_progress(0.01), rel=0.01)


def play_to_the_end(page):
    page.fill("[name=seconds]", "0.3")  # two seconds
    press(page, "Play")
    page.wait_for_function(
        "document.querySelector('.valley-status').textContent.startsWith('stopped')"
    )


def test_dom_sgd_stands_still_and_bulk_sgd_descends(page):
    ratios = {}
    for method in ("SGD", "Dom-SGD", "Bulk-SGD"):
        page.select_option("[name=method]", method)
        before = number(page, "loss")
        play_to_the_end(page)
        ratios[method] = number(page, "loss") / before
    assert number(page, "step") == 200_000  # 2/η at the settings of the chapter
    assert 0.9 < ratios["Dom-SGD"] < 1.4
    assert ratios["SGD"] < ratios["Bulk-SGD"] < 0.2


def test_a_long_run_keeps_some_of_its_points_and_is_that_of_the_library(page):
    """Wherever it is paused, the point shown is the one after so many steps."""
    run_until(page, 3000)
    step = int(number(page, "step"))
    assert status(page) == f"paused at step {step}"
    points = path(Valley(), "SGD", 1e-5, coordinates(page), step)
    assert number(page, "loss") == pytest.approx(Valley().loss(points)[-1], rel=0.02)


def test_nothing_moves_before_play_and_reset_goes_back(page):
    page.wait_for_timeout(300)
    assert number(page, "step") == 0 and "press Play" in status(page)
    before = number(page, "loss")
    run_until(page, 20)
    assert re.fullmatch(r"paused at step \d+", status(page))
    press(page, "Reset")
    assert number(page, "step") == 0 and number(page, "loss") == before


@pytest.mark.parametrize("condition", ["1", "3.3"])
def test_above_the_edge_the_page_says_when_it_diverged(page, condition):
    page.fill("[name=condition]", condition)
    page.fill("[name=sharp]", "0.4")  # ηκ = 2.5
    press(page, "Play")
    page.wait_for_function(
        "document.querySelector('.valley-status').textContent.includes('diverged')"
    )
    assert status(page) == f"diverged at step {number(page, 'step'):.0f}"
    text = page.locator("body").inner_text()
    assert "NaN" not in text and "Infinity" not in text


def test_the_start_stays_in_view(page):
    page.evaluate(
        """() => ["ArrowDown", "ArrowLeft"].forEach((key) => {
             const handle = document.querySelector(".valley-handle");
             for (let i = 0; i < 200; i += 1) handle.dispatchEvent(new KeyboardEvent("keydown", { key }));
           })"""
    )
    assert coordinates(page) == (pytest.approx(-1.5 / 1000**0.5, rel=0.01), -0.3)


def test_earlier_curves_stay_where_the_reader_wants_them(page):
    press(page, "Step")
    page.select_option("[name=method]", "GD")
    assert page.locator(".valley-legend li").count() == 1
    page.check("[name=keep]")
    press(page, "Step")
    page.select_option("[name=method]", "Adam")
    entries = page.locator(".valley-legend li").all_inner_texts()
    assert [entry.split(":")[0] for entry in entries] == ["Adam", "GD"]
    page.uncheck("[name=keep]")
    assert page.locator(".valley-legend li").count() == 1


def test_the_keyboard_does_all(page):
    focused = "document.activeElement.className || document.activeElement.textContent"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "valley-handle"
    (x, y), shown = coordinates(page), page.locator("[data-number=start]").inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert coordinates(page)[0] > x and coordinates(page)[1] < y
    assert page.locator("[data-number=start]").inner_text() != shown
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Play"
    page.keyboard.press("Space")
    assert status(page) == "running"
    page.wait_for_function("Number(document.querySelector('[data-number=step]').textContent) > 0")
    page.keyboard.press("Enter")
    assert status(page).startswith("paused")


def test_the_mouse_drags_the_start(page):
    box = page.locator(".valley-handle").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    _, y = coordinates(page)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 90, middle[1] + 30, steps=3)
    page.mouse.up()
    moved = page.locator(".valley-handle").bounding_box()
    assert moved["x"] == pytest.approx(box["x"] - 90, abs=1)
    assert moved["y"] == pytest.approx(box["y"] + 30, abs=1)
    assert coordinates(page)[1] < y and coordinates(page)[0] < 0


def test_on_a_phone_a_finger_drags_the_start_and_every_control_is_large(opened):
    page = opened(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    box = page.locator(".valley-handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = coordinates(page)
    touch = page.context.new_cdp_session(page)
    for kind, at in (("touchStart", 0), ("touchMove", 30), ("touchMove", 60), ("touchEnd", None)):
        points = [] if at is None else [{"x": x - at, "y": y + at / 2}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    after = coordinates(page)
    assert after[0] < before[0] and after[1] < before[1] - 0.1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.select_option("[name=method]", "SAM")
    controls = page.locator(
        "button, select, input[type=range], input[type=number], label.valley-field"
    )
    sizes = [control.bounding_box() for control in controls.all()]
    assert len(sizes) > 10 and all(size["height"] >= 40 for size in sizes)
    press(page, "Step")
    assert number(page, "step") == 1


def brightness(page):
    """Mean red of what is drawn on each canvas with axes, 0 … 255."""
    return page.evaluate(
        """() => [...document.querySelectorAll("canvas:first-child")].map((canvas) => {
             const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
             let [sum, weight] = [0, 0];
             for (let i = 0; i < data.length; i += 4) {
               sum += data[i] * data[i + 3];
               weight += data[i + 3];
             }
             return sum / weight;
           })"""
    )


def test_the_ink_follows_the_theme(page):
    light = brightness(page)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(100)
    dark = brightness(page)
    assert len(light) == 3
    assert all(a < 80 and b > 170 for a, b in zip(light, dark, strict=True))


def test_without_javascript_there_is_a_figure(opened, page):
    still = opened(java_script_enabled=False)
    assert still.locator(".valley-still svg").is_visible()
    assert still.locator(".valley-still svg").get_attribute("aria-label")
    assert still.locator("figcaption").is_visible()
    assert not page.locator(".valley-still").is_visible()
    assert page.locator(".valley-app").is_visible()


class Builder:
    """As much of a Sphinx application as the book's extension uses."""

    def __init__(self):
        self.loaded = []
        self.html_js_files = ["valley.js", "other.js"]
        self.html_css_files = ["custom.css", "valley.css"]

    def add_js_file(self, name, **_):
        self.loaded.append(name)

    add_css_file = add_js_file


def test_only_a_page_with_a_valley_loads_its_files():
    builder = Builder()
    site.withhold_files(builder, builder)
    assert builder.html_js_files == ["other.js"] and builder.html_css_files == ["custom.css"]
    site.load_page_files(builder, "a", "page.html", {"body": "<p>text</p>"}, None)
    assert not builder.loaded
    site.load_page_files(builder, "b", "page.html", {"body": book.valley_html()}, None)
    assert builder.loaded == ["valley.js", "valley.css"]
