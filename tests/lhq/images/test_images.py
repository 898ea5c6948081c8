"""The header check and the safe decode, on real encodings and on a thousand broken files."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from lhq.errors import ImageError
from lhq.images import Header, decode, inspect, resize, sniff


def picture(width: int = 96, height: int = 64, mode: str = "RGB") -> Image.Image:
    """A corner-marked ramp: every turn of it looks different."""
    image = Image.new("RGB", (width, height), (40, 90, 160))
    image.paste((250, 10, 10), (0, 0, width // 2, height // 2))
    image.paste((10, 240, 10), (width // 2, 0, width, height // 2))
    return image.convert(mode)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_whole_picture_passes_with_true_facts(kind: str) -> None:
    data = encode(picture(), kind)
    assert inspect(data) == Header(kind, 96, 64, 1, "RGB", len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("kind", "options"),
    [("jpeg", {}), ("jpeg", {"progressive": True}), ("png", {}), ("webp", {}), ("webp", {"lossless": True})],
)
def test_every_truncation_is_detected(kind: str, options: dict[str, object]) -> None:
    data = encode(picture(), kind, **options)
    for length in range(len(data) - 1):
        with pytest.raises(ImageError) as caught:
            inspect(data[:length])
        assert caught.value.reason in {"empty", "not-an-image", "corrupt-header", "truncated"}, length


def test_the_end_marker_of_a_thumbnail_does_not_count() -> None:
    thumbnail = encode(picture(32, 32), "jpeg")
    data = encode(picture(), "jpeg")
    inner = b"Exif\0\0II*\0\x08\0\0\0\0\0" + thumbnail
    whole = data[:2] + b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner + data[2:]
    assert inspect(whole).width_px == 96
    with pytest.raises(ImageError, match="EOI"):
        inspect(whole[:-2])


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    data = encode(picture(), kind, exif=exif(orientation), **({"lossless": True} if kind == "webp" else {}))
    header = inspect(data)
    assert (header.width_px, header.height_px, header.orientation) == (96, 64, orientation)
    image = decode(data)
    assert image.size == header.upright_px == ((64, 96) if orientation >= 5 else (96, 64))
    red = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}[orientation]
    x, y = (image.width - 9 if red[0] else 8), (image.height - 9 if red[1] else 8)
    r, g, b = image.getpixel((x, y))  # type: ignore[misc]
    assert r > 200, (r, g, b)
    assert max(g, b) < 80, (r, g, b)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "jpeg"), ("CMYK", "jpeg"), ("P", "png"), ("1", "png"), ("LA", "png"), ("RGBA", "png"), ("RGBA", "webp")],
)
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    image = picture(mode=mode)
    if mode == "RGBA":
        image.putalpha(100)
    data = encode(image, kind)
    assert inspect(data).mode == mode
    assert (decode(data).mode, decode(data).size) == ("RGB", (96, 64))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    grey = Image.new("I;16", (8, 8), 0x8080)
    assert decode(encode(grey, "png")).getpixel((3, 3)) == (128, 128, 128)


def test_alpha_is_composited_over_white() -> None:
    assert decode(encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "png")).getpixel((0, 0)) == (255, 255, 255)


def test_a_colour_profile_is_applied_and_a_broken_one_ignored() -> None:
    lab_free = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    for profile in (b"not a profile", lab_free):
        assert decode(encode(picture(), "png", icc_profile=profile)).getpixel((8, 8)) == (250, 10, 10)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    data = bytearray(encode(Image.new("L", (8, 8)), "jpeg"))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, 60_000, 60_000)
    with pytest.raises(ImageError) as caught:
        inspect(data)
    assert caught.value.reason == "too-many-pixels"
    with pytest.raises(ImageError, match="60000 x 60000"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "", "empty"),
        (b"<!DOCTYPE html><html>sorry</html>", "markup", "not-an-image"),
        (b"  <svg xmlns='x'/>", "markup", "not-an-image"),
        (b"GIF89a" + bytes(50), "gif", "unsupported-type"),
        (b"\0\0\0\x20ftypavif" + bytes(50), "avif", "unsupported-type"),
        (bytes(100), "", "not-an-image"),
    ],
)
def test_other_formats_are_named(data: bytes, name: str, reason: str) -> None:
    assert sniff(data) == name
    with pytest.raises(ImageError) as caught:
        inspect(data)
    assert caught.value.reason == reason


def test_animations_are_refused() -> None:
    frames = [picture(), picture().rotate(90)]
    for kind in ("png", "webp"):
        with pytest.raises(ImageError, match="animated"):
            inspect(encode(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_a_flipped_bit_is_detected_in_a_png_but_not_in_a_jpeg_scan() -> None:
    png = bytearray(encode(picture(), "png"))
    png[png.index(b"IDAT") + 20] ^= 0xFF
    with pytest.raises(ImageError, match="checksum"):
        inspect(png)


def test_scaled_decoding_is_at_least_as_large_as_requested() -> None:
    data = encode(picture(1600, 1200), "jpeg")
    small = decode(data, short_side_px=100)
    assert small.size == (400, 300)
    assert decode(data, short_side_px=1200).size == (1600, 1200)


def test_resize_keeps_proportions() -> None:
    image = resize(picture(301, 200), 100)
    assert image.size == (150, 100)
    assert resize(image, 100) is image


@given(st.binary(max_size=200), st.sampled_from([b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8X"]))
def test_random_bytes_give_a_reason_and_never_a_crash(noise: bytes, start: bytes) -> None:
    with pytest.raises(ImageError):
        inspect(start + noise)


def outcome(data: bytes) -> Header | str:
    """The header of a photo that decodes as it says, or the reason why it doesn't."""
    try:
        header = inspect(data)
        image = decode(data, max_pixels=20_000_000)
    except ImageError as error:
        return error.reason
    assert (image.mode, image.size) == ("RGB", header.upright_px)
    return header


def test_hostile_files_give_a_header_or_a_reason(shared: Path) -> None:
    files = [path for path in sorted((shared / "nasty").rglob("*")) if path.is_file()]
    ends = [outcome(path.read_bytes()) for path in files]
    assert all(ends), "a reason is empty"
    assert sum(isinstance(end, Header) for end in ends) > 400
