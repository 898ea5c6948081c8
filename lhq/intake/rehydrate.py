"""Manifest → photos: rebuild a dataset from its manifest, and report what has disappeared from the web.

Every photo is fetched from its URL, politely, and kept if its sha256 is still the manifest's. Its papers, scores and
verdict are restored too, so an export of the rebuilt store gives the same rows in the same order and, if nothing is
lost, the same bytes.
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
from lhq.intake import Destination, Intake, intake
from lhq.progress import OnProgress, silent
from lhq.records import PAPERS, VERDICT_SCHEMA
from lhq.store import verdicts
from lhq.store.shards import Shards

_IN_FLIGHT = 32
_NUM_THREADS = 16
_DETAIL = "kept by the manifest"


@dataclass
class RehydrateReport:
    """The outcome of a manifest's rows.

    `held` counts photos that the store held already, `removed` those with a tombstone; `lost` maps ids to reasons:
    `http-404`, `changed`, `no-address` … `by_source` counts each source's rows by outcome: `here`, `removed` or the
    reason.
    """

    num_rows: int
    held: int = 0
    new: int = 0
    removed: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    by_source: dict[str, dict[str, int]] = field(default_factory=dict)


def rehydrate(
    manifest_path: str,
    destination: Destination,
    client: Client,
    *,
    takes_changed: bool = False,
    measures: Sequence[str] = (),
    on_progress: OnProgress = silent,
) -> RehydrateReport:
    """Fetch a manifest's photos into a store; run again after an interruption, it fetches what is missing.

    Args:
        manifest_path: the manifest, or the dataset's folder.
        takes_changed: keep photos whose sha256 differs from the manifest's (re-encoded by their host).
        measures: names of measures that score columns may belong to (`<measure>_<column>`).

    Raises:
        InputError: there is no manifest, or the store holds verdicts of a filter.
        StoreError: the store can't be written, or a crawl is running on it.
    """
    rows = manifest.read(manifest_path)
    store = destination.store
    Shards(store, "photos").numbers()  # a store that can't be reached is an error before any request
    _refuse_judged(store)
    report = RehydrateReport(len(rows))
    outcomes: list[tuple[str, str]] = []
    with intake(destination, max_pixels=client.settings.max_pixels, policy=client.policy) as opened:
        missing = []
        for row in rows.select(PAPERS).to_pylist():
            if opened.is_removed(row["id"]):
                report.removed += 1
                outcomes.append((row["source"], "removed"))
            elif opened.has(row["id"]):
                report.held += 1
                outcomes.append((row["source"], "here"))
            else:
                missing.append(row)
        on_progress("fetching", report.held, len(rows))
        for row, data in _fetch_all(missing, client):
            reason = data if isinstance(data, str) else _add(opened, row, data, takes_changed)
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


def _add(opened: Intake, row: dict[str, Any], data: bytes | bytearray, takes_changed: bool) -> str:
    """Add one photo; returns "" or why it was not added."""
    try:
        header = opened.inspect(data)
        if header.sha256 == row["sha256"]:
            opened.put({**row, "fetched_at": int(row["fetched_at"].timestamp() * 1000)}, data)
        elif takes_changed:
            opened.put_changed(row, header, data)
        else:
            return f"changed: sha256 is {header.sha256}, not {row['sha256']}"
    except ImageError as error:
        return f"{error.reason}: {error.message}"
    return ""


def _fetch_all(
    missing: list[dict[str, Any]], client: Client
) -> Iterator[tuple[dict[str, Any], bytes | bytearray | str]]:
    """Yield (row, bytes or reason) as downloads finish, with a few in flight."""

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

    rows = iter(missing)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        in_flight: dict[Future[bytes | bytearray | str], dict[str, Any]] = {}
        try:
            while True:
                for row in islice(rows, _IN_FLIGHT - len(in_flight)):
                    in_flight[pool.submit(fetch, row)] = row
                if not in_flight:
                    return
                done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
                for future in done:
                    yield in_flight.pop(future), future.result()
        except BaseException:
            client.stop()
            raise


def _refuse_judged(store: str) -> None:
    """Raise if the store has verdicts of a filter, which must not be overwritten."""
    found = verdicts.read(store, ["detail"])
    if found is not None and pc.any(pc.not_equal(found["detail"], _DETAIL)).as_py():
        raise InputError(f"{store}: this store was filtered", hint="rehydrate into a store of its own")


def _restore(store: str, rows: pa.Table, measures: Sequence[str]) -> None:
    """Write verdicts that keep the fetched photos, and their scores as facts."""
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
        own_rows = rows.take(pc.index_in(pa.array(ids, pa.string()), rows["id"].combine_chunks()))
        for measure in sorted(set(scores.values())):
            columns = {name.removeprefix(f"{measure}_"): own_rows[name] for name in scores if scores[name] == measure}
            Shards(store, f"facts/{measure}").write(number, pa.table({"id": own_rows["id"], **columns}))
    verdicts.write(store, pa.Table.from_pylist(restored, VERDICT_SCHEMA))


def _measure_of(column: str, measures: Sequence[str]) -> str:
    return next((name for name in measures if column.startswith(f"{name}_")), column.split("_")[0])
