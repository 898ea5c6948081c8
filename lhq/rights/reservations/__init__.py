"""Opt-outs from machine learning: what a photo's host, file and author state, by which signal, and when it was checked.

Several signals are in use on the web and none is the standard, so all of them are read, and one opt-out is enough. If
two contradict each other, the stricter one binds.

The functions here are pure; `lhq.http` makes the requests. Silence is recorded as well: a row's papers must show that
its host was asked on some day and stated nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lhq.records import Candidate
from lhq.rights.reservations.author_text import from_words
from lhq.rights.reservations.file_metadata import from_file
from lhq.rights.reservations.headers import from_headers
from lhq.rights.reservations.host_files import from_robots, from_tdmrep
from lhq.rights.reservations.statements import Statement, Statements

__all__ = [
    "SIGNALS",
    "Evidence",
    "SignalCounts",
    "Statement",
    "Statements",
    "asked",
    "count_signals",
    "evidence_of_headers",
    "evidence_of_photo",
    "from_file",
    "from_headers",
    "from_robots",
    "from_tdmrep",
    "from_words",
    "timestamp",
]

SIGNALS: dict[str, str] = {
    "robots-content-usage": "Content-Usage in robots.txt (IETF AIPREF)",
    "content-signal": "Content-Signal in robots.txt (Cloudflare)",
    "tdmrep": "/.well-known/tdmrep.json (W3C TDM Reservation Protocol)",
    "x-robots-tag": "X-Robots-Tag in the response headers: noai, noimageai, noml, noindex, noimageindex, none",
    "tdm-reservation": "TDM-Reservation in the response headers (W3C TDM Reservation Protocol)",
    "content-usage": "Content-Usage in the response headers (IETF AIPREF)",
    "metadata": "data-mining fields in the file itself (IPTC and PLUS in XMP, C2PA)",
    "words": "noai, noimageai among the author's tags, title and description",
}
"""Signal → where it is found. The keys are the values of `[rights] honour`, in the order in which they are checked."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The statements about one photo, by signal.

    `asked_at` is when the photo's own signals were checked, `host_asked_at` when its host's files were fetched (they
    are cached for a day): ISO 8601, or "" if that didn't happen.
    """

    statements: Mapping[str, Statement]
    asked_at: str = ""
    host_asked_at: str = ""

    @property
    def reserved(self) -> tuple[str, ...]:
        """The signals that opt out."""
        return tuple(name for name in SIGNALS if name in self.statements and self.statements[name].reserves)

    def binding(self, honour: Iterable[str]) -> str:
        """The first opt-out among the honoured signals, with its wording ("tdmrep: 1"), or ""."""
        honoured = set(honour)
        for name in self.reserved:
            if name in honoured:
                return f"{name}: {self.statements[name].words}"
        return ""

    def merge(self, other: Evidence) -> Evidence:
        """Merge with later evidence: for a signal in both, `other`'s statement."""
        return Evidence(
            {**self.statements, **other.statements},
            other.asked_at or self.asked_at,
            other.host_asked_at or self.host_asked_at,
        )

    def merge_strictest(self, other: Evidence) -> Evidence:
        """Merge with evidence of another URL of a redirect chain: for a signal in both, the statement that opts out."""
        statements = {**self.statements, **other.statements}
        statements |= {name: said for name, said in self.statements.items() if said.reserves}
        return Evidence(statements, other.asked_at or self.asked_at, other.host_asked_at or self.host_asked_at)

    @classmethod
    def from_papers(cls, reserved: Sequence[str], reservations: str) -> Evidence:
        """Parse a row's columns `reserved` and `reservations`."""
        found = json.loads(reservations) if reservations else {}
        statements = {name: Statement(words, name in reserved) for name, words in found.get("answers", {}).items()}
        return cls(statements, found.get("asked_at", ""), found.get("host_asked_at", ""))

    def papers(self) -> dict[str, Any]:
        """The evidence as the columns `reserved` and `reservations` of a row's papers."""
        if not self.statements:
            return {"reserved": [], "reservations": ""}
        said = {name: self.statements[name].words for name in SIGNALS if name in self.statements}
        times = {"asked_at": self.asked_at, "host_asked_at": self.host_asked_at}
        found = {**{name: at for name, at in times.items() if at}, "answers": said}
        return {
            "reserved": list(self.reserved),
            "reservations": json.dumps(found, ensure_ascii=False, separators=(",", ":")),
        }


def timestamp() -> str:
    """The present time as evidence records it: ISO 8601, UTC, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def evidence_of_headers(headers: Mapping[str, str]) -> Evidence:
    """Evidence from the headers of a photo's response, checked now."""
    return Evidence(from_headers(headers), asked_at=timestamp())


def evidence_of_photo(candidate: Candidate, data: bytes | bytearray, packets: Sequence[bytes]) -> Evidence:
    """Evidence from a photo's bytes, their XMP packets and its author's text, checked now."""
    statements = from_file(data, packets) | from_words(candidate.title, candidate.description, candidate.tags)
    return Evidence(statements, asked_at=timestamp())


@dataclass(frozen=True, slots=True)
class SignalCounts:
    """Numbers of photos for which one signal was checked, was silent, stated something, and opted out."""

    asked: int
    silent: int
    answered: int
    reserved: int


def count_signals(reservations: Iterable[str], reserved: Iterable[Sequence[str]]) -> dict[str, SignalCounts]:
    """Counts by signal, from these columns of photos' papers."""
    silent, answered, said_no = Counter[str](), Counter[str](), Counter[str]()
    for said in reservations:
        for name, words in answers_of(said).items():
            (silent if words is None else answered)[name] += 1
    for names in reserved:
        said_no.update(names)
    return {
        name: SignalCounts(silent[name] + answered[name], silent[name], answered[name], said_no[name])
        for name in SIGNALS
    }


def answers_of(reservations: str) -> dict[str, str | None]:
    """Parse a row's `reservations`: signal → wording, or None if the signal was silent."""
    found = json.loads(reservations)["answers"] if reservations else {}
    return {str(name): words for name, words in found.items()}
