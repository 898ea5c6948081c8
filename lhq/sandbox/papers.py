"""Picture → papers: the invented but permanent record that each service keeps of it.

Ids, authors, licences, dates and secrets are pure functions of the gallery's seed and the picture's index.
Most pictures are on one service; about one in seven is on both, so that a crawl finds the same bytes twice.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import time
from dataclasses import dataclass

from lhq.sandbox.gallery import Picture

_FIRST = (
    "Ada",
    "Bruno",
    "Chiara",
    "Dmitri",
    "Elena",
    "Farid",
    "Greta",
    "Hiro",
    "Ines",
    "Jonas",
    "Kamala",
    "Lars",
    "Mei",
    "Nadia",
    "Olu",
    "Priya",
    "Quentin",
    "Rosa",
    "Sami",
    "Tomás",
    "Uma",
    "Viktor",
    "Wanjiru",
    "Yuki",
)
_LAST = (
    "Abel",
    "Bianchi",
    "Castro",
    "Dahl",
    "Eriksen",
    "Farouk",
    "García",
    "Horvat",
    "Ito",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Mbeki",
    "Novak",
    "Okafor",
    "Petrov",
    "Quiroga",
    "Rossi",
    "Sato",
    "Tanaka",
    "Usman",
    "Weber",
)
# Flickr licence id → share in per cent; most are those that LHQ used (2, 4, 8, 9, 10).
_LICENCES = {4: 26, 2: 18, 9: 10, 10: 8, 8: 8, 0: 10, 5: 5, 1: 3, 3: 3, 6: 3, 7: 2, 11: 2, 12: 1, 14: 1}
_EPOCH, _NOW = calendar.timegm((2006, 1, 1, 0, 0, 0)), calendar.timegm((2024, 6, 1, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Papers:
    """What both services know about one picture; `secret_original` is the secret of sizes over 1024 px."""

    picture: Picture
    on_unsplash: bool
    on_flickr: bool
    unsplash_id: str
    flickr_id: str
    secret: str
    secret_original: str
    nsid: str
    author: str
    username: str
    description: str
    licence: int
    uploaded: int
    taken: int
    colour: str
    has_original: bool
    strings: bool

    @property
    def created_at(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.uploaded))

    @property
    def taken_at(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.taken))


def write(picture: Picture, seed: int) -> Papers:
    """The papers of one picture."""
    digest = hashlib.sha256(f"papers|{seed}|{picture.index}".encode()).digest()
    number = [int.from_bytes(digest[i : i + 2], "big") for i in range(0, 32, 2)]
    where = number[0] % 100
    first, last = _FIRST[number[1] % len(_FIRST)], _LAST[number[2] % len(_LAST)]
    uploaded = _EPOCH + int.from_bytes(digest[6:10], "big") % (_NOW - _EPOCH)
    author = f"{first} {last}"
    kinds = [licence for licence, share in _LICENCES.items() for _ in range(share)]
    flickr_number = 50_000_000_000 + picture.index * 40_009 + int.from_bytes(digest[10:14], "big") % 40_000
    return Papers(
        picture=picture,
        on_unsplash=where < 57,
        on_flickr=where >= 43,
        unsplash_id=base64.urlsafe_b64encode(digest[14:22]).decode()[:11],
        flickr_id=str(flickr_number),
        secret=digest[20:25].hex(),
        secret_original=digest[25:30].hex(),
        nsid=f"{10_000_000 + number[1] * 797 + number[2]}@N0{number[1] % 9}",
        author=author,
        username=f"{first}{last}".lower(),
        description="" if number[12] % 4 == 0 else f"{picture.title}. {', '.join(picture.tags[:4]).capitalize()}.",
        licence=kinds[number[13] % len(kinds)],
        uploaded=uploaded,
        taken=uploaded - number[14] * 400,
        colour=f"#{digest[28:31].hex()}",
        has_original=number[15] % 25 != 0,
        strings=number[14] % 2 == 0,
    )
