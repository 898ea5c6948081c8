"""The pages of a dataset's folder → their problems: each hangs on another's hash, and says what the rows say.

`croissant.json` holds the hash of every file, the card that of `croissant.json` and its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lhq.export import croissant, layout
from lhq.export.card import croissant_sha256, is_as_written, licence_keys
from lhq.export.previous import sha256_of
from lhq.records import ADDED
from lhq.rights.licences import LICENCES

_CREDITED = ("author", "author_url", "page_url", "licence", "source", "title", "attribution")


def card_of(folder: str) -> dict[str, Any]:
    """The card's YAML; {} where there is none."""
    try:
        with open(os.path.join(folder, layout.CARD), encoding="utf-8") as file:
            parts = file.read().split("---\n", 2)
        card = yaml.safe_load(parts[1])
        if isinstance(card, dict):
            return card
    except (OSError, UnicodeDecodeError, IndexError, yaml.YAMLError):
        pass
    return {}


def problems(folder: str, rows: pa.Table, card: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the pages of a folder whose manifest holds `rows`; `card` is the card's YAML."""
    for name in layout.PAGES:
        if not os.path.isfile(os.path.join(folder, name)):
            yield f"{name}: missing"
    yield from _card(folder, rows, card)
    yield from croissant.problems(folder, rows, str(card.get("pretty_name", "")))
    yield from _credits(folder, rows)


def _card(folder: str, rows: pa.Table, card: Mapping[str, Any]) -> Iterator[str]:
    path, described = os.path.join(folder, layout.CARD), os.path.join(folder, layout.CROISSANT)
    if not card:
        yield f"{layout.CARD}: no card with YAML"
    is_old = "permits" not in pq.read_schema(os.path.join(folder, layout.MANIFEST)).names
    if os.path.isfile(path) and not is_as_written(path, may_be_unsigned=is_old):
        yield f"{layout.CARD}: changed since lhq export wrote it"
    if (said := croissant_sha256(path)) and os.path.isfile(described) and sha256_of(described) != said:
        yield f"{layout.CROISSANT}: its sha256 is not the one in {layout.CARD}"
    yield from _licences(rows, card)


def _credits(folder: str, rows: pa.Table) -> Iterator[str]:
    try:
        credits = pq.read_table(os.path.join(folder, layout.CREDITS))
    except (OSError, pa.ArrowException) as error:
        yield f"{layout.CREDITS}: not readable ({error})"
        return
    if lacking := [name for name in ("id", *_CREDITED) if name not in {*credits.column_names, *ADDED}]:
        yield f"{layout.CREDITS}: no column {', '.join(lacking)}"
        return
    names = [name for name in _CREDITED if name in credits.column_names]
    papers = {row["id"]: row for row in rows.select(["id", *names]).to_pylist()}
    rows_of = credits.select(["id", *names]).to_pylist()
    found = {row["id"] for row in rows_of}
    if missing := papers.keys() - found:
        yield f"{layout.CREDITS}: {len(missing):,} rows have no credit, for instance {min(missing)}"
    if strange := found - papers.keys():
        yield f"{layout.CREDITS}: {len(strange):,} credits are of no row, for instance {min(map(str, strange))}"
    for row in rows_of:
        for name in names if row["id"] in papers else ():
            if (row[name] or "").strip() != papers[row["id"]][name].strip():
                yield f"{layout.CREDITS}: row {row['id']}: {name} is {row[name]!r}, not {papers[row['id']][name]!r}"


def _licences(rows: pa.Table, card: Mapping[str, Any]) -> Iterator[str]:
    """The card's licence is the one that its rows have."""
    if not _all_known(rows):
        yield f"{layout.MANIFEST}: a licence that lhq.rights.licences does not know"
        return
    if not card:
        return
    given = card.get("license")
    said = {str(one) for one in (given if isinstance(given, list) else [given])}
    names = [{id, LICENCES[id].hub} for id in set(rows["licence"].to_pylist())]
    if not all(name & said for name in names) or not said <= set().union(*names):
        yield f"{layout.CARD}: license is {given!r}, that of the rows is {licence_keys(rows)['license']!r}"


def _all_known(rows: pa.Table) -> bool:
    return all(id in LICENCES for id in set(rows["licence"].to_pylist()))
