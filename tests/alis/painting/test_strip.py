"""Strips on disk: every format stores the same columns, nothing is lost, limits are checked first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import alis
from alis import formats
from alis.cli import cli
from alis.errors import AlisError, InputError, RunError
from alis.formats import FORMATS
from alis.formats.pixels import Picture
from alis.painting import picture_writer, redraw, strip
from tests.alis import painter
from tests.alis.disk import files_up_to

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    alis.save(folder, painter.tiny())
    return folder


@pytest.fixture(scope="module")
def g(model: Path) -> alis.Generator:
    return alis.load(model)


def _alis(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def _pixels(path: Path) -> np.ndarray:
    if path.suffix.startswith(".tif"):
        import tifffile

        return np.asarray(tifffile.imread(path))
    with Image.open(path) as picture:
        picture.load()
        return np.asarray(picture.convert("RGB"))


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Luma, which lossy formats keep best: they store colours at half the resolution."""
    return pixels @ np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("ending", [*(x for x in FORMATS if x != ".dzi"), ".tiff", ".jpeg", ".PNG"])
def test_a_strip_shows_the_plane(g: alis.Generator, tmp_path: Path, ending: str) -> None:
    panorama = alis.Panorama(g, 5)
    made = strip.paint(strip.plan(panorama, width=1001, start=-333), tmp_path / f"s{ending}")
    got, want = _pixels(made.path), panorama[-333:668]
    assert Picture(made.path).is_lossless is formats.find(made.path).is_lossless
    if formats.find(made.path).is_lossless:
        assert np.array_equal(got, want)
    else:
        assert got.shape == want.shape
        assert np.abs(_grey(got) - _grey(want)).mean() < 10
    assert sorted(os.listdir(tmp_path)) == [f"s{ending}"], "nothing is left beside the picture"
    assert (made.width_px, made.height_px, made.painted_px) == (1001, 32, 1001)


def test_png_is_read_by_other_programs_and_small(g: alis.Generator, tmp_path: Path) -> None:
    import pyvips

    smooth = np.linspace(0, 255, 70_000).astype(np.uint8)[None, :, None].repeat(32, 0).repeat(3, 2)
    smooth[::2] //= 2

    def columns(done: int):  # type: ignore[no-untyped-def]
        yield smooth[:, done:]

    picture_writer.write(tmp_path / "a.png", columns, width=70_000, height=32, note="n")
    assert np.array_equal(_pixels(tmp_path / "a.png"), smooth)
    assert np.array_equal(pyvips.Image.new_from_file(str(tmp_path / "a.png"), fail_on="warning").numpy(), smooth)
    assert (tmp_path / "a.png").stat().st_size < smooth.nbytes / 20


def test_deep_zoom_tiles_show_the_picture_at_every_level(g: alis.Generator, tmp_path: Path) -> None:
    panorama = alis.Panorama(g, 5, psi=0.5)
    strip.paint(strip.plan(panorama, width=1000), tmp_path / "z.dzi")
    described = (tmp_path / "z.dzi").read_text()
    assert 'Width="1000"' in described
    assert 'Height="32"' in described
    levels = {int(p.name): p for p in (tmp_path / "z_files").iterdir() if p.is_dir()}
    assert sorted(levels) == list(range(11))
    assert [_pixels(levels[10] / f"{k}_0.jpg").shape[1] for k in range(4)] == [257, 258, 258, 233]
    whole = panorama[0:1000].astype(float)
    assert np.abs(_grey(_pixels(levels[10] / "1_0.jpg")[:, 1:257]) - _grey(whole[:, 256:512])).mean() < 10
    quarter = whole.reshape(8, 4, 250, 4, 3).mean(axis=(1, 3))
    assert np.abs(_grey(_pixels(levels[8] / "0_0.jpg")) - _grey(quarter)).mean() < 10
    assert _pixels(levels[0] / "0_0.jpg").shape == (1, 1, 3)


def test_foreign_folders_are_not_touched(g: alis.Generator, tmp_path: Path) -> None:
    (tmp_path / "z_files").mkdir()
    (tmp_path / "z_files" / "diary.txt").write_text("mine")
    plan = strip.plan(alis.Panorama(g, 5), width=64)
    with pytest.raises(InputError, match="other files than"):
        strip.paint(plan, tmp_path / "z.dzi", overwrite=True)
    assert (tmp_path / "z_files" / "diary.txt").read_text() == "mine"
    strip.paint(plan, tmp_path / "y.dzi")
    strip.paint(plan, tmp_path / "y.dzi", overwrite=True)
    (tmp_path / "x.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        strip.paint(plan, tmp_path / "x.png", overwrite=True)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_picture_records_how_it_was_painted(g: alis.Generator, tmp_path: Path, ending: str) -> None:
    panorama = alis.Panorama(g, 5, psi=0.7).with_edits({1: 4})
    plan = strip.plan(panorama, width=300, start=-20)
    strip.paint(plan, tmp_path / f"s{ending}")
    again = strip.read(tmp_path / f"s{ending}", g)
    assert again.note == plan.note
    assert np.array_equal(again.panorama[-20:280], panorama[-20:280])


def test_resample_changes_one_anchor_of_a_picture(model: Path, g: alis.Generator, tmp_path: Path) -> None:
    first = _alis("panorama", model, "-o", tmp_path / "a.png", "--width", 700, "--start", 10, "--seed", 9)
    assert first.exit_code == 0, first.output
    assert first.stdout.strip() == str(tmp_path / "a.png")
    done = _alis("resample", model, tmp_path / "a.png", "--at", 300, "-o", tmp_path / "b.png")
    assert done.exit_code == 0, done.output
    a, b = _pixels(tmp_path / "a.png"), _pixels(tmp_path / "b.png")
    left, right = (edge - 10 for edge in alis.Panorama(g, 9).reach(5))
    changed = (a != b).any(axis=(0, 2))
    assert not changed[:left].any()
    assert not changed[right:].any()
    assert changed[left:right].mean() > 0.9
    back = _alis("resample", model, tmp_path / "b.png", "--anchor", 5, "--variant", 0, "-o", tmp_path / "c.png")
    assert back.exit_code == 0, back.output
    assert np.array_equal(_pixels(tmp_path / "c.png"), a)


def test_an_interrupted_strip_resumes(model: Path, tmp_path: Path) -> None:
    words = ["panorama", str(model), "-o", str(tmp_path / "s.png"), "--width", "60000", "--seed", "3"]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "alis", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    partial, deadline = tmp_path / "s.png.partial", time.monotonic() + 60
    second_block = (31 * 60000 + 300) * 3  # in the last row: the first block is whole
    while (not partial.exists() or partial.stat().st_size < second_block) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "run the same command again" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert not (tmp_path / "s.png").exists()
    done_px = json.loads((tmp_path / "s.png.partial.json").read_text())["done_px"]
    assert 0 < done_px < 60000
    other = _alis(*words[:-1], "4")
    assert isinstance(other.exception, InputError)
    assert "another picture" in str(other.exception)
    done = _alis(*words)
    assert done.exit_code == 0, done.output
    whole = _pixels(tmp_path / "s.png")
    panorama = alis.Panorama(alis.load(model), 3)
    assert np.array_equal(whole[:, :600], panorama[0:600])
    assert np.array_equal(whole[:, done_px - 99 : done_px + 99], panorama[done_px - 99 : done_px + 99])
    assert sorted(os.listdir(tmp_path)) == ["s.png"]


@pytest.mark.parametrize("rot", ["", "in what is painted", "in the journal"])
def test_a_killed_strip_resumes_from_the_last_sync(
    rot: str, g: alis.Generator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = strip.plan(alis.Panorama(g, 3), width=2000)
    note = plan.note.text
    half = picture_writer.Spool(tmp_path / "s.png", 2000, 32, note)
    for piece in plan.columns(0):
        half.append(piece)
        if half.done_px >= 1000:
            break
    half.sync()
    safe = half.done_px
    half.append(next(plan.columns(safe)))  # reached the disk, but the journal never heard of it
    half.close()
    if rot == "in the journal":
        half.journal.write_text(half.journal.read_text().replace(f'"done_px": {safe}', f'"done_px": {safe + 1}'))
        with pytest.raises(InputError, match="is damaged"):
            strip.paint(plan, tmp_path / "s.png")
        return
    if rot:
        with open(half.path, "rb+") as file:
            file.seek((17 * 2000 + safe - 1) * 3)
            file.write(bytes([file.read(1)[0] ^ 8]))
    made = strip.paint(plan, tmp_path / "s.png")
    assert made.painted_px == 2000 - (0 if rot else safe)
    assert ("painted again" in caplog.text) == bool(rot)
    assert np.array_equal(_pixels(made.path), plan.panorama[0:2000])


def test_a_full_disk_is_an_error_and_nothing_is_lost(model: Path, tmp_path: Path) -> None:
    words = ["panorama", model, "-o", tmp_path / "s.png", "--width", 20000]
    with files_up_to(1_000_000):
        full = _alis(*words)
    assert isinstance(full.exception, RunError)
    assert "the disk is full at column" in str(full.exception)
    assert not (tmp_path / "s.png").exists()
    done = _alis(*words)
    assert done.exit_code == 0, done.output
    assert _pixels(tmp_path / "s.png").shape == (32, 20000, 3)


def test_two_processes_cannot_paint_the_same_picture(tmp_path: Path) -> None:
    first = picture_writer.Spool(tmp_path / "s.png", 100, 8, "n")
    with pytest.raises(InputError, match="another process"):
        picture_writer.Spool(tmp_path / "s.png", 100, 8, "n")
    first.close()
    picture_writer.Spool(tmp_path / "s.png", 100, 8, "n").close()


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_no_damaged_column_is_copied_into_a_redrawn_strip(ending: str, g: alis.Generator, tmp_path: Path) -> None:
    """Damage in the middle of what would be copied, which libvips would show as noise or black."""
    path = tmp_path / f"s{ending}"
    strip.paint(strip.plan(alis.Panorama(g, 9), width=2000), path)
    before, whole = strip.read(path, g), path.read_bytes()
    for at, size in ((len(whole) // 3, 1), (len(whole) // 3, 400)):
        path.write_bytes(
            whole[:at] + bytes(byte ^ 1 if size == 1 else 0 for byte in whole[at:][:size]) + whole[at + size :]
        )
        with pytest.raises(InputError, match=rf"{path.name}: can't be read as a picture"):
            redraw.write(before, strip.redrawn(before, at=1990), path, tmp_path / f"t{ending}", overwrite=True)
    path.write_bytes(whole)
    redraw.write(before, strip.redrawn(before, at=1990), path, tmp_path / f"t{ending}")
    assert np.array_equal(_pixels(tmp_path / f"t{ending}")[:, :1800], before.panorama[0:1800])


@pytest.mark.parametrize(
    "damage", ["{", '{"done_px": 7}', '{"note": "n", "width_px": 100, "height_px": 8, "done_px": 99}', "[]"]
)
def test_a_damaged_journal_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "s.png.partial.json").write_text(damage)
    with pytest.raises(InputError):
        picture_writer.Spool(tmp_path / "s.png", 100, 8, "n")


def test_a_loop_is_a_whole_number_of_anchors(g: alis.Generator, tmp_path: Path) -> None:
    plan = strip.plan(alis.Panorama(g, 2), width=200, start=5, loop=True)
    assert plan.width == 192
    strip.paint(plan, tmp_path / "r.png")
    ring = _pixels(tmp_path / "r.png")
    assert np.array_equal(np.concatenate([ring, ring], axis=1), plan.panorama[5 : 5 + 384])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["panorama", "MODEL", "-o", "s.png", "--width", "0"], "--width 0"),
        (["panorama", "MODEL", "-o", "s.png", "--frames", "-3"], "--frames -3"),
        (["panorama", "MODEL", "-o", "s.png", "--frames", "3", "--width", "5"], "both"),
        (["panorama", "MODEL", "-o", "s.jpg", "--width", "65501"], "JPEG's limit of 65,500"),
        (["panorama", "MODEL", "-o", "s.webp", "--width", "16384"], "WebP's limit of 16,383"),
        (["panorama", "MODEL", "-o", "s.png", "--width", "3000000000"], "PNG's limit"),
        (["panorama", "MODEL", "-o", "s.png", "--width", "2000000000"], "GB"),
        (["panorama", "MODEL", "-o", "s.bmp"], "'.bmp'"),
        (["panorama", "MODEL", "-o", "no/where/s.png"], "no such folder"),
        (["panorama", "MODEL", "-o", "taken.png"], "exists"),
        (["panorama", "MODEL", "-o", "s.png", "--seed", "-1"], "seed -1"),
        (["panorama", "MODEL", "-o", "s.png", "--start", "99999999999999999"], "beyond the plane"),
        (["panorama", "MODEL", "-o", "s.png", "--cluster", "3"], "no clusters yet"),
        (["panorama", "MODEL", "-o", "s.png", "--cluster", "x"], "neither a number"),
        (["panorama", "MODEL", "-o", "s.png", "--device", "warp9"], "warp9"),
        (["panorama", "elsewhere", "-o", "s.png"], "no such folder"),
        (["resample", "MODEL", "taken.png", "--anchor", "1", "-o", "s.png"], "taken.png"),
        (["resample", "MODEL", "plain.png", "--anchor", "1", "-o", "s.png"], "no note"),
        (["resample", "MODEL", "strip.png", "--anchor", "99", "-o", "s.png"], "anchor 99 is not in this picture"),
        (["resample", "MODEL", "strip.png", "-o", "s.png"], "which anchor"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(
    model: Path, g: alis.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.png").write_bytes(b"\x89PNG")
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    strip.paint(strip.plan(alis.Panorama(g, 1), width=64), tmp_path / "strip.png")
    before = sorted(os.listdir(tmp_path))
    result = CliRunner().invoke(cli, [str(model) if word == "MODEL" else word for word in words])
    if isinstance(result.exception, AlisError):
        assert result.exception.exit_code == 2
        assert result.exception.hint
        assert told in str(result.exception)
    else:
        assert result.exit_code == 2, result.output
        assert told in result.output
    assert sorted(os.listdir(tmp_path)) == before


def test_every_format_reports_its_limit() -> None:
    assert {name: form.max_side for name, form in FORMATS.items()} == {
        ".png": 2**31 - 1,
        ".jpg": 65_500,
        ".webp": 16_383,
        ".tif": 2**31 - 1,
        ".dzi": 2**31 - 1,
    }


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_is_listed_in_help_and_docs(ending: str) -> None:
    """In the help of both commands that take all formats, and in the table of the docs page."""
    for command in ("panorama", "connect"):
        assert f"{ending} " in _alis(command, "--help").output.replace(".dzi.", ".dzi "), command
    assert f"\n| `{ending}`" in (ROOT / "docs/panoramas.md").read_text(encoding="utf-8")
