"""Kept photos → what changed since they were fetched: gone, other bytes, another licence, an opt-out.

What hosts say about use is written down (`rechecked.parquet`) and holds from then on: the next export leaves out photos
that are reserved now, and includes those no longer reserved. Other changes are only reported, and can be passed to `lhq
remove`.
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
_WRITTEN_EVERY = 64 * _WINDOW  # at most this many photos are asked again after a kill


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a photo: `what` is `gone`, `licence`, `bytes` or `opt-out`."""

    id: str
    what: str
    detail: str


@dataclass
class RecheckReport:
    """`changes` found among `checked` photos; `unknown` (id → reason) could not be checked this time. `recorded` counts
    the photos whose answers about use were written down."""

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
    """Ask the web and the sources about the store's photos.

    Args:
        sources: those whose service can be asked; for other sources only the photo's address is checked.
        reads_bytes: fetch every photo and compare its sha256, instead of asking for its headers only.
        limit: at most this many photos, the longest unchecked first.

    Raises:
        InputError: the store has no photos.
        KeyMissing: a source's key is refused.
        StoreError: the answers can't be written.
    """
    rows = sorted(_rows(store), key=_asked_last)[:limit]
    report = RecheckReport()
    answers: dict[str, dict[str, Any]] = {}

    def record() -> None:
        rechecked.add(store, answers)
        report.recorded += len(answers)
        answers.clear()

    def check(row: dict[str, Any]) -> _Checked:
        checked = _Checked(row["id"])
        try:
            _at_its_address(row, client, reads_bytes, checked)
            checked.changes += _by_its_source(row, sources.get(row["source"]))
        except (FetchError, SourceError) as error:
            checked.unknown = error.message
        return checked

    on_progress("checking", 0, len(rows))
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        try:
            for start in range(0, len(rows), _WINDOW):
                for one in pool.map(check, rows[start : start + _WINDOW]):
                    report.checked += 1
                    report.changes += [] if one.unknown else one.changes
                    if one.unknown:
                        report.unknown[one.id] = one.unknown
                    if one.papers:
                        answers[one.id] = one.papers
                    on_progress("checking", report.checked, len(rows))
                if len(answers) >= _WRITTEN_EVERY:
                    record()
        except BaseException:
            client.stop()
            raise
        finally:
            record()
    return report


@dataclass
class _Checked:
    """What one photo's host and source said; `papers` is its new evidence, {} where none could be asked."""

    id: str
    changes: list[Change] = field(default_factory=list)
    unknown: str = ""
    papers: dict[str, Any] = field(default_factory=dict)


def _asked_last(row: Mapping[str, Any]) -> tuple[str, str]:
    evidence = Evidence.from_papers(row["reserved"], row["reservations"])
    return max(evidence.asked_at, row["fetched_at"].strftime("%Y-%m-%dT%H:%M:%SZ")), row["id"]


def _rows(store: str) -> list[dict[str, Any]]:
    photos, removed = Shards(store, "photos"), tombstones.removed_ids(store)
    numbers, answers = photos.numbers(), rechecked.read(store)
    rows = [row for number in numbers for row in rechecked.updated(photos.read(number, _COLUMNS), answers).to_pylist()]
    if not rows:
        raise InputError(f"{store}: no photos", hint="run lhq crawl first")
    return [row for row in rows if row["id"] not in removed]


def _at_its_address(row: dict[str, Any], client: Client, reads_bytes: bool, checked: _Checked) -> None:
    if not row["url"].startswith(("http://", "https://")):
        return
    before = Evidence.from_papers(row["reserved"], row["reservations"])
    try:
        response = _asked(client.fetch if reads_bytes else client.head, row["url"], client)
    except FetchError as error:
        if isinstance(error, OptedOut):
            checked.papers = before.merge(error.evidence).papers()
        if error.reason in {"http-404", "http-410"}:
            checked.changes.append(Change(row["id"], "gone", error.reason))
        elif error.reason in {"opt-out", "robots"}:
            checked.changes.append(Change(row["id"], "opt-out", error.message))
        else:
            raise
        return
    checked.changes += _of_answer(row, response, client, reads_bytes)
    if response.status == 200 and not any(one.what == "gone" for one in checked.changes):
        in_file = _in_file(response) if reads_bytes else Evidence({})
        checked.papers = before.merge(response.evidence.merge(in_file)).papers()


def _in_file(response: Response) -> Evidence:
    return Evidence(from_file(metadata_bytes(response.body), xmp_packets(response.body)))


def _of_answer(row: dict[str, Any], response: Response, client: Client, reads_bytes: bool) -> Iterator[Change]:
    size = response.headers.get("content-length", "")
    if response.status in {404, 410} or "unavailable" in response.url.rsplit("/", 1)[-1]:
        yield Change(row["id"], "gone", f"http-{response.status} at {response.url}")
    elif response.status != 200:
        raise SourceError(f"{client.clean(response.url)}: status {response.status}", hint="try again later")
    elif (binding := response.evidence.binding(client.policy.honour)) or (
        reads_bytes and (binding := _in_file(response).binding(client.policy.honour))
    ):
        yield Change(row["id"], "opt-out", binding)
    elif reads_bytes:
        sha256 = hashlib.sha256(response.body).hexdigest()
        if sha256 != row["sha256"]:
            yield Change(row["id"], "bytes", f"sha256 is {sha256}, was {row['sha256']}")
    elif size.isdecimal() and int(size) not in {0, row["size_bytes"]}:
        yield Change(row["id"], "bytes", f"{int(size):,} bytes, were {row['size_bytes']:,}")


def _asked(ask: Callable[[str], Response], url: str, client: Client) -> Response:
    """A photo's host is asked a few times before it counts as not answering."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return ask(url)
        except FetchError as error:
            if error.permanent or error.reason == "stopped" or attempt == _ATTEMPTS:
                raise
            client.wait(client.settings.retry_delay_s * attempt)
    raise AssertionError("unreachable")


def _by_its_source(row: dict[str, Any], source: Source | None) -> Iterator[Change]:
    if source is None or not source.states_licences:
        return
    licence = source.licence_of(row["source_id"])
    if licence is None:
        yield Change(row["id"], "gone", f"{row['source']} offers it no more")
    elif licence != row["licence"]:
        yield Change(row["id"], "licence", f"{licence or 'an unknown one'}, was {row['licence']}")
