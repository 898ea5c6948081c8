"""Query → candidates of Unsplash: the search API, with a key and the user's statement of permission.

Unsplash's guidelines exclude data mining and the training of models without permission, so the source refuses to
start until the pipeline file states a `permission` that lists `train`; it travels with every row. A kept photo's
`download_location` is called once with the key, as the guidelines ask. The hourly quota is read from the headers.
Source: unsplash.com/documentation.
"""

from __future__ import annotations

import time
from urllib.parse import urlencode, urlsplit

import pydantic

from lhq.errors import KeyMissing, SourceError
from lhq.http import Client, Headers
from lhq.records import Candidate, Query
from lhq.rights.licences import Rights
from lhq.rights.permissions import EXAMPLE, Permission, from_setting
from lhq.sources import Limits, Page, ServiceUrl, Skips, Source, SourceSettings, fields, link, number, secret, text
from lhq.sources.imgix import sized, with_params

PAGE_SIZE = 30


class UnsplashSettings(SourceSettings):
    """`[source.unsplash]`; the key is read from UNSPLASH_ACCESS_KEY."""

    api: ServiceUrl = "https://api.unsplash.com"
    """Address of the service; change it for tests and mirrors."""
    permission: Permission | None = None
    """What Unsplash allows you beyond its guidelines: a list, the words, by whom and when."""
    app_name: str = "lhq"
    """The name your key is registered under; credit links carry it."""
    order_by: str = pydantic.Field("relevant", pattern="^(relevant|latest)$")
    """The order of a search: relevant or latest."""
    orientation: str = pydantic.Field("landscape", pattern="^(landscape|portrait|squarish|)$")
    """landscape, portrait or squarish; empty: any."""
    max_side_px: int = pydantic.Field(4096, ge=256)
    """Larger photos are requested with this longer side (imgix w and h, fit=max)."""
    quality: int = pydantic.Field(92, ge=1, le=100)
    """JPEG quality to request for photos above `max_side_px`."""
    _listed = pydantic.field_validator("permission", mode="before")(from_setting)

    def stated_permission(self) -> Permission | None:
        return self.permission

    calls_per_hour: float = pydantic.Field(50.0, gt=0)
    """What your key allows, for `--dry-run`; the crawl itself obeys the response headers."""
    quota_window_s: float = pydantic.Field(3600.0, gt=0)
    """How long until the service's quota is full again."""


class Unsplash(Source):
    """The Unsplash search API.

    Raises:
        KeyMissing: no key in the environment, or no permission in the pipeline file.
    """

    name = "unsplash"
    settings_class = UnsplashSettings
    settings: UnsplashSettings
    reports_use = True
    states_licences = True
    rights = Rights(
        train="by-permission",
        redistribute="by-permission",
        commercial="by-permission",
        note="Unsplash API: learning from its photos, and republishing them as a set, need Unsplash's permission",
    )
    limits = Limits(
        page_size=PAGE_SIZE,
        calls_per_kept=1,
        photo_bytes=2_500_000,
        photos_per_s=10,
        slow_photos_per_s=3,
        most_calls_per_hour=5000,
    )

    def __init__(self, settings: UnsplashSettings, client: Client) -> None:
        self.settings = settings
        self._client = client
        self._api = settings.api.rstrip("/")
        permission = settings.permission
        if permission is None or "train" not in permission.permits:
            said = "states no permission" if permission is None else "has a permission that does not list train"
            raise KeyMissing(
                f"[source.unsplash] {said}, and Unsplash's API guidelines exclude machine learning",
                hint=f"ask Unsplash, then write what they allowed in that table: permission = {EXAMPLE}",
            )
        self._permission = permission.papers()
        key = secret("UNSPLASH_ACCESS_KEY")
        if not key:
            if not client.is_exempt(self._api):
                raise KeyMissing(
                    "UNSPLASH_ACCESS_KEY is not set",
                    hint="export the access key of your app (unsplash.com/oauth/applications)",
                )
            key = "none"
        client.keep_secret(key)
        self._headers = {"Authorization": f"Client-ID {key}", "Accept-Version": "v1"}
        self._window_began = 0.0

    def search(self, query: Query, cursor: str | None) -> Page:
        page = number(cursor) or 1
        params: dict[str, object] = {
            "query": query.text,
            "page": page,
            "per_page": PAGE_SIZE,
            "order_by": self.settings.order_by,
            "content_filter": "low",
        }
        if self.settings.orientation:
            params["orientation"] = self.settings.orientation
        url = f"{self._api}/search/photos"
        body = fields(self._call(url, params))
        results = body.get("results")
        if not isinstance(results, list):
            raise SourceError(f"{url}: no list of results in the answer", hint="the API may have changed; see its docs")
        skips = Skips()
        found = [candidate for item in results if (candidate := self._candidate(fields(item), query, skips))]
        num_pages = number(body.get("total_pages"))
        is_last = not results or (num_pages is not None and page >= num_pages)
        return Page(tuple(found), None if is_last else str(page + 1), number(body.get("total")), skips.all())

    def licence_of(self, source_id: str) -> str | None:
        """Unsplash has a single licence; only a photo's existence can change."""
        url = f"{self._api}/photos/{source_id}"
        answer = self._client.api("GET", url, headers=self._headers)
        if answer.status == 404:
            return None
        self._client.read_json(url, answer)
        return "unsplash"

    def report_use(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self._api).netloc:
            raise SourceError(f"{self._client.clean(url)}: not on the API's host", hint="the key is sent nowhere else")
        self._call(url, {})

    def _call(self, url: str, params: dict[str, object]) -> object:
        """One JSON call; an exhausted quota is waited out, with a countdown in `lhq crawl`'s progress line."""
        while True:
            asked_at = time.monotonic()
            if not self._window_began or asked_at - self._window_began > self.settings.quota_window_s:
                self._window_began = asked_at
            answer = self._client.api("GET", f"{url}?{urlencode(params)}" if params else url, headers=self._headers)
            is_over = answer.status == 403 and b"rate limit exceeded" in bytes(answer.body).lower()
            if is_over or answer.headers.get("x-ratelimit-remaining", "").strip() == "0":
                self._wait_for_quota(url, answer.headers, is_over)
            if not is_over:
                return self._client.read_json(url, answer)

    def _wait_for_quota(self, url: str, headers: Headers, is_over: bool) -> None:
        """Unsplash says how many calls are left but not when the quota is reset: within an hour of the first call. A
        run that starts over the limit doesn't know when that was, and tries six times an hour."""
        window_s = self.settings.quota_window_s
        left_s = self._window_began + window_s - time.monotonic()
        if is_over and left_s > 0.98 * window_s:
            left_s = window_s / 6
        limit = headers.get("x-ratelimit-limit", "?")
        self._client.hosts.pause(self._client.service_of(url), max(left_s, window_s / 60), f"quota of {limit} calls")

    def _candidate(self, item: dict[str, object], query: Query, skips: Skips) -> Candidate | None:
        """A search result with its papers, or None (counted) where something that matters is missing."""
        links, user = fields(item.get("links")), fields(item.get("user"))
        source_id, page_url = text(item.get("id")), link(links.get("html"))
        raw = link(fields(item.get("urls")).get("raw"))
        author = text(user.get("name")) or text(user.get("username"))
        width, height = number(item.get("width")), number(item.get("height"))
        if not (source_id and raw and page_url and author):
            skips.add("no papers")
            return None
        if item.get("premium") or item.get("plus") or urlsplit(raw).hostname == "plus.unsplash.com":
            skips.add("Unsplash+ licence")
            return None
        if width and height and min(width, height) < self.settings.min_side_px:
            skips.add("too small")
            return None
        tags = item.get("tags")
        return Candidate(
            source=self.name,
            source_id=source_id,
            url=sized(
                raw,
                width,
                height,
                max_side=self.settings.max_side_px,
                min_side=self.settings.min_side_px,
                quality=self.settings.quality,
            ),
            page_url=self._credit(page_url),
            author=author,
            author_url=self._credit(link(fields(user.get("links")).get("html"))),
            licence="unsplash",
            query=query.text,
            width_px=width,
            height_px=height,
            title=text(item.get("alt_description")),
            description=text(item.get("description")),
            tags=tuple(text(fields(tag).get("title")) for tag in tags if fields(tag)) if isinstance(tags, list) else (),
            taken_at=text(item.get("created_at")),
            **self._permission,
            report_use_url=link(links.get("download_location")) or None,
        )

    def _credit(self, url: str) -> str:
        """Add to credit links where they were used, as the guidelines require."""
        return with_params(url, {"utm_source": self.settings.app_name, "utm_medium": "referral"}) if url else ""
