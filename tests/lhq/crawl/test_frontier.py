"""The frontier alone: pages and candidates together, the order of offers, back-off, a million rows."""

from __future__ import annotations

import sqlite3
import string
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lhq.crawl.frontier import Frontier, Kept
from lhq.errors import StoreError
from lhq.records import Candidate, Query
from lhq.sources import Page

SOURCES = ("s",)


def candidate(name: str, source: str = "s") -> Candidate:
    return Candidate(source, name, f"http://h/{name}", "http://p", "Ann", "", "cc0-1.0", "lake", tags=("a", "ü"))


@pytest.fixture
def frontier(tmp_path: Path) -> Frontier:
    found = Frontier(tmp_path / "frontier.sqlite")
    found.add_queries("s", [Query("lake"), Query("hill", "hills")], 100)
    return found


def page(frontier: Frontier, names: str, next_cursor: str | None, *, text: str = "lake", is_full: bool = False) -> int:
    """A page of one-letter photos, under one query."""
    asked = frontier.next_query("s", frozenset({text}))
    assert asked is not None
    return frontier.add_page(
        asked, Page((), next_cursor), [(candidate(name), "h:80") for name in names], is_full=is_full
    )


def names(frontier: Frontier, now: float | None = None) -> str:
    return "".join(each.candidate.source_id for each in frontier.waiting("h:80", now or time.time(), 99, SOURCES))


def test_a_candidate_comes_back_as_it_went(frontier: Frontier) -> None:
    page(frontier, "a", None)
    (waiting,) = frontier.waiting("h:80", time.time(), 9, SOURCES)
    assert (waiting.candidate, waiting.attempts) == (candidate("a"), 0)


def test_queries_advance_together_and_remember_their_place(frontier: Frontier) -> None:
    both = frozenset({"lake", "hill"})
    page(frontier, "ab", "2")
    assert frontier.next_query("s", both).query == Query("hill", "hills")  # type: ignore[union-attr]
    page(frontier, "c", "2", text="hill")
    asked = frontier.next_query("s", both)
    assert asked is not None
    assert (asked.query.text, asked.cursor, asked.num_pages, asked.num_offered) == ("lake", "2", 1, 2)
    frontier.close()
    again = Frontier(frontier.path)
    assert again.next_query("s", both) == asked
    assert again.next_query("s", frozenset()) is None


def test_one_photo_under_two_queries_is_one_candidate(frontier: Frontier) -> None:
    assert page(frontier, "ab", None) == 2
    assert page(frontier, "bc", None, text="hill") == 1
    assert names(frontier) == "abc"
    assert frontier.queries_of(["s:a", "s:b", "s:c"]) == {"s:a": ["lake"], "s:b": ["lake", "hill"], "s:c": ["hill"]}
    assert [(tally.query, tally.offered) for tally in frontier.query_tallies()] == [("lake", 2), ("hill", 2)]


def test_repeated_pages_and_repeated_cursors_end_a_query(frontier: Frontier) -> None:
    for cursor in ("2", "3", "4"):
        page(frontier, "ab", cursor)
        assert frontier.next_query("s", frozenset({"lake"}))
    page(frontier, "ab", "5")
    assert frontier.next_query("s", frozenset({"lake"})) is None
    page(frontier, "a", "2", text="hill")
    page(frontier, "b", "2", text="hill")
    assert frontier.next_query("s", frozenset({"hill"})) is None


def test_a_full_query_opens_again_when_more_is_wanted(frontier: Frontier) -> None:
    page(frontier, "ab", "2", is_full=True)
    assert frontier.next_query("s", frozenset({"lake"})) is None
    frontier.add_queries("s", [Query("lake")], 2)
    assert frontier.next_query("s", frozenset({"lake"})) is None
    frontier.add_queries("s", [Query("lake")], 3)
    asked = frontier.next_query("s", frozenset({"lake"}))
    assert asked is not None
    assert asked.cursor is None, "the page that was cut is asked for again"


def test_a_failure_that_may_pass_returns_when_it_is_due(frontier: Frontier) -> None:
    page(frontier, "abc", None)
    now = time.time()
    first, second, _ = frontier.waiting("h:80", now, 9, SOURCES)
    frontier.fail(first.number, "timeout", "slow", retry_at=now + 50)
    frontier.fail(second.number, "http-404", "gone", retry_at=None)
    assert names(frontier, now) == "c"
    assert names(frontier, now + 51) == "ca"
    assert frontier.num_waiting("s", 99) == 2
    assert frontier.num_waiting("s", 1) == 1
    assert frontier.num_attempts(first.number, "timeout") == 1
    assert frontier.retry(("timeout",)) == 0
    assert frontier.retry(("http-404",)) == 1
    assert names(frontier, now) == "bc"


def test_an_attempt_counts_unless_it_is_the_hosts_mood(frontier: Frontier) -> None:
    page(frontier, "a", None)
    now = time.time()

    def waiting() -> int:
        (one,) = frontier.waiting("h:80", now, 9, SOURCES)
        return one.attempts

    number = frontier.waiting("h:80", now, 9, SOURCES)[0].number
    frontier.fail(number, "throttled", "429", retry_at=now, counts=False)
    assert waiting() == 0
    frontier.fail(number, "timeout", "slow", retry_at=now)
    assert waiting() == 1
    frontier.fail(number, "timeout", "slow", retry_at=0.0)
    assert (waiting(), frontier.next_due(SOURCES)) == (2, 0.0)


def test_kept_photos_their_shards_and_reports(frontier: Frontier) -> None:
    asked = frontier.next_query("s", frozenset({"lake"}))
    assert asked is not None
    told = Candidate("s", "t", "http://h/t", "p", "A", "", "cc0-1.0", "lake", report_use_url="http://api/t")
    frontier.add_page(asked, Page((), None), [(told, "h:80"), (candidate("a"), "h:80")])
    frontier.keep([Kept(each.number, 7, 100) for each in frontier.waiting("h:80", time.time(), 9, SOURCES)])
    assert (names(frontier), frontier.next_due(SOURCES), frontier.shards()) == ("", None, [7])
    assert sorted(frontier.kept_in(7)) == ["s:a", "s:t"]
    ((number, url),) = frontier.reports_due("s", 9)
    assert (url, frontier.num_reports_due()) == ("http://api/t", 1)
    frontier.reported(number)
    assert frontier.reports_due("s", 9) == []
    assert frontier.lose(["s:t"], "lost") == 1
    frontier.keep([Kept(number, 8, 100)])
    assert frontier.reports_due("s", 9) == [], "a use is reported once, however often the photo is fetched"
    assert frontier.refuse(["s:a", "s:unknown"], "removed") == 1
    assert [(each.id, each.status, each.reason) for each in frontier.listing((), (), ())] == [
        ("s:t", "kept", ""),
        ("s:a", "failed", "removed"),
    ]


def test_a_page_is_committed_whole_or_not_at_all(frontier: Frontier) -> None:
    asked = frontier.next_query("s", frozenset({"lake"}))
    assert asked is not None
    with pytest.raises(sqlite3.Error):
        frontier.add_page(asked, Page((), "2"), [(candidate("a"), "h:80"), (candidate("b"), None)])  # type: ignore[list-item]
    assert names(frontier) == ""
    assert frontier.next_query("s", frozenset({"lake"})) == asked


def test_papers_that_rotted_are_not_given_out(frontier: Frontier) -> None:
    """SQLite has no checksums: a licence that changed by a bit would be a photo's licence."""
    page(frontier, "a", None)
    with frontier._write() as db:
        db.execute("UPDATE candidates SET papers = replace(papers, 'cc0-1.0', 'cc1-1.0')")
    for read in (lambda: names(frontier), lambda: frontier.candidates_of(["s:a"])):
        with pytest.raises(StoreError, match=r"sqlite: a frontier that can't be read .*papers: their checksum"):
            read()


def test_a_damaged_file_is_named_wherever_the_damage_lies(tmp_path: Path) -> None:
    whole = Frontier(tmp_path / "frontier.sqlite")
    whole.add_queries("s", [Query("lake")], 100)
    page(whole, string.ascii_letters, None)
    whole.close()
    path, data = tmp_path / "frontier.sqlite", (tmp_path / "frontier.sqlite").read_bytes()
    said = set()
    for at in range(0, len(data), 509):
        path.write_bytes(data[:at] + bytes(byte ^ 0xA5 for byte in data[at : at + 8]) + data[at + 8 :])
        try:
            frontier = Frontier(path)
            frontier.tallies(), frontier.query_tallies(), frontier.skipped(), names(frontier)
            for each in frontier.listing((), (), ()):
                frontier.refuse([each.id], "removed")
            frontier.close()
        except StoreError as error:
            said.add((error.message.partition(": ")[2].partition(" (")[0], error.hint))
    kinds, (hint,) = {kind for kind, _ in said}, {hint for _, hint in said}
    assert kinds >= {"not a frontier that can be opened", "a frontier that can't be read"}
    assert hint.endswith("move it away: the next crawl rebuilds it from photos/")


@pytest.mark.parametrize("word", ["s:Q", "waiting", "kept", "too-small", "lake", "done", "due"])
def test_a_word_that_rotted_stops_the_next_crawl(word: str, tmp_path: Path) -> None:
    """A candidate that is neither waiting nor kept would never be fetched, and nobody would know."""
    path = tmp_path / "frontier.sqlite"
    whole = Frontier(path)
    whole.add_queries("s", [Query("lake")], 100)
    asked = whole.next_query("s", frozenset({"lake"}))
    assert asked is not None
    offers = [replace(candidate(name), report_use_url="http://u") for name in "PQR"]
    whole.add_page(asked, Page(tuple(offers), None), [(each, "host:80") for each in offers])
    numbers = whole.numbers_of(["s:P", "s:R"])
    whole.keep([Kept(numbers["s:P"][0], 0, 10)])
    whole.fail(numbers["s:R"][0], "too-small", "", retry_at=None)
    whole._db.execute("DELETE FROM attempts")  # it holds a reason for the record only
    whole._db.execute("VACUUM")  # no remains of old rows
    whole.close()
    Frontier(path).close()
    data, asked_for = path.read_bytes(), word.encode()
    places = [at for at in range(len(data)) if data.startswith(asked_for, at) and data[at - 1 : at] not in b"\"/ _'"]
    assert places
    for at in places:
        path.write_bytes(data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :])
        with pytest.raises(StoreError, match=r"sqlite: a frontier that can't be read"):
            Frontier(path)


def test_reading_while_another_writes(frontier: Frontier) -> None:
    page(frontier, "ab", None)
    with Frontier(frontier.path, read_only=True)._db as reader:
        assert reader.execute("SELECT count(*) FROM candidates").fetchone() == (2,)
    with pytest.raises(StoreError, match="no crawl was started"):
        Frontier(frontier.path.parent / "none.sqlite", read_only=True)


def test_the_last_of_many_threads_sees_every_candidate_of_a_picture(frontier: Frontier) -> None:
    """Pictures are looked up beside the transactions of others, which take the latest of them along."""
    page(frontier, "abc", None)
    numbers = [each.number for each in frontier.waiting("h:80", time.time(), 9, SOURCES)]
    digests = [f"{n:064x}" for n in range(300)]
    seen: dict[str, list[int]] = {digest: [] for digest in digests}
    done = threading.Event()

    def look(number: int) -> None:
        for digest in digests:
            seen[digest].append(len(frontier.same_picture(number, digest)))

    def write() -> None:
        while not done.is_set():
            frontier.keep([Kept(numbers[0], 0, 1)])

    writer = threading.Thread(target=write)
    threads = [threading.Thread(target=look, args=(number,)) for number in numbers]
    for thread in [writer, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    writer.join()
    assert {max(found) for found in seen.values()} == {3}
    assert all(len(frontier.same_picture(numbers[0], digest)) == 3 for digest in digests)


def test_a_large_frontier_opens_with_flat_memory(tmp_path: Path) -> None:
    """100,000 candidates here; benchmarks/crawl.py does a million."""
    frontier = Frontier(tmp_path / "frontier.sqlite")
    frontier.add_queries("s", [Query("lake")], 10**9)
    with frontier._write() as db:
        db.executemany(
            "INSERT INTO candidates (id, source, licence, host, papers, next_at) VALUES (?, 's', 'cc0-1.0', ?, ?, 0)",
            ((f"s:{i}", f"h{i % 3}:80", '{"tags": []}' + " " * 600) for i in range(100_000)),
        )
    frontier.close()
    code = (
        "import sys, resource; from lhq.crawl.frontier import Frontier;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; f = Frontier(sys.argv[1]);"
        "assert f.hosts() == ['h0:80', 'h1:80', 'h2:80']; f.num_waiting('s', 2000); f.tallies(); f.shards();"
        "f.next_due(('s',)); grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before;"
        "print(grown / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(frontier.path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert float(done.stdout) < 40
