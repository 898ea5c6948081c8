"""Verdicts × papers × facts → the rows to export: everything but the pictures, in memory, in their permanent order.

Only columns before `image` are read, so 90,000 rows take seconds and a few hundred MB, however many photos were not
kept.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.errors import InputError, ShardDamaged
from lhq.export import layout
from lhq.records import PAPERS, PHOTO_SCHEMA, PLACE
from lhq.rights.permissions import Permission, replace_prose_permissions
from lhq.store import rechecked, remote, tombstones, verdicts
from lhq.store.shards import Shards
from lhq.system import num_cores

_LOCAL_PATH = re.compile(r"file:|[/~\\]|[A-Za-z]:[\\/]", re.IGNORECASE)
_FILE_ADDRESS = r"(?i)\bfile:[/\\]+[^\s\"'<>)\]]*"  # in a sentence; read by Python and by RE2 alike
_BLANK = r"^[\s\pZ\pC]*$"  # to RE2: spaces of any script, and letters without a shape
_SOMEBODYS_WORDS = ("author", "title", "description", "attribution", "permission", "permission_by", "tags", "queries")
# Besides the papers: where the bytes are, and the row's place. Not published, except `split`.
PLACE_FIELDS = [
    pa.field("shard", pa.int32()),
    pa.field("row", pa.int32()),
    pa.field("place", pa.uint64()),
    pa.field("split", pa.string()),
]


@dataclass(frozen=True)
class Rows:
    """Kept photos, sorted by `place`: the papers, the scores, and `PLACE_FIELDS`.

    `all_ids` [num photos] are the ids of all photos in the store, kept or not. `funnel` counts those not kept: reason
    → photos, most frequent first. `extra` are the requested columns besides papers and scores.
    """

    table: pa.Table
    all_ids: pa.Array
    scores: tuple[pa.Field, ...]
    num_photos: int
    funnel: dict[str, int]
    extra: tuple[pa.Field, ...] = ()

    @property
    def columns(self) -> tuple[pa.Field, ...]:
        """The columns of a published row besides its papers."""
        return (*self.extra, *self.scores)


def kept_rows(
    store: str,
    *,
    seed: int,
    validation: float,
    extra: Sequence[str] = (),
    permissions: Mapping[str, Permission] | None = None,
    none_left: bool = False,
) -> Rows:
    """The rows that the verdicts keep and that were not taken down, ready to publish; none if the last ones were
    taken down.

    Args:
        none_left: accept an empty result, since photos of the earlier export were taken down and erased.
        extra: more columns: papers of `records.PLACE`, or `<measure>_<column>` of facts that are not scores.
        permissions: those stated today, by source, for rows of an older version whose own is a sentence.

    Raises:
        InputError: no photos, or no verdicts yet, or none kept, or a column that is not there.
        ShardDamaged: a file of the store is not readable.
    """
    photos = Shards(store, "photos")
    numbers = photos.numbers()
    if not numbers:
        raise InputError(f"{store}: no photos", hint="run lhq crawl (or lhq import) first")
    fates = verdicts.read(store, ["id", "kept", "reason"])
    if fates is None:
        raise InputError(f"{store}: no verdicts yet", hint="run lhq filter first")
    kept_ids, judged = fates.filter(fates["kept"])["id"].combine_chunks(), fates["id"].combine_chunks()
    with ThreadPoolExecutor(num_cores()) as pool:
        ids = [*pool.map(lambda number: photos.read(number, ["id"])["id"].combine_chunks(), numbers)]
        all_ids = pa.concat_arrays(ids)
        unjudged = len(all_ids) - _count(pc.is_in(all_ids, judged))
        # One look-up for all shards: building its hash table is the expensive part.
        keep = pc.is_in(all_ids, kept_ids)
        ends = np.cumsum([len(part) for part in ids]).tolist()
        cuts = [keep.slice(end - len(part), len(part)) for part, end in zip(ids, ends, strict=True)]
        table = pa.concat_tables(pool.map(lambda number, cut: _papers(photos, number, cut), numbers, cuts))
    staying = table.filter(_stays(table, store))
    taken_down = len(table) - len(staying)
    table = rechecked.apply(staying, rechecked.read(store))
    table, scores = _with_scores(store, table)
    table, more = _with_extra(store, table, extra)
    table = _in_place(replace_prose_permissions(to_publish(table), permissions or {}), seed, validation)

    # Verdicts on photos of shards that are gone (quarantined, deleted) don't count.
    dropped = fates.filter(pc.and_(pc.invert(fates["kept"]), pc.is_in(fates["id"], all_ids)))
    funnel = Counter(dropped["reason"].to_pylist())
    for reason, count in (("not judged yet", unjudged), ("taken down", taken_down)):
        if count:
            funnel[reason] = count
    if not len(table) and not taken_down and not none_left:
        raise InputError(
            f"{store}: no photo is kept ({_counts(funnel)})",
            hint="see why: lhq report, then loosen a filter or crawl on",
        )
    num_photos = sum(funnel.values()) + len(table)
    return Rows(table, all_ids, scores, num_photos, dict(funnel.most_common()), more)


def _stays(table: pa.Table, store: str) -> pa.ChunkedArray:
    """For each row, whether it was not taken down, neither by id nor by content."""
    return pc.invert(
        pc.or_(
            pc.is_in(table["id"], pa.array(sorted(tombstones.removed_ids(store)), pa.string())),
            pc.is_in(table["sha256"], pa.array(sorted(tombstones.removed_sha256(store)), pa.string())),
        )
    )


def to_publish(table: pa.Table) -> pa.Table:
    """Rows ready to publish: no local path in any column, no author that looks blank, and the time as text."""
    ids = table["id"].to_pylist()
    for name, instead in (("url", ids), ("page_url", [""] * len(ids)), ("author_url", [""] * len(ids))):
        column = table[name].to_pylist()
        shown = [there if is_local_path(one) else one for one, there in zip(column, instead, strict=True)]
        table = table.set_column(table.column_names.index(name), PHOTO_SCHEMA.field(name), pa.array(shown, pa.string()))
    for name in _SOMEBODYS_WORDS:
        field = PHOTO_SCHEMA.field(name)
        column = table[name].combine_chunks()
        words = column.flatten() if pa.types.is_list(field.type) else column
        if pc.any(pc.match_substring_regex(words, _FILE_ADDRESS)).as_py():
            table = table.set_column(table.column_names.index(name), field, _without_addresses(column, field))
    author = pc.if_else(pc.match_substring_regex(table["author"], _BLANK), "", table["author"])
    table = table.set_column(table.column_names.index("author"), PHOTO_SCHEMA.field("author"), author)
    text = pc.strftime(table["fetched_at"], "%Y-%m-%dT%H:%M:%SZ")
    return table.set_column(table.column_names.index("fetched_at"), layout.FETCHED_AT, text)


def _without_addresses(column: pa.Array, field: pa.Field) -> pa.Array:
    """Text without file addresses, and lists without the words that were only that."""
    if not pa.types.is_list(field.type):
        return pc.replace_substring_regex(column, _FILE_ADDRESS, "")
    told = [[re.sub(_FILE_ADDRESS, "", word) for word in words] for words in column.to_pylist()]
    return pa.array([[word for word in words if word.strip()] for words in told], field.type)


def is_local_path(address: str) -> bool:
    """Whether an address is a place on somebody's disk."""
    return bool(_LOCAL_PATH.match(address))


def _with_extra(store: str, table: pa.Table, extra: Sequence[str]) -> tuple[pa.Table, tuple[pa.Field, ...]]:
    """Add the requested columns (scores are there already) and drop those on where a photo was taken unless
    requested."""
    extra = [name for name in dict.fromkeys(extra) if name in PLACE or name not in table.column_names]
    fields = [PHOTO_SCHEMA.field(name) for name in extra if name in PLACE]
    table = table.drop_columns([name for name in PLACE if name not in extra])
    for name in (name for name in extra if name not in PLACE):
        measure, _, column = name.partition("_")
        facts = Shards(store, posixpath.join("facts", measure))
        shards = set(table["shard"].to_pylist())
        parts = {
            number: facts.read(number, ["id", column])
            for number in facts.numbers()
            if number in shards and column in facts.columns(number)
        }
        if not parts:
            raise InputError(
                f'[export] columns: no facts of "{measure}" hold {column}',
                hint=f"let the measure keep it ([filter.{measure}] keep_features = true), and run lhq filter"
                if column == "embedding"
                else f"let [filter.command.{measure}] columns name it, and run lhq filter",
            )
        joined = pa.concat_tables(parts.values())
        rows = _places(table, facts, parts)
        values = joined[column].combine_chunks().take(rows)
        fields.append(pa.field(_own_name(table, measure, column), values.type))
        table = table.append_column(fields[-1], values)
    return table, tuple(fields)


def _papers(photos: Shards, number: int, keep: pa.BooleanArray) -> pa.Table:
    """The kept rows of one shard, with shard and row number."""
    papers = photos.read(number, PAPERS)
    rows = np.flatnonzero(keep.to_numpy(zero_copy_only=False)).astype(np.int32)
    return (
        papers.filter(keep)
        .append_column("shard", pa.array(np.full(len(rows), number, np.int32)))
        .append_column("row", pa.array(rows))
    )


def _count(claims: pa.BooleanArray | pa.ChunkedArray) -> int:
    """How many are true."""
    return int(pc.sum(claims).as_py() or 0)


def _in_place(table: pa.Table, seed: int, validation: float) -> pa.Table:
    """Sort by place; of two rows with the same id, keep the first."""
    ids = table["id"].to_pylist()
    _, first = np.unique(np.asarray(ids, object), return_index=True)
    places = np.asarray([layout.place(id, seed) for id in ids], np.uint64)
    order = first[np.argsort(places[first], kind="stable")]
    splits = [layout.split(ids[row], validation) for row in order]
    return (
        table.take(pa.array(order))
        .append_column("place", pa.array(places[order]))
        .append_column("split", pa.array(splits, pa.string()))
    )


def _with_scores(store: str, table: pa.Table) -> tuple[pa.Table, tuple[pa.Field, ...]]:
    """Add the score columns of all facts, named `<measure>_<column>`; null for a photo without facts."""
    shards = set(table["shard"].to_pylist())
    scores: list[pa.Field] = []
    for measure in _measures(store):
        facts = Shards(store, posixpath.join("facts", measure))
        parts = {number: _scores(facts, number) for number in facts.numbers() if number in shards}
        if not parts:
            continue
        joined = pa.concat_tables(parts.values(), promote_options="permissive")
        rows = _places(table, facts, parts)
        for field in joined.schema:
            if field.name != "id":
                scores.append(pa.field(_own_name(table, measure, field.name), field.type))
                table = table.append_column(scores[-1], joined[field.name].combine_chunks().take(rows))
    return table, tuple(scores)


def _places(table: pa.Table, facts: Shards, parts: Mapping[int, pa.Table]) -> pa.Array:
    """The place of each row's photo in the facts of these shards, one after the other; null where its shard has none.

    Raises:
        ShardDamaged: a shard's facts are not those of its photos.
    """
    places = pc.index_in(table["id"], pa.chunked_array([part["id"].combine_chunks() for part in parts.values()]))
    lost = pc.and_(pc.is_null(places), pc.is_in(table["shard"], pa.array(parts, table.schema.field("shard").type)))
    if pc.any(lost).as_py():
        raise ShardDamaged(
            f"{facts.path(table['shard'].filter(lost)[0].as_py())}: its rows are not those of the photos",
            hint="run `lhq filter PIPELINE`, which measures them again",
        )
    return places.combine_chunks()


def _own_name(table: pa.Table, measure: str, column: str) -> str:
    """The name of a measure's column among those of the papers and of other measures.

    Raises:
        InputError: it is taken.
    """
    name = f"{measure}_{column}"
    if name in layout.TAKEN_COLUMNS or name in table.column_names:
        raise InputError(
            f'facts of "{measure}": {column} would be the column {name}, which is there already',
            hint=f"rename the measure's column, or delete facts/{measure} if no pipeline uses it",
        )
    return name


def _scores(facts: Shards, number: int) -> pa.Table:
    """`id` and the scores of one shard of facts; of lists of scores (one per detected object) the highest."""
    try:
        with facts.open(number) as file:
            schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise ShardDamaged(
            f"{facts.path(number)}: not readable ({' '.join(str(error).split())})",
            hint="run lhq filter again: it is measured anew (or delete it, if the pipeline file has no such measure)",
        ) from error
    single = [field.name for field in schema if layout.is_score(field)]
    lists = [field.name for field in schema if pa.types.is_list(field.type) and field.name in {"scores", "areas"}]
    table = facts.read(number, ["id", *single, *lists])
    for name in lists:
        highest = [max(found, default=0.0) if found is not None else None for found in table[name].to_pylist()]
        at = table.column_names.index(name)
        table = table.set_column(at, f"max_{name[:-1]}", pa.array(highest, schema.field(name).type.value_type))
    return table.replace_schema_metadata(None)


def _measures(store: str) -> list[str]:
    facts = Shards(store, "facts")
    return remote.list_names(facts.fs, facts.root)


def _counts(funnel: Counter[str]) -> str:
    return " · ".join(f"{reason} {count:,}" for reason, count in funnel.most_common()) or "there are none"
