"""Export from the outside: a folder that loads, stays stable, survives kills, and refuses what it must."""

from __future__ import annotations

import hashlib
import io
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lhq.engines import Engine
from lhq.engines.local import Local
from lhq.errors import ConfigError, InputError, RightsRefused, RunError
from lhq.export import ExportReport, ExportSettings, export, layout
from lhq.records import PHOTO_SCHEMA
from lhq.store.shards import Shards
from tests.lhq.making import (
    RIGHTS,
    Here,
    add_shard,
    files,
    judge,
    killed_while_writing,
    painted_store,
    photo,
    scene,
)

ROOT = Path(__file__).parents[3]


def run(store: Path, to: Path, engine: Engine | None = None, **settings: Any) -> ExportReport:
    chosen = ExportSettings(**{"to": str(to), "variants": ("64",), "validation": 0.25, **settings})
    return export(str(store), chosen, rights_of=RIGHTS, engine=engine or Here())


def rows(folder: Path, name: str = "data") -> list[dict[str, Any]]:
    return [row for path in sorted((folder / name).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_it_loads_with_pictures(tmp_path: Path) -> None:
    report = run(painted_store(tmp_path / "store"), tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert report.num_rows == 24
    assert {name: split.num_rows for name, split in loaded.items()} == report.written[0].rows
    first = loaded["train"][0]
    assert isinstance(first["image"], Image.Image)
    assert first["image"].size == (64, 64)
    assert first["licence"] == "cc-by-2.0"
    assert loaded["train"].features["image"] == datasets.Image()


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store")
    run(store, tmp_path / "one")
    run(shutil.copytree(store, tmp_path / "moved"), tmp_path / "two", Local(2))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_no_verdicts_is_said(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store")
    (store / "verdicts.parquet").unlink()
    with pytest.raises(InputError, match="run lhq filter first"):
        run(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_kept_photos_are_rows_and_the_card_counts_the_others(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 6)
    judge(store, {"flickr:0001": "objects", "flickr:0004": "size"})
    report = run(store, tmp_path / "out", validation=0)
    assert sorted(row["source_id"] for row in rows(tmp_path / "out")) == ["0000", "0002", "0003", "0005"]
    assert report.funnel == {"objects": 1, "size": 1}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| dropped: objects | 1 |" in card
    assert "| gathered | 6 |" in card


def test_rows_are_shuffled_by_seed_and_splits_are_not(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 40)
    run(store, tmp_path / "a", variants=("16",))
    run(store, tmp_path / "b", variants=("16",), seed=1)
    a, b = rows(tmp_path / "a"), rows(tmp_path / "b")
    ids = [row["id"] for row in a]
    assert ids != sorted(ids)
    assert ids != [row["id"] for row in b]
    for split in layout.SPLITS:
        in_a, in_b = (
            {
                row["id"]
                for path in (tmp_path / at / "data").glob(f"{split}-*")
                for row in pq.read_table(path).to_pylist()
            }
            for at in "ab"
        )
        assert in_a == in_b
        assert in_a


def test_a_later_export_changes_little_and_moves_nothing(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 60)
    cut = {"variants": ("full",), "shard_mb": 0.5, "row_group_mb": 0.1}
    run(store, tmp_path / "out", **cut)
    before, splits = {row["id"]: row for row in rows(tmp_path / "out")}, split_of(tmp_path / "out")
    old = b"".join(path.read_bytes() for path in sorted((tmp_path / "out" / "data").iterdir()))

    painted_store(store, 2, first=60, shard=1)
    report = run(store, tmp_path / "out", **cut)
    after, new_splits = {row["id"]: row for row in rows(tmp_path / "out")}, split_of(tmp_path / "out")
    assert report.written[0].pictures_rendered == 2
    assert {id: after[id] for id in before} == before
    assert {id: new_splits[id] for id in splits} == splits
    assert len(after) == len(new_splits) == 62
    new = b"".join(path.read_bytes() for path in sorted((tmp_path / "out" / "data").iterdir()))
    blocks = [old[at : at + 1024] for at in range(0, len(old) - 1024, 1024)]
    found = sum(block in new for block in blocks) / len(blocks)
    assert found > 0.9, f"only {found:.0%} of the old bytes are in the new files"


def split_of(out: Path) -> dict[str, str]:
    table = pq.read_table(out / "manifest.parquet", columns=["id", "split"])
    return dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))


def test_nothing_new_costs_nothing(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store")
    run(store, tmp_path / "out")
    before = files(tmp_path / "out")
    report = run(store, tmp_path / "out")
    assert (report.written[0].shards_written, report.written[0].pictures_rendered) == (0, 0)
    assert files(tmp_path / "out") == before
    assert not list(tmp_path.glob("out.*"))


def test_variants_stand_side_by_side(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 8)
    run(store, tmp_path / "out", variants=("64", "32-png", "16-webp", "full"), validation=0)
    for config, side, format in (("64", 64, "JPEG"), ("32-png", 32, "PNG"), ("16-webp", 16, "WEBP")):
        loaded = datasets.load_dataset(str(tmp_path / "out"), config, split="train", cache_dir=str(tmp_path / "cache"))
        picture = loaded[0]["image"]
        assert (picture.size, picture.format) == ((side, side), format)
    for row in rows(tmp_path / "out", "data-full"):
        assert hashlib.sha256(row["image"]["bytes"]).hexdigest() == row["sha256"] == row["image_sha256"]


def test_scores_are_columns(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 4)
    ids = Shards(str(store), "photos").read(0, ["id"])["id"]
    facts = {
        "outliers": {"log_likelihood": pa.array([-1.0, -2.0, None, -4.0], pa.float32()), "embedding": [[1.0]] * 4},
        "objects": {"scores": [[0.5, 0.9], [], [0.1], None], "phash": pa.array([1, 2, 3, 4], pa.uint64())},
    }
    for measure, columns in facts.items():
        Shards(str(store), f"facts/{measure}").write(0, pa.table({"id": ids, **columns}))
    run(store, tmp_path / "out", validation=0)
    found = {row["source_id"]: row for row in rows(tmp_path / "out")}
    assert [found[f"000{n}"]["outliers_log_likelihood"] for n in range(4)] == [-1.0, -2.0, None, -4.0]
    assert [found[f"000{n}"]["objects_max_score"] for n in range(4)] == [0.9, 0.0, 0.1, None]
    assert not {"outliers_embedding", "objects_phash", "objects_scores"} & found["0000"].keys()
    assert "outliers_log_likelihood" in pq.read_schema(tmp_path / "out" / "manifest.parquet").names


_KILLED = """
import os, signal, sys
from lhq.export import ExportSettings, export
from tests.lhq.making import RIGHTS

from lhq.engines import Engine

class Dies(Engine):
    def map(self, job, keys, lane):
        for number, key in enumerate(keys):
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield job(key)

class Here(Engine):
    def map(self, job, keys, lane):
        return map(job, keys)

def die(*at): os.kill(os.getpid(), signal.SIGKILL)

where, store, to = sys.argv[1:]
rename = os.rename
if where == "between renames":
    os.rename = lambda a, b: die() if b == to else rename(a, b)
if where == "before renames":
    os.rename = die
engine = Dies() if where == "rendering" else Here()
export(store, ExportSettings(to=to, variants=("64", "32")), rights_of=RIGHTS, engine=engine)
"""


@pytest.mark.parametrize("where", ["rendering", "before renames", "between renames"])
def test_killed_and_run_again(tmp_path: Path, where: str) -> None:
    store = painted_store(tmp_path / "store")
    run(store, tmp_path / "right", variants=("64", "32"), validation=0.01)
    painted_store(tmp_path / "earlier", 5)
    run(tmp_path / "earlier", tmp_path / "out", variants=("64",))
    earlier = files(tmp_path / "out")
    words = [sys.executable, "-c", _KILLED, where, str(store), str(tmp_path / "out")]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    if where != "between renames":
        assert files(tmp_path / "out") == earlier
    else:
        assert not (tmp_path / "out").exists()
    (tmp_path / "out.part").mkdir(exist_ok=True)
    killed_while_writing(tmp_path / "out.part" / "manifest.parquet")
    killed_while_writing(tmp_path / "out.part" / "data" / "train-00000-of-00001.parquet")
    report = run(store, tmp_path / "out", variants=("64", "32"), validation=0.01)
    assert files(tmp_path / "out") == files(tmp_path / "right")
    assert not list(tmp_path.glob("out.*"))
    if where != "rendering":
        assert sum(one.shards_written for one in report.written) == 0


_FULL_DISK = """
import resource, sys
from lhq.export import ExportSettings, export
from tests.lhq.making import RIGHTS, Here
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
export(sys.argv[1], ExportSettings(to=sys.argv[2], variants=("64",)), rights_of=RIGHTS, engine=Here())
"""


def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 16)
    words = [sys.executable, "-c", _FULL_DISK, str(store), str(tmp_path / "out")]
    done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    assert "StoreError" in done.stderr
    assert "can't be written" in done.stderr
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("*.parquet.*.part"))
    assert run(store, tmp_path / "out").num_rows == 16


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a dataset that lhq export wrote"):
        run(store, tmp_path / "mine")
    run(store, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(InputError, match="shares no photo with this store"):
        run(painted_store(tmp_path / "other", 4, first=100), tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_what_others_put_into_the_folder_stays(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 4)
    run(store, tmp_path / "out")
    (tmp_path / "out" / ".git").mkdir()
    (tmp_path / "out" / ".git" / "HEAD").write_text("ref: refs/heads/main")
    run(store, tmp_path / "out", variants=("32", "16"))
    assert (tmp_path / "out" / ".git" / "HEAD").read_text() == "ref: refs/heads/main"
    run(store, tmp_path / "out", variants=("32",))
    assert not (tmp_path / "out" / "data-16").exists()


def test_a_second_run_at_once_is_refused(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 4)

    class Nested(Engine):
        def map(self, job: Any, keys: Any, lane: Any) -> Any:
            with pytest.raises(Exception, match="another process writes it"):
                run(store, tmp_path / "out")
            return map(job, keys)

    run(store, tmp_path / "out", Nested())


def test_photos_that_cannot_be_rendered_are_named_and_counted(tmp_path: Path) -> None:
    store = tmp_path / "store"
    whole = scene(1)
    torn = bytearray(scene(2))
    torn[len(torn) // 3 : len(torn) // 2] = b"\xff\xd8" * (len(torn) // 2 - len(torn) // 3)
    bad = [
        photo(scene(3, 40, 40), "small"),
        photo(whole[: len(whole) // 2], "cut"),
        photo(b"<html>not found</html>", "page"),
        photo(whole, "swapped", sha256="0" * 64),
    ]
    add_shard(store, 0, [photo(whole, "good"), *bad], group_rows=2)
    judge(store)
    report = run(store, tmp_path / "out", variants=("64", "full"), validation=0)
    reasons = {id.split(":")[1]: why.split(":")[0] for id, why in report.written[0].failed.items()}
    assert reasons == {"small": "too-small", "cut": "truncated", "page": "not-an-image", "swapped": "damaged"}
    assert [row["source_id"] for row in rows(tmp_path / "out")] == ["good"]
    assert {row["source_id"] for row in rows(tmp_path / "out", "data-full")} == {"good", "small"}
    assert report.num_rows == 2
    again = run(store, tmp_path / "out", variants=("64", "full"), validation=0)
    assert again.written[0].failed == report.written[0].failed


def test_a_damaged_shard_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 8)
    painted_store(store, 8, first=8, shard=1)
    path = store / "photos" / "000001.parquet"
    data = bytearray(path.read_bytes())
    whole, column = bytes(data), pq.read_metadata(path).row_group(0).column(PHOTO_IMAGE)
    data[column.data_page_offset : column.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"000001\.parquet"):
        run(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    path.write_bytes(whole)
    assert run(store, tmp_path / "out").num_rows == 16


def test_the_funnel_counts_the_photos_that_are_there(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 6)
    painted_store(store, 4, first=6, shard=1)
    judge(store, {"flickr:0001": "size", "flickr:0007": "size", "flickr:0008": "objects"})
    Path(Shards(str(store), "photos").path(1)).unlink()
    report = run(store, tmp_path / "out")
    assert (report.num_kept, report.funnel) == (5, {"size": 1})
    assert "| gathered | 6 |" in (tmp_path / "out" / "README.md").read_text()


PHOTO_IMAGE = PHOTO_SCHEMA.names.index("image")


def test_settings_are_checked(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 2)
    with pytest.raises(ValueError, match='"huge" is not a variant'):
        run(store, tmp_path / "out", variants=("huge",))
    with pytest.raises(ValueError, match="named twice"):
        run(store, tmp_path / "out", variants=("64", "64"))
    with pytest.raises(ConfigError, match="remote"):
        export(str(store), ExportSettings(to="s3://bucket/x"), rights_of=RIGHTS, engine=Here())


def test_rows_without_papers_are_refused_and_named_before_anything_is_written(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 4)
    add_shard(store, 1, [photo(scene(9), "bare", licence=""), photo(scene(10), "whole")])
    judge(store)
    for publish in ("private", "manifest", "bytes"):
        with pytest.raises(RightsRefused, match=r"1 kept photos have no licence: flickr:bare \(flickr, no licence\)"):
            run(store, tmp_path / "out", publish=publish)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("out.*"))


def test_manifest_only_holds_no_pictures(tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_shard(
        store,
        0,
        [
            photo(scene(n), f"{n}", "unsplash", "unsplash", permission="training only", permits=["train"])
            for n in range(3)
        ],
    )
    judge(store)
    with pytest.raises(RightsRefused, match=r"3 of source unsplash under unsplash.*its terms need a permission"):
        run(store, tmp_path / "out", publish="bytes")
    run(store, tmp_path / "out", publish="manifest")
    assert not list((tmp_path / "out").glob("data*"))
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["url"]) == [f"https://photos.example/{n}.jpg" for n in range(3)]


def test_no_derivatives_are_published_as_they_are_or_not_at_all(tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_shard(store, 0, [photo(scene(1), "free"), photo(scene(2), "nd", licence="cc-by-nd-2.0")])
    judge(store)
    report = run(store, tmp_path / "out", publish="bytes", variants=("64", "full"), validation=0)
    assert [row["source_id"] for row in rows(tmp_path / "out")] == ["free"]
    assert {row["source_id"] for row in rows(tmp_path / "out", "data-full")} == {"free", "nd"}
    assert report.skipped == {"64: licence forbids derivatives": 1}
    run(store, tmp_path / "own", publish="private", validation=0)
    assert len(rows(tmp_path / "own")) == 2


def test_every_nasty_file_is_a_row_or_a_named_failure(tmp_path: Path, shared: Path) -> None:
    store = tmp_path / "store"
    nasty = sorted(path for path in (shared / "nasty").rglob("*") if path.is_file())
    add_shard(store, 0, [photo(path.read_bytes(), f"{n:04d}") for n, path in enumerate(nasty)], group_rows=100)
    judge(store)
    report = run(store, tmp_path / "out", variants=("16", "full"), format="png")
    for one, folder in zip(report.written, ("data", "data-full"), strict=True):
        found = rows(tmp_path / "out", folder)
        assert len(found) + len(one.failed) == len(nasty)
        assert len(found) > 100
    for row in rows(tmp_path / "out"):
        with Image.open(io.BytesIO(row["image"]["bytes"])) as picture:
            assert (picture.mode, picture.size, picture.info) == ("RGB", (16, 16), {})
    assert np.all([why for one in report.written for why in one.failed.values()])
