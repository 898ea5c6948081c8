"""What a photo's host, file and author said about machines that learn: every signal asked, its answer, and when.

Seven signals are in use on the web and none is the standard, so all are read, and one that says no is enough. Where
two contradict each other, the stricter one binds: losing one photo harms nobody.

The functions here are pure; `lhq.http` asks the hosts. Evidence is kept of silence too: that a host was asked on a
day and said nothing is what a row's papers must show.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lhq.records import Candidate
from lhq.rights.reservations.answers import Answers, Said
from lhq.rights.reservations.files import from_file
from lhq.rights.reservations.headers import from_headers
from lhq.rights.reservations.sites import from_robots, from_tdmrep
from lhq.rights.reservations.words import from_words

__all__ = [
    "OF_HOST",
    "SIGNALS",
    "Answers",
    "Asked",
    "Evidence",
    "Said",
    "asked",
    "asked_now",
    "counted",
    "from_file",
    "from_headers",
    "from_robots",
    "from_tdmrep",
    "from_words",
    "of_answer",
    "of_photo",
]

SIGNALS: dict[str, str] = {
    "robots-content-usage": "Content-Usage in robots.txt (IETF AIPREF)",
    "content-signal": "Content-Signal in robots.txt (Cloudflare)",
    "tdmrep": "/.well-known/tdmrep.json (W3C TDM Reservation Protocol)",
    "x-robots-tag": "X-Robots-Tag in the answer's header: noai, noimageai, noml, noindex, noimageindex, none",
    "tdm-reservation": "TDM-Reservation in the answer's header (W3C TDM Reservation Protocol)",
    "content-usage": "Content-Usage in the answer's header (IETF AIPREF)",
    "metadata": "data-mining fields in the file itself (IPTC and PLUS in XMP, C2PA)",
    "words": "noai, noimageai among the author's tags, title and description",
}
"""Signal → where it stands; the names that `[rights] honour` takes, in the order in which they are asked."""

OF_HOST = ("robots-content-usage", "content-signal", "tdmrep")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The answers of one photo. `asked_at` is when its own signals were asked, `host_asked_at` when its host's
    files were (they are kept for a day); ISO 8601, "" where nobody was asked."""

    answers: Mapping[str, Said]
    asked_at: str = ""
    host_asked_at: str = ""

    @property
    def reserved(self) -> tuple[str, ...]:
        """The signals that say no."""
        return tuple(name for name in SIGNALS if name in self.answers and self.answers[name].reserves)

    def binding(self, honour: Iterable[str]) -> str:
        """The first signal that says no and is honoured, with its words ("tdmrep: 1"); "" where none does."""
        honoured = set(honour)
        for name in self.reserved:
            if name in honoured:
                return f"{name}: {self.answers[name].words}"
        return ""

    def joined(self, other: Evidence) -> Evidence:
        """Both; of a signal that was asked twice the later answer."""
        return Evidence(
            {**self.answers, **other.answers},
            other.asked_at or self.asked_at,
            other.host_asked_at or self.host_asked_at,
        )

    def stricter(self, other: Evidence) -> Evidence:
        """Both, of two addresses that a photo came by: of a signal asked at each, the answer that reserves."""
        answers = {**self.answers, **other.answers}
        answers |= {name: said for name, said in self.answers.items() if said.reserves}
        return Evidence(answers, other.asked_at or self.asked_at, other.host_asked_at or self.host_asked_at)

    @classmethod
    def of_papers(cls, reserved: Sequence[str], reservations: str) -> Evidence:
        """The evidence that a row's columns `reserved` and `reservations` hold."""
        found = json.loads(reservations) if reservations else {}
        answers = {name: Said(words, name in reserved) for name, words in found.get("answers", {}).items()}
        return cls(answers, found.get("asked_at", ""), found.get("host_asked_at", ""))

    def papers(self) -> dict[str, Any]:
        """The columns `reserved` and `reservations` of a row's papers."""
        if not self.answers:
            return {"reserved": [], "reservations": ""}
        said = {name: self.answers[name].words for name in SIGNALS if name in self.answers}
        times = {"asked_at": self.asked_at, "host_asked_at": self.host_asked_at}
        found = {**{name: at for name, at in times.items() if at}, "answers": said}
        return {
            "reserved": list(self.reserved),
            "reservations": json.dumps(found, ensure_ascii=False, separators=(",", ":")),
        }


def asked_now() -> str:
    """The time that evidence records, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def of_answer(headers: Mapping[str, str]) -> Evidence:
    """What the headers of a photo's answer say, asked now."""
    return Evidence(from_headers(headers), asked_at=asked_now())


def of_photo(candidate: Candidate, data: bytes | bytearray, packets: Sequence[bytes]) -> Evidence:
    """What a photo's own bytes (and their XMP packets) and its author's words say, asked now."""
    answers = from_file(data, packets) | from_words(candidate.title, candidate.description, candidate.tags)
    return Evidence(answers, asked_at=asked_now())


@dataclass(frozen=True, slots=True)
class Asked:
    """One signal: photos for which it was asked, was silent, answered, and said no."""

    asked: int
    silent: int
    answered: int
    reserved: int


def counted(reservations: Iterable[str], reserved: Iterable[Sequence[str]]) -> dict[str, Asked]:
    """Every signal's counts, from these columns of photos' papers."""
    silent, answered, said_no = Counter[str](), Counter[str](), Counter[str]()
    for said in reservations:
        for name, words in asked(said).items():
            (silent if words is None else answered)[name] += 1
    for names in reserved:
        said_no.update(names)
    return {name: Asked(silent[name] + answered[name], silent[name], answered[name], said_no[name]) for name in SIGNALS}


def asked(reservations: str) -> dict[str, str | None]:
    """Signal → its words (None: it was asked and said nothing), from a row's `reservations`."""
    found = json.loads(reservations)["answers"] if reservations else {}
    return {str(name): words for name, words in found.items()}
