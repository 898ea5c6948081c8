"""Export against a plain Pillow loop: rate, picture quality, memory; and operations on 90,000 rows.

    python benchmarks/export.py [--photos ../shared/photos/landscapes] [--num 48] [--rows 90000]

The plain loop decodes in full, scales the centre square to 256 by Lanczos and writes JPEG 95, one process. Ours is
`lhq export` itself, from the store to the finished folder, on all cores. Photos are brought to 6 megapixels first.
Floors: 3 times the rate on 2 cores; PSNR against the full decode 50 dB at the median and 40 dB at least, over the
photos that are decoded at a smaller scale; 500 MB for all processes together whatever the number of shards; seconds
for 90,000 rows. Writes benchmarks/results/export.json.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lhq import dataset, images, manifest, takedown
from lhq.engines.local import Local
from lhq.export import ExportSettings, export
from lhq.importing import RIGHTS
from lhq.licences import LICENCES
from lhq.records import PHOTO_SCHEMA, VERDICT_SCHEMA
from lhq.render import render
from lhq.rows import kept_rows
from lhq.shards import Shards

RESULT = Path(__file__).parent / "results" / "export.json"
SIDE = 256
MEGAPIXELS = 6e6


def six_megapixels(photos: list[Path]) -> list[bytes]:
    """The photos at 6 megapixels, JPEG 92."""
    made = []
    for path in photos:
        image = Image.open(path).convert("RGB")
        scale = math.sqrt(MEGAPIXELS / (image.width * image.height))
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=92)
        made.append(out.getvalue())
    return made


def plain(data: bytes) -> Image.Image:
    """Decode in full, Lanczos on the centre square."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    edge = min(image.size)
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=(left, top, left + edge, top + edge))


def psnr_db(a: Image.Image, b: Image.Image) -> float:
    error = float(((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def row(data: bytes, number: int, source: str = "folder") -> dict[str, Any]:
    """A photo of a store, with the papers that an own photo has."""
    header = images.inspect(data) if data else None
    return {
        "id": f"{source}:{number:06d}", "source": source, "source_id": f"{number:06d}",
        "url": f"https://photos.example/{number:06d}.jpg", "page_url": f"https://photos.example/{number:06d}",
        "author": f"Author {number % 977}", "author_url": "", "licence": "own",
        "licence_version": LICENCES["own"].version, "licence_url": "", "permission": "", "queries": ["lake"],
        "title": f"Photo {number}", "description": "A lake between mountains, early in the morning. " * 4,
        "tags": ["lake", "mountain", "morning"], "taken_at": "", "fetched_at": datetime(2026, 5, 1, tzinfo=UTC),
        "sha256": header.sha256 if header else hashlib.sha256(str(number).encode()).hexdigest(),
        "size_bytes": len(data), "format": "jpeg", "width_px": header.width_px if header else 3000,
        "height_px": header.height_px if header else 2000, "orientation": 1, "image": data,
    }  # fmt: skip


def store_of(at: Path, pictures: list[bytes], num: int, shard_rows: int) -> Path:
    """A judged store of `num` photos, in shards of `shard_rows`."""
    ids = []
    for shard, start in enumerate(range(0, num, shard_rows)):
        rows = [row(pictures[n % len(pictures)], n) for n in range(start, min(num, start + shard_rows))]
        Shards(str(at), "photos").write(shard, pa.Table.from_pylist(rows, PHOTO_SCHEMA), row_group_size=16)
        ids += [(one["id"], shard) for one in rows]
    judged = [
        {"id": id, "shard": shard, "kept": True, "reason": "", "score": 0.0, "detail": "", "failed": []}
        for id, shard in ids
    ]
    pq.write_table(pa.Table.from_pylist(judged, VERDICT_SCHEMA), at / "verdicts.parquet")
    return at


def rates(at: Path, pictures: list[bytes], num: int) -> dict[str, float]:
    """Photos a second: the plain loop, then ours from store to folder, twice in turn."""
    store = store_of(at / "rate", pictures, num, 24)
    one = dataset.variant(str(SIDE), "jpeg")
    found: dict[str, list[float]] = {"plain": [], "render_one_core": [], "export": []}
    for turn in range(2):
        began = time.perf_counter()
        for n in range(num):
            plain(pictures[n % len(pictures)]).save(io.BytesIO(), "JPEG", quality=95)
        found["plain"].append(num / (time.perf_counter() - began))
        began = time.perf_counter()
        for n in range(num):
            render(pictures[n % len(pictures)], one, 95)
        found["render_one_core"].append(num / (time.perf_counter() - began))
        began = time.perf_counter()
        settings = ExportSettings(to=str(at / f"rate-out-{turn}"), variants=(str(SIDE),))
        export(str(store), settings, rights_of=RIGHTS, engine=Local())
        found["export"].append(num / (time.perf_counter() - began))
    best = {name: max(each) for name, each in found.items()}
    return {f"{name}_per_s": round(rate, 2) for name, rate in best.items()} | {
        "render_ratio_one_core": round(best["render_one_core"] / best["plain"], 2),
        "export_ratio": round(best["export"] / best["plain"], 2),
    }


def quality(photos: list[Path], pictures: list[bytes]) -> dict[str, float]:
    """PSNR of 256 squares against the full decode, over those decoded at a smaller scale: originals and 6 MP."""
    one = dataset.variant(str(SIDE), "png")
    found = []
    for data in [*(path.read_bytes() for path in photos), *pictures]:
        found.append(psnr_db(Image.open(io.BytesIO(render(data, one, 95).data)), plain(data)))
    scaled = [each for each in found if not math.isinf(each)]
    return {
        "photos": len(found), "decoded_smaller": len(scaled), "psnr_min_db": round(min(scaled), 1),
        "psnr_median_db": round(float(np.median(scaled)), 1),
    }  # fmt: skip


def memory(at: Path, pictures: list[bytes], num: int) -> dict[str, float]:
    """The most memory that an export and its workers held together (PSS), by the number of photo shards."""
    found = {}
    for shards in (2, 8):
        store = store_of(at / f"memory-{shards}", pictures, num * shards // 2, num // 2)
        code = "import sys; sys.path.insert(0, sys.argv[2]); import export; export.export_alone(sys.argv[1])"
        process = subprocess.Popen([sys.executable, "-c", code, str(store), str(Path(__file__).parent)])
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_pss_bytes, _family(process.pid))))
            time.sleep(0.05)
        assert process.returncode == 0
        found[f"peak_mb_{shards}_shards"] = round(peak / 1e6)
    return found


def export_alone(store: str) -> None:
    """What the memory of is measured."""
    export(store, ExportSettings(variants=("1024", "256")), rights_of=RIGHTS, engine=Local())


def _family(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in _family(child))]


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def many_rows(at: Path, num: int) -> dict[str, float]:
    """Seconds for operations on so many rows without pictures."""
    store = store_of(at / "rows", [b""], num, 1000)
    for shard in Shards(str(store), "photos").numbers():
        ids = Shards(str(store), "photos").read(shard, ["id"])["id"]
        scores = pa.array(np.random.default_rng(shard).normal(size=len(ids)).astype(np.float32))
        Shards(str(store), "facts/outliers").write(shard, pa.table({"id": ids, "log_likelihood": scores}))
    took: dict[str, float] = {}

    def clock(name: str, began: float) -> None:
        took[name] = round(time.perf_counter() - began, 2)

    began = time.perf_counter()
    assert len(kept_rows(str(store), seed=0, validation=0.01).table) == num
    clock("join_s", began)
    began = time.perf_counter()
    settings = ExportSettings(to=str(at / "rows-out"), publish="manifest")
    export(str(store), settings, rights_of=RIGHTS, engine=Local())
    clock("export_manifest_s", began)
    began = time.perf_counter()
    assert len(manifest.read(str(at / "rows-out"))) == num
    clock("read_manifest_s", began)
    began = time.perf_counter()
    takedown.remove(str(store), [f"folder:{n:06d}" for n in range(0, num, 90)])
    clock("remove_1000_s", began)
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos/landscapes"))
    parser.add_argument("--num", type=int, default=48, help="photos of 6 megapixels a run")
    parser.add_argument("--rows", type=int, default=90_000)
    asked = parser.parse_args()
    photos = sorted(asked.photos.glob("*.jpg"))
    if not photos:
        print(f"no photographs in {asked.photos}: give --photos DIR", file=sys.stderr)
        return 2
    pictures = six_megapixels(photos[:12])
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        result = {
            "date": date.today().isoformat(),
            "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}",
            "rate": rates(at, pictures, asked.num),
            "quality": quality(photos, pictures),
            "memory": memory(at, pictures, asked.num),
            "rows": {"num": asked.rows, **many_rows(at, asked.rows)},
            "floors": {"export_ratio": 3, "psnr_median_db": 50, "psnr_min_db": 40, "peak_mb": 500},
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for name, values in result.items():
        shown = ", ".join(f"{key} {value}" for key, value in values.items()) if isinstance(values, dict) else values
        print(f"{name:8s} {shown}")
    rate, psnr, peak = result["rate"], result["quality"], result["memory"]
    holds = (
        rate["export_ratio"] >= 3 and psnr["psnr_median_db"] >= 50 and psnr["psnr_min_db"] >= 40
        and max(peak.values()) <= 500
    )  # fmt: skip
    print("floors hold" if holds else "FLOORS MISSED")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
