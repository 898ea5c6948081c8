"""Growth: seconds and memory of every stage that holds a row a photo, from 10⁴ photos up, and whether it is straight.

    python benchmarks/scale.py                     10⁴, 10⁵, 10⁶: ten minutes
    python benchmarks/scale.py --up-to 7           also 10⁷: an hour, 15 GB of disk
    python benchmarks/scale.py --stages frontier   one stage alone

Photos are rows without bytes, of the real shape otherwise: so what grows is what a stage keeps of each photo, not its
pixels, which are measured and rendered shard by shard. Every stage and size is a process of its own, with everything
imported before its clock starts; memory is that process's peak less what it held then. Growth is told by processor
seconds, which other work on the machine moves least.

- frontier: pages of 30 candidates come in, photos are kept and fail in batches as a crawl does
- resume: what a crawl asks of the frontier when it starts, and what `lhq status` asks
- judge: size, text and objects over all facts, verdicts written
- rows: verdicts × papers × facts → the rows of an export, in their order
- manifest: those rows, checked for rights, as `manifest.parquet`
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import small

RESULT = Path(__file__).parent / "results" / "scale.json"
STAGES = ("frontier", "resume", "judge", "rows", "manifest")
SHARD_ROWS, PAGE_ROWS, QUERIES = 1000, 30, 400


def frontier(folder: Path, num: int) -> None:
    from lhq.crawl.frontier import Frontier, Kept
    from lhq.records import Candidate, Query
    from lhq.sources import Page

    front = Frontier(str(folder / "frontier.sqlite"))
    front.add_queries("flickr", [Query(f"query {number}", "water") for number in range(QUERIES)], num)
    texts = frozenset(f"query {number}" for number in range(QUERIES))
    made = 0
    while made < num:
        asked = front.next_query("flickr", texts)
        assert asked is not None
        page = [
            (
                Candidate(
                    source="flickr",
                    source_id=str(row),
                    url=f"https://live.example/{row}_b.jpg",
                    page_url=f"https://photos.example/somebody/{row}/",
                    author=f"author {row % 9973}",
                    author_url="",
                    query=asked.query.text,
                    licence="cc-by-2.0",
                    width_px=2048,
                    height_px=1365,
                    title="A lake at dawn",
                ),
                "live.example",
            )
            for row in range(made, min(made + PAGE_ROWS, num))
        ]
        front.add_page(asked, Page((), f"page {made}", num), page)
        made += len(page)
    done = 0
    while done < num * 9 // 10:  # nine of ten are kept, as a crawl near its end
        batch = front.waiting("live.example", time.time(), 200, ["flickr"])
        front.keep([Kept(each.number, done // SHARD_ROWS, 2_000_000) for each in batch])
        done += len(batch)
    front.close()


def resume(folder: Path, num: int) -> None:
    from lhq.crawl.frontier import Frontier

    front = Frontier(str(folder / "frontier.sqlite"))
    front.hosts()
    front.waiting("live.example", time.time(), 200, ["flickr"])
    front.shards()
    front.next_query("flickr", frozenset(f"query {number}" for number in range(QUERIES)))
    front.tallies()
    front.close()


def store(folder: Path, num: int) -> None:
    """Photos without bytes, with facts of three measures: what judge, rows and manifest work on."""
    import numpy as np
    import pyarrow as pa
    from judge import CLASSES, TITLES, _blank, _lists

    from lhq.measures.text import fold
    from lhq.records import PHOTO_SCHEMA
    from lhq.store.shards import Shards

    rng = np.random.default_rng(0)
    rules = _rules(folder)
    for number in range(0, num, SHARD_ROWS):
        rows = min(SHARD_ROWS, num - number)
        ids = [f"flickr:{number + row}" for row in range(rows)]
        photos = {name: _blank(PHOTO_SCHEMA.field(name).type, rows) for name in PHOTO_SCHEMA.names}
        photos |= {
            "id": ids,
            "source": ["flickr"] * rows,
            "source_id": [id.partition(":")[2] for id in ids],
            "url": [f"https://live.example/{id}.jpg" for id in ids],
            "page_url": [f"https://photos.example/{id}" for id in ids],
            "author": [f"author {row % 97}" for row in range(rows)],
            "licence": ["cc-by-2.0"] * rows,
            "sha256": [f"{number + row:064x}" for row in range(rows)],
            "format": ["jpeg"] * rows,
            "width_px": [2048] * rows,
            "height_px": [1365] * rows,
            "size_bytes": [2_000_000] * rows,
        }
        Shards(str(folder), "photos").write(number // SHARD_ROWS, pa.table(photos, PHOTO_SCHEMA))
        many = rng.poisson(3, rows)
        given: dict[str, dict[str, object]] = {
            "size": {"width_px": [2048] * rows, "height_px": rng.integers(900, 2000, rows).astype(np.int32)}
            | {name: rng.random(rows, np.float32) ** 8 for name in ("border", "noise")}
            | {name: rng.random(rows, np.float32) for name in ("colour", "sharpness")},
            "objects": {
                "classes": _lists(
                    np.array(CLASSES, object)[rng.integers(0, len(CLASSES), many.sum())], many, pa.string()
                ),
                "scores": _lists(rng.random(many.sum(), np.float32), many, pa.float32()),
                "areas": _lists(rng.random(many.sum(), np.float32) ** 6, many, pa.float32()),
            },
            "text": {"title": [fold(TITLES[n]) for n in rng.integers(0, len(TITLES), rows)], "tags": [""] * rows},
        }
        for rule in rules:
            name, schema = rule.measure.name, rule.measure.schema
            columns = {"id": ids} | given[name]
            table = pa.table({f.name: columns.get(f.name, pa.nulls(rows, f.type)) for f in schema}, schema)
            Shards(str(folder), f"facts/{name}").write(
                number // SHARD_ROWS, table.replace_schema_metadata({"lhq.made": rule.fingerprint})
            )


_FILE = """
store = "{store}"
want = 1
queries = ["lake"]
[source.flickr]
[filter.size]
min_side_px = 1024
[filter.objects]
backend = "torchvision"
[filter.text]
"""


def _rules(folder: Path) -> list:
    from lhq import pipeline

    path = folder / "pipeline.toml"
    if not path.exists():
        path.write_text(_FILE.format(store=folder))
    return pipeline.load(path).rules()


def judge(folder: Path, num: int) -> None:
    from lhq import filter
    from lhq.engines.local import Local

    filter.run(str(folder), _rules(folder), Local(), judge_only=True)


def rows(folder: Path, num: int) -> None:
    from lhq.export.rows import kept_rows

    kept_rows(str(folder), seed=0, validation=0.01)


def manifest(folder: Path, num: int) -> None:
    from lhq.engines.local import Local
    from lhq.export import ExportSettings, export
    from lhq.rights.licences import Rights

    settings = ExportSettings(to=str(folder / "export"), publish="manifest")
    rights = {"flickr": Rights("by-licence", "by-licence", "by-licence", "")}
    export(str(folder), settings, rights_of=rights, engine=Local())


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(stage: str, folder: Path, num: int) -> None:
    """In a process of its own: run a stage and print what it took."""
    sys.path.insert(0, str(Path(__file__).parent))
    for module in ("lhq.crawl", "lhq.engines.local", "lhq.export", "lhq.filter"):
        importlib.import_module(module)
    if stage in {"judge", "rows", "manifest"}:
        _rules(folder)  # its measures are imported by name
    before, start, used = _peak_mb(), time.perf_counter(), time.process_time()
    globals()[stage](folder, num)
    took = {"seconds": time.perf_counter() - start, "processor_s": time.process_time() - used}
    print(json.dumps({name: round(value, 2) for name, value in took.items()} | {"peak_mb": _peak_mb() - before}))


def slope(sizes: list[int], values: list[float]) -> float:
    """Exponent of growth between the two largest sizes: 1 is a straight line, 0 is flat."""
    a, b = max(values[-2], 1e-3), max(values[-1], 1e-3)
    return round(math.log(b / a) / math.log(sizes[-1] / sizes[-2]), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--up-to", type=int, default=6, help="largest power of ten")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--folder", type=Path, help="where the stores are made; by default a temporary one")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = small.parse(parser, up_to=4)
    if asked.one:
        one(asked.one[0], Path(asked.one[1]), int(asked.one[2]))
        return
    sizes = [10**power for power in range(4, asked.up_to + 1)]
    found: dict[str, list[dict[str, float]]] = {stage: [] for stage in asked.stages}
    root = asked.folder or Path(tempfile.mkdtemp(prefix="lhq-scale-"))
    for num in sizes:
        folder = root / str(num)
        folder.mkdir(parents=True, exist_ok=True)
        needs_store = bool({"judge", "rows", "manifest"} & set(asked.stages))
        stages = (["store"] if needs_store and not (folder / "photos").exists() else []) + asked.stages
        for stage in stages:
            words = [sys.executable, __file__, "--one", stage, str(folder), str(num)]
            took = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            if stage in found:
                found[stage].append({"photos": num} | took)
                said = f"{took['seconds']:>9.2f} s  {took['processor_s']:>9.2f} of a core  {took['peak_mb']:>9.1f} MB"
                print(f"{stage:9} {num:>12,} photos  {said}", flush=True)
        if not asked.folder:
            shutil.rmtree(folder)
    growth = {
        stage: {key: slope(sizes, [row[key] for row in taken]) for key in ("processor_s", "peak_mb")}
        for stage, taken in found.items()
        if len(taken) > 1
    }
    for stage, exponents in growth.items():
        print(f"{stage:9} time grows as n^{exponents['processor_s']}, memory as n^{exponents['peak_mb']}")
    path = asked.results / RESULT.name
    old = json.loads(path.read_text()) if path.exists() else {}
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "stages": old.get("stages", {}) | found,
        "growth": old.get("growth", {}) | growth,
    }
    (asked.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
