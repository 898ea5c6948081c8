"""A server's response, and the errors of requests that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lhq.errors import FetchError
from lhq.http.guard import Target, clean
from lhq.rights.reservations import Evidence

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; `url` is the final one, after redirects.

    Header names are lower-case, repeated headers joined by commas. `body` is complete and decoded. `evidence` is what
    the host states about a photo's use.
    """

    url: str
    status: int
    headers: Headers
    body: bytes | bytearray
    evidence: Evidence = field(default_factory=lambda: Evidence({}))


class OptedOut(FetchError):
    """The host opts a photo out by a signal that is honoured; `evidence` holds every statement seen."""

    def __init__(self, message: str, *, hint: str, evidence: Evidence) -> None:
        super().__init__(message, hint=hint, reason="opt-out", permanent=True)
        self.evidence = evidence


def failure(target: Target, problem: str, reason: str, *, permanent: bool = False, hint: str = "") -> FetchError:
    """The error of a failed attempt to fetch `target`."""
    return FetchError(
        f"{clean(target.url, limit=120)}: {problem}",
        hint=hint or "it is tried again later",
        reason=reason,
        permanent=permanent,
    )


def too_large(target: Target, problem: str, max_bytes: int) -> FetchError:
    """The error of a body larger than the limit."""
    return failure(
        target,
        f"{problem}, the cap is {max_bytes:,}",
        "too-large",
        permanent=True,
        hint="raise [http] max_bytes if such photos are meant",
    )
