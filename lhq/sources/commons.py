"""Query → candidates of Wikimedia Commons: its search, no key, by licence.

Wikimedia asks for a User-Agent with contact, at most two connections and 25 Mbit/s to the hosts that serve its files,
whatever they are called (thumbnails moved to a host of their own in 2026), and patience while its databases lag
(`maxlag`). Since 2026 a client that says who it is may call 200 times a minute; established editors' tokens more.
Files wider than wanted are taken at a width of the ladder that Commons renders; any other is refused.
Source: www.mediawiki.org/wiki/API:Etiquette, API:Imageinfo, Common_thumbnail_sizes, Wikimedia_APIs/Rate_limits;
wikitech.wikimedia.org/wiki/Robot_policy.
"""

from __future__ import annotations

import json
import re
from urllib.parse import urlencode

import pydantic

from lhq import nearest
from lhq.errors import ConfigError, KeyMissing, SourceError
from lhq.http import Client
from lhq.http.pace import retry_after_s
from lhq.records import Candidate, Query
from lhq.rights.licences import LICENCES, Rights
from lhq.sources import (
    Limits,
    Manners,
    Page,
    ServiceUrl,
    Skips,
    Source,
    SourceSettings,
    commons_papers,
    fields,
    link,
    number,
    secret,
    text,
)

PAGE_SIZE = 50
HOSTS = ("https://upload.wikimedia.org/", "https://thumb.wikimedia.org/")
LADDER = (20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840)
"""Widths that Commons renders, in pixels."""
MOST_RESULTS = 10_000
MOST_LAGS = 20
TYPES = {"image/jpeg", "image/png", "image/webp"}
_WIDTH_IN_NAME = re.compile(r"(?:^|-)(\d{2,5})px-")


class CommonsSettings(SourceSettings):
    """`[source.commons]`; `[http] contact` must be set. An OAuth 2.0 token is read from WIKIMEDIA_ACCESS_TOKEN."""

    api: ServiceUrl = "https://commons.wikimedia.org/w/api.php"
    """Address of the service; another wiki or a test server."""
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
    """Which licences to keep, by their ids."""
    width_px: int = pydantic.Field(LADDER[-1], ge=320, le=LADDER[-1])
    """Wider originals are taken at this width, or at the next one that Commons renders."""
    calls_per_hour: float = pydantic.Field(200 * 60, gt=0)
    """What Wikimedia allows whoever says who they are; 120,000 with the token of an established editor."""

    @pydantic.field_validator("licences")
    @classmethod
    def _known(cls, licences: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [licence for licence in licences if licence not in LICENCES]
        if unknown or not licences:
            hint = nearest.word(unknown[0], LICENCES, "") if unknown else ""
            hint = hint or f"known: {', '.join(sorted(LICENCES))}"
            raise ValueError(f"{', '.join(unknown) or 'none'}: not known; {hint}")
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
    manners = Manners(num_slots=2, bytes_per_s=25e6 / 8)
    limits = Limits(page_size=PAGE_SIZE, calls_per_kept=0, photo_bytes=2_500_000, photos_per_s=1, slow_photos_per_s=0.4)

    def __init__(self, settings: CommonsSettings, client: Client) -> None:
        self.settings = settings
        self._client = client
        if not client.settings.contact.strip():
            raise ConfigError(
                "[http] contact is empty, and Wikimedia asks every robot for one",
                hint='write contact = "mailto:you@example.org" (or a page) in [http]',
            )
        for host in HOSTS:
            self._mind(host)
        client.limit_service(settings.api, num_slots=1, pace_per_s=settings.calls_per_hour / 3600)
        token = secret("WIKIMEDIA_ACCESS_TOKEN")
        client.keep_secret(token)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._width_px = next(step for step in LADDER if step >= settings.width_px)

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
            "iiurlwidth": self._width_px,
            "iiextmetadatafilter": commons_papers.FIELDS,
        }
        if cursor is not None:
            params |= json.loads(cursor)
        body = self._call(params)
        pages = fields(body.get("query")).get("pages", [])
        if _is_beyond(fields(body.get("error"))):
            return Page((), None)
        if not isinstance(pages, list):
            raise SourceError(f"{self.settings.api}: no list of pages", hint="the API may have changed; see its docs")
        skips = Skips()
        ordered = sorted((fields(page) for page in pages), key=lambda page: number(page.get("index")) or 0)
        found = [candidate for page in ordered if (candidate := self._candidate(page, query, skips))]
        for candidate in found:
            self._mind(candidate.url)
        following = fields(body.get("continue"))
        if (number(following.get("gsroffset")) or 0) >= MOST_RESULTS:
            following = {}
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
                "iiextmetadatafilter": "LicenseUrl|License|LicenseShortName",
            }
        )
        pages = fields(body.get("query")).get("pages")
        page = fields(pages[0]) if isinstance(pages, list) and pages else {}
        infos = page.get("imageinfo")
        if page.get("missing") or not isinstance(infos, list) or not infos:
            return None
        licence = commons_papers.read(fields(fields(infos[0]).get("extmetadata"))).licence
        return licence.id if licence else ""

    def _mind(self, url: str) -> None:
        """Wikimedia's limits, for whichever host serves this file."""
        self._client.limit(url, num_slots=self.manners.num_slots, bytes_per_s=self.manners.bytes_per_s)

    def _call(self, params: dict[str, object]) -> dict[str, object]:
        """The body of one call, waited for while the service asks for patience."""
        url = f"{self.settings.api}?{urlencode(params)}"
        for _ in range(MOST_LAGS):
            answer = self._client.api("GET", url, headers=self._headers)
            body = fields(self._client.read_json(self.settings.api, answer))
            error = fields(body.get("error"))
            if not error or _is_beyond(error):
                return body
            code, said = text(error.get("code")), self._client.clean(text(error.get("info")) or error)
            if code.startswith("mwoauth"):
                raise KeyMissing(f"Commons does not accept the token ({said})", hint="check WIKIMEDIA_ACCESS_TOKEN")
            if code not in {"maxlag", "ratelimited"}:
                raise SourceError(f"Commons refuses ({said})", hint="see the API's documentation")
            wait_s = retry_after_s(answer.headers)
            why = "its databases lag" if code == "maxlag" else "its limit of calls"
            self._client.hosts.pause(self._client.service_of(url), 5.0 if wait_s is None else wait_s, why)
        raise SourceError("Commons: it asks for patience for too long", hint="run the same command again later")

    def _file(self, info: dict[str, object]) -> tuple[str, int | None, int | None]:
        """(URL, width, height) of the file to take: the original, or its rendering where that is large enough. The
        API's `thumbwidth` repeats what was asked for; the file's own width stands in its name."""
        url, width, height = link(info.get("url")), number(info.get("width")), number(info.get("height"))
        rendered = link(info.get("thumburl"))
        if not (width and height and rendered) or width <= self._width_px:
            return url, width, height
        in_name = _WIDTH_IN_NAME.search(rendered.rsplit("/", 1)[-1])
        rendered_width = int(in_name[1]) if in_name else number(info.get("thumbwidth")) or self._width_px
        rendered_height = round(height * rendered_width / width)
        if min(rendered_width, rendered_height) < self.settings.min_side_px <= min(width, height):
            return url, width, height  # a wide panorama, whose rendering is too low
        return rendered, rendered_width, rendered_height

    def _candidate(self, page: dict[str, object], query: Query, skips: Skips) -> Candidate | None:
        infos = page.get("imageinfo")
        info = fields(infos[0]) if isinstance(infos, list) and infos else {}
        page_id, page_url = number(page.get("pageid")), link(info.get("descriptionurl"))
        if text(info.get("mime")) not in TYPES:
            skips.add("not a photo")
            return None
        url, width, height = self._file(info)
        said = commons_papers.read(fields(info.get("extmetadata")))
        licence = said.licence
        if not (page_id and url and page_url) or not (said.author or (licence and not licence.attribution)):
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
            author=said.author,
            author_url=said.author_url,
            licence=licence.id,
            query=query.text,
            width_px=width,
            height_px=height,
            title=text(page.get("title")).removeprefix("File:"),
            description=said.description,
            taken_at=said.taken_at,
            attribution=said.attribution,
            latitude=said.latitude,
            longitude=said.longitude,
        )


def _is_beyond(error: dict[str, object]) -> bool:
    """The search shows its first 10,000 results and calls a page beyond them an error."""
    code = text(error.get("code"))
    return "offset-too-large" in code or ("offset" in code and str(MOST_RESULTS) in text(error.get("info")))
