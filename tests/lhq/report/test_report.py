"""The page in a real browser, from a store made by the real filter: small, safe and self-contained."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lhq import pipeline
from lhq.errors import InputError
from lhq.measures import Verdicts
from lhq.measures.connectability import Connectability, ConnectabilitySettings
from lhq.measures.contours import contours, hue_of, path
from lhq.records import VERDICT_SCHEMA
from lhq.report import picks, render
from lhq.report.charts import Axis, histogram
from lhq.rights.reservations import SIGNALS
from lhq.store import tombstones
from tests.lhq import making

ROOT = Path(__file__).parents[3]
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def page(toml: Path) -> Path:
    """The page, made by the command."""
    out = toml.parent / "report.html"
    done = lhq("report", str(toml), "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert re.search(r"report\.html: \d+ of \d+ photos kept, 0\.\d MB", done.stderr), done.stderr
    return out


def lhq(*args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "lhq", *args], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


class Links(HTMLParser):
    """Every address that a page could load, and every heading."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.levels: list[int] = []
        self.images_without_alt = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"img", "script", "iframe", "link", "source", "video"}:
            self.loads += [value for key in ("src", "href", "srcset") if (value := given.get(key))]
        if tag == "img" and not given.get("alt"):
            self.images_without_alt += 1
        if tag == "a":
            self.links.append(given.get("href") or "")
        if re.fullmatch(r"h\d", tag):
            self.levels.append(int(tag[1]))


def test_the_page_is_one_file_that_loads_nothing(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    seen = Links()
    seen.feed(html)
    assert seen.loads
    assert all(address.startswith("data:") for address in seen.loads)
    assert "@import" not in html
    assert not re.search(r"url\((?!data:)", html)
    assert len(html) < 3_000_000


def test_headings_and_pictures_can_be_heard(page: Path) -> None:
    seen = Links()
    seen.feed(page.read_text(encoding="utf-8"))
    assert seen.images_without_alt == 0
    assert seen.levels.count(1) == 1
    # A level is never skipped on the way down (the viewer's heading stands outside the order).
    assert all(after - before <= 1 for before, after in zip(seen.levels, seen.levels[1:], strict=False))


def test_words_of_strangers_are_only_words(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in html
    assert "javascript:alert(2)" not in html


# --- in the browser ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ]
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield opened
        opened.close()


def open_page(browser: Any, page: Path, **options: Any) -> tuple[Any, list[str], list[str]]:
    tab = browser.new_page(**options)
    asked: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(page.as_uri())
    return tab, [url for url in asked if not url.startswith("data:")], said


def test_it_opens_from_disk_without_a_request_or_a_complaint(browser: Any, page: Path) -> None:
    tab, asked, said = open_page(browser, page, viewport={"width": 1280, "height": 900})
    assert asked == [page.as_uri()]
    assert said == []
    assert "my-photos" in tab.title()
    lead = tab.inner_text(".lead")
    kept = int(re.match(r"(\d+) of 44", lead)[1])
    counts = [int(cell) for cell in tab.locator("table.funnel tbody td:nth-child(4)").all_inner_texts()]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == kept
    dropped = [int(text.split()[0]) for text in tab.locator("table.funnel tbody td:nth-child(3)").all_inner_texts()]
    assert kept + sum(dropped) == 44
    loaded = tab.evaluate("[...document.images].every(i => { i.loading = 'eager'; return i.alt })")
    assert loaded
    tab.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    tab.close()


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read_in_both_schemes(browser: Any, page: Path, width: int, scheme: str) -> None:
    tab, _, said = open_page(browser, page, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    for selector in ("h1", ".note", ".caption", "table.funnel th a", ".asks", "summary", ".badge"):
        assert tab.evaluate(CONTRAST, selector) >= 4.5, selector
    is_dark = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128")
    assert is_dark == (scheme == "dark")
    tab.click("#theme")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128") != is_dark
    tab.close()


# WCAG 2.2 contrast of the first match against the first opaque ground behind it.
CONTRAST = """selector => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const element = document.querySelector(selector);
  let ground = element, colour;
  do { colour = parse(getComputedStyle(ground).backgroundColor); ground = ground.parentElement; }
  while (ground && colour.length === 4 && colour[3] === 0);
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(colour)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


def test_the_keyboard_is_enough(browser: Any, page: Path) -> None:
    tab, _, said = open_page(browser, page, viewport={"width": 1280, "height": 900})
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    first = tab.locator("#objects .mosaic .tile button").first
    first.focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.querySelector('#viewer').open")
    title = tab.inner_text("#viewer-title")
    assert title.startswith("Scene")
    assert tab.locator("#viewer tbody tr").count() == 4
    assert "drops" in tab.inner_text("#viewer tbody")
    assert "person 0.97" in tab.inner_text("#viewer tbody")
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#viewer-title") != title
    tab.keyboard.press("Escape")
    assert not tab.evaluate("document.querySelector('#viewer').open")
    assert tab.evaluate("document.activeElement.matches('#objects .tile button')"), "the focus goes back"
    assert said == []
    tab.close()


def test_detections_are_drawn_and_can_be_hidden(browser: Any, page: Path) -> None:
    tab, _, _ = open_page(browser, page, viewport={"width": 1280, "height": 900})
    masks = tab.locator("#objects svg.masks").first
    assert "person 0.97" in masks.text_content()
    assert masks.locator("path.counts").count() == 1
    assert masks.locator("path.allowed").count() == 1
    assert masks.is_visible()
    # The person's disc fills its box but for the corners.
    box, size = masks.locator("path.counts").bounding_box(), masks.bounding_box()
    assert 0.02 < box["width"] / size["width"] < 0.95
    tab.uncheck(".draw-masks")
    assert not masks.is_visible()
    tab.close()


def test_every_part_is_there(browser: Any, page: Path) -> None:
    tab, _, _ = open_page(browser, page, viewport={"width": 1280, "height": 900})
    for name in ("size", "duplicates", "objects", "outliers"):
        assert tab.locator(f"#{name}").count() == 1
    assert "limit 260 px" in tab.inner_text("#size .limit")
    assert "limit 1 %" in tab.inner_text("#objects .limit")
    assert tab.locator("#duplicates .cluster").count() == 1
    assert tab.locator("#duplicates .cluster .tile").count() == 3
    assert tab.locator("#duplicates .cluster .is-kept").count() == 1
    assert "Dropped without a score" in tab.inner_text("#size")
    headings = tab.locator("#shares caption").all_inner_texts()
    assert [h.split()[0] for h in headings] == ["Source", "Licence", "Query"]
    assert "Unsplash License" in tab.inner_text("#shares")
    rows = {row.split("\t")[0]: row.split("\t")[2:] for row in tab.locator("#opt-outs tbody tr").all_inner_texts()}
    assert list(rows) == list(SIGNALS)
    assert rows["tdmrep"] == ["3", "2", "1", "1"]
    assert rows["content-signal"] == ["0", "0", "0", "0"]
    assert "lhq recheck" in tab.inner_text("#opt-outs")
    assert tab.locator("#outliers h3").all_inner_texts()[:2] == [
        "Dropped, nearest to the limit",
        "Kept, nearest to the limit",
    ]
    tab.close()


# --- what is shown ----------------------------------------------------------------------------------------------


def test_the_page_stays_small_however_large_the_store(toml: Path, tmp_path: Path) -> None:
    """Ten thousand photos in thirty shards; the page shows a bounded number of them."""
    data = making.scene(0, 600, 400)
    for number in range(30):
        rows = [making.photo(data, f"s{number}-{i}", title=f"T{i}") for i in range(334)]
        making.add_shard(tmp_path, number, rows, group_rows=40)
    num = 30 * 334
    ids = [f"flickr:s{n}-{i}" for n in range(30) for i in range(334)]
    rng = np.random.default_rng(0)
    score = rng.random(num)
    kept = score < 0.8
    given = Verdicts("connectability", pa.array(ids), kept, score, lambda row: f"{score[row]:.3f}")
    table = pa.table(
        [
            ids,
            np.repeat(np.arange(30, dtype=np.int32), 334),
            kept,
            np.where(kept, "", "connectability"),
            score,
            [""] * num,
            [[]] * num,
        ],
        VERDICT_SCHEMA,
    )
    settings = ConnectabilitySettings(max_score=0.8)
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def rendered() -> str:
        judged_by = {"connectability": (Connectability(settings), settings)}
        return render(str(tmp_path), "many", table, {"connectability": given}, judged_by, when)

    html = rendered()
    assert html.count("<img ") == picks.RANDOM + 2 * picks.NEAR + picks.FAR
    assert len(html) < 3_000_000
    assert "10,020" in html
    shown = sorted(set(re.findall(r"flickr:s\d+-\d+", html)))
    tombstones.add(str(tmp_path), dict.fromkeys(shown[:3], ""), "asked", when)
    left = rendered()
    assert not [id for id in shown[:3] if id in re.findall(r"flickr:s\d+-\d+", left)], "no picture that was taken down"
    assert 0 < left.count("<img ") < html.count("<img ")


def test_near_the_limit_comes_first() -> None:
    score = np.array([0.1, 0.49, 0.51, 0.9, 0.45, np.nan, 0.52])
    kept = score < 0.5
    mosaics = picks.near(score, kept, np.ones(7, bool), 0.5)
    assert {m.title.split(",")[0] + "," + m.title.split(",")[-1]: m.rows for m in mosaics} == {
        "Dropped, nearest to the limit": [2, 6, 3],
        "Kept, nearest to the limit": [1, 4, 0],
        "Dropped without a score,Dropped without a score": [5],
    }
    others = np.array([True, False, True, True, True, True, False])
    assert [m.rows for m in picks.near(score, kept, others, 0.5)][:2] == [[2, 3], [4, 0]]


@pytest.mark.parametrize("scale", ["linear", "log", "sqrt"])
def test_histograms_count_everything(scale: Any) -> None:
    rng = np.random.default_rng(0)
    score = np.append(rng.random(1000) * 5000 + 1, [np.nan, np.nan])
    chart = histogram(score, score < 2000, Axis("x", "px", scale, 2000.0, "above"))
    assert chart is not None
    assert sum(bar.num_kept for bar in chart.bars) == (score < 2000).sum()
    assert sum(bar.num_dropped for bar in chart.bars) == (score >= 2000).sum()
    assert chart.num_without == 2
    assert all(0 <= bar.left <= 100 and 0 < bar.kept_height + bar.dropped_height <= 100.001 for bar in chart.bars)
    place, words = chart.limit or (0, "")
    assert words == "2,000 px"
    assert max(bar.left for bar in chart.bars if bar.num_kept) <= place + 3
    assert min(bar.left for bar in chart.bars if bar.num_dropped) >= place - 3
    places = [place for place, _ in chart.ticks]
    assert places == sorted(places)
    assert len(places) >= 2


def test_a_score_that_is_one_value_has_no_histogram() -> None:
    assert histogram(np.zeros(5), np.ones(5, bool), Axis("x", "", "linear", None, "above")) is None
    assert histogram(np.full(5, np.nan), np.ones(5, bool), Axis("x", "", "linear", 1.0, "above")) is None


def test_outlines_go_around_masks_and_holes() -> None:
    yy, xx = np.mgrid[0:28, 0:28] - 13.5
    ring = np.packbits((np.hypot(xx, yy) < 12) & (np.hypot(xx, yy) > 5)).tobytes()
    loops = contours(ring)
    assert len(loops) == 2

    def area(loop: np.ndarray) -> float:
        x, y = loop.T
        return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))

    areas = sorted(area(loop) * 28 * 28 for loop in loops)
    assert areas[0] == pytest.approx(-np.pi * 25, rel=0.1), "the hole runs the other way"
    assert areas[1] == pytest.approx(np.pi * 144, rel=0.1)
    assert contours(bytes(98)) == []
    assert path(ring, (0.5, 0.5, 1.0, 1.0), 100, 50).count("M") == 2
    assert hue_of("person") == hue_of("person") != hue_of("boat")


# --- bad input --------------------------------------------------------------------------------------------------


def test_a_store_without_photos_is_named(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(f'store = "{tmp_path / "none"}"\nqueries = ["a"]\nwant = 1\n')
    done = lhq("report", str(file), "-o", str(tmp_path / "r.html"))
    assert done.returncode == 2
    assert "no photos" in done.stderr
    assert "lhq crawl" in done.stderr
    assert not (tmp_path / "r.html").exists()


def test_a_page_that_cannot_be_written_is_named(toml: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/r\.html: can't be written.*-o"):
        pipeline.load(toml).report(str(tmp_path / "file" / "r.html"))
