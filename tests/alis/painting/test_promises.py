"""Guarantees of painting: what a redraw leaves unchanged, metadata of pictures and codes, errors before any work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image, PngImagePlugin

import alis
from alis import formats
from alis.cli import cli
from alis.errors import AlisError, InputError
from alis.painting import connect, redraw, strip, video
from alis.plane import codes
from alis.plane.anchors import Draw, SavedCode
from tests.alis import painter


@pytest.fixture(scope="module")
def strips(g: alis.Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strips")
    for ending in ("png", "tif", "jpg", "webp", "dzi"):
        strip.paint(strip.plan(alis.Panorama(g, 7), width=500, start=-77), folder / f"a.{ending}")
    return folder


def _alis(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def _pixels(path: Path) -> np.ndarray:
    if path.suffix == ".dzi":
        picture = formats.pixels.Picture(path)
        return picture.columns(0, picture.width)
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


# ---- resample ----
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_columns_out_of_reach_are_copied_from_the_file(model: Path, strips: Path, tmp_path: Path, ending: str) -> None:
    """They must not be painted again: another machine rounds differently. Altered columns show which was done."""
    source = tmp_path / f"a.{ending}"
    plan = strip.read(strips / f"a.{ending}", alis.load(model))
    pixels = formats.pixels.Picture(strips / f"a.{ending}").columns(0, 500).copy()
    left, right = plan.panorama.reach(2)
    a, b = left - plan.start, right - plan.start
    untouched = np.r_[20:a, b:480]
    pixels[:, untouched] ^= 1  # as if rounded the other way
    _store(source, pixels, formats.read_note(strips / f"a.{ending}") or "")
    told = _alis("resample", model, source, "--anchor", 2, "-o", tmp_path / f"b.{ending}")
    assert told.exit_code == 0, told.output
    now = formats.pixels.Picture(tmp_path / f"b.{ending}").columns(0, 500)
    outside = np.r_[0:a, b:500]
    assert np.array_equal(now[:, outside], pixels[:, outside])
    assert np.array_equal(now[:, a:b], plan.panorama.with_edits({2: 1})[left:right])
    assert f"columns {a:,} … {b:,}" in told.output
    assert "to the bit" in told.output


def _store(path: Path, pixels: np.ndarray, note: str) -> None:
    if path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, pixels, photometric="rgb", description=note, metadata=None)
    else:
        papers = PngImagePlugin.PngInfo()
        papers.add_itxt("alis", note)
        Image.fromarray(pixels).save(path, pnginfo=papers)


@pytest.mark.parametrize("ending", ["jpg", "webp", "dzi"])
def test_for_a_lossy_format_the_change_elsewhere_is_reported(
    model: Path, strips: Path, tmp_path: Path, ending: str
) -> None:
    told = _alis("resample", model, strips / f"a.{ending}", "--anchor", 2, "-o", tmp_path / f"b.{ending}")
    assert told.exit_code == 0, told.output
    plan = strip.read(strips / f"a.{ending}", alis.load(model))
    left, right = (edge - plan.start for edge in plan.panorama.reach(2))
    outside = np.r_[0:left, right:500]
    apart = np.abs(
        _pixels(strips / f"a.{ending}")[:, outside].astype(int) - _pixels(tmp_path / f"b.{ending}")[:, outside]
    )
    assert apart.max() > 0 or ending == "jpg", "what is stored together at the reach's edge; JPEG's blocks end there"
    words = f"at most {apart.max()} grey levels" if apart.max() else "changed elsewhere: none"
    assert words in told.output


def test_on_a_ring_anchors_are_counted_modulo_the_ring(model: Path, g: alis.Generator, tmp_path: Path) -> None:
    ring = alis.Panorama(g, 7, ring=3)
    assert ring.with_edits({4: 2}).sketch == ring.with_edits({-2: 2}).sketch == ring.with_edits({1: 2}).sketch
    strip.paint(strip.plan(ring, width=ring.ring_px), tmp_path / "ring.png")
    for anchor in (1, 4, -2):
        told = _alis("resample", model, tmp_path / "ring.png", "--anchor", anchor, "-o", tmp_path / f"{anchor}.png")
        assert told.exit_code == 0, told.output
        assert (tmp_path / f"{anchor}.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    # Anchor 0 is at both the left and the right edge of the picture.
    told = _alis("resample", model, tmp_path / "ring.png", "--anchor", 0, "-o", tmp_path / "0.png")
    assert told.exit_code == 0, told.output
    assert np.array_equal(_pixels(tmp_path / "0.png"), ring.with_edits({0: 1})[0 : ring.ring_px])


# ---- pictures and their notes ----
def test_a_picture_changed_after_painting_is_detected(model: Path, strips: Path, tmp_path: Path) -> None:
    with Image.open(strips / "a.png") as picture:
        note, whole = picture.text["alis"], picture.convert("RGB")
    changed = {
        "cropped": whole.crop((10, 0, 490, 32)),
        "scaled": whole.resize((250, 16)),
        "stretched": whole.crop((0, 0, 400, 32)).resize(whole.size),
        "mirrored": whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "moved": Image.fromarray(np.roll(np.asarray(whole), 9, axis=1)),
        "painted black": Image.new("RGB", whole.size),
    }
    for name, picture in changed.items():
        _store(tmp_path / "mine.png", np.asarray(picture), note)
        told = _alis("resample", model, tmp_path / "mine.png", "--at", 200, "-o", tmp_path / "out.png")
        assert isinstance(told.exception, InputError), f"{name}: {told.output}"
        assert "after it was painted" in str(told.exception), name
        assert not list(tmp_path.glob("out*")), name


@pytest.mark.parametrize("ending", ["webp", "jpg"])
def test_compression_is_not_taken_for_a_change(tmp_path: Path, ending: str) -> None:
    """Untrained independent patches are so grainy that WebP changes them by 20 grey levels."""
    alis.save(tmp_path / "grainy", painter.tiny(seed=1))
    plan = strip.plan(alis.Panorama(alis.load(tmp_path / "grainy"), 7), width=300)
    for name in (f"a.{ending}", "a.png"):
        strip.paint(plan, tmp_path / name)
    told = _alis("resample", tmp_path / "grainy", tmp_path / f"a.{ending}", "--at", 90, "-o", tmp_path / f"b.{ending}")
    assert told.exit_code == 0, told.output
    with Image.open(tmp_path / "a.png") as picture, Image.open(tmp_path / f"a.{ending}") as noted:
        changed, exif = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), noted.getexif()
    changed.save(tmp_path / f"c.{ending}", quality=92, exif=exif)
    told = _alis("resample", tmp_path / "grainy", tmp_path / f"c.{ending}", "--at", 90, "-o", tmp_path / f"d.{ending}")
    assert "after it was painted" in str(told.exception), told.output


def test_changed_deep_zoom_tiles_are_detected(model: Path, strips: Path, tmp_path: Path) -> None:
    def resampled(change: Callable[[Path, Path], object]) -> Result:
        shutil.rmtree(tmp_path, ignore_errors=True)
        shutil.copytree(strips, tmp_path)
        change(tmp_path / "a.dzi", tmp_path / "a_files" / "9")
        return _alis("resample", model, tmp_path / "a.dzi", "--at", 200, "-o", tmp_path / "out.dzi")

    def redescribed(word: str, other: str) -> Callable[[Path, Path], object]:
        return lambda described, _: described.write_text(described.read_text().replace(word, other))

    def repainted(change: Callable[[Image.Image], Image.Image]) -> Callable[[Path, Path], object]:
        def all_tiles(_: Path, tiles: Path) -> None:
            for path in tiles.iterdir():
                with Image.open(path) as tile:
                    changed = change(tile)
                changed.save(path)

        return all_tiles

    assert resampled(lambda *_: None).exit_code == 0
    changes: dict[str, tuple[Callable[[Path, Path], object], str]] = {
        "cropped": (redescribed('Width="500"', 'Width="490"'), "after it was painted"),
        "no size": (redescribed('Width="500"', ""), "has no Width"),
        "empty": (redescribed('Width="500"', 'Width="0"'), "does not describe a picture"),
        "scaled": (repainted(lambda tile: tile.resize((tile.width // 2, 16))), "after it was painted"),
        "black": (repainted(lambda tile: Image.new("RGB", tile.size)), "after it was painted"),
        "lost": (lambda _, tiles: (tiles / "1_0.jpg").unlink(), "can't be read"),
        "broken": (lambda _, tiles: (tiles / "0_0.jpg").write_bytes(b"no picture"), "can't be read"),
    }
    for name, (change, words) in changes.items():
        told = resampled(change)
        assert isinstance(told.exception, InputError), f"{name}: {told.output}"
        assert words in str(told.exception), name
        assert not list(tmp_path.glob("out*")), name


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "note",
    [
        '{"model": "m", "sketch": "7/-", "start": 1e999, "width": 9}',
        '{"model": "m", "sketch": "7/-", "start": 0, "width": 1e3}',
        '{"model": "m", "sketch": "7/-", "start": 0, "width": true}',
        '{"model": "m", "sketch": ["7/-"], "start": 0, "width": 9}',
        '{"model": "m", "sketch": "7/p", "start": 0, "width": 9}',
        '{"model": {"a": 1}, "sketch": "7/-", "start": 0, "width": 9}',
        _nested(100_000),
        '{"model": ' + _nested(100_000) + "}",
        "[]",
        "7",
        "null",
        "",
    ],
)
def test_an_invalid_note_is_an_error(g: alis.Generator, tmp_path: Path, note: str) -> None:
    _store(tmp_path / "a.png", np.zeros((32, 9, 3), np.uint8), note)
    with pytest.raises(InputError, match="no note of alis"):
        strip.read(tmp_path / "a.png", g)


def test_a_note_beyond_the_plane_is_an_error(g: alis.Generator, tmp_path: Path) -> None:
    for start, width in ((2**60, 9), (0, 0), (0, -9)):
        note = {"model": strip.fingerprint(g), "sketch": "7/-", "start": start, "width": width}
        _store(tmp_path / "a.png", np.zeros((32, 9, 3), np.uint8), json.dumps(note))
        with pytest.raises(InputError):
            strip.read(tmp_path / "a.png", g)


# ---- codes and their papers ----
def _photo(path: Path, seed: int = 0) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 60, 3), np.uint8)).save(path)
    return path


def test_a_code_of_another_model_is_a_warning(model: Path, tmp_path: Path) -> None:
    photo = _photo(tmp_path / "photo.png")
    assert _alis("invert", model, photo, "-o", tmp_path / "mine.safetensors", "--steps", 2).exit_code == 0
    assert codes.read_origin(tmp_path / "mine.safetensors").model == strip.fingerprint(alis.load(model))
    alis.save(tmp_path / "other", painter.tiny(seed=1, padding="plane", local_latents=0.5))
    for folder, is_foreign in ((model, False), (tmp_path / "other", True)):
        out = tmp_path / f"{folder.name}.png"
        told = _alis("connect", folder, tmp_path / "mine.safetensors", 7, "-o", out)
        assert told.exit_code == 0, told.output
        assert ("another model" in told.output) is is_foreign


def test_connect_uses_the_inversion_beside_its_output_and_never_replaces_it(model: Path, tmp_path: Path) -> None:
    photo, out = _photo(tmp_path / "photo.png"), tmp_path / "walk.png"
    kept = tmp_path / "walk-photo.safetensors"
    long = _alis("invert", model, photo, "-o", kept, "--steps", 3)
    assert long.exit_code == 0, long.output
    before = kept.read_bytes()
    assert _alis("connect", model, photo, 7, "-o", out, "--steps", 1).exit_code == 0
    assert _alis("connect", model, photo, 7, "-o", out, "--steps", 1, "--force").exit_code == 0
    assert kept.read_bytes() == before
    panorama = alis.Panorama(alis.load(model), codes={"photo": codes.read(kept)})
    first, last = painter.scene_columns(panorama, 0)
    want = connect.plan(panorama, [SavedCode("photo"), Draw(7)])
    assert np.array_equal(_pixels(out)[:, first:last], want.panorama[first:last])
    _photo(photo, seed=1)
    other = _alis("connect", model, photo, 7, "-o", out, "--force")
    assert "another photograph" in str(other.exception)
    assert kept.read_bytes() == before


# ---- before any work ----
def test_unwritable_outputs_are_an_error_before_any_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = _photo(tmp_path / "photo.png")
    long = "x" * 236
    commands: list[list[object]] = [
        ["panorama", model, "-o", f"{long}.png"],
        ["panorama", model, "-o", "/proc/a.png"],
        ["panorama", model, "-o", "no/folder/a.png"],
        ["connect", model, 1, 2, "-o", f"{long}.tif"],
        ["connect", model, photo, 2, "-o", "/proc/a.png"],
        ["invert", model, photo, "-o", f"{long}.safetensors"],
        ["invert", model, photo, "-o", "/proc/a.safetensors"],
        ["video", model, "-o", f"{long}.mp4"],
        ["video", model, "-o", "/proc/a.mp4"],
    ]
    monkeypatch.chdir(tmp_path)
    # Painting would call this: so the test fails if any of them starts to paint.
    monkeypatch.setattr(torch.nn.functional, "conv_transpose2d", None)
    before = sorted(tmp_path.rglob("*"))
    for words in commands:
        told = _alis(*words)
        assert isinstance(told.exception, InputError), f"{words}: {told.exception!r}"
    assert sorted(tmp_path.rglob("*")) == before


def test_the_longest_name_that_is_allowed_can_be_written(g: alis.Generator, tmp_path: Path) -> None:
    most = os.pathconf(tmp_path, "PC_NAME_MAX") - len(".partial.json.new")
    for ending in (".png", ".jpg", ".tif", ".dzi"):
        name = "é" * ((most - len(ending)) // 2) + ending
        assert strip.paint(strip.plan(alis.Panorama(g), width=40), tmp_path / name).path.exists()


@pytest.mark.parametrize(
    ("ending", "package"), [("jpg", "pyvips"), ("webp", "pyvips"), ("tif", "tifffile"), ("mp4", "av")]
)
def test_a_missing_package_is_an_error_before_any_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, package: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    monkeypatch.setattr(torch.nn.functional, "conv_transpose2d", None)
    command = "video" if ending == "mp4" else "panorama"
    told = _alis(command, model, "-o", tmp_path / f"a.{ending}")
    assert isinstance(told.exception, AlisError), told.exception
    assert package in str(told.exception)
    assert not list(tmp_path.iterdir())


# ---- videos and reaches ----
def test_videos_declare_their_colour_space(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    settings = video.VideoSettings(64, 128, 64, 1, 8)
    pixels = np.full((64, 64, 3), (200, 60, 30), np.uint8)
    for ending in ("mp4", "webm"):
        video.write(tmp_path / f"a.{ending}", iter([pixels] * 8), settings)
        with av.open(str(tmp_path / f"a.{ending}")) as film:
            codec = film.streams.video[0].codec_context
            assert (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range) == (1, 1, 1, 1)
            frame = next(film.decode(video=0))
            luma = frame.to_ndarray(format="yuv420p")[:64].mean()
            # BT.709: Y = 16 + 219 · (0.2126 R + 0.7152 G + 0.0722 B); BT.601 would have 106.
            assert luma == pytest.approx(16 + 219 * (0.2126 * 200 + 0.7152 * 60 + 0.0722 * 30) / 255, abs=2)


def test_reaches_are_in_the_pictures_columns(g: alis.Generator) -> None:
    plan = strip.plan(alis.Panorama(g, 7), width=600, start=-100)
    after = strip.redrawn(plan, anchor=1)
    (a, b), (left, right) = redraw.reaches(plan, after)[0], plan.panorama.reach(1)
    assert (a, b) == (left + 100, right + 100)
    assert redraw.reaches(plan, plan) == ()
