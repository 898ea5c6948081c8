"""Facts → verdicts: thresholds over all facts, in seconds; no pixel is looked at and nothing is written.

A photo without facts is never kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lhq.errors import InputError, ShardDamaged
from lhq.filter.damage import READERS, FactsDamaged
from lhq.filter.rule import MADE, Rule, is_measured
from lhq.measures import Verdicts
from lhq.records import VERDICT_SCHEMA
from lhq.store.shards import Shards


@dataclass(frozen=True)
class Judged:
    """All verdicts: `table` is VERDICT_SCHEMA, `verdicts` the same rows measure by measure, in file order."""

    table: pa.Table
    verdicts: Mapping[str, Verdicts] = field(default_factory=dict)


def judge_photos(
    store: str,
    rules: Sequence[Rule],
    *,
    unmeasured_allowed: bool = False,
    ids: Mapping[int, pa.Array] | None = None,
) -> Judged:
    """Verdicts over all facts, by the thresholds of `rules`; no pixel is looked at, nothing is written.

    Facts are read ahead: while one measure judges, those of the next come from disk.

    Args:
        unmeasured_allowed: photos without facts are then dropped with the detail "not measured".
        ids: of the photos by shard, ascending, where they are known already.

    Raises:
        InputError: facts are missing, or were made by other settings than the rule's.
        FactsDamaged: facts that are there can't be read, or are not what was written.
        ShardDamaged: facts don't match the photos.
    """
    if ids is None:
        photos = Shards(store, "photos")
        ids = {number: photos.read(number, ["id"])["id"].combine_chunks() for number in photos.numbers()}
    shard = np.repeat(np.array(list(ids), np.int32), [len(part) for part in ids.values()])
    verdicts: dict[str, Verdicts] = {}
    kept = np.ones(len(shard), bool)
    in_turn = sorted(rules, key=lambda rule: rule.measure.judges == "among")
    readers = ThreadPoolExecutor(READERS)
    try:
        coming = {rule.name: _read_ahead(readers, store, rule, ids) for rule in in_turn}
        for rule in in_turn:
            table, measured = _gathered(store, rule, ids, coming.pop(rule.name), unmeasured_allowed)
            answer = rule.measure.judge_among(table, rule.settings, kept)
            verdicts[rule.name] = mine = _drop_unmeasured(Verdicts.of(rule.name, answer), measured)
            assert len(mine) == len(shard), f"{rule.name}: {len(mine)} verdicts on {len(shard)} photos"
            kept = kept & mine.kept
    finally:
        readers.shutdown(cancel_futures=True)
    in_order = {rule.name: verdicts[rule.name] for rule in rules}
    return Judged(_join(pa.chunked_array(ids.values(), pa.string()), shard, in_order), in_order)


def _judged_schema(rule: Rule) -> pa.Schema:
    wanted = {"id", "error", *rule.measure.judged}
    return pa.schema([column for column in rule.measure.schema if column.name in wanted])


def _read_ahead(
    readers: ThreadPoolExecutor, store: str, rule: Rule, ids: Mapping[int, pa.Array]
) -> list[Future[pa.Table | None]]:
    """Each shard's facts in the columns that `rule` judges, as they come; see `_FactsOf`."""
    read = _FactsOf(rule.facts(store), rule, rule.made, _judged_schema(rule))
    return [readers.submit(read, number) for number in ids]


def _gathered(
    store: str,
    rule: Rule,
    ids: Mapping[int, pa.Array],
    coming: Sequence[Future[pa.Table | None]],
    unmeasured_allowed: bool,
) -> tuple[pa.Table, np.ndarray]:
    """The judged columns of all shards, and bool [N]: false where there are no facts."""
    room, schema = rule.facts(store), _judged_schema(rule)
    found = [one.result() for one in coming]
    num_lacking = sum(table is None for table in found)
    if num_lacking and not unmeasured_allowed:
        raise InputError(
            f"{room.root}: no facts by the present settings for {num_lacking} of {len(ids)} shards",
            hint=f"run `lhq filter PIPELINE` without --judge-only to measure {rule.name}",
        )
    tables, measured = [], []
    for (number, shard_ids), table in zip(ids.items(), found, strict=True):
        if table is None:
            blank = [pa.nulls(len(shard_ids), column.type) for column in schema]
            tables.append(
                pa.table(
                    [shard_ids if column.name == "id" else b for column, b in zip(schema, blank, strict=True)], schema
                )
            )
        elif table["id"].combine_chunks().equals(shard_ids):
            tables.append(table)
        else:
            raise ShardDamaged(
                f"{room.path(number)}: its rows are not those of the photos",
                hint="delete this file and run `lhq filter PIPELINE` again",
            )
        measured.append(np.full(len(shard_ids), table is not None))
    return pa.concat_tables([schema.empty_table(), *tables]), np.concatenate([np.ones(0, bool), *measured])


@dataclass(frozen=True)
class _FactsOf:
    """One shard's facts in the columns of `schema`; None where they lack or were not made as `made` says.

    Raises:
        FactsDamaged: they were made by `rule`, but can't be read.
    """

    room: Shards
    rule: Rule
    made: str
    schema: pa.Schema

    def __call__(self, number: int) -> pa.Table | None:
        try:
            table = self.room.read(number, self.schema.names)
        except FileNotFoundError:
            return None
        except ShardDamaged as error:
            if is_measured(self.room.store, self.rule, number):
                raise FactsDamaged(error.message, hint=error.hint, room=self.room.room, number=number) from error
            return None
        made = (table.schema.metadata or {}).get(MADE, b"").decode()
        return table.select(self.schema.names).replace_schema_metadata(None) if made == self.made else None


def _drop_unmeasured(given: Verdicts, measured: np.ndarray) -> Verdicts:
    if measured.all():
        return given
    return Verdicts(
        given.measure,
        given.ids,
        given.kept & measured,
        np.where(measured, given.score, np.nan),
        lambda row: given.detail(row) if measured[row] else "not measured",
    )


def _join(ids: pa.ChunkedArray, shard: np.ndarray, verdicts: Mapping[str, Verdicts]) -> pa.Table:
    """One row a photo: the first failing measure is the reason, all failing ones are listed."""
    names = np.array(list(verdicts), object)
    fails = np.stack([~given.kept for given in verdicts.values()], axis=1) if verdicts else np.zeros((len(shard), 0))
    first = np.where(fails.any(axis=1), fails.argmax(axis=1), -1) if verdicts else np.full(len(shard), -1)
    score, detail = np.full(len(shard), np.nan), np.full(len(shard), "", object)
    for number, given in enumerate(verdicts.values()):
        rows = np.flatnonzero(first == number)
        score[rows] = given.score[rows]
        detail[rows] = [given.detail(int(row)) for row in rows]
    offsets = np.concatenate([[0], fails.sum(axis=1).cumsum()]).astype(np.int32)
    failed = pa.ListArray.from_arrays(pa.array(offsets), pa.array(names[np.nonzero(fails)[1]], pa.string()))
    reason = np.append(names, "")[first]
    return pa.table(
        [ids, shard, first < 0, pa.array(reason, pa.string()), score, pa.array(detail, pa.string()), failed],
        VERDICT_SCHEMA,
    )
