"""Variants look as in a viewer: upright, in sRGB, without metadata, and close to a full decode."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from lhq.errors import ConfigError, ImageError
from lhq.export.layout import Variant, variant
from lhq.export.render import render
from tests.lhq.making import scene

PNG = variant("32", "png")
_CUT = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()[:200]


def shown(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def psnr_db(a: Image.Image, b: Image.Image) -> float:
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(10 * np.log10(255**2 / max(float((difference**2).mean()), 1e-9)))


def in_full(data: bytes, side: int) -> Image.Image:
    """The reference: decode at full size, Lanczos on the centre square."""
    image = shown(data).convert("RGB")
    edge = min(image.size)
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    box = (left, top, left + edge, top + edge)
    return image.resize((side, side), Image.Resampling.LANCZOS, box=box)


@pytest.mark.parametrize("name", ["000.jpg", "008.jpg", "015.jpg", "060.jpg"])
@pytest.mark.parametrize("side", [64, 256, 1024])
def test_as_good_as_decoding_in_full(shared: Path, name: str, side: int) -> None:
    data = (shared / "photos" / "landscapes" / name).read_bytes()
    picture = render(data, variant(f"{side}", "png"), 95)
    assert psnr_db(shown(picture.data), in_full(data, side)) > 40


def test_turned_as_a_viewer_turns_it() -> None:
    corner = Image.new("RGB", (60, 40))
    corner.paste((255, 0, 0), (0, 0, 60, 20))
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    corner.save(out, "PNG", exif=exif)
    picture = shown(render(out.getvalue(), PNG, 95).data)
    assert picture.getpixel((30, 16)) == (255, 0, 0)
    assert picture.getpixel((1, 16)) == (0, 0, 0)
    full = render(out.getvalue(), Variant("full", None, ""), 95)
    assert (full.width_px, full.height_px, full.data) == (40, 60, out.getvalue())


def test_odd_colours_become_srgb() -> None:
    grey, ramp = Image.new("L", (40, 40), 128), np.full((40, 40), 128 * 257, np.uint16)
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    palette = Image.new("RGB", (40, 40), (10, 200, 30)).quantize(4)
    cases = [
        (grey, "JPEG", (128, 128, 128)),
        (Image.fromarray(ramp), "PNG", (128, 128, 128)),
        (clear, "PNG", (255, 255, 255)),
        (palette, "PNG", (10, 200, 30)),
        (Image.new("CMYK", (40, 40), (0, 0, 0, 0)), "JPEG", (255, 255, 255)),
    ]
    for image, format, colour in cases:
        out = io.BytesIO()
        image.save(out, format)
        picture = shown(render(out.getvalue(), PNG, 95).data)
        assert picture.mode == "RGB"
        assert np.allclose(picture.getpixel((16, 16)), colour, atol=3), (image.mode, picture.getpixel((16, 16)))


def test_a_profile_is_applied_and_dropped() -> None:
    """Linear light tagged as such must come out brighter; the profile itself stays behind."""
    image = Image.new("RGB", (40, 40), (128, 128, 128))
    out = io.BytesIO()
    image.save(out, "PNG", icc_profile=_gamma_one())
    picture = shown(render(out.getvalue(), PNG, 95).data)
    assert picture.getpixel((16, 16))[0] == pytest.approx(188, abs=2)  # sRGB's curve at 0.5 of full light
    assert "icc_profile" not in picture.info


def _gamma_one() -> bytes:
    """sRGB's own profile with a straight line in place of its curve."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for at in range(132, 132 + 12 * count, 12):
        tag, start = bytes(profile[at : at + 4]), int.from_bytes(profile[at + 4 : at + 8], "big")
        if tag in {b"rTRC", b"gTRC", b"bTRC"}:
            profile[start : start + 12] = b"curv" + bytes(4) + (0).to_bytes(4, "big")  # no entry: the identity
        if tag == b"desc":
            at_name = bytes(profile).find("sRGB".encode("utf-16-be"))
            profile[at_name : at_name + 8] = "line".encode("utf-16-be")
    return bytes(profile)


@pytest.mark.parametrize("profile", [b"", b"not a profile", _CUT], ids=["none", "junk", "cut"])
def test_without_a_usable_profile_colours_are_taken_as_srgb(profile: bytes) -> None:
    out = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 100, 50)).save(out, "PNG", icc_profile=profile)
    assert shown(render(out.getvalue(), PNG, 95).data).getpixel((16, 16)) == (200, 100, 50)


def test_sixteen_bits_a_colour_are_scaled_not_cut() -> None:
    line = b"\0" + struct.pack(">HHH", 128 * 257, 10 * 257, 250 * 257) * 40
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(line * 40)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    picture = shown(render(data, PNG, 95).data)
    assert np.allclose(picture.getpixel((16, 16)), (128, 10, 250), atol=1)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF"])
def test_an_animated_picture_is_refused_by_name(format: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    out = io.BytesIO()
    frames[0].save(out, format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError) as caught:
        render(out.getvalue(), PNG, 95)
    assert caught.value.reason == ("unsupported-type" if format == "GIF" else "animated")


def test_metadata_stays_behind() -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    for format in ("jpeg", "png", "webp"):
        data = scene(1, exif=exif, comment=b"private")
        made = render(data, variant("32", format), 95)
        assert b"where I live" in data
        assert b"where I live" not in made.data
        assert b"private" not in made.data
        assert shown(made.data).format == format.upper()


def test_nothing_is_enlarged() -> None:
    with pytest.raises(ImageError, match="31 is smaller than 32") as caught:
        render(scene(1, 100, 31), PNG, 95)
    assert caught.value.reason == "too-small"


@pytest.mark.parametrize("name", ["0", "-1", "256.png", "full-png", "256-gif", ""])
def test_no_variant(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a variant"):
        variant(name, "jpeg")
