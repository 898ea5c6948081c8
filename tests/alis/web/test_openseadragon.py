"""The server's tiles in the viewer that most sites have: OpenSeadragon, as docs/web.md writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import alis
from tests.alis import painter as models
from tests.alis.web import npm
from tests.alis.web.test_web import Served
from tests.alis.web.test_web_browser import Page, browser, pytestmark  # noqa: F401

DOCS = Path(__file__).parents[3] / "docs" / "web.md"


def test_openseadragon_shows_the_planes_tiles(browser: Any) -> None:  # noqa: F811
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
