"""Stores for tests of the later stages, made by the same code as real ones."""

from __future__ import annotations

import datetime
import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lhq import images
from lhq.engines import Engine, Job, ShardReport
from lhq.errors import ImageError
from lhq.records import ADDED, PHOTO_SCHEMA, VERDICT_SCHEMA, Lane
from lhq.rights.licences import LICENCES, Rights
from lhq.store.atomic_file import write_atomically
from lhq.store.shards import Shards

RIGHTS = {
    "flickr": Rights("by-licence", "by-licence", "by-licence", "Flickr: by each photo's licence"),
    "unsplash": Rights("by-permission", "by-permission", "by-permission", "Unsplash: its terms need a permission"),
    "folder": Rights("user", "user", "user", "the word of the folder's owner"),
}
FETCHED_AT = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)


class Here(Engine):
    """An engine that runs jobs in this process, for tests that aren't about processes."""

    def map(self, job: Job, keys: Sequence[str], lane: Lane) -> Iterator[ShardReport]:
        return map(job, keys)


def scene(seed: int, width: int = 480, height: int = 320, format: str = "JPEG", **options: Any) -> bytes:
    """A painted picture with soft shapes and some grain, so that codecs have work to do."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    pixels = np.clip(pixels + rng.integers(-6, 7, pixels.shape), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


def photo(data: bytes, name: str, source: str = "flickr", licence: str = "cc-by-2.0", **more: Any) -> dict[str, Any]:
    """One row of a photo shard."""
    known = LICENCES.get(licence)
    try:
        header = images.inspect(data)
        facts = (header.format, header.width_px, header.height_px, header.orientation)
    except ImageError:
        facts = ("jpeg", 640, 480, 1)
    row = {
        "id": f"{source}:{name}",
        "source": source,
        "source_id": name,
        "url": f"https://photos.example/{name}.jpg",
        "page_url": f"https://photos.example/{name}",
        "author": f"Author of {name}",
        "author_url": "",
        "licence": licence,
        "licence_version": known.version if known else "",
        "licence_url": known.url if known else "",
        "permission": "",
        "queries": ["mountain lake"],
        "title": f"Photo {name}",
        "description": "",
        "tags": ["lake", "sky"],
        "taken_at": "",
        "fetched_at": FETCHED_AT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "format": facts[0],
        "width_px": facts[1],
        "height_px": facts[2],
        "orientation": facts[3],
        "image": data,
    }
    return {**ADDED, **row, **more}


def add_shard(store: Path, number: int, rows: Iterable[Mapping[str, Any]], *, group_rows: int = 4) -> None:
    Shards(str(store), "photos").write(
        number, pa.Table.from_pylist(list(rows), PHOTO_SCHEMA), row_group_size=group_rows
    )


def judge(store: Path, dropped: Mapping[str, str] | None = None) -> None:
    """Verdicts on every photo of the store: kept, but for `dropped` (id → reason)."""
    dropped = dropped or {}
    photos = Shards(str(store), "photos")
    rows = []
    for number in photos.numbers():
        for id in photos.read(number, ["id"])["id"].to_pylist():
            reason = dropped.get(id, "")
            rows.append(
                {
                    "id": id,
                    "shard": number,
                    "kept": not reason,
                    "reason": reason,
                    "score": 0.0,
                    "detail": "",
                    "failed": [reason] if reason else [],
                }
            )
    table = pa.Table.from_pylist(rows, VERDICT_SCHEMA)
    write_atomically(
        fsspec.filesystem("file"), str(store / "verdicts.parquet"), lambda sink: pq.write_table(table, sink)
    )


def painted_store(store: Path, num_photos: int = 24, *, first: int = 0, shard: int = 0, **more: Any) -> Path:
    """A store of painted photos, all kept."""
    add_shard(store, shard, (photo(scene(n), f"{n:04d}", **more) for n in range(first, first + num_photos)))
    judge(store)
    return store


_KILLED = """
import os, signal, sys
import fsspec
from lhq.store.atomic_file import write_atomically

def half(sink):
    sink.write(b"half a fi")
    sink.flush()
    os.kill(os.getpid(), signal.SIGKILL)

write_atomically(fsspec.filesystem("file"), sys.argv[1], half)
"""


def killed_while_writing(path: Path) -> None:
    """What a process leaves that is killed while it writes this file of a store."""
    before = set(path.parent.glob("*"))
    done = subprocess.run([sys.executable, "-c", _KILLED, str(path)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert set(path.parent.glob("*")) - before


def files(folder: Path) -> dict[str, str]:
    """Relative path → sha256 of every file below `folder`."""
    found = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at) / name
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
