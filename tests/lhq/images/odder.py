"""More odd pictures for the table of `odd`: chunks that are wrong, late or doubled; JPEGs by their markers and
components; profiles of every kind; how a file says which way is up."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tests.lhq.images import profiles
from tests.lhq.images.odd import (
    INDICES,
    P3,
    PALETTE,
    SIZE,
    SRGB_CHUNK,
    chrm,
    chunk,
    flat,
    gama,
    iccp,
    interlaced,
    jpeg,
    png,
    profile,
    ramp,
    saved,
)

STEEP = profile(1.0, P3)  # far from sRGB, so that it shows whether it is used
SHORT_PALETTE = chunk(b"PLTE", PALETTE[8 : 8 + 12])


def pictures() -> dict[str, bytes]:
    """Name → file."""
    return _chunks() | _cicp() | _interlaced() | _png_profiles() | _jpegs() | _webps() | _turned()


def _key(*samples: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(samples)}H", *samples))


def _spoiled(whole: bytes) -> bytes:
    """A chunk of a wrong checksum."""
    return whole[:-1] + bytes([whole[-1] ^ 1])


def _chunks() -> dict[str, bytes]:
    grey, rgb = ramp(255, 1), ramp(255, 3)
    alphas = chunk(b"tRNS", bytes(range(0, 256, 4)))
    few = chunk(b"PLTE", PALETTE[8 : 8 + 3 * 40])
    one = chunk(b"fcTL", struct.pack(">5I2H2B", 0, SIZE, SIZE, 0, 0, 1, 10, 0, 0))
    negative = struct.pack(">8i", 31_270, 32_900, 73_470, 26_530, 0, 100_000, 10, -7_700)
    return {
        "grey 1, tRNS": png("grey", 1, ramp(1, 1), _key(0)),
        "grey 4, gAMA 1, tRNS": png("grey", 4, ramp(15, 1), gama(1.0), _key(7)),
        "grey 8, tRNS above 255": png("grey", 8, grey, _key(0x100 + int(grey[3, 5, 0]))),
        "rgb 8, tRNS above 255": png("rgb", 8, rgb, _key(*(0x700 + int(value) for value in rgb[4, 9]))),
        "palette, gAMA 1, tRNS": png("palette", 8, INDICES, gama(1.0), PALETTE, alphas),
        "palette, tRNS short": png("palette", 8, INDICES, PALETTE, chunk(b"tRNS", bytes(range(0, 40, 4)))),
        "palette, tRNS before it": png("palette", 8, INDICES, alphas, PALETTE),
        "palette too short": png("palette", 8, INDICES, few),
        "palette 1": png("palette", 1, INDICES % 2, chunk(b"PLTE", bytes([200, 30, 60, 10, 220, 90]))),
        "palette 2, tRNS": png("palette", 2, INDICES % 4, SHORT_PALETTE, chunk(b"tRNS", b"\x40\xc0")),
        "palette 2, cHRM P3": png("palette", 2, INDICES % 4, gama(0.45455), chrm(P3), SHORT_PALETTE),
        "sBIT 5": png("rgb", 8, rgb, chunk(b"sBIT", b"\5\6\5")),
        "bKGD": png("rgb+alpha", 8, ramp(255, 4), chunk(b"bKGD", struct.pack(">3H", 255, 0, 0))),
        "cHRM P3, gAMA 1/2.2": png("rgb", 8, rgb, gama(0.45455), chrm(P3)),
        "cHRM P3, gAMA 1, 16": png("rgb", 16, ramp(65_535, 3), gama(1.0), chrm(P3)),
        "cHRM P3, gAMA 1, grey+alpha": png("grey+alpha", 8, ramp(255, 2), gama(1.0), chrm(P3)),
        "cHRM of white E": png("rgb", 8, rgb, gama(0.45455), chrm((1 / 3, 1 / 3, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06))),
        "cHRM below 0, gAMA 1": png("rgb", 8, rgb, gama(1.0), chunk(b"cHRM", negative)),
        "gAMA after the palette": png("palette", 8, INDICES, PALETTE, gama(1.0)),
        "gAMA twice": png("rgb", 8, rgb, gama(0.6), gama(1.0)),
        "gAMA 20": png("rgb", 8, rgb, gama(20.0)),
        "gAMA of five bytes": png("rgb", 8, rgb, chunk(b"gAMA", struct.pack(">IB", 100_000, 0))),
        "gAMA 1, grey+alpha 16": png("grey+alpha", 16, ramp(65_535, 2), gama(1.0)),
        "gAMA spoiled": png("rgb", 8, rgb, _spoiled(gama(1.0))),
        "iCCP spoiled": png("rgb", 8, rgb, _spoiled(iccp(STEEP))),
        "tRNS spoiled": png("grey", 8, grey, _spoiled(_key(int(grey[3, 5, 0])))),
        "sRGB spoiled, gAMA 1": png("rgb", 8, rgb, _spoiled(SRGB_CHUNK), gama(1.0)),
        "sRGB of intent 9, gAMA 1": png("rgb", 8, rgb, chunk(b"sRGB", b"\x09"), gama(1.0)),
        "comment spoiled": png("rgb", 8, rgb, _spoiled(chunk(b"zTXt", b"a\0\0b"))),
        "comment broken": png("rgb", 8, rgb, chunk(b"zTXt", b"a\0\0broken")),
        "acTL of one": png("rgb", 8, rgb, chunk(b"acTL", struct.pack(">II", 1, 0)), one),
    }


def _cicp() -> dict[str, bytes]:
    codes = {
        "BT.709": (1, 1),
        "BT.2020": (9, 14),
        "linear": (1, 8),
        "470M": (4, 4),
        "470BG": (5, 5),
        "170M": (6, 6),
        "240M": (7, 7),
        "film": (8, 1),
        "XYZ": (10, 8),
        "P3 of cinemas": (11, 13),
        "3213": (22, 1),
        "xvYCC": (1, 11),
        "unknown": (2, 2),
        "logarithmic": (1, 9),
    }
    rgb = ramp(255, 3)
    found = {f"cICP {name}": png("rgb", 8, rgb, chunk(b"cICP", bytes([*code, 0, 1]))) for name, code in codes.items()}
    of_p3 = chunk(b"cICP", bytes([12, 13, 0, 1]))
    return found | {
        "cICP of limited range": png("rgb", 8, rgb, chunk(b"cICP", bytes([12, 13, 0, 0]))),
        "cICP P3, 16": png("rgb", 16, ramp(65_535, 3), of_p3),
        "cICP P3, palette, tRNS": png("palette", 8, INDICES, of_p3, PALETTE, chunk(b"tRNS", bytes(range(0, 256, 4)))),
        "cICP over iCCP": png("rgb", 8, rgb, of_p3, iccp(profile(1.0))),
        "cICP linear, grey": png("grey", 8, ramp(255, 1), chunk(b"cICP", bytes([12, 8, 0, 1]))),
    }


def _interlaced() -> dict[str, bytes]:
    near = flat([[0x8040, 9, 9], [0x8041, 9, 9], [1, 2, 3], [65_535, 0, 0x7FFF]])
    kinds = {"grey": 1, "rgb": 3, "grey+alpha": 2, "rgb+alpha": 4}
    deep = {f"interlaced, {name} 16": interlaced(name, 16, ramp(65_535, num)) for name, num in kinds.items()}
    return deep | {
        "interlaced, rgb 16, tRNS": interlaced("rgb", 16, near, _key(0x8040, 9, 9)),
        "interlaced, grey 16, tRNS": interlaced("grey", 16, near[..., :1], _key(0x8040)),
        "interlaced, rgb 16, iCCP": interlaced("rgb", 16, ramp(65_535, 3), iccp(STEEP)),
        "interlaced, grey 4, tRNS": interlaced("grey", 4, ramp(15, 1), _key(7)),
        "interlaced, palette 2, tRNS": interlaced(
            "palette", 2, INDICES % 4, SHORT_PALETTE, chunk(b"tRNS", b"\x40\xc0")
        ),
    }


def _png_profiles() -> dict[str, bytes]:
    rgb, of_one = ramp(255, 3), profile(1.0, None)
    bare = profiles.packed(profiles.about(), b"RGB ")
    srgb = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curves = {
        "para 0": profiles.parametric(0, 1.8),
        "para 1": profiles.parametric(1, 1.8, 1.1, -0.1),
        "para 2": profiles.parametric(2, 1.8, 1.05, -0.08, 0.02),
        "para 3": profiles.parametric(3, *srgb),
        "para 4, black above 0": profiles.parametric(4, 2.2, 0.95, 0.05, 0.1, 0.05, 0.01, 0.005),
        "table of 2": profiles.table([0, 1]),
        "table of 1024": profiles.table(np.linspace(0, 1, 1024) ** 2.6),
        "table upside down": profiles.table([1, 0]),
    }
    found = {f"iCCP, {name}": png("rgb", 8, rgb, iccp(profiles.of_curve(curve, P3))) for name, curve in curves.items()}
    named = {
        "iCCP named sRGB, linear": profiles.of_curve(profiles.power(1.0), name="Linear sRGB"),
        "iCCP named sRGB, of P3": profiles.of_curve(profiles.power(1.8), P3, name="sRGB IEC61966-2.1"),
        "iCCP of a printer": profiles.of_curve(profiles.parametric(0, 1.4), P3, kind=b"prtr"),
        "iCCP lookup": profiles.rgb_lookup(),
        "iCCP of cmyk on rgb": profiles.cmyk(),
        "iCCP cut short": STEEP[:300],
        "iCCP without curves": bare,
    }
    found |= {name: png("rgb", 8, rgb, iccp(data)) for name, data in named.items()}
    return found | {
        "iCCP without curves, gAMA 1": png("rgb", 8, rgb, iccp(bare), gama(1.0)),
        "iCCP of cmyk on rgb, gAMA 1": png("rgb", 8, rgb, iccp(profiles.cmyk()), gama(1.0)),
        "iCCP of grey on rgb, gAMA 1": png("rgb", 8, rgb, iccp(of_one), gama(1.0)),
        "iCCP of grey on grey+alpha 16": png("grey+alpha", 16, ramp(65_535, 2), iccp(of_one)),
        "iCCP of rgb on grey+alpha": png("grey+alpha", 8, ramp(255, 2), iccp(profile(1.0))),
        "iCCP of grey, para": png("grey", 8, ramp(255, 1), iccp(profiles.of_grey(profiles.parametric(0, 1.4)))),
        "iCCP, tRNS": png("rgb", 8, rgb, iccp(STEEP), _key(*map(int, rgb[4, 9]))),
        "iCCP unpacked badly": png("rgb", 8, rgb, chunk(b"iCCP", b"odd\0\0" + zlib.compress(STEEP)[:-9])),
        "iCCP without a name": png("rgb", 8, rgb, chunk(b"iCCP", b"\0\0" + zlib.compress(STEEP))),
        "iCCP twice": png("rgb", 8, rgb, iccp(STEEP), iccp(profile(1.8))),
        "iCCP after the palette": png("palette", 8, INDICES, PALETTE, iccp(STEEP)),
        "iCCP and sRGB": png("rgb", 8, rgb, iccp(STEEP), SRGB_CHUNK),
    }


# --- JPEG -----------------------------------------------------------------------------------------------------------

Segments = list[tuple[int, bytes]]


def segments(data: bytes) -> tuple[Segments, bytes]:
    """(marker and body of each segment, the scan)."""
    found: Segments = []
    at = 2
    while not found or found[-1][0] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        found.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return found, data[at:]


def joined(parts: Segments, scan: bytes) -> bytes:
    body = b"".join(bytes([0xFF, kind]) + struct.pack(">H", len(data) + 2) + data for kind, data in parts)
    return b"\xff\xd8" + body + scan


def _marked(data: bytes, *first: tuple[int, bytes], without: Sequence[int] = (), ids: bytes = b"") -> bytes:
    """With these segments first, without those of some markers, and with other names for its components."""
    parts, scan = segments(data)
    kept = [(kind, bytearray(body)) for kind, body in parts if kind not in without]
    for kind, body in kept:
        step, start = (3, 6) if kind in {0xC0, 0xC2} else (2, 1)
        for number, id in enumerate(ids):
            if kind in {0xC0, 0xC2, 0xDA}:
                body[start + step * number] = id
    return joined([*first, *((kind, bytes(body)) for kind, body in kept)], scan)


def _adobe(transform: int) -> tuple[int, bytes]:
    return 0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform])


def _icc(data: bytes, num: int = 1) -> Segments:
    step = -(-len(data) // num)
    cut = [data[at : at + step] for at in range(0, len(data), step)]
    return [(0xE2, b"ICC_PROFILE\0" + bytes([number, num]) + part) for number, part in enumerate(cut, 1)]


def _jpegs() -> dict[str, bytes]:
    ycc, rgb, cmyk = jpeg(subsampling=0), jpeg(subsampling=0, keep_rgb=True), jpeg("CMYK")
    jfif, adobe = 0xE0, 0xEE
    three = _icc(STEEP, 3)
    parts, scan = segments(ycc)
    return {
        "jpeg, 4:2:2": jpeg(subsampling="4:2:2"),
        "jpeg, 4:2:0, profile": jpeg(subsampling="4:2:0", icc_profile=profile(1.4, P3)),
        "jpeg, restarts": jpeg(subsampling="4:2:0", restart_marker_blocks=1),
        "jpeg, extended": joined([(0xC1 if kind == 0xC0 else kind, body) for kind, body in parts], scan),
        "jpeg, no marker": _marked(ycc, without=[jfif]),
        "jpeg, no marker, R G B": _marked(rgb, without=[jfif, adobe], ids=b"RGB"),
        "jpeg, no marker, r g b": _marked(ycc, without=[jfif], ids=b"rgb"),
        "jpeg, no marker, 0 1 2": _marked(ycc, without=[jfif], ids=b"\0\1\2"),
        "jpeg, JFIF, R G B": _marked(ycc, ids=b"RGB"),
        "jpeg, Adobe 0": _marked(rgb, _adobe(0), without=[jfif, adobe]),
        "jpeg, Adobe 1, R G B": _marked(ycc, _adobe(1), without=[jfif], ids=b"RGB"),
        "jpeg, Adobe 2 of three": _marked(ycc, _adobe(2), without=[jfif]),
        "jpeg, Adobe cut short": _marked(rgb, (adobe, b"Adobe\0\x64"), without=[jfif, adobe]),
        "jpeg, cmyk without Adobe": _marked(cmyk, without=[adobe]),
        "jpeg, YCCK": _marked(cmyk, _adobe(2), without=[adobe]),
        "jpeg, cmyk, progressive": jpeg("CMYK", progressive=True),
        "jpeg, cmyk, lookup": _marked(cmyk, *_icc(profiles.cmyk())),
        "jpeg, cmyk without Adobe, lookup": _marked(cmyk, *_icc(profiles.cmyk()), without=[adobe]),
        "jpeg, YCCK, lookup": _marked(cmyk, *_icc(profiles.cmyk()), _adobe(2), without=[adobe]),
        "jpeg, cmyk, rgb profile": _marked(cmyk, *_icc(STEEP)),
        "jpeg, cmyk profile": _marked(ycc, *_icc(profiles.cmyk())),
        "jpeg, lookup": _marked(ycc, *_icc(profiles.rgb_lookup())),
        "jpeg, profile named sRGB, linear": _marked(
            ycc, *_icc(profiles.of_curve(profiles.power(1.0), name="sRGB linear"))
        ),
        "jpeg, profile in three": _marked(ycc, *three),
        "jpeg, profile in three, mixed": _marked(ycc, three[2], three[0], three[1]),
        "jpeg, profile in three, one lost": _marked(ycc, three[0], three[2]),
        "jpeg, profile in three, one twice": _marked(ycc, three[0], *three),
        "jpeg, two profiles": _marked(ycc, *_icc(STEEP), *_icc(profile(1.8))),
        "jpeg, profile 0 of 0": _marked(ycc, (0xE2, b"ICC_PROFILE\0\0\0" + STEEP)),
        "jpeg, profile cut short": _marked(ycc, *_icc(STEEP[:250])),
        "jpeg, thumbnails": _marked(
            ycc, (jfif, b"JFIF\0\1\1\0\0\1\0\1\2\2" + bytes(12)), (jfif, b"JFXX\0\x10" + jpeg("L")), without=[jfif]
        ),
        "jpeg, another after it": ycc + jpeg("L"),
        "jpeg, fill bytes": b"\xff\xd8\xff\xff" + ycc[2:],
        "jpeg, junk between": joined(parts[:1], b"junk") + joined(parts[1:], scan)[2:],
    }


# --- WebP, and which way is up ----------------------------------------------------------------------------------------


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_picture() -> tuple[bytes, bytes]:
    data = saved("WEBP", lossless=True)
    return b"VP8L", data[20 : 20 + struct.unpack_from("<I", data, 16)[0]]


def extended(flags: int) -> tuple[bytes, bytes]:
    side = (SIZE - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + side + side


def _webps() -> dict[str, bytes]:
    rgba = Image.fromarray(ramp(255, 4).astype(np.uint8), "RGBA")
    linear = profiles.of_curve(profiles.power(1.0), name="sRGB linear")
    return {
        "webp, lossy": saved("WEBP", quality=90),
        "webp, lossy, alpha": saved("WEBP", rgba, quality=95),
        "webp, lossy, alpha, profile": saved("WEBP", rgba, quality=95, icc_profile=STEEP),
        "webp, grey profile": saved("WEBP", lossless=True, icc_profile=profile(1.0, None)),
        "webp, profile named sRGB, linear": saved("WEBP", lossless=True, icc_profile=linear),
        "webp, profile broken": saved("WEBP", lossless=True, icc_profile=b"x" * 300),
        "webp, profile not announced": webp(extended(0), (b"ICCP", STEEP), webp_picture()),
        "webp, profile after the picture": webp(extended(0x20), webp_picture(), (b"ICCP", STEEP)),
        "webp, alpha announced": webp(extended(0x10), webp_picture()),
        "webp, trailing bytes": webp(webp_picture()) + b"junk" * 9,
    }


def exif(orientation: int, order: str = ">", kind: int = 3) -> bytes:
    """A TIFF block of one tag; `kind` 3 is SHORT, 4 LONG."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0] if kind == 3 else [orientation]))
    head = (b"MM" if order == ">" else b"II") + struct.pack(order + "HIH", 42, 8, 1)
    return head + struct.pack(order + "HHI", 0x0112, kind, 1) + value + bytes(4)


def _turned() -> dict[str, bytes]:
    ycc, rgb = jpeg(subsampling=0), ramp(255, 3)
    of_jpeg = {f"jpeg, orientation {n}": _marked(ycc, (0xE1, b"Exif\0\0" + exif(n, "<>"[n % 2]))) for n in range(1, 9)}
    of_png = {f"eXIf {n}": png("rgb", 8, rgb, chunk(b"eXIf", exif(n, "<>"[n % 2]))) for n in range(1, 9)}
    return of_jpeg | {
        **of_png,
        "eXIf twice": png("rgb", 8, rgb, chunk(b"eXIf", exif(6)), chunk(b"eXIf", exif(3))),
        "eXIf spoiled": png("rgb", 8, rgb, _spoiled(chunk(b"eXIf", exif(6)))),
        "jpeg, orientation 9": _marked(ycc, (0xE1, b"Exif\0\0" + exif(9))),
        "jpeg, two EXIF blocks": _marked(ycc, (0xE1, b"Exif\0\0" + exif(6)), (0xE1, b"Exif\0\0" + exif(3))),
        "jpeg, EXIF of another end": _marked(ycc, (0xE1, b"Exif\0\xff" + exif(6))),
        "jpeg, EXIF broken": _marked(ycc, (0xE1, b"Exif\0\0MM\0*\0\0\xff\xff")),
    }
