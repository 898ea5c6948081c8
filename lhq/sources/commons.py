"""Query → candidates of Wikimedia Commons: its search, no key, by licence.

Wikimedia asks for a User-Agent with contact, at most two connections and 25 Mbit/s to the upload host, and patience
while its databases lag (`maxlag`). Photos wider than wanted are taken at a width that Commons renders anyway.
Source: www.mediawiki.org/wiki/API:Etiquette, API:Imageinfo; wikitech.wikimedia.org/wiki/Robot_policy.
"""

from __future__ import annotations

import html
import json
import re
from urllib.parse import urlencode

import pydantic

from lhq.errors import ConfigError, SourceError
from lhq.http import Client
from lhq.http.pace import retry_after_s
from lhq.records import Candidate, Query
from lhq.rights.licences import LICENCES, Rights, from_url
from lhq.sources import Limits, Page, Skips, Source, SourceSettings, fields, link, number, text

PAGE_SIZE = 50
UPLOADS = "https://upload.wikimedia.org/"
BYTES_PER_S = 25e6 / 8
MOST_LAGS = 20
TYPES = {"image/jpeg", "image/png", "image/webp"}
_MARKUP = re.compile(r"<[^>]{0,2000}>")


class CommonsSettings(SourceSettings):
    """`[source.commons]`; `[http] contact` must be set."""

    api: str = "https://commons.wikimedia.org/w/api.php"
    licences: tuple[str, ...] = (
        "cc0-1.0",
        "pdm-1.0",
        "cc-by-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-1.0",
        "cc-by-sa-2.0",
        "cc-by-sa-2.5",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
    )
    width_px: int = pydantic.Field(3840, ge=320)
    """Wider originals are taken at this width."""

    @pydantic.field_validator("licences")
    @classmethod
    def _known(cls, licences: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [licence for licence in licences if licence not in LICENCES]
        if unknown or not licences:
            raise ValueError(f"{', '.join(unknown) or 'none'}: not known; known: {', '.join(sorted(LICENCES))}")
        return licences


class Commons(Source):
    """The Commons search.

    Raises:
        ConfigError: no contact is given.
    """

    name = "commons"
    settings_class = CommonsSettings
    settings: CommonsSettings
    states_licences = True
    rights = Rights(
        train="by-licence",
        redistribute="by-licence",
        commercial="by-licence",
        note="Wikimedia Commons: each photo's licence says what may be done with it",
    )
    limits = Limits(page_size=PAGE_SIZE, calls_per_kept=0, photo_bytes=2_500_000, photos_per_s=1)

    def __init__(self, settings: CommonsSettings, client: Client) -> None:
        self.settings = settings
        self._client = client
        if not client.settings.contact.strip():
            raise ConfigError(
                "[http] contact is empty, and Wikimedia asks every robot for one",
                hint='write contact = "mailto:you@example.org" (or a page) in [http]',
            )
        client.limit(UPLOADS, num_slots=2, bytes_per_s=BYTES_PER_S)
        client.limit_service(settings.api, num_slots=1, pace_per_s=5)

    def search(self, query: Query, cursor: str | None) -> Page:
        """Cursor: the API's own `continue` object, as JSON."""
        params: dict[str, object] = {
            "action": "query",
            "format": "json",
            "formatversion": 2,
            "maxlag": 5,
            "generator": "search",
            "gsrnamespace": 6,
            "gsrsearch": f"{query.text} filetype:bitmap",
            "gsrlimit": PAGE_SIZE,
            "prop": "imageinfo",
            "iiprop": "url|size|mime|extmetadata",
            "iiurlwidth": self.settings.width_px,
            "iiextmetadatafilter": "LicenseUrl|LicenseShortName|Artist|Credit|ImageDescription|DateTimeOriginal",
        }
        if cursor is not None:
            params |= json.loads(cursor)
        body = self._call(params)
        pages = fields(body.get("query")).get("pages", [])
        if not isinstance(pages, list):
            raise SourceError(f"{self.settings.api}: no list of pages", hint="the API may have changed; see its docs")
        skips = Skips()
        ordered = sorted((fields(page) for page in pages), key=lambda page: number(page.get("index")) or 0)
        found = [candidate for page in ordered if (candidate := self._candidate(page, query, skips))]
        following = fields(body.get("continue"))
        return Page(tuple(found), json.dumps(following, sort_keys=True) if following else None, None, skips.all())

    def licence_of(self, source_id: str) -> str | None:
        """By the page's imageinfo; a page that is missing is a photo that was deleted."""
        body = self._call(
            {
                "action": "query",
                "format": "json",
                "formatversion": 2,
                "maxlag": 5,
                "pageids": source_id,
                "prop": "imageinfo",
                "iiprop": "extmetadata",
                "iiextmetadatafilter": "LicenseUrl",
            }
        )
        pages = fields(body.get("query")).get("pages")
        page = fields(pages[0]) if isinstance(pages, list) and pages else {}
        infos = page.get("imageinfo")
        if page.get("missing") or not isinstance(infos, list) or not infos:
            return None
        licence = from_url(_value(fields(fields(infos[0]).get("extmetadata")), "LicenseUrl"))
        return licence.id if licence else ""

    def _call(self, params: dict[str, object]) -> dict[str, object]:
        url = f"{self.settings.api}?{urlencode(params)}"
        for _ in range(MOST_LAGS):
            answer = self._client.api("GET", url)
            body = fields(self._client.read_json(self.settings.api, answer))
            error = fields(body.get("error"))
            if not error:
                return body
            if text(error.get("code")) != "maxlag":
                said = self._client.clean(text(error.get("info")) or error)
                raise SourceError(f"Commons refuses ({said})", hint="see the API's documentation")
            wait_s = retry_after_s(answer.headers)
            self._client.hosts.pause(
                self._client.service_of(url), 5.0 if wait_s is None else wait_s, "its databases lag"
            )
        raise SourceError("Commons: its databases lag behind for too long", hint="run the same command again later")

    def _candidate(self, page: dict[str, object], query: Query, skips: Skips) -> Candidate | None:
        infos = page.get("imageinfo")
        info = fields(infos[0]) if isinstance(infos, list) and infos else {}
        said = fields(info.get("extmetadata"))
        page_id, page_url = number(page.get("pageid")), link(info.get("descriptionurl"))
        licence = from_url(_value(said, "LicenseUrl"))
        author = _plain(_value(said, "Artist")) or _plain(_value(said, "Credit"))
        if text(info.get("mime")) not in TYPES:
            skips.add("not a photo")
            return None
        width, height = number(info.get("width")), number(info.get("height"))
        url = link(info.get("url"))
        if width and width > self.settings.width_px and link(info.get("thumburl")):
            url = link(info.get("thumburl"))
            width, height = number(info.get("thumbwidth")), number(info.get("thumbheight"))
        if not (page_id and url and page_url and author):
            skips.add("no papers")
            return None
        if licence is None or not {licence.id, licence.unported} & {*self.settings.licences}:
            skips.add("licence")
            return None
        if width and height and min(width, height) < self.settings.min_side_px:
            skips.add("too small")
            return None
        return Candidate(
            source=self.name,
            source_id=str(page_id),
            url=url,
            page_url=page_url,
            author=author,
            author_url="",
            licence=licence.id,
            query=query.text,
            width_px=width,
            height_px=height,
            title=text(page.get("title")).removeprefix("File:"),
            description=_plain(_value(said, "ImageDescription")),
            taken_at=_plain(_value(said, "DateTimeOriginal")),
        )


def _value(said: dict[str, object], name: str) -> str:
    return text(fields(said.get(name)).get("value"))


def _plain(markup: str) -> str:
    """HTML as text, on one line."""
    return " ".join(html.unescape(_MARKUP.sub(" ", markup)).split())[:2000]
