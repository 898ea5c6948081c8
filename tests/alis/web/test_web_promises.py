"""Guarantees of the page: any link opens something, no work while idle, and accessibility."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import alis
from alis.plane.anchors import Sketch
from tests.alis import painter as models
from tests.alis.web import npm
from tests.alis.web.browsing import Page, pytestmark  # noqa: F401
from tests.alis.web.serving import Served

MODEL = "m0123456789abcdef"


def toast(page: Page) -> str:
    return str(page.page.locator("#toast").inner_text())


LINKS = [
    ("#%E0%A4%A", None, "damaged"),
    ("#", None, ""),
    ("#hello", None, "can't be read"),
    ("#7/a1v", None, "can't be read"),
    ("#99999999999999999/-", None, "can't be read"),
    ("#7/-/1e999", "7/-", "the place 1e999"),
    ("#7/-/x", "7/-", "the place x"),
    ("#7/-/99999999999999999", "7/-", "the place 9999"),
    ("#9999999999999999/p50", "7/p50", "its seed"),
    ("#7/p999", "7/p200", "boldness 9.99"),
    ("#7/c9_a1v1", "7/a1v1", "kind 9"),
    ("#7/a1fnobody_a2v1/3", "7/a2v1", "the scene nobody"),
    ("#7/a9999999999999v1", "7/-", "scene 9999999999999"),
    ("#7/a1s9999999999999999i0v0", "7/-", "scene 1"),
    ("#7/a1v9999999999", "7/-", "scene 1"),
    ("#7/r0_a1v1", "7/a1v1", "a ring of 0"),
    ("#7/r2_a5v1", "7/r2_a1s7i5v1", ""),
    ("#7/-/2.000/1,x,9999999999999999", "7/-", "the lock x"),
    (f"#7/p70/2.000/z2/{MODEL}", "7/p70", "another model"),
    ("#7/p70_a1v2/2.500/1", "7/p70_a1v2", ""),
    ("#7/", "7/-", ""),
    ("#7/-/2.000/z0", "7/-", "the zoom 0"),
    ("#7/-/2.000/z999", "7/-", "the zoom 999"),
    ("#7/-/2.000/z1e5", "7/-", "the zoom 1e5"),
    ("#7/-/2.000/z1.25", "7/-", ""),
]
READ = """async ([link, model]) => { const links = await import("./links.js"), sketches = await import("./sketch.js");
  const { sketch, x, complaint } = links.read(link, model);
  return [sketch && sketches.format(sketch), x, complaint]; }"""


def test_any_link_opens_something_and_reports_what_it_could_not(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000")
    model = page.ask("window.alis.model")
    for link, sketch, said in LINKS:
        found, x, complaint = page.page.evaluate(READ, [link, model])
        assert found == sketch, link
        assert said in complaint if said else not complaint, link
        assert x is None or abs(x) < 2**42 * 4, link
        if found:
            Sketch.parse(found)  # the server's own reader takes what the page made of it
    many = "#7/" + "_".join(f"a{i}v1" for i in range(70))
    found, _, complaint = page.page.evaluate(READ, [many, model])
    assert len(Sketch.parse(found).edits) == 64
    assert "scene 64" in complaint


@pytest.mark.parametrize(
    ("link", "sketch", "said"),
    [
        ("#%E0%A4%A", "7/-", "damaged"),
        ("#7/p999_a1fnobody/1e999", "7/p200", "boldness 9.99, the scene nobody, the place"),
    ],
)
def test_a_page_opened_by_a_bad_link_works(
    open_page: Callable[..., Page],
    link: str,
    sketch: str,
    said: str,
) -> None:
    page = open_page(link, is_calm=True)
    assert page.sketch == sketch
    assert said in toast(page)
    assert page.ask("window.alis.plane.kept.size") > 0, "tiles were painted"
    faded = "(on) => (toast.classList.toggle('on', on), getComputedStyle(hint).opacity)"
    assert [page.ask(f"({faded})({on})") for on in ("false", "true")] == ["1", "0"], "the toast is where the hint was"


def test_a_damaged_link_in_an_open_page_keeps_what_is_there(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/p70_a1v2/2.500")
    for link in ("#%E0%A4%A", "#nonsense"):
        page.ask(f"location.hash = {link!r}")
        page.until(lambda: "link" in toast(page))
        page.until(lambda: page.ask("location.hash === window.alis.link"))
        assert page.sketch == "7/p70_a1v2"


def test_a_link_has_the_zoom_and_the_model(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000")
    for _ in range(3):
        page.page.keyboard.press("-")
    page.settle()
    page.until(lambda: page.ask("location.hash === window.alis.link"))
    link, zoom, seen = page.ask("location.hash"), page.ask("window.alis.plane.zoom"), page.picture()
    assert zoom < 0.7
    assert page.ask("window.alis.model.model").split("-")[0] in link
    other = open_page(link)
    assert other.ask("window.alis.plane.zoom") == pytest.approx(zoom, abs=1e-3)
    assert other.picture() == seen
    assert not toast(other)


def test_locks_from_a_link_are_announced_to_screen_readers(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/-/8.000/2")
    lock = page.page.get_by_role("button", name="Lock scene 2", exact=True)
    assert lock.get_attribute("aria-pressed") == "true"
    page.page.keyboard.press("l")
    assert lock.get_attribute("aria-pressed") == "false"
    page.page.keyboard.press("l")
    page.page.keyboard.press("s")
    page.page.keyboard.press("l")
    page.page.keyboard.press("z")
    assert lock.get_attribute("aria-pressed") == "true", "undo brings locks back too"


def test_on_a_ring_scenes_are_counted_modulo_the_ring(open_page: Callable[..., Page]) -> None:
    page = open_page("#7/r3/20.000")
    assert {page.ask("[...document.querySelectorAll('.redraw')].map((b) => b.getAttribute('aria-label'))")[0]} <= {
        f"Redraw scene {i}" for i in range(3)
    }
    page.page.keyboard.press("r")
    assert page.sketch == "7/r3_a2v1", "anchor 5 of a ring of three is anchor 2"


@pytest.fixture(scope="module")
def seamless() -> Iterator[Served]:
    """A page whose tiles depend on more than one anchor interval, so that a ring of one anchor is too short."""
    plane = alis.Panorama(models.seamless(), 7)
    assert plane.shortest_ring > plane.ring_step
    server = Served(plane)
    yield server
    server.close()


def test_a_ring_that_is_too_short_is_left_out_and_reported(browser: Any, seamless: Served) -> None:
    shortest = seamless.painter.panorama.shortest_ring
    for link, ring, said in (("r1", "-", "a ring of 1"), (f"r{shortest}", f"r{shortest}", "")):
        page = Page(browser, f"http://127.0.0.1:{seamless.port}/#7/{link}/2.000", is_calm=True)
        assert page.sketch == f"7/{ring}"
        assert said in toast(page) if said else not toast(page)
        assert not page.complaints
        page.context.close()


def test_each_scene_that_may_be_connected_shows_its_picture(browser: Any, seamless: Served) -> None:
    page = Page(browser, f"http://127.0.0.1:{seamless.port}/#7/-/2.000", is_calm=True)
    page.page.locator("#connect").click()
    pictures = page.page.locator(".scene canvas")
    page.until(lambda: pictures.count() >= 6)
    one_colour = (
        "(c) => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size < 2"
    )
    page.until(lambda: not any(pictures.nth(k).evaluate(one_colour) for k in range(3)))
    assert not page.complaints
    page.context.close()


@pytest.mark.parametrize(("lock", "meant"), [("-1", "2"), ("5", "2"), ("3,-3", "0")])
def test_locks_from_a_link_are_counted_around_the_ring(open_page: Callable[..., Page], lock: str, meant: str) -> None:
    page = open_page(f"#7/r3/2.000/{lock}")
    page.until(lambda: page.ask("location.hash === window.alis.link"))
    assert page.ask("window.alis.link").endswith(f"/{meant}")


def test_the_page_is_idle_after_an_outage(browser: Any) -> None:
    server = Served(alis.Panorama(models.tiny(), 7))
    page = Page(browser, f"http://127.0.0.1:{server.port}/#7/-/8.000")
    page.page.route("**/tile/**", lambda route: route.abort())
    for stop in (100, 200, 300):
        page.ask(f"window.alis.plane.jump({stop})")
        page.until(lambda: page.ask("window.alis.plane.waits.size") > 5)
    visible = page.ask("(() => { const w = window.alis.plane.wanted(); return w.visible.length + w.ahead.length; })()")
    assert page.ask("window.alis.plane.waits.size") <= visible, "who is out of sight is not waited for"
    page.page.unroute("**/tile/**")
    page.ask("window.alis.plane.jump(8)")
    page.settle()
    page.until(lambda: page.ask("window.alis.plane.waits.size === 0 && window.alis.plane.alarm === 0"))
    assert page.ask("window.alis.plane.frame") == 0
    page.context.close()
    server.close()


@pytest.mark.parametrize(("width", "height", "touch"), [(1280, 720, False), (390, 844, True), (320, 640, True)])
def test_the_page_is_accessible(
    open_page: Callable[..., Page],
    width: int,
    height: int,
    touch: bool,
) -> None:
    page = open_page("#7/-/8.000", width=width, height=height, touch=touch, is_calm=True)
    page.ask(npm.text(npm.AXE, "axe.min.js"))
    for sheet in ("", "connect", "save", "help"):
        if sheet:
            page.ask(f"document.getElementById('{sheet}').click()")
        found = page.ask("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        assert not found, [(one["id"], [node["target"] for node in one["nodes"]]) for one in found]
        small = page.ask(
            "[...document.querySelectorAll('button, input[type=range], fieldset label')]"
            ".filter((e) => e.offsetParent && (document.querySelector('dialog[open]') ?? document).contains(e))"
            ".map((e) => [e.id || e.className || e.textContent, e.offsetWidth, e.offsetHeight])"
            ".filter(([, width, height]) => width < 44 || height < 44)"
        )
        assert not small
        assert page.ask("document.documentElement.scrollWidth") <= width
        page.page.keyboard.press("Escape")
