"""The server's tiles, and those of a Deep Zoom folder, in OpenSeadragon, the most common viewer."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from pathlib import Path
from typing import Any

import alis
from alis.painting import strip
from tests.alis import painter as models
from tests.alis.web import npm
from tests.alis.web.browsing import Page, pytestmark  # noqa: F401
from tests.alis.web.serving import Served

DOCS = Path(__file__).parents[3] / "docs" / "web.md"


def test_openseadragon_shows_the_planes_tiles(browser: Any) -> None:
    script = npm.text(npm.OPENSEADRAGON, "build/openseadragon/openseadragon.min.js")
    found = re.search(r"```js\n(.*?OpenSeadragon.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "the page says how"
    server = Served(alis.Panorama(models.tiny(), 7))
    try:
        page = Page(browser, f"http://127.0.0.1:{server.port}/#7/-/8.000")
        page.asked.clear()
        page.ask(script)
        page.ask('document.body.innerHTML = \'<div id="viewer" style="width: 900px; height: 400px"></div>\'')
        page.ask(
            f"(async () => {{ {found[1]}; window.viewer = viewer; "
            "window.bad = 0; viewer.addHandler('tile-load-failed', () => window.bad++); }})()".replace("}}", "}")
        )
        page.until(lambda: page.ask("Boolean(window.viewer?.world.getItemAt(0)?.getFullyLoaded())"))
        assert page.ask("window.bad") == 0
        tiles = {int(url.split("/")[-1].split(".")[0]) for url in page.asked if "/tile/7/-/" in url}
        assert min(tiles) < 0 < max(tiles), "it opens around the origin"
        seen = page.ask("document.querySelector('#viewer canvas').toDataURL()")
        page.ask("window.viewer.viewport.panBy(new OpenSeadragon.Point(0.01, 0), true)")
        page.until(lambda: page.ask("window.viewer.world.getItemAt(0).getFullyLoaded()"))
        page.until(lambda: page.ask("document.querySelector('#viewer canvas').toDataURL()") != seen)
        page.context.close()
    finally:
        server.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The same as `python -m http.server`, without its log."""

    def log_message(self, *args: object) -> None:
        pass


def test_openseadragon_opens_a_deep_zoom_folder(browser: Any, tmp_path: Path) -> None:
    script = npm.text(npm.OPENSEADRAGON, "build/openseadragon/openseadragon.min.js")
    assert 'tileSources: "zoom.dzi"' in DOCS.read_text(encoding="utf-8")
    strip.paint(strip.plan(alis.Panorama(models.tiny(), 7), width=3000), tmp_path / "zoom.dzi")
    (tmp_path / "index.html").write_text('<!doctype html><div id="viewer" style="width: 900px; height: 400px"></div>')
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.add_script_tag(content=script)
        page.evaluate(
            """() => { window.failed = []; window.loaded = [];
            window.viewer = OpenSeadragon({ id: "viewer", showNavigationControl: false, tileSources: "zoom.dzi" });
            viewer.addHandler("open-failed", (event) => failed.push(event.message));
            viewer.addHandler("tile-load-failed", (event) => failed.push(event.message));
            viewer.addHandler("tile-loaded", (event) => loaded.push(event.tile.level)); }"""
        )
        page.wait_for_function("window.viewer.world.getItemAt(0)?.getFullyLoaded()", timeout=60_000)
        size = page.evaluate("(({ x, y }) => [x, y])(window.viewer.world.getItemAt(0).getContentSize())")
        assert size == [3000, 32]
        page.evaluate("window.viewer.viewport.zoomTo(8, null, true)")
        page.wait_for_function("window.loaded.includes(12)", timeout=60_000)  # the largest level: 2¹² ≥ 3000
        assert page.evaluate("window.failed") == []
        page.context.close()
    finally:
        server.shutdown()
