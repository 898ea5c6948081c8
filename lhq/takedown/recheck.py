"""Kept photos → what changed since they were fetched: gone, other bytes, another licence, an opt-out.

Nothing is changed in the store; what is found can be handed to `lhq remove`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lhq.errors import FetchError, InputError, SourceError
from lhq.http import Answer, Client
from lhq.images.metadata import xmp
from lhq.progress import OnProgress, silent
from lhq.records import PAPERS
from lhq.rights.reservations import Evidence, from_file
from lhq.sources import Source
from lhq.store import tombstones
from lhq.store.shards import Shards

_ATTEMPTS = 3
_WINDOW = 64


@dataclass(frozen=True, slots=True)
class Change:
    """One photo that is not as it was: `what` is `gone`, `licence`, `bytes` or `opt-out`."""

    id: str
    what: str
    detail: str


@dataclass
class RecheckReport:
    """`changes` found among `checked` photos; `unknown` (id → reason) could not be asked this time."""

    checked: int = 0
    changes: list[Change] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)


def recheck(
    store: str,
    client: Client,
    sources: Mapping[str, Source],
    *,
    reads_bytes: bool = False,
    limit: int | None = None,
    num_threads: int = 16,
    on_progress: OnProgress = silent,
) -> RecheckReport:
    """Ask the web and the sources about the store's photos.

    Args:
        sources: those whose service can be asked; photos of others are only looked for at their address.
        reads_bytes: fetch every photo and compare its sha256, instead of asking for its headers only.
        limit: photos to check at most, those fetched longest ago first.

    Raises:
        InputError: the store has no photos.
        KeyMissing: a source's key is refused.
    """
    rows = _rows(store)
    rows.sort(key=lambda row: (row["fetched_at"], row["id"]))
    rows = rows[:limit]
    report = RecheckReport()

    def check(row: dict[str, Any]) -> tuple[str, list[Change], str]:
        try:
            found = [*_at_its_address(row, client, reads_bytes), *_by_its_source(row, sources.get(row["source"]))]
            return row["id"], found, ""
        except (FetchError, SourceError) as error:
            return row["id"], [], error.message

    on_progress("checking", 0, len(rows))
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for start in range(0, len(rows), _WINDOW):
                for id, changes, unknown in pool.map(check, rows[start : start + _WINDOW]):
                    report.checked += 1
                    report.changes += changes
                    if unknown:
                        report.unknown[id] = unknown
                    on_progress("checking", report.checked, len(rows))
        except BaseException:
            client.stop()
            raise
    return report


def _rows(store: str) -> list[dict[str, Any]]:
    photos, removed = Shards(store, "photos"), tombstones.removed_ids(store)
    columns = [
        name
        for name in PAPERS
        if name in {"id", "source", "source_id", "url", "licence", "sha256", "size_bytes", "fetched_at"}
    ]
    rows = [row for number in photos.numbers() for row in photos.read(number, columns).to_pylist()]
    if not rows:
        raise InputError(f"{store}: no photos", hint="run lhq crawl first")
    return [row for row in rows if row["id"] not in removed]


def _at_its_address(row: dict[str, Any], client: Client, reads_bytes: bool) -> Iterator[Change]:
    if not row["url"].startswith(("http://", "https://")):
        return
    try:
        answer = _asked(client.fetch if reads_bytes else client.head, row["url"], client)
    except FetchError as error:
        if error.reason in {"http-404", "http-410"}:
            yield Change(row["id"], "gone", error.reason)
        elif error.reason in {"opt-out", "robots"}:
            yield Change(row["id"], "opt-out", error.message)
        else:
            raise
        return
    size = answer.headers.get("content-length", "")
    if answer.status in {404, 410} or "unavailable" in answer.url.rsplit("/", 1)[-1]:
        yield Change(row["id"], "gone", f"http-{answer.status} at {answer.url}")
    elif answer.status != 200:
        raise SourceError(f"{client.clean(answer.url)}: status {answer.status}", hint="try again later")
    elif (binding := answer.evidence.binding(client.policy.honour)) or (
        reads_bytes and (binding := Evidence(from_file(answer.body, xmp(answer.body))).binding(client.policy.honour))
    ):
        yield Change(row["id"], "opt-out", binding)
    elif reads_bytes:
        sha256 = hashlib.sha256(answer.body).hexdigest()
        if sha256 != row["sha256"]:
            yield Change(row["id"], "bytes", f"sha256 is {sha256}, was {row['sha256']}")
    elif size.isdecimal() and int(size) not in {0, row["size_bytes"]}:
        yield Change(row["id"], "bytes", f"{int(size):,} bytes, were {row['size_bytes']:,}")


def _asked(ask: Callable[[str], Answer], url: str, client: Client) -> Answer:
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
