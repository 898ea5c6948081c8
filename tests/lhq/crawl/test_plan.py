"""Plans: a range, the calls that take the time, the observed pace, and how they compare with what happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lhq.crawl.plan import Seen, plan
from lhq.pipeline.registry import SOURCES
from tests.lhq.bad_server import Server
from tests.lhq.services import photo, pipeline, serve
from tests.lhq.typed import Lhq


def table(name: str, **changes: object) -> tuple[object, object]:
    kind = SOURCES.load(name)
    return kind.limits, kind.settings_class.model_validate(changes)


def test_lhq_at_the_demo_rate_names_what_takes_the_time() -> None:
    found = plan(225_000, 0, 400, {"unsplash": table("unsplash")})  # type: ignore[dict-item]
    (one,) = found.sources
    assert one.is_bound_by_calls
    assert found.hours / 24 == pytest.approx(195, abs=2)
    words = found.text(None)
    assert "195 d" in words
    assert "calls_per_hour = 50 in its table; 46 h 55 min with a key with 5,000 calls an hour" in words


def test_a_plan_is_a_range() -> None:
    found = plan(1000, 0, 10, {"flickr": table("flickr", per_query=1000)})  # type: ignore[dict-item]
    assert found.hours < found.hours_at_worst
    assert found.hours == pytest.approx(1000 / 0.8 / 5 / 3600)
    assert found.hours_at_worst == pytest.approx(1000 / 0.5 / 0.5 / 3600), "a CDN that throttles after 30 files"
    assert "4 min to 1 h 7 min" in found.text(None)


def test_what_was_seen_is_believed() -> None:
    sources = {"flickr": table("flickr", per_query=10**6)}
    seen = Seen({"flickr": 2000}, {"flickr": 2000 * 700_000}, 2000, 4000.0)
    found = plan(12_000, 2000, 10, sources, seen)  # type: ignore[arg-type]
    assert found.hours == pytest.approx(10_000 / 0.5 / 3600)
    assert found.size_bytes == 10_000 * 700_000
    assert "pace of this store's crawls so far (0.5 photos/s)" in found.text(None)
    too_little = Seen({"flickr": 20}, {"flickr": 20 * 700_000}, 20, 40.0)
    assert plan(12_000, 20, 10, sources, too_little).seen_per_s is None  # type: ignore[arg-type]


def test_the_plan_is_held_against_what_happened(tmp_path: Path, lhq: Lhq) -> None:
    with Server() as server:
        serve(server, {f"p{i}": photo(i) for i in range(4)})
        file = pipeline(tmp_path, server, want=3)
        assert lhq("crawl", file).returncode == 0
        words = lhq("status", file).stdout
        assert "planned    3 more photos in" in words
        assert "since then 3 in 10 s of work" in words
        assert json.loads(lhq("status", file, "--json").stdout)["plan"]["num_new"] == 3
        assert lhq("crawl", file, "--want", "4").returncode == 0
        assert "planned    1 more photos in" in lhq("status", file).stdout
    frontier = next(tmp_path.rglob("frontier.sqlite"))
    frontier.write_bytes(frontier.read_bytes()[:5000])
    done = lhq("crawl", file, "--dry-run")
    assert done.returncode == 2
    assert "frontier.sqlite: not a frontier that can be opened" in done.stderr
