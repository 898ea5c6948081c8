"""The Unsplash API as the service behaves: search, one photo, download tracking; quota and pages in the headers.

Source: https://unsplash.com/documentation, and recorded answers of the service.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from lhq.sandbox.papers import Papers
from lhq.sandbox.search import Search
from lhq.sandbox.speech import Answer, Quota, Request, as_json, whole

_IXID = "M3wxfDB8MXxzZWFyY2h8MXx8"


class Unsplash:
    """The service and the photos on it; `downloads` counts the tracked ones by photo id."""

    def __init__(self, papers: Sequence[Papers], quota: Quota, url: str) -> None:
        self._papers = {one.unsplash_id: one for one in papers if one.on_unsplash}
        self._search = Search(list(self._papers.values()))
        self._quota = quota
        self._url = url
        self._lock = threading.Lock()
        self.downloads: Counter[str] = Counter()

    def photo(self, photo_id: str) -> Papers | None:
        return self._papers.get(photo_id)

    def answer(self, request: Request, path: str) -> Answer:
        """The answer to `path` (below the API's base, starting with "/")."""
        key = _key(request)
        if not key or key == "expired":
            return as_json({"errors": ["OAuth error: The access token is invalid"]}, 401)
        left = self._quota.take(key)
        limits = {"X-Ratelimit-Limit": str(self._quota.limit), "X-Ratelimit-Remaining": str(max(left, 0))}
        if left < 0:
            return Answer(403, b"Rate Limit Exceeded", "text/plain; charset=utf-8", limits)
        if request.method not in ("GET", "HEAD"):
            return as_json({"errors": ["Method Not Allowed"]}, 405, limits)
        parts = [part for part in path.split("/") if part]
        if parts == ["search", "photos"]:
            return self._pages(request, limits)
        if parts == ["photos"]:
            found = sorted(self._papers.values(), key=lambda one: -one.uploaded)
            return self._list(request, found, "/photos", limits)
        one = self._papers.get(parts[1]) if len(parts) in (2, 3) and parts[0] == "photos" else None
        if one is None:
            what = "Couldn't find Photo" if parts[:1] == ["photos"] else "Not found"
            return as_json({"errors": [what]}, 404, limits)
        if len(parts) == 3 and parts[2] == "download":
            with self._lock:
                self.downloads[one.unsplash_id] += 1
            return as_json({"url": self._image(one, fm="jpg", q="85")}, 200, limits)
        if len(parts) == 3:
            return as_json({"errors": ["Not found"]}, 404, limits)
        return as_json(
            {**self._photo(one), "views": one.uploaded % 90_000, "downloads": self.downloads[one.unsplash_id]},
            200,
            limits,
        )

    def _pages(self, request: Request, limits: Mapping[str, str]) -> Answer:
        query = request.params.get("query", "")
        if not query.strip():
            return as_json({"errors": ["query is missing"]}, 400, limits)
        found = list(self._search.find(query))
        wanted = request.params.get("orientation", "")
        if wanted:
            found = [one for one in found if _orientation(one) == wanted]
        if request.params.get("order_by") == "latest":
            found.sort(key=lambda one: -one.uploaded)
        return self._list(request, found, "/search/photos", limits, wrap=True)

    def _list(
        self, request: Request, found: Sequence[Papers], path: str, limits: Mapping[str, str], wrap: bool = False
    ) -> Answer:
        per_page = whole(request.params.get("per_page"), 10, 1, 30)
        page = whole(request.params.get("page"), 1, 1, 1_000_000)
        pages = -(-len(found) // per_page)
        headers = {**limits, "X-Total": str(len(found)), "X-Per-Page": str(per_page)}
        links = []
        near = {
            "first": 1 if page > 1 else 0,
            "prev": page - 1,
            "last": pages if page < pages else 0,
            "next": page + 1 if page < pages else 0,
        }
        for name, number in near.items():
            if number:
                params = urlencode({**request.params, "page": number, "per_page": per_page})
                links.append(f'<{self._url}/unsplash{path}?{params}>; rel="{name}"')
        if links:
            headers["Link"] = ", ".join(links)
        results = [self._photo(one) for one in found[(page - 1) * per_page : page * per_page]]
        return as_json(
            {"total": len(found), "total_pages": pages, "results": results} if wrap else results, 200, headers
        )

    def _image(self, one: Papers, **params: str) -> str:
        return f"{self._url}/images/unsplash/photo-{one.unsplash_id}?" + urlencode({"ixid": _IXID, **params})

    def _photo(self, one: Papers) -> dict[str, object]:
        slug = "-".join([*one.picture.title.lower().split(), one.unsplash_id])
        user = f"{self._url}/unsplash/users/{one.username}"
        first, last = one.author.split(" ", 1)
        return {
            "id": one.unsplash_id,
            "slug": slug,
            "created_at": one.created_at,
            "updated_at": one.created_at,
            "promoted_at": None,
            "width": one.picture.width_px,
            "height": one.picture.height_px,
            "color": one.colour,
            "blur_hash": "LMRfa,M|kDWA_4t7axof.St6jYkC",
            "description": one.description or None,
            "alt_description": f"a painting of {' and '.join(one.picture.tags[:2])}",
            "breadcrumbs": [],
            "urls": {
                "raw": self._image(one),
                "full": self._image(one, crop="entropy", cs="srgb", fm="jpg", q="85"),
                "regular": self._image(one, crop="entropy", cs="tinysrgb", fit="max", fm="jpg", q="80", w="1080"),
                "small": self._image(one, crop="entropy", cs="tinysrgb", fit="max", fm="jpg", q="80", w="400"),
                "thumb": self._image(one, crop="entropy", cs="tinysrgb", fit="max", fm="jpg", q="80", w="200"),
            },
            "links": {
                "self": f"{self._url}/unsplash/photos/{one.unsplash_id}",
                "html": f"{self._url}/photos/unsplash/{one.unsplash_id}",
                "download": f"{self._url}/photos/unsplash/{one.unsplash_id}/download?ixid={_IXID}",
                "download_location": f"{self._url}/unsplash/photos/{one.unsplash_id}/download?ixid={_IXID}",
            },
            "likes": one.uploaded % 500,
            "liked_by_user": False,
            "current_user_collections": [],
            "sponsorship": None,
            "topic_submissions": {},
            "asset_type": "photo",
            "user": {
                "id": one.secret,
                "updated_at": one.created_at,
                "username": one.username,
                "name": one.author,
                "first_name": first,
                "last_name": last,
                "links": {
                    "self": user,
                    "html": f"{self._url}/photos/unsplash/@{one.username}",
                    "photos": f"{user}/photos",
                },
                "total_photos": 1,
                "accepted_tos": True,
            },
            "tags": [{"type": "search", "title": tag} for tag in one.picture.tags],
        }


def _key(request: Request) -> str:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "client-id" and value.strip():
        return value.strip()
    return request.params.get("client_id", "").strip()


def _orientation(one: Papers) -> str:
    ratio = one.picture.width_px / one.picture.height_px
    return "squarish" if 0.95 < ratio < 1.05 else "landscape" if ratio > 1 else "portrait"
