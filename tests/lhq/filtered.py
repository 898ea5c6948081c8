"""A small store that went through the real filter, for tests of what is made of its facts and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lhq import filter as filter_room
from lhq import pipeline
from lhq.measures.objects import Objects
from lhq.rights.reservations import Evidence, Statement
from lhq.store import rechecked, verdicts
from lhq.store.shards import Shards

from . import making

EVIL = "<script>alert(1)</script>\"'&"


def disc(radius: float) -> bytes:
    """A packed 28 x 28 mask of a disc."""
    yy, xx = np.mgrid[0:28, 0:28] - 13.5
    return np.packbits(np.hypot(xx, yy) <= radius * 14).tobytes()


def objects_facts(ids: list[str]) -> list[dict[str, Any]]:
    """Facts as the detector would leave them: every third photo has a person, ever larger."""
    rows = []
    for number, id in enumerate(ids):
        size = 0.08 + 0.8 * number / len(ids)
        found = [("person", 0.97, 0.78 * size * size, [0.1, 0.1, 0.1 + size, 0.1 + size], disc(1.0))]
        found.append(("bird", 0.8, 0.001, [0.7, 0.1, 0.8, 0.15], disc(0.8)))
        found = found if number % 3 == 0 else found[1:]
        rows.append(
            {
                "id": id,
                "detector": "made for a test",
                "classes": [f[0] for f in found],
                "scores": [f[1] for f in found],
                "areas": [f[2] for f in found],
                "boxes": [x for f in found for x in f[3]],
                "masks": [f[4] for f in found],
            }
        )
    return rows


def build(root: Path) -> Path:
    """A pipeline file whose store was filtered: 44 photos, two of them versions of one, one broken."""
    rows = []
    for seed in range(40):
        source, licence = ("flickr", "cc-by-2.0") if seed % 4 else ("unsplash", "unsplash")
        width = 360 + 6 * seed
        rows.append(
            making.photo(
                making.scene(seed, width, width * 2 // 3),
                f"p{seed}",
                source,
                licence,
                title=f"Scene {seed}",
                queries=["mountain lake" if seed % 2 else "misty forest"],
            )
        )
    rows.append(making.photo(making.scene(5, 390, 260, quality=60), "again", title="Scene 5 once more"))
    rows.append(making.photo(making.scene(5, 390, 260, quality=40), "more", title="Scene 5 again"))
    rows.append(making.photo(making.scene(50)[:3000], "cut", title="Cut short", description=EVIL))
    rows.append(making.photo(making.scene(51), "evil", title=EVIL, author=EVIL, page_url="javascript:alert(2)"))
    making.add_shard(root / "store", 0, rows[:25])
    making.add_shard(root / "store", 2, rows[25:])
    file = root / "my-photos.toml"
    file.write_text(
        f"""
store = "{root / "store"}"
queries = ["mountain lake"]
want = 10
[filter.size]
min_side_px = 260
[filter.duplicates]
[filter.objects]
allow = ["bird"]
[filter.outliers]
features = "thumbnail"
drop_share = 0.1
"""
    )
    loaded = pipeline.load(file)
    found = loaded.rules()
    made = next(rule.fingerprint for rule in found if rule.measure.name == "objects")
    for number in (0, 2):
        ids = Shards(loaded.file.store, "photos").read(number, ["id"])["id"].to_pylist()
        table = pa.Table.from_pylist(objects_facts(ids), Objects.schema).replace_schema_metadata({b"lhq.made": made})
        Shards(loaded.file.store, "facts/objects").write(number, table)
    filter_room.run(loaded.file.store, found, making.Here())
    # Hosts of three kept photos were asked again since; one of them reserves it.
    fates = verdicts.read(loaded.file.store)
    assert fates is not None
    kept = fates.filter(fates["kept"])["id"].to_pylist()[:3]
    said = [Statement("/ 1", reserves=True), Statement(None), Statement(None)]
    answers = {
        id: Evidence({"tdmrep": one}, host_asked_at="2026-06-01T00:00:00Z") for id, one in zip(kept, said, strict=True)
    }
    rechecked.add(loaded.file.store, {id: evidence.papers() for id, evidence in answers.items()})
    return file
