"""What may be done with a photo: every source × licence × permission × mode × variant against a table written by hand.

The table is the page of rights in other words. It shares no line with the code it checks: for each source and each
kind of licence it says what may be learnt from, handed on whole, and handed on as a square.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lhq.errors import InputError, RightsRefused
from lhq.export import ExportSettings, export
from lhq.pipeline.registry import SourceRights
from tests.lhq.making import Here, add_shard, judge, photo, scene

KINDS = {
    "free": "cc0-1.0",
    "by": "cc-by-4.0",
    "nc": "cc-by-nc-2.0",
    "nd": "cc-by-nd-3.0",
    "port": "cc-by-sa-3.0-de",
    "old-nd": "cc-by-nc-nd-1.0",
    "nkr": "nkr",
    "us": "us-gov",
    "own": "own",
    "unsplash": "unsplash",
    "none": "not-stated",
    "closed": "all-rights-reserved",
}
PERMISSIONS = ("", "train", "redistribute", "train redistribute", "train redistribute adapt", "prose")

# L: may be learnt from; W: may be handed on whole; S: handed on as a square. By source, without a permission.
OPEN = {"free": "LWS", "by": "LWS", "nc": "LWS", "nd": "LW", "port": "LWS", "old-nd": "LW", "nkr": "LWS", "us": "LWS"}
BY_LICENCE = {**OPEN, "own": "LWS", "unsplash": "L", "none": "", "closed": ""}
BY_WORD = {**OPEN, "own": "LWS", "unsplash": "L", "none": "L", "closed": ""}
ALONE = {
    "flickr": BY_LICENCE,
    "commons": BY_LICENCE,
    "folder": BY_WORD,
    "zip": BY_WORD,
    "unsplash": dict.fromkeys(KINDS, ""),
    "unsplash_dataset": {**dict.fromkeys(KINDS, "L"), "closed": ""},
    "lsun": {**dict.fromkeys(KINDS, "L"), "closed": ""},
}
NEVER_HANDED_ON = {"unsplash_dataset", "lsun"}
MAY_BE_CHANGED = {"free", "by", "nc", "port", "nkr", "us", "own", "unsplash"}


def expected(source: str, kind: str, permission: str) -> set[str]:
    """The letters that hold for one row."""
    may = set(ALONE[source][kind])
    if permission != "prose":
        may |= {"L"} if "train" in permission else set()
        if "redistribute" in permission and source not in NEVER_HANDED_ON:
            may |= {"W"} | ({"S"} if kind in MAY_BE_CHANGED or "adapt" in permission else set())
        if "adapt" in permission and "W" in may and source not in NEVER_HANDED_ON:
            may |= {"S"}
    return may if "L" in may else set()


def row(number: int, source: str, kind: str, permission: str, data: bytes) -> dict[str, object]:
    said = {"permission": "publishing and training are welcome" if permission else ""}
    permits = [] if permission in {"", "prose"} else permission.split()
    return photo(data, f"{number}", source, KINDS[kind], permits=permits, **said)


CASES = list(itertools.product(ALONE, KINDS, PERMISSIONS))


@pytest.fixture(scope="module")
def picture() -> bytes:
    return scene(1, 40, 40)


def outcome(tmp_path: Path, cases: list[tuple[str, str, str]], publish: str, data: bytes) -> dict[str, set[int]]:
    """Variant → numbers of the cases that an export of them holds; raises what it raises."""
    store = tmp_path / "store"
    add_shard(store, 0, [row(number, *case, data) for number, case in enumerate(cases)], group_rows=500)
    judge(store)
    settings = ExportSettings(to=str(tmp_path / "out"), variants=("32", "full"), validation=0, publish=publish)  # type: ignore[arg-type]
    report = export(str(store), settings, rights_of=SourceRights(), engine=Here())
    return {
        one.variant.name: {
            int(id)
            for id in pq.read_table(tmp_path / "out" / one.folder, columns=["source_id"])["source_id"].to_pylist()
        }
        for one in report.written
    }


@pytest.mark.parametrize("publish", ["private", "bytes"])
def test_every_publishable_row_is_exported(tmp_path: Path, publish: str, picture: bytes) -> None:
    wanted = "W" if publish == "bytes" else "L"
    cases = [case for case in CASES if wanted in expected(*case)]
    assert len(cases) > 150
    found = outcome(tmp_path, cases, publish, picture)
    assert found["full"] == set(range(len(cases)))
    squares = {n for n, case in enumerate(cases) if publish == "private" or "S" in expected(*case)}
    assert found["32"] == squares


@pytest.mark.parametrize("publish", ["private", "bytes", "manifest"])
@pytest.mark.parametrize("source", ALONE)
def test_every_unpublishable_row_is_refused_by_name(tmp_path: Path, source: str, publish: str, picture: bytes) -> None:
    wanted = "W" if publish == "bytes" else "L"
    single = {"", "prose", "train", "redistribute"}
    refused = [case for case in CASES if case[0] == source and case[2] in single and wanted not in expected(*case)]
    assert refused
    for number, case in enumerate(refused):
        with pytest.raises(RightsRefused) as caught:
            outcome(tmp_path / str(number), [case], publish, picture)
        assert f"{source}:0" in str(caught.value), case
        assert not (tmp_path / str(number) / "out").exists()


def test_a_set_of_fixed_photos_alone_has_no_square(tmp_path: Path, picture: bytes) -> None:
    cases = [case for case in CASES if {"W"} == expected(*case) & {"W", "S"}]
    found = outcome(tmp_path, cases, "bytes", picture)
    assert found.keys() == {"full"}
    settings = ExportSettings(to=str(tmp_path / "none"), variants=("32",), validation=0, publish="bytes")
    with pytest.raises(InputError, match="no row to write"):
        export(str(tmp_path / "store"), settings, rights_of=SourceRights(), engine=Here())
