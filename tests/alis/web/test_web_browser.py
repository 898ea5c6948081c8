"""The page in a real browser: panning, redraws, locks, connecting, links, keyboard only, a phone, a lost server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import alis
from tests.alis import painter as models
from tests.alis.web.browsing import Page, is_same, pytestmark  # noqa: F401
from tests.alis.web.serving import Served


def test_drag_wheel_and_keys_pan_both_ways(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/2.000")
    start, mouse = page.x, page.page.mouse
    mouse.move(800, 300)
    mouse.down()
    mouse.move(300, 300, steps=8)
    mouse.up()
    page.settle()
    assert page.x >= start + 500 / page.ask("window.alis.plane.tile") - 0.02
    dragged = page.x
    page.ask("window.alis.plane.v = 5; window.alis.plane.wake()")
    page.settle()
    assert page.x == pytest.approx(dragged + 5 / 2.6, rel=0.05), "it glides on"
    mouse.wheel(0, -4000)  # returns before the page has got it
    page.until(lambda: page.x < start)  # the plane goes on to the left of its origin
    page.settle()
    far = page.x
    page.page.keyboard.down("ArrowRight")
    page.until(lambda: page.x > far + 3)
    page.page.keyboard.up("ArrowRight")
    page.settle()
    page.page.keyboard.press("Home")
    page.settle()
    assert page.x == pytest.approx(2, abs=0.01)


def test_the_page_drifts_until_the_first_input(browser: Any, served: Served) -> None:
    context = browser.new_context(viewport={"width": 1000, "height": 600})
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{served.port}/")
    _until(page, "window.alis && window.alis.plane.x > 2.02")
    assert not page.evaluate("document.getElementById('hint').classList.contains('gone')")
    page.mouse.move(500, 300)
    page.mouse.down()
    page.mouse.up()
    _until(page, "window.alis.plane.drift === 0 && window.alis.plane.isSettled")
    context.close()
    calm = browser.new_context(reduced_motion="reduce").new_page()
    calm.goto(f"http://127.0.0.1:{served.port}/")
    _until(calm, "window.alis && window.alis.plane.isSettled")
    assert calm.evaluate("window.alis.plane.x") == 2
    calm.context.close()


def _until(page: Any, condition: str) -> None:
    deadline = time.monotonic() + 60
    while not page.evaluate(f"Boolean({condition})"):
        assert time.monotonic() < deadline, f"waited in vain for {condition}"
        page.wait_for_timeout(30)


def test_a_redraw_changes_its_neighbourhood_and_can_be_undone(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000")
    page.asked.clear()
    before = page.picture()
    page.page.get_by_label("Redraw scene 2", exact=True).click()
    page.settle()
    assert page.sketch == "7/a2v1"
    assert not is_same(page.picture(), before)
    tiles = {url.split("/tile/")[1].split("?")[0] for url in page.asked if "/tile/" in url}
    assert tiles
    assert tiles <= {f"7/a2v1/{k}.webp" for k in range(4, 12)}, "tiles beyond the reach are not asked for again"
    page.page.locator("#undo").click()
    page.settle()
    assert page.sketch == "7/-"
    assert is_same(page.picture(), before)
    page.page.locator("#redo").click()
    assert page.sketch == "7/a2v1"


def test_a_link_shows_exactly_what_was_seen(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/p70_c1/5.000")
    page.page.get_by_label("Redraw scene 1", exact=True).click()
    page.page.get_by_label("Redraw scene 1", exact=True).click()
    page.page.keyboard.press("ArrowRight")
    page.settle()
    page.page.keyboard.press("k")
    page.until(lambda: "copied" in page.page.locator("#toast").inner_text())
    link = page.ask("navigator.clipboard.readText()")
    assert "#7/p70_c1_a1v2/" in link
    seen = page.picture()
    other = open_page(link.split("/", 3)[3])
    other.page.mouse.move(5, 5)
    other.settle()
    assert other.x == pytest.approx(page.x, abs=1e-3)
    again = open_page(link.split("/", 3)[3])
    assert is_same(again.picture(), other.picture())
    page.ask(f"window.alis.plane.jump({other.x})")
    page.settle()
    assert is_same(page.picture(), other.picture())
    assert seen


def test_locked_scenes_survive_a_new_plane(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000")
    page.page.get_by_label("Redraw scene 2", exact=True).hover()
    page.page.get_by_label("Lock scene 2", exact=True).click()
    page.page.keyboard.press("s")
    page.settle()
    seed, edits = page.sketch.split("/")
    assert seed != "7"
    assert edits == "a2s7i2v0"
    page.page.get_by_label("Redraw scene 2", exact=True).click()
    assert page.sketch == f"{seed}/{edits}", "a locked scene is not redrawn"
    assert page.ask("window.alis.link").endswith("/2")


def test_two_scenes_are_connected(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000")
    page.page.locator("#connect").click()
    scenes = page.page.locator(".scene")
    page.until(lambda: scenes.count() >= 6)
    page.page.get_by_label("Scene mine", exact=True).click()
    scenes.nth(3).click()
    second = scenes.nth(3).get_attribute("aria-label").removeprefix("Scene seed ")
    page.page.locator("#gap").fill("1")
    page.page.locator("#join").click()
    page.settle()
    assert page.sketch == f"7/a2fmine_a3fmine_a5s{second}i0v0_a6s{second}i0v0"
    assert page.x == pytest.approx(5.5 * 4, abs=0.05), "the walk ends at the second scene"


def test_truncation_and_cluster_controls(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000")
    before = page.picture()
    page.page.locator("#psi").fill("50")
    page.until(lambda: page.sketch == "7/p50")
    page.settle()
    assert not is_same(page.picture(), before)
    page.page.locator("#cluster").fill("1")
    page.until(lambda: page.sketch == "7/p50_cn")
    page.page.locator("#cluster").fill("3")
    page.until(lambda: page.sketch == "7/p50_c1")
    page.settle()
    page.page.keyboard.press("z")
    page.page.keyboard.press("z")
    assert page.sketch == "7/p50"


def test_a_strip_is_downloaded(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page("#7/a2v1/8.000")
    left, right = page.ask("[window.alis.plane.left, window.alis.plane.right].map((x) => Math.round(x * 16))")
    page.page.locator("#save").click()
    with page.page.expect_download() as download:
        page.page.locator("#take").click()
    download.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as picture:
        assert picture.size == (right - left, 32)
        assert json.loads(picture.text["alis"])["sketch"] == "7/a2v1"


def test_a_strip_that_cannot_be_saved_shows_an_error(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000")
    page.page.route("**/strip/**", lambda route: route.abort())
    page.page.locator("#save").click()
    error = page.page.locator("#save-sheet #save-error")
    assert not error.is_visible()
    page.page.locator("#take").click()
    page.until(lambda: error.is_visible())
    assert error.inner_text() == "Not saved: the painter can't be reached. Try again in a moment."
    page.page.unroute("**/strip/**")
    error_response = '{"error": "the painter is busy", "hint": ""}'
    page.page.route("**/strip/**", lambda route: route.fulfill(status=503, body=error_response))
    page.page.locator("#take").click()
    page.until(lambda: "the painter is busy" in error.inner_text())
    page.page.locator("#save-sheet [value=jpg]").check()
    assert not error.is_visible(), "another wish, another try"
    assert all("Failed to load resource" in complaint for complaint in page.complaints)
    page.complaints.clear()


def test_everything_works_by_keyboard(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000")
    press = page.page.keyboard.press
    press("r")
    assert page.sketch == "7/a2v1"
    press("l")
    press("s")
    assert page.sketch.endswith("a2s7i2v1")
    press("z")
    press("Shift+Z")
    assert page.sketch.endswith("a2s7i2v1")
    press("c")
    page.page.keyboard.press("Tab")
    assert page.ask("document.activeElement.className") == "scene"
    press("Space")
    press("Tab")
    press("Space")
    press("Tab")
    assert page.page.locator(".scene[aria-pressed=true]").count() == 2
    page.page.locator("#join").focus()
    press("Enter")
    page.settle()
    assert page.page.locator("dialog[open]").count() == 0
    press("d")
    assert page.page.locator("#save-sheet[open]").count() == 1
    press("Escape")
    press("?")
    assert page.page.locator("#help-sheet[open]").count() == 1
    press("Escape")
    press(" ")
    page.until(lambda: page.ask("window.alis.plane.drift > 0"))
    press("ArrowLeft")
    assert page.ask("window.alis.plane.drift") == 0
    page.settle()
    page.page.locator(".anchor .redraw").first.focus()
    before = page.sketch
    press("Enter")
    assert page.sketch != before


def test_everything_works_on_a_phone(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000", width=390, height=844, touch=True)
    boxes = page.ask(
        "[...document.querySelectorAll('#dock button')].filter((b) => b.offsetParent).map((b) => "
        "{ const r = b.getBoundingClientRect(); return [r.left, r.right, r.height, r.bottom]; })"
    )
    assert len(boxes) >= 7
    assert all(left >= 0 and right <= 390 and height >= 40 and bottom <= 844 for left, right, height, bottom in boxes)
    assert page.ask("document.documentElement.scrollWidth") <= 390
    page.page.touchscreen.tap(*_middle(page, "Redraw scene 2"))
    page.until(lambda: page.sketch == "7/a2v1")
    page.page.locator("#tune").tap()
    page.until(lambda: page.page.locator("#psi").is_visible())


def _middle(page: Page, label: str) -> tuple[float, float]:
    box = page.page.get_by_label(label, exact=True).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_lost_server_is_shown_and_retried(browser: Any) -> None:
    server = Served(alis.Panorama(models.tiny(), 7))
    page = Page(browser, f"http://127.0.0.1:{server.port}/#7/-/8.000")
    server.close()
    page.page.keyboard.press("s")
    page.until(lambda: "can't be reached" in page.page.locator("#toast").inner_text())
    server = Served(alis.Panorama(models.tiny(), 7), port=server.port)
    page.settle()
    assert "is back" in page.page.locator("#toast").inner_text()
    page.context.close()
    server.close()


def test_panning_over_loaded_tiles_requests_none_and_draws_only_new_columns(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/40.000", width=1000, height=500)
    for stop in (50, 60, 30, 20, 40):
        page.ask(f"window.alis.plane.jump({stop})")
        page.settle()
    page.asked.clear()
    page.ask(
        "(() => { const p = window.alis.plane, all = p.enlarge.bind(p); window.painted = 0; p.frames.length = 0;"
        " p.enlarge = (changed, ...rest) => { window.painted += changed.length; all(changed, ...rest); }; })()"
    )
    page.ask("window.alis.plane.glideTo([45, 40], 700)")
    page.settle()
    assert not [url for url in page.asked if "/tile/" in url]
    assert page.ask("window.alis.plane.frames.length") > 1
    assert 1 <= page.ask("window.painted") <= 36, (
        "of all the frames only what came and went beside the screen is painted"
    )


def test_a_shifted_canvas_equals_a_redrawn_one(open_page: Callable[..., Page]) -> None:
    for size in ({"width": 1000, "height": 500}, {"width": 390, "height": 844}):
        page = open_page("#7/-/40.000", **size)
        page.ask("window.alis.plane.glideTo([43.7, 37.2, 41.3], 150)")
        page.settle()
        shifted = page.picture()
        page.ask("window.alis.plane.size = ''; window.alis.plane.wake()")
        page.settle()
        assert is_same(page.picture(), shifted)
