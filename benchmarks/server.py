"""Viewers panning at once against one server on loopback: time to a tile at p50 and p95, hit rate, errors.

    python benchmarks/server.py MODEL [--seconds 10] [--viewers 1 8 32]

Each viewer pans at two tiles a second from a place of its own on a plane that every second viewer shares, holding at
most six requests as a browser does. The peer is the same server that paints tiles one by one (`batch = 1`) and keeps
none, so the table shows what batching and the cache are worth. Time to a tile is from the moment it is wanted.
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
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
_SPEED, _SCREEN, _OPEN = 2.0, 8, 6


def serve(model: str, batch: int | None, cache_mb: float) -> None:
    """The server of one row, in its own process."""
    import alis
    from alis.web import app, painter
    from alis.web import serve as web

    listener = web.bind("127.0.0.1", 0)
    panorama = alis.Panorama(alis.load(model), 7)
    work = painter.Painter(panorama, queue_tiles=1024, batch=batch, cache_bytes=int(cache_mb * 2**20))
    web.run(app.create(panorama, painter=work, per_viewer=1024), listener, started=lambda url: print(url, flush=True))


async def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    data = await reader.read()
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def viewer(number: int, port: int, seconds: float, times: list[float], states: list[int]) -> None:
    """Pan right, or left: a tile is wanted when it comes within a screen of the view."""
    seed, way = 100 + number // 2, 1 if number % 2 == 0 else -1
    started, wanted, gate = time.perf_counter(), 0, asyncio.Semaphore(_OPEN)
    running: set[asyncio.Task[None]] = set()

    async def one(k: int, since: float) -> None:
        async with gate:
            status, _ = await _get("127.0.0.1", port, f"/tile/{seed}/-/{k}.webp")
        states.append(status)
        if status == 200:
            times.append(time.perf_counter() - since)

    while (passed := time.perf_counter() - started) < seconds:
        while wanted < _SCREEN + passed * _SPEED:
            task = asyncio.create_task(one(way * wanted, time.perf_counter()))
            running.add(task)
            task.add_done_callback(running.discard)
            wanted += 1
        await asyncio.sleep(0.02)
    await asyncio.gather(*running)


def measure(model: str, viewers: int, seconds: float, batch: int | None, cache_mb: float) -> dict[str, object]:
    """One row."""
    words = [sys.executable, "-W", "ignore", __file__, model, "--serve", str(batch or 0), str(cache_mb)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2])
    times: list[float] = []
    states: list[int] = []

    async def crowd() -> dict[str, int]:
        await _get("127.0.0.1", port, "/tile/1/-/0.webp")
        await asyncio.gather(*(viewer(number, port, seconds, times, states) for number in range(viewers)))
        return json.loads((await _get("127.0.0.1", port, "/stats.json"))[1])  # type: ignore[no-any-return]

    started = time.perf_counter()
    stats = asyncio.run(crowd())
    passed = time.perf_counter() - started
    process.terminate()
    process.wait(timeout=60)
    times.sort()
    return {
        "viewers": viewers, "tiles": len(states), "tiles_s": round(len(states) / passed, 1),
        "p50_ms": round(1000 * times[len(times) // 2], 1), "p95_ms": round(1000 * times[int(len(times) * 0.95)], 1),
        "errors": sum(status != 200 for status in states),
        "hit_rate": round((stats["hits"] + stats["joined"]) / max(len(states), 1), 3),
        "batch_mean": round(stats["painted"] / max(stats["batches"], 1), 2),
    }  # fmt: skip


def browser(model: str, seconds: float) -> dict[str, object] | None:
    """The page in headless Chromium, drifting fast over fresh tiles: its own frame times. None where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        return None
    words = [sys.executable, "-W", "ignore", __file__, model, "--serve", "0", "256"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as play:
        page = play.chromium.launch(executable_path=chromium, args=flags).new_page(
            viewport={"width": 1280, "height": 720}
        )
        page.goto(url)
        page.wait_for_timeout(3000)
        page.evaluate("window.alis.plane.frames.length = 0; window.alis.plane.drift = 1.5; window.alis.plane.wake()")
        page.wait_for_timeout(seconds * 1000)
        frames = sorted(page.evaluate("window.alis.plane.frames.slice(2)"))
    process.terminate()
    process.wait(timeout=60)
    return {
        "frames": len(frames), "frames_s": round(1000 * len(frames) / sum(frames), 1),
        "p50_ms": round(frames[len(frames) // 2], 1), "p95_ms": round(frames[int(len(frames) * 0.95)], 1),
        "renderer": "software, headless, 1280×720",
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, write benchmarks/results/server.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.model, int(args.serve[0]) or None, float(args.serve[1]))
        return
    rows = []
    for viewers in args.viewers:
        ours = measure(args.model, viewers, args.seconds, None, 256)
        peer = measure(args.model, viewers, args.seconds, 1, 1e-6)
        rows.append({"ours": ours, "one_by_one": peer, "p95_ratio": round(peer["p95_ms"] / ours["p95_ms"], 2)})  # type: ignore[operator]
        print(
            f"{viewers:3d} viewers  p95 {rows[-1]['p95_ratio']:.2f} × faster than one by one   "
            f"p50 {ours['p50_ms']} ms  p95 {ours['p95_ms']} ms  "
            f"hits {ours['hit_rate']:.0%}  batch {ours['batch_mean']}  errors {ours['errors']}   "
            f"(one by one: p50 {peer['p50_ms']}  p95 {peer['p95_ms']}  errors {peer['errors']})", flush=True,
        )  # fmt: skip
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "python": platform.python_version(),
        "machine": platform.machine(), "cores": os.cpu_count(), "host": "loopback", "seconds": args.seconds,
        "resolution": json.loads((Path(args.model) / "config.json").read_text())["model"]["resolution"], "rows": rows,
        "browser": browser(args.model, args.seconds),
    }  # fmt: skip
    print(f"browser  {found['browser']}")
    path = ROOT / "benchmarks" / "results" / "server.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
