"""Measure once, judge often: what is measured again and what is not, damaged shards, verdicts, the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lhq import filter, pipeline
from lhq.engines.local import Local
from lhq.errors import InputError, ShardDamaged, StoreError
from lhq.filter import Rule
from lhq.measures.duplicates import DuplicatesSettings
from lhq.measures.size import Size, SizeSettings
from lhq.measures.text import Text, TextSettings
from lhq.store.shards import Shards
from tests.lhq.filter.running import ROOT, rules, run, stamps, verdicts
from tests.lhq.making import Here, add_shard, files, killed_while_writing, photo, scene


def test_the_first_failing_measure_is_the_reason_and_all_are_listed(store: Path) -> None:
    done = run(store)
    assert done.funnel == "photos 7 · kept 2 · size 3 · text 1 · duplicates 1"
    rows = verdicts(store)
    names = ("one", "two", "small", "wedding", "one-again", "cut", "small-wedding")
    assert list(rows) == [f"flickr:{name}" for name in names]
    assert [row["shard"] for row in rows.values()] == [0, 0, 0, 3, 3, 3, 3]
    assert [row["reason"] for row in rows.values()] == ["", "", "size", "text", "duplicates", "size", "size"]
    assert rows["flickr:small-wedding"]["failed"] == ["size", "text"]
    assert rows["flickr:small"]["score"] == 150
    assert rows["flickr:small"]["detail"] == "short side 150 px"
    assert str(rows["flickr:cut"]["detail"]).startswith("truncated: ")
    assert rows["flickr:wedding"]["detail"] == "says wedding"
    assert str(rows["flickr:one-again"]["detail"]).endswith("to flickr:one")
    assert rows["flickr:one"]["failed"] == []
    assert np.isnan(rows["flickr:one"]["score"])  # type: ignore[call-overload]


def test_the_order_of_rules_is_the_order_of_reasons(store: Path) -> None:
    run(store, rules()[::-1])
    assert verdicts(store)["flickr:small-wedding"]["reason"] == "text"
    assert verdicts(store)["flickr:small-wedding"]["failed"] == ["text", "size"]


def test_facts_have_one_row_per_photo_in_shard_order(store: Path) -> None:
    run(store)
    for number in (0, 3):
        ids = Shards(str(store), "photos").read(number, ["id"])["id"]
        for measure in ("size", "text", "duplicates"):
            facts = Shards(str(store), f"facts/{measure}").read(number)
            assert facts["id"].equals(ids)


def test_nothing_is_measured_twice_and_thresholds_never_measure(store: Path) -> None:
    assert run(store).measured == 2
    before = {name: stamps(store, name) for name in ("size", "text", "duplicates")}
    assert run(store).measured == 0
    moved = run(store, rules(min_side_px=100, builtin=False))
    assert moved.measured == 0
    assert moved.funnel == "photos 7 · kept 5 · size 1 · text 0 · duplicates 1"
    assert run(store, rules(min_side_px=100), judge_only=True).dropped == {"size": 1, "text": 2, "duplicates": 1}
    assert before == {name: stamps(store, name) for name in before}


def test_new_shards_and_new_measures_only_are_measured(store: Path) -> None:
    run(store, rules()[:1])
    size = stamps(store, "size")
    add_shard(store, 4, [photo(scene(9), "late")])
    done = run(store)
    assert done.num_photos == 8
    assert stamps(store, "size").items() > size.items()
    assert set(stamps(store, "text")) == {"000000.parquet", "000003.parquet", "000004.parquet"}


def test_facts_of_other_settings_or_damaged_are_measured_again(store: Path) -> None:
    run(store)
    before = stamps(store, "size")

    class Newer(Size):
        version = Size.version + 1

    newer = Rule(Newer(SizeSettings(min_side_px=300)), SizeSettings(min_side_px=300))
    with pytest.raises(InputError, match=r"facts/size: no facts by the present settings for 2 of 2 shards"):
        run(store, [newer, *rules()[1:]], judge_only=True)
    run(store, [newer, *rules()[1:]])
    assert all(stamps(store, "size")[name] > before[name] for name in before)
    (store / "facts/text/000003.parquet").write_bytes(b"PAR1 nonsense PAR1")
    text = stamps(store, "text")
    run(store, [newer, *rules()[1:]])
    assert stamps(store, "text")["000000.parquet"] == text["000000.parquet"]
    assert verdicts(store)["flickr:wedding"]["reason"] == "text"


def test_judging_without_facts_names_the_measure(store: Path) -> None:
    run(store, rules()[:1])
    with pytest.raises(InputError, match=r"facts/text: .*for 2 of 2 shards; run `lhq filter"):
        run(store, judge_only=True)


def test_facts_of_other_photos_are_refused_or_measured_again(store: Path) -> None:
    run(store)
    before, foreign = (store / "verdicts.parquet").read_bytes(), (store / "facts/size/000003.parquet").read_bytes()
    (store / "facts/size/000000.parquet").write_bytes(foreign)
    with pytest.raises(ShardDamaged, match=r"size/000000.parquet: its rows are not those of the photos"):
        run(store, judge_only=True)
    (note,) = run(store).notes
    assert "size/000000.parquet: its rows are not those of the photos: moved to" in note
    assert (store / "quarantine/facts/size/000000.parquet").read_bytes() == foreign
    assert (store / "verdicts.parquet").read_bytes() == before


def test_a_store_without_photos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photos to filter; run `lhq crawl"):
        run(tmp_path)


def test_no_rules_keep_everything(store: Path) -> None:
    assert filter.run(str(store), [], Here()).funnel == "photos 7 · kept 7"


def test_a_photo_that_could_not_be_measured_is_never_kept(store: Path) -> None:
    """A measure that fails on one shard, but does not damage it."""
    from lhq.errors import RunError

    class Tired(Text):
        name = "text"

        def measure(self, photos: Sequence[object]) -> object:  # type: ignore[override]
            if any("wedding" in photo.id for photo in photos):  # type: ignore[attr-defined]
                raise RunError("out of breath", hint="rest")
            return super().measure(photos)  # type: ignore[arg-type]

    settings = TextSettings(builtin=False)
    done = run(store, [Rule(Tired(settings), settings)])
    assert [(report.key, report.error) for report in done.failed] == [("000003", "out of breath; rest")]
    assert done.quarantined == []
    rows = verdicts(store)
    assert [row["kept"] for row in rows.values()] == [True] * 3 + [False] * 4
    assert rows["flickr:wedding"]["detail"] == "not measured"


def test_a_full_disk_stops_the_run_and_leaves_no_partial_file(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store)
    before = files(store)
    (store / "facts/size/000003.parquet").unlink()
    os.chmod(store / "facts/size", 0o500)
    try:
        if os.access(store / "facts/size", os.W_OK):
            os.chmod(store / "facts/size", 0o700)
            (store / "facts/size").rename(store / "facts/size-aside")
            (store / "facts/size").write_bytes(b"a file in the way")
            with pytest.raises(StoreError, match="can't be written"):
                run(store)
            (store / "facts/size").unlink()
            (store / "facts/size-aside").rename(store / "facts/size")
        else:
            with pytest.raises(StoreError, match="can't be written"):
                run(store)
    finally:
        os.chmod(store / "facts/size", 0o700)
    run(store)
    assert files(store) == before


def test_every_engine_gives_the_same_verdicts(store: Path) -> None:
    run(store)
    here = files(store)
    for path in (store / "facts").rglob("*.parquet"):
        path.unlink()
    filter.run(str(store), rules(), Local(2))
    assert files(store) == here


def test_a_killed_filter_resumes(store: Path, tmp_path: Path) -> None:
    """SIGKILL after the first shard's facts: the second run measures only the rest and ends with the same files."""
    run(store)
    whole = files(store)
    for number in (0, 3):
        for path in (store / "facts").rglob(f"{number:06d}.parquet"):
            path.unlink()
    (store / "verdicts.parquet").unlink()
    code = (
        "import os, signal, sys\n"
        "from tests.lhq.filter.running import rules\n"
        "from tests.lhq.making import Here\n"
        "from lhq import filter\n"
        "def kill(what, done, total):\n"
        "    if done: os.kill(os.getpid(), signal.SIGKILL)\n"
        "filter.run(sys.argv[1], rules(), Here(), on_progress=kill)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(store)], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert [path.name for path in (store / "facts/size").iterdir()] == ["000000.parquet"]
    assert not (store / "verdicts.parquet").exists()
    killed_while_writing(store / "facts/size/000003.parquet")
    assert run(store).measured == 1
    assert files(store) == whole


@pytest.fixture
def pipeline_file(store: Path) -> Path:
    path = store / "pipeline.toml"
    path.write_text(
        f'store = "{store}"\nqueries = ["lake"]\nwant = 10\n'
        "[source.flickr]\n[filter.size]\nmin_side_px = 300\n[filter.duplicates]\n"
    )
    return path


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lhq", "filter", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_the_funnel_and_json(pipeline_file: Path, store: Path) -> None:
    early = command(pipeline_file, "--judge-only")
    assert early.returncode == 2
    assert "run `lhq filter" in early.stderr
    done = command(pipeline_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "photos 7 · kept 3 · size 3 · duplicates 1\n"
    again = command(pipeline_file, "--judge-only", "--json")
    assert json.loads(again.stdout) == {
        "photos": 7,
        "kept": 3,
        "dropped": {"size": 3, "duplicates": 1},
        "failed_shards": [],
    }
    (store / "photos/000000.parquet").write_bytes(b"damaged")
    (store / "facts/size/000000.parquet").unlink()
    broken = command(pipeline_file, "--workers", 1)
    assert broken.returncode == 1
    assert "000000.parquet: not readable" in broken.stderr
    assert "--retry-failed damaged" in broken.stderr
    assert broken.stdout == "photos 4 · kept 2 · size 2 · duplicates 0\n"


def test_the_recipe_of_the_lhq_paper() -> None:
    recipe = pipeline.load(ROOT / "pipelines/lhq-90k.toml")
    assert list(recipe.file.filters) == ["size", "objects", "outliers", "connectability", "text", "duplicates"]
    assert len(recipe.file.queries) == 400
    made = recipe.rules()
    assert [rule.measure.name for rule in made] == list(recipe.file.filters)
    near = made[-1].settings
    assert isinstance(near, DuplicatesSettings)
    assert near.sources == ("unsplash", "flickr")
