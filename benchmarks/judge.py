"""How long does `lhq filter --judge-only` take over 450,000 photos, by all six measures of the paper's recipe?

The facts are made up but of the real shape: hashes crowd around common compositions as those of landscapes do,
one photo in twenty is a version of another, words and detections occur as often as on Flickr. The floor is
reading the same columns from disk and joining nothing.

    python benchmarks/judge.py [--photos 450000] [--store FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import small

from lhq import filter, pipeline
from lhq.engines.local import Local
from lhq.filter import Rule
from lhq.measures.near_duplicates import THUMB
from lhq.measures.text import fold
from lhq.records import PHOTO_SCHEMA
from lhq.store.shards import Shards

PAPER = Path(__file__).parents[1] / "lhq/pipelines/lhq-90k.toml"
RESULT = Path(__file__).parent / "results/judge.json"
SHARD = 1000
TITLES = ["Mountain lake at dawn", "IMG_0232", "A walk with my dog", "Fjord", "Our wedding in Tuscany", "Dunes II", ""]
CLASSES = ["person", "bird", "boat", "car", "dog", "bench", "kite"]


def make(store: Path, rules: list[Rule], num: int) -> None:
    """Photos without bytes, and facts of every measure."""
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 2**64, num // 40, dtype=np.uint64)
    keys = rng.integers(0, 2**42, 4 * num // 40, dtype=np.uint64)
    thumbs = rng.normal(128, 40, (num // 40, THUMB * THUMB))
    last: dict[str, object] = {}
    for number in range(0, num, SHARD):
        rows = min(SHARD, num - number)
        ids = [f"flickr:{number + row}" for row in range(rows)]
        photos = {name: _blank(PHOTO_SCHEMA.field(name).type, rows) for name in PHOTO_SCHEMA.names} | {"id": ids}
        Shards(str(store), "photos").write(number // SHARD, pa.table(photos, PHOTO_SCHEMA))
        columns: dict[str, dict[str, object]] = {rule.measure.name: {"id": ids} for rule in rules}
        side = rng.integers(900, 5000, (2, rows)).astype(np.int32)
        columns["size"] |= {"width_px": side[0], "height_px": side[1]}
        columns["size"] |= {name: rng.random(rows, np.float32) ** 8 for name in ("border", "noise")}
        columns["size"] |= {name: rng.random(rows, np.float32) for name in ("colour", "sharpness")}
        many = rng.poisson(3, rows)
        columns["objects"] |= {
            "classes": _lists(np.array(CLASSES, object)[rng.integers(0, len(CLASSES), many.sum())], many, pa.string()),
            "scores": _lists(rng.random(many.sum(), np.float32), many, pa.float32()),
            "areas": _lists(rng.random(many.sum(), np.float32) ** 6, many, pa.float32()),
        }
        columns["outliers"] |= {"log_likelihood": rng.normal(-3000, 200, rows), "fit": ["one"] * rows}
        columns["connectability"] |= {"p_left": rng.random(rows), "p_right": rng.random(rows)}
        columns["text"] |= {
            "title": [fold(TITLES[n]) for n in rng.integers(0, len(TITLES), rows)],
            "tags": ["|".join([fold("lake"), fold("sky"), fold("landscape photography")])] * rows,
            "description": [fold("Taken on the second day of our tour, around six in the morning. " * 3)] * rows,
        }
        columns["duplicates"] |= _hashes(rng, rows, scenes, keys, thumbs, last)
        for rule in rules:
            name, schema = rule.measure.name, rule.measure.schema
            given = {f.name: columns[name].get(f.name, pa.nulls(rows, f.type)) for f in schema}
            table = pa.table(given, schema).replace_schema_metadata({"lhq.made": rule.fingerprint})
            Shards(str(store), f"facts/{name}").write(number // SHARD, table)


def _hashes(
    rng: np.random.Generator,
    rows: int,
    scenes: np.ndarray,
    keys: np.ndarray,
    thumbs: np.ndarray,
    last: dict[str, object],
) -> dict[str, object]:
    """One in twenty is a version of a photo of the shard before; the others crowd around common scenes."""
    scene = rng.integers(0, len(scenes), rows)
    many = rng.integers(2, 17, rows)
    given = {
        "sha256": [f"{n:064x}" for n in rng.integers(0, 2**62, rows)],
        "licence": ["cc-by-2.0"] * rows,
        "width_px": rng.integers(900, 5000, rows).astype(np.int32),
        "height_px": rng.integers(900, 5000, rows).astype(np.int32),
        "phash": scenes[scene] ^ _flips(rng, rows, 64, 14),
        "thumb": (thumbs[scene] + rng.normal(0, 40, (rows, THUMB * THUMB))).clip(0, 255).astype(np.uint8),
        "key_hash": [keys[rng.integers(0, len(keys), n)] ^ _flips(rng, n, 42, 9) for n in many],
        "key_place": [rng.random(3 * n, np.float32) for n in many],
    }
    for row in range(0, rows if last else 0, 20):
        other = int(rng.integers(0, len(last["phash"])))
        for name in ("width_px", "height_px", "thumb", "key_hash", "key_place"):
            given[name][row] = last[name][other]
        given["phash"][row] = last["phash"][other] ^ _flips(rng, 1, 64, 3)[0]
    last |= given
    return given | {"thumb": [thumb.tobytes() for thumb in given["thumb"]]}


def _flips(rng: np.random.Generator, num: int, bits: int, most: int) -> np.ndarray:
    out = np.zeros(num, np.uint64)
    for _ in range(most):
        out ^= np.uint64(1) << rng.integers(0, bits, num, dtype=np.uint64)
    return out


def _lists(values: np.ndarray, many: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], many.cumsum()]), pa.int32()), pa.array(values, kind))


def _blank(kind: pa.DataType, rows: int) -> pa.Array:
    value = "" if pa.types.is_string(kind) else b"" if pa.types.is_binary(kind) else [] if pa.types.is_list(kind) else 0
    return pa.array([value] * rows, kind)


def timed(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=450_000)
    parser.add_argument("--store", type=Path, help="keep the made store here, or take it from here")
    asked = small.parse(parser, photos=20_000)
    num = asked.photos
    rules = pipeline.load(PAPER).rules()
    store = asked.store or Path(tempfile.mkdtemp(prefix="lhq-judge-"))
    try:
        if not (store / "photos").exists():
            make(store, rules, num)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        read = timed(
            lambda: [
                Shards(str(store), f"facts/{rule.measure.name}").read(n, rule.measure.judged)
                for rule in rules
                for n in Shards(str(store), "photos").numbers()
            ]
        )
        start = time.perf_counter()
        done = filter.run(str(store), rules, Local(), judge_only=True)
        whole = time.perf_counter() - start
        mine = pipeline.Pipeline(replace(pipeline.load(PAPER).file, store=str(store)))
        shows = [timed(lambda row=row: mine.show(f"flickr:{row}")) for row in (0, num // 2, num - 1)]
    finally:
        if not asked.store:
            shutil.rmtree(store)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "photos": num,
        "seconds": round(whole, 1),
        "bar_s": 10,
        "floor_read_s": round(read, 1),
        "show_one_s": [round(seconds, 1) for seconds in shows],
        "funnel": done.funnel,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "peak_before_mb": round(before),
    }
    print(f"judge-only over {num:,} photos: {whole:.1f} s, {whole / read:.1f} x reading alone ({read:.1f} s), bar 10 s")
    print(f"lhq show of the first, a middle and the last photo: {', '.join(f'{seconds:.1f} s' for seconds in shows)}")
    print(done.funnel)
    (asked.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
