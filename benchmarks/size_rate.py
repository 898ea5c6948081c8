"""Rate of the `size` and `duplicates` facts, beside a bare loop that only decodes each file at an eighth of its scale.

    python benchmarks/size_rate.py [--photos ../shared/photos/landscapes] [--megapixels 5.9] [--rounds 5]

One process, one core, the two loops in turn over the same files, best round of each. Photos are taken as they are, and
once more at the megapixels that photos of a crawl have on average (resized, JPEG 90). The bare loop is Pillow's
(draft + load), and also the quicker decoder that `size` uses. Ours reads a real shard and writes real facts.
Floors: 0.9 of the bare loop's rate, 400 MB.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import simplejpeg
from PIL import Image

from lhq.filter import MeasureShard, Rule
from lhq.images import inspect
from lhq.measures.duplicates import Duplicates, DuplicatesSettings
from lhq.measures.size import Size, SizeSettings
from lhq.records import PHOTO_SCHEMA
from lhq.shards import Shards

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
    rows = []
    for number, data in enumerate(photos):
        header = inspect(data)
        blank = {
            field.name: "" if pa.types.is_string(field.type) else [] if pa.types.is_list(field.type) else 0
            for field in PHOTO_SCHEMA
        }
        rows.append(blank | {
            "id": f"x:{number}", "sha256": header.sha256, "width_px": header.width_px, "height_px": header.height_px,
            "orientation": header.orientation, "format": header.format, "image": data,
        })  # fmt: skip
    Shards(str(store), "photos").write(0, pa.Table.from_pylist(rows, PHOTO_SCHEMA), row_group_size=24)


def ours(store: Path) -> None:
    size, near = SizeSettings(), DuplicatesSettings()
    report = MeasureShard(str(store), (Rule(Size(size), size), Rule(Duplicates(near), near)))("000000")
    assert not report.error, report.error
    shutil.rmtree(store / "facts")


def child(store: Path) -> None:
    ours(store)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def compare(photos: Sequence[bytes], rounds: int) -> dict[str, float]:
    store = Path(tempfile.mkdtemp(prefix="lhq-rate-"))
    try:
        shard(store, photos)
        files = [store / f"{number}.jpg" for number in range(len(photos))]
        for path, data in zip(files, photos, strict=True):
            path.write_bytes(data)
        loops = {
            "pillow": lambda: [pillow(path) for path in files],
            "bare": lambda: [bare(path) for path in files],
            "ours": lambda: ours(store),
        }
        best = dict.fromkeys(loops, float("inf"))
        for _ in range(rounds):
            for name, loop in loops.items():
                start = time.process_time()
                loop()
                best[name] = min(best[name], time.process_time() - start)
        code = f"import benchmarks.size_rate as b, pathlib; b.child(pathlib.Path({str(store)!r}))"
        done = subprocess.run([sys.executable, "-c", code], cwd=RESULT.parents[2], capture_output=True, check=True)
        peak_mb = float(done.stdout)
    finally:
        shutil.rmtree(store)
    found = {f"{name}_per_s": len(photos) / seconds for name, seconds in best.items()}
    found["peak_mb"] = peak_mb
    return found | {"of_pillow": best["pillow"] / best["ours"], "of_bare": best["bare"] / best["ours"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos/landscapes"))
    parser.add_argument("--megapixels", type=float, default=5.9)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    photos = [path.read_bytes() for path in sorted(asked.photos.glob("*.jpg"))]
    sets = {"as they are": photos, f"at {asked.megapixels} megapixels": [resized(d, asked.megapixels) for d in photos]}
    print(f"{'':20} {'ours/s':>8} {'pillow 1/8':>11} {'simplejpeg 1/8':>15}   of pillow   of simplejpeg")
    rows = {}
    for name, each in sets.items():
        rows[name] = row = compare(each, asked.rounds)
        print(f"{name:20} {row['ours_per_s']:8.1f} {row['pillow_per_s']:11.1f} {row['bare_per_s']:15.1f}   "
              f"{row['of_pillow']:9.2f}   {row['of_bare']:13.2f}", flush=True)  # fmt: skip
    peak = max(row["peak_mb"] for row in rows.values())
    print(f"peak memory of a process that measures one shard: {peak:.0f} MB")
    result = {
        "date": time.strftime("%Y-%m-%d"), "hardware": f"{platform.machine()}, one core",
        "photos": len(photos), "rows": rows, "peak_mb": peak,
        "floors": {"of_pillow": 0.9, "peak_mb": 400},
    }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
