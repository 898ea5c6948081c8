"""What a dataset must not reveal: local paths, locations in files, wrong credits."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import datasets
import mlcroissant
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageCms

import lhq
from lhq.errors import InputError, RightsRefused
from lhq.export import ExportReport, ExportSettings, archives, card, export, layout
from lhq.export.verify import verify
from lhq.images import inspect
from lhq.images.metadata import strip_metadata
from lhq.progress import silent
from lhq.store.shards import Shards
from tests.lhq.making import RIGHTS, Here, add_shard, judge, painted_store, photo, scene


def run(store: Path, to: Path, **settings: Any) -> ExportReport:
    given = {"variants": ("32",), "validation": 0, **settings}
    return export(str(store), ExportSettings(to=str(to), **given), rights_of=RIGHTS, engine=Here())


def store_of(at: Path, *rows: dict[str, Any]) -> Path:
    add_shard(at, 0, rows)
    judge(at)
    return at


@pytest.mark.parametrize(
    "address", ["file:///home/jo/secret/a.jpg", "/home/jo/secret/a.jpg", "C:\\secret\\a.jpg", "~/secret/a"]
)
def test_no_path_of_a_disk_leaves_in_any_byte(tmp_path: Path, address: str) -> None:
    where = {"url": address, "page_url": address, "author_url": address}
    store = store_of(tmp_path / "store", photo(scene(1), "a.jpg", "folder", "own", **where))
    run(store, tmp_path / "out", variants=("32", "full"))
    archives.write(str(tmp_path / "out"), {"32": "data"}, "webdataset", silent)
    for path in tmp_path.glob("out*/**/*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"secret" not in data, path
            assert str(tmp_path).encode() not in data, path
    (row,) = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert (row["url"], row["page_url"], row["author_url"]) == ("folder:a.jpg", "", "")
    assert verify(str(tmp_path / "out"), engine=Here()).problems == []


def test_no_address_of_a_file_leaves_in_somebodys_words(tmp_path: Path) -> None:
    said = {
        "title": "Dawn (file:///home/jo/secret/a.jpg)",
        "description": "see FILE:/home/jo/secret, then https://a.example/file:1",
        "attribution": "Jo, file:\\\\server\\secret",
        "author": "Jo file:///C:/secret",
        "tags": ["file:///secret/a", "dawn", "profile:///x"],
    }
    store = store_of(tmp_path / "store", photo(scene(1), "a.jpg", "folder", "own", **said))
    run(store, tmp_path / "out", variants=("32",))
    assert not [path for path in tmp_path.glob("out/**/*") if path.is_file() and b"secret" in path.read_bytes()]
    (row,) = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert [row["title"], row["tags"], row["author"]] == ["Dawn ()", ["dawn", "profile:///x"], "Jo "]
    assert row["description"] == "see  then https://a.example/file:1"
    assert verify(str(tmp_path / "out"), engine=Here()).problems == []


@pytest.mark.parametrize("author", ["", " \t", "\u00a0\u200b", "\u2060\ufeff\u3000"])
def test_an_author_that_no_eye_sees_is_none(tmp_path: Path, author: str) -> None:
    store = store_of(tmp_path / "store", photo(scene(1), "a", "flickr", "cc-by-2.0", author=author))
    with pytest.raises(RightsRefused, match="have no author though their licence asks for attribution"):
        run(store, tmp_path / "out")


@pytest.mark.parametrize("title", ["# Head", "1. One", "- a", "+ b", "~~c~~", "=", "2) d"])
def test_words_begin_neither_a_heading_nor_a_list(tmp_path: Path, title: str) -> None:
    store = store_of(tmp_path / "store", photo(scene(1), "a", title=title, page_url=""))
    run(store, tmp_path / "out")
    line = (tmp_path / "out" / "CREDITS.md").read_text(encoding="utf-8").splitlines()[-1]
    assert re.match(r"- \d*\\", line), line


def test_the_picture_has_one_ending(tmp_path: Path) -> None:
    names = ["a.jpg", "b.JPEG", "c.png", "d", "e.jpg.jpg"]
    store = store_of(tmp_path / "store", *[photo(scene(n), name, "folder", "own") for n, name in enumerate(names)])
    run(store, tmp_path / "out")
    found = {row["source_id"]: row["image"]["path"] for row in pq.read_table(tmp_path / "out" / "data").to_pylist()}
    assert found == {
        "a.jpg": "folder-a.jpg",
        "b.JPEG": "folder-b.jpg",
        "c.png": "folder-c.jpg",
        "d": "folder-d.jpg",
        "e.jpg.jpg": "folder-e.jpg.jpg",
    }


def with_metadata(kind: str, orientation: int) -> bytes:
    image = Image.open(io.BytesIO(scene(7, 96, 64)))
    exif = Image.Exif()
    exif[0x0112], exif[0x013B], exif[0x010F] = orientation, "SECRET Photographer", "SECRET Camera"
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 12.0, 3.5), 3: "E", 4: (8.0, 1.0, 2.0)})
    out = io.BytesIO()
    more = {"comment": b"SECRET"} if kind == "JPEG" else {}
    image.save(out, kind, exif=exif, **({"xmp": b"<x>SECRET</x>"} if kind != "PNG" else {}), **more)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_places_and_names_are_left_out_of_full_without_touching_a_pixel(kind: str, orientation: int) -> None:
    data = with_metadata(kind, orientation)
    bare = strip_metadata(data, inspect(data))
    assert b"SECRET" in data
    assert b"SECRET" not in bare
    before, after = (Image.open(io.BytesIO(one)) for one in (data, bare))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert dict(after.getexif()) == ({0x0112: 6} if orientation == 6 else {})
    assert not after.getexif().get_ifd(0x8825)
    assert inspect(bare).orientation == orientation
    assert strip_metadata(bare, inspect(bare)) == bare


def test_a_colour_profile_stays_and_a_second_picture_goes() -> None:
    profile = Image.open(io.BytesIO(scene(1)))
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    out = io.BytesIO()
    profile.save(out, "JPEG", icc_profile=icc, progressive=True)
    data = out.getvalue() + with_metadata("JPEG", 1)  # as multi-picture files hold their second one
    bare = strip_metadata(data, inspect(data))
    assert bare == out.getvalue()
    assert Image.open(io.BytesIO(bare)).info["icc_profile"] == icc


def test_metadata_is_kept_by_choice_alone_and_the_card_says_so(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", photo(with_metadata("JPEG", 1), "a"))
    run(store, tmp_path / "bare", variants=("full",))
    run(store, tmp_path / "kept", variants=("full",), metadata="keep")
    (bare,), (kept,) = (pq.read_table(tmp_path / name / "data").to_pylist() for name in ("bare", "kept"))
    assert b"SECRET" not in bare["image"]["bytes"]
    assert kept["image"]["bytes"] == with_metadata("JPEG", 1)
    assert (bare["sha256"], kept["image_sha256"]) == (kept["sha256"], kept["sha256"])
    assert "without the metadata of the files" in (tmp_path / "bare" / "README.md").read_text()
    assert "places, names and serial numbers may stand in them" in (tmp_path / "kept" / "README.md").read_text()
    assert verify(str(tmp_path / "bare"), engine=Here()).problems == []


def test_credits_say_what_was_done_to_each_row(tmp_path: Path) -> None:
    store = store_of(
        tmp_path / "store",
        photo(scene(1), "free", author="  ", attribution="© Jo (jo.example)", licence="cc0-1.0"),
        photo(scene(2), "whole", licence="cc-by-nd-2.0", title="[x](javascript:alert(1))|<b>"),
        photo(scene(3), "odd", page_url='https://h/a)b(c d"><x>', author_url="javascript:alert(2)"),
    )
    run(store, tmp_path / "out", variants=("32", "full"), publish="bytes")
    credits = {row["id"]: row for row in pq.read_table(tmp_path / "out" / "CREDITS.parquet").to_pylist()}
    assert credits["flickr:free"]["changes"] == "cropped to the centre square, scaled to 32 px, converted to sRGB"
    assert credits["flickr:whole"]["changes"] == ""
    assert credits["flickr:free"]["author"] == ""
    assert credits["flickr:free"]["attribution"] == "© Jo (jo.example)"
    page = (tmp_path / "out" / "CREDITS.md").read_text()
    assert "by unknown (© Jo (jo.example))" in page
    assert "(javascript:alert(2))" not in page
    assert "\\[x\\](javascript:alert(1))" in page
    assert "(https://h/a%29b%28c%20d%22%3E%3Cx%3E)" in page
    assert verify(str(tmp_path / "out"), engine=Here()).problems == []


def test_a_variant_without_rows_is_left_out_with_a_word(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", *[photo(scene(n), f"{n}", licence="cc-by-nd-2.0") for n in range(3)])
    report = run(store, tmp_path / "out", variants=("32", "64", "full"), publish="bytes")
    assert report.notes == [
        f"variant {side} is left out: it would have no rows (no licence allows it)" for side in ("32", "64")
    ]
    assert [one.variant.name for one in report.written] == ["full"]
    assert len(datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))) == 3
    with pytest.raises(InputError, match="no row to write"):
        run(store, tmp_path / "none", variants=("32",), publish="bytes")
    assert not (tmp_path / "none").exists()


def test_a_split_without_rows_is_none(tmp_path: Path) -> None:
    ids = [str(n) for n in range(40)]
    rows = [photo(scene(n, 40, 40), id) for n, id in enumerate(ids)]

    small = {id for id in ids if layout.split(f"flickr:{id}", 0.1) == "validation"}
    assert small
    rows = [
        photo(scene(n, 20, 20), id) if id in small else row for n, (id, row) in enumerate(zip(ids, rows, strict=True))
    ]
    report = run(store_of(tmp_path / "store", *rows), tmp_path / "out", validation=0.1)
    assert report.written[0].rows == {"train": 40 - len(small)}
    assert not list((tmp_path / "out" / "data").glob("validation*"))
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert verify(str(tmp_path / "out"), engine=Here()).problems == []


def test_rows_go_into_tensors(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    run(painted_store(tmp_path / "store", 3), tmp_path / "out")
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    row = rows.with_format("torch")[0]
    assert tuple(row["image"].shape) == (3, 32, 32)
    assert row["fetched_at"] == "2026-05-01T00:00:00.000Z"


def test_tars_hold_json_that_is_json(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 2)

    facts = {"id": ["flickr:0000", "flickr:0001"], "score": [float("nan"), float("inf")]}
    Shards(str(store), "facts/size").write(0, pa.table(facts))
    run(store, tmp_path / "out")
    to = Path(archives.write(str(tmp_path / "out"), {"32": "data"}, "webdataset", silent))
    with tarfile.open(next(to.glob("*.tar"))) as file:
        texts = [file.extractfile(name).read() for name in file.getnames() if name.endswith(".json")]  # type: ignore[union-attr]
    for text in texts:
        found = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        assert found["size_score"] is None


def test_a_tar_of_mixed_formats_is_refused_before_it_is_made(tmp_path: Path) -> None:
    png = scene(2, format="PNG")
    run(store_of(tmp_path / "store", photo(scene(1), "a"), photo(png, "b")), tmp_path / "out", variants=("full", "32"))
    names = {"full": "data", "32": "data-32"}
    with pytest.raises(InputError, match=r"variant full mixes formats \(1 .jpg, 1 .png\)|\(1 .png, 1 .jpg\)"):
        archives.write(str(tmp_path / "out"), names, "webdataset", silent)
    assert not (tmp_path / "out-webdataset").exists()
    archives.write(str(tmp_path / "out"), {"32": "data-32"}, "webdataset", silent)
    loaded = datasets.load_dataset(
        "webdataset",
        data_files=str(tmp_path / "out-webdataset" / "*.tar"),
        split="train",
        cache_dir=str(tmp_path / "c"),
    )
    assert len(loaded) == 2


@pytest.mark.parametrize(
    ("num", "word"),
    [(999, "n<1K"), (10**7, "10M<n<100M"), (10**8, "100M<n<1B"), (10**11, "100B<n<1T"), (10**12, "n>1T")],
)
def test_sizes_in_the_hubs_words(num: int, word: str) -> None:
    assert card.size_category(num) == word


def test_a_licence_that_the_hub_does_not_know_is_other_with_name_and_link(tmp_path: Path) -> None:
    run(store_of(tmp_path / "store", photo(scene(1), "a", licence="cc-by-sa-3.0-de")), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "license: other\nlicense_name: cc-by-sa-3.0-de\n" in text
    assert "license_link: https://creativecommons.org/licenses/by-sa/3.0/de/\n" in text


def test_where_a_photo_was_taken_is_published_only_where_it_is_asked_for(tmp_path: Path) -> None:
    where = {"latitude": 46.5, "longitude": 8.0, "camera": "SECRET 5000"}
    store = store_of(tmp_path / "store", photo(scene(1), "a", **where), photo(scene(2), "b"))
    run(store, tmp_path / "out")
    assert not {"latitude", "longitude", "camera"} & {*pq.read_schema(tmp_path / "out" / "manifest.parquet").names}
    assert not any(b"SECRET" in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    run(store, tmp_path / "asked", columns=("place", "camera"))
    found = {row["source_id"]: row for row in pq.read_table(tmp_path / "asked" / "data").to_pylist()}
    assert {name: found["a"][name] for name in where} == where
    assert (found["b"]["latitude"], found["b"]["camera"]) == (None, "")
    assert verify(str(tmp_path / "asked"), engine=Here()).problems == []
    datasets.load_dataset(str(tmp_path / "asked"), split="train", cache_dir=str(tmp_path / "cache"))


def test_embeddings_are_kept_by_choice_and_published_by_choice(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", 12)
    file = tmp_path / "p.toml"
    text = (
        f'store = "{store}"\nqueries = ["lake"]\nwant = 5\n[filter.outliers]\nfeatures = "thumbnail"\ndrop_share = 0\n'
    )
    file.write_text(text)
    lhq.load(file).filter()
    made = Shards(str(store), "facts/outliers").metadata(0)
    with pytest.raises(InputError, match="keep_features = true"):
        lhq.load(file).export({"columns": ("embedding",), "variants": ("32",)})
    file.write_text(text + "keep_features = true\n")
    lhq.load(file).filter()
    out = lhq.load(file).export({"columns": ("embedding",), "variants": ("32",)}).report.to
    rows = pq.read_table(f"{out}/data", columns=["outliers_embedding"]).to_pylist()
    assert len({len(row["outliers_embedding"]) for row in rows}) == 1
    assert len(rows[0]["outliers_embedding"]) > 10
    assert "`outliers_embedding`" in Path(out, "README.md").read_text()
    loaded = datasets.load_dataset(out, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["outliers_embedding"] == pytest.approx(rows[0]["outliers_embedding"])
    described = [*mlcroissant.Dataset(f"{out}/croissant.json").records("32")]
    assert len(described) == len(rows)
    assert described[0]["32/outliers_embedding"] == pytest.approx(rows[0]["outliers_embedding"])
    file.write_text(text)
    lhq.load(file).filter()
    assert Shards(str(store), "facts/outliers").metadata(0) == made


def test_a_measures_column_does_not_take_the_name_of_a_paper(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", photo(scene(1), "a"))
    ids = Shards(str(store), "photos").read(0, ["id"])
    facts = ids.append_column("on", pa.array([0.5] * len(ids), pa.float64()))
    Shards(str(store), "facts/permission").write(0, facts)
    with pytest.raises(InputError, match="permission_on, which is there already"):
        run(store, tmp_path / "out")
