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
# What stands for the author of files from before templates were asked for.
_ASSUMED = re.compile(r"No machine-readable author provided\.\s*(.*?)\s*assumed \(based on copyright claims\)\.?")
_EXTENT = re.compile(r"-(?:international|universal|unported|generic|migrated)$")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
# "Own work" in the languages of most uploads: it says where a file comes from, and some put it in the author's place.
_OWN_WORK = {
    "own work",
    "own work by uploader",
    "own work by the original uploader",
    "own work assumed",
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
    if assumed := _ASSUMED.fullmatch(author):
        author = assumed[1]
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
    value = fields(metadata.get(name)).get("value")
    if isinstance(value, dict):  # by language, as wikis give it that are asked for several
        known = {language: said for language, said in value.items() if language != "_type"}
        value = known.get("en") or next(iter(known.values()), None)
    return text(value)


def _licence(metadata: dict[str, object]) -> Licence | None:
    found = from_url(_value(metadata, "LicenseUrl"))
    if found is not None:
        return found
    for name in ("License", "LicenseShortName"):
        words = re.sub(r"[\s_-]+", "-", plain(_value(metadata, name))[0].lower().strip())
        words = _EXTENT.sub("", words.partition(",")[0])  # of several versions the latest, which stands first
        if words in LICENCES and words.startswith(("cc-", "cc0", "pdm")):
            return LICENCES[words]
        if words in {"cc0", "cc-zero", "cc-0"}:
            return LICENCES["cc0-1.0"]
        if words.startswith(("pd-usgov", "pd-us-gov")):
            return LICENCES["us-gov"]
        if words in {"pd", "pdm", "cc-pd", "cc-pd-mark"} or words.startswith(
            ("pd-", "pdm-", "cc-pdm", "public-domain")
        ):
            return LICENCES["pdm-1.0"]
    return None


class _Reader(HTMLParser):
    """Collects the visible text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.link = ""
        self._hidden: list[str] = []
        """The elements that are open around here, from the outermost hidden one on."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag in _VOID:
            self.parts += [" "] if tag in _APART else []
        elif self._hidden or tag in _UNSEEN or _HIDDEN.search(said.get("style") or "") or "hidden" in said:
            self._hidden.append(tag)
        elif tag in _APART:
            self.parts.append(" ")
        elif tag == "a" and not self.link and (address := said.get("href")) and "redlink=1" not in address:
            self.link = link(urljoin("https://commons.wikimedia.org/", address))

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag in self._hidden:  # what was left open inside ends with it
                while self._hidden.pop() != tag:
                    pass
        elif tag in _APART:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)
