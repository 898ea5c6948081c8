"""A folder, the Unsplash Dataset's tables, Wikimedia Commons."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from lhq import pipeline as way
from lhq.config import HttpSettings
from lhq.errors import ConfigError, FetchError, InputError, SourceError
from lhq.http import Client
from lhq.records import Query
from lhq.sources.commons import Commons, CommonsSettings
from lhq.sources.folder import Folder, FolderSettings
from lhq.sources.unsplash_dataset import UnsplashDataset, UnsplashDatasetSettings
from tests.lhq.bad_server import Server, answer, as_json, in_turn
from tests.lhq.services import kept, photo

# --- folder -----------------------------------------------------------------------------------------------------


def folder_pipeline(tmp_path: Path, photos: Path, want: int) -> Path:
    path = tmp_path / "folder.toml"
    path.write_text(
        f"store = '{tmp_path}/store'\nqueries = ['x']\nwant = {want}\n[source.folder]\npath = '{photos}'\n"
        "author = 'Ann'\nmin_side_px = 40\n"
    )
    return path


def test_a_folder_is_crawled_like_any_source_and_new_files_are_seen(tmp_path: Path) -> None:
    photos = tmp_path / "my photos"
    (photos / "2020").mkdir(parents=True)
    (photos / "a.jpg").write_bytes(photo(1))
    (photos / "2020" / "ä #1?.PNG").write_bytes(photo(2, kind="PNG"))
    (photos / "notes.txt").write_text("no picture")
    (photos / "liar.jpg").write_text("no picture")
    Path(os.fsdecode(os.fsencode(photos) + b"/bad-\xff\x1b.jpg")).write_bytes(photo(3))
    os.mkfifo(photos / "pipe.jpg")
    (photos / "nowhere.jpg").symlink_to(photos / "gone")
    path = folder_pipeline(tmp_path, photos, want=99)
    assert way.load(path).crawl().num_kept == 3
    rows = {row["source_id"]: row for row in kept(tmp_path).to_pylist()}
    assert {"a.jpg", "2020/ä #1?.PNG"} < rows.keys()
    assert all(name.isprintable() for name in rows)
    assert (rows["a.jpg"]["image"], rows["a.jpg"]["author"], rows["a.jpg"]["licence"]) == (photo(1), "Ann", "own")
    reasons = {each.id: each.reason for each in way.load(path).candidates(statuses=("failed",))}
    assert reasons == {"folder:liar.jpg": "not-an-image", "folder:pipe.jpg": "not-a-file", "folder:nowhere.jpg": "gone"}

    (photos / "new.jpg").write_bytes(photo(4))
    assert way.load(path).crawl().num_new == 1
    assert kept(tmp_path).num_rows == 4


def test_a_folder_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lhq.sources.folder.PAGE_SIZE", 3)
    for i in range(7):
        (tmp_path / f"{i}.jpg").write_bytes(b"x")
    folder = Folder(FolderSettings(path=str(tmp_path)), Client(HttpSettings()))
    (query,) = folder.queries([Query("x")])
    names, cursor = [], None
    while True:
        page = folder.search(query, cursor)
        names += [one.source_id for one in page.candidates]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert names == [f"{i}.jpg" for i in range(7)]


def test_a_folder_that_is_not_there_and_a_file_too_large(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Folder(FolderSettings(path=str(tmp_path / "no")), Client(HttpSettings()))
    (tmp_path / "a.jpg").write_bytes(bytes(100))
    folder = Folder(FolderSettings(path=str(tmp_path)), Client(HttpSettings(max_bytes=99)))
    (one,) = folder.search(Query("x"), None).candidates
    with pytest.raises(FetchError, match="100 bytes"):
        folder.read(one)


# --- Unsplash Dataset -------------------------------------------------------------------------------------------

COLUMNS = [
    "photo_id",
    "photo_url",
    "photo_image_url",
    "photo_submitted_at",
    "photo_width",
    "photo_height",
    "photo_description",
    "photographer_username",
    "photographer_first_name",
    "photographer_last_name",
    "ai_description",
]


def row(name: str, **changes: str) -> list[str]:
    values = {
        "photo_id": name,
        "photo_url": f"https://unsplash.com/photos/{name}",
        "photo_image_url": f"https://images.unsplash.com/{name}",
        "photo_submitted_at": "2019-01-01",
        "photo_width": "3000",
        "photo_height": "2000",
        "photo_description": "",
        "photographer_username": "ann",
        "photographer_first_name": "Ann",
        "photographer_last_name": "",
        "ai_description": "lake near mountains",
        **changes,
    }
    return [values[column] for column in COLUMNS]


def dataset(folder: Path, **changes: object) -> UnsplashDataset:
    settings = UnsplashDatasetSettings.model_validate({"path": str(folder), **changes})
    return UnsplashDataset(settings, Client(HttpSettings()))


def test_the_tables_are_read_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lhq.sources.unsplash_dataset.PAGE_SIZE", 4)
    odd = [row("small", photo_height="300"), row("", photo_id=""), ["too", "short"], row("none", photo_image_url="x")]
    for part, rows in (("000", [row(f"a{i}") for i in range(9)] + odd), ("001", [row("ü")])):
        text = "\n".join("\t".join(cells) for cells in [COLUMNS, *rows])
        (tmp_path / f"photos.tsv{part}").write_text(text + "\n", encoding="utf-8")
    source = dataset(tmp_path)
    found, skipped = [], {}
    for query in source.queries([Query("ignored")]):
        cursor = None
        while True:
            page = source.search(query, cursor)
            found += page.candidates
            for reason, num in page.skipped:
                skipped[reason] = skipped.get(reason, 0) + num
            cursor = page.next_cursor
            if cursor is None:
                break
    assert [one.source_id for one in found] == [*(f"a{i}" for i in range(9)), "ü"]
    assert skipped == {"too small": 1, "no papers": 2, "odd row": 1}
    assert (found[0].licence, found[0].author, found[0].author_url) == (
        "unsplash-dataset-lite",
        "Ann",
        "https://unsplash.com/@ann",
    )


def test_cells_may_hold_line_breaks_and_stray_quotes(tmp_path: Path) -> None:
    """Quotes that close hold their lines together; one that never does spoils its own line alone."""
    rows = ["\t".join(COLUMNS)]
    rows += ["\t".join(row("a", photo_description='"A lake,\nin two ""lines"""'))]
    rows += ["\t".join(row("b", photo_description='5" wide'))]
    rows += ["\t".join(row("c", photo_description='"never closed'))]
    rows += ["\t".join(row("d"))]
    (tmp_path / "photos.tsv000").write_text("\n".join(rows) + "\n", newline="")
    source = dataset(tmp_path)
    page = source.search(source.queries([])[0], None)
    assert [(one.source_id, one.description) for one in page.candidates][:2] == [
        ("a", 'A lake,\nin two "lines"'),
        ("b", '5" wide'),
    ]
    assert [one.source_id for one in page.candidates] == ["a", "b", "c", "d"]


def test_stray_quotes_of_two_rows_hold_nothing_together(tmp_path: Path) -> None:
    rows = ["\t".join(COLUMNS)]
    rows += ["\t".join(row("a", photo_description='"opened')), "\t".join(row("b", photo_description='closed"'))]
    (tmp_path / "photos.tsv000").write_text("\n".join(rows) + "\n", newline="")
    source = dataset(tmp_path)
    found = source.search(source.queries([])[0], None).candidates
    assert [(one.source_id, one.description) for one in found] == [("a", '"opened'), ("b", 'closed"')]


def test_tables_with_quoted_columns_and_names_that_begin_alike(tmp_path: Path) -> None:
    for name, id in (("photos.csv", "a"), ("photos.csv1", "b"), ("photos.csv10", "c")):
        with open(tmp_path / name, "w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([COLUMNS, row(id)])
    source = dataset(tmp_path)
    found = [one.source_id for query in source.queries([]) for one in source.search(query, None).candidates]
    assert found == ["a", "b", "c"]


def test_the_full_tables_are_narrowed_by_words(tmp_path: Path) -> None:
    rows = [COLUMNS, row("a"), row("b", ai_description="a city"), row("c", photo_description="Deep LAKE")]
    (tmp_path / "photos.csv000").write_text("\n".join("\t".join(cells) for cells in rows))
    source = dataset(tmp_path, edition="full", words=("lake",))
    page = source.search(source.queries([])[0], None)
    assert [one.source_id for one in page.candidates] == ["a", "c"]
    assert page.candidates[0].licence == "unsplash-dataset-full"


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no photos\.tsv"):
        dataset(tmp_path)
    (tmp_path / "photos.tsv000").write_bytes("photo_id\tphoto_url\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"is UTF-16; save it as UTF-8"):
        dataset(tmp_path).search(dataset(tmp_path).queries([])[0], None)
    (tmp_path / "photos.tsv000").write_bytes(b"\x00\xff nonsense")
    source = dataset(tmp_path)
    with pytest.raises(InputError, match="no columns"):
        source.search(source.queries([])[0], None)


# --- Commons ----------------------------------------------------------------------------------------------------


def commons(server: Server, **changes: object) -> Commons:
    http = HttpSettings(allow_hosts=(server.netloc,), contact="mailto:a@b.org", max_attempts=2, retry_delay_s=0.01)
    return Commons(CommonsSettings.model_validate({"api": server.url("/w/api.php"), **changes}), Client(http))


def file(number: int, **changes: object) -> dict[str, object]:
    said = {
        "LicenseUrl": {"value": "https://creativecommons.org/licenses/by-sa/4.0"},
        "Artist": {"value": '<a href="//x">Ann &amp; Bob</a>'},
        "ImageDescription": {"value": "<p>A lake</p>"},
        "DateTimeOriginal": {"value": "2011-05-01"},
    }
    info = {
        "url": f"https://upload.wikimedia.org/{number}.jpg",
        "thumburl": f"https://upload.wikimedia.org/3840-{number}.jpg",
        "thumbwidth": 3840,
        "thumbheight": 2560,
        "width": 3000,
        "height": 2000,
        "mime": "image/jpeg",
        "descriptionurl": f"https://commons.wikimedia.org/wiki/File:{number}.jpg",
        "extmetadata": said,
        **changes,
    }
    return {"pageid": number, "title": f"File:{number}.jpg", "index": number, "imageinfo": [info]}


def test_commons_pages_papers_and_continue() -> None:
    first = {"continue": {"gsroffset": 50, "continue": "gsroffset||"}, "query": {"pages": [file(2), file(1)]}}
    odd = [
        {},
        7,
        file(5, extmetadata={}),
        file(6, mime="image/svg+xml"),
        file(7, width=900),
        file(8, extmetadata={"Artist": {"value": "A"}, "LicenseUrl": {"value": "https://gnu.org/copyleft/fdl"}}),
        {**file(9), "imageinfo": None},
        file(4, width=9000, height=6000),
    ]
    with Server({"/w/api.php": in_turn(as_json(first), as_json({"query": {"pages": odd}}))}) as server:
        source = commons(server)
        page = source.search(Query("lake"), None)
        assert [one.source_id for one in page.candidates] == ["1", "2"]
        one = page.candidates[0]
        assert (one.author, one.licence, one.description, one.url) == (
            "Ann & Bob",
            "cc-by-sa-4.0",
            "A lake",
            "https://upload.wikimedia.org/1.jpg",
        )
        last = source.search(Query("lake"), page.next_cursor)
        assert server.seen[1].params["gsroffset"] == "50"
        assert server.seen[0].headers["user-agent"].endswith("(+mailto:a@b.org)")
        assert (last.next_cursor, [each.url for each in last.candidates]) == (
            None,
            ["https://upload.wikimedia.org/3840-4.jpg"],
        )
        assert dict(last.skipped) == {"not a photo": 4, "no papers": 1, "too small": 1, "licence": 1}


def test_commons_waits_while_the_databases_lag() -> None:
    lag = as_json({"error": {"code": "maxlag", "info": "Waiting"}}, retry_after="0")
    with Server({"/w/api.php": in_turn(lag, lag, as_json({}))}) as server:
        assert commons(server).search(Query("lake"), None).candidates == ()
        assert len(server.seen) == 3


def test_commons_refuses_without_a_contact_and_says_what_it_is_told() -> None:
    with pytest.raises(ConfigError, match="contact is empty"):
        Commons(CommonsSettings(), Client(HttpSettings()))
    with Server({"/w/api.php": as_json({"error": {"code": "badvalue", "info": "no such prop"}})}) as server:
        with pytest.raises(SourceError, match="no such prop"):
            commons(server).search(Query("lake"), None)
    with Server({"/w/api.php": answer(json.dumps({"query": {"pages": 3}}).encode())}) as server:
        with pytest.raises(SourceError, match="no list"):
            commons(server).search(Query("lake"), None)


def test_the_upload_host_is_spared() -> None:
    with Server() as server:
        source = commons(server)
        host = source._client.host_of("https://upload.wikimedia.org/a.jpg")
        assert (host.num_slots, host.bytes_per_s) == (2, 25e6 / 8)
