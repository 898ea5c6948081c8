"""The table of licences and what each allows, and the type of what a source's terms allow.

A photo's licence (`Licence`) and its source's terms of use (`Rights`) are separate; export needs both to agree. Ids are
lower-case SPDX identifiers with version and, for ported licences, jurisdiction (`cc-by-sa-3.0-de`), so that a row's
licence is unambiguous without a lookup.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

Allowance = Literal["yes", "no", "by-licence", "by-permission", "non-commercial", "user"]

# The Creative Commons licences that a dataset card may name; any other is "other" with a name and a link.
# Source: https://huggingface.co/docs/hub/repositories-licenses
HUB_LICENCES = frozenset(
    {
        "cc0-1.0",
        *(f"cc-by-{version}" for version in ("2.0", "2.5", "3.0", "4.0")),
        *(f"cc-by-sa-{version}" for version in ("3.0", "4.0")),
        *(f"cc-by-nc-{version}" for version in ("2.0", "3.0", "4.0")),
        "cc-by-nd-4.0",
        *(f"cc-by-nc-nd-{version}" for version in ("3.0", "4.0")),
        *(f"cc-by-nc-sa-{version}" for version in ("2.0", "3.0", "4.0")),
    }
)


@dataclass(frozen=True, slots=True)
class Licence:
    """What one licence allows.

    `freedom` ranks licences from free (0) to closed (9); of a cluster of duplicates, the freest is kept. `hub` is the
    licence's identifier on the Hugging Face Hub ("other" if it has none). `learning` says whether models may be trained
    on the photo; "not-said" (no licence is stated) can be overridden by the source's terms or by the folder's owner.
    `public_domain` is a claim about the work, not the mere absence of known restrictions.
    """

    id: str
    name: str
    version: str
    url: str
    hub: str = "other"
    redistribute: bool = True
    commercial: bool = True
    derivatives: bool = True
    attribution: bool = False
    share_alike: bool = False
    public_domain: bool = False
    learning: Literal["yes", "no", "not-said"] = "yes"
    freedom: int = 9

    @property
    def unported(self) -> str:
        """The id without its jurisdiction: `cc-by-sa-3.0` of `cc-by-sa-3.0-de`."""
        stem, _, port = self.id.rpartition("-")
        return stem if port in _PORTS else self.id


@dataclass(frozen=True, slots=True)
class Rights:
    """What a source's terms of use allow, independent of each photo's licence.

    `by-licence` defers to the photo's licence, `by-permission` requires a permission in the pipeline file, `user`
    relies on the owner of the folder. `note` is a sentence for reports and errors.
    """

    train: Allowance
    redistribute: Allowance
    commercial: Allowance
    note: str


_CC_FREEDOM = {
    "by": 3,
    "sa": 4,
    "by-sa": 4,
    "nc": 5,
    "by-nc": 5,
    "nd": 6,
    "by-nd": 6,
    "nc-sa": 6,
    "by-nc-sa": 6,
    "nc-nd": 7,
    "by-nc-nd": 7,
}
# Only version 1.0 has licences without attribution; it also writes BY-NC-ND as BY-ND-NC.
_WITHOUT_ATTRIBUTION = ("sa", "nc", "nd", "nc-sa", "nc-nd")
_NAMES_IN_1_0 = {"by-nc-nd": "by-nd-nc", "nc-nd": "nd-nc"}
_VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
# Jurisdictions with ported Creative Commons licences; 4.0 has no ports. Source: creativecommons.org/licenses/list.en
_JURISDICTIONS = (
    "am ar at au az be bg br ca ch cl cn co cr cz de dk ec ee eg es fi fr ge gr gt hk hr hu ie igo il in it jp kr lu "
    "mk mt mx my nl no nz pe ph pl pr pt ro rs scotland se sg si th tw ug uk us ve vn za"
)
_PORTS = frozenset(_JURISDICTIONS.split())
_PORTED_VERSIONS = ("1.0", "2.0", "2.1", "2.5", "3.0")


def _cc(kind: str, version: str) -> Licence:
    parts, id = kind.split("-"), f"cc-{kind}-{version}"
    word = _NAMES_IN_1_0.get(kind, kind) if version == "1.0" else kind
    return Licence(
        id=id,
        name=f"CC {word.upper()} {version}",
        version=version,
        url=f"https://creativecommons.org/licenses/{word}/{version}/",
        hub=id if id in HUB_LICENCES else "other",
        commercial="nc" not in parts,
        derivatives="nd" not in parts,
        attribution="by" in parts,
        share_alike="sa" in parts,
        freedom=_CC_FREEDOM[kind],
    )


def _ported(id: str) -> Licence | None:
    """The ported licence of an id such as `cc-by-sa-3.0-de`, or None."""
    stem, _, port = id.rpartition("-")
    kind, _, version = stem.removeprefix("cc-").rpartition("-")
    if not stem.startswith("cc-") or port not in _PORTS or kind not in _CC_FREEDOM or version not in _PORTED_VERSIONS:
        return None
    if kind in _WITHOUT_ATTRIBUTION and version not in {"1.0", "2.0"}:
        return None
    licence = _cc(kind, version)
    return replace(licence, id=id, name=f"{licence.name} {port.upper()}", url=f"{licence.url}{port}/", hub="other")


class Licences(Mapping[str, Licence]):
    """Licences by id. Ported Creative Commons licences can be looked up, but iteration leaves them out."""

    def __init__(self, listed: dict[str, Licence]) -> None:
        self._listed = listed

    def __getitem__(self, id: str) -> Licence:
        licence = self._listed.get(id) or _ported(id)
        if licence is None:
            raise KeyError(id)
        return licence

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


_UNSPLASH_DATASET = "https://github.com/unsplash/datasets/blob/master/TERMS.md"
LICENCES = Licences(
    {
        licence.id: licence
        for licence in [
            Licence(
                "cc0-1.0",
                "CC0 1.0",
                "1.0",
                "https://creativecommons.org/publicdomain/zero/1.0/",
                hub="cc0-1.0",
                public_domain=True,
                freedom=0,
            ),
            Licence(
                "pdm-1.0",
                "Public Domain Mark 1.0",
                "1.0",
                "https://creativecommons.org/publicdomain/mark/1.0/",
                public_domain=True,
                freedom=0,
            ),
            Licence(
                "us-gov",
                "U.S. Government work",
                "",
                "https://www.usa.gov/government-works",
                public_domain=True,
                freedom=1,
            ),
            Licence("nkr", "No known copyright restrictions", "", "https://www.flickr.com/commons/usage/", freedom=2),
            *[_cc(kind, version) for kind in _CC_FREEDOM if kind.startswith("by") for version in _VERSIONS],
            *[_cc(kind, "1.0") for kind in _WITHOUT_ATTRIBUTION],
            Licence("unsplash", "Unsplash License", "", "https://unsplash.com/license", redistribute=False, freedom=8),
            Licence(
                "unsplash-dataset-lite",
                "Unsplash Dataset Lite terms",
                "",
                _UNSPLASH_DATASET,
                redistribute=False,
                freedom=8,
            ),
            Licence(
                "unsplash-dataset-full",
                "Unsplash Dataset Full terms",
                "",
                _UNSPLASH_DATASET,
                redistribute=False,
                commercial=False,
                freedom=8,
            ),
            Licence("own", "Rights stated by the owner of the folder", "", "", freedom=2),
            Licence(
                "not-stated",
                "No licence stated",
                "",
                "",
                redistribute=False,
                commercial=False,
                derivatives=False,
                learning="not-said",
            ),
            Licence(
                "all-rights-reserved",
                "All rights reserved",
                "",
                "",
                redistribute=False,
                commercial=False,
                derivatives=False,
                attribution=True,
                learning="no",
            ),
        ]
    }
)

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


def matching(pattern: str, ids: Mapping[str, object] | set[str]) -> set[str]:
    """The ids that match a pattern such as `cc-by-*`."""
    return {id for id in ids if fnmatch.fnmatchcase(id, pattern)}


def from_url(url: str) -> Licence | None:
    """The licence of a Creative Commons URL, including its jurisdiction, or None.

    The scheme may be missing; `deed`, `legalcode`, their language, query and fragment are ignored.
    """
    try:
        parsed = urlsplit(url.strip() if "//" in url else f"//{url.strip()}")
    except ValueError:
        return None
    if (parsed.hostname or "").removeprefix("www.") != "creativecommons.org":
        return None
    parts = [part for part in parsed.path.lower().split("/") if part]
    if len(parts) < 3:
        return None
    family, kind, version, *rest = parts
    if family == "publicdomain":
        return LICENCES.get({"zero": "cc0-1.0", "mark": "pdm-1.0"}.get(kind, ""))
    if family != "licenses":
        return None
    kind = next((known for known, word in _NAMES_IN_1_0.items() if word == kind), kind)
    is_port = bool(rest) and not rest[0].startswith(("deed", "legalcode", "rdf")) and version != "4.0"
    return LICENCES.get(f"cc-{kind}-{version}" + (f"-{rest[0]}" if is_port else ""))
