"""Settings are checked when the file is read, and a plan says what would stop a crawl."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lhq.bad_server import Server
from tests.lhq.services import photo, pipeline, serve
from tests.lhq.typed import Lhq


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("want = 3", 'want = "10"'), 'want = "10": a number is meant'),
        (("max_attempts = 3", 'max_attempts = "3"'), "max_attempts"),
        (("min_side_px = 48", 'min_side_px = "48"'), "min_side_px"),
        (("store = ", 'store = "" # '), "store"),
        (("queries = ", 'queries = "" # '), "queries"),
        (('allow_hosts = ["', 'allow_hosts = ["http://'), "is no host:port pair"),
        (('allow_hosts = ["', 'allow_hosts = ["localhost", "'), "'localhost' is no host:port pair"),
        (('allow_hosts = ["', 'allow_hosts = ["a:99999", "'), "'a:99999'"),
        (('allow_hosts = ["', 'allow_hosts = ["*.a.org:80", "'), "each pair is exact"),
        (('allow_hosts = ["', 'allow_hosts = ["a..b:80", "'), "'a..b:80' is no host:port pair"),
        (("want = 3", 'want = "all"'), "write want = 1, bare"),
        (("robots = false", 'robots = "no"'), "write robots = false, bare"),
        (("store = ", 'store = " " # '), "no path is called so"),
        (("[source.unsplash]", '[source.folder]\npath = ""\n[source.unsplash]'), "path = '': no path is called so"),
        (('api = "http', 'api = "htp'), "not the http(s) address of a service"),
        (('api = "http://', 'api = "http:///'), "not the http(s) address of a service"),
        (('api = "http://', 'api = "http://me:pw@'), "not the http(s) address of a service"),
        (("[http]", '[http]\ncontact = "mailto:łódź@example.org"'), "no header can carry 'ł'"),
        (("[http]", '[http]\nuser_agent = " "'), "services want to know who asks"),
        (("total_timeout_s = ", "total_timeout_s = inf # "), "total_timeout_s = inf"),
        (("[http]", "[http]\nconnect_timeout_s = 1e300"), "connect_timeout_s = 1e+300"),
        (("[http]", "[http]\nmax_bytes = 99_000_000_000"), "max_bytes = 99000000000"),
        (("[http]", '[http]\ncontact = "a\\nb"'), "no header can carry '\\n'"),
        (("[http]", '[http]\nuser_agent = "山"'), "no header can carry '山'"),
        (("[http]", '[http]\nca_bundle = "/nowhere.pem"'), "ca_bundle"),
    ],
)
@pytest.mark.parametrize("command", [("crawl",), ("crawl", "--dry-run")], ids=["crawl", "dry run"])
def test_a_wrong_value_is_one_line(
    command: tuple[str, ...], change: tuple[str, str], words: str, tmp_path: Path, lhq: Lhq
) -> None:
    with Server() as server:
        serve(server, {"a": photo(1)})
        file = pipeline(tmp_path, server, want=3)
        assert change[0] in file.read_text()
        file.write_text(file.read_text().replace(*change, 1))
        done = lhq(command[0], file, *command[1:])
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert server.seen == []


TABLES = {
    "permission": ("[source.unsplash]", "states no permission"),
    "key": ("[source.flickr]", "FLICKR_API_KEY and FLICKR_API_SECRET not set"),
    "contact": ("[source.commons]", "contact is empty"),
    "folder": ('[source.folder]\npath = "/no/such/folder"', "no such folder"),
    "odd key": ("[source.commons]\n[http]\ncontact = 'a@b.org'", "WIKIMEDIA_ACCESS_TOKEN holds spaces or letters"),
    "tables": ('[source.unsplash_dataset]\npath = "/no/such/folder"', "no photos.tsv*"),
}


@pytest.mark.parametrize(("source", "words"), TABLES.values(), ids=TABLES)
def test_a_plan_says_what_is_missing(
    source: str, words: str, tmp_path: Path, lhq: Lhq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIKIMEDIA_ACCESS_TOKEN", "token\nX-Other: header")
    file = tmp_path / "p.toml"
    file.write_text(f'store = "{tmp_path}/s"\nqueries = ["lake"]\nwant = 10\n{source}\n')
    done = lhq("crawl", file, "--dry-run")
    assert done.returncode == 2
    assert "10 photos wanted" in done.stdout
    assert words in done.stderr
    assert not (tmp_path / "s").exists()


def test_the_sandbox_needs_no_key_for_a_plan(tmp_path: Path, lhq: Lhq) -> None:
    file = tmp_path / "p.toml"
    file.write_text(f'store = "{tmp_path}/s"\nqueries = ["lake"]\nwant = 10\n[sandbox]\n[source.flickr]\n')
    assert lhq("crawl", file, "--dry-run").returncode == 0


def test_sources_that_offer_all_they_have_need_no_queries(tmp_path: Path, lhq: Lhq) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        (pictures / f"{number}.jpg").write_bytes(photo(number))
    (pictures / "cut.jpg").write_bytes(photo(4)[:-40])
    (pictures / "empty.png").write_bytes(b"")
    (pictures / "apple.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    (pictures / "scan.tif").write_bytes(b"II*\0" + bytes(99))
    (pictures / "notes.txt").write_text("not a picture")
    file = tmp_path / "p.toml"
    file.write_text(
        f'store = "{tmp_path}/s"\nwant = 10\n[source.folder]\npath = "{pictures}"\nmin_side_px = 10\n', encoding="utf-8"
    )
    done = lhq("crawl", file)
    assert done.returncode == 0, done.stderr
    listed = [line.split("\t")[:4] for line in lhq("list", file, "--status", "failed").stdout.splitlines()]
    assert sorted(listed) == [
        ["folder:apple.HEIC", "failed", "unsupported-type", "1"],
        ["folder:cut.jpg", "failed", "truncated", "1"],
        ["folder:empty.png", "failed", "empty", "1"],
        ["folder:scan.tif", "failed", "unsupported-type", "1"],
    ]
    status = lhq("status", file).stdout
    assert "kept 3 + waiting 0 + failed 4" in status
    assert "no picture by its name 1" in status


def test_control_characters_of_queries_reach_no_terminal(tmp_path: Path, lhq: Lhq) -> None:
    with Server() as server:
        serve(server, {"a": photo(1)}, query="lake \x1b[31m \u202e red")
        file = pipeline(tmp_path, server, want=3, queries=["lake \x1b[31m \u202e red"])
        for command in (("crawl", "--dry-run"), ("crawl",), ("status", "--queries"), ("list",), ("show", "unsplash:a")):
            done = lhq(command[0], *command[1:], file)
            assert done.returncode == 0, done.stderr
            assert not {"\x1b", "\u202e"} & {*done.stdout, *done.stderr}, command
        assert "lake \\x1b[31m \\u202e red" in lhq("status", file, "--queries").stdout
