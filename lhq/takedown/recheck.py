"""Kept photos → what has changed since they were fetched: gone, other bytes, another licence, an opt-out.

What hosts state about use is recorded in `rechecked.parquet`: the next export leaves out photos that are reserved now,
and includes those no longer reserved. Other changes are only reported, and can be passed to `lhq remove`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lhq.errors import FetchError, InputError, SourceError
from lhq.http import Client, OptedOut, Response
from lhq.images.metadata import metadata_bytes, xmp_packets
from lhq.progress import OnProgress, silent
from lhq.rights.reservations import Evidence, from_file
from lhq.sources import Source
from lhq.store import rechecked, tombstones
from lhq.store.shards import Shards

_COLUMNS = ["id", "source", "source_id", "url", "licence", "sha256", "size_bytes", "fetched_at", *rechecked.COLUMNS]
_ATTEMPTS = 3
_WINDOW = 64
_NUM_THREADS = 16
_ROWS_PER_WRITE = 64 * _WINDOW  # at most this many photos are checked again after a kill


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a photo: `what` is `gone`, `licence`, `bytes` or `opt-out`."""

    id: str
    what: str
    detail: str


@dataclass
class RecheckReport:
    """`changes` found among `checked` photos; `unknown` (id → reason) could not be checked. `recorded` is the number of
    photos whose hosts' statements about use were recorded."""

    checked: int = 0
    recorded: int = 0
    changes: list[Change] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)


def recheck(
    store: str,
    client: Client,
    sources: Mapping[str, Source],
    *,
    reads_bytes: bool = False,
    limit: int | None = None,
    on_progress: OnProgress = silent,
) -> RecheckReport:
    """Check the store's photos at their hosts and sources.

    Args:
        sources: those whose service can be queried; photos of other sources are checked at their URL only.
        reads_bytes: fetch every photo and compare its sha256, instead of requesting headers only.
        limit: check at most this many photos, those checked longest ago first.

    Raises:
        InputError: the store has no photos.
        KeyMissing: a source refuses its key.
        StoreError: the results can't be written.
    """
    rows = sorted(_rows(store), key=_last_checked)[:limit]
    report = RecheckReport()
    answers: dict[str, dict[str, Any]] = {}

    def record() -> None:
        rechecked.add(store, answers)
        report.recorded += len(answers)
        answers.clear()

    def check_photo(row: dict[str, Any]) -> _PhotoCheck:
        check_result = _PhotoCheck(row["id"])
        try:
            _check_url(row, client, reads_bytes, check_result)
            check_result.changes += _licence_changes(row, sources.get(row["source"]))
        except (FetchError, SourceError) as error:
            check_result.unknown = error.message
        return check_result

    on_progress("checking", 0, len(rows))
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        try:
            for start in range(0, len(rows), _WINDOW):
                for result in pool.map(check_photo, rows[start : start + _WINDOW]):
                    report.checked += 1
                    report.changes += [] if result.unknown else result.changes
                    if result.unknown:
                        report.unknown[result.id] = result.unknown
                    if result.papers:
                        answers[result.id] = result.papers
                    on_progress("checking", report.checked, len(rows))
                if len(answers) >= _ROWS_PER_WRITE:
                    record()
        except BaseException:
            client.stop()
            raise
        finally:
            record()
    return report


@dataclass
class _PhotoCheck:
    """The result of checking one photo; `papers` is its new evidence, {} if the host could not be asked."""

    id: str
    changes: list[Change] = field(default_factory=list)
    unknown: str = ""
    papers: dict[str, Any] = field(default_factory=dict)


def _last_checked(row: Mapping[str, Any]) -> tuple[str, str]:
    evidence = Evidence.from_papers(row["reserved"], row["reservations"])
    return max(evidence.asked_at, row["fetched_at"].strftime("%Y-%m-%dT%H:%M:%SZ")), row["id"]


def _rows(store: str) -> list[dict[str, Any]]:
    photos, removed = Shards(store, "photos"), tombstones.removed_ids(store)
    numbers, answers = photos.numbers(), rechecked.read(store)
    rows = [row for number in numbers for row in rechecked.apply(photos.read(number, _COLUMNS), answers).to_pylist()]
    if not rows:
        raise InputError(f"{store}: no photos", hint="run lhq crawl first")
    return [row for row in rows if row["id"] not in removed]


def _check_url(row: dict[str, Any], client: Client, reads_bytes: bool, check_result: _PhotoCheck) -> None:
    if not row["url"].startswith(("http://", "https://")):
        return
    before = Evidence.from_papers(row["reserved"], row["reservations"])
    try:
        response = _request_with_retries(client.fetch if reads_bytes else client.head, row["url"], client)
    except FetchError as error:
        if isinstance(error, OptedOut):
            check_result.papers = before.merge(error.evidence).papers()
        if error.reason in {"http-404", "http-410"}:
            check_result.changes.append(Change(row["id"], "gone", error.reason))
        elif error.reason in {"opt-out", "robots"}:
            check_result.changes.append(Change(row["id"], "opt-out", error.message))
        else:
            raise
        return
    check_result.changes += _changes_in_response(row, response, client, reads_bytes)
    if response.status == 200 and not any(result.what == "gone" for result in check_result.changes):
        in_file = _file_evidence(response) if reads_bytes else Evidence({})
        check_result.papers = before.merge(response.evidence.merge(in_file)).papers()


def _file_evidence(response: Response) -> Evidence:
    return Evidence(from_file(metadata_bytes(response.body), xmp_packets(response.body)))


def _changes_in_response(
    row: dict[str, Any], response: Response, client: Client, reads_bytes: bool
) -> Iterator[Change]:
    size = response.headers.get("content-length", "")
    if response.status in {404, 410} or "unavailable" in response.url.rsplit("/", 1)[-1]:
        yield Change(row["id"], "gone", f"http-{response.status} at {response.url}")
    elif response.status != 200:
        raise SourceError(f"{client.clean(response.url)}: status {response.status}", hint="try again later")
    elif (binding := response.evidence.binding(client.policy.honour)) or (
        reads_bytes and (binding := _file_evidence(response).binding(client.policy.honour))
    ):
        yield Change(row["id"], "opt-out", binding)
    elif reads_bytes:
        sha256 = hashlib.sha256(response.body).hexdigest()
        if sha256 != row["sha256"]:
            yield Change(row["id"], "bytes", f"sha256 is {sha256}, was {row['sha256']}")
    elif size.isdecimal() and int(size) not in {0, row["size_bytes"]}:
        yield Change(row["id"], "bytes", f"{int(size):,} bytes, were {row['size_bytes']:,}")


def _request_with_retries(request: Callable[[str], Response], url: str, client: Client) -> Response:
    """Retry a request a few times before giving up."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return request(url)
        except FetchError as error:
            if error.permanent or error.reason == "stopped" or attempt == _ATTEMPTS:
                raise
            client.wait(client.settings.retry_delay_s * attempt)
    raise AssertionError("unreachable")


def _licence_changes(row: dict[str, Any], source: Source | None) -> Iterator[Change]:
    if source is None or not source.states_licences:
        return
    licence = source.licence_of(row["source_id"])
    if licence is None:
        yield Change(row["id"], "gone", f"{row['source']} offers it no more")
    elif licence != row["licence"]:
        yield Change(row["id"], "licence", f"{licence or 'an unknown one'}, was {row['licence']}")
