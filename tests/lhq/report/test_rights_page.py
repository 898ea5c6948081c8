"""`lhq rights`: counts add up, text can't break the page, and no local path is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lhq.rights.reservations import Evidence, from_headers, from_robots
from lhq.takedown.remove import remove
from tests.lhq.making import add_shard, judge, photo, scene
from tests.lhq.typed import Lhq

SAID = Evidence(
    from_robots("User-agent: *\nContent-Signal: ai-train=no", "/", "lhq") | from_headers({"tdm-reservation": "0"}),
    "2026-05-01T00:00:00Z",
    "2026-05-01T00:00:00Z",
).papers()


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    permission = {
        "permits": ["train"],
        "permission": "Do <b>train</b> | learn",
        "permission_by": "U",
        "source": "unsplash",
    }
    rows = [
        photo(scene(1), "free", licence="cc0-1.0"),
        photo(scene(2), "fixed", licence="cc-by-nd-2.0"),
        photo(scene(3), "signal", **SAID),
        photo(scene(4), "letter", licence="unsplash", **permission),
        photo(scene(5), "prose", "unsplash", "unsplash", permission="training is fine"),
        photo(
            scene(6), "mine", "folder", "own", url="file:///home/jo/secret.jpg", page_url="file:///home/jo/secret.jpg"
        ),
        photo(scene(7), "gone"),
        photo(scene(8), "dropped"),
    ]
    add_shard(tmp_path / "store", 0, rows)
    judge(tmp_path / "store", {"flickr:dropped": "size"})
    remove(str(tmp_path / "store"), ["flickr:gone"], reason="asked by | the author")
    file = tmp_path / "p.toml"
    file.write_text(f'store = "{tmp_path / "store"}"\nqueries = ["lake"]\nwant = 5\n[rights]\ndeny = "deny.txt"\n')
    (tmp_path / "deny.txt").write_text("example.org\n")
    return file


def test_counts_add_up(pipeline: Path, lhq: Lhq) -> None:
    done = lhq("rights", pipeline, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["held"]["photos"], found["kept"]["photos"], found["num_unasked"]) == (8, 6, 5)
    assert found["kept"]["photos"] == sum(one["photos"] for one in found["sources"].values())
    assert found["kept"]["size_bytes"] == sum(one["size_bytes"] for one in found["domains"].values())
    assert found["signals"]["content-signal"] == {"asked": 1, "silent": 0, "answered": 1, "reserved": 1}
    assert found["takedowns"] == {"asked by | the author": 1}
    held_back = {"reserved by content-signal": 1, "machines may not learn from them: refused": 1}
    assert found["modes"]["private"] == {"published": 4, **held_back}
    assert found["modes"]["bytes"] == {
        "published as fetched (full)": 3,
        "published as squares": 2,
        **held_back,
        "bytes may not be handed on: refused": 1,
    }
    assert {(*one["permits"], one["photos"]) for one in found["permissions"]} == {("train", 1), (1,)}


def test_the_page_says_it_and_shows_no_disk(pipeline: Path, lhq: Lhq, tmp_path: Path) -> None:
    text = lhq("rights", pipeline).stdout
    for heading in ("Sources and their terms", "Licences", "Permissions", "Opt-outs", "Takedowns", "publish mode"):
        assert f"## {heading}" in text or heading in text
    assert "“Do \\<b\\>train\\</b\\> \\| learn”" in text
    assert "nothing (prose alone allows nothing)" in text
    assert "Public summary of training content (EU AI Act, Art. 53(1)(d))" in text
    assert "| photos.example | 5 |" in text
    assert "secret" not in text + lhq("rights", pipeline, "--json").stdout
    assert lhq("rights", pipeline, "-o", tmp_path / "rights.html").returncode == 0
    page = (tmp_path / "rights.html").read_text()
    assert "<table>" in page
    assert "<b>train" not in page
    summary = lhq("rights", pipeline, "--summary").stdout
    assert summary.startswith("## Public summary")
    assert "6 photographs" in summary
    assert "1 of the photographs were asked for opt-out signals" in summary
    assert "robots.txt is obeyed" in summary


def test_the_page_says_no_more_than_was_done(pipeline: Path, lhq: Lhq) -> None:
    pipeline.write_text(pipeline.read_text() + "[http]\nrobots = false\n")
    (pipeline.parent / "deny.txt").write_text("example.org\nhttps://example.net/photo.php?id=7\nauthor Jo\n")
    text = lhq("rights", pipeline).stdout
    assert "robots.txt is obeyed" not in text
    assert "not asked (`[http] robots = false`)" in text
    assert json.loads(lhq("rights", pipeline, "--json").stdout)["denied"] == 3


def test_an_empty_store_is_said(tmp_path: Path, lhq: Lhq) -> None:
    (tmp_path / "p.toml").write_text(f'store = "{tmp_path / "none"}"\nqueries = ["lake"]\nwant = 5\n')
    done = lhq("rights", tmp_path / "p.toml")
    assert (done.returncode, "no photos" in done.stderr) == (2, True)
