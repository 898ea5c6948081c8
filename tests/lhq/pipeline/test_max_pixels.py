"""`[http] max_pixels` is the one limit: a picture above it meets the same fate, in the same words, in every stage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL.Image import Image

from alis.data.decode import BadImage, open_picture, open_picture_apart
from lhq import images, pipeline
from lhq.pipeline.collections import Stated
from tests.lhq.making import add_shard, photo, scene

ROOT = Path(__file__).parents[3]
LIMIT = 300 * 300
WORDS = "jpeg of 301 x 300 pixels, more than the cap of 90,000"
ANSWERS = """
import json, sys
for line in sys.stdin.buffer:
    print(json.dumps({"side": json.loads(line)["width_px"]}), flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Two pictures, of which one has a column more than the limit allows."""
    (tmp_path / "in").mkdir()
    for number, width in enumerate((300, 301)):
        (tmp_path / f"in/{width}.jpg").write_bytes(scene(number, width, 300))
    yield tmp_path
    images.set_max_pixels(images.MAX_PIXELS)


def written(folder: Path, store: str, rules: str, max_pixels: int = LIMIT) -> pipeline.Pipeline:
    file = folder / f"{store}-{max_pixels}.toml"
    file.write_text(f"""
store = "{folder / store}"
queries = ["mountain lake"]
want = 2
[http]
max_pixels = {max_pixels}
[source.folder]
path = "{folder / "in"}"
licence = "own"
{rules}
[export]
variants = ["64"]
""")
    return pipeline.load(file)


SIZE = "[filter.size]\nmin_side_px = 100\nmax_border = 1.0"
COMMAND = f"""[filter.command.side]
run = ["{sys.executable}", "-c", '''{ANSWERS}''']
columns = {{ side = "integer" }}
"""


def test_on_arrival(folder: Path) -> None:
    crawled = written(folder, "crawled", SIZE)
    assert crawled.crawl().failures == {"too-many-pixels": 1, "too-small": 1}
    (failed,) = crawled.candidates(reasons=["too-many-pixels"])
    assert failed.id == "folder:301.jpg"
    imported = written(folder, "imported", SIZE)
    report = imported.import_photos("folder", str(folder / "in"), Stated(licence="own"))
    assert report.new == 1
    assert [reason.split(":")[0] for reason in report.failed.values()] == ["too-many-pixels"], report


def stored(folder: Path, store: str) -> None:
    rows = [photo(scene(n, width, 300), str(width)) for n, width in enumerate((300, 301))]
    add_shard(folder / store, 0, rows)


@pytest.mark.parametrize("rules", [SIZE, COMMAND], ids=["size", "command"])
def test_of_what_was_stored_under_another_limit(folder: Path, rules: str) -> None:
    stored(folder, "store")
    low, high = (written(folder, "store", rules, limit) for limit in (LIMIT, 10 * LIMIT))
    # Each pipeline has its own limit, whichever was loaded last.
    low.filter(workers=1)
    measured = next((folder / "store/facts").rglob("*.parquet"))
    facts = {row["id"]: row for row in pq.read_table(measured).to_pylist()}
    assert (facts["flickr:301"]["error"], facts["flickr:301"]["said"]) == ("too-many-pixels", WORDS)
    assert facts["flickr:300"]["error"] is None
    high.filter(workers=1)
    assert [row["error"] for row in pq.read_table(measured).to_pylist()] == [None, None]
    assert [one.failed for one in high.export({"to": str(folder / "high")}).report.written] == [{}]
    # Judged under the higher limit and exported under the lower: it is left out, and named.
    (left,) = low.export({"to": str(folder / "low")}).report.written
    assert left.failed == {"flickr:301": f"too-many-pixels: {WORDS}"}


def test_a_program_says_the_same(folder: Path) -> None:
    stored(folder, "store")
    written(folder, "store", SIZE)
    file = str(folder / f"store-{LIMIT}.toml")

    def lhq(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lhq", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )

    done = lhq("filter", file)
    assert done.returncode == 0, done.stderr
    for words in (("show", "flickr:301", file), ("report", file, "-o", str(folder / "report.html"))):
        done = lhq(*words)
        assert done.returncode == 0, done.stderr
    shown = lhq("show", "flickr:301", file)
    assert WORDS in shown.stdout + shown.stderr, shown


@pytest.mark.parametrize("opens", [open_picture, open_picture_apart])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_trainer_says_the_same_of_every_format(folder: Path, format: str, opens: Callable[..., Image]) -> None:
    images.set_max_pixels(LIMIT)
    data = scene(1, 301, 300, format)
    name = "webp" if format == "WEBP" else format.lower()
    with pytest.raises(BadImage, match=f"^{name} of 301 x 300 pixels, more than the cap of 90,000$"):
        opens(data, 64)
    assert opens(scene(1, 300, 300, format), 64).mode == "RGB"
