"""Stored colours → 8-bit sRGB over white, as a browser shows them.

What a PNG's numbers mean is said by, in this order: cICP, an embedded profile, sRGB, gAMA with or without cHRM (W3C
PNG, third edition, 4.3). JPEG and WebP have the profile alone. Where nothing is said, and where what is said can't be
used, the numbers are sRGB. Held to Chromium's pixels by tests/lhq/images/test_colour.py.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from lhq.images.icc import PRIMARIES, curve_of, matrix_profile

_WHITE = (255, 255, 255)
_GAMMA_OF_SRGB = 1 / 2.2
_NEAR = 0.05  # a gamma so near to sRGB's own is left as it is, by libpng and thus by browsers


@dataclass(frozen=True, slots=True)
class Space:
    """What a file says about its colours.

    `profile` is an ICC profile, embedded or made of what the file says; `transparent` the one stored colour that means
    transparent, in the file's own numbers of `bits` bits. `exponent` is that of light over stored value where the
    profile was made of gAMA: greys of 16 bits go through it before they are rounded to 8.
    """

    profile: bytes = b""
    exponent: float = 0.0
    transparent: tuple[int, ...] = ()
    bits: int = 8


def space_of_png(chunks: Mapping[bytes, bytes], embedded: bytes | None) -> Space:
    """What the chunks before IDAT say; `embedded` is the profile of iCCP, unpacked."""
    colour, bits = chunks[b"IHDR"][9], chunks[b"IHDR"][8]
    key = chunks.get(b"tRNS", b"") if colour in {0, 2} else b""
    transparent = struct.unpack(f">{len(key) // 2}H", key[: len(key) // 2 * 2])
    if len(transparent) != (1 if colour == 0 else 3):
        transparent = ()
    return Space(*_meaning(chunks, embedded), transparent, bits)


def _meaning(chunks: Mapping[bytes, bytes], embedded: bytes | None) -> tuple[bytes, float]:
    """(profile, exponent)"""
    cicp = chunks.get(b"cICP", b"")
    if len(cicp) == 4 and cicp[0] in PRIMARIES and cicp[2:] == b"\0\1":
        curve = curve_of(cicp[1])
        if curve is not None:
            return b"" if cicp[0] == 1 and cicp[1] == 13 else matrix_profile(PRIMARIES[cicp[0]], curve), 0.0
    if embedded and is_usable(embedded):
        return embedded, 0.0
    if b"sRGB" in chunks or len(chunks.get(b"gAMA", b"")) != 4:
        return b"", 0.0
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100_000
    if not gamma:
        return b"", 0.0
    if len(chunks.get(b"cHRM", b"")) == 32:
        places = tuple(place / 100_000 for place in struct.unpack(">8I", chunks[b"cHRM"]))
        try:
            return matrix_profile(places, 1 / gamma), 1 / gamma
        except ValueError:  # they span nothing: browsers then leave the gamma, too
            return b"", 0.0
    if abs(gamma / _GAMMA_OF_SRGB - 1) < _NEAR:
        return b"", 0.0
    return matrix_profile(PRIMARIES[1], 1 / gamma), 1 / gamma


def to_srgb(image: Image.Image, space: Space) -> Image.Image:
    """Mode `RGB`: the colours through the profile, then over white where they are transparent."""
    colours, alpha = _apart(image, space)
    is_converted = image.mode.startswith("I") and space.exponent > 0
    rgb = colours.convert("RGB") if is_converted else _converted(colours, space.profile)
    if alpha is None or alpha.getextrema() == (255, 255):
        return rgb
    rgb.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgb.size, (*_WHITE, 255)), rgb).convert("RGB")


def _apart(image: Image.Image, space: Space) -> tuple[Image.Image, Image.Image | None]:
    """The colours as `L`, `RGB` or `CMYK`, and where they are opaque, `L`."""
    if image.mode == "F" or image.mode.startswith("I"):
        tones = np.asarray(image).clip(0, 65_535).astype(np.uint16)
        greys = _srgb_of(space.exponent)[tones] if space.exponent else eight_bits(tones)
        opaque = np.where(tones == space.transparent[0], 0, 255).astype(np.uint8) if space.transparent else None
        return Image.fromarray(greys), None if opaque is None else Image.fromarray(opaque)
    if image.mode in {"P", "PA"}:
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    elif image.mode in {"La", "RGBa"}:
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode in {"LA", "RGBA"}:
        return image.convert("L" if image.mode == "LA" else "RGB"), image.getchannel("A")
    if image.mode not in {"L", "RGB", "CMYK"}:
        image = image.convert("RGB")
    return image, _opaque(image, space) if space.transparent and space.bits <= 8 else None


def eight_bits(tones: np.ndarray) -> np.ndarray:
    """uint16 → uint8, rounded."""
    return ((tones.astype(np.uint32) + 128) // 257).astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _srgb_of(exponent: float) -> np.ndarray:
    """Stored grey of 16 bits → sRGB of 8: uint8 [65536]. Source: IEC 61966-2-1."""
    light = (np.arange(65_536) / 65_535) ** exponent
    return np.round(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).astype(
        np.uint8
    )


def _opaque(image: Image.Image, space: Space) -> Image.Image:
    """`L`: 0 where a pixel has the transparent colour."""
    scale = 255 // (2**space.bits - 1)
    key = np.array(space.transparent, np.int64) * scale
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    return Image.fromarray(np.where((pixels == key).all(axis=2), 0, 255).astype(np.uint8))


# --- profiles ---------------------------------------------------------------------------------------------------


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """`RGB` by way of the profile."""
    space = _space(profile) if profile else ""
    if image.mode == "L" and space == "RGB ":
        image = image.convert("RGB")
    if space != {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}[image.mode]:
        return image if image.mode == "RGB" else image.convert("RGB")
    transform = _transform(profile, image.mode)
    if transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "RGB":
        ImageCms.applyTransform(image, transform, inPlace=True)
        return image
    return ImageCms.applyTransform(image, transform) or image.convert("RGB")


def is_usable(profile: bytes) -> bool:
    """Whether a profile can be read at all."""
    return bool(_space(profile))


@functools.lru_cache(maxsize=16)
def _space(profile: bytes) -> str:
    """The colour model that a profile speaks of, "" where it is broken."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return ""
    return str(opened.profile.xcolor_space)


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Profile → sRGB; None where it is sRGB already, or too broken to use (browsers ignore such too)."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(opened).lower():
            return None
        # Optimised, a curve of grey becomes a table that is 10 of 255 levels off in the shadows.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
