"""Colours: our pixels against Chromium's, and rows read one by one against the whole picture."""

from __future__ import annotations

import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhq.errors import ImageError
from lhq.images import decode
from tests.lhq.images import odd, odder

ROOT = Path(__file__).parents[3]
PICTURES = odd.every_picture()
PAINTED = odd.read()


@pytest.mark.parametrize("name", sorted(PAINTED))
def test_a_picture_has_the_pixels_that_a_browser_paints(name: str) -> None:
    away = np.abs(np.asarray(decode(PICTURES[name])).astype(int) - PAINTED[name])
    # Chromium cuts 16 bits to 8 before it converts, which a steep curve shows in the shadows; and it interpolates
    # otherwise in a profile's lookup table.
    most = 5 if " 16" in name else 7 if "lookup" in name else 2
    assert away.max() <= most, f"{away.max()} levels off, {away.mean():.2f} on average"
    assert away.mean() <= 0.5


UPRIGHT = np.asarray(decode(PICTURES["rgb 8"]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_webp_is_turned_as_its_exif_says_though_chromium_does_not(orientation: int) -> None:
    block = odder.exif(orientation)
    wanted = np.asarray(decode(PICTURES[f"eXIf {orientation}"]))
    for chunks in (
        [odder.extended(8), odder.webp_picture(), (b"EXIF", block)],
        [odder.extended(8), odder.webp_picture(), (b"EXIF", b"Exif\0\0" + block)],
        [odder.extended(0), (b"EXIF", block), odder.webp_picture()],
    ):
        assert np.array_equal(np.asarray(decode(odder.webp(*chunks))), wanted)


def test_an_orientation_that_chromium_overlooks_counts() -> None:
    plain, turned = PICTURES["rgb 8"], np.rot90(UPRIGHT, -1)
    late = plain[:-12] + odd.chunk(b"eXIf", odder.exif(6)) + plain[-12:]
    long = plain[:33] + odd.chunk(b"eXIf", odder.exif(6, kind=4)) + plain[33:]
    for data in (late, long):
        assert np.array_equal(np.asarray(decode(data)), turned)


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_falls_back_to_the_embedded_profile(transfer: int) -> None:
    cicp = odd.chunk(b"cICP", bytes([9, transfer, 0, 1]))
    plain, profiled = PICTURES["rgb 8"], PICTURES["iCCP gamma 1.8"]
    for data in (plain, profiled):
        assert np.array_equal(np.asarray(decode(data[:33] + cicp + data[33:])), np.asarray(decode(data)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (5, 9), (13, 17)])
@pytest.mark.parametrize(("colour", "channels"), [("rgb", 3), ("rgb+alpha", 4), ("grey+alpha", 2)])
def test_sixteen_bits_of_colour_are_put_together_from_every_pass(
    colour: str, channels: int, height: int, width: int
) -> None:
    samples = np.random.default_rng(0).integers(0, 65_536, (height, width, channels))
    if channels != 3:
        samples[..., -1] = 65_535
    found = np.asarray(decode(odd.interlaced(colour, 16, samples)))
    wanted = np.round(samples[..., : 3 if channels > 2 else 1] / 257)
    assert np.array_equal(found, np.broadcast_to(wanted, found.shape))
    assert np.array_equal(found, np.asarray(decode(odd.png(colour, 16, samples))))


def test_the_table_holds_every_odd_picture() -> None:
    assert PICTURES.keys() == PAINTED.keys()
    assert f"Chromium's pixels of {len(PAINTED)} odd pictures" in (ROOT / "docs/filter.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium to ask")
def test_chromium_still_paints_what_the_table_says() -> None:
    few = {name: PICTURES[name] for name in ("gAMA 0.55", "cHRM swapped, palette", "grey 16, tRNS", "iCCP P3, alpha")}
    for name, pixels in odd.painted(few, lambda _: None).items():
        assert np.abs(pixels.astype(int) - PAINTED[name]).max() <= 1, name


def test_shared_odd_pictures_match_chromium(shared: Path) -> None:
    cases = {
        path.name: path.read_bytes() for path in (shared / "cases/pictures").glob("*.png") if "rgba" not in path.name
    }
    if not cases:
        pytest.skip("no cases here")
    if not shutil.which("chromium"):
        pytest.skip("no Chromium to ask")
    for name, pixels in odd.painted(cases, lambda _: None).items():
        assert np.abs(np.asarray(decode(cases[name])).astype(int) - pixels).mean() < 0.5, name


# --- rows one by one --------------------------------------------------------------------------------------------


MODES = ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"]


@pytest.mark.parametrize(("mode", "times"), [*((mode, 3) for mode in MODES), ("RGB", 1)])
def test_a_large_png_read_by_rows_is_the_same_picture(mode: str, times: int) -> None:
    y, x = np.mgrid[:1203, :2048]
    if mode == "I;16":
        image = Image.fromarray((x * 32).astype(np.uint16))
    else:
        waves = [(x // 16) % 256, (y // 9) % 256, (x + y) % 256, (x // 8) % 256][: 4 if mode in {"LA", "RGBA"} else 3]
        image = Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).convert(mode)
    data = odd.saved("PNG", image, compress_level=1)
    if mode == "I;16":
        whole = Image.fromarray(np.round(x * 32 / 257).astype(np.uint8)).convert("RGB")
    elif mode in {"LA", "RGBA"}:
        ground = Image.new("RGBA", image.size, "white")
        whole = Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    else:
        whole = image.convert("RGB")
    mine = decode(data, short_side_px=None if times == 1 else 200)
    assert np.array_equal(np.asarray(mine), np.asarray(whole.reduce(times)))


@pytest.mark.parametrize("is_interlaced", [False, True])
@pytest.mark.parametrize("colour", ["rgb", "rgb+alpha", "grey+alpha"])
def test_sixteen_bits_of_colour_are_rounded_whatever_their_filter(
    colour: str, is_interlaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[decode.__module__], "_STRIP_PX", 100)  # three rows
    channels = {"rgb": 3, "rgb+alpha": 4, "grey+alpha": 2}[colour]
    samples = np.random.default_rng(0).integers(0, 65_536, (40, 31, channels))
    if channels != 3:
        samples[..., -1] = 65_535
    found = np.asarray(decode(filtered(colour, samples, is_interlaced=is_interlaced)))
    wanted = np.round(samples[..., : 3 if channels > 2 else 1] / 257)
    assert np.array_equal(found, np.broadcast_to(wanted, found.shape))


def test_missing_or_corrupt_rows_are_errors() -> None:
    data = filtered("rgb", np.random.default_rng(0).integers(0, 65_536, (40, 31, 3)))
    at = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, at)
    packed = data[at + 8 : at + 8 + length]
    raw = zlib.decompress(packed)
    for body in (
        zlib.compress(raw[:-1]),
        packed[:-40],
        b"",
        zlib.compress(b"\x07" + raw[1:]),
        packed[:50] + b"??" + packed[52:],
    ):
        with pytest.raises(ImageError, match="can't be decoded") as caught:
            decode(data[:at] + odd.chunk(b"IDAT", body) + odd.chunk(b"IEND", b""))
        assert caught.value.reason == "corrupt"


def filtered(colour: str, samples: np.ndarray, *, is_interlaced: bool = False) -> bytes:
    """A PNG of 16 bits whose rows take the five filters in turn. Source: W3C PNG, 8 and 9.2."""
    passes = [samples[top::down, left::across] for top, left, down, across in odd.ADAM7] if is_interlaced else [samples]
    whole = (odd.interlaced if is_interlaced else odd.png)(colour, 16, samples)
    at = whole.index(b"IDAT") - 4
    raw = b"".join(_filtered_rows(part) for part in passes)
    return whole[:at] + odd.chunk(b"IDAT", zlib.compress(raw)) + odd.chunk(b"IEND", b"")


def _filtered_rows(samples: np.ndarray) -> bytes:
    rows = samples.astype(">u2").reshape(len(samples), -1).view(np.uint8).astype(int)
    step, raw = 2 * samples.shape[2], b""
    for number, row in enumerate(rows):
        above = rows[number - 1] if number else np.zeros_like(row)
        left, corner = (np.concatenate([np.zeros(step, int), line[:-step]]) for line in (row, above))
        guess = left + above - corner
        away = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.choose(away.argmin(axis=0), [left, above, corner])
        taken = [np.zeros_like(row), left, above, (left + above) // 2, paeth][number % 5]
        raw += bytes([number % 5]) + ((row - taken) % 256).astype(np.uint8).tobytes()
    return raw
