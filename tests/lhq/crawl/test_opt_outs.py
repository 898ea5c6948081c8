"""Every opt-out by a host, a file or an author keeps a photo out, and every answer is kept as evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import lhq
from lhq.errors import ConfigError, RightsRefused
from lhq.rights.reservations import SIGNALS
from lhq.store.shards import Shards
from tests.lhq.bad_server import Server, answer
from tests.lhq.rights.test_reservations import attribute, jpeg
from tests.lhq.services import crawl, kept, offer, photo, pipeline, search, serve, statuses

RESERVED = {
    "robots-content-usage": "train-ai=n",
    "content-signal": "ai-train=no",
    "tdmrep": "/images/tdmrep 1",
    "x-robots-tag": "noimageai",
    "tdm-reservation": "1",
    "content-usage": "bots=n",
    "metadata": "DMI-PROHIBITED",
    "words": "NoAI",
}


def reserved_photos(server: Server) -> None:
    """One photo per signal, named after it, and one that isn't reserved."""
    names = [*RESERVED, "free"]
    serve(server, {name: photo(n) for n, name in enumerate(names)})
    server.routes["/robots.txt"] = answer(
        b"User-agent: *\nContent-Usage: /images/robots-content-usage train-ai=n\n"
        b"Content-Signal: /images/content-signal ai-train=no\nContent-Signal: /images/free search=yes, ai-train=yes\n"
    )
    rules = json.dumps([{"location": "/images/tdmrep", "tdm-reservation": 1}]).encode()
    server.routes["/.well-known/tdmrep.json"] = answer(rules)
    server.routes["/images/x-robots-tag"] = answer(photo(3), x_robots_tag="noimageai")
    server.routes["/images/tdm-reservation"] = answer(photo(4), tdm_reservation="1")
    server.routes["/images/content-usage"] = answer(photo(5), content_usage="bots=n")
    server.routes["/images/metadata"] = answer(jpeg(b"http://ns.adobe.com/xap/1.0/\0" + attribute("DMI-PROHIBITED")))
    server.routes["/images/free"] = answer(photo(8), x_robots_tag="max-image-preview:none", tdm_reservation="0")
    offers = [offer(server, name, f"/images/{name}") for name in names if name != "words"]
    offers.append(offer(server, "words", "/images/words", tags=[{"title": "NoAI"}]))
    server.routes["/unsplash/search/photos"] = search({"lake": offers})


def with_rights(path: Path, lines: str) -> Path:
    path.write_text(f"{path.read_text()}[rights]\n{lines}\n")
    return path


def test_every_signal_binds_and_the_kept_photo_holds_every_answer(tmp_path: Path) -> None:
    with Server() as server:
        reserved_photos(server)
        path = pipeline(tmp_path, server, want=20, robots=True)
        crawl(path)
        assert statuses(path) == {"free": ("kept", ""), **dict.fromkeys(RESERVED, ("failed", "opt-out"))}
        for name in ("robots-content-usage", "content-signal", "tdmrep"):
            assert f"/images/{name}" not in server.paths(), "what a host's files reserve is not even asked for"
    (row,) = kept(tmp_path).to_pylist()
    found = json.loads(row["reservations"])
    assert row["reserved"] == []
    assert found["answers"] == {
        **dict.fromkeys(SIGNALS),
        "content-signal": "search=yes, ai-train=yes",
        "x-robots-tag": "max-image-preview:none",
        "tdm-reservation": "0",
    }
    assert found["asked_at"] >= found["host_asked_at"] > "2026"


def test_what_is_not_honoured_is_kept_with_its_words_and_an_export_may_think_again(tmp_path: Path) -> None:
    with Server() as server:
        reserved_photos(server)
        path = with_rights(pipeline(tmp_path, server, want=20, robots=True), 'honour = ["metadata"]')
        crawl(path)
        assert statuses(path)["metadata"] == ("failed", "opt-out")
    rows = {row["source_id"]: row for row in kept(tmp_path).to_pylist()}
    assert rows.keys() == RESERVED.keys() - {"metadata"} | {"free"}
    for name in rows.keys() - {"free"}:
        assert rows[name]["reserved"] == [name]
        assert json.loads(rows[name]["reservations"])["answers"][name] == RESERVED[name]
    path.write_text(path.read_text() + "[filter.size]\nmin_side_px = 40\n")
    lhq.load(path).filter()
    out = lhq.load(path).export({"variants": ("32",), "validation": 0.0}).report
    assert (out.num_rows, out.skipped) == (8, {})
    path.write_text(path.read_text().replace('honour = ["metadata"]', ""))
    out = lhq.load(path).export({"variants": ("32",), "validation": 0.0}).report
    assert out.num_rows == 1
    assert out.skipped == {f"reserved by {name}": 1 for name in RESERVED if name != "metadata"}
    card = (Path(out.to) / "README.md").read_text()
    assert "| left out: reserved by tdmrep | 1 |" in card
    assert "| content-signal | 1 | 0 | 1 | 0 |" in card
    assert pq.read_table(Path(out.to) / "data")["source_id"].to_pylist() == ["free"]


def test_authors_pages_and_domains_are_denied_before_they_are_asked_for(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {f"p{n}": photo(n) for n in range(4)})
        path = with_rights(pipeline(tmp_path, server, want=20), 'deny = "deny.txt"')
        lines = ["# asked in writing", "author:  author   P1", "https://unsplash.com/photos/p2/ # a page"]
        (tmp_path / "deny.txt").write_text("\n".join(lines))
        crawl(path)
        denied = ("failed", "denied")
        assert statuses(path) == {"p0": ("kept", ""), "p1": denied, "p2": denied, "p3": ("kept", "")}
        assert not {"/images/p1", "/images/p2"} & {*server.paths()}
        (tmp_path / "deny.txt").write_text("unsplash.com\n")
        path.write_text(path.read_text() + "[filter.size]\nmin_side_px = 40\n")
        lhq.load(path).filter()
        with pytest.raises(RightsRefused, match=r"denied by the deny list 2"):
            lhq.load(path).export({"variants": ("32",)})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('honour = ["tdmrpe"]', 'did you mean "tdmrep"'),
        ("honuor = []", 'did you mean "honour"'),
        ('deny = "none.txt"', "none.txt"),
        ('deny = "bad.txt"', "bad.txt:2: 'two words' is no author, page or domain"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, lines: str, words: str) -> None:
    (tmp_path / "bad.txt").write_text("example.org\ntwo words\n")
    with Server() as server:
        path = with_rights(pipeline(tmp_path, server, want=1), lines)
    with pytest.raises(ConfigError) as caught:
        lhq.load(path)
    assert words in str(caught.value)


def test_a_host_that_fails_to_say_reserves_nothing(tmp_path: Path) -> None:
    with Server() as server:
        serve(server, {"p": photo(1)})
        server.routes["/robots.txt"] = answer(b"", 404)
        server.routes["/.well-known/tdmrep.json"] = answer(b"", 503)
        crawl(pipeline(tmp_path, server, want=1, robots=True))
    (row,) = Shards(str(tmp_path / "store"), "photos").read(0, ["reservations"]).to_pylist()
    assert json.loads(row["reservations"])["answers"]["tdmrep"] == "no answer (throttled)"
