"""What a server answered, and the error that stands for an answer that could not be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lhq.errors import FetchError
from lhq.http.guard import Target, clean
from lhq.rights.reservations import Evidence

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers and a body; `url` is the final one.

    Header names are lower-case, repeated headers joined by commas. `body` is whole and decoded.
    `evidence` is what the host said about use, of a photo.
    """

    url: str
    status: int
    headers: Headers
    body: bytes | bytearray
    evidence: Evidence = field(default_factory=lambda: Evidence({}))


class OptedOut(FetchError):
    """A photo that its host reserves, by a signal that binds; `evidence` holds every answer that was had of it."""

    def __init__(self, message: str, *, hint: str, evidence: Evidence) -> None:
        super().__init__(message, hint=hint, reason="opt-out", permanent=True)
        self.evidence = evidence


def failure(target: Target, what: str, reason: str, *, permanent: bool = False, hint: str = "") -> FetchError:
    """The error of one attempt at `target`."""
    return FetchError(
        f"{clean(target.url, limit=120)}: {what}",
        hint=hint or "it is tried again later",
        reason=reason,
        permanent=permanent,
    )


def too_large(target: Target, what: str, max_bytes: int) -> FetchError:
    """The error of a body beyond the cap."""
    return failure(
        target,
        f"{what}, the cap is {max_bytes:,}",
        "too-large",
        permanent=True,
        hint="raise [http] max_bytes if such photos are meant",
    )
