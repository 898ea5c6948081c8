"""Photos that crash a decoder, bytes and facts that change on disk: each costs only itself and is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lhq import filter, images, pipeline
from lhq.crawl.refetch import Refetched, refetch
from lhq.engines.local import Local
from lhq.errors import ShardDamaged
from lhq.export import ExportSettings, export
from lhq.export.layout import Variant
from lhq.export.render import Encoding
from lhq.export.render_job import Rendered, unit, write_wanted
from lhq.export.work import Work
from lhq.filter import FilterReport, Rule
from lhq.measures.duplicates import Duplicates, DuplicatesSettings
from lhq.measures.size import Size, SizeSettings
from lhq.records import PHOTO_SCHEMA, Candidate
from lhq.store.checksums import CRC32_KEY, encode
from lhq.store.shards import PAGE_CHECKSUMS_KEY, Shards
from tests.lhq.filter.reckless import Killer, RecklessRender, RecklessSize
from tests.lhq.images import odd
from tests.lhq.making import RIGHTS, Here, add_shard, painted_store, photo, scene

SIZE, NEAR = SizeSettings(min_side_px=100), DuplicatesSettings()
KILLER = odd.lossless_jpeg(np.random.default_rng(0).integers(0, 256, (149, 227, 3), np.uint8))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three shards of photos; in the second one lossless JPEG among nine."""
    add_shard(tmp_path, 0, [photo(scene(n), f"a{n}") for n in range(3)])
    rows = [photo(scene(10 + n), f"b{n}") for n in range(9)]
    add_shard(tmp_path, 1, [*rows[:4], photo(KILLER, "killer"), *rows[4:]])
    add_shard(tmp_path, 2, [photo(scene(30 + n), f"c{n}") for n in range(3)])
    return tmp_path


def verdicts(store: Path) -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in pq.read_table(store / "verdicts.parquet").to_pylist()}


def run(store: Path, **options: bool) -> FilterReport:
    return filter.run(str(store), [Rule(Size(SIZE), SIZE), Rule(Duplicates(NEAR), NEAR)], Here(), **options)


def test_a_photo_that_crashes_its_decoder_loses_only_itself(store: Path) -> None:
    rules = [Rule(RecklessSize(SIZE), SIZE), Rule(Duplicates(NEAR), NEAR)]
    done = filter.run(str(store), rules, Local(2))
    assert not done.failed
    assert [note for note in done.notes if "flickr:killer: crashed: the process that measured it died of SIG" in note]
    rows = verdicts(store)
    assert [id for id, row in rows.items() if not row["kept"]] == ["flickr:killer"]
    assert str(rows["flickr:killer"]["detail"]).startswith("crashed: ")
    facts = Shards(str(store), "facts/duplicates").read(1)
    assert facts["phash"].null_count == 1
    assert pc.index(facts["error"], "crashed").as_py() == 4

    def offered(ids: Sequence[str]) -> list[Candidate]:
        return [Candidate("flickr", id[7:], "http://h/p", "http://p", "Ann", "", "cc0-1.0", "lake") for id in ids]

    assert refetch(str(store), ["crashed"], offered, lambda _: Killer(b"again")) == Refetched(0, 1, 0)
    assert refetch(str(store), ["crashed"], offered, lambda _: scene(4)) == Refetched(1, 0, 0)
    assert filter.run(str(store), rules, Local(2)).num_kept == len(rows)


def test_an_export_names_the_crashed_photo_and_leaves_it_out(store: Path, tmp_path: Path) -> None:
    photos = pq.read_table(store / "photos/000001.parquet")
    wanted = photos.select(["id", "sha256"]).append_column(
        "unit", pa.array([unit(1, row // 4) for row in range(len(photos))], pa.string())
    )
    work = Work(str(tmp_path / "work"))
    write_wanted(work, wanted)
    job = RecklessRender(str(store), work, Encoding(Variant("64", 64, "jpeg"), 90))
    reports = list(Local(2).map(job, [unit(1, group) for group in range(3)], "cpu"))
    assert not [report.error for report in reports if report.error]
    rendered = Rendered(work, [unit(1, group) for group in range(3)])
    assert list(rendered.failed) == ["flickr:killer"]
    assert rendered.failed["flickr:killer"].startswith("crashed: the process that rendered it died of SIG")


# --- rot --------------------------------------------------------------------------------------------------------


def flip(path: Path, column: str, row_group: int = 0, num: int = 8, skip: int = 60) -> None:
    """Change some bytes inside a column's last page, where no length or encoding is."""
    metadata = pq.read_metadata(path).row_group(row_group)
    where = next(n for n in range(metadata.num_columns) if metadata.column(n).path_in_schema.startswith(column))
    chunk = metadata.column(where)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    at = start + chunk.total_compressed_size - num - min(skip, chunk.total_compressed_size // 4)
    data[at : at + num] = bytes(byte ^ 0x15 for byte in data[at : at + num])
    path.write_bytes(data)


@pytest.mark.parametrize("has_page_checksums", [True, False])
def test_a_photo_changed_on_disk_is_named_and_others_are_measured(store: Path, has_page_checksums: bool) -> None:
    path = store / "photos/000002.parquet"
    if not has_page_checksums:  # as shards were written before there were any
        table = pq.read_table(path)
        pq.write_table(
            table.cast(PHOTO_SCHEMA).replace_schema_metadata(None), path, compression="none", row_group_size=1
        )
    assert Shards(str(store), "photos").has_page_checksums(2) is has_page_checksums
    flip(path, "image", skip=4000)
    done = run(store)
    assert len(done.notes) == 1
    assert ": damaged: its bytes are not those that were fetched" in done.notes[0]
    assert not done.failed
    lost = [id for id, row in verdicts(store).items() if not row["kept"]]
    assert lost == [done.notes[0].split(": ")[0]]


def test_wrong_stored_crc32s_lose_no_photo(store: Path) -> None:
    """Nothing protects the stored CRC-32s in the footer, so a photo that fails them is compared with its sha256."""
    path = store / "photos/000002.parquet"
    data = path.read_bytes()
    said = pq.read_metadata(path).metadata[CRC32_KEY.encode()]
    assert data.count(said) == 1
    path.write_bytes(data.replace(said, encode([1, 2, 3]).encode()))
    assert not run(store).notes
    flip(path, "image", skip=4000)
    for facts in store.glob("facts/*/000002.parquet"):
        facts.unlink()
    assert len(run(store).notes) == 1


@pytest.mark.parametrize("measure", ["size", "duplicates"])
@pytest.mark.parametrize("end", [None, 0, 2000])
def test_facts_changed_on_disk_are_measured_again_and_never_judged(store: Path, measure: str, end: int | None) -> None:
    run(store)
    before, path = verdicts(store), store / f"facts/{measure}/000001.parquet"
    if end is None:
        flip(path, "width_px")
    else:  # cut: nothing says which settings they are of
        path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(ShardDamaged, match=f"facts/{measure}/000001"):
        run(store, judge_only=True)
    done = run(store)
    assert len(done.notes) == 1
    assert "measured again" in done.notes[0]
    assert (store / f"quarantine/facts/{measure}/000001.parquet").is_file()
    assert str(verdicts(store)) == str(before)


def test_every_file_of_a_store_carries_checksums(store: Path) -> None:
    run(store)
    for path in sorted(store.rglob("*.parquet")):
        if path.parts[-2] == "photos":
            assert PAGE_CHECKSUMS_KEY.encode() in pq.read_schema(path).metadata
        name = "image" if path.parts[-2] == "photos" else "id"
        flip(path, name, skip=0)
        with pytest.raises(OSError, match=r"CRC checksum"):
            pq.ParquetFile(path, page_checksum_verification=True).read([name])


# --- one cap ----------------------------------------------------------------------------------------------------


@pytest.fixture
def poster(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A store of one photo and one poster of 204 megapixels, and its pipeline file without a cap of its own."""
    sink = odd.saved("PNG", Image.new("1", (14_300, 14_300)), compress_level=1)
    add_shard(
        tmp_path / "store", 0, [photo(scene(1), "photo"), photo(sink, "poster", width_px=14_300, height_px=14_300)]
    )
    file = tmp_path / "posters.toml"
    file.write_text(f"""
store = "{tmp_path / "store"}"
queries = ["mountain lake"]
want = 2
[source.folder]
path = "{tmp_path}"
licence = "own"
[filter.size]
min_side_px = 100
max_border = 1.0
[export]
variants = ["64"]
""")
    yield tmp_path / "store", file
    images.set_max_pixels(images.MAX_PIXELS)


def test_max_pixels_of_the_pipeline_file_applies_in_every_stage(poster: tuple[Path, Path]) -> None:
    store, file = poster
    assert pipeline.load(file).filter(workers=1).num_kept == 1
    assert "too-many-pixels" in str(verdicts(store)["flickr:poster"]["detail"])
    as_before = file.read_text()
    file.write_text(as_before + "[http]\nmax_pixels = 210_000_000\n")
    assert pipeline.load(file).filter(workers=1).num_kept == 2
    done = pipeline.load(file).export({"to": str(store.parent / "out")})
    assert [one.failed for one in done.report.written] == [{}]
    assert not pipeline.verify(str(store.parent / "out")).problems
    file.write_text(as_before + "[http]\nmax_pixels = 100_000\n")
    assert pipeline.load(file).filter(workers=1).num_kept == 0


@pytest.mark.parametrize("asked", [(), ("outliers_embedding",)])
def test_facts_of_other_photos_are_named_and_nothing_is_written(tmp_path: Path, asked: tuple[str, ...]) -> None:
    """They were joined as nulls, where the filter and the report refused them."""
    store = painted_store(tmp_path / "store", 3)
    ids = ["flickr:9999", *Shards(str(store), "photos").read(0, ["id"])["id"].to_pylist()[1:]]
    facts = {"id": ids, "log_likelihood": pa.array([-1.0, -2.0, None], pa.float32()), "embedding": [[1.0]] * 3}
    Shards(str(store), "facts/outliers").write(0, pa.table(facts))
    settings = ExportSettings(to=str(tmp_path / "out"), variants=("32",), columns=asked)
    with pytest.raises(ShardDamaged, match=r"facts/outliers/000000.parquet: its rows are not those of the photos"):
        export(str(store), settings, rights_of=RIGHTS, engine=Here())
    assert not (tmp_path / "out").exists()
