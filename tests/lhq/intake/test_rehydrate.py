"""A set rebuilt from its manifest alone; what has disappeared from the web is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhq.errors import InputError
from lhq.export import ExportSettings, export
from lhq.http import Client
from lhq.images import MAX_PIXELS
from lhq.intake import Destination
from lhq.intake.rehydrate import RehydrateReport, rehydrate
from lhq.store.shards import Shards
from tests.lhq.making import RIGHTS, Here, add_shard, files, judge, painted_store, photo, scene
from tests.lhq.serving import Pictures, serving

NUM = 8


def published(at: Path, pictures: Pictures) -> Path:
    """A dataset whose photos `pictures` serves."""
    store = at / "store"
    scenes = {f"/{n}.jpg": scene(n) for n in range(NUM)}
    pictures.answers.update(scenes)
    rows = [photo(data, path[1:-4], url=pictures.url + path) for path, data in scenes.items()]
    add_shard(store, 0, rows)
    judge(store)
    ids = pa.array([row["id"] for row in rows])
    scores = pa.array([float(n) for n in range(NUM)], pa.float32())
    Shards(str(store), "facts/outliers").write(0, pa.table({"id": ids, "log_likelihood": scores}))
    publish(store, at / "out")
    return at / "out"


def publish(store: Path, to: Path) -> None:
    settings = ExportSettings(to=str(to), variants=("64",), validation=0.2)
    export(str(store), settings, rights_of=RIGHTS, engine=Here())


def rebuild(
    manifest: Path, store: Path, pictures: Pictures, *, max_pixels: int = MAX_PIXELS, **more: bool
) -> RehydrateReport:
    client = Client(pictures.settings().model_copy(update={"max_pixels": max_pixels}))
    try:
        return rehydrate(str(manifest), Destination(str(store), str(store)), client, measures=("outliers",), **more)
    finally:
        client.close()


def test_rebuilt_byte_for_byte_from_the_manifest_alone(tmp_path: Path) -> None:
    with serving() as pictures:
        out = published(tmp_path, pictures)
        alone = shutil.copy(out / "manifest.parquet", tmp_path / "alone.parquet")
        report = rebuild(Path(alone), tmp_path / "rebuilt", pictures)
    assert (report.new, report.lost, report.by_source) == (NUM, {}, {"flickr": {"here": NUM}})
    publish(tmp_path / "rebuilt", tmp_path / "again")
    assert files(tmp_path / "again") == files(out)
    assert "outliers_log_likelihood" in pq.read_schema(tmp_path / "again" / "manifest.parquet").names


def test_the_clients_limit_on_pixels_is_the_one(tmp_path: Path) -> None:
    with serving() as pictures:
        out = published(tmp_path, pictures)
        pictures.answers["/1.jpg"] = scene(1, 1000, 301)
        report = rebuild(out, tmp_path / "rebuilt", pictures, max_pixels=300_000, takes_changed=True)
    said = "jpeg of 1000 x 301 pixels, more than the cap of 300,000"
    assert report.lost == {"flickr:1": f"too-many-pixels: {said}"}


def test_link_rot_is_reported_and_other_photos_are_fetched(tmp_path: Path) -> None:
    with serving() as pictures:
        out = published(tmp_path, pictures)
        pictures.answers["/1.jpg"] = 404
        pictures.answers["/2.jpg"] = scene(99)
        pictures.answers["/3.jpg"] = b"<html>sorry</html>"
        pictures.answers["/4.jpg"] = (200, {"X-Robots-Tag": "noai"})
        pictures.answers["/5.jpg"] = 500
        report = rebuild(out, tmp_path / "rebuilt", pictures)
        assert {id: reason.split(":")[0] for id, reason in report.lost.items()} == {
            "flickr:1": "http-404",
            "flickr:2": "changed",
            "flickr:3": "not-an-image",
            "flickr:4": "opt-out",
            "flickr:5": "http-500",
        }
        assert (report.new, pictures.asked["/1.jpg"], pictures.asked["/5.jpg"]) == (3, 1, 2)
        pictures.answers["/5.jpg"] = scene(5)
        again = rebuild(out, tmp_path / "rebuilt", pictures, takes_changed=True)
        assert (again.held, again.new, set(again.lost)) == (3, 2, {"flickr:1", "flickr:3", "flickr:4"})
        assert pictures.asked["/0.jpg"] == 1
    publish(tmp_path / "rebuilt", tmp_path / "again")
    rows = pq.read_table(tmp_path / "again" / "manifest.parquet").to_pylist()
    assert {row["source_id"]: row["outliers_log_likelihood"] for row in rows} == {
        "0": 0,
        "2": 2,
        "5": 5,
        "6": 6,
        "7": 7,
    }


def test_rehydrating_needs_a_manifest_and_an_unfiltered_store(tmp_path: Path) -> None:
    with serving() as pictures:
        (tmp_path / "manifest.parquet").write_bytes(b"no parquet")
        with pytest.raises(InputError, match="not readable"):
            rebuild(tmp_path / "manifest.parquet", tmp_path / "rebuilt", pictures)
        pq.write_table(pa.table({"id": ["a"]}), tmp_path / "manifest.parquet")
        with pytest.raises(InputError, match="is not a manifest: it lacks source"):
            rebuild(tmp_path / "manifest.parquet", tmp_path / "rebuilt", pictures)
        out = published(tmp_path / "it", pictures)
        with pytest.raises(InputError, match="this store was filtered"):
            rebuild(out, painted_store(tmp_path / "mine", 2), pictures)


def test_photos_without_a_url_are_named(tmp_path: Path) -> None:
    add_shard(tmp_path / "store", 0, [photo(scene(1), "a/b.jpg", "folder", "own", url="folder:a/b.jpg")])
    judge(tmp_path / "store")
    publish(tmp_path / "store", tmp_path / "out")
    with serving() as pictures:
        report = rebuild(tmp_path / "out", tmp_path / "rebuilt", pictures)
    assert report.lost == {"folder:a/b.jpg": "no-address: folder:a/b.jpg"}
