"""Query → candidates of Flickr: the search API through `flickrapi`, by licence, past the limit of 4,000 results.

Flickr lets only the first 4,000 results of a search be reached. Those are taken in the order asked for; then the
upload-date interval is split into halves, each a search of its own, until every part is under the limit. A half that
is still above it is split at its first page. The cursor is the list of intervals still to do. Sizes carry their own
secret, so the URL is taken from the answer, never built. Source: www.flickr.com/services/api.
"""

from __future__ import annotations

import html
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import flickrapi
import pydantic
import requests

from lhq import nearest
from lhq.errors import KeyMissing, SourceError
from lhq.http import Client
from lhq.records import Candidate, Query
from lhq.rights.licences import FLICKR, Rights
from lhq.sources import (
    Limits,
    Page,
    ServiceUrl,
    Skips,
    Source,
    SourceSettings,
    coordinates,
    fields,
    link,
    number,
    secret,
    text,
)

PAGE_SIZE = 500
WALL = 4000
FIRST_UPLOAD = int(datetime(2004, 2, 1, tzinfo=UTC).timestamp())
EXTRAS = (
    "description,license,date_upload,date_taken,owner_name,geo,camera,path_alias,tags,o_dims,media,original_format,"
    "url_l,url_h,url_k,url_3k,url_4k,url_5k,url_6k,url_o"
)
# Largest first; "o" is the original, which its owner may hide and which may need the EXIF turn.
SIZES = ("6k", "5k", "4k", "3k", "k", "h", "l", "o")
_MARKUP = re.compile(r"<[^>]{0,500}>")


class FlickrSettings(SourceSettings):
    """`[source.flickr]`; key and secret are read from FLICKR_API_KEY and FLICKR_API_SECRET."""

    api: ServiceUrl = "https://api.flickr.com/services/rest/"
    """Address of the service; change it for tests and mirrors."""
    licences: tuple[str, ...] = ("cc-by-2.0", "cc-by-nc-2.0", "us-gov", "cc0-1.0", "pdm-1.0")
    """Which licences to search for, by id."""
    sort: str = pydantic.Field(
        "relevance", pattern="^(relevance|interestingness-(desc|asc)|date-(posted|taken)-(desc|asc))$"
    )
    """The order of a search, as Flickr names it: relevance, date-posted-desc, interestingness-desc …"""
    safe_search: int = pydantic.Field(1, ge=1, le=3)
    """1 safe, 2 moderate, 3 restricted."""
    max_side_px: int = pydantic.Field(4096, ge=256)
    """The smallest offered size that has this long side, or the largest below it."""
    calls_per_hour: float = pydantic.Field(3600.0, gt=0)
    """What your key allows, for `--dry-run`: 3,600 an hour by Flickr's terms."""

    @pydantic.field_validator("licences")
    @classmethod
    def _known(cls, licences: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [licence for licence in licences if licence not in FLICKR.values()]
        if unknown or not licences:
            hint = nearest.word(unknown[0], FLICKR.values(), "") if unknown else ""
            hint = hint or f"known: {', '.join(FLICKR.values())}"
            raise ValueError(f"{', '.join(unknown) or 'none'}: not Flickr licences; {hint}")
        return licences


class _Api(flickrapi.FlickrAPI):  # type: ignore[misc]
    """The library's class with another address."""

    def __init__(self, key: str, secret: str, url: str, session: requests.Session) -> None:
        super().__init__(key, secret, format="parsed-json", store_token=False, cache=False)
        self.REST_URL = url
        self.flickr_oauth.session = session


class Flickr(Source):
    """The Flickr search API.

    Raises:
        KeyMissing: no key or secret in the environment.
    """

    name = "flickr"
    settings_class = FlickrSettings
    settings: FlickrSettings
    states_licences = True
    rights = Rights(
        train="by-licence",
        redistribute="by-licence",
        commercial="by-licence",
        note="Flickr: each photo's licence says what may be done with it",
    )
    # Its image host answers 429 after 20 to 30 files in a row, by public reports.
    limits = Limits(page_size=PAGE_SIZE, calls_per_kept=0, photo_bytes=2_000_000, photos_per_s=5, slow_photos_per_s=0.5)

    def __init__(self, settings: FlickrSettings, client: Client) -> None:
        self.settings = settings
        self._client = client
        key, shared = secret("FLICKR_API_KEY"), secret("FLICKR_API_SECRET")
        if not key or not shared:
            if not client.is_exempt(settings.api):
                missing = " and ".join(n for n, v in (("FLICKR_API_KEY", key), ("FLICKR_API_SECRET", shared)) if not v)
                raise KeyMissing(f"{missing} not set", hint="export key and secret (www.flickr.com/services/apps)")
            key, shared = key or "none", shared or "none"
        client.keep_secret(key, shared)
        client.limit_service(settings.api, num_slots=1, pace_per_s=settings.calls_per_hour / 3600)
        self._api = _Api(key, shared, settings.api, client.session())
        self._codes = [number for number, licence in FLICKR.items() if licence in settings.licences]

    def search(self, query: Query, cursor: str | None) -> Page:
        """Cursor: JSON list of [first second, last second, page] still to do, the present one first. A fourth number
        of 1 marks the parts of a split; a fifth an interval that said on an earlier page that it is above the limit,
        since totals change from page to page."""
        todo = _read_cursor(cursor)
        first, last, page, *marks = todo[0]
        is_part = marks[:1] == [1]
        photos = self._call(query, first, last, page)
        total = number(photos.get("total")) or 0
        items = photos.get("photo")
        if not isinstance(items, list):
            raise SourceError(f"{self.settings.api}: no list of photos", hint="the API may have changed; see its docs")
        skips = Skips()
        found = [candidate for item in items if (candidate := self._candidate(fields(item), query, skips))]
        rest = todo[1:]
        size = min(max(number(photos.get("perpage")) or PAGE_SIZE, 1), PAGE_SIZE)
        is_whole = len(items) >= size  # then another page may come, whatever the total says
        most = -(-WALL // size)
        is_above = last > first and (total > WALL or len(marks) > 1 or (is_whole and page >= most and not total))
        has_next = page < most and (is_whole or page * size < total)
        if items and has_next and not (is_above and is_part):
            rest = [[first, last, page + 1, int(is_part), *([1] if is_above else [])], *rest]
        elif is_above:
            middle = (first + last) // 2
            rest = [*rest, [middle + 1, last, 1, 1], [first, middle, 1, 1]]
        return Page(
            tuple(found),
            _cursor(rest),
            total if cursor is None else None,
            skips.all(),
            may_repeat=is_part or is_above or len(todo) > 1,
        )

    def licence_of(self, source_id: str) -> str | None:
        """By `flickr.photos.getInfo`; codes 1 and 2 say that the photo is gone, or no longer public."""
        try:
            answer: Any = self._api.photos.getInfo(photo_id=source_id)
        except flickrapi.FlickrError as error:
            if str(getattr(error, "code", "")) in {"1", "2"}:
                return None
            raise self._refusal(error) from None
        code = text(fields(fields(answer).get("photo")).get("license"))
        return FLICKR.get(int(code), "") if code.isdecimal() else ""

    def _call(self, query: Query, first: int, last: int, page: int) -> dict[str, object]:
        try:
            answer: Any = self._api.photos.search(
                text=query.text,
                license=",".join(map(str, self._codes)),
                media="photos",
                content_types="0",
                safe_search=self.settings.safe_search,
                sort=self.settings.sort,
                per_page=PAGE_SIZE,
                page=page,
                min_upload_date=first,
                max_upload_date=last,
                extras=EXTRAS,
            )
        except flickrapi.FlickrError as error:
            raise self._refusal(error) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SourceError(
                f"{self.settings.api}: the answer can't be read ({self._client.clean(error)})",
                hint="the service may be in trouble; run the same command again later",
            ) from None
        photos = fields(fields(answer).get("photos"))
        if not photos:
            raise SourceError(f"{self.settings.api}: no photos in the answer", hint="the API may have changed")
        return photos

    def _refusal(self, error: flickrapi.FlickrError) -> SourceError | KeyMissing:
        said = self._client.clean(error)
        code = str(getattr(error, "code", ""))
        if code in {"95", "96", "97", "98", "99", "100"}:
            return KeyMissing(f"Flickr does not accept the key ({said})", hint="check FLICKR_API_KEY and _SECRET")
        return SourceError(f"Flickr refuses ({said})", hint="run the same command again later")

    def _candidate(self, item: dict[str, object], query: Query, skips: Skips) -> Candidate | None:
        source_id, owner = text(item.get("id")), text(item.get("owner"))
        code = text(item.get("license"))
        licence = FLICKR.get(int(code)) if code.isdecimal() else None
        if text(item.get("media")) not in {"", "photo"}:
            skips.add("not a photo")
            return None
        if source_id and not source_id.isdecimal():
            skips.add("id is no number")
            return None
        if not (source_id and owner and licence):
            skips.add("no papers")
            return None
        if licence not in self.settings.licences:
            skips.add("licence")
            return None
        size = self._size(item)
        if size is None:
            skips.add("too small")
            return None
        url, width, height = size
        uploaded = number(item.get("dateupload"))
        place = text(item.get("pathalias")) or owner
        described = text(fields(item.get("description")).get("_content") or item.get("description"))
        return Candidate(
            source=self.name,
            source_id=source_id,
            url=url,
            page_url=f"https://www.flickr.com/photos/{place}/{source_id}/",
            author=text(item.get("ownername")) or place,
            author_url=f"https://www.flickr.com/people/{place}/",
            licence=licence,
            query=query.text,
            width_px=width,
            height_px=height,
            title=text(item.get("title")),
            description=html.unescape(_MARKUP.sub("", described)),
            tags=tuple(text(item.get("tags")).split()),
            camera=text(item.get("camera")),
            **coordinates(item.get("latitude"), item.get("longitude")),
            taken_at=text(item.get("datetaken"))
            or (datetime.fromtimestamp(uploaded, UTC).isoformat() if uploaded else ""),
        )

    def _size(self, item: dict[str, object]) -> tuple[str, int | None, int | None] | None:
        """(URL, width, height) of the size to take: the smallest with `max_side_px`, or else the largest there is."""
        offered = []
        for name in SIZES:
            url = link(item.get(f"url_{name}"))
            width, height = number(item.get(f"width_{name}")), number(item.get(f"height_{name}"))
            if url and width and height and min(width, height) >= self.settings.min_side_px:
                offered.append((url, width, height))
        enough = [size for size in offered if max(size[1], size[2]) >= self.settings.max_side_px]
        if enough:
            return min(enough, key=lambda size: size[1] * size[2])
        return max(offered, key=lambda size: size[1] * size[2], default=None)


def _read_cursor(cursor: str | None) -> list[list[int]]:
    if cursor is None:
        return [[FIRST_UPLOAD, int(time.time()), 1]]
    todo: list[list[int]] = json.loads(cursor)
    return todo


def _cursor(todo: list[list[int]]) -> str | None:
    return json.dumps(todo, separators=(",", ":")) if todo else None
