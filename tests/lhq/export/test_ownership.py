"""No file that lhq didn't write is changed, whatever its name; a conflict is an error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhq.errors import InputError
from lhq.export import ExportReport, ExportSettings, archives, export, previous
from lhq.progress import silent
from lhq.takedown.erase import erase
from lhq.takedown.remove import remove
from tests.lhq.making import RIGHTS, Here, files, painted_store


def run(store: Path, to: Path, **settings: Any) -> ExportReport:
    given = {"variants": ("32",), "validation": 0.3, **settings}
    return export(str(store), ExportSettings(to=str(to), **given), rights_of=RIGHTS, engine=Here())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, and a dataset of it in `out`."""
    root = tmp_path_factory.mktemp("made")
    run(painted_store(root / "store", 4), root / "out")
    return root


def write(path: Path, words: str = "years of work") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(words)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit_the_card(out: Path) -> None:
    with (out / "README.md").open("a") as file:
        file.write("\nMy own words.\n")


def a_foreign_manifest(out: Path) -> None:
    shutil.rmtree(out)
    write(out / "data" / "train-00000-of-00001.parquet")
    pq.write_table(pa.table({"id": ["flickr:0001"]}), out / "manifest.parquet")


def a_foreign_table(out: Path) -> None:
    pq.write_table(pa.table({"id": ["flickr:0001"]}), out / "data" / "train-00009-of-00010.parquet")


def link(at: Path, to: Path) -> None:
    to.mkdir(exist_ok=True)
    write(to / "thesis.txt")
    if at.is_dir():
        shutil.rmtree(at)
    at.symlink_to(to)


IN_THE_WAY: dict[str, Callable[[Path], None]] = {
    "out.part": lambda out: write(out.with_name("out.part") / "thesis.txt"),
    "out.part/.work": lambda out: write(out.with_name("out.part") / ".work" / "32" / "thesis.txt"),
    "out.part is a file": lambda out: write(out.with_name("out.part")),
    "out.part is a link": lambda out: link(out.with_name("out.part"), out.with_name("mine")),
    "out.part in a part of ours": lambda out: write(out.with_name("out.part") / "data" / "thesis.txt"),
    "out.old": lambda out: write(out.with_name("out.old") / "thesis.txt"),
    "out.old is a file": lambda out: write(out.with_name("out.old")),
    "out.old is a link": lambda out: link(out.with_name("out.old"), out.with_name("mine")),
    "out.old holds more than ours": lambda out: write(
        Path(shutil.copytree(out, out.with_name("out.old"))) / "thesis.txt"
    ),
    "data/thesis.txt": lambda out: write(out / "data" / "thesis.txt"),
    "data/mine.parquet": lambda out: write(out / "data" / "mine.parquet"),
    "a table under a name of ours": a_foreign_table,
    "data/….part": lambda out: write(out / "data" / "train-00000-of-00001.parquet.0123abcd.part"),
    "data-16 of somebody": lambda out: write(out / "data-16" / "thesis.txt"),
    "data is a link": lambda out: link(out / "data", out.with_name("mine")),
    "an edited card": edit_the_card,
    "an edited croissant.json": lambda out: write(
        out / "croissant.json", (out / "croissant.json").read_text().replace('"Landscapes"', '"Mine"')
    ),
    "edited credits": lambda out: write(out / "CREDITS.md"),
    "a manifest cut short": lambda out: cut(out / "manifest.parquet"),
    "a data file cut short": lambda out: cut(next((out / "data").glob("train*.parquet"))),
    "a foreign manifest": a_foreign_manifest,
    "no dataset": lambda out: (shutil.rmtree(out), write(out / "thesis.txt"))[-1],
    "a file": lambda out: (shutil.rmtree(out), write(out))[-1],
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_what_is_in_the_way_is_named_before_work_begins(made: Path, tmp_path: Path, name: str) -> None:
    out = Path(shutil.copytree(made / "out", tmp_path / "out"))
    IN_THE_WAY[name](out)
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"out") as caught:
        run(made / "store", out, variants=("32", "16"))
    assert files(tmp_path) == before
    changed = {"an edited card", "an edited croissant.json", "edited credits", "a manifest cut short"}
    is_changed = name in changed | {"a data file cut short"}
    assert ("changed since lhq wrote it" in str(caught.value)) == is_changed
    named = ("thesis", "mine", "README", "CREDITS", "croissant", "train", "out")
    assert any(word in str(caught.value) for word in named)


def test_what_others_put_beside_it_stays(made: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(made / "out", tmp_path / "out"))
    theirs = [out / "data-notes" / "thesis.txt", out / ".git" / "HEAD", out / "notes.txt", out / "database" / "x"]
    theirs += [out / "README.md.part", out / "manifest.parquet.0123abcd.part"]
    theirs += [out / ".work" / "thesis.txt", out / ".work" / "32" / "notes.json"]
    for path in theirs:
        write(path)
    (out / "link").symlink_to(tmp_path)
    run(made / "store", out, variants=("32", "16"))
    run(made / "store", out, variants=("16",))
    assert all(path.read_text() == "years of work" for path in theirs)
    assert os.readlink(out / "link") == str(tmp_path)
    assert not (out / "data-16").exists()
    assert not list(tmp_path.glob("out.*"))


def test_a_link_to_the_folder_stays_one(made: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "real")
    for _ in range(2):
        assert run(made / "store", tmp_path / "out").num_rows == 4
        assert (tmp_path / "out").is_symlink()
        assert (tmp_path / "disk" / "real" / "manifest.parquet").is_file()
    assert files(tmp_path / "disk" / "real") == files(made / "out")


def test_a_dataset_and_a_part_of_an_older_version_are_ours(made: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(made / "out", tmp_path / "out"))
    text = (out / "README.md").read_text()
    (out / "README.md").write_text(text[: text.index("\n<!-- written by")])  # cards were not signed
    table = pq.read_table(out / "manifest.parquet").drop_columns(["permits"])
    old = out / "manifest.parquet"
    pq.write_table(table, old)
    described = (out / "croissant.json").read_text()
    was = previous.listed(str(out / "croissant.json"))["manifest.parquet"]
    (out / "croissant.json").write_text(described.replace(was, files(out)["manifest.parquet"]))
    part = tmp_path / "out.part"
    shutil.copytree(out / "data", part / "data")
    write(part / ".work" / "32" / "000000-0000.json", "{}")
    assert run(made / "store", out).num_rows == 4
    assert files(out) == files(made / "out")


@pytest.mark.parametrize("format", ["zip", "webdataset"])
def test_archives_replace_archives_of_ours_alone(made: Path, tmp_path: Path, format: archives.Format) -> None:
    out = shutil.copytree(made / "out", tmp_path / "out")
    to = Path(archives.write(str(out), {"32": "data"}, format, silent))
    write(to / "mine-train.tar")
    write(to / "mine-train.zip")
    assert archives.write(str(out), {"32": "data"}, format, silent) == str(to)
    assert (to / "mine-train.tar").read_text() == (to / "mine-train.zip").read_text() == "years of work"
    ours = next(to.glob("32-train*"))
    ours.write_text("changed")
    with pytest.raises(InputError, match=ours.name):
        archives.write(str(out), {"32": "data"}, format, silent)
    assert ours.read_text() == "changed"
    shutil.rmtree(to)
    write(to / ours.name)
    with pytest.raises(InputError, match="not archives that lhq export wrote"):
        archives.write(str(out), {"32": "data"}, format, silent)


@pytest.mark.parametrize("erased", [False, True])
def test_when_the_last_photos_go_the_dataset_goes_but_nothing_else(tmp_path: Path, erased: bool) -> None:
    store = painted_store(tmp_path / "store", 3)
    out = tmp_path / "out"
    run(store, out)
    archives.write(str(out), {"32": "data"}, "zip", silent)
    write(out / "notes.txt")
    remove(str(store), [f"flickr:{n:04d}" for n in range(3)])
    if erased:
        erase(str(store), str(store))
    report = run(store, out)
    assert (report.num_rows, report.is_withdrawn) == (0, True)
    assert files(out) == {"notes.txt": files(out)["notes.txt"]}
    assert not (tmp_path / "out-zip").exists()
    with pytest.raises(InputError, match="not a dataset that lhq export wrote"):
        run(painted_store(tmp_path / "store", 3, first=9, shard=1), out)
