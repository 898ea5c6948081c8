"""Parquet → batches: every image once per epoch, whatever the splits and restarts; bad rows are logged and skipped."""

from __future__ import annotations

import io
import itertools
import logging
import os
import tracemalloc
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alis.data import Catalogue, Loader, Order, RankSlice, ReadOptions, open_catalogue
from alis.errors import DataError, InputError
from tests.alis import sets
from tests.lhq.spoilt_bucket import Fault, between


def steps(catalogue: Catalogue, num: int, *, world: int = 1, batch: int = 12, micro: int = 3, **more: object) -> list:
    """The numbers of the pictures of each step, over all processes, sorted within the step."""
    start = more.pop("start", 0)
    reading = ReadOptions(**more)  # type: ignore[arg-type]
    shares = [RankSlice(batch, micro, rank, world) for rank in range(world)]
    loaders = [Loader(catalogue, 16, share, reading, start=start) for share in shares]  # type: ignore[arg-type]
    found = []
    for _ in range(num):
        taken = [next(loader) for loader in loaders for _ in range(batch // micro // world)]
        found.append(sorted(sets.number_of(picture) for part in taken for picture in part.numpy()))
    for loader in loaders:
        loader.close()
    return found


def flat(steps: list) -> list:
    return list(itertools.chain.from_iterable(steps))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return open_catalogue(str(sets.write(tmp_path_factory.mktemp("set"), 300)))


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(catalogue: Catalogue) -> None:
    seen = steps(catalogue, 50, num_lanes=1)
    first, second = (flat(seen[k * 25 : (k + 1) * 25]) for k in range(2))
    assert sorted(first) == sorted(second) == list(range(300))
    assert seen[:25] != seen[25:]


def test_processes_share_each_step_without_overlap(catalogue: Catalogue) -> None:
    alone = steps(catalogue, 30)
    assert steps(catalogue, 30, world=2) == alone
    assert steps(catalogue, 30, world=4) == alone
    assert all(len(set(step)) == 12 for step in alone)


def test_resuming_at_a_position_gives_the_same_images(catalogue: Catalogue) -> None:
    assert steps(catalogue, 10, start=12 * 33, world=2) == steps(catalogue, 43)[33:]


def test_another_seed_gives_another_order(catalogue: Catalogue) -> None:
    assert steps(catalogue, 5, seed=1) != steps(catalogue, 5, seed=2)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    lanes=st.sampled_from([1, 2, 4, 8]),
    buffer=st.integers(1, 5000),
    seed=st.integers(0, 5),
)
def test_every_order_visits_each_row_at_most_once_an_epoch(sizes: list, lanes: int, buffer: int, seed: int) -> None:
    rows = np.array(sizes)
    order = Order(rows, rows * 10, seed, buffer, lanes)
    for epoch in range(2):
        seen = set()
        for lane in range(lanes):
            pools, starts = order.pools(epoch, lane)
            assert starts[-1] == order.lane_rows == sum(pool.num_rows for pool in pools)
            for pool in pools:
                for group, first, last in pool.pieces:
                    own = {(group, row) for row in range(first, last)}
                    assert len(own) == last - first
                    assert not own & seen
                    seen |= own
        assert len(seen) == order.epoch_rows > rows.sum() - lanes


def test_memory_of_the_order_does_not_grow_with_images() -> None:
    """Memory depends on the number of row groups, not of images: a million and a hundred million take the same."""
    peaks = []
    for rows_a_group in (100, 10_000):
        tracemalloc.start()
        order = Order(np.full(10_000, rows_a_group), np.full(10_000, 2**26), 0, 2**29)
        for position in range(0, order.epoch_rows, order.epoch_rows // 50):
            epoch, lane, _ = order.place(position)
            order.pools(epoch, lane)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def _table(rows: list, folder: Path, name: str = "part.parquet") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), folder / name, row_group_size=8)
    return str(folder)


def test_bad_rows_are_logged_counted_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = [{"bytes": sets.numbered(i, 16), "path": f"{i}.png"} for i in range(30)]
    cut = sets.numbered(40, 16)[:60]
    bad = [
        {"bytes": b"not a picture", "path": "words.png"},
        {"bytes": cut, "path": "cut.png"},
        {"bytes": None, "path": "no"},
    ]
    data = open_catalogue(_table(good[:10] + bad + good[10:], tmp_path))
    with caplog.at_level(logging.WARNING, "alis"), Loader(data, 16, RankSlice(3, 3), stop=33) as loader:
        seen = [sets.number_of(picture) for batch in loader for picture in batch.numpy()]
        assert loader.num_bad == 3
    assert len(seen) == 33
    assert set(seen) <= set(range(30))
    assert all(f"({row['path']})" in caplog.text for row in bad)


def test_a_shard_damaged_during_a_run_loses_only_its_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = sets.write(tmp_path / "set", 200, per_file=50, per_group=10)
    data = open_catalogue(str(folder))
    loader = Loader(data, 16, RankSlice(10, 10), ReadOptions(ahead=1, buffer_mb=1))
    next(loader)
    broken = folder / "data" / "train-00002-of-00004.parquet"
    broken.write_bytes(b"PAR1" + bytes(2000) + b"PAR1")
    with caplog.at_level(logging.WARNING, "alis"):
        seen = {sets.number_of(picture) for _ in range(60) for picture in next(loader).numpy()}
    loader.close()
    assert set(range(200)) - seen <= set(range(100, 150))
    assert any(broken.name in text and "can't be read" in text for text in caplog.messages)
    assert loader.num_bad > 0


def test_a_dataset_with_nothing_readable_is_an_error(tmp_path: Path) -> None:
    data = open_catalogue(_table([{"bytes": b"x" * 50, "path": str(i)} for i in range(40)], tmp_path))
    with Loader(data, 16, RankSlice(4, 4)) as loader, pytest.raises(DataError, match="are not pictures"):
        next(loader)


def test_other_sizes_are_resized_with_a_warning_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    data = open_catalogue(_table([{"bytes": sets.encoded(wide), "path": "wide.png"}] * 8, tmp_path))
    with caplog.at_level(logging.WARNING, "alis"), Loader(data, 16, RankSlice(4, 4)) as loader:
        assert (next(loader).numpy()[0, 8, 4:-4] > 190).all()
    assert "wide.png" in caplog.text
    with Loader(data, 16, RankSlice(8, 8), ReadOptions(fit="crop")) as loader:
        means = {round(float(picture.mean())) for picture in next(loader).numpy()}
    assert len(means) > 2
    with (
        Loader(data, 16, RankSlice(4, 4), ReadOptions(fit="refuse")) as loader,
        pytest.raises(InputError, match="60×20 px instead"),
    ):
        next(loader)


def test_every_kind_of_picture_is_decoded_as_rgb(tmp_path: Path) -> None:
    grey = Image.new("L", (16, 16), 77)
    rows = []
    for mode, kind in (("L", "PNG"), ("L", "JPEG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGB", "WEBP")):
        buffer = io.BytesIO()
        grey.convert(mode).save(buffer, kind)
        rows.append({"bytes": buffer.getvalue(), "path": f"{mode}.{kind}"})
    turned = Image.new("RGB", (16, 16), (77, 77, 77))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    rows.append({"bytes": buffer.getvalue(), "path": "turned.jpg"})
    data = open_catalogue(_table(rows, tmp_path))
    with Loader(data, 16, RankSlice(1, 1), ReadOptions(num_lanes=1), stop=len(rows)) as loader:
        pictures = [batch.numpy()[0] for batch in loader]
        assert loader.num_bad == 0
    assert len(pictures) == 7
    assert all(abs(picture.astype(int) - 77).max() <= 2 for picture in pictures)


def test_a_jpeg_is_decoded_as_pillow_decodes_it(shared: Path, tmp_path: Path) -> None:
    photo = sorted((shared / "photos" / "landscapes").glob("*.jpg"))[0]
    buffer = io.BytesIO()
    Image.open(photo).convert("RGB").resize((64, 64)).save(buffer, "JPEG", quality=95)
    data = open_catalogue(_table([{"bytes": buffer.getvalue(), "path": "a"}], tmp_path))
    with Loader(data, 64, RankSlice(1, 1), stop=1) as loader:
        ours = next(loader).numpy()[0].astype(int)
    theirs = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    assert abs(ours - theirs).max() <= 1


def test_nasty_files_never_stop_a_run(shared: Path, tmp_path: Path) -> None:
    files = sorted(path for path in (shared / "nasty").rglob("*") if path.is_file())[::6]
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    good = [{"bytes": sets.numbered(i, 16), "path": f"{i}.png"} for i in range(len(rows))]
    mixed = [row for pair in zip(rows, good, strict=True) for row in pair]
    data = open_catalogue(_table(mixed, tmp_path))
    with Loader(data, 16, RankSlice(16, 16), stop=len(mixed)) as loader:
        assert sum(len(batch) for batch in loader) == len(mixed)
        assert loader.num_bad > 0


@pytest.mark.parametrize(
    ("rows", "match"),
    [([], "holds no images"), ([{"bytes": sets.numbered(0, 16), "path": "a"}] * 3, "fewer than one batch")],
)
def test_too_few_images(tmp_path: Path, rows: list, match: str) -> None:
    address = _table(rows, tmp_path)
    with pytest.raises(InputError, match=match):
        Loader(open_catalogue(address), 16, RankSlice(4, 4))


def test_what_is_not_a_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Parquet files"):
        open_catalogue(str(tmp_path))
    pq.write_table(pa.table({"text": ["a"], "number": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"no image column; columns: text, number"):
        open_catalogue(str(tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        open_catalogue(str(tmp_path))
    with pytest.raises(InputError, match="nowhere://"):
        open_catalogue("nowhere://bucket/x")


def test_the_image_column_is_found_by_its_feature_or_its_name(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    rows = [{"bytes": sets.numbered(i, 16), "path": f"{i}.png"} for i in range(12)]
    features = Features({"mask": {"bytes": Value("binary")}, "photo": ImageFeature()})
    made = Dataset.from_dict({"mask": [{"bytes": b"-"}] * 12, "photo": rows}, features=features)
    made.to_parquet(str(tmp_path / "marked.parquet"))
    assert open_catalogue(str(tmp_path)).column == "photo"
    pq.write_table(pa.table({"jpg": [row["bytes"] for row in rows]}), tmp_path / "marked.parquet")
    data = open_catalogue(str(tmp_path / "*.parquet"))
    assert data.column == "jpg"
    assert sorted(flat(steps(data, 4, batch=3, micro=3, num_lanes=1))) == list(range(12))


def test_held_out_splits_are_not_trained_on(tmp_path: Path) -> None:
    sets.write(tmp_path, 40)
    extra = tmp_path / "data" / "validation-00000-of-00001.parquet"
    extra.write_bytes((tmp_path / "data" / "train-00000-of-00001.parquet").read_bytes())
    assert open_catalogue(str(tmp_path)).num_images == 40


def test_a_bucket_is_read_like_a_folder(catalogue: Catalogue, bucket: str) -> None:
    s3 = fsspec.filesystem("s3")
    for file in catalogue.files:
        s3.put_file(file, f"{bucket}/mine/data/{Path(file).name}")
    remote = open_catalogue(f"{bucket}/mine")
    assert remote.fingerprint == catalogue.fingerprint
    assert steps(remote, 6) == steps(catalogue, 6)


@pytest.mark.parametrize("fault", ["busy", "cut"])
def test_a_bucket_that_stumbles_loses_no_row(
    catalogue: Catalogue, bucket: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = fsspec.filesystem("s3")
    for file in catalogue.files:
        s3.put_file(file, f"{bucket}/mine/data/{Path(file).name}")
    with between(urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc) as spoilt:
        monkeypatch.setenv("AWS_ENDPOINT_URL", spoilt.url)
        type(s3).clear_instance_cache()
        spoilt.spoil = lambda method, path, number: fault if number % 3 == 1 and ".parquet" in path else None
        assert steps(open_catalogue(f"{bucket}/mine"), 6) == steps(catalogue, 6)
        assert spoilt.spoilt
        spoilt.spoil = lambda method, path, number: "lost"
        with pytest.raises(DataError, match=r"can't be reached \(301, .*AWS_DEFAULT_REGION"):
            open_catalogue(f"{bucket}/mine")


def test_memory_stays_within_the_buffer(tmp_path: Path) -> None:
    """20 MB of rows through a buffer of 4 MB: two pools of 2 MB per lane, and one being read."""
    junk = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    rows = [{"bytes": sets.numbered(i, 16) + junk, "path": f"{i}.png"} for i in range(200)]
    data = open_catalogue(_table(rows, tmp_path))
    del rows
    before, peak = pa.total_allocated_bytes(), 0
    reading = ReadOptions(threads=1, ahead=1, buffer_mb=4, num_lanes=1)
    with Loader(data, 16, RankSlice(4, 4), reading, stop=400) as loader:
        for _ in loader:
            peak = max(peak, pa.total_allocated_bytes() - before)
    assert 1e6 < peak < 10e6
