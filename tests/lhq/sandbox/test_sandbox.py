"""The sandbox through its public interfaces: HTTP on loopback, flickrapi, the command."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import flickrapi
import pytest
import requests
from PIL import Image

from lhq.errors import InputError, UserError
from lhq.sandbox import Sandbox

ROOT = Path(__file__).parents[3]
KEY = {"Authorization": "Client-ID any"}
EXTRAS = (
    "description,license,date_upload,date_taken,owner_name,path_alias,tags,o_dims,media,original_format,"
    "url_l,url_h,url_k,url_o"
)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(port=0, num_scenes=300, seed=5) as box:
        yield box


def _flickr(box: Sandbox, key: str = "any", format: str = "parsed-json") -> flickrapi.FlickrAPI:
    api = flickrapi.FlickrAPI(key, "secret", format=format)
    api.REST_URL = f"{box.url}/flickr/services/rest/"
    return api


def _search(box: Sandbox, **params: object) -> requests.Response:
    return requests.get(f"{box.url}/unsplash/search/photos", params=params, headers=KEY, timeout=10)  # type: ignore[arg-type]


def test_unsplash_pages_hold_every_photo_once(box: Sandbox) -> None:
    first = _search(box, query="mountain lake", per_page=30)
    total, pages = first.json()["total"], first.json()["total_pages"]
    each = [_search(box, query="mountain lake", per_page=30, page=n).json()["results"] for n in range(1, pages + 2)]
    found = [photo["id"] for page in each for photo in page]
    assert len(found) == len(set(found)) == total > 30
    assert first.headers["X-Total"] == str(total)
    assert first.headers["X-Per-Page"] == "30"
    assert 'rel="next"' in first.headers["Link"]
    assert each[-1] == []
    assert _search(box, query="lake", per_page=99).headers["X-Per-Page"] == "30"


def test_a_next_link_leads_on(box: Sandbox) -> None:
    first = _search(box, query="sea", per_page=5)
    second = requests.get(first.links["next"]["url"], headers=KEY, timeout=10).json()["results"]
    assert second == _search(box, query="sea", per_page=5, page=2).json()["results"]
    assert {one["id"] for one in second}.isdisjoint(one["id"] for one in first.json()["results"])


def test_orientation_and_order_are_obeyed(box: Sandbox) -> None:
    upright = _search(box, query="mountain", per_page=30, orientation="portrait").json()["results"]
    assert upright
    assert all(photo["height"] > photo["width"] for photo in upright)
    latest = [photo["created_at"] for photo in _search(box, query="sea", order_by="latest").json()["results"]]
    assert latest == sorted(latest, reverse=True)


def test_photos_are_met_under_many_queries_and_on_both_services(box: Sandbox) -> None:
    lakes = {p["id"] for p in _search(box, query="lake", per_page=30).json()["results"]}
    mountains = {p["id"] for p in _search(box, query="mountain", per_page=30).json()["results"]}
    pages = [_search(box, query="mountain", per_page=30, page=n).json()["results"] for n in (2, 3, 4)]
    assert lakes & (mountains | {p["id"] for page in pages for p in page})
    indices = list(box.ids.values())
    both = len(indices) - len(set(indices))
    assert 0.08 * 300 < both < 0.25 * 300
    assert len(set(indices)) == 300


def test_any_query_has_an_answer_and_the_same_one(box: Sandbox) -> None:
    first = _search(box, query="Białowieża xyzzy").json()
    assert first["total"] > 5
    assert first == _search(box, query="Białowieża xyzzy").json()
    assert _search(box, query=" ").status_code == 400


def test_keys_are_asked_for(box: Sandbox) -> None:
    url = f"{box.url}/unsplash/search/photos?query=sea"
    assert requests.get(url, timeout=10).status_code == 401
    expired = requests.get(url, headers={"Authorization": "Client-ID expired"}, timeout=10)
    assert (expired.status_code, list(expired.json())) == (401, ["errors"])
    with pytest.raises(flickrapi.FlickrError, match="100"):
        _flickr(box, "expired").photos.search(text="sea")


def test_unsplash_quota_runs_out_with_the_services_own_words() -> None:
    with Sandbox(port=0, num_scenes=5, rate_limit=3) as box:
        left = [_search(box, query="sea").headers["X-Ratelimit-Remaining"] for _ in range(3)]
        over = _search(box, query="sea")
        other = requests.get(f"{box.url}/unsplash/photos", headers={"Authorization": "Client-ID b"}, timeout=10)
    assert left == ["2", "1", "0"]
    assert (over.status_code, over.text) == (403, "Rate Limit Exceeded")
    assert over.headers["X-Ratelimit-Limit"] == "3"
    assert other.status_code == 200


def test_a_download_is_counted_once_a_call(box: Sandbox) -> None:
    photo = _search(box, query="forest").json()["results"][0]
    assert box.downloads[photo["id"]] == 0
    answer = requests.get(photo["links"]["download_location"], headers=KEY, timeout=10)
    assert answer.json()["url"].startswith(box.url)
    assert box.downloads[photo["id"]] == 1
    assert requests.get(f"{box.url}/unsplash/photos/nope", headers=KEY, timeout=10).status_code == 404


def test_flickr_says_the_same_in_json_and_xml(box: Sandbox) -> None:
    rows = _flickr(box).photos.search(text="desert", per_page=20, extras=EXTRAS)["photos"]["photo"]
    tree = _flickr(box, format="etree").photos.search(text="desert", per_page=20, extras=EXTRAS)
    nodes = tree.findall("./photos/photo")
    assert [row["id"] for row in rows] == [node.get("id") for node in nodes]
    for row, node in zip(rows, nodes, strict=True):
        for name in ("title", "license", "width_o", "url_o", "url_l", "ownername", "tags", "datetaken"):
            assert (None if name not in row else str(row[name])) == node.get(name)
        assert row["description"]["_content"] == (node.findtext("description") or "")
    assert {type(row["width_l"]) for row in rows if "width_l" in row} == {int, str}


def test_flickr_filters_by_licence_and_upload_date(box: Sandbox) -> None:
    flickr = _flickr(box)
    every = flickr.photos.search(text="mountain", per_page=500, extras=EXTRAS)["photos"]["photo"]
    some = flickr.photos.search(text="mountain", per_page=500, extras=EXTRAS, license="4,9")["photos"]["photo"]
    assert {row["license"] for row in some} == {"4", "9"}
    assert [row["id"] for row in some] == [row["id"] for row in every if row["license"] in ("4", "9")]
    dates = sorted(int(row["dateupload"]) for row in every)
    middle = dates[len(dates) // 2]
    parts = [
        flickr.photos.search(text="mountain", per_page=500, max_upload_date=middle),
        flickr.photos.search(text="mountain", per_page=500, min_upload_date=middle + 1),
    ]
    assert sum(len(part["photos"]["photo"]) for part in parts) == len(every)


def test_only_four_thousand_results_can_be_reached_but_halves_hold_them_all() -> None:
    with Sandbox(port=0, num_scenes=9000, seed=1) as box:
        flickr = _flickr(box)
        wish = {"text": "mountain sea snow desert forest hills clouds night", "per_page": 500}

        def reach(**more: str) -> tuple[int, set[str]]:
            first = flickr.photos.search(**wish, **more)["photos"]
            later = [flickr.photos.search(**wish, **more, page=n)["photos"] for n in range(2, int(first["pages"]) + 1)]
            return int(first["total"]), {row["id"] for page in [first, *later] for row in page["photo"]}

        total, seen = reach()
        assert total > 4000
        assert len(seen) == 4000
        early, early_seen = reach(max_upload_date="2015-01-01")
        late, late_seen = reach(min_upload_date="2015-01-01 00:00:01")
        assert (len(early_seen), len(late_seen)) == (early, late)
        assert len(early_seen | late_seen) == early + late == total


def test_flickr_methods_beside_search(box: Sandbox) -> None:
    flickr = _flickr(box)
    row = flickr.photos.search(text="sea", per_page=1, extras=EXTRAS)["photos"]["photo"][0]
    info = flickr.photos.getInfo(photo_id=row["id"])["photo"]
    assert (info["title"]["_content"], info["owner"]["nsid"], info["license"]) == (
        row["title"],
        row["owner"],
        row["license"],
    )
    sizes = flickr.photos.getSizes(photo_id=row["id"])["sizes"]["size"]
    assert [int(size["width"]) for size in sizes[2:]] == sorted(int(size["width"]) for size in sizes[2:])
    assert len(flickr.photos.licenses.getInfo()["licenses"]["license"]) == 17
    assert flickr.test.echo(word="hello")["word"]["_content"] == "hello"
    with pytest.raises(flickrapi.FlickrError, match="Photo not found"):
        flickr.photos.getInfo(photo_id="1")
    with pytest.raises(flickrapi.FlickrError, match="112"):
        flickr.photos.search_nothing()


def test_sizes_are_what_the_papers_say(box: Sandbox) -> None:
    rows = _flickr(box).photos.search(text="lake", per_page=200, extras=EXTRAS)["photos"]["photo"]
    rows = [row for row in rows if box.truth(f"flickr:{row['id']}").kind in ("clean", "objects") and "url_o" in row]  # type: ignore[union-attr]
    for row in rows[:2]:
        for size in ("l", "o"):
            answer = requests.get(row[f"url_{size}"], timeout=60)
            image = Image.open(io.BytesIO(answer.content))
            turned = image.getexif().get(0x0112, 1) in (6, 8)
            stored = image.size[::-1] if turned else image.size
            assert stored == (int(row[f"width_{size}"]), int(row[f"height_{size}"]))
    wrong = rows[0]["url_o"].replace(rows[0]["originalsecret"], "0123456789")
    assert requests.get(wrong, timeout=10).status_code == 404


def test_images_are_cached_by_etag_and_shrunk_on_request(box: Sandbox) -> None:
    found = _search(box, query="desert", per_page=30).json()["results"]
    photo = next(p for p in found if box.truth(f"unsplash:{p['id']}").kind == "clean")  # type: ignore[union-attr]
    with requests.Session() as session:
        first = session.get(photo["urls"]["raw"], timeout=60)
        again = session.get(photo["urls"]["raw"], timeout=60)
        same = session.get(photo["urls"]["raw"], headers={"If-None-Match": first.headers["ETag"]}, timeout=10)
        head = session.head(photo["urls"]["raw"], timeout=60)
        small = session.get(photo["urls"]["raw"] + "&w=200&fm=png", timeout=60)
    assert first.content == again.content
    assert (same.status_code, same.content) == (304, b"")
    assert head.headers["Content-Length"] == str(len(first.content))
    image = Image.open(io.BytesIO(small.content))
    assert (image.format, image.width) == ("PNG", 200)


def test_the_request_log_can_be_read(box: Sandbox) -> None:
    before = box.counts["/robots.txt"]
    answer = requests.get(f"{box.url}/robots.txt", headers={"User-Agent": "me/1"}, timeout=10)
    assert answer.text.startswith("User-agent: *")
    assert box.counts["/robots.txt"] == before + 1
    last = box.requests[-1]
    assert (last.method, last.path, last.status, last.user_agent) == ("GET", "/robots.txt", 200, "me/1")
    assert requests.get(f"{box.url}/nowhere", timeout=10).status_code == 404
    assert "<img" in requests.get(box.url, timeout=10).text


def test_real_pictures_are_served_byte_for_byte(tmp_path: Path) -> None:
    Image.new("RGB", (1300, 1100), "teal").save(tmp_path / "a b.jpg", exif=_turned())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    (tmp_path / "NOTES.txt").write_text("not a picture")
    with Sandbox(tmp_path, port=0) as box:
        flickr = _flickr(box).photos.search(text="anything at all sea mountain", per_page=500, extras=EXTRAS)
        urls = [row.get("url_o") for row in flickr["photos"]["photo"]]
        urls += [
            one["urls"]["raw"] for one in requests.get(f"{box.url}/unsplash/photos", headers=KEY, timeout=9).json()
        ]
        got = {requests.get(url, timeout=10).content for url in urls if url}
        sizes = {
            (one["width"], one["height"])
            for one in requests.get(f"{box.url}/unsplash/photos", headers=KEY, timeout=9).json()
        }
    assert len(box.ids) >= 2
    assert got <= {(tmp_path / name).read_bytes() for name in ("a b.jpg", "broken.png")}
    assert got
    assert sizes <= {(1100, 1300), (1620, 1080)}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_nasty_files_are_served_as_they_are(shared: Path) -> None:
    with Sandbox(shared / "nasty", port=0) as box:
        names = list(box.ids)
        assert len(names) > 500
        photo = next(name for name in names if name.startswith("unsplash:")).removeprefix("unsplash:")
        assert requests.get(f"{box.url}/images/unsplash/photo-{photo}?w=100&fm=jpg", timeout=10).status_code == 200


def test_papers_have_the_shape_of_recorded_ones(box: Sandbox, shared: Path) -> None:
    api = shared / "fixtures" / "api"
    recorded = json.loads((api / "unsplash" / "photos_random_30_2024-10.json").read_text())
    recorded = recorded.get("body", recorded) if isinstance(recorded, dict) else recorded
    ours = _search(box, query="sea").json()["results"][0]
    assert set(ours) - {"tags"} <= set(recorded[0])
    for part in ("urls", "links"):
        assert set(ours[part]) <= set(recorded[0][part])
        assert {"raw", "full", "html", "download_location"} & set(recorded[0][part]) <= set(ours[part])
    flickr = json.loads((api / "flickr" / "photos.search.one_photo.json").read_text())["photos"]["photo"][0]
    row = _flickr(box).photos.search(text="sea", per_page=1, extras=EXTRAS)["photos"]["photo"][0]
    assert set(flickr) - set(row) <= {
        "latitude",
        "longitude",
        "accuracy",
        "context",
        "place_id",
        "woeid",
        "geo_is_public",
        "geo_is_contact",
        "geo_is_friend",
        "geo_is_family",
        "url_s",
        "height_s",
        "width_s",
        "url_l",
        "height_l",
        "width_l",
        "url_o",
        "height_o",
        "width_o",
    }
    error = json.loads((api / "flickr" / "error_invalid_key.json").read_text())
    answer = requests.get(
        f"{box.url}/flickr/services/rest/?method=flickr.test.echo&format=json&nojsoncallback=1", timeout=9
    )
    assert set(answer.json()) == set(error)
    assert answer.json()["code"] == error["code"] == 100


def test_port_in_use_and_empty_folders_are_one_clear_error(box: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(box.port)):
        Sandbox(port=box.port, num_scenes=2).__enter__()
    with pytest.raises(InputError, match="no such folder"):
        Sandbox(tmp_path / "missing")
    with pytest.raises(InputError, match="no picture"):
        Sandbox(tmp_path)


def test_a_closed_sandbox_frees_its_port_and_its_connections() -> None:
    with Sandbox(port=0, num_scenes=3) as box, requests.Session() as session:
        port = box.port
        assert session.get(f"{box.url}/robots.txt", timeout=10).status_code == 200
        box.close()
        with pytest.raises(requests.ConnectionError):
            session.get(f"http://127.0.0.1:{port}/robots.txt", timeout=10)
    with Sandbox(port=port, num_scenes=3) as again:
        assert requests.get(f"{again.url}/robots.txt", timeout=10).status_code == 200


def test_the_command_serves_until_interrupted() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-m", "lhq", "sandbox", "serve"]
    with subprocess.Popen(
        [*run, "--port", "0", "--scenes", "3"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert requests.get(f"{url}/robots.txt", timeout=10).status_code == 200
        second = subprocess.run(
            [*run, "--port", url.rsplit(":", 1)[1]],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        server.send_signal(signal.SIGINT)
        _, talk = server.communicate(timeout=30)
    assert server.returncode == 0
    assert "allow_hosts" in talk
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert "--port" in second.stderr
