"""Odd pictures, made byte by byte: every way in which the three formats can say what colour a number is.

`python -m tests.lhq.images.odd` shows each to Chromium and writes what it painted to `chromium.json`, which
`test_colour.py` holds our pixels against.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

RECORDED = Path(__file__).with_name("chromium.json")
SIZE = 16
COLOURS = {"grey": 0, "rgb": 2, "palette": 3, "grey+alpha": 4, "rgb+alpha": 6}
SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
SWAPPED = (0.3127, 0.329, 0.15, 0.06, 0.3, 0.6, 0.64, 0.33)
WIDE = (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)
P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(colour: str, bits: int, samples: np.ndarray, *extra: bytes) -> bytes:
    """A PNG of `samples` [h, w, channels], unfiltered; `extra` are chunks between IHDR and IDAT."""
    return _file(colour, bits, samples, _scanlines(bits, samples), extra, interlace=0)


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def interlaced(colour: str, bits: int, samples: np.ndarray, *extra: bytes) -> bytes:
    """`png` in Adam7: seven passes, each a small picture of its own."""
    passes = [samples[top::down, left::across] for top, left, down, across in ADAM7]
    raw = b"".join(_scanlines(bits, part) for part in passes if part.size)
    return _file(colour, bits, samples, raw, extra, interlace=1)


def _scanlines(bits: int, samples: np.ndarray) -> bytes:
    height = len(samples)
    if bits == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    elif bits == 8:
        rows = samples.astype(np.uint8).reshape(height, -1)
    else:
        of_bits = (samples[..., 0, None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(of_bits.reshape(height, -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def _file(colour: str, bits: int, samples: np.ndarray, raw: bytes, extra: Sequence[bytes], *, interlace: int) -> bytes:
    height, width, _ = samples.shape
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, COLOURS[colour], 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def chrm(places: Sequence[float]) -> bytes:
    """White, red, green and blue as x, y."""
    return chunk(b"cHRM", struct.pack(">8I", *(round(place * 100_000) for place in places)))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"odd\0\0" + zlib.compress(profile))


SRGB_CHUNK = chunk(b"sRGB", b"\0")


def profile(gamma: float, places: Sequence[float] | None = SRGB) -> bytes:
    """A small ICC profile (version 2): matrix and one gamma for three channels, or a grey curve where `places` is None.

    Source: ICC.1:2001-04, sections 6.1 and 6.3; adaptation to D50 by Bradford's matrix.
    """
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 4) + b"odd\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"-\0",
    }
    tags[b"wtpt"] = _xyz([0.9642, 1.0, 0.8249])
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    if places is None:
        tags[b"kTRC"] = curve
    else:
        for name, column in zip("rgb", to_d50(places).T, strict=True):
            tags[f"{name}XYZ".encode()] = _xyz(column)
            tags[f"{name}TRC".encode()] = curve
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = (
        struct.pack(">I4xI", at + len(body), 0x02100000) + b"mntr" + (b"GRAY" if places is None else b"RGB ") + b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def to_d50(places: Sequence[float]) -> np.ndarray:
    """Linear RGB → XYZ at D50, [3, 3]."""
    points = np.array([[x, y, 1 - x - y] for x, y in np.reshape(places, (4, 2))]).T
    white = points[:, 0] / points[1, 0]
    matrix = points[:, 1:] * np.linalg.solve(points[:, 1:], white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ white)) @ bradford
    found: np.ndarray = adapt @ matrix
    return found


def _xyz(values: Sequence[float] | np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


# --- what is painted --------------------------------------------------------------------------------------------


def ramp(top: int, channels: int) -> np.ndarray:
    """[16, 16, channels]: every tone, and in colour every mixture of few."""
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1)
    planes = [x, y, (x + 2 * y) / 3, 1 - x * y][:channels] if channels > 2 else [x * 0.7 + y * 0.3, 1 - y][:channels]
    return np.round(np.stack(planes, axis=-1) * top).astype(np.int64)


def flat(values: Sequence[Sequence[int]]) -> np.ndarray:
    """[16, 16, channels]: four fields of one colour each."""
    fields = np.array(values).reshape(2, 2, -1)
    return fields.repeat(SIZE // 2, axis=0).repeat(SIZE // 2, axis=1)


PALETTE = chunk(b"PLTE", bytes(ramp(255, 3)[:, ::4].reshape(-1).astype(np.uint8)))
INDICES = np.arange(SIZE * SIZE).reshape(SIZE, SIZE, 1) % 64


def saved(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    sink = io.BytesIO()
    (image or Image.fromarray(ramp(255, 3).astype(np.uint8))).save(sink, kind, **options)
    return sink.getvalue()


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    return saved("JPEG", Image.fromarray(ramp(255, 3).astype(np.uint8)).convert(mode), quality=95, **options)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def pictures() -> dict[str, bytes]:
    """Name → file."""
    grey8, grey16, rgb8, rgb16 = ramp(255, 1), ramp(65_535, 1), ramp(255, 3), ramp(65_535, 3)
    rgba = Image.fromarray(ramp(255, 4).astype(np.uint8), "RGBA")
    near = flat([[0x8040], [0x8041], [0x10FF], [0xFF80]])
    found = {
        "grey 1": png("grey", 1, ramp(1, 1)),
        "grey 2": png("grey", 2, ramp(3, 1)),
        "grey 4": png("grey", 4, ramp(15, 1)),
        "grey 8": png("grey", 8, grey8),
        "grey 16": png("grey", 16, grey16),
        "rgb 8": png("rgb", 8, rgb8),
        "rgb 16": png("rgb", 16, rgb16),
        "palette": png("palette", 8, INDICES, PALETTE),
        "palette 4": png("palette", 4, INDICES % 16, PALETTE),
        "grey+alpha 8": png("grey+alpha", 8, ramp(255, 2)),
        "grey+alpha 16": png("grey+alpha", 16, ramp(65_535, 2)),
        "rgb+alpha 8": png("rgb+alpha", 8, ramp(255, 4)),
        "rgb+alpha 16": png("rgb+alpha", 16, ramp(65_535, 4)),
        "interlaced": interlaced("rgb", 8, ramp(255, 3)),
        # a colour that means transparent
        "grey 2, tRNS": png("grey", 2, ramp(3, 1), chunk(b"tRNS", b"\0\1")),
        "grey 8, tRNS": png("grey", 8, grey8, chunk(b"tRNS", struct.pack(">H", int(grey8[3, 5, 0])))),
        "grey 16, tRNS": png("grey", 16, near, chunk(b"tRNS", struct.pack(">H", 0x8040))),
        "rgb 8, tRNS": png("rgb", 8, rgb8, chunk(b"tRNS", struct.pack(">3H", *map(int, rgb8[4, 9])))),
        "rgb 16, tRNS": png(
            "rgb",
            16,
            flat([[0x8040, 9, 9], [0x8041, 9, 9], [1, 2, 3], [65535, 0, 0x7FFF]]),
            chunk(b"tRNS", struct.pack(">3H", 0x8040, 9, 9)),
        ),
        "palette, tRNS": png("palette", 8, INDICES, PALETTE, chunk(b"tRNS", bytes(range(0, 256, 4)))),
        # gamma and primaries
        "gAMA 1, grey": png("grey", 8, grey8, gama(1.0)),
        "gAMA 1, grey 16": png("grey", 16, grey16, gama(1.0)),
        "gAMA 1, rgb": png("rgb", 8, rgb8, gama(1.0)),
        "gAMA 1, rgb 16": png("rgb", 16, rgb16, gama(1.0)),
        "gAMA 1, rgb+alpha": png("rgb+alpha", 8, ramp(255, 4), gama(1.0)),
        "gAMA 1, grey+alpha": png("grey+alpha", 8, ramp(255, 2), gama(1.0)),
        "gAMA 1, palette": png("palette", 8, INDICES, gama(1.0), PALETTE),
        "gAMA 1, grey 16, tRNS": png("grey", 16, near, gama(1.0), chunk(b"tRNS", struct.pack(">H", 0x8040))),
        "gAMA 1/2.2": png("rgb", 8, rgb8, gama(0.45455)),
        "gAMA 0.5": png("rgb", 8, rgb8, gama(0.5)),
        "gAMA 0.55": png("rgb", 8, rgb8, gama(0.55)),
        "gAMA 0.2": png("rgb", 8, rgb8, gama(0.2)),
        "gAMA 0": png("rgb", 8, rgb8, gama(0.0)),
        "gAMA 1, sRGB": png("rgb", 8, rgb8, SRGB_CHUNK, gama(1.0)),
        "cHRM of sRGB, gAMA 1/2.2": png("rgb", 8, rgb8, gama(0.45455), chrm(SRGB)),
        "cHRM swapped": png("rgb", 8, rgb8, chrm(SWAPPED)),
        "cHRM swapped, palette": png("palette", 8, INDICES, chrm(SWAPPED), PALETTE),
        "cHRM swapped, gAMA 1/2.2": png("rgb", 8, rgb8, gama(0.45455), chrm(SWAPPED)),
        "cHRM swapped, gAMA, palette": png("palette", 8, INDICES, gama(0.45455), chrm(SWAPPED), PALETTE),
        "cHRM swapped, sRGB": png("rgb", 8, rgb8, SRGB_CHUNK, gama(0.45455), chrm(SWAPPED)),
        "cHRM wide, gAMA 1": png("rgb", 8, rgb8, gama(1.0), chrm(WIDE)),
        "cHRM wide, gAMA 0.55, alpha": png("rgb+alpha", 8, ramp(255, 4), gama(0.55), chrm(WIDE)),
        "cHRM wide, gAMA 1, 16": png("rgb", 16, rgb16, gama(1.0), chrm(WIDE)),
        "cHRM swapped, gAMA 1, grey": png("grey", 8, grey8, gama(1.0), chrm(SWAPPED)),
        "cHRM of nothing, gAMA 1": png("rgb", 8, rgb8, gama(1.0), chrm([0.0] * 8)),
        # profiles
        "iCCP gamma 1.8": png("rgb", 8, rgb8, iccp(profile(1.8))),
        "iCCP Adobe": png("rgb", 8, rgb8, iccp(profile(2.2, ADOBE))),
        "iCCP P3, alpha": png("rgb+alpha", 8, ramp(255, 4), iccp(profile(2.2, P3))),
        "iCCP P3, 16": png("rgb", 16, rgb16, iccp(profile(2.2, P3))),
        "iCCP P3, palette": png("palette", 8, INDICES, iccp(profile(2.2, P3)), PALETTE),
        "iCCP over gAMA": png("rgb", 8, rgb8, iccp(profile(2.2, P3)), gama(1.0), chrm(SWAPPED)),
        "iCCP of grey on grey": png("grey", 8, grey8, iccp(profile(1.0, None))),
        "iCCP of grey on grey 16": png("grey", 16, grey16, iccp(profile(1.0, None))),
        "iCCP of rgb on grey": png("grey", 8, grey8, iccp(profile(1.0))),
        "iCCP of grey on rgb": png("rgb", 8, rgb8, iccp(profile(1.0, None))),
        "iCCP broken": png("rgb", 8, rgb8, iccp(b"no profile" * 20)),
        "iCCP broken, gAMA 1": png("rgb", 8, rgb8, iccp(b"no profile" * 20), gama(1.0)),
        "cICP of P3": png("rgb", 8, rgb8, chunk(b"cICP", bytes([12, 13, 0, 1]))),
        "cICP of P3 over gAMA": png("rgb", 8, rgb8, chunk(b"cICP", bytes([12, 13, 0, 1])), gama(1.0)),
        # the other formats
        "jpeg": jpeg(subsampling=0),
        "jpeg, grey": jpeg("L"),
        "jpeg, cmyk": jpeg("CMYK"),
        "jpeg, profile": jpeg(subsampling=0, icc_profile=profile(2.2, P3)),
        "jpeg, grey profile": jpeg("L", icc_profile=profile(1.0, None)),
        "jpeg, rgb profile on grey": jpeg("L", icc_profile=profile(1.0)),
        "jpeg, turned": jpeg(subsampling=0, exif=turned(6)),
        "jpeg, progressive": jpeg(subsampling=0, progressive=True),
        "jpeg, stored as rgb": jpeg(subsampling=0, keep_rgb=True),
        "webp, lossless": saved("WEBP", lossless=True),
        "webp, alpha": saved("WEBP", rgba, lossless=True, exact=True),
        "webp, profile": saved("WEBP", lossless=True, icc_profile=profile(2.2, P3)),
        "webp, profile, alpha": saved("WEBP", rgba, lossless=True, exact=True, icc_profile=profile(1.0)),
    }
    return found


def lossless_jpeg(samples: np.ndarray) -> bytes:
    """A lossless JPEG (SOF3) of `samples` uint8 [h, w, channels]: the sample to the left foretells the next.

    Source: ITU-T T.81, annex H; nine categories of four bits each.
    """
    height, width, parts = samples.shape
    guess = np.empty(samples.shape, np.int64)
    guess[:, 1:], guess[1:, 0], guess[0, 0] = samples[:, :-1], samples[:-1, 0], 128
    bits = []
    for away in (samples - guess).reshape(-1).tolist():
        category = abs(away).bit_length()
        bits.append(f"{category:04b}")
        if category:
            bits.append(f"{away if away > 0 else away + 2**category - 1:0{category}b}")
    coded = "".join(bits)
    coded += "1" * (-len(coded) % 8)
    scan = int(coded, 2).to_bytes(len(coded) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHHB", 8, height, width, parts) + b"".join(bytes([1 + n, 0x11, 0]) for n in range(parts))
    table = b"\0" + bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9))
    start = bytes([parts]) + b"".join(bytes([1 + n, 0]) for n in range(parts)) + b"\1\0\0"
    adobe = b"Adobe\0\x64\0\0\0\0\0"  # these are red, green and blue
    segments = [(0xEE, adobe), (0xC3, frame), (0xC4, table), (0xDA, start)]
    body = b"".join(bytes([0xFF, kind]) + struct.pack(">H", len(data) + 2) + data for kind, data in segments)
    return b"\xff\xd8" + body + scan + b"\xff\xd9"


# 24 x 16 pixels, red 10 x, green 15 y, blue x y; by `cjpeg -arithmetic [-progressive] -quality 90 -sample 1x1`.
ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8X"
    "GBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/yQAR"
    "CAAQABgDAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AOVq7noJwQCqYPetT0p8TXpiRkva7DMYMp9fVRMMoCEyC0n44J7A"
    "dMXQDR8kMXcYgm/qknH7miWNA80mQ0Vgbt8zDhBGI245DReMYqk7+9BIWak9qPWaWq0Fusm52dpx+ctViHzfaiJ+tveQKP0ejKU2ufWLw/oD"
    "KPn9bLoCY4CF4KUI0yYpH9nwCbg1eLNfadjjy6N8rSy4AWP/2Q=="
)
ARITHMETIC_PROGRESSIVE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8X"
    "GBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/ygAR"
    "CAAQABgDAREAAhEBAxEB/8wABgAQARD/2gAMAwEAAhADEAAAAf8Ayu3wdVb/ACh272gIi1JS6fLP2rg/RmD/zAAEEAX/2gAIAQEAAQUCFVN2"
    "qTO8/llb+Fdo3hD/zAAEEQX/2gAIAQMBAT8BFZgVmBGFOVqLO/BLjlbmBXT/zAAEEQX/2gAIAQIBAT8BherGUBiU8vi9vx46sVOdg7gZTLIs"
    "3C8bvHQv5m7U/8wABBAF/9oACAEBAAY/Al4T+IGO/P/MAAQQBf/aAAgBAQABPyGzZ3L3Z5U9PP/aAAwDAQACAAMAAAAQlPP/zAAEEQX/2gAI"
    "AQMBAT8QruDig3cQEHKA/8wABBEF/9oACAECAQE/EDW5n2KbNMjEqnRM51yyy+7HgP/MAAQQBf/aAAgBAQABPxCl4wnbSF/aZRRs5Te5a0A4"
    "wP/Z"
)


# --- what a browser paints --------------------------------------------------------------------------------------

_PAINT = """async address => {
  const image = new Image(); image.src = address; await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.fillStyle = 'white'; context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data, parts = [];
  for (let at = 0; at < pixels.length; at += 8192) parts.push(String.fromCharCode(...pixels.subarray(at, at + 8192)));
  return [canvas.width, canvas.height, btoa(parts.join(''))];
}"""


def painted(files: Mapping[str, bytes], told: Callable[[str], None] = print) -> dict[str, np.ndarray]:
    """What Chromium paints of each file on white: uint8 [h, w, 3]; a file that it refuses is left out."""
    from playwright.sync_api import Error, sync_playwright

    found = {}
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--force-color-profile=srgb", "--disable-gpu"],
        )
        told(f"Chromium {browser.version}")
        page = browser.new_page()
        for name, data in files.items():
            kind = {b"\x89P": "png", b"\xff\xd8": "jpeg", b"RI": "webp"}[data[:2]]
            try:
                width, height, pixels = page.evaluate(
                    _PAINT, f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
                )
            except Error as error:
                told(f"{name}: {str(error).splitlines()[0]}")
                continue
            found[name] = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)[..., :3]
        browser.close()
    return found


def read() -> dict[str, np.ndarray]:
    """What Chromium painted when it was asked last."""
    kept = json.loads(RECORDED.read_text())["pictures"]
    return {
        name: np.frombuffer(zlib.decompress(base64.b64decode(pixels)), np.uint8).reshape(SIZE, SIZE, 3)
        for name, pixels in kept.items()
    }


def every_picture() -> dict[str, bytes]:
    """Those of this file and of `odder`."""
    from tests.lhq.images import odder  # which is built from this file

    more = odder.pictures()
    assert not pictures().keys() & more.keys()
    return pictures() | more


def main() -> None:
    said: list[str] = []
    kept = {
        name: base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode()
        for name, pixels in painted(every_picture(), said.append).items()
    }
    print("\n".join(said))
    RECORDED.write_text(json.dumps({"browser": said[0], "pictures": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
