"""The Flickr REST API as the service behaves: XML or JSON from one tree, numbers as strings or not, 4,000 results.

Source: https://www.flickr.com/services/api/, and recorded answers of the service.
"""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from lhq.rights.licences import FLICKR, LICENCES
from lhq.sandbox.papers import Papers
from lhq.sandbox.search import Search
from lhq.sandbox.speech import Answer, Quota, Request, whole

WALL = 4000  # results of one query that can be reached; pages beyond repeat the last of them

# suffix of the extras → (longest side, letter in the file name, label, name in the page URL)
_SIZES: dict[str, tuple[int, str, str, str]] = {
    "sq": (75, "s", "Square", "sq"),
    "q": (150, "q", "Large Square", "q"),
    "t": (100, "t", "Thumbnail", "t"),
    "s": (240, "m", "Small", "s"),
    "n": (320, "n", "Small 320", "n"),
    "w": (400, "w", "Small 400", "w"),
    "m": (500, "", "Medium", "m"),
    "z": (640, "z", "Medium 640", "z"),
    "c": (800, "c", "Medium 800", "c"),
    "l": (1024, "b", "Large", "l"),
    "h": (1600, "h", "Large 1600", "h"),
    "k": (2048, "k", "Large 2048", "k"),
    "3k": (3072, "3k", "X-Large 3K", "3k"),
    "4k": (4096, "4k", "X-Large 4K", "4k"),
    "5k": (5120, "5k", "X-Large 5K", "5k"),
    "6k": (6144, "6k", "X-Large 6K", "6k"),
}
_LETTERS = {letter: longest for longest, letter, _, _ in _SIZES.values()}
Tree = Mapping[str, object]


class Flickr:
    """The service and the photos on it."""

    def __init__(self, papers: Sequence[Papers], quota: Quota, url: str) -> None:
        self._papers = {one.flickr_id: one for one in papers if one.on_flickr}
        self._search_ = Search(list(self._papers.values()))
        self._quota = quota
        self._url = url

    def photo(self, photo_id: str) -> Papers | None:
        return self._papers.get(photo_id)

    def answer(self, request: Request) -> Answer:
        """The answer to one call of `/services/rest/`."""
        params = request.params
        method = params.get("method", "")
        key = params.get("api_key", "") or _oauth_key(request.headers.get("authorization", ""))
        if not key.strip():
            return _fail(params, 100, "Invalid API Key (Key not found)")
        if key == "expired":
            return _fail(params, 100, "Invalid API Key (Key has expired)")
        if self._quota.take(key) < 0:
            wait = str(int(self._quota.wait_s(key)) + 1)
            return Answer(429, b"Too Many Requests", "text/plain", {"Retry-After": wait})
        if method == "flickr.photos.search":
            return self._search(params)
        if method == "flickr.test.echo":
            return _ok(params, {name: {"_content": value} for name, value in params.items()})
        if method == "flickr.photos.licenses.getInfo":
            names = [
                {"id": number, "name": LICENCES[id].name, "url": LICENCES[id].url} for number, id in FLICKR.items()
            ]
            return _ok(params, {"licenses": {"license": names}})
        if method in ("flickr.photos.getInfo", "flickr.photos.getSizes"):
            one = self._papers.get(params.get("photo_id", ""))
            if one is None:
                return _fail(params, 1, "Photo not found")
            return _ok(params, self._info(one) if method.endswith("getInfo") else self._sizes(one))
        return _fail(params, 112, f'Method "{method}" not found')

    def _search(self, params: Mapping[str, str]) -> Answer:
        text = params.get("text") or params.get("tags", "").replace(",", " ")
        if not text.strip():
            return _fail(
                params, 3, "Parameterless searches have been disabled. Please use flickr.photos.getRecent instead."
            )
        found = list(self._search_.find(text))
        if params.get("license"):
            wanted = {part.strip() for part in params["license"].split(",")}
            found = [one for one in found if str(one.licence) in wanted]
        low, high = _moment(params.get("min_upload_date"), 0), _moment(params.get("max_upload_date"), 2**40)
        found = [one for one in found if low <= one.uploaded <= high]
        sort = params.get("sort", "date-posted-desc")
        if sort.startswith(("date-posted", "date-taken")):
            found.sort(key=lambda one: one.taken if "taken" in sort else one.uploaded, reverse=not sort.endswith("asc"))
        per_page = whole(params.get("per_page"), 100, 1, 500)
        pages = -(-len(found) // per_page)
        page = whole(params.get("page"), 1, 1, 10**9)
        shown = min(page, max(1, WALL // per_page)) if len(found) > WALL else page
        extras = {part.strip() for part in params.get("extras", "").split(",") if part.strip()}
        photos = [self._photo(one, extras) for one in found[(shown - 1) * per_page : shown * per_page]]
        total: object = str(len(found)) if len(text) % 2 else len(found)
        return _ok(
            params, {"photos": {"page": page, "pages": pages, "perpage": per_page, "total": total, "photo": photos}}
        )

    def _photo(self, one: Papers, extras: set[str]) -> Tree:
        known: dict[str, Mapping[str, object]] = {
            "license": {"license": str(one.licence)},
            "date_upload": {"dateupload": str(one.uploaded)},
            "date_taken": {"datetaken": one.taken_at, "datetakengranularity": "0", "datetakenunknown": "0"},
            "owner_name": {"ownername": one.author},
            "realname": {"realname": one.author},
            "path_alias": {"pathalias": one.username if not one.strings else None},
            "tags": {"tags": " ".join(tag.replace(" ", "") for tag in one.picture.tags)},
            "o_dims": {"o_width": str(one.picture.width_px), "o_height": str(one.picture.height_px)}
            if one.has_original
            else {},
            "original_format": {"originalsecret": one.secret_original, "originalformat": one.picture.suffix}
            if one.has_original
            else {},
            "media": {"media": "photo", "media_status": "ready"},
            "description": {"description": {"_content": one.description}},
        }
        row: dict[str, object] = {
            "id": one.flickr_id,
            "owner": one.nsid,
            "secret": one.secret,
            "server": "65535",
            "farm": 66,
            "title": one.picture.title,
            "ispublic": 1,
            "isfriend": 0,
            "isfamily": 0,
        }
        for name, values in known.items():
            if name in extras:
                row.update(values)
        for suffix in [*_SIZES, "o"]:
            if f"url_{suffix}" in extras and (size := self._size(one, suffix)):
                url, width, height = size
                row[f"url_{suffix}"] = url
                row[f"height_{suffix}"], row[f"width_{suffix}"] = (
                    (str(height), str(width)) if one.strings else (height, width)
                )
        return row

    def _size(self, one: Papers, suffix: str) -> tuple[str, int, int] | None:
        """URL, width and height of one size; None if the photo lacks it (too small, or the original is not public)."""
        picture = one.picture
        base = f"{self._url}/images/flickr/65535/{one.flickr_id}"
        if suffix == "o":
            url = f"{base}_{one.secret_original}_o.{picture.suffix}"
            return (url, picture.width_px, picture.height_px) if one.has_original else None
        longest, letter, _, _ = _SIZES[suffix]
        if longest in (75, 150):
            return f"{base}_{one.secret}_{letter}.jpg", longest, longest
        scale = longest / max(picture.width_px, picture.height_px)
        if scale >= 1:
            return None
        secret = one.secret if longest <= 1024 else one.secret_original
        url = f"{base}_{secret}{'_' + letter if letter else ''}.jpg"
        return url, round(picture.width_px * scale), round(picture.height_px * scale)

    def _sizes(self, one: Papers) -> Tree:
        rows = []
        page = f"{self._url}/photos/flickr/{one.flickr_id}/sizes/"
        for suffix in [*_SIZES, "o"]:
            size = self._size(one, suffix)
            if size:
                label, name = _SIZES[suffix][2:] if suffix != "o" else ("Original", "o")
                rows.append(
                    {
                        "label": label,
                        "width": size[1],
                        "height": size[2],
                        "source": size[0],
                        "url": f"{page}{name}/",
                        "media": "photo",
                    }
                )
        return {"sizes": {"canblog": 0, "canprint": 0, "candownload": int(one.has_original), "size": rows}}

    def _info(self, one: Papers) -> Tree:
        original = (
            {"originalsecret": one.secret_original, "originalformat": one.picture.suffix} if one.has_original else {}
        )
        tags = [
            {
                "id": f"{one.flickr_id}-{n}",
                "author": one.nsid,
                "authorname": one.author,
                "raw": tag,
                "machine_tag": 0,
                "_content": tag.replace(" ", ""),
            }
            for n, tag in enumerate(one.picture.tags)
        ]
        return {
            "photo": {
                "id": one.flickr_id,
                "secret": one.secret,
                "server": "65535",
                "farm": 66,
                "dateuploaded": str(one.uploaded),
                "isfavorite": 0,
                "license": str(one.licence),
                "safety_level": "0",
                "rotation": 0,
                **original,
                "views": str(one.uploaded % 9000),
                "media": "photo",
                "owner": {
                    "nsid": one.nsid,
                    "username": one.username,
                    "realname": one.author,
                    "location": "",
                    "iconserver": "0",
                    "iconfarm": 0,
                    "path_alias": one.username,
                },
                "title": {"_content": one.picture.title},
                "description": {"_content": one.description},
                "visibility": {"ispublic": 1, "isfriend": 0, "isfamily": 0},
                "dates": {
                    "posted": str(one.uploaded),
                    "taken": one.taken_at,
                    "takengranularity": 0,
                    "takenunknown": "0",
                    "lastupdate": str(one.uploaded),
                },
                "usage": {"candownload": int(one.has_original), "canblog": 0, "canprint": 0, "canshare": 1},
                "comments": {"_content": "0"},
                "tags": {"tag": tags},
                "urls": {"url": [{"type": "photopage", "_content": f"{self._url}/photos/flickr/{one.flickr_id}"}]},
            }
        }


def image(name: str) -> tuple[str, str, int | None] | None:
    """The photo id, secret and longest side (None: the original) in an image's file name."""
    parts = name.rsplit(".", 1)[0].split("_")
    if len(parts) == 2:
        return parts[0], parts[1], 500
    if len(parts) != 3 or (parts[2] != "o" and parts[2] not in _LETTERS):
        return None
    return parts[0], parts[1], None if parts[2] == "o" else _LETTERS[parts[2]]


def _oauth_key(header: str) -> str:
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name.removeprefix("OAuth ").strip() == "oauth_consumer_key":
            return value.strip('"')
    return ""


def _moment(text: str | None, default: int) -> int:
    """A Unix or MySQL date."""
    if not text:
        return default
    if text.lstrip("-").isdigit():
        return int(text)
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d"):
        try:
            return calendar.timegm(time.strptime(text, form))
        except ValueError:
            continue
    return default


def _ok(params: Mapping[str, str], tree: Tree) -> Answer:
    return _say(params, {**tree, "stat": "ok"}, "".join(_xml(name, value) for name, value in tree.items()), "ok")


def _fail(params: Mapping[str, str], code: int, message: str) -> Answer:
    return _say(
        params, {"stat": "fail", "code": code, "message": message}, _xml("err", {"code": code, "msg": message}), "fail"
    )


def _say(params: Mapping[str, str], tree: Tree, xml: str, stat: str) -> Answer:
    if params.get("format") == "json":
        text = json.dumps(tree, ensure_ascii=False)
        if params.get("nojsoncallback") not in ("1", "true"):
            return Answer(
                200, f"{params.get('jsoncallback', 'jsonFlickrApi')}({text})".encode(), "text/javascript; charset=utf-8"
            )
        return Answer(200, text.encode(), "application/json")
    body = f'<?xml version="1.0" encoding="utf-8" ?>\n<rsp stat="{stat}">\n{xml}</rsp>\n'
    return Answer(200, body.encode(), "text/xml; charset=utf-8")


def _xml(name: str, value: object) -> str:
    """The XML twin of a JSON answer: plain values are attributes, `_content` is text, objects are children."""
    if isinstance(value, list):
        return "".join(_xml(name, item) for item in value)
    if not isinstance(value, Mapping):
        return f"<{name}>{escape(_plain(value))}</{name}>\n"
    attributes = "".join(
        f" {key}={quoteattr(_plain(inner))}"
        for key, inner in value.items()
        if key != "_content" and not isinstance(inner, (list, Mapping)) and inner is not None
    )
    inside = escape(_plain(value.get("_content", "")))
    inside += "".join(_xml(key, inner) for key, inner in value.items() if isinstance(inner, (list, Mapping)))
    return f"<{name}{attributes}>{inside}</{name}>\n" if inside else f"<{name}{attributes} />\n"


def _plain(value: object) -> str:
    """Text as XML 1.0 can hold it."""
    return "".join(c for c in str(value) if c in "\t\n\r" or c >= " ")
