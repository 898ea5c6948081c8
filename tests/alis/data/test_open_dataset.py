"""Kinds of datasets: an export's variants, a folder or zip of photographs, a store; and changed files."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alis.data import Loader, RankSlice, ReadOptions, content_fingerprint, open_catalogue
from alis.errors import InputError
from tests.alis import sets

ROOT = Path(__file__).parents[3]


def variant(folder: Path, name: str, size: int | tuple[int, int], *, says_sides: bool = True, num: int = 40) -> None:
    """One variant of an export, with or without the columns of its pictures' sizes."""
    width, height = size if isinstance(size, tuple) else (size, size)
    picture = sets.encoded(np.zeros((height, width, 3), np.uint8))
    columns: dict[str, list[object]] = {"id": [f"{name}:{i}" for i in range(num)]}
    columns["image"] = [{"bytes": picture, "path": f"{i}.png"} for i in range(num)]
    if says_sides:
        columns |= {"image_width_px": [width] * num, "image_height_px": [height] * num}
    (folder / name).mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / name / "train-00000-of-00001.parquet", row_group_size=20)


@pytest.mark.parametrize("says_sides", [True, False])
@pytest.mark.parametrize(
    ("side", "folder"),
    [(32, "data"), (16, "data-16"), (8, "data-16"), (24, "data"), (64, "data-full"), (128, "data-full")],
)
def test_the_variant_of_the_frames_side_is_read(
    says_sides: bool, side: int, folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The frames' own side; else the next larger one; else photographs at their original sizes."""
    for name, size in (("data", 32), ("data-16", 16), ("data-full", (90, 60))):
        variant(tmp_path, name, size, says_sides=says_sides)
    with caplog.at_level(logging.INFO, "alis"):
        found = open_catalogue(str(tmp_path), side=side)
    assert {Path(file).parent.name for file in found.files} == {folder}
    assert f"reading {folder}/ of" in caplog.text
    assert "its variants: " in caplog.text
    is_resized = folder != "data-full" and side not in {32, 16}
    assert (f"must be resized to {side} px" in caplog.text) == is_resized


def test_a_variant_by_name_and_an_unknown_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, size in (("data", 32), ("data-16-png", 16)):
        variant(tmp_path, name, size)
    for name, folder in (("16-png", "data-16-png"), ("32", "data"), ("data", "data")):
        assert Path(open_catalogue(str(tmp_path), side=16, variant=name).files[0]).parent.name == folder
    with pytest.raises(InputError, match=r"no variant '64'; --data.variant takes 16-png, 32"):
        open_catalogue(str(tmp_path), side=16, variant="64")
    sets.write(tmp_path / "plain", 10)
    (tmp_path / "plain" / "data").rename(tmp_path / "plain" / "images")
    with pytest.raises(InputError, match="has no variants"):
        open_catalogue(str(tmp_path / "plain"), variant="64")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "alis"):
        open_catalogue(str(tmp_path), side=32)
    assert caplog.text == "", "nothing is to be said of the right size"


def photographs(folder: Path, num: int = 40) -> None:
    """Numbered pictures in nested folders, and other files that are often beside photographs."""
    for number in range(num):
        path = folder / f"{number % 3}" / f"{number:03d}.{('png', 'PNG')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sets.numbered(number, 16))
    (folder / "notes.txt").write_text("lake, morning")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "a.png").write_bytes(sets.numbered(999, 16))
    (folder / "empty.jpg").write_bytes(b"")


def test_a_folder_and_a_zip_of_photographs_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "photos"
    photographs(folder)
    packed = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
    for address in (str(folder), packed):
        with caplog.at_level(logging.WARNING, "alis"):
            data = open_catalogue(address, side=16)
        assert data.num_images == 40
        assert "1 files are empty" in caplog.text
        with Loader(data, 16, RankSlice(4, 4), ReadOptions(num_lanes=1), stop=40) as loader:
            seen = [sets.number_of(picture) for batch in loader for picture in batch.numpy()]
            assert loader.num_bad == 0
        assert sorted(seen) == list(range(40))


def test_bad_pictures_in_a_folder_and_a_zip_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "photos"
    photographs(folder)
    (folder / "words.jpg").write_bytes(b"not a picture")
    (folder / "page.jpg").write_bytes(b"<!DOCTYPE html><title>404</title>")
    packed = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", folder))
    data = open_catalogue(str(folder))
    (folder / "1" / "001.PNG").unlink()
    with caplog.at_level(logging.WARNING, "alis"), Loader(data, 16, RankSlice(4, 4), stop=40) as loader:
        assert sum(len(batch) for batch in loader) == 40
        assert loader.num_bad == 3
    assert f"bad image left out: {folder}/words.jpg: not a picture of a format that is read\n" in caplog.text
    assert f"bad image left out: {folder}/page.jpg: markup, not a picture of a format that is read\n" in caplog.text
    assert f"bad image left out: {folder}/1/001.PNG: " in caplog.text
    caplog.clear()
    raw = bytearray(packed.read_bytes())
    at = raw.index(b"002.png") + 60  # inside the first member of that name
    raw[at] ^= 0xFF
    packed.write_bytes(raw)
    with (
        caplog.at_level(logging.WARNING, "alis"),
        Loader(open_catalogue(str(packed)), 16, RankSlice(4, 4), stop=40) as loader,
    ):
        assert sum(len(batch) for batch in loader) == 40
    assert f"bad image left out: {packed}: 2/002.png: " in caplog.text


def test_large_pictures_are_read_a_few_at_once(tmp_path: Path) -> None:
    photographs(tmp_path / "photos")
    before = open_catalogue(str(tmp_path / "photos"))
    assert before.group_rows.tolist() == [32, 8]
    for number in (0, 6, 12, 18):
        with open(tmp_path / f"photos/0/{number:03d}.png", "ab") as file:
            file.truncate(30 * 2**20)
    data = open_catalogue(str(tmp_path / "photos"))
    assert data.num_images == 40
    assert data.group_bytes.max() <= 64 * 2**20
    assert data.group_rows.sum() == 40
    assert data.fingerprint != before.fingerprint


def test_a_zip_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_catalogue(str(tmp_path / "gone.zip"))
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(InputError, match="not a readable zip"):
        open_catalogue(str(tmp_path / "bad.zip"))
    with zipfile.ZipFile(tmp_path / "words.zip", "w") as archive:
        archive.writestr("readme.txt", "words")
    with pytest.raises(InputError, match=r"no pictures in it; pictures end with \.jpg"):
        open_catalogue(str(tmp_path / "words.zip"))
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "readme.txt").write_text("words")
    with pytest.raises(InputError, match=r"no Parquet files and no pictures there; .*a folder or zip of pictures"):
        open_catalogue(str(tmp_path / "words"))


@pytest.mark.parametrize("beside", ["frontier.sqlite", "verdicts.parquet", "crawl.lock", "facts/x.txt"])
def test_a_store_is_refused_with_the_commands_to_export_it(beside: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    variant(store, "photos", 32)
    (store / "photos" / "train-00000-of-00001.parquet").rename(store / "photos" / "000000.parquet")
    assert open_catalogue(str(store)).num_images == 40, "a name alone makes no store"
    (store / beside).parent.mkdir(exist_ok=True)
    (store / beside).write_bytes(b"")
    with pytest.raises(InputError, match=r"is a store of lhq.*lhq filter PIPELINE and lhq export PIPELINE"):
        open_catalogue(str(store))
    variant(store / "export", "data", 32)
    with pytest.raises(InputError, match=rf"train on its export: --data {store}/export$"):
        open_catalogue(str(store))
    assert open_catalogue(str(store / "export")).num_images == 40


def test_content_is_hashed_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path / "cache"))
    folder = sets.write(tmp_path / "set", 40)
    (file,) = (folder / "data").iterdir()
    first = content_fingerprint(open_catalogue(str(folder)))
    assert not (tmp_path / "cache").exists(), "a file written just now may change within one tick of the clock"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    times = file.stat()
    with file.open("r+b") as opened:
        opened.write(raw)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content_fingerprint(open_catalogue(str(folder))) != first, "one byte, the same size and time"
    photographs(tmp_path / "photos")
    before = content_fingerprint(open_catalogue(str(tmp_path / "photos")))
    assert content_fingerprint(open_catalogue(str(tmp_path / "photos"))) == before
    (tmp_path / "photos" / "0" / "000.png").write_bytes(sets.numbered(7, 16))
    assert content_fingerprint(open_catalogue(str(tmp_path / "photos"))) != before


def test_a_rotten_note_of_a_hash_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path))
    monkeypatch.setattr("alis.data.fingerprint._SETTLED_S", -9e9)
    catalogue = open_catalogue(str(sets.write(tmp_path / "set", 40)))
    first = content_fingerprint(catalogue)
    notes = list((tmp_path / "content").iterdir())
    assert len(notes) == len(catalogue.files)
    for note in notes:
        table = json.loads(note.read_text())
        note.write_text(json.dumps({**table, "hash": table["hash"][::-1]}))
    assert content_fingerprint(catalogue) == first


def test_the_command_logs_which_variant_is_read(tmp_path: Path) -> None:
    for name, size in (("data", 32), ("data-16", 16)):
        variant(tmp_path / "export", name, size)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [
        sys.executable,
        "-m",
        "alis",
        "train",
        "--config",
        "tiny",
        "--model.resolution",
        "16",
        "--dry-run",
        "--data",
    ]
    done = subprocess.run(
        [*line, str(tmp_path / "export")], env=environment, capture_output=True, text=True, check=True
    )
    assert "reading data-16/ of" in done.stderr
    assert json.loads(done.stdout)["data"]["num_images"] == 40
