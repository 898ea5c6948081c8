"""What has changed at hosts and sources since the photos were fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lhq.config import HttpSettings
from lhq.errors import InputError
from lhq.export import ExportSettings, export
from lhq.http import Client
from lhq.records import Query
from lhq.report.rights_facts import gather
from lhq.report.show import find
from lhq.rights.policy import Policy
from lhq.sandbox import Sandbox
from lhq.sources import Source
from lhq.sources.commons import Commons, CommonsSettings
from lhq.sources.flickr import Flickr, FlickrSettings
from lhq.sources.unsplash import Unsplash, UnsplashSettings
from lhq.store import rechecked
from lhq.takedown.erase import erase
from lhq.takedown.recheck import RecheckReport, recheck
from lhq.takedown.remove import remove
from tests.lhq.bad_server import Server, Talk, answer, as_json, in_turn
from tests.lhq.making import RIGHTS, Here, add_shard, judge, photo, scene
from tests.lhq.services import PERMISSION
from tests.lhq.serving import Pictures, serving


def check(store: Path, pictures: Pictures, **more: object) -> RecheckReport:
    client = Client(pictures.settings())
    try:
        return recheck(str(store), client, {}, **more)  # type: ignore[arg-type]
    finally:
        client.close()


def stored(store: Path, pictures: Pictures, num: int = 6) -> None:
    pictures.answers.update({f"/{n}.jpg": scene(n) for n in range(num)})
    add_shard(store, 0, [photo(scene(n), f"{n}", url=f"{pictures.url}/{n}.jpg") for n in range(num)])


def test_changes_at_the_url_are_found(tmp_path: Path) -> None:
    with serving() as pictures:
        stored(tmp_path, pictures)
        pictures.answers["/1.jpg"] = 404
        pictures.answers["/2.jpg"] = (302, {"Location": "/photo_unavailable.png"})
        pictures.answers["/photo_unavailable.png"] = scene(50)
        pictures.answers["/3.jpg"] = scene(60, 500, 400)
        pictures.answers["/4.jpg"] = (200, {"X-Robots-Tag": "noimageai"})
        pictures.answers["/5.jpg"] = 403
        report = check(tmp_path, pictures)
        assert {one.id: one.what for one in report.changes} == {
            "flickr:1": "gone",
            "flickr:2": "gone",
            "flickr:3": "bytes",
            "flickr:4": "opt-out",
        }
        assert (report.checked, set(report.unknown)) == (6, {"flickr:5"})


def test_other_bytes_of_the_same_size_are_found_by_reading_them(tmp_path: Path) -> None:
    with serving() as pictures:
        stored(tmp_path, pictures, 3)
        other = bytearray(scene(1))
        other[-3] ^= 1
        pictures.answers["/1.jpg"] = bytes(other)
        assert check(tmp_path, pictures).changes == []
        changes = check(tmp_path, pictures, reads_bytes=True).changes
        assert [(one.id, one.what) for one in changes] == [("flickr:1", "bytes")]


def test_a_recheck_obeys_the_limits_of_a_crawl(tmp_path: Path) -> None:
    """By its own pace and slots, not as a service; its robots.txt holds; a mood of it is waited out."""
    data = scene(1)
    with Server() as server:
        served = answer(data, content_type="image/jpeg")
        server.routes.update(
            {
                "/a.jpg": in_turn(answer(b"", 503, retry_after="0"), served),
                "/b.jpg": served,
                "/robots.txt": answer(b"User-agent: *\nDisallow: /b"),
            }
        )
        add_shard(tmp_path, 0, [photo(data, name, url=server.url(f"/{name}.jpg")) for name in "ab"])
        client = Client(HttpSettings(allow_hosts=(server.netloc,), retry_delay_s=0.01))
        client.limit(server.url(), num_slots=1)
        report = recheck(str(tmp_path), client, {})
        client.close()
        assert [host.name for host in client.hosts.all()] == [server.netloc]
        assert {(request.method, request.path) for request in server.seen} == {
            ("GET", "/robots.txt"),
            ("HEAD", "/a.jpg"),
        }
    assert [(one.id, one.what) for one in report.changes] == [("flickr:b", "opt-out")]
    assert (report.checked, report.unknown) == (2, {})


@pytest.mark.parametrize("reads_bytes", [False, True])
def test_reservations_found_by_recheck_apply_to_the_next_export(tmp_path: Path, reads_bytes: bool) -> None:
    """A photo that is reserved since stays out, by each kind of signal and at each step of a redirect; one whose
    reservation is gone comes back. What only the file says stays as it was, where only its host was asked."""
    store, names = tmp_path / "store", "abcde"
    with Server() as server, Server() as other:
        in_file = {"answers": {"metadata": "DMI-PROHIBITED"}, "asked_at": "2026-05-01T00:00:00Z"}
        said = {"d": {"reserved": ["metadata"], "reservations": json.dumps(in_file)}}
        rows = [
            photo(scene(n), name, url=server.url(f"/{name}.jpg"), **said.get(name, {})) for n, name in enumerate(names)
        ]
        add_shard(store, 0, rows)
        judge(store)
        shard = (store / "photos" / "000000.parquet").read_bytes()
        for n, name in enumerate(names):
            server.routes[f"/{name}.jpg"] = answer(scene(n), content_type="image/jpeg")
        server.routes["/c.jpg"] = answer(b"", 302, location=other.url("/there.jpg"))
        other.routes["/there.jpg"] = answer(scene(2), content_type="image/jpeg")
        reserving = {
            "/a.jpg": answer(scene(0), content_type="image/jpeg", tdm_reservation="1"),
            "/robots.txt": answer(b"User-agent: *\nContent-Signal: /b ai-train=no"),
            "/.well-known/tdmrep.json": answer(b'[{"location": "/c", "tdm-reservation": 1}]'),
        }
        silent = {path: server.routes.get(path, answer(b"", 404)) for path in reserving}

        def left_out(routes: dict[str, object]) -> tuple[dict[str, int], RecheckReport]:
            server.routes.update(routes)  # type: ignore[arg-type]
            client = Client(HttpSettings(allow_hosts=(server.netloc, other.netloc), retry_delay_s=0.01), Policy())
            report = recheck(str(store), client, {}, reads_bytes=reads_bytes)
            client.close()
            assert (report.checked, report.unknown) == (5, {})
            settings = ExportSettings(to=str(tmp_path / "set"), variants=("32",), validation=0)
            return export(str(store), settings, rights_of=RIGHTS, engine=Here()).skipped, report

        skipped, report = left_out(reserving)
        of_signals = dict.fromkeys(
            ("reserved by tdm-reservation", "reserved by content-signal", "reserved by tdmrep"), 1
        )
        in_files = {} if reads_bytes else {"reserved by metadata": 1}
        assert skipped == {**of_signals, **in_files}
        assert {one.id for one in report.changes if one.what == "opt-out"} == {"flickr:a", "flickr:b", "flickr:c"}
        assert report.recorded == 5
        asked = pq.read_table(tmp_path / "set" / "manifest.parquet").to_pylist()
        assert {one["id"] for one in asked} == {"flickr:e"} | ({"flickr:d"} if reads_bytes else set())
        assert gather(str(store), RIGHTS, Policy()).signals["tdmrep"].reserved == 1
        assert find(str(store), "flickr:c", {}).papers["reserved"] == ["tdmrep"]
        found = json.loads(asked[-1]["reservations"])
        assert {"tdmrep", "content-signal", "x-robots-tag"} <= found["answers"].keys()
        assert found["host_asked_at"] > "2026-05-02"

        skipped, report = left_out(silent)
        assert skipped == in_files
        assert report.changes == []
    assert (store / "photos" / "000000.parquet").read_bytes() == shard


def test_photos_checked_longest_ago_are_checked_first(tmp_path: Path) -> None:
    with serving() as pictures:
        stored(tmp_path, pictures)
        for _ in range(3):
            check(tmp_path, pictures, limit=2)
        assert set(pictures.asked.values()) == {1}
        assert len(pictures.asked) == 6


def test_results_of_erased_photos_are_deleted(tmp_path: Path) -> None:
    with serving() as pictures:
        stored(tmp_path, pictures, 3)
        check(tmp_path, pictures)
        remove(str(tmp_path), ["flickr:1"])
        erase(str(tmp_path), str(tmp_path))
    assert rechecked.read(str(tmp_path))["id"].to_pylist() == ["flickr:0", "flickr:2"]


def test_the_limit_is_kept_and_removed_photos_are_skipped(tmp_path: Path) -> None:
    with serving() as pictures:
        stored(tmp_path, pictures)
        remove(str(tmp_path), ["flickr:0"])
        assert check(tmp_path, pictures, limit=2).checked == 2
        assert set(pictures.asked) == {"/1.jpg", "/2.jpg"}
        with pytest.raises(InputError, match="no photos"):
            check(tmp_path / "empty", pictures)


def test_sources_are_queried_for_licence_and_presence(tmp_path: Path) -> None:
    with Sandbox(seed=0, num_scenes=12, port=0) as box:
        host = box.url.split("://")[1]
        pictures = Pictures(host)
        client = Client(pictures.settings())
        flickr = Flickr(FlickrSettings(api=f"{box.url}/flickr/services/rest/", min_side_px=1), client)
        unsplash = Unsplash(UnsplashSettings(api=f"{box.url}/unsplash", permission=PERMISSION, min_side_px=1), client)
        sources: dict[str, Source] = {"flickr": flickr, "unsplash": unsplash}
        found = {}
        for name, source in sources.items():
            page = source.search(Query("mountain"), None)
            assert page.candidates
            found[name] = page.candidates[0]
        rows = []
        for name, one in found.items():
            data, same = scene(1), {"licence": one.licence, "url": "folder:none"}
            rows += [
                photo(data, one.source_id, name, **same),
                photo(data, "404404404", name, **same),
            ]
        other = "cc0-1.0" if found["flickr"].licence != "cc0-1.0" else "cc-by-2.0"
        rows[0]["licence"] = other
        add_shard(tmp_path, 0, rows)
        report = recheck(str(tmp_path), client, sources)
        client.close()
    changes = {one.id: (one.what, one.detail) for one in report.changes}
    assert changes.keys() == {rows[0]["id"], "flickr:404404404", "unsplash:404404404"}
    assert changes[rows[0]["id"]] == ("licence", f"{found['flickr'].licence}, was {other}")
    assert changes["unsplash:404404404"][0] == "gone"
    assert not report.unknown


def test_commons_is_queried_page_by_page(tmp_path: Path) -> None:
    """Answers as the API gives them: a page as it was, one under another licence, one deleted, one that is refused."""
    said = {
        "11": {"LicenseUrl": {"value": "https://creativecommons.org/licenses/by-sa/4.0"}},
        "12": {"LicenseUrl": {"value": "https://creativecommons.org/licenses/by/2.0"}},
        "15": {"LicenseShortName": {"value": "Fair use"}},
    }

    def api(talk: Talk) -> None:
        number = talk.request.params["pageids"]
        page: dict[str, object] = {"pageid": int(number), "ns": 6, "title": f"File:{number}.jpg"}
        if number == "14":
            as_json({"error": {"code": "readonly", "info": "The wiki is in read-only mode"}})(talk)
            return
        if number == "13":
            page = {"pageid": 13, "missing": True}
        else:
            page["imageinfo"] = [{"extmetadata": said[number]}]
        as_json({"batchcomplete": True, "query": {"pages": [page]}})(talk)

    rows = [photo(scene(n), f"{n}", "commons", "cc-by-sa-4.0", url="folder:none") for n in range(11, 16)]
    add_shard(tmp_path, 0, rows)
    with Server({"/w/api.php": api}) as server:
        client = Client(
            HttpSettings(allow_hosts=(server.netloc,), contact="mailto:a@b.org", max_attempts=2, retry_delay_s=0.01)
        )
        source = Commons(CommonsSettings(api=server.url("/w/api.php")), client)
        report = recheck(str(tmp_path), client, {"commons": source})
        client.close()
        assert all(one.params["prop"] == "imageinfo" for one in server.seen)
    assert {one.id: (one.what, one.detail) for one in report.changes} == {
        "commons:12": ("licence", "cc-by-2.0, was cc-by-sa-4.0"),
        "commons:13": ("gone", "commons offers it no more"),
        "commons:15": ("licence", "an unknown one, was cc-by-sa-4.0"),
    }
    assert report.checked == 5
    assert set(report.unknown) == {"commons:14"}
    assert "read-only mode" in report.unknown["commons:14"]
