"""The server: tiles by URL, caching, too many requests, and no URL causes a 500."""

from __future__ import annotations

import io
import random
import signal
import socket
import string
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import alis
import alis.plane.anchors
from alis.web import serve
from tests.alis import painter as models
from tests.alis.web.serving import Served, tile_of

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "address", ["7/-/0", "7/-/-9", "7/a1v3/3", "7/p50_c2/5", "7/cn_nn/5", "7/r1/2", "7/a0s9i-4v1_a1fmine/1"]
)
def test_a_tile_equals_the_planes_tile(served: Served, panorama: alis.Panorama, address: str) -> None:
    seed_edits, _, k = address.rpartition("/")
    want = panorama.with_sketch(alis.plane.anchors.Sketch.parse(seed_edits)).tile(int(k))
    got = tile_of(served.client.get(f"/tile/{address}.webp"))
    assert got.shape == want.shape
    grey = np.array([0.299, 0.587, 0.114])
    assert np.abs(got @ grey - want @ grey).mean() < 10


def test_what_a_viewer_has_is_neither_sent_nor_painted_again(served: Served) -> None:
    first = served.client.get("/tile/7/-/100.webp")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    again = served.client.get("/tile/7/-/100.webp", headers={"If-None-Match": f'"x", W/{tag}'})
    assert again.status_code == 304
    assert not again.content
    for any_form in ("*", f"W/{tag}", f'{tag} , W/"y"'):
        assert served.client.get("/tile/7/-/100.webp", headers={"If-None-Match": any_form}).status_code == 304
    before = served.client.get("/stats.json").json()
    assert served.client.get("/tile/7/-/101.webp", headers={"If-None-Match": tag}).status_code == 200
    other = served.client.get("/tile/7/-/101.webp").headers["etag"]
    assert other != tag
    after = served.client.get("/stats.json").json()
    assert (after["painted"], after["hits"]) == (before["painted"] + 1, before["hits"] + 1)
    model = served.client.get("/model.json").json()["model"]
    assert "immutable" in served.client.get(f"/tile/7/-/100.webp?m={model}").headers["cache-control"]
    assert served.client.get("/tile/7/-/100.webp?m=old").headers["cache-control"] == "no-cache"
    assert served.client.head("/tile/7/-/100.webp").headers["etag"] == tag


def test_the_page_makes_no_external_requests(served: Served) -> None:
    index = served.client.get("/")
    assert index.status_code == 200
    assert "default-src 'self'" in index.headers["content-security-policy"]
    for name in ("/", "/app.js", "/plane.js", "/sketch.js", "/app.css", "/icon.svg"):
        answer = served.client.get(name)
        assert answer.status_code == 200, name
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, name
        assert "https://" not in text, name
        assert served.client.get(name, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    facts = served.client.get("/model.json").json()
    assert (facts["tile_px"], facts["anchor_tiles"], facts["num_clusters"], facts["codes"]) == (16, 4, 4, ["mine"])


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_strip_is_downloaded(served: Served, panorama: alis.Panorama, ending: str) -> None:
    answer = served.client.get(f"/strip/7/a1v3/-30/101.{ending}")
    assert answer.status_code == 200, answer.text
    assert f"alis-7--30-101.{ending}" in answer.headers["content-disposition"]
    picture = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))
    want = panorama.with_edits({1: 3})[-30:101]
    if ending == "png":
        assert np.array_equal(picture, want)
    else:
        assert picture.shape == want.shape


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/tile/7/-/0.png", 404),
        ("/tile/7/-/x.webp", 404),
        ("/tile/7/-/007.webp", 404),
        ("/tile/7/-/-0.webp", 404),
        ("/tile/-7/-/0.webp", 404),
        ("/tile/99999999999999999/-/0.webp", 404),
        ("/tile/7/p100/0.webp", 404),
        ("/tile/7/a2v1_a1v1/0.webp", 404),
        ("/tile/7/a1v0/0.webp", 404),
        ("/tile/7/c4/0.webp", 404),
        ("/tile/7/a1fhis/0.webp", 404),
        ("/tile/7/r3_a5v1/0.webp", 404),
        ("/tile/7/-/99999999999999.webp", 404),
        ("/tile/7/-/٣.webp", 404),
        ("/tile/7/%2e%2e/0.webp", 404),
        ("/../../etc/passwd", 404),
        ("/app.py", 404),
        ("/tile/7/" + "_".join(f"a{i}v1" for i in range(65)) + "/0.webp", 404),
        ("/tile/7/" + "a" * 7000 + "/0.webp", 414),
        ("/strip/7/-/0/99999.png", 404),
        ("/strip/7/-/10/10.png", 404),
        ("/strip/7/-/10/5.png", 404),
        ("/strip/7/-/0/9.bmp", 404),
        ("/strip/7/-/x/9.png", 404),
        ("/strip/7/zz/0/9.png", 404),
    ],
)
def test_an_invalid_url_is_refused_with_a_hint(served: Served, address: str, status: int) -> None:
    answer = served.client.get(address)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "hint"}


@pytest.mark.parametrize(("start", "stop"), [(10, 5), (-3, -3), (5, -5)])
def test_the_error_of_an_empty_strip_names_its_columns(served: Served, start: int, stop: int) -> None:
    told = served.client.get(f"/strip/7/-/{start}/{stop}.png").json()
    assert told["error"] == f"columns {start} to {stop} are an empty strip"
    assert "--" not in told["error"] + told["hint"]
    assert served.client.head(told["hint"].split()[-1]).status_code == 200


def test_ten_thousand_random_addresses(served: Served) -> None:
    rng = random.Random(0)
    letters = string.printable.strip() + "é٣\u2028"
    terms = [
        "p70",
        "p1000",
        "cn",
        "c1",
        "c99",
        "nn",
        "nx",
        "r1",
        "r0",
        "a1v1",
        "a-3v2",
        "a1s5i2v0",
        "a0fmine",
        "a0fno",
        "a9",
    ]

    def address() -> str:
        kind = rng.random()
        if kind < 0.3:
            return "/" + "".join(rng.choices(letters, k=rng.randrange(1, 60)))
        seed = rng.choice(["7", "0", "-1", "1e9", str(rng.randrange(10**18)), ""])
        edits = (
            "_".join(rng.choices(terms, k=rng.randrange(0, 4))) if kind < 0.8 else "".join(rng.choices(letters, k=9))
        )
        tile = rng.choice([str(rng.randrange(-3, 3)), "9" * rng.randrange(1, 30), "x", "--1", "0x1"])
        return f"/{rng.choice(['tile', 'tile', 'strip', 'tiles'])}/{seed}/{edits}/{tile}.webp"

    addresses = [address() for _ in range(10_000)]
    seen: dict[int, int] = {}
    with socket.create_connection(("127.0.0.1", served.port)) as wire:
        wire.settimeout(60)
        reader = wire.makefile("rb")
        for start in range(0, len(addresses), 50):
            some = addresses[start : start + 50]
            quoted = [
                "".join(
                    c
                    if c in string.ascii_letters + string.digits + "/-_.~%"
                    else "".join(f"%{b:02x}" for b in c.encode())
                    for c in a
                )
                for a in some
            ]
            wire.sendall(b"".join(f"HEAD {a} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for a in quoted))
            for _ in some:
                status = int(reader.readline().split()[1])
                seen[status] = seen.get(status, 0) + 1
                while reader.readline() != b"\r\n":
                    pass
    assert sum(seen.values()) == 10_000
    assert set(seen) <= {200, 404, 405, 414}, seen
    assert seen[404] > 5000
    assert seen.get(200, 0) > 20, "some of them were tiles"
    stats = served.client.get("/stats.json").json()
    assert stats["waiting"] == 0
    assert stats["cached_bytes"] <= 1 << 20
    assert served.painter.plane.cache_info().currsize <= 512


def test_serve_starts_says_where_and_stops_gracefully(tmp_path: Path) -> None:
    alis.save(tmp_path / "model", models.tiny())
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "alis", "serve", str(tmp_path / "model"), "--port", "0", "--seed", "3"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.stderr and process.stderr.read()
        assert httpx.get(f"{url}model.json").json()["start"] == "3/-"
        assert httpx.get(f"{url}tile/3/-/0.webp").status_code == 200
        port = url.rstrip("/").rpartition(":")[2]
        with pytest.raises(alis.errors.InputError, match="can't listen"):
            serve.bind("127.0.0.1", int(port))
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
