"""Facts → verdicts: apply thresholds to the facts of all photos, in seconds. Reads no pixels and writes nothing.

A photo without facts is never kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lhq.errors import InputError, ShardDamaged
from lhq.filter.damage import READERS, FactsDamaged, footer_damage
from lhq.filter.rule import FACTS_ORIGIN, Rule, is_measured
from lhq.measures import Verdicts
from lhq.records import VERDICT_SCHEMA
from lhq.store.shards import Shards


@dataclass(frozen=True)
class Judgement:
    """All verdicts: `table` (`VERDICT_SCHEMA`), and the same rows by measure in the pipeline file's order."""

    table: pa.Table
    verdicts: Mapping[str, Verdicts] = field(default_factory=dict)


def judge_photos(
    store: str,
    rules: Sequence[Rule],
    *,
    unmeasured_allowed: bool = False,
    ids: Mapping[int, pa.Array] | None = None,
) -> Judgement:
    """Judge all photos by the thresholds of `rules`.

    Facts are prefetched: while one measure judges, those of the next are read.

    Args:
        unmeasured_allowed: drop photos without facts with the detail "not measured" instead of raising an error.
        ids: of the photos by shard, ascending, if the caller has read them.

    Raises:
        InputError: facts are missing, or of other settings than the rule's.
        FactsDamaged: facts exist but are damaged, or of other photos.
    """
    if ids is None:
        photos = Shards(store, "photos")
        ids = {number: photos.read(number, ["id"])["id"].combine_chunks() for number in photos.numbers()}
    shard = np.repeat(np.array(list(ids), np.int32), [len(part) for part in ids.values()])
    verdicts: dict[str, Verdicts] = {}
    kept = np.ones(len(shard), bool)
    in_dependency_order = sorted(rules, key=lambda rule: rule.measure.judges == "among")
    readers = ThreadPoolExecutor(READERS)
    try:
        pending = {rule.name: _read_ahead(readers, store, rule, ids) for rule in in_dependency_order}
        for rule in in_dependency_order:
            table, measured = _gather(store, rule, ids, pending.pop(rule.name), unmeasured_allowed)
            answer = rule.measure.judge_among(table, rule.settings, kept)
            verdicts[rule.name] = own = _drop_unmeasured(Verdicts.of(rule.name, answer), measured)
            assert len(own) == len(shard), f"{rule.name}: {len(own)} verdicts on {len(shard)} photos"
            kept = kept & own.kept
    finally:
        readers.shutdown(cancel_futures=True)
    in_order = {rule.name: verdicts[rule.name] for rule in rules}
    return Judgement(_join(pa.chunked_array(ids.values(), pa.string()), shard, in_order), in_order)


def _judged_schema(rule: Rule) -> pa.Schema:
    wanted = {"id", "error", *rule.measure.judged}
    return pa.schema([column for column in rule.measure.schema if column.name in wanted])


def _read_ahead(
    readers: ThreadPoolExecutor, store: str, rule: Rule, ids: Mapping[int, pa.Array]
) -> list[Future[pa.Table | None]]:
    """Start reading each shard's facts in the columns that `rule` judges; see `_FactsReader`."""
    read = _FactsReader(rule.facts(store), rule, rule.fingerprint, _judged_schema(rule))
    return [readers.submit(read, number) for number in ids]


def _gather(
    store: str,
    rule: Rule,
    ids: Mapping[int, pa.Array],
    pending: Sequence[Future[pa.Table | None]],
    unmeasured_allowed: bool,
) -> tuple[pa.Table, np.ndarray]:
    """(judged columns of all shards, whether each photo has facts: bool [N])."""
    facts_shards, schema = rule.facts(store), _judged_schema(rule)
    read_tables = [future.result() for future in pending]
    num_lacking = sum(table is None for table in read_tables)
    if num_lacking and not unmeasured_allowed:
        raise InputError(
            f"{facts_shards.root}: no facts by the present settings for {num_lacking} of {len(ids)} shards",
            hint=f"run `lhq filter PIPELINE` without --judge-only to measure {rule.name}",
        )
    tables, measured = [], []
    for (number, shard_ids), table in zip(ids.items(), read_tables, strict=True):
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
            raise FactsDamaged(
                f"{facts_shards.path(number)}: its rows are not those of the photos",
                hint="run `lhq filter PIPELINE` without --judge-only, which measures them again",
                folder=facts_shards.folder,
                number=number,
            )
        measured.append(np.full(len(shard_ids), table is not None))
    return pa.concat_tables([schema.empty_table(), *tables]), np.concatenate([np.ones(0, bool), *measured])


@dataclass(frozen=True)
class _FactsReader:
    """Reads one shard's facts in the columns of `schema`; None if they are missing or have another fingerprint.

    Raises:
        FactsDamaged: they have the fingerprint, or perhaps have, but can't be read.
    """

    facts_shards: Shards
    rule: Rule
    fingerprint: str
    schema: pa.Schema

    def __call__(self, number: int) -> pa.Table | None:
        try:
            table = self.facts_shards.read(number, self.schema.names)
        except FileNotFoundError:
            return None
        except ShardDamaged as error:
            if is_measured(self.facts_shards.store, self.rule, number):
                raise FactsDamaged(
                    error.message, hint=error.hint, folder=self.facts_shards.folder, number=number
                ) from error
            if damage := footer_damage(self.facts_shards, number):
                raise damage from error
            return None
        fingerprint = (table.schema.metadata or {}).get(FACTS_ORIGIN, b"").decode(errors="replace")
        return (
            table.select(self.schema.names).replace_schema_metadata(None) if fingerprint == self.fingerprint else None
        )


def _drop_unmeasured(verdict_set: Verdicts, measured: np.ndarray) -> Verdicts:
    if measured.all():
        return verdict_set
    return Verdicts(
        verdict_set.measure,
        verdict_set.ids,
        verdict_set.kept & measured,
        np.where(measured, verdict_set.score, np.nan),
        lambda row: verdict_set.detail(row) if measured[row] else "not measured",
    )


def _join(ids: pa.ChunkedArray, shard: np.ndarray, verdicts: Mapping[str, Verdicts]) -> pa.Table:
    """One row per photo: the first measure that drops it is the reason; `failed` lists all that do."""
    names = np.array(list(verdicts), object)
    fails = (
        np.stack([~verdict_set.kept for verdict_set in verdicts.values()], axis=1)
        if verdicts
        else np.zeros((len(shard), 0))
    )
    first = np.where(fails.any(axis=1), fails.argmax(axis=1), -1) if verdicts else np.full(len(shard), -1)
    score, detail = np.full(len(shard), np.nan), np.full(len(shard), "", object)
    for number, verdict_set in enumerate(verdicts.values()):
        rows = np.flatnonzero(first == number)
        score[rows] = verdict_set.score[rows]
        detail[rows] = [verdict_set.detail(int(row)) for row in rows]
    offsets = np.concatenate([[0], fails.sum(axis=1).cumsum()]).astype(np.int32)
    failed = pa.ListArray.from_arrays(pa.array(offsets), pa.array(names[np.nonzero(fails)[1]], pa.string()))
    reason = np.append(names, "")[first]
    return pa.table(
        [ids, shard, first < 0, pa.array(reason, pa.string()), score, pa.array(detail, pa.string()), failed],
        VERDICT_SCHEMA,
    )
