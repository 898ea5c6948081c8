"""Kept photos a second: `lhq crawl` beside img2dataset and beside a bare loop of connections that only counts bytes.

    python benchmarks/crawl.py --peer /path/to/venv/bin/img2dataset        (pip install img2dataset==1.47 there)

One local server, the same photos and URLs for all three, one after the other, in rounds; figures are medians. Ours is
the whole command: door check, sha256, provenance, spool, frontier, durable Parquet shards. The peer runs as its
documentation tells for raw downloads: no resizing, no re-encoding, 2 processes, 32 threads, webdataset shards. Both
are compiled beforehand, as installed packages are.
The floor reads the same URLs over kept-alive connections and throws the bytes away.
Also: opening and reading a frontier of a million candidates, and the memory of one crawl of ten thousand photos, looked
at every two seconds.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import http.client
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import small
from PIL import Image

ROOT = Path(__file__).parents[1]
NUM_FILES = 100
SIZE_BYTES = 800_000


@dataclass(frozen=True)
class Run:
    """One timed run: photos that were kept, wall-clock seconds, and the memory of all its processes at their peak.
    `cpu_s` is processor time of all its processes: what is left of a figure when the machine is busy."""

    num_photos: int
    seconds: float
    peak_mb: float
    cpu_s: float

    @property
    def photos_per_s(self) -> float:
        return self.num_photos / self.seconds


def make_photos(folder: Path) -> int:
    """Real JPEGs of about 0.8 MB; returns their mean size."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES):
        small = Image.fromarray(rng.integers(0, 256, (48, 72, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((1536, 1024), Image.Resampling.BICUBIC), np.int16)
        pixels = np.clip(pixels + rng.integers(-24, 25, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=89)
    return sum(path.stat().st_size for path in folder.iterdir()) // NUM_FILES


@contextmanager
def server(folder: Path) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "benchmarks/photo_server.py"), str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def memory_mb(process: int) -> float:
    """Proportional memory of a process and all its descendants, now."""
    total, todo = 0, [process]
    while todo:
        number = todo.pop()
        try:
            for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
            for task in Path(f"/proc/{number}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return total / 1024


def timed(command: Sequence[str], log: Path) -> tuple[float, float, float]:
    """(seconds, peak MB, processor seconds) of a command.

    Raises:
        RuntimeError: it failed; its output is in `log`.
    """
    peak = 0.0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(log, "w") as sink:
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        ) as process:
            while process.poll() is None:
                peak = max(peak, memory_mb(process.pid))
                time.sleep(0.2)
            seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {log.read_text()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, peak, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(port: int, num: int, place: Path) -> Path:
    """A pipeline file over a table of the Unsplash Dataset whose URLs point at the server."""
    columns = ["photo_id", "photo_url", "photo_image_url", "photographer_username"]
    rows = [
        "\t".join([f"p{i}", f"https://unsplash.com/photos/p{i}", f"http://127.0.0.1:{port}/p/{i}.jpg", "ann"])
        for i in range(num)
    ]
    (place / "table").mkdir()
    (place / "table/photos.tsv000").write_text("\n".join(["\t".join(columns), *rows]) + "\n")
    (place / "p.toml").write_text(
        f"store = '{place}/store'\nqueries = ['x']\nwant = {num}\n[http]\nallow_hosts = ['127.0.0.1:{port}']\n"
        f"per_host = 8\npace_per_s = 1000000\n[source.unsplash_dataset]\npath = '{place}/table'\n"
    )
    return place / "p.toml"


def ours(port: int, num: int, place: Path) -> Run:
    """`lhq crawl` over such a table."""
    table(port, num, place)
    seconds, peak, cpu_s = timed([sys.executable, "-m", "lhq", "crawl", str(place / "p.toml")], place / "log")
    listed = subprocess.run(
        [sys.executable, "-m", "lhq", "status", str(place / "p.toml"), "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return Run(json.loads(listed.stdout)["num_kept"], seconds, peak, cpu_s)


def peer(port: int, num: int, place: Path, program: str) -> Run:
    """img2dataset, raw."""
    (place / "urls.txt").write_text("".join(f"http://127.0.0.1:{port}/p/{i}.jpg\n" for i in range(num)))
    seconds, peak, cpu_s = timed(
        [
            program,
            f"--url_list={place}/urls.txt",
            f"--output_folder={place}/out",
            "--processes_count=2",
            "--thread_count=32",
            "--resize_mode=no",
            "--disable_all_reencoding=True",
            "--output_format=webdataset",
            "--number_sample_per_shard=1000",
            "--enable_wandb=False",
        ],
        place / "log",
    )
    stats = [json.loads(path.read_text()) for path in (place / "out").glob("*_stats.json")]
    return Run(sum(each["successes"] for each in stats), seconds, peak, cpu_s)


def floor(port: int, num: int) -> Run:
    """Eight kept-alive connections that read everything and keep nothing."""

    def read(numbers: range) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        view = memoryview(bytearray(4 << 20))
        for i in numbers:
            connection.request("GET", f"/p/{i}.jpg")
            response = connection.getresponse()
            while response.readinto(view):
                pass

    began, cpu = time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=read, args=(range(k, num, 8),)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Run(num, time.perf_counter() - began, 0.0, time.process_time() - cpu)


def memory(port: int, num: int, place: Path) -> dict[str, object]:
    """Resident memory of one long crawl, in MB, every two seconds."""
    file = table(port, num, place)
    seen: list[float] = []
    with open(place / "log", "w") as sink:
        command = [sys.executable, "-m", "lhq", "crawl", str(file)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdout=sink, stderr=sink, cwd=ROOT, env=environ) as process:
            while process.poll() is None:
                with contextlib.suppress(OSError, IndexError):
                    said = Path(f"/proc/{process.pid}/status").read_text().split("VmRSS:")[1]
                    seen.append(round(int(said.split()[0]) / 1024, 1))
                time.sleep(2)
    if process.returncode:
        raise RuntimeError(f"the long crawl failed: {(place / 'log').read_text()[-2000:]}")
    half = len(seen) // 2
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "photos": num,
        "most_mb": max(seen),
        "first_half_mb": statistics.median(seen[:half]),
        "second_half_mb": statistics.median(seen[half:]),
        "seen_mb": seen,
    }


def frontier(num: int, place: Path) -> dict[str, float]:
    """Build a frontier of `num` candidates through its own door, then open it as a resumed crawl does."""
    build = (
        "import sys, time\nfrom lhq.crawl.frontier import Frontier, Kept\nfrom lhq.records import Candidate, Query\n"
        "from lhq.sources import Page\n"
        "f = Frontier(sys.argv[1]); num = int(sys.argv[2]); f.add_queries('s', [Query('lake')], 10**9)\n"
        "for at in range(0, num, 500):\n"
        "    asked = f.next_query('s', frozenset({'lake'}))\n"
        "    page = [(Candidate('s', str(i), f'https://h{i % 3}/photo-{i}?w=4096', f'https://e.org/photos/{i}',\n"
        "        'An Author', 'https://example.org/@author', 'cc-by-2.0', 'lake', 6000, 4000, 'A lake',\n"
        "        'A lake among mountains', ('lake', 'snow')), f'h{i % 3}:443') for i in range(at, at + 500)]\n"
        "    f.add_page(asked, Page((), str(at + 500)), page)\n"
        "f.close()\n"
    )
    resume = (
        "import json, resource, sys, time\nfrom lhq.crawl.frontier import Frontier\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbegan = time.perf_counter()\n"
        "f = Frontier(sys.argv[1]); hosts = f.hosts()\n"
        "first = [f.waiting(h, time.time(), 200, ('s',)) for h in hosts]\n"
        "f.tallies(); f.shards(); f.num_waiting('s', 2000); f.next_due(('s',))\n"
        "seconds = time.perf_counter() - began\n"
        "num = sum(1 for _ in f.listing((), (), ()))\n"
        "print(json.dumps([seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, num]))\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    path = str(place / "frontier.sqlite")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", build, path, str(num)], check=True, cwd=ROOT, env=environ)
    built = time.perf_counter() - began
    done = subprocess.run(
        [sys.executable, "-c", resume, path], check=True, cwd=ROOT, env=environ, capture_output=True, text=True
    )
    seconds, grown_mb, listed = json.loads(done.stdout)
    if listed != num:
        raise RuntimeError(f"{listed} of {num} candidates were listed")
    size_mb = Path(path).stat().st_size / 1e6
    return {"candidates": num, "build_s": built, "resume_s": seconds, "memory_grown_mb": grown_mb, "file_mb": size_mb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default="", help="img2dataset's program; empty: leave it out")
    parser.add_argument("--photos", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument(
        "--long", type=int, default=10_000, help="photos of the crawl whose memory is looked at; 0: none"
    )
    parser.add_argument("--place", default=None, help="folder for stores; the disk that is measured")
    asked = small.parse(parser, photos=300, rounds=1, candidates=20_000, long=0)
    runs: dict[str, list[Run]] = {}
    compileall.compile_dir(ROOT / "lhq", quiet=1)
    with tempfile.TemporaryDirectory(dir=asked.place) as name:
        place = Path(name)
        size = make_photos(place / "photos")
        with server(place / "photos") as port:
            for number in range(asked.rounds):
                runs.setdefault("floor", []).append(floor(port, asked.photos))
                for who in ("lhq", "img2dataset") if asked.peer else ("lhq",):
                    inner = place / f"{who}-{number}"
                    inner.mkdir()
                    run = (
                        ours(port, asked.photos, inner) if who == "lhq" else peer(port, asked.photos, inner, asked.peer)
                    )
                    runs.setdefault(who, []).append(run)
                    shutil.rmtree(inner)
                    os.sync()
                    print(f"round {number + 1}: {who} {run.photos_per_s:.0f}/s, {run.peak_mb:.0f} MB", file=sys.stderr)
            (place / "long").mkdir()
            held = memory(port, asked.long, place / "long") if asked.long else None
        rows = frontier(asked.candidates, place)
    medians = {
        who: {
            "photos_per_s": statistics.median(run.photos_per_s for run in found),
            "peak_mb": max(run.peak_mb for run in found),
            "cpu_ms_per_photo": statistics.median(1000 * run.cpu_s / run.num_photos for run in found),
            "kept": min(run.num_photos for run in found),
        }
        for who, found in runs.items()
    }
    rate = {who: each["photos_per_s"] for who, each in medians.items()}
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "load_average": os.getloadavg(),
        "photos": asked.photos,
        "photo_bytes": size,
        "lhq_over_img2dataset": rate["lhq"] / rate["img2dataset"] if asked.peer else None,
        "lhq_over_floor": rate["lhq"] / rate["floor"],
        "medians": medians,
        "rounds": {who: [asdict(run) for run in found] for who, found in runs.items()},
        "frontier": rows,
        "memory": held,
    }
    (asked.results / "crawl.json").write_text(json.dumps(result, indent=1) + "\n")
    if asked.peer:
        print(f"lhq / img2dataset  {result['lhq_over_img2dataset']:.2f}   (at least 1.2)")
    print(f"lhq / floor        {result['lhq_over_floor']:.2f}")
    for who, each in medians.items():
        print(
            f"{who:<12} {each['photos_per_s']:7.0f} photos/s   {each['cpu_ms_per_photo']:5.2f} processor ms a photo   "
            f"{each['peak_mb']:6.0f} MB at the peak   kept {each['kept']}"
        )
    if held:
        print(
            f"memory over {held['photos']:,} photos: {held['most_mb']} MB at most (260), "
            f"{held['first_half_mb']} MB in its first half, {held['second_half_mb']} MB in its second"
        )
    print(
        f"frontier of {rows['candidates']:,}: resume {rows['resume_s']:.2f} s (under 5), "
        f"memory +{rows['memory_grown_mb']:.0f} MB, {rows['file_mb']:.0f} MB on disk"
    )


if __name__ == "__main__":
    main()
