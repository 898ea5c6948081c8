"""Rate of the `size` and `duplicates` facts, beside a bare loop that only decodes each file at an eighth of its scale.

    python benchmarks/size_rate.py [--photos DIR] [--megapixels 5.9] [--rounds 7]
                                   [--copies 4]

One process as the local engine starts it, one core, the loops in turn over the same photos, after one turn of each that
does not count, in processor seconds. The figure is the median over the rounds of what Pillow's loop took over what ours
took in the same round, so that a slow minute of the machine slows both. Photos are taken as they are, and once more at
the megapixels that photos of a crawl have on average (resized, JPEG 90), `copies` of each. The bare loops read a file
and decode it: Pillow's (draft + load), and the quicker decoder that `size` uses. Ours reads a shard as the crawler
writes it, and writes the facts.
Floors: 0.95 of Pillow's bare loop, 400 MB.

What must be done for a photo of 2 megapixels and more, and what it costs in milliseconds, on an AMD EPYC of Zen 4:
decode 5.8 (Pillow's 6.2); keypoints 0.17; small grey picture 0.09; size's figures 0.08; perceptual hash 0.04. Reading a
photo of 0.6 MB: 0.08, one copy from the page cache (Arrow makes three), and 0.01 for its CRC-32.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import simplejpeg
import small
from material import SHARED, photographs
from PIL import Image

from lhq.crawl.shard_file import ROW_GROUP_BYTES, writer
from lhq.engines.local import keep_memory
from lhq.filter import Rule
from lhq.filter.measure import MeasureShard
from lhq.images import inspect
from lhq.measures.duplicates import Duplicates, DuplicatesSettings
from lhq.measures.size import Size, SizeSettings
from lhq.records import PHOTO_SCHEMA
from lhq.store.shards import Shards

RESULT = Path(__file__).parent / "results/size_rate.json"


def pillow(path: Path) -> None:
    image = Image.open(path)
    image.draft("RGB", (image.width // 8, image.height // 8))
    image.load()


def bare(path: Path) -> None:
    simplejpeg.decode_jpeg(path.read_bytes(), "RGB", min_height=1, min_width=1, min_factor=1)


def resized(data: bytes, megapixels: float) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    out = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS).save(
        out, "JPEG", quality=90
    )
    return out.getvalue()


def shard(store: Path, photos: Sequence[bytes]) -> None:
    """One shard, laid out as the crawler does."""
    rows = []
    for number, data in enumerate(photos):
        header = inspect(data)
        blank = {
            field.name: "" if pa.types.is_string(field.type) else [] if pa.types.is_list(field.type) else 0
            for field in PHOTO_SCHEMA
        }
        rows.append(
            blank
            | {
                "id": f"x:{number}",
                "sha256": header.sha256,
                "width_px": header.width_px,
                "height_px": header.height_px,
                "orientation": header.orientation,
                "format": header.format,
                "image": data,
            }
        )
    path = Path(Shards(str(store), "photos").path(0))
    path.parent.mkdir()
    each = max(1, ROW_GROUP_BYTES * len(photos) // sum(map(len, photos)))
    with open(path, "wb") as file, writer(file) as out:
        for at in range(0, len(rows), each):
            out.write_table(pa.Table.from_pylist(rows[at : at + each], PHOTO_SCHEMA))


def ours(store: Path, num: int) -> None:
    size, near = SizeSettings(), DuplicatesSettings()
    report = MeasureShard(str(store), (Rule(Size(size), size), Rule(Duplicates(near), near)))("000000")
    assert report.rows == num, report


def peak() -> float:
    """Most memory that this process held, in MB. Not `ru_maxrss`: on Linux that starts at what its parent held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def child(store: Path, rounds: int) -> None:
    """As a worker of the local engine: processor seconds of each loop, the rounds in turn, and peak memory in MB."""
    keep_memory()
    files = sorted(store.glob("*.jpg"))
    ours(store, len(files))
    shutil.rmtree(store / "facts")
    peak_mb = peak()
    loops: dict[str, Callable[[], object]] = {
        "pillow": lambda: [pillow(path) for path in files],
        "bare": lambda: [bare(path) for path in files],
        "ours": lambda: ours(store, len(files)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for round in range(rounds + 1):
        for name, loop in loops.items():
            start = time.process_time()
            loop()
            if round:
                seconds[name].append(time.process_time() - start)
        shutil.rmtree(store / "facts")
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


def compare(photos: Sequence[bytes], rounds: int) -> dict[str, Any]:
    store = Path(tempfile.mkdtemp(prefix="lhq-rate-"))
    try:
        shard(store, photos)
        for number, data in enumerate(photos):
            (store / f"{number}.jpg").write_bytes(data)
        code = f"import size_rate as b, pathlib; b.child(pathlib.Path({str(store)!r}), {rounds})"
        done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=True)
        told = json.loads(done.stdout)
    finally:
        shutil.rmtree(store)
    seconds = told["seconds"]
    found = {f"{name}_per_s": len(photos) / statistics.median(each) for name, each in seconds.items()}
    found |= {"peak_mb": told["peak_mb"], "shard_mb": sum(map(len, photos)) / 1e6}
    for peer in ("pillow", "bare"):
        ratios = [theirs / mine for theirs, mine in zip(seconds[peer], seconds["ours"], strict=True)]
        found |= {f"of_{peer}": statistics.median(ratios), f"of_{peer}_each_round": [round(r, 3) for r in ratios]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=SHARED / "photos/landscapes")
    parser.add_argument("--megapixels", type=float, default=5.9)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--copies", type=int, default=4)
    asked = small.parse(parser, rounds=1, copies=1)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    photos = [path.read_bytes() for path in photographs(asked.photos)]
    sets = {"as they are": photos, f"at {asked.megapixels} megapixels": [resized(d, asked.megapixels) for d in photos]}
    print(f"{'':20} {'ours/s':>8} {'pillow 1/8':>11} {'simplejpeg 1/8':>15}   of pillow   of simplejpeg")
    rows = {}
    for name, each in sets.items():
        rows[name] = row = compare(each * asked.copies, asked.rounds)
        print(
            f"{name:20} {row['ours_per_s']:8.1f} {row['pillow_per_s']:11.1f} {row['bare_per_s']:15.1f}   "
            f"{row['of_pillow']:9.3f}   {row['of_bare']:13.3f}",
            flush=True,
        )
        each_round = row["of_pillow_each_round"]
        print(f"{'':20} of pillow, {len(each_round)} rounds: {min(each_round):.3f} to {max(each_round):.3f}")
    peak = max(row["peak_mb"] for row in rows.values())
    print(f"peak memory of a process that measures one such shard: {peak:.0f} MB")
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"{platform.machine()}, one core",
        "photos": len(photos),
        "copies": asked.copies,
        "rows": rows,
        "peak_mb": peak,
        "floors": {"of_pillow": 0.95, "peak_mb": 400},
    }
    (asked.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
