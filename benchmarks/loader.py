"""Pictures a second out of Parquet: `alis.data.Loader` beside `datasets` through a torch DataLoader, and the floor.

    python benchmarks/loader.py --threads 2 --rounds 20 --photos $LHQ_SHARED/photos/landscapes

All three read the same pictures (256 px JPEG, quality 95, written as `lhq export` writes them). The peer is map-style
`datasets` with the `torch` format under a DataLoader with as many worker processes as we have threads, batches collated
as uint8; its clock starts after the first batch, in every fourth round. Ours starts once, as a training does: its first
epoch, when memory is touched for the first time, stands apart; then an epoch of the floor and one of ours take turns
(ours stands still meanwhile, and what it had ready is taken before its clock starts). A round's ratio is that of two
neighbours; figures are medians of the rounds. On a rented machine cores come and go by a third within seconds, so the
ratio of processor times stands beside that of the clock.

The floor is bare libjpeg-turbo on as many threads: the same bytes, already in memory, decoded into one buffer and
dropped. A loader must do more. In processor time, of 100 parts of the floor (290 µs a picture), about: decoding
into a batch that is in no cache yet, from bytes that are in none either, 4; reading row groups from the kernel's
cache into Arrow's memory, 5 (and 10 to 30 where that memory is touched for the first time); header, search for EXIF
turns, place in the order, 2; batches from thread to thread, 3. So 0.88 is about the most while rows are read in
this way.
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
import small
import torch
from PIL import Image

from alis.data import Loader, RankSlice, ReadOptions, open_catalogue
from alis.training.monitor import machine

ROOT = Path(__file__).parents[1]
SIZE = 256
GROUP_ROWS = 500  # 13 MB: the exporter's groups are 32 to 64 MB, of a set that is larger than this one


def make_dataset(folder: Path, num: int, photos: Path | None) -> None:
    """`num` pictures in four shards, laid out as `lhq export` does; crops of photographs where a folder is given."""
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
        pq.write_table(
            table,
            folder / "data" / f"train-{shard:05d}-of-00004.parquet",
            row_group_size=GROUP_ROWS,
            compression={"image.bytes": "none", "image.path": "zstd"},
            use_dictionary=["image.path"],
            write_statistics=False,
            use_content_defined_chunking=True,
        )


AHEAD = 4  # batches that the loader has ready; the default


def epoch_of(loader: Loader, num: int) -> tuple[float, float]:
    """Pictures a second over one epoch, none of them decoded before the clock starts; and processor µs a picture."""
    for _ in range(AHEAD + 2):
        next(loader)
    began, used = time.perf_counter(), time.process_time()
    for _ in range(num // 32):
        next(loader)
    seen = num // 32 * 32
    return seen / (time.perf_counter() - began), (time.process_time() - used) / seen * 1e6


def peer(folder: Path, workers: int) -> Callable[[], float]:
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


def floor(folder: Path, threads: int) -> Callable[[], tuple[float, float]]:
    table = pq.read_table(folder / "data")
    data = [row["bytes"] for row in table.column("image").to_pylist()]

    def decode(part: list[bytes]) -> None:
        buffer = np.empty((SIZE, SIZE, 3), np.uint8)
        for one in part:
            simplejpeg.decode_jpeg(one, "RGB", buffer=buffer)

    def run() -> tuple[float, float]:
        workers = [threading.Thread(target=decode, args=(data[k::threads],)) for k in range(threads)]
        began, used = time.perf_counter(), time.process_time()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return len(data) / (time.perf_counter() - began), (time.process_time() - used) / len(data) * 1e6

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=4000, help="pictures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--photos", type=Path, help="folder of JPEG photographs to cut the pictures from")
    parser.add_argument("--folder", type=Path, help="where the set is made, or lies already; else a temporary one")
    parser.add_argument("--out", type=Path, help="by default benchmarks/results/loader.json")
    asked = small.parse(parser, num=400, rounds=2)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = asked.folder or Path(name)
        if not (folder / "data").exists():
            make_dataset(folder, asked.num, asked.photos)
        size_kb = sum(path.stat().st_size for path in folder.rglob("*.parquet")) / asked.num / 1000
        bare, theirs = floor(folder, asked.threads), peer(folder, asked.threads)
        rounds: list[dict[str, float]] = []
        with Loader(
            open_catalogue(str(folder)), SIZE, RankSlice(32, 32), ReadOptions(threads=asked.threads, ahead=AHEAD)
        ) as loader:
            first, _ = epoch_of(loader, asked.num)
            for number in range(asked.rounds):
                (least, least_us), (rate, used_us) = bare(), epoch_of(loader, asked.num)
                one = {"floor": least, "alis": rate, "processor time": least_us / used_us}
                rounds.append(one if number % 4 else one | {"datasets": theirs()})
    of_rounds = {
        f"alis / {name}": sorted(round(one["alis"] / one[name], 2) for one in rounds if name in one)
        for name in ("datasets", "floor")
    }
    of_rounds["alis / floor, processor time"] = sorted(round(one["processor time"], 2) for one in rounds)
    ratios = {name: round(statistics.median(values), 2) for name, values in of_rounds.items()}
    medians = {
        name: round(statistics.median(one[name] for one in rounds if name in one), 1)
        for name in ("alis", "datasets", "floor")
    }
    medians["alis, first epoch"] = round(first, 1)
    record = {
        "what": f"{SIZE} px JPEG quality 95, {size_kb:.0f} kB each; medians of {asked.rounds} rounds",
        "images_per_s": medians,
        "ratios": ratios,
        "ratios_of_rounds": of_rounds,
        "num": asked.num,
        "threads": asked.threads,
        "pictures": "crops of photographs" if asked.photos else "synthetic",
        "machine": machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (asked.out or asked.results / "loader.json").write_text(json.dumps(record, indent=1) + "\n")
    for name, value in ratios.items():
        print(f"{name:<28} {value:>7.2f} ×   {of_rounds[name][0]} to {of_rounds[name][-1]}")
    for name, value in medians.items():
        print(f"{name:<28} {value:>7.0f} img/s")


if __name__ == "__main__":
    main()
