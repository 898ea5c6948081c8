"""What Wikimedia Commons says of a file → its author, credit line and licence.

The fields of `extmetadata` hold HTML of templates: links, tables, style sheets, hidden copies for machines. `Artist` is
who made the file; `Attribution` the words in which they ask to be named; `Credit` is where the file comes from ("Own
work"), not a person. A licence has an address only where it is Creative Commons': what is in the public domain is
told by `License` and `LicenseShortName` alone. Source: www.mediawiki.org/wiki/Extension:CommonsMetadata.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urljoin

from lhq.rights.licences import LICENCES, Licence, from_url
from lhq.sources import coordinates, fields, link, text

FIELDS = (
    "LicenseUrl|License|LicenseShortName|Artist|Attribution|ImageDescription|DateTimeOriginal|GPSLatitude|GPSLongitude"
)
_MOST_LETTERS = 2000
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_APART = {"br", "dd", "div", "dt", "hr", "li", "p", "table", "td", "th", "tr", "ul", "ol"}
_UNSEEN = {"script", "style", "template", "noscript"}
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
# "Own work" in the languages of most uploads: it says where a file comes from, and some put it in the author's place.
_OWN_WORK = {
    "own work",
    "own photo",
    "self",
    "self-made",
    "eigenes werk",
    "travail personnel",
    "trabajo propio",
    "obra propria",
    "obra do próprio",
    "opera propria",
    "eigen werk",
    "praca własna",
    "собственная работа",
    "自己的作品",
    "投稿者自身による著作物",
}


@dataclass(frozen=True, slots=True)
class Said:
    """What the papers of a candidate take from `extmetadata`; "" and None where it says nothing."""

    author: str
    author_url: str
    attribution: str
    licence: Licence | None
    description: str
    taken_at: str
    latitude: float | None
    longitude: float | None


def read(metadata: dict[str, object]) -> Said:
    """`extmetadata` of one file, as the API gives it."""
    author, author_url = plain(_value(metadata, "Artist"))
    if author.casefold().strip(" .") in _OWN_WORK:
        author = author_url = ""
    attribution, _ = plain(_value(metadata, "Attribution"))
    return Said(
        author=author or attribution,
        author_url=author_url,
        attribution=attribution if attribution != author else "",
        licence=_licence(metadata),
        description=plain(_value(metadata, "ImageDescription"))[0],
        taken_at=plain(_value(metadata, "DateTimeOriginal"))[0],
        **coordinates(_value(metadata, "GPSLatitude"), _value(metadata, "GPSLongitude")),
    )


def plain(markup: str) -> tuple[str, str]:
    """(text that a reader would see, on one line; the first address it links to) of a piece of HTML."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return " ".join("".join(reader.parts).split())[:_MOST_LETTERS], reader.link


def _value(metadata: dict[str, object], name: str) -> str:
    return text(fields(metadata.get(name)).get("value"))


def _licence(metadata: dict[str, object]) -> Licence | None:
    found = from_url(_value(metadata, "LicenseUrl"))
    if found is not None:
        return found
    for name in ("License", "LicenseShortName"):
        words = re.sub(r"[\s_-]+", "-", plain(_value(metadata, name))[0].lower().strip())
        if words in LICENCES and words.startswith(("cc-", "cc0", "pdm")):
            return LICENCES[words]
        if words in {"cc0", "cc-zero", "cc-0"}:
            return LICENCES["cc0-1.0"]
        if words.startswith(("pd-usgov", "pd-us-gov")):
            return LICENCES["us-gov"]
        if words in {"pd", "pdm", "public-domain", "cc-pd", "cc-pd-mark"} or words.startswith("pd-"):
            return LICENCES["pdm-1.0"]
    return None


class _Reader(HTMLParser):
    """Collects the visible text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.link = ""
        self._depth = 0
        """How many elements are open around here, counted from the outermost hidden one."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag in _VOID:
            self.parts += [" "] if tag in _APART else []
        elif self._depth or tag in _UNSEEN or _HIDDEN.search(said.get("style") or "") or "hidden" in said:
            self._depth += 1
        elif tag in _APART:
            self.parts.append(" ")
        elif tag == "a" and not self.link:
            self.link = link(urljoin("https://commons.wikimedia.org/", said.get("href") or ""))

    def handle_endtag(self, tag: str) -> None:
        if self._depth:
            self._depth -= 1
        elif tag in _APART:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._depth:
            self.parts.append(data)
