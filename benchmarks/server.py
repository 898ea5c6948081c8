"""Viewers panning at once against one server on loopback, and the page's own frame times while it is dragged.

    python benchmarks/server.py MODEL [--seconds 10] [--viewers 1 8 32] [--only server|browser]

Each viewer opens the page (a screen of eight tiles at once) and pans at two tiles a second, over six kept connections
as a browser has them; viewers arrive over the first two seconds. Every second viewer follows the plane that the page
starts with, the others a plane of their own. A panning viewer asks for a tile one screen before it comes into sight:
what takes longer than that is late. The peer is the same server that paints tiles one by one (`batch = 1`) and keeps
none, so the table shows what batching and the cache are worth. Time to a tile counts from the moment it is wanted.
Floors: no error, no tile late, half of the page's frames within 17 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import small

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
_SPEED, _SCREEN, _OPEN, _ARRIVE_S = 2.0, 8, 6, 2.0
_LATE_S = _SCREEN / _SPEED
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def serve(model: str, batch: int | None, cache_mb: float) -> None:
    """The server of one row, in its own process."""
    import alis
    from alis.web import app, connections, painter
    from alis.web import serve as web

    listener = web.bind("127.0.0.1", 0)
    panorama = alis.Panorama(alis.load(model), 7)
    work = painter.Painter(panorama, queue_tiles=1024, batch=batch, cache_bytes=int(cache_mb * 2**20))
    page = app.create(panorama, name="a model", painter=work, per_viewer=1024)
    limits = connections.ConnectionLimits(per_viewer=1024)  # all viewers of this benchmark have one address
    web.run(page, listener, started=lambda url: print(url, flush=True), limits=limits)


@contextmanager
def served(model: str, batch: int | None, cache_mb: float) -> Iterator[str]:
    """The server in its own process; its URL."""
    words = [sys.executable, "-W", "ignore", __file__, model, "--serve", str(batch or 0), str(cache_mb)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(timeout=60)


class Wire:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self.port, self.ends = port, None

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        if self.ends is None:
            self.ends = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.ends
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-len"))
        return int(head.split()[1]), await reader.readexactly(size)

    def close(self) -> None:
        """Hang up."""
        if self.ends:
            self.ends[1].close()


async def viewer(number: int, port: int, wait_s: float, seconds: float, seen: list[tuple[bool, float, int]]) -> None:
    """Open the page, then pan: right, or left."""
    seed, way = (7 if number % 2 else 1000 + number), (1 if number % 4 < 2 else -1)
    await asyncio.sleep(wait_s)
    started, wanted = time.perf_counter(), 0
    wires: asyncio.Queue[Wire] = asyncio.Queue()
    for _ in range(_OPEN):
        wires.put_nowait(Wire(port))
    running: set[asyncio.Task[None]] = set()

    async def one(k: int, is_first: bool, since: float) -> None:
        wire = await wires.get()
        status, _ = await wire.get(f"/tile/{seed}/-/{k}.webp")
        wires.put_nowait(wire)
        seen.append((is_first, time.perf_counter() - since, status))

    while (passed := time.perf_counter() - started) < seconds:
        while wanted < _SCREEN + passed * _SPEED:
            task = asyncio.create_task(one(way * wanted, wanted < _SCREEN, time.perf_counter()))
            running.add(task)
            task.add_done_callback(running.discard)
            wanted += 1
        await asyncio.sleep(0.02)
    await asyncio.gather(*running)
    while not wires.empty():
        wires.get_nowait().close()


def at(times: list[float], share: float) -> float:
    """A quantile in milliseconds."""
    return round(1000 * sorted(times)[min(int(len(times) * share), len(times) - 1)], 1) if times else 0.0


def measure(model: str, viewers: int, seconds: float, batch: int | None, cache_mb: float) -> dict[str, object]:
    """One row."""
    seen: list[tuple[bool, float, int]] = []

    async def crowd(port: int) -> dict[str, int]:
        first = Wire(port)
        await first.get("/tile/1/-/0.webp")
        arrivals = [number * _ARRIVE_S / viewers for number in range(viewers)]
        await asyncio.gather(*(viewer(n, port, wait, seconds, seen) for n, wait in enumerate(arrivals)))
        stats: dict[str, int] = json.loads((await first.get("/stats.json"))[1])
        first.close()
        return stats

    with served(model, batch, cache_mb) as url:
        started = time.perf_counter()
        stats = asyncio.run(crowd(int(url.rstrip("/").rpartition(":")[2])))
        passed = time.perf_counter() - started
    opening = [took for is_first, took, status in seen if is_first and status == 200]
    panning = [took for is_first, took, status in seen if not is_first and status == 200]
    return {
        "viewers": viewers,
        "tiles": len(seen),
        "tiles_s": round(len(seen) / passed, 1),
        "p50_ms": at(opening + panning, 0.5),
        "p95_ms": at(opening + panning, 0.95),
        "first_screen_p95_ms": at(opening, 0.95),
        "panning_p50_ms": at(panning, 0.5),
        "panning_p95_ms": at(panning, 0.95),
        "late": sum(took > _LATE_S for took in panning),
        "errors": sum(status != 200 for *_, status in seen),
        "hit_rate": round((stats["hits"] + stats["joined"]) / max(len(seen), 1), 3),
        "batch_mean": round(stats["painted"] / max(stats["batches"], 1), 2),
    }


def browser(model: str, seconds: float) -> dict[str, object]:
    """The page in headless Chromium, by its own requestAnimationFrame times: dragged, and drifting over fresh tiles."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {"left_out": "playwright is not installed"}
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        return {"left_out": "no Chromium on this machine"}
    found: dict[str, object] = {"renderer": "software (no GPU), headless, 1280×720"}
    with served(model, None, 256) as url, sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=chromium, args=FLAGS)
        page = chrome.new_page(viewport={"width": 1280, "height": 720})
        started = time.perf_counter()
        page.goto(f"{url}#7/-/20.000")
        update_spectral_norm(page)
        found["opened_ms"] = round(1000 * (time.perf_counter() - started))
        page.evaluate(_IDLE)
        found["idle_page"] = _frames(page.evaluate("window.ticks"))
        # There and back once, so that all tiles of the way are held.
        for stop in (30, 36, 10, 4, 20):
            page.evaluate(f"window.alis.plane.glideTo([{stop}], 600)")
            update_spectral_norm(page)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.evaluate(_TICK)
        page.evaluate(_DRAG, seconds)
        found["dragged_over_held_tiles"] = _frames(page.evaluate("window.ticks")) | {"tiles_asked": len(asked)}
        page.evaluate("window.alis.plane.drift = 1.5; window.alis.plane.wake()")
        page.evaluate(_TICK)
        page.wait_for_timeout(seconds * 1000)
        found["drifting_over_fresh_tiles"] = _frames(page.evaluate("window.ticks"))
        chrome.close()
    return found


def update_spectral_norm(page) -> None:  # type: ignore[no-untyped-def]
    """Wait till nothing moves and all tiles are dry; the page's policy forbids what playwright would do for it."""
    deadline = time.monotonic() + 60
    while not page.evaluate("Boolean(window.alis && window.alis.plane.isSettled)"):
        assert time.monotonic() < deadline, "the page did not update_spectral_norm"
        page.wait_for_timeout(20)


_TICK = """() => { const ticks = window.ticks = []; let last = performance.now();
  const tick = (now) => {
    ticks.push(now - last);
    last = now;
    if (window.ticks === ticks) requestAnimationFrame(tick);
  };
  requestAnimationFrame((now) => { last = now; requestAnimationFrame(tick); }); }"""
_IDLE = """async () => { const ticks = []; let last = performance.now();
  for (let n = 0; n < 60; n++) {
    const now = await new Promise(requestAnimationFrame);
    ticks.push(now - last);
    last = now;
  }
  window.ticks = ticks.slice(1); }"""
# Real pointer events at the browser's own pace, to and fro over the same columns.
_DRAG = """async (seconds) => { const stage = document.getElementById("stage"), start = performance.now();
  const fire = (type, x) => stage.dispatchEvent(
    new PointerEvent(type, { pointerId: 1, clientX: x, clientY: 300, bubbles: true }));
  stage.setPointerCapture = () => {};
  fire("pointerdown", 640);
  for (let now = start; now < start + seconds * 1000; now = await new Promise(requestAnimationFrame))
    fire("pointermove", 640 + 560 * Math.sin((now - start) / 450));
  fire("pointerup", 640); }"""


def _frames(ticks: list[float]) -> dict[str, object]:
    seconds = [tick / 1000 for tick in ticks[2:]]
    return {
        "frames": len(seconds),
        "fps": round(len(seconds) / max(sum(seconds), 1e-9), 1),
        "median_ms": at(seconds, 0.5),
        "p95_ms": at(seconds, 0.95),
        "dropped": sum(round(second * 60) > 1 for second in seconds),
    }


def main() -> None:
    """Measure, print a table, write benchmarks/results/server.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--only", choices=["server", "browser"])
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = small.parse(parser, seconds=3, viewers=[8], only="server", model="demo")
    if args.serve:
        serve(args.model, int(args.serve[0]) or None, float(args.serve[1]))
        return
    from alis.models import model_folder

    path = args.results / "server.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found |= {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "host": "loopback",
        "seconds": args.seconds,
        "command": "python benchmarks/server.py MODEL",
        "model": model_folder.read_config(args.model).model_dump(),
    }
    if args.only != "browser":
        found["rows"] = []
        for viewers in args.viewers:
            ours = measure(args.model, viewers, args.seconds, None, 256)
            peer = measure(args.model, viewers, args.seconds, 1, 1e-6)
            ratio = round(peer["p95_ms"] / ours["p95_ms"], 2)  # type: ignore[operator]
            found["rows"].append({"p95_ratio": ratio, "ours": ours, "one_by_one": peer})
            print(
                f"{viewers:3d} viewers  p95 {ratio:.2f} × as fast as one by one   p50 {ours['p50_ms']} ms  "
                f"p95 {ours['p95_ms']} ms  first screen {ours['first_screen_p95_ms']} ms  late {ours['late']}  "
                f"hits {ours['hit_rate']:.0%}  batch {ours['batch_mean']}  errors {ours['errors']}   "
                f"(one by one: p50 {peer['p50_ms']}  p95 {peer['p95_ms']}  late {peer['late']}  "
                f"errors {peer['errors']})",
                flush=True,
            )
    if args.only != "server":
        found["browser"] = browser(args.model, min(args.seconds, 6))
        for name, row in found["browser"].items():
            print(f"browser  {name:26s}  {row}", flush=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
