"""The table of licences and of what each allows; and what a source's own terms allow on top.

Two questions are kept apart: what a photo's *licence* allows (`Licence`), and what the *source's terms of
use* allow (`Rights`). Export needs a yes from both. Ids are lower-case SPDX-like words with their version,
so that a row states its papers without a look-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Answer = Literal["yes", "no", "by-licence", "by-permission", "non-commercial", "user"]


@dataclass(frozen=True, slots=True)
class Licence:
    """What one licence allows.

    `freedom` orders licences from free (0) to closed (9): the keeper of a duplicate cluster is the freest.
    `hub` is the identifier the Hugging Face card uses ("other" where it has none).
    """

    id: str
    name: str
    version: str
    url: str
    hub: str
    redistribute: bool
    commercial: bool
    derivatives: bool
    attribution: bool
    share_alike: bool
    freedom: int


@dataclass(frozen=True, slots=True)
class Rights:
    """What a source's terms of use allow, whatever the licence of the single photo.

    `by-licence` leaves it to each photo's licence, `by-permission` needs the permission statement of the
    pipeline file, `user` is the word of whoever owns the folder. `note` is the sentence that reports and
    refusals quote.
    """

    train: Answer
    redistribute: Answer
    commercial: Answer
    note: str


def _cc(kind: str, version: str, freedom: int) -> Licence:
    parts = kind.split("-")
    return Licence(
        id=f"cc-{kind}-{version}",
        name=f"CC {kind.upper()} {version}",
        version=version,
        url=f"https://creativecommons.org/licenses/{kind}/{version}/",
        hub=f"cc-{kind}-{version}",
        redistribute=True,
        commercial="nc" not in parts,
        derivatives="nd" not in parts,
        attribution=True,
        share_alike="sa" in parts,
        freedom=freedom,
    )


def _other(
    id: str,
    name: str,
    url: str,
    *,
    hub: str = "other",
    version: str = "",
    redistribute: bool = True,
    commercial: bool = True,
    derivatives: bool = True,
    attribution: bool = False,
    freedom: int,
) -> Licence:
    return Licence(id, name, version, url, hub, redistribute, commercial, derivatives, attribution, False, freedom)


_CC_FREEDOM = {"by": 3, "by-sa": 4, "by-nd": 6, "by-nc": 5, "by-nc-sa": 6, "by-nc-nd": 7}

LICENCES: dict[str, Licence] = {
    licence.id: licence
    for licence in [
        _other(
            "cc0-1.0",
            "CC0 1.0",
            "https://creativecommons.org/publicdomain/zero/1.0/",
            hub="cc0-1.0",
            version="1.0",
            freedom=0,
        ),
        _other(
            "pdm-1.0",
            "Public Domain Mark 1.0",
            "https://creativecommons.org/publicdomain/mark/1.0/",
            version="1.0",
            freedom=0,
        ),
        _other("us-gov", "U.S. Government work", "https://www.usa.gov/government-works", freedom=1),
        _other("nkr", "No known copyright restrictions", "https://www.flickr.com/commons/usage/", freedom=1),
        *[
            _cc(kind, version, freedom)
            for kind, freedom in _CC_FREEDOM.items()
            for version in ("1.0", "2.0", "2.5", "3.0", "4.0")
        ],
        _other("unsplash", "Unsplash License", "https://unsplash.com/license", redistribute=False, freedom=8),
        _other(
            "unsplash-dataset-lite",
            "Unsplash Dataset Lite terms",
            "https://github.com/unsplash/datasets/blob/master/TERMS.md",
            redistribute=False,
            freedom=8,
        ),
        _other(
            "unsplash-dataset-full",
            "Unsplash Dataset Full terms",
            "https://github.com/unsplash/datasets/blob/master/TERMS.md",
            redistribute=False,
            commercial=False,
            freedom=8,
        ),
        _other("own", "Rights stated by the owner of the folder", "", freedom=2),
        _other(
            "not-stated", "No licence stated", "", redistribute=False, commercial=False, derivatives=False, freedom=9
        ),
        _other(
            "all-rights-reserved",
            "All rights reserved",
            "",
            redistribute=False,
            commercial=False,
            derivatives=False,
            attribution=True,
            freedom=9,
        ),
    ]
}

# Source: flickr.photos.licenses.getInfo; ids 0-16.
FLICKR: dict[int, str] = {
    0: "all-rights-reserved",
    1: "cc-by-nc-sa-2.0",
    2: "cc-by-nc-2.0",
    3: "cc-by-nc-nd-2.0",
    4: "cc-by-2.0",
    5: "cc-by-sa-2.0",
    6: "cc-by-nd-2.0",
    7: "nkr",
    8: "us-gov",
    9: "cc0-1.0",
    10: "pdm-1.0",
    11: "cc-by-4.0",
    12: "cc-by-sa-4.0",
    13: "cc-by-nd-4.0",
    14: "cc-by-nc-4.0",
    15: "cc-by-nc-sa-4.0",
    16: "cc-by-nc-nd-4.0",
}


def from_url(url: str) -> Licence | None:
    """The licence that a Creative Commons URL names (any scheme, `deed` and language tails ignored), or None."""
    path = url.split("://")[-1].lower().split("creativecommons.org/")
    if len(path) != 2:
        return None
    parts = [part for part in path[1].split("/") if part]
    if len(parts) < 3:
        return None
    family, kind, version = parts[:3]
    if family == "publicdomain":
        return LICENCES.get({"zero": "cc0-1.0", "mark": "pdm-1.0"}.get(kind, ""))
    return LICENCES.get(f"cc-{kind}-{version}") if family == "licenses" else None
