"""Stored colours → 8-bit sRGB over white, as a browser shows them.

A PNG's colour space is given by the first of these that it has: cICP, an embedded profile, sRGB, gAMA with or without
cHRM (W3C PNG, third edition, 4.3). JPEG and WebP only have the profile. If there is none, or it is unusable, the values
are taken as sRGB. tests/lhq/images/test_colour.py compares the results with Chromium's.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from lhq.images.icc import PRIMARIES, matrix_profile, transfer_curve

_BACKGROUND = (255, 255, 255)
_SRGB_GAMMA = 1 / 2.2
_RENDERING_INTENTS = {b"\0", b"\1", b"\2", b"\3"}
_ICC_SEGMENT = b"ICC_PROFILE\0"
_MAX_PROFILE_BYTES = 16 * 2**20
_GAMMA_TOLERANCE = 0.05  # relative; libpng, and thus every browser, ignores a gamma this close to sRGB's


@dataclass(frozen=True, slots=True)
class ColourSpace:
    """The colour space and colour key of a file.

    `profile` is an ICC profile, embedded or built from the file's parameters; b"" for sRGB. `transparent_colour` is the
    one stored colour that means transparent, in samples of `bits` bits. `gamma_exponent` (linear light = stored **
    exponent) is set if the profile was built from gAMA; 16-bit greys are converted by it before rounding to 8 bits.
    """

    profile: bytes = b""
    gamma_exponent: float = 0.0
    transparent_colour: tuple[int, ...] = ()
    bits: int = 8


def jpeg_profile(segments: Iterable[bytes]) -> bytes:
    """The ICC profile in a JPEG's APP2 segments, whose parts may come in any order; b"" if one is missing or comes
    twice. What follows a complete profile is ignored.

    Source: ICC.1:2022, annex B.4.
    """
    parts: dict[int, bytes] = {}
    for body in segments:
        if not body.startswith(_ICC_SEGMENT) or len(body) < 14:
            continue
        number, total = body[12], body[13]
        if number in parts or not 1 <= number <= total:
            return b""
        parts[number] = body[14:]
        if len(parts) == total:
            return b"".join(part for _, part in sorted(parts.items()))
    return b""


def png_colour_space(chunks: Mapping[bytes, bytes]) -> ColourSpace:
    """The colour space of a PNG.

    Args:
        chunks: from `containers.png_colour_chunks`.
    """
    colour, bits = chunks[b"IHDR"][9], chunks[b"IHDR"][8]
    key = chunks.get(b"tRNS", b"") if colour in {0, 2} else b""
    transparent_colour = struct.unpack(f">{len(key) // 2}H", key[: len(key) // 2 * 2])
    if len(transparent_colour) != (1 if colour == 0 else 3):
        transparent_colour = ()
    transparent_colour = tuple(sample & 2**bits - 1 for sample in transparent_colour)
    return ColourSpace(*_profile_and_exponent(chunks, "L" if colour in {0, 4} else "RGB"), transparent_colour, bits)


def _profile_and_exponent(chunks: Mapping[bytes, bytes], mode: str) -> tuple[bytes, float]:
    """(ICC profile, gamma exponent); b"" for sRGB, 0.0 unless the profile was made from gAMA."""
    cicp = chunks.get(b"cICP", b"")
    if len(cicp) == 4 and cicp[0] in PRIMARIES and cicp[2:] == b"\0\1":
        curve = transfer_curve(cicp[1])
        if curve is not None:
            return b"" if cicp[0] == 1 and cicp[1] == 13 else matrix_profile(PRIMARIES[cicp[0]], curve), 0.0
    embedded = _png_profile(chunks.get(b"iCCP", b""))
    if embedded and _is_usable_profile(embedded, mode):
        return embedded, 0.0
    if chunks.get(b"sRGB", b"") in _RENDERING_INTENTS or len(chunks.get(b"gAMA", b"")) != 4:
        return b"", 0.0
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100_000
    if not gamma:
        return b"", 0.0
    if len(chunks.get(b"cHRM", b"")) == 32:
        primaries = tuple(xy / 100_000 for xy in struct.unpack(">8I", chunks[b"cHRM"]))
        try:
            return matrix_profile(primaries, 1 / gamma), 1 / gamma
        except ValueError:  # degenerate primaries: browsers then ignore the gamma as well
            return b"", 0.0
    if abs(gamma / _SRGB_GAMMA - 1) < _GAMMA_TOLERANCE:
        return b"", 0.0
    return matrix_profile(PRIMARIES[1], 1 / gamma), 1 / gamma


def _png_profile(iccp: bytes) -> bytes:
    """The profile in the data of iCCP; b"" if that is invalid."""
    name, _, rest = iccp.partition(b"\0")
    if not 1 <= len(name) <= 79 or rest[:1] != b"\0":
        return b""
    decompressor = zlib.decompressobj()
    try:
        profile = decompressor.decompress(rest[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile if decompressor.eof else b""


def to_srgb(image: Image.Image, space: ColourSpace) -> Image.Image:
    """Convert to sRGB (mode `RGB`) by the profile, then composite transparent pixels over white."""
    colours, alpha = _split_alpha(image, space)
    is_converted = image.mode.startswith("I") and space.gamma_exponent > 0
    rgb = colours.convert("RGB") if is_converted else _apply_profile(colours, space.profile)
    if alpha is None or alpha.getextrema() == (255, 255):
        return rgb
    rgb.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgb.size, (*_BACKGROUND, 255)), rgb).convert("RGB")


def _split_alpha(image: Image.Image, space: ColourSpace) -> tuple[Image.Image, Image.Image | None]:
    """(colours as `L`, `RGB` or `CMYK`; alpha as `L`, or None if every pixel is opaque)."""
    if image.mode == "F" or image.mode.startswith("I"):
        tones = np.asarray(image).clip(0, 65_535).astype(np.uint16)
        greys = _grey_lookup_table(space.gamma_exponent)[tones] if space.gamma_exponent else to_8_bit(tones)
        opaque = (
            np.where(tones == space.transparent_colour[0], 0, 255).astype(np.uint8)
            if space.transparent_colour
            else None
        )
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
    return image, _colour_key_alpha(image, space) if space.transparent_colour and space.bits <= 8 else None


def to_8_bit(tones: np.ndarray) -> np.ndarray:
    """uint16 → uint8, rounded."""
    return ((tones.astype(np.uint32) + 128) // 257).astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _grey_lookup_table(gamma_exponent: float) -> np.ndarray:
    """Lookup table from 16-bit grey to 8-bit sRGB: uint8 [65536]. Source: IEC 61966-2-1."""
    light = (np.arange(65_536) / 65_535) ** gamma_exponent
    return np.round(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).astype(
        np.uint8
    )


def _colour_key_alpha(image: Image.Image, space: ColourSpace) -> Image.Image:
    """Alpha as `L`: 0 where a pixel has the transparent colour, else 255."""
    scale = 255 // (2**space.bits - 1)
    key = np.array(space.transparent_colour, np.int64) * scale
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    return Image.fromarray(np.where((pixels == key).all(axis=2), 0, 255).astype(np.uint8))


# --- profiles ---------------------------------------------------------------------------------------------------


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert to sRGB (mode `RGB`) by the profile, unless it is unusable or of another colour model."""
    model = _profile_colour_model(profile) if profile else ""
    if image.mode == "L" and model == "RGB ":
        image = image.convert("RGB")
    if model != {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}[image.mode]:
        return image if image.mode == "RGB" else image.convert("RGB")
    transform = _transform(profile, image.mode).from_profile
    if transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "RGB":
        ImageCms.applyTransform(image, transform, inPlace=True)
        return image
    return ImageCms.applyTransform(image, transform) or image.convert("RGB")


def _is_usable_profile(profile: bytes, mode: str) -> bool:
    """Whether an ICC profile can be parsed and, if it is for this colour model, converted from."""
    model = _profile_colour_model(profile)
    if model not in {"RGB ", "GRAY"} or (model == "GRAY" and mode == "RGB"):
        return bool(model)
    return _transform(profile, "L" if model == "GRAY" else "RGB").is_usable


@functools.lru_cache(maxsize=16)
def _profile_colour_model(profile: bytes) -> str:
    """The colour model of an ICC profile (`RGB `, `GRAY`, `CMYK` …), or "" if it can't be parsed."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return ""
    return str(opened.profile.xcolor_space)


@dataclass(frozen=True, slots=True)
class _Transform:
    """The transform from a profile to sRGB; None if it changes nothing, or if it can't be made (browsers ignore such
    profiles)."""

    from_profile: ImageCms.ImageCmsTransform | None
    is_usable: bool


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> _Transform:
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # LittleCMS's optimised grey curves are off by 10 of 255 levels in the shadows.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        # Of version 4, LittleCMS maps the black of perceptual conversions to zero; browsers keep that of curves.
        intent = (
            ImageCms.Intent.RELATIVE_COLORIMETRIC if opened.profile.is_matrix_shaper else ImageCms.Intent.PERCEPTUAL
        )
        made = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags)
        return _Transform(None if _changes_nothing(made, mode) else made, True)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return _Transform(None, False)


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether every colour stays as it is, within one level: sRGB itself, whatever it is called."""
    if mode == "CMYK":
        return False
    tones: np.ndarray = np.arange(256, dtype=np.uint8)[None]
    if mode == "RGB":
        few = tones[0, ::15]
        tones = np.stack(np.meshgrid(few, few, few), axis=-1).reshape(-1, len(few), 3)
    found = ImageCms.applyTransform(Image.fromarray(tones), transform)
    wanted = tones if mode == "RGB" else np.repeat(tones[:, :, None], 3, axis=2)
    return found is not None and int(np.abs(np.asarray(found).astype(int) - wanted).max()) <= 1
