"""The page in a real browser: headless Chromium, driven by the DevTools protocol."""

from __future__ import annotations

import base64
import io
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


class Page:
    """The page as a user sees it, and the state that it exposes."""

    def __init__(
        self,
        browser: Any,
        url: str,
        *,
        width: int = 1200,
        height: int = 700,
        touch: bool = False,
        is_calm: bool = False,
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            has_touch=touch,
            accept_downloads=True,
            reduced_motion="reduce" if is_calm else "no-preference",
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)
        self.settle()

    def ask(self, code: str) -> Any:
        return self.page.evaluate(code)

    def until(self, what: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain; {self.complaints}"
            self.page.wait_for_timeout(30)

    def settle(self) -> None:
        self.until(lambda: self.ask("Boolean(window.alis && window.alis.plane.isSettled)"))

    @property
    def x(self) -> float:
        return float(self.ask("window.alis.plane.x"))

    @property
    def sketch(self) -> str:
        return str(self.ask("window.alis.sketch"))

    def picture(self) -> str:
        """A hash of the canvas's pixels."""
        return str(self.ask("document.getElementById('plane').toDataURL('image/png')"))


def is_same(a: str, b: str) -> bool:
    """Whether two canvases are equal up to rounding in the browser's smoothing, which depends on the clip's origin."""
    one, other = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")) for url in (a, b)
    )
    apart = np.abs(one.astype(int) - other) if one.shape == other.shape else np.full(1, 255)
    return bool(apart.max() <= 8 and apart.mean() < 0.02)
