"""A permission by itself: its words, its statement, its day; as a setting and as columns of a table of papers."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhq.errors import RightsRefused
from lhq.export import ExportSettings, export
from lhq.records import ADDED, PHOTO_SCHEMA
from lhq.rights.permissions import PERMITS, Permission, check_permit, from_columns
from lhq.rights.policy import Policy
from lhq.store.shards import Shards
from tests.lhq.making import RIGHTS, Here, add_shard, judge, photo, scene

COLUMNS = {
    "permits": "redistribute, train",
    "permission": " Do learn from them. ",
    "permission_by": " Ann ",
    "permission_on": " 2026-05-01 ",
}


def test_columns_become_papers() -> None:
    assert from_columns(COLUMNS) == {
        "permits": ("train", "redistribute"),
        "permission": "Do learn from them.",
        "permission_by": "Ann",
        "permission_on": "2026-05-01",
    }


@pytest.mark.parametrize("without", [{}, {"permission_on": ""}, {"permission_on": "  "}])
def test_a_permissions_date_is_optional(without: dict[str, str]) -> None:
    row = {name: value for name, value in COLUMNS.items() if name != "permission_on"} | without
    assert from_columns(row)["permission_on"] == ""


def test_an_invalid_date_is_refused() -> None:
    with pytest.raises(ValueError, match="1 May"):
        from_columns(COLUMNS | {"permission_on": "1 May"})


def test_a_future_date_is_refused() -> None:
    with pytest.raises(ValueError, match="a permission counts once it was given, and 2999-01-01 is still to come"):
        from_columns(COLUMNS | {"permission_on": "2999-01-01"})


def test_a_setting_and_a_table_row_give_the_same_permission() -> None:
    said = Permission(
        permits=("redistribute", "train"), statement="Do learn from them.", by="Ann", on=datetime.date(2026, 5, 1)
    )
    assert said.papers() == from_columns(COLUMNS)


@pytest.mark.parametrize("word", PERMITS)
def test_known_permits_are_accepted(word: str) -> None:
    check_permit(word)
    assert from_columns(COLUMNS | {"permits": word})["permits"] == (word,)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trian", 'permits = "trian": did you mean "train"'),
        ("Train", 'did you mean "train"'),
        ("everything", 'permits = "everything": known words: train, redistribute, commercial, adapt'),
    ],
)
def test_unknown_permits_are_refused(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_permit(word)
    with pytest.raises(ValueError, match=said):
        from_columns(COLUMNS | {"permits": f"train {word}"})


def old_store(at: Path) -> Path:
    """A store of a version whose permissions were sentences: without the columns of today's."""
    said = "Unsplash wrote us that publishing the pictures is prohibited, training is fine"
    rows = [photo(scene(n), f"{n}", "unsplash", "unsplash", permission=said) for n in range(2)]
    rows.append(photo(scene(2), "2", "folder", "all-rights-reserved", permission="Do as you like"))
    table = pa.Table.from_pylist(rows, PHOTO_SCHEMA).drop_columns([name for name in ADDED if name != "permission"])
    Shards(str(at), "photos").write(0, table)
    judge(at)
    return at


def exported(
    store: Path, policy: Policy, publish: Literal["private", "bytes"] = "private"
) -> dict[str, dict[str, Any]]:
    to = store.with_name(f"set-{publish}")
    settings = ExportSettings(to=str(to), variants=("32",), validation=0, publish=publish)
    export(str(store), settings, rights_of=RIGHTS, engine=Here(), policy=policy)
    return {row["id"]: row for row in pq.read_table(to / "manifest.parquet").to_pylist()}


def test_a_prose_permission_in_an_old_store_allows_nothing(tmp_path: Path) -> None:
    store = old_store(tmp_path / "store")
    with pytest.raises(RightsRefused) as caught:
        exported(store, Policy())
    assert "machines may not learn from 3 kept photos" in caught.value.message
    for part in ("“Do as you like”", "[source.folder] and [source.unsplash]", 'permission = { permits = ["train"]'):
        assert part in caught.value.hint
    assert not store.with_name("set-private").exists()
    train = Permission(permits=("train",), statement="You may train on them.", by="Unsplash")
    own = Permission(permits=("train", "redistribute"), statement="Do as you like", by="Jo")
    rows = exported(store, Policy(permissions={"unsplash": train, "folder": own}))
    assert [rows[f"unsplash:{n}"]["permission"] for n in range(2)] == ["You may train on them."] * 2
    assert rows["folder:2"]["permits"] == ["train", "redistribute"]
    with pytest.raises(RightsRefused, match="2 rows may not be handed on: 2 of source unsplash"):
        exported(store, Policy(permissions={"unsplash": train, "folder": own}), "bytes")
    with pytest.raises(RightsRefused, match=r"machines may not learn from 1.*\[source.folder\]: permission"):
        exported(store, Policy(permissions={"unsplash": train}))


def test_photos_whose_prose_permission_no_setting_replaces_must_be_removed(tmp_path: Path) -> None:
    add_shard(tmp_path / "store", 0, [photo(scene(1), "1", "flickr", "all-rights-reserved", permission="Go ahead")])
    judge(tmp_path / "store")
    with pytest.raises(RightsRefused, match="lhq remove ID"):
        exported(tmp_path / "store", Policy())
