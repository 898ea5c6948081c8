"""Manifest → photos: a set rebuilt from its papers alone, with a report of what the web has lost since.

Every photo is fetched from its address, politely, and kept if it still hashes to what the manifest says. Its
papers, scores and verdict are restored with it, so an export of the rebuilt store gives the same rows in the same
order and, where nothing is lost, the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lhq.errors import FetchError, ImageError, InputError
from lhq.export import manifest
from lhq.http import Client
from lhq.images import inspect
from lhq.intake import Intake, Into, intake
from lhq.progress import OnProgress, silent
from lhq.records import PAPERS, VERDICT_SCHEMA
from lhq.store import verdicts
from lhq.store.shards import Shards

_IN_FLIGHT = 32
_NUM_THREADS = 16
_DETAIL = "kept by the manifest"


@dataclass
class RehydrateReport:
    """What became of a manifest's rows. `removed` counts those that were taken down here; `lost` maps ids to reasons:
    `http-404`, `changed`, `no-address` …

    `by_source` counts every source's rows by outcome: `here`, `removed` or the reason.
    """

    num_rows: int
    held: int = 0
    new: int = 0
    removed: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    by_source: dict[str, dict[str, int]] = field(default_factory=dict)


def rehydrate(
    where: str,
    into: Into,
    client: Client,
    *,
    takes_changed: bool = False,
    measures: Sequence[str] = (),
    on_progress: OnProgress = silent,
) -> RehydrateReport:
    """Fetch a manifest's photos into a store; run again after any stop, it goes on with what is missing.

    Args:
        where: the manifest, or the dataset's folder.
        takes_changed: keep bytes that hash to something else than the manifest says (a re-encoded picture).
        measures: names that scores may belong to (`<measure>_<column>`).

    Raises:
        InputError: no manifest, or the store holds verdicts of another set.
        StoreError: the store can't be written, or a crawl is at work in it.
    """
    rows = manifest.read(where)
    store = into.store
    Shards(store, "photos").numbers()  # a store that can't be reached is an error before any request
    _refuse_judged(store)
    report = RehydrateReport(len(rows))
    outcomes: list[tuple[str, str]] = []
    with intake(into, max_pixels=client.settings.max_pixels, policy=client.policy) as opened:
        todo = []
        for row in rows.select(PAPERS).to_pylist():
            if opened.is_removed(row["id"]):
                report.removed += 1
                outcomes.append((row["source"], "removed"))
            elif opened.has(row["id"]):
                report.held += 1
                outcomes.append((row["source"], "here"))
            else:
                todo.append(row)
        on_progress("fetching", report.held, len(rows))
        for row, data in _fetched(todo, client):
            reason = data if isinstance(data, str) else _take(opened, row, data, takes_changed)
            if reason:
                report.lost[row["id"]] = reason
            else:
                report.new += 1
            outcomes.append((row["source"], reason.split(":")[0] or "here"))
            on_progress("fetching", len(outcomes), len(rows))
    _restore(store, rows, measures)
    for (source, outcome), count in sorted(Counter(outcomes).items()):
        report.by_source.setdefault(source, {})[outcome] = count
    return report


def _take(opened: Intake, row: dict[str, Any], data: bytes | bytearray, takes_changed: bool) -> str:
    """Keep one photo; the reason if it is not what it was."""
    try:
        header = inspect(data)
        if header.sha256 == row["sha256"]:
            opened.put({**row, "fetched_at": int(row["fetched_at"].timestamp() * 1000)}, data)
        elif takes_changed:
            opened.put_changed(row, header, data)
        else:
            return f"changed: sha256 is {header.sha256}, not {row['sha256']}"
    except ImageError as error:
        return f"{error.reason}: {error.message}"
    return ""


def _fetched(todo: list[dict[str, Any]], client: Client) -> Iterator[tuple[dict[str, Any], bytes | bytearray | str]]:
    """(row, bytes or reason) as they come, a few under way at a time."""

    def fetch(row: dict[str, Any]) -> bytes | bytearray | str:
        if not row["url"].startswith(("http://", "https://")):
            return f"no-address: {row['url']}"
        for attempt in range(client.settings.max_attempts):
            try:
                return client.fetch(row["url"]).body
            except FetchError as error:
                last = attempt == client.settings.max_attempts - 1
                if error.permanent or last or error.reason == "stopped":
                    return f"{error.reason}: {error.message}"
        raise AssertionError("unreachable")

    rows = iter(todo)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        under_way: dict[Future[bytes | bytearray | str], dict[str, Any]] = {}
        try:
            while True:
                for row in islice(rows, _IN_FLIGHT - len(under_way)):
                    under_way[pool.submit(fetch, row)] = row
                if not under_way:
                    return
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    yield under_way.pop(future), future.result()
        except BaseException:
            client.stop()
            raise


def _refuse_judged(store: str) -> None:
    """Verdicts that a filter made are not to be overwritten."""
    found = verdicts.read(store, ["detail"])
    if found is not None and pc.any(pc.not_equal(found["detail"], _DETAIL)).as_py():
        raise InputError(f"{store}: this store was filtered", hint="rehydrate into a store of its own")


def _restore(store: str, rows: pa.Table, measures: Sequence[str]) -> None:
    """Verdicts that keep what is here, and the scores as facts."""
    photos = Shards(store, "photos")
    restored = []
    known = set(rows["id"].to_pylist())
    scores = {name: _measure_of(name, measures) for name in rows.column_names if name not in {*PAPERS, "split"}}
    for number in photos.numbers():
        ids = [id for id in photos.read(number, ["id"])["id"].to_pylist() if id in known]
        restored += [
            {
                "id": id,
                "shard": number,
                "kept": True,
                "reason": "",
                "score": float("nan"),
                "detail": _DETAIL,
                "failed": [],
            }
            for id in ids
        ]
        mine = rows.take(pc.index_in(pa.array(ids, pa.string()), rows["id"].combine_chunks()))
        for measure in sorted(set(scores.values())):
            columns = {name.removeprefix(f"{measure}_"): mine[name] for name in scores if scores[name] == measure}
            Shards(store, f"facts/{measure}").write(number, pa.table({"id": mine["id"], **columns}))
    verdicts.write(store, pa.Table.from_pylist(restored, VERDICT_SCHEMA))


def _measure_of(column: str, measures: Sequence[str]) -> str:
    return next((name for name in measures if column.startswith(f"{name}_")), column.split("_")[0])
