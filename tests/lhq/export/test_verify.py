"""Verify finds and names what is wrong in a dataset's folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhq.engines.local import Local
from lhq.errors import InputError
from lhq.export import ExportSettings, export
from lhq.export.verify import verify
from tests.lhq.making import RIGHTS, Here, painted_store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("whole")
    store = painted_store(at / "store", 24)
    settings = ExportSettings(to=str(at / "out"), variants=("64", "32-png"), validation=0.2, shard_mb=0.02)
    export(str(store), settings, rights_of=RIGHTS, engine=Here())
    return at / "out"


def test_a_whole_folder_has_no_problems(whole: Path) -> None:
    report = verify(str(whole), engine=Local(2))
    assert report.problems == []
    assert (report.num_rows, report.num_pictures) == (24, 48)
    assert report.num_files == len(list(whole.rglob("data*/*.parquet")))


def one_file(out: Path) -> Path:
    return min((out / "data").glob("train-*"))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def flip_a_picture_byte(out: Path) -> None:
    path = one_file(out)
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(0)
    data[column.data_page_offset + column.total_compressed_size - 40] ^= 0xFF
    path.write_bytes(data)


def drop_a_row(out: Path) -> None:
    rewrite(one_file(out), lambda table: table.slice(1))


def repeat_a_row(out: Path) -> None:
    rewrite(one_file(out), lambda table: pa.concat_tables([table, table.slice(0, 1)]))


def change_a_licence(out: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        at = table.column_names.index("licence")
        return table.set_column(at, table.schema.field("licence"), pa.array(["cc0-1.0"] * len(table)))

    rewrite(one_file(out), change)


def drop_a_column(out: Path) -> None:
    rewrite(one_file(out), lambda table: table.drop_columns(["author"]))


def lose_a_file(out: Path) -> None:
    one_file(out).unlink()


def tear_a_file(out: Path) -> None:
    path = one_file(out)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def move_to_the_other_split(out: Path) -> None:
    path = one_file(out)
    path.rename(path.with_name(path.name.replace("train", "validation").replace("00000-of", "00007-of")))


def add_a_stray(out: Path) -> None:
    (out / "data" / "notes.txt").write_text("?")


def lose_the_card(out: Path) -> None:
    (out / "README.md").unlink()


def lose_the_credits(out: Path) -> None:
    (out / "CREDITS.parquet").unlink()


def change_the_manifest(out: Path) -> None:
    rewrite(out / "manifest.parquet", lambda table: table.slice(0, len(table) - 1))


def rename_on_the_card(out: Path) -> None:
    in_text(out / "README.md", "pretty_name: Landscapes", "pretty_name: Seascapes")


def add_to_the_card(out: Path) -> None:
    in_text(out / "README.md", "## Licences", "All of it is in the public domain.\n\n## Licences")


def relicense_the_card(out: Path) -> None:
    in_text(out / "README.md", "license: cc-by-2.0", "license: cc0-1.0")
    sign(out)


def rename_in_croissant(out: Path) -> None:
    in_text(out / "croissant.json", '"name": "Landscapes"', '"name": "Seascapes"')


def rename_in_croissant_with_its_hash(out: Path) -> None:
    rename_in_croissant(out)
    sign(out)


def relicense_in_croissant(out: Path) -> None:
    in_text(out / "croissant.json", "licenses/by/2.0/", "publicdomain/zero/1.0/")


def relicense_in_croissant_with_its_hash(out: Path) -> None:
    relicense_in_croissant(out)
    sign(out)


def reword_what_it_is_for(out: Path) -> None:
    in_text(out / "croissant.json", "Training and measuring generative models", "Anything you like")


def word_a_credit_otherwise(out: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        at = table.column_names.index("attribution")
        return table.set_column(at, table.schema.field("attribution"), pa.array(["by Me"] * len(table)))

    rewrite(out / "CREDITS.parquet", change)


def credit_somebody_else(out: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        other = table.slice(0, 1).set_column(0, table.schema.field("id"), pa.array(["flickr:gone"]))
        return pa.concat_tables([table, other])

    rewrite(out / "CREDITS.parquet", change)


def in_text(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def sign(out: Path) -> None:
    """Update the card's signature, as someone who knows how it is computed could."""
    path = out / "README.md"
    text = path.read_text(encoding="utf-8").rpartition("\n<!-- written by")[0]
    sha256 = hashlib.sha256((out / "croissant.json").read_bytes()).hexdigest()
    text = re.sub(r"(croissant\.json: )[0-9a-f]{64}", rf"\g<1>{sha256}", text)
    mark = hashlib.sha256(text.encode()).hexdigest()[:16]
    path.write_text(f"{text}\n<!-- written by lhq export: {mark} -->\n", encoding="utf-8")


def cut_the_card(out: Path) -> None:
    """Its end, where the hash is, is missing."""
    path = out / "README.md"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def point_outside(out: Path) -> None:
    described = json.loads((out / "croissant.json").read_text())
    described["distribution"][0]["contentUrl"] = "../../../etc/passwd"
    (out / "croissant.json").write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flip_a_picture_byte, "could not verify page integrity"),
        (drop_a_row, "rows said, "),
        (repeat_a_row, ": twice"),
        (change_a_licence, "licence is 'cc0-1.0', in the manifest 'cc-by-2.0'"),
        (drop_a_column, "no column author"),
        (lose_a_file, "train-00000-of-"),
        (tear_a_file, "not readable"),
        (move_to_the_other_split, "its split is train"),
        (add_a_stray, "data/notes.txt: not a data file"),
        (lose_the_card, "README.md: missing"),
        (lose_the_credits, "CREDITS.parquet: missing"),
        (change_the_manifest, "not in the manifest"),
        (point_outside, "lies outside the folder"),
        (rename_on_the_card, "README.md: changed since lhq export wrote it"),
        (add_to_the_card, "README.md: changed since lhq export wrote it"),
        (cut_the_card, "README.md: changed since lhq export wrote it"),
        (relicense_the_card, "README.md: license is 'cc0-1.0', that of the rows is 'cc-by-2.0'"),
        (rename_in_croissant, "croissant.json: its sha256 is not the one in README.md"),
        (rename_in_croissant_with_its_hash, "croissant.json: name is 'Seascapes', on the card 'Landscapes'"),
        (relicense_in_croissant, "croissant.json: its sha256 is not the one in README.md"),
        (relicense_in_croissant_with_its_hash, "not that of the rows (cc-by-2.0)"),
        (reword_what_it_is_for, "croissant.json: its sha256 is not the one in README.md"),
        (word_a_credit_otherwise, "attribution is 'by Me'"),
        (credit_somebody_else, "1 credits are of no row, for instance flickr:gone"),
    ],
)
def test_damage_is_found_and_named(whole: Path, tmp_path: Path, harm: Callable[[Path], None], said: str) -> None:
    out = shutil.copytree(whole, tmp_path / "out")
    harm(out)
    problems = verify(str(out), engine=Here()).problems
    assert any(said in problem for problem in problems), problems


def test_no_dataset_to_verify(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        verify(str(tmp_path / "nowhere"), engine=Here())
    with pytest.raises(InputError, match=r"manifest\.parquet: not there"):
        verify(str(tmp_path), engine=Here())
