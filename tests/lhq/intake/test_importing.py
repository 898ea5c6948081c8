"""Other collections are imported completely, with metadata, once; bad files are named and skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import lmdb
import pytest

from lhq.errors import InputError, StoreError
from lhq.export import ExportSettings, export
from lhq.intake import Destination, importing
from lhq.intake.importing import Collection, import_collection
from lhq.intake.papers import Papers, read_papers
from lhq.rights.policy import Policy
from lhq.store.shards import Shards
from lhq.takedown.remove import remove
from tests.lhq.making import Here, judge, scene

ROOT = Path(__file__).parents[3]
OWN = Papers({"licence": "own", "author": "me"})


def destination(store: str | Path) -> Destination:
    return Destination(str(store), str(store))


def rows(store: Path) -> list[dict[str, object]]:
    photos = Shards(str(store), "photos")
    return [row for number in photos.numbers() for row in photos.read(number).to_pylist()]


def make_lsun(path: Path, num: int = 5) -> dict[str, bytes]:
    values = {f"{n:040x}": scene(n, 64, 48, "WEBP" if n % 2 else "JPEG") for n in range(num)}
    with lmdb.open(str(path), map_size=2**24) as database, database.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    return values


def test_lsun_is_imported_and_exported_byte_for_byte(tmp_path: Path) -> None:
    values = make_lsun(tmp_path / "tower_train_lmdb")
    num, entries = importing.lsun(str(tmp_path / "tower_train_lmdb"))
    store = tmp_path / "store"
    report = import_collection(
        Collection("lsun", "tower", entries, Papers({"licence": "not-stated"})), destination(store)
    )
    assert (num, report.new, report.failed) == (5, 5, {})
    assert {row["source_id"]: row["image"] for row in rows(store)} == {f"tower/{k}": v for k, v in values.items()}
    judge(store)
    settings = ExportSettings(to=str(tmp_path / "out"), variants=("32",))
    assert export(str(store), settings, rights_of=importing.RIGHTS, engine=Here()).num_rows == 5


def test_a_folder_without_lmdb_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data\.mdb"):
        importing.lsun(str(tmp_path))
    (tmp_path / "data.mdb").write_bytes(b"\0" * 5000)
    with pytest.raises(InputError, match="can't be opened as LMDB"):
        importing.lsun(str(tmp_path))


def make_zip(path: Path) -> None:
    """A zip as StyleGAN's dataset tool writes it, with some other things that zips contain."""
    with zipfile.ZipFile(path, "w") as file:
        for n in range(3):
            file.writestr(f"00000/img{n:08d}.png", scene(n, 64, 64, "PNG"))
        file.writestr("dataset.json", json.dumps({"labels": None}))
        file.writestr("__MACOSX/._img.png", b"\0")
        file.writestr("../../evil name.png", scene(7, 64, 64, "PNG"))
        file.writestr("broken.png", scene(8, 64, 64, "PNG")[:900])


def test_a_zip_is_imported_without_extracting_it(tmp_path: Path) -> None:
    make_zip(tmp_path / "set.zip")
    num, entries = importing.archive(str(tmp_path / "set.zip"))
    store = tmp_path / "store"
    report = import_collection(Collection("zip", "set", entries, OWN), destination(store))
    assert (num, report.new) == (5, 4)
    assert report.failed.keys() == {"broken.png"}
    assert report.failed["broken.png"].startswith("truncated")
    ids = {row["id"] for row in rows(store)}
    assert "zip:set/00000/img00000000.png" in ids
    assert "zip:set/../../evil%20name.png" in ids
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.zip", "store"]


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    make_zip(tmp_path / "set.zip")
    data = bytearray((tmp_path / "set.zip").read_bytes())
    data[200] ^= 0xFF
    (tmp_path / "set.zip").write_bytes(data)
    _, entries = importing.archive(str(tmp_path / "set.zip"))
    report = import_collection(Collection("zip", "set", entries, OWN), destination(tmp_path / "store"))
    assert "Bad CRC" in report.failed["00000/img00000000.png"]
    assert report.new == 3
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match="can't be opened as a zip"):
        importing.archive(str(tmp_path / "no.zip"))


def test_a_folder_is_imported_with_a_table_of_papers(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "lakes").mkdir(parents=True)
    (pictures / "a b.jpg").write_bytes(scene(1))
    (pictures / "lakes" / "ü.jpg").write_bytes(scene(2))
    (pictures / "notes.txt").write_text("no picture")
    (pictures / "page.jpg").write_text("<html>")
    (pictures / "link.jpg").symlink_to("/etc/passwd")
    (tmp_path / "papers.csv").write_text(
        "file,author,licence,title\nlakes/ü.jpg,Ada,cc-by-4.0,Lake\n", encoding="utf-8"
    )
    papers = Papers({"licence": "own", "author": "me"}, read_papers(str(tmp_path / "papers.csv")))
    _, entries = importing.folder(str(pictures))
    store = tmp_path / "store"
    report = import_collection(Collection("folder", "mine", entries, papers), destination(store))
    assert (report.new, report.failed.keys()) == (2, {"page.jpg"})
    found = {row["source_id"]: (row["author"], row["licence"], row["title"]) for row in rows(store)}
    assert found == {"mine/a%20b.jpg": ("me", "own", ""), "mine/lakes/%C3%BC.jpg": ("Ada", "cc-by-4.0", "Lake")}


@pytest.mark.parametrize(("licence", "said"), [("", "no licence"), ("cc-by", 'licence "cc-by"')])
def test_photos_without_a_licence_are_refused(tmp_path: Path, licence: str, said: str) -> None:
    (tmp_path / "a.jpg").write_bytes(scene(1))
    _, entries = importing.folder(str(tmp_path))
    with pytest.raises(InputError, match=said):
        import_collection(
            Collection("folder", "mine", entries, Papers({"licence": licence})),
            destination(tmp_path / "s"),
        )


def test_invalid_tables_of_papers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "papers.csv").write_text("name,licence\na,own\n")
    with pytest.raises(InputError, match='no column "file"'):
        read_papers(str(tmp_path / "papers.csv"))
    (tmp_path / "papers.jsonl").write_text("[1, 2]\n")
    with pytest.raises(InputError, match="can't be read"):
        read_papers(str(tmp_path / "papers.jsonl"))


_KILLED = """
import os, signal, sys
from lhq.intake import Destination, importing
from lhq.intake.papers import Papers
from tests.lhq.making import scene

def entries():
    for n in range(6):
        if n == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        yield f"{n}.jpg", lambda: scene(n, 64, 64)

photos = importing.Collection("folder", "mine", entries(), Papers({"licence": "own"}))
importing.import_collection(photos, Destination(sys.argv[1], sys.argv[1]))
"""


def test_a_killed_import_resumes_without_duplicates(tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", _KILLED, str(store)], cwd=ROOT, check=False)
    assert done.returncode == -9
    entries = [(f"{n}.jpg", lambda n=n: scene(n, 64, 64)) for n in range(6)]
    report = import_collection(
        Collection("folder", "mine", iter(entries), Papers({"licence": "own"})), destination(store)
    )
    assert (report.held, report.new) == (4, 2)
    assert sorted(str(row["id"]) for row in rows(store)) == [f"folder:mine/{n}.jpg" for n in range(6)]


def test_removed_photos_are_not_imported(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    remove(str(store), ["folder:mine/1.jpg"])
    entries = [(f"{n}.jpg", lambda n=n: scene(n, 64, 64)) for n in range(3)]
    report = import_collection(
        Collection("folder", "mine", iter(entries), Papers({"licence": "own"})), destination(store)
    )
    assert report.new == 2


def test_an_import_is_refused_while_a_crawl_runs(tmp_path: Path) -> None:
    (tmp_path / "frontier.sqlite").write_bytes(b"")
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "000000.spool").write_bytes(b"")
    with pytest.raises(StoreError, match="with a shard open"):
        import_collection(Collection("folder", "mine", iter([]), OWN), destination(tmp_path))


def test_every_hostile_file_is_imported_or_named(tmp_path: Path, shared: Path) -> None:
    num, entries = importing.folder(str(shared / "nasty"))
    report = import_collection(Collection("folder", "nasty", entries, OWN), destination(tmp_path))
    assert report.new + len(report.failed) == num
    assert report.new > 300
    assert all(": " in reason for reason in report.failed.values())


def test_a_zip_bomb_is_refused_by_size(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("bomb.png", "w", force_zip64=True) as member:
            for _ in range(importing.MAX_BYTES // 2**20 + 1):
                member.write(bytes(2**20))
    _, entries = importing.archive(str(tmp_path / "bomb.zip"))
    report = import_collection(Collection("zip", "bomb", entries, OWN), destination(tmp_path / "store"))
    assert report.failed["bomb.png"].startswith("too-large")


def pictures(at: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(scene(number, 64, 64))
    return at


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "file,licence\na.jpg,own\nB.jpg,own\n",
            "match no photo: B.jpg; 1 photos have no row: b.jpg",
        ),
        ("file,licence\na.jpg,own\n", "1 photos have no row: b.jpg"),
        ("file,licence\na.jpg,own\nb.jpg,own\nc.jpg,own\n", "1 rows of the table match no photo: c.jpg"),
    ],
)
def test_a_table_and_a_folder_that_do_not_match_are_listed_and_refused(tmp_path: Path, table: str, said: str) -> None:
    _, entries = importing.folder(str(pictures(tmp_path / "in", "a.jpg", "b.jpg")))
    (tmp_path / "papers.csv").write_text(table)
    papers = Papers({"licence": "own"}, read_papers(str(tmp_path / "papers.csv")))
    with pytest.raises(InputError) as caught:
        papers.check([name for name, _ in entries])
    assert said in str(caught.value)
    assert "--allow-unmatched" in str(caught.value)


@pytest.mark.parametrize(
    "table", ["\ufefffile;licence;title\na.jpg;own;A, B\n", "file\tlicence\ttitle\na.jpg\town\tA, B\n"]
)
def test_tables_of_papers_as_spreadsheets_write_them(tmp_path: Path, table: str) -> None:
    path = tmp_path / "papers.csv"
    path.write_text(table, encoding="utf-8")
    assert read_papers(str(path)) == {"a.jpg": {"licence": "own", "title": "A, B"}}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("file,licence\na.jpg,own\na.jpg,cc0-1.0\n", '"a.jpg" has two rows'),
        ("file,licence\na.jpg,own,more\n", "more cells than columns"),
        ("name,licence\na.jpg,own\n", 'no column "file"'),
        ("file,license\na.jpg,cc-by-4.0\n", 'column "license"; did you mean "licence"'),
        ("file,Authors\na.jpg,Ada\n", 'column "authors"; did you mean "author"'),
        ("file,permit\na.jpg,train\n", 'column "permit"; did you mean "permits"'),
    ],
)
def test_tables_that_are_ambiguous_are_refused(tmp_path: Path, table: str, said: str) -> None:
    (tmp_path / "papers.csv").write_text(table)
    with pytest.raises(InputError, match=said):
        read_papers(str(tmp_path / "papers.csv"))


def test_column_names_are_case_insensitive_and_unknown_ones_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "papers.csv").write_text("File, Licence,Inventory no.,width\na.jpg,cc-by-4.0,7,640\n")
    assert read_papers(str(tmp_path / "papers.csv"))["a.jpg"]["licence"] == "cc-by-4.0"
    assert "passed over: columns inventory no., width" in caplog.text


def test_other_papers_for_a_stored_photo_are_a_conflict(tmp_path: Path) -> None:
    """The licence of the first import would stay on the row without a word."""
    store = str(tmp_path / "store")
    statement = {"permits": "train", "permission": "Do.", "permission_on": "2026-05-01"}
    given = [
        {"licence": "own", "author": "Ada"},
        {"licence": "cc-by-4.0", "author": "Ada"},
        {"licence": "own", "author": "Bo"},
        {"licence": "own", "author": "Ada", **statement},
        {"licence": "own", "author": "Ada", "title": "Lake"},
    ]
    found = []
    for papers in given:
        entries = iter([("a.jpg", lambda: scene(1, 64, 64))])
        found.append(import_collection(Collection("folder", "mine", entries, Papers(papers)), destination(store)))
    assert [(report.new, report.held) for report in found] == [(1, 0), (0, 0), (0, 0), (0, 0), (0, 1)]
    assert [report.conflicts.get("a.jpg", "") for report in found] == [
        "",
        'its papers say licence "cc-by-4.0", folder:mine/a.jpg has "own"',
        'its papers say author "Bo", folder:mine/a.jpg has "Ada"',
        'its papers say permits "train", folder:mine/a.jpg has ""; permission "Do.", folder:mine/a.jpg has ""; '
        'permission_on "2026-05-01", folder:mine/a.jpg has ""',
        "",
    ]
    assert [row["licence"] for row in rows(Path(store))] == ["own"]


def test_the_same_name_with_other_bytes_is_a_conflict(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    papers = Papers({"licence": "own"})
    for seed, expected in ((1, (1, 0, 0)), (1, (0, 1, 0)), (2, (0, 0, 1))):
        entries = iter([("a.jpg", lambda seed=seed: scene(seed, 64, 64))])
        report = importing.import_collection(
            importing.Collection("folder", "mine", entries, papers), destination(store)
        )
        assert (report.new, report.held, len(report.conflicts)) == expected
    assert Shards(store, "photos").read(0)["image"].to_pylist() == [scene(1, 64, 64)]


def test_undecodable_file_names_are_imported_and_printable(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "a.jpg")
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(scene(3, 64, 64))
    (folder / os.fsdecode(b"br\xf6ken.jpg")).write_bytes(b"no picture")
    _, entries = importing.folder(str(folder))
    report = importing.import_collection(
        importing.Collection("folder", "in", entries, Papers({"licence": "own"})),
        destination(tmp_path),
    )
    assert report.new == 2
    assert [*report.failed] == ["br\\udcf6ken.jpg"]
    ids = Shards(str(tmp_path), "photos").read(0, ["id"])["id"].to_pylist()
    assert ids == ["folder:in/a.jpg", "folder:in/caf%E9.jpg"]


def test_a_file_that_opts_out_is_refused_by_name(tmp_path: Path) -> None:
    data = scene(1, 64, 64)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(data[:2] + b"\xff\xfe\0\x10DMI-PROHIBITED" + data[2:])
    for honour, num in ((("metadata",), 0), (("tdmrep",), 1)):
        _, entries = importing.folder(str(tmp_path / "in"))
        store = str(tmp_path / "-".join(honour))
        policy = Policy(honour=honour)
        papers = Papers({"licence": "own"})
        report = importing.import_collection(
            importing.Collection("folder", "in", entries, papers), destination(store), policy=policy
        )
        assert report.new == num
    assert Shards(store, "photos").read(0)["reserved"].to_pylist() == [["metadata"]]


def test_a_permission_is_imported_with_its_statement_or_refused(tmp_path: Path) -> None:
    row = {"licence": "all-rights-reserved", "author": "Jo", "permits": "train redistribute", "permission": "Go ahead"}
    found = Papers({}, {"a.jpg": row}).of("folder", "in", "a.jpg")
    assert (found.permits, found.permission) == (("train", "redistribute"), "Go ahead")
    for wrong, said in (({"permits": ""}, "allows nothing by itself"), ({"permits": "trian"}, 'did you mean "train"')):
        with pytest.raises(InputError, match=said):
            Papers({}, {"a.jpg": row | wrong}).of("folder", "in", "a.jpg")


def test_a_collection_without_pictures_is_an_error(tmp_path: Path) -> None:
    """A folder one level too high, or an archive of texts, is an error."""
    (tmp_path / "photos" / "notes").mkdir(parents=True)
    (tmp_path / "photos" / "notes" / "list.csv").write_text("a,b\n")
    num, entries = importing.folder(str(tmp_path / "photos"))
    assert num == 0
    with pytest.raises(InputError, match="photos: holds no pictures"):
        import_collection(Collection("folder", "photos", entries, OWN), destination(tmp_path / "store"))
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as file:
        file.writestr("readme.md", "nothing here")
    _, entries = importing.archive(str(tmp_path / "texts.zip"))
    with pytest.raises(InputError, match="texts: holds no pictures"):
        import_collection(Collection("zip", "texts", entries, OWN), destination(tmp_path / "store"))
    assert rows(tmp_path / "store") == []
