"""A photo whose bytes change in its shard: named by the filter, fetched again, left out of an export."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.lhq.making import scene
from tests.lhq.typed import Lhq

NUM = 5


@pytest.fixture
def file(tmp_path: Path, lhq: Lhq) -> Path:
    """A pipeline over a folder of five photographs, crawled and filtered."""
    (tmp_path / "pictures").mkdir()
    for number in range(NUM):
        (tmp_path / f"pictures/{number}.jpg").write_bytes(scene(number))
    path = tmp_path / "own.toml"
    path.write_text(f"""
store = "{tmp_path / "store"}"
[source.folder]
path = "pictures"
licence = "own"
author = "Me"
min_side_px = 32
[filter.size]
min_side_px = 100
[export]
variants = ["64"]
publish = "private"
""")
    for command in ("crawl", "filter"):
        done = lhq(command, path)
        assert done.returncode == 0, done.stderr
    return path


def rows(store: Path) -> dict[str, dict[str, object]]:
    return {row["id"]: row for path in store.glob("photos/*.parquet") for row in pq.read_table(path).to_pylist()}


def rot(store: Path) -> str:
    """Change eight bytes in the middle of one photo in its shard; return its id."""
    id, row = sorted(rows(store).items())[2]
    (path,) = store.glob("photos/*.parquet")
    data, image = bytearray(path.read_bytes()), bytes(row["image"])  # type: ignore[call-overload]
    at = data.index(image) + len(image) // 2
    data[at : at + 8] = bytes(byte ^ 0x15 for byte in data[at : at + 8])
    path.write_bytes(data)
    return str(id)


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("room", ["facts/size", "photos"])
def test_a_footer_whose_words_rot_heals_or_is_named(file: Path, tmp_path: Path, lhq: Lhq, room: str, bit: int) -> None:
    """The words of a footer may rot into other letters, or into what is no UTF-8."""
    (path,) = (tmp_path / "store" / room).glob("*.parquet")
    whole, verdicts = path.read_bytes(), (tmp_path / "store/verdicts.parquet").read_bytes()
    word = b'"measure"' if room == "facts/size" else b"lhq.crc32"
    places = [at for at in range(len(whole)) if whole.startswith(word, at)]
    assert places
    for at in places:
        path.write_bytes(whole[: at + 3] + bytes([whole[at + 3] ^ 1 << bit]) + whole[at + 4 :])
        done = lhq("filter", file)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "store/verdicts.parquet").read_bytes() == verdicts
        path.write_bytes(whole)


def test_retry_failed_damaged_restores_the_fetched_bytes(file: Path, tmp_path: Path, lhq: Lhq) -> None:
    store = tmp_path / "store"
    before = rows(store)
    id = rot(store)
    for facts in store.glob("facts/*/*.parquet"):
        facts.unlink()
    found = lhq("filter", file)
    assert found.returncode == 1
    assert f"{id}: damaged: its bytes are not those that were fetched" in found.stderr
    assert f"lhq crawl {file} --retry-failed damaged" in found.stderr
    assert f"kept {NUM - 1}" in found.stdout
    again = lhq("crawl", file, "--retry-failed", "damaged")
    assert again.returncode == 0, again.stderr
    after = rows(store)
    assert {name: row["sha256"] for name, row in after.items()} == {name: row["sha256"] for name, row in before.items()}
    assert all(hashlib.sha256(row["image"]).hexdigest() == row["sha256"] for row in after.values())  # type: ignore[arg-type]
    healed = lhq("filter", file)
    assert (healed.returncode, healed.stderr) == (0, "")
    assert f"kept {NUM}" in healed.stdout


def test_an_export_that_loses_a_damaged_row_exits_with_1(file: Path, tmp_path: Path, lhq: Lhq) -> None:
    """The photo changed on disk after the filter had kept it."""
    id = rot(tmp_path / "store")
    done = lhq("export", file)
    assert done.returncode == 1
    assert f"could not be rendered: {id}: damaged" in done.stderr
    assert "1 rows were left out for damage" in done.stderr
    table = pq.read_table(next((tmp_path / "store/export/data").glob("*.parquet")))
    assert len(table) == NUM - 1
    assert id not in table["id"].to_pylist()


def test_a_photo_excluded_by_settings_is_not_damaged(file: Path, tmp_path: Path, lhq: Lhq) -> None:
    (tmp_path / "pictures/small.jpg").write_bytes(scene(77, 48, 40))
    text = file.read_text().replace("min_side_px = 100", "min_side_px = 32")
    file.write_text(text)
    for command in ("crawl", "filter", "export"):
        done = lhq(command, file)
        assert done.returncode == 0, done.stderr
    assert "could not be rendered" in done.stderr or "would be enlarged" in done.stderr


def test_an_export_again_writes_a_file_anew_whose_bytes_have_changed(file: Path, tmp_path: Path, lhq: Lhq) -> None:
    """Taken over, the changed file would get a hash of its own in `croissant.json`, and nobody would notice."""
    out = tmp_path / "store/export"
    assert lhq("export", file).returncode == 0
    (path,) = (out / "data").glob("*.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    again = lhq("export", file)
    assert (again.returncode, path.read_bytes()) == (0, whole)
    assert "its bytes have changed since it was written; it is written anew" in again.stderr
    assert "shards written 1, as before 0" in again.stderr
    assert lhq("verify", out).returncode == 0
