"""Pictures of formats that datasets don't hold: GIF, BMP, TIFF and what else Pillow reads."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from alis.data.decode import BadImage, open_picture

RAMP = Image.fromarray(np.random.default_rng(3).integers(0, 256, (120, 90, 3), np.uint8)).resize((180, 240))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_large_ones_are_averaged(kind: str) -> None:
    found = open_picture(saved(RAMP, kind), 20)
    assert np.array_equal(np.asarray(found), np.asarray(RAMP.reduce(4)))
    assert np.array_equal(np.asarray(open_picture(saved(RAMP, kind), 100)), np.asarray(RAMP))


def test_a_palette_with_a_transparent_colour_lies_over_white_however_it_is_reduced() -> None:
    image = Image.new("P", (64, 64), 1)
    image.putpalette([0, 0, 0, 200, 40, 40, 10, 10, 200])
    image.paste(2, (32, 0, 64, 64))
    for short in (8, 64):
        pixels = np.asarray(open_picture(saved(image, "GIF", transparency=2), short))
        assert pixels[0, 0].tolist() == [200, 40, 40]
        assert pixels[-1, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("short", [20, 180])
def test_a_tiff_is_turned_once(compression: str, short: int) -> None:
    upright = open_picture(saved(RAMP, "TIFF"), short)
    turned = saved(RAMP.transpose(Image.Transpose.ROTATE_90), "TIFF", compression=compression, tiffinfo={274: 6})
    assert np.array_equal(np.asarray(open_picture(turned, short)), np.asarray(upright))


@pytest.mark.parametrize("compression", ["raw", "tiff_deflate", "jpeg"])
def test_the_cap_on_pixels_is_ours_for_tiff_too(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(RAMP, "TIFF", compression=compression)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_picture(data, 180).size == RAMP.size


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "packbits", "tiffinfo": {278: 100_000}}),
        ("TIFF", {"compression": "packbits", "tiffinfo": {274: 6}}),
    ],
)
def test_what_takes_more_than_the_bound_is_refused_before_it_is_decoded(kind: str, options: dict[str, object]) -> None:
    data = saved(Image.new("RGB", (100, 100)), kind, **options)
    ours, theirs = (side.to_bytes(4, "little") for side in (100, 12_000))
    if kind == "BMP":
        data = data.replace(2 * ours, 2 * theirs, 1)
    for tag in (256, 257) if kind == "TIFF" else ():  # entries of two or of four bytes
        for head in (struct.pack("<HHI", tag, type, 1) for type in (3, 4)):
            data = data.replace(head + ours, head + theirs)
    with pytest.raises(BadImage, match=r"12000 x 12000 pixels: \d+ MB at .*, more than the 540 MB"):
        open_picture(data, 64)


def test_greys_of_16_bits_in_32_are_those_greys() -> None:
    values = np.linspace(0, 65_535, 64 * 64).reshape(64, 64)
    wide, deep = (Image.fromarray(values.astype(kind)) for kind in (np.int32, np.uint16))
    assert wide.mode == "I"
    assert np.array_equal(*(np.asarray(open_picture(saved(image, "TIFF"), 64)) for image in (wide, deep)))


@pytest.mark.parametrize(
    ("value", "white", "grey"),
    [(0, 65_535, 0), (257, 65_535, 1), (30_000, 65_535, 117), (30_000, 40_000, 191), (65_535, 65_535, 255)],
)
def test_a_pgm_of_16_bits_states_its_white(value: int, white: int, grey: int) -> None:
    data = b"P5 32 32 %d\n" % white + value.to_bytes(2, "big") * 32 * 32
    assert open_picture(data, 32).getextrema() == ((grey, grey),) * 3


@pytest.mark.parametrize("largest", [1, 255, 65_536, 2**31 - 1, -1])
@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_without_a_known_white_are_refused(mode: str, largest: int) -> None:
    image = Image.new(mode, (64, 64), 300)
    image.paste(largest, (0, 0, 64, 64) if 0 < largest < 300 else (0, 0, 32, 64))
    with pytest.raises(BadImage, match="which value is white is not known"):
        open_picture(saved(image, "TIFF"), 64)


@pytest.mark.parametrize("kind", ["AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "ICO", "TGA", "PPM"])
def test_damage_is_a_bad_image_whatever_the_plugin_raises(kind: str) -> None:
    data = saved(RAMP.resize((48, 40)).convert("P" if kind == "GIF" else "RGB"), kind)
    rng, refused = np.random.default_rng(1), 0
    for _ in range(150):
        bent = bytearray(data)
        for at in rng.integers(0, len(bent), 4):
            bent[at] = rng.integers(256)
        try:
            assert open_picture(bytes(bent[: rng.integers(len(bent))]), 16).mode == "RGB"
        except BadImage:
            refused += 1
    assert refused
