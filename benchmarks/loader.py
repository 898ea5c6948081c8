"""Pictures a second out of Parquet: `alis.data.Loader` beside `datasets` through a torch DataLoader, and the floor.

    python benchmarks/loader.py --threads 2 --rounds 3

All three read the same files (256 px JPEG, quality 95, our exporter's layout) one after the other, in rounds;
figures are medians. The peer is map-style `datasets` with the `torch` format under a DataLoader with as many worker
processes as we have threads, batches collated as uint8. The floor is bare libjpeg-turbo on as many threads: the same
bytes, already in memory, decoded into one buffer and dropped.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
import torch
from PIL import Image

from alis.data import Loader, open_catalogue
from alis.monitor import machine

ROOT = Path(__file__).parents[1]
SIZE = 256
EPOCHS = 3  # ours is timed over several: training never ends, and the first second reads ahead


def make_dataset(folder: Path, num: int, photos: Path | None) -> None:
    """`num` pictures in four shards of row groups of 100; crops of real photographs where a folder is given."""
    rng = np.random.default_rng(0)
    sources = [Image.open(path).convert("RGB") for path in sorted(photos.glob("*.jpg"))[:24]] if photos else []
    rows = []
    for number in range(num):
        if sources:
            photo = sources[number % len(sources)]
            side = int(min(photo.size) * rng.uniform(0.4, 1))
            left, top = rng.integers(photo.width - side + 1), rng.integers(photo.height - side + 1)
            picture = photo.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
        else:
            coarse = rng.integers(0, 255, (24, 24, 3), np.uint8)
            picture = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=95)
        rows.append({"bytes": buffer.getvalue(), "path": f"{number}.jpg"})
    features = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))], {"huggingface": features}
    )
    (folder / "data").mkdir(parents=True)
    for shard in range(4):
        table = pa.Table.from_pylist([{"image": row} for row in rows[shard::4]], schema)
        pq.write_table(table, folder / "data" / f"train-{shard:05d}-of-00004.parquet", row_group_size=100)


def ours(folder: Path, num: int, threads: int) -> Callable[[], float]:
    def run() -> float:
        with Loader(open_catalogue(str(folder)), SIZE, batch=32, micro=32, threads=threads, ahead=8) as loader:
            next(loader)
            began = time.perf_counter()
            for _ in range(EPOCHS * num // 32):
                next(loader)
            return EPOCHS * num // 32 * 32 / (time.perf_counter() - began)

    return run


def peer(folder: Path, num: int, workers: int) -> Callable[[], float]:
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("parquet", data_files=str(folder / "data" / "*.parquet"), split="train").with_format(
        "torch"
    )

    def run() -> float:
        batches = torch.utils.data.DataLoader(rows, batch_size=32, shuffle=True, num_workers=workers, prefetch_factor=4)
        found, seen = iter(batches), 0
        next(found)
        began = time.perf_counter()
        for batch in found:
            seen += len(batch["image"])
        return seen / (time.perf_counter() - began)

    return run


def floor(folder: Path, threads: int) -> Callable[[], float]:
    table = pq.read_table(folder / "data")
    data = [row["bytes"] for row in table.column("image").to_pylist()]

    def decode(part: list[bytes]) -> None:
        buffer = np.empty((SIZE, SIZE, 3), np.uint8)
        for one in part:
            simplejpeg.decode_jpeg(one, "RGB", buffer=buffer)

    def run() -> float:
        workers = [threading.Thread(target=decode, args=(data[k::threads],)) for k in range(threads)]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return len(data) / (time.perf_counter() - began)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=4000, help="pictures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="folder of JPEG photographs to cut the pictures from")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "loader.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_dataset(folder, asked.num, asked.photos)
        size_kb = sum(path.stat().st_size for path in folder.rglob("*.parquet")) / asked.num / 1000
        contestants = {
            "alis": ours(folder, asked.num, asked.threads),
            "datasets": peer(folder, asked.num, asked.threads),
            "floor": floor(folder, asked.threads),
        }
        rounds = [{name: run() for name, run in contestants.items()} for _ in range(asked.rounds)]
    medians = {name: round(statistics.median(one[name] for one in rounds), 1) for name in contestants}
    ratios = {
        f"alis / {name}": round(statistics.median(one["alis"] / one[name] for one in rounds), 2)
        for name in ("datasets", "floor")
    }
    record = {
        "what": f"{SIZE} px JPEG quality 95, {size_kb:.0f} kB each; medians of {asked.rounds} rounds",
        "images_per_s": medians,
        "ratios": ratios,
        "num": asked.num,
        "threads": asked.threads,
        "pictures": "crops of photographs" if asked.photos else "synthetic",
        "machine": machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n")
    for name, value in ratios.items():
        print(f"{name:<18} {value:>7.2f} ×")
    for name, value in medians.items():
        print(f"{name:<18} {value:>7.0f} img/s")


if __name__ == "__main__":
    main()
