"""A small endless plane, its live page, and a browser that looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import alis
from tests.alis import painter as models
from tests.alis.web.browsing import CHROMIUM, FLAGS, Page
from tests.alis.web.serving import Served


@pytest.fixture(scope="module")
def panorama() -> alis.Panorama:
    g = models.tiny()
    centres = g.map(torch.randn(4, 32, generator=torch.Generator().manual_seed(0)))
    return alis.Panorama(g, 7, centres=centres, codes={"mine": centres[0]})


@pytest.fixture(scope="module")
def served(panorama: alis.Panorama) -> Iterator[Served]:
    server = Served(panorama)
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, served: Served) -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def new(address: str = "", **how: Any) -> Page:
        pages.append(Page(browser, f"http://127.0.0.1:{served.port}/{address}", **how))
        return pages[-1]

    yield new
    for page in pages:
        page.context.close()
        assert not page.complaints, page.complaints
        assert all(url.startswith((f"http://127.0.0.1:{served.port}/", "blob:", "data:")) for url in page.asked)
