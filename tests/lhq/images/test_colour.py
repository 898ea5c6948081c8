"""Colours: our pixels against Chromium's, and rows read one by one against the whole picture."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhq.errors import ImageError
from lhq.images import decode
from tests.lhq.images import odd

ROOT = Path(__file__).parents[3]
PICTURES = odd.pictures()
PAINTED = odd.read()


@pytest.mark.parametrize("name", sorted(PAINTED))
def test_a_picture_has_the_pixels_that_a_browser_paints(name: str) -> None:
    away = np.abs(np.asarray(decode(PICTURES[name])).astype(int) - PAINTED[name])
    # Chromium cuts 16 bits to 8 before it converts, which a steep curve shows in the shadows.
    assert away.max() <= (5 if " 16" in name else 2), f"{away.max()} levels off, {away.mean():.2f} on average"
    assert away.mean() <= 0.5


def test_the_table_holds_every_odd_picture() -> None:
    assert PICTURES.keys() == PAINTED.keys()
    assert f"Chromium's pixels of {len(PAINTED)} odd pictures" in (ROOT / "docs/filter.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium to ask")
def test_chromium_still_paints_what_the_table_says() -> None:
    few = {name: PICTURES[name] for name in ("gAMA 0.55", "cHRM swapped, palette", "grey 16, tRNS", "iCCP P3, alpha")}
    for name, pixels in odd.painted(few, lambda _: None).items():
        assert np.abs(pixels.astype(int) - PAINTED[name]).max() <= 1, name


def test_the_cases_that_browsers_showed_otherwise(shared: Path) -> None:
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


@pytest.mark.parametrize("colour", ["rgb", "rgb+alpha", "grey+alpha"])
def test_sixteen_bits_of_colour_are_rounded_whatever_their_filter(colour: str) -> None:
    channels = {"rgb": 3, "rgb+alpha": 4, "grey+alpha": 2}[colour]
    samples = np.random.default_rng(0).integers(0, 65_536, (40, 31, channels))
    if channels != 3:
        samples[..., -1] = 65_535
    found = np.asarray(decode(filtered(colour, samples)))
    wanted = np.round(samples[..., : 3 if channels > 2 else 1] / 257)
    assert np.array_equal(found, np.broadcast_to(wanted, found.shape))


def test_rows_that_lack_or_are_broken_are_said() -> None:
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


def filtered(colour: str, samples: np.ndarray) -> bytes:
    """A PNG of 16 bits whose rows take the five filters in turn. Source: W3C PNG, 9.2."""
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
    whole = odd.png(colour, 16, samples)
    at = whole.index(b"IDAT") - 4
    return whole[:at] + odd.chunk(b"IDAT", zlib.compress(raw)) + odd.chunk(b"IEND", b"")
