"""Verdicts on disk, and what every command says if they, or facts, can't be read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from lhq.crawl import FRONTIER
from lhq.crawl.frontier import Frontier
from lhq.errors import ShardDamaged
from lhq.records import VERDICT_SCHEMA
from lhq.store import verdicts
from tests.lhq.typed import Lhq


def test_verdicts_come_back_with_the_settings_that_made_them(tmp_path: Path) -> None:
    assert verdicts.read(str(tmp_path)) is None
    table = VERDICT_SCHEMA.empty_table()
    verdicts.write(str(tmp_path), table, judged_by="these")
    found = verdicts.read(str(tmp_path))
    assert found is not None
    assert found.equals(table)
    assert verdicts.judged_by(found) == "these"
    verdicts.write(str(tmp_path), found)
    again = verdicts.read(str(tmp_path), ["id"])
    assert again is not None
    assert (again.column_names, verdicts.judged_by(again)) == (["id"], "")
    verdicts.write(str(tmp_path), table.select(["id"]))
    with pytest.raises(ShardDamaged, match=r"verdicts.parquet: not readable \(no column reason\)"):
        verdicts.read(str(tmp_path), ["reason"])


def test_no_bit_of_a_footer_rots_unseen(tmp_path: Path) -> None:
    """Pages have checksums, the footer has none: columns came back as bytes, or fewer of them."""
    row = {"id": "s:1", "shard": 0, "kept": True, "reason": "", "score": 0.5, "detail": "", "failed": []}
    rows = [{**row, "id": f"s:{number}"} for number in range(24)]
    verdicts.write(str(tmp_path), pa.Table.from_pylist(rows, VERDICT_SCHEMA))
    path = tmp_path / verdicts.NAME
    whole, columns = path.read_bytes(), ["id", "kept", "reason"]
    sound, num_damaged = verdicts.read(str(tmp_path), columns), 0
    assert sound is not None
    begin = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for at in range(begin, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 128]) + whole[at + 1 :])
        try:
            found = verdicts.read(str(tmp_path), columns)
        except ShardDamaged:
            num_damaged += 1
        else:
            assert found is not None
            assert found.equals(sound), at
    assert num_damaged > 100


def test_damaged_verdicts_and_facts_are_one_line_each(toml: Path, tmp_path: Path, lhq: Lhq) -> None:
    store = tmp_path / "store"
    file = tmp_path / "p.toml"
    shutil.copytree(toml.parent / "store", store)
    file.write_text(toml.read_text().replace(str(toml.parent / "store"), str(store)))
    Frontier(store / FRONTIER).close()

    facts = store / "facts" / "size" / "000002.parquet"
    whole = facts.read_bytes()
    facts.write_bytes(whole[:50])
    done = lhq("export", file, "--variants", "64")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"lhq: {facts}: not readable (")
    assert done.stderr.count("\n") == 1
    facts.write_bytes(whole)

    (store / "verdicts.parquet").write_bytes(b"PAR1")
    for words in (["status", file], ["export", file], ["remove", file, "flickr:p1", "--erase"]):
        done = lhq(*words)
        assert done.returncode == 1, words
        line = next(line for line in done.stderr.splitlines() if line.startswith("lhq: "))
        assert line.startswith(f"lhq: {store / 'verdicts.parquet'}: not readable ("), words
        assert line.endswith("; run lhq filter again: it writes a new one"), words

    shown = lhq("show", "flickr:p2", file)
    assert shown.returncode == 0, "one photo can be judged anew"
    assert lhq("filter", file, "--judge-only").returncode == 0
    assert "judged" in lhq("status", file).stdout


def test_an_unwritable_image_path_is_one_line(toml: Path, tmp_path: Path, lhq: Lhq) -> None:
    (tmp_path / "file").write_text("in the way")
    done = lhq("show", "flickr:p2", toml, "--image", tmp_path / "file" / "p.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"lhq: {tmp_path / 'file' / 'p.jpg'}: can't be written (")
    assert done.stderr.endswith("; give another place with --image\n")


def test_queries_that_are_not_utf_8_are_one_line(tmp_path: Path, lhq: Lhq) -> None:
    (tmp_path / "q.txt").write_bytes("Café".encode("latin-1"))
    (tmp_path / "p.toml").write_text(f'store = "{tmp_path}/s"\nwant = 1\nqueries = "{tmp_path}/q.txt"\n')
    done = lhq("status", tmp_path / "p.toml")
    assert done.returncode == 2
    assert f"{tmp_path}/q.txt is not UTF-8" in done.stderr
    assert done.stderr.count("\n") == 1
