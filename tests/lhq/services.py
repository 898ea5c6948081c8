"""What the crawl's tests share: photos, an Unsplash that offers them from a bad server, pipelines as files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lhq import pipeline as way
from lhq.rights.permissions import Permission
from lhq.store.shards import Shards
from tests.lhq.bad_server import Route, Server, Talk, answer

PERMISSION = Permission(permits=("train",), statement="a test's own pictures", by="the test")


def photo(seed: int, width: int = 64, height: int = 48, kind: str = "JPEG") -> bytes:
    """A small real picture; every seed looks different."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind)
    return sink.getvalue()


def offer(server: Server, name: str, path: str, **changes: object) -> dict[str, object]:
    """One search result as Unsplash writes it."""
    return {
        "id": name,
        "width": 64,
        "height": 48,
        "created_at": "2020-01-01T00:00:00Z",
        "description": None,
        "alt_description": f"picture {name}",
        "urls": {"raw": server.url(path)},
        "links": {
            "html": f"https://unsplash.com/photos/{name}",
            "download_location": server.url(f"/unsplash/photos/{name}/download"),
        },
        "user": {"name": f"Author {name}", "username": name, "links": {"html": f"https://unsplash.com/@{name}"}},
        "tags": [{"title": "lake"}],
        **changes,
    }


def search(offers: Mapping[str, Sequence[dict[str, object]]], page_size: int = 30) -> Route:
    """An Unsplash search over `offers` (by query)."""

    def route(talk: Talk) -> None:
        found = offers.get(talk.request.params["query"], ())
        page = int(talk.request.params["page"])
        results = found[(page - 1) * page_size : page * page_size]
        body = {"total": len(found), "total_pages": -(-len(found) // page_size), "results": results}
        talk.send(200, json.dumps(body).encode(), {"X-Ratelimit-Limit": "5000", "X-Ratelimit-Remaining": "4999"})

    return route


def serve(server: Server, photos: Mapping[str, bytes], query: str = "lake", page_size: int = 30) -> None:
    """Put photos on the server, offered by one query; add routes afterwards to break some of them."""
    offers = [offer(server, name, f"/images/{name}") for name in photos]
    server.routes["/unsplash/search/photos"] = search({query: offers}, page_size)
    server.routes["/unsplash/photos/"] = answer(b'{"url": "x"}')
    for name, data in photos.items():
        server.routes[f"/images/{name}"] = answer(data)


def pipeline(folder: Path, server: Server, *, want: int, queries: Sequence[str] = ("lake",), **http: object) -> Path:
    """A pipeline file for that server, with its store in `folder`."""
    settings = {
        "allow_hosts": [server.netloc],
        "robots": False,
        "pace_per_s": 10000,
        "retry_delay_s": 0.02,
        "max_attempts": 3,
        "read_timeout_s": 1.0,
        "total_timeout_s": 2.0,
        **http,
    }
    lines = [f"store = {json.dumps(str(folder / 'store'))}", f"queries = {json.dumps(list(queries))}", f"want = {want}"]
    lines += ["[http]", *(f"{name} = {json.dumps(value)}" for name, value in settings.items())]
    lines += ["[source.unsplash]", f"api = {json.dumps(server.url('/unsplash'))}", 'orientation = ""']
    lines += [
        f'permission = {{ permits = ["train"], statement = "{PERMISSION.statement}", by = "{PERMISSION.by}" }}',
        "min_side_px = 48",
        "[export]",
    ]
    path = folder / "pipeline.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def kept(folder: Path) -> pa.Table:
    """All rows of all shards, read as anyone would."""
    shards = Shards(str(folder / "store"), "photos")
    tables = [pq.read_table(shards.path(number)) for number in shards.numbers()]
    return pa.concat_tables(tables)


def crawl(path: Path, **options: object) -> object:
    return way.load(path).crawl(**options)  # type: ignore[arg-type]


def statuses(path: Path) -> dict[str, tuple[str, str]]:
    """source id → (status, reason)."""
    return {each.id.split(":")[1]: (each.status, each.reason) for each in way.load(path).candidates()}
