"""Shards with wrong bytes are quarantined; those unreadable for another reason stay."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhq.errors import ShardDamaged
from lhq.filter.damage import is_damage
from tests.lhq.filter.running import ROOT, run


@pytest.mark.parametrize("harm", ["cut", "foreign", "empty", "other columns"])
def test_a_damaged_shard_is_quarantined_and_the_rest_is_processed(store: Path, harm: str) -> None:
    path = store / "photos/000003.parquet"
    data = path.read_bytes()
    if harm == "other columns":
        pq.write_table(pq.read_table(store / "photos/000000.parquet", columns=["id", "url"]), path)
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "foreign": b"hello" * 100, "empty": b""}[harm])
    done = run(store)
    assert [report.key for report in done.failed] == ["000003"]
    assert "000003.parquet" in done.failed[0].error
    assert done.quarantined == [str(store / "quarantine/photos/000003.parquet")]
    assert (store / "quarantine/photos/000003.parquet").exists()
    assert not path.exists()
    assert done.num_photos == 3
    assert run(store).failed == []


def test_damage_of_a_measured_shard_is_found_when_judging(store: Path) -> None:
    run(store)
    (store / "photos/000003.parquet").write_bytes(b"damaged")
    done = run(store, judge_only=True)
    assert ([report.key for report in done.failed], done.num_photos) == (["000003"], 3)
    assert (store / "quarantine/photos/000003.parquet").exists()


def test_a_flipped_bit_in_a_page_is_damage(store: Path) -> None:
    """Bytes inside a column are overwritten: the footer still reads."""
    path = store / "photos/000003.parquet"
    metadata = pq.read_metadata(path)
    where = {metadata.row_group(0).column(n).path_in_schema: n for n in range(metadata.num_columns)}
    column = metadata.row_group(0).column(where["id"])
    at = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(path.read_bytes())
    data[at : at + 24] = os.urandom(24)
    path.write_bytes(data)
    assert [report.key for report in run(store).failed] == ["000003"]


LOCKED_OUT = """
import os, sys
from lhq import filter
from lhq.errors import ShardDamaged
from tests.lhq.filter.running import rules
from tests.lhq.making import Here

before, store = sys.argv[1:]
filter.run(before, rules(), Here())  # all that will be imported is imported while everything may be read
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)  # nobody: root may read what its owner may not
try:
    filter.run(store, rules(), Here())
except ShardDamaged as error:
    print(error)
"""


def test_a_shard_without_read_permission_is_not_quarantined(store: Path) -> None:
    """Whoever runs the filter lacks the permission: that is said, the other shard is measured, nothing is moved to
    quarantine, and verdicts of half the photos do not take the place of whole ones."""
    with tempfile.TemporaryDirectory() as open_to_all:
        other = Path(shutil.copytree(store, Path(open_to_all) / "store"))
        for place in (Path(open_to_all), other, *other.rglob("*")):
            place.chmod(0o777)
        locked = other / "photos/000003.parquet"
        whole = locked.read_bytes()
        locked.chmod(0)
        command = [sys.executable, "-c", LOCKED_OUT, str(store), str(other)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"{locked}: not readable" in done.stdout
        assert "ermission denied" in done.stdout
        assert [path.name for path in (other / "facts/size").iterdir()] == ["000000.parquet"]
        assert not (other / "verdicts.parquet").exists()
        locked.chmod(0o600)
        assert locked.read_bytes() == whole
        assert not (other / "quarantine").exists()


@pytest.mark.parametrize(
    ("cause", "damaged"),
    [
        (pa.ArrowInvalid("Parquet magic bytes not found"), True),
        (OSError("Corrupt snappy compressed data."), True),
        (PermissionError("Forbidden"), False),
        (OSError(errno.EMFILE, "Too many open files"), False),
        (OSError(errno.EIO, "Input/output error"), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
    ],
)
def test_only_wrong_bytes_are_damage(cause: Exception, damaged: bool) -> None:
    error = ShardDamaged("photos/000001.parquet: not readable", hint="")
    error.__cause__ = cause
    assert is_damage(error) is damaged


def test_no_verdicts_are_written_if_every_shard_is_damaged(store: Path) -> None:
    for number in (0, 3):
        (store / f"photos/{number:06d}.parquet").write_bytes(b"")
    done = run(store)
    assert (done.num_photos, len(done.failed)) == (0, 2)
    assert pq.read_table(store / "verdicts.parquet").num_rows == 0
