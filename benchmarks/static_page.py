"""How soon a page without a server shows its first tile, and how smoothly it pans over fresh ones, beside `alis serve`.

    python benchmarks/static_page.py [MODEL] [--seconds 5]

Headless Chromium without a GPU: page, worker and painting share the machine's cores. The peer is the same page with
tiles from `alis serve` on the same machine. First tile counts from the address being opened, an empty cache, WASM.
Floors: first tile within 3 s, 30 frames a second. Writes benchmarks/results/static_page.json; 3 = left out.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import platform
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import small

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import server  # noqa: E402  (its browser flags, its clock)

RESULT = Path(__file__).parent / "results" / "static_page.json"
FIRST_TILE_S, FRAMES_S = 3.0, 30.0


class Quiet(http.server.SimpleHTTPRequestHandler):
    """`python -m http.server` without its log."""

    def log_message(self, *args: object) -> None:
        pass


def measure(chrome: Any, url: str, seconds: float) -> dict[str, object]:
    """One page, opened anew and then drifting over tiles nobody painted before."""
    page = chrome.new_context(viewport={"width": 1280, "height": 720}).new_page()
    started = time.perf_counter()
    page.goto(f"{url}#7/-/20.000")
    while not page.evaluate("Boolean(window.alis && window.alis.plane.kept.size)"):
        page.wait_for_timeout(10)
        assert time.perf_counter() - started < 120, "no tile came"
    first = time.perf_counter() - started
    server.update_spectral_norm(page)
    screen = time.perf_counter() - started
    page.evaluate("window.alis.plane.drift = 1.5; window.alis.plane.wake()")
    page.evaluate(server._TICK)
    page.wait_for_timeout(seconds * 1000)
    frames = server._frames(page.evaluate("window.ticks"))
    page.context.close()
    return {"first_tile_s": round(first, 2), "screen_s": round(screen, 2), "drifting": frames}


def main() -> int:
    """Measure both, print ratios, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--seconds", type=float, default=5)
    given = small.parse(parser, seconds=2)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("playwright is not installed", file=sys.stderr)
        return 3
    chromium = next((path for name in ("chromium", "google-chrome") if (path := server.shutil.which(name))), None)
    if not chromium:
        print("no Chromium on this machine", file=sys.stderr)
        return 3
    import alis
    from alis.web.static import site

    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as play:
        started = time.perf_counter()
        made = site.write(alis.Panorama(alis.load(given.model), 7), Path(scratch) / "site", webgpu=False)
        exported = time.perf_counter() - started
        handler = functools.partial(Quiet, directory=str(made.folder))
        static = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=static.serve_forever, daemon=True).start()
        chrome = play.chromium.launch(executable_path=chromium, args=server.FLAGS)
        ours = measure(chrome, f"http://127.0.0.1:{static.server_port}/", given.seconds)
        with server.served(given.model, None, 256) as url:
            peer = measure(chrome, url, given.seconds)
        chrome.close()
        static.shutdown()
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "command": f"python benchmarks/static_page.py {given.model}",
        "load": round(os.getloadavg()[0], 1),
        "export_s": round(exported, 1),
        "site_mb": round(made.size_bytes / 1e6, 1),
        "in_the_browser": ours,
        "by_alis_serve": peer,
    }
    for name in ("in_the_browser", "by_alis_serve"):
        print(f"{name:15s} {found[name]}", flush=True)
    (given.results / RESULT.name).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    frames: Any = ours["drifting"]
    return 0 if float(str(ours["first_tile_s"])) <= FIRST_TILE_S and frames["fps"] >= FRAMES_S else 1


if __name__ == "__main__":
    sys.exit(main())
