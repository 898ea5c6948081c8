"""Memory of a worker that measures one picture of the largest size that the door lets in, kind by kind.

    python benchmarks/picture_memory.py [--only WORD]

Each file is made just below its cap (200 megapixels, or what a decoder must hold whole: 400 MB), measured by `size` and
`duplicates` in a process of its own, and the process's peak memory is read from /proc (Linux). Beside it Pillow as it
is commonly used for the same: open, `draft` where there is one, convert to RGB, shrink to 96 px; nan where that fails
(its scaled decoder writes beyond its memory on a lossless JPEG).
Floor: 600 MB, the bytes of the file and the interpreter included. HEIC, AVIF and JPEG of other codings or depths
are no kinds of it: the door refuses them by name. GIF, BMP and TIFF, which only a folder given to `alis train` may
hold, are decoded as the trainer does at 256 px.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import small
from PIL import Image
from plain_pictures import arithmetic_jpeg, lossless_jpeg, png

RESULT = Path(__file__).parent / "results/picture_memory.json"
FLOOR_MB = 600

OURS = """
import sys
from pathlib import Path
from lhq.images import inspect
from lhq.measures.duplicates import Duplicates, DuplicatesSettings
from lhq.measures.size import Size, SizeSettings
from lhq.records import Photo
data = Path(sys.argv[1]).read_bytes()
header = inspect(data)
photo = Photo("x:1", data, header.width_px, header.height_px, header.orientation, header.format, header.sha256)
facts = Size(SizeSettings()).measure([photo]).to_pylist()[0]
Duplicates(DuplicatesSettings()).measure([photo])
print(facts["error"] or "measured")
"""
TRAINER = """
import sys
from pathlib import Path
from alis.data.decode import open_picture
open_picture(Path(sys.argv[1]).read_bytes(), 256)
print("measured")
"""
PILLOW = """
import sys
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
image = Image.open(sys.argv[1])
image.draft("RGB", (192, 192))
image = image.convert("RGB")
image.thumbnail((192, 192))
print("measured")
"""
PEAK = 'print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])\n'


def picture(mode: str, megapixels: float) -> Image.Image:
    """A smooth picture: what is measured is memory, not how well noise is packed."""
    side = int((megapixels * 1e6) ** 0.5)
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    grey = Image.fromarray(np.broadcast_to(ramp, (side, side)).copy())
    if mode == "I;16":
        return Image.fromarray(np.broadcast_to(ramp.astype(np.uint16) * 257, (side, side)).copy())
    return grey if mode == "L" else Image.merge(mode, [grey] * len(mode))


def saved(format: str, mode: str, megapixels: float, **options: object) -> Callable[[], bytes]:
    def make() -> bytes:
        sink = io.BytesIO()
        picture(mode, megapixels).save(sink, format, **options)
        return sink.getvalue()

    return make


TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6
# The decoders' own caps, as docs/filter.md has them: the largest file of each kind that is not refused.
CASES: dict[str, Callable[[], bytes]] = {
    "JPEG, baseline, 199 MP": saved("JPEG", "RGB", 199, quality=80),
    "JPEG, baseline, turned, 199 MP": saved("JPEG", "RGB", 199, quality=80, exif=TURNED),
    "JPEG, progressive 4:2:0, 132 MP": saved("JPEG", "RGB", 132, quality=80, progressive=True),
    "JPEG, progressive 4:4:4, 66 MP": saved("JPEG", "RGB", 66, quality=80, progressive=True, subsampling=0),
    "JPEG, CMYK, 66 MP": saved("JPEG", "CMYK", 66, quality=80),
    "PNG, RGBA, 178 MP": saved("PNG", "RGBA", 178, compress_level=1),
    "PNG, RGB, 199 MP": saved("PNG", "RGB", 199, compress_level=1),
    "PNG, 16-bit grey, 199 MP": saved("PNG", "I;16", 199, compress_level=1),
    "PNG, palette, 199 MP": saved("PNG", "L", 199, compress_level=1),
    "WebP, lossy, 33 MP": saved("WEBP", "RGB", 33, quality=75, method=0),
    "JPEG, lossless, 93 MP": lossless_jpeg(93),
    "JPEG, lossless, turned, 90 MP": lossless_jpeg(90, b"\xff\xe1\0\x22" + TURNED),
    "JPEG, arithmetic, 90 MP": arithmetic_jpeg(90),
    "JPEG, progressive arithmetic, 38 MP": arithmetic_jpeg(38, is_progressive=True),
    "PNG, 16-bit RGBA, 199 MP": png(199, 16, 6),
    "PNG, interlaced RGB, 90 MP": png(90, 8, 2, is_interlaced=True),
    "PNG, interlaced 16-bit RGBA, 49 MP": png(49, 16, 6, is_interlaced=True),
    "PNG, interlaced 16-bit grey, 190 MP": png(190, 16, 0, is_interlaced=True),
    "WebP, lossless, 28 MP": saved("WEBP", "RGBA", 28, lossless=True, method=0, quality=0),
}
# Of these the file counts too: 540 MB with the pixels.
TRAINER_CASES: dict[str, Callable[[], bytes]] = {
    "BMP, RGB, 75 MP": saved("BMP", "RGB", 75),
    "BMP, grey, 199 MP": saved("BMP", "L", 199),
    "GIF, 199 MP": saved("GIF", "L", 199),
    "TIFF, RGB, 75 MP": saved("TIFF", "RGB", 75),
    "TIFF, RGB, turned, 45 MP": saved("TIFF", "RGB", 45, tiffinfo={274: 6}),
    "TIFF, RGB, deflate, 130 MP": saved("TIFF", "RGB", 130, compression="tiff_deflate"),
    "TIFF, RGB, deflate in one strip, 66 MP": saved(
        "TIFF", "RGB", 66, compression="tiff_deflate", tiffinfo={278: 100_000}
    ),
    "TIFF, CMYK, LZW, 110 MP": saved("TIFF", "CMYK", 110, compression="tiff_lzw"),
    "TIFF, 16-bit grey, 130 MP": saved("TIFF", "I;16", 130),
    "TIFF, JPEG, 130 MP": saved("TIFF", "RGB", 130, compression="jpeg"),
}


def peak(code: str, path: Path) -> tuple[float, str]:
    """(MB, what it said) of a fresh process."""
    done = subprocess.run([sys.executable, "-c", code + PEAK, path], capture_output=True, text=True, check=False)
    if done.returncode:
        return float("nan"), (done.stderr.strip().splitlines() or ["killed"])[-1]
    said, kilobytes = done.stdout.split()[-2:]
    return int(kilobytes) / 1024, said


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", default="", help="kinds whose name holds this word")
    asked = small.parse(parser)
    rows = {}
    print(f"{'':38} {'file MB':>8} {'lhq MB':>8} {'Pillow MB':>10}")
    for name, make in (CASES | TRAINER_CASES).items():
        if asked.only not in name or (asked.quick and rows):  # --quick: the first kind alone
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture"
            path.write_bytes(make())
            code = TRAINER if name in TRAINER_CASES else OURS
            (mine, said), (theirs, _) = peak(code, path), peak(PILLOW, path)
            file_mb = path.stat().st_size / 1e6
        rows[name] = {
            "file_mb": round(file_mb, 1),
            "lhq_mb": None if math.isnan(mine) else round(mine),
            "pillow_mb": None if math.isnan(theirs) else round(theirs),
            "said": said,
        }
        print(f"{name:38} {file_mb:8.1f} {mine:8.0f} {theirs:10.0f}   {said}", flush=True)
    most = max(row["lhq_mb"] or 0 for row in rows.values())
    is_measured = all(row["said"] == "measured" for row in rows.values())
    print(f"most: {most} MB, floor {FLOOR_MB} MB")
    if not asked.only:
        result = {
            "date": time.strftime("%Y-%m-%d"),
            "hardware": platform.machine(),
            "floor_mb": FLOOR_MB,
            "most_mb": most,
            "rows": rows,
        }
        (asked.results / RESULT.name).write_text(json.dumps(result, indent=1) + "\n")
    return 0 if most <= FLOOR_MB and is_measured else 1


if __name__ == "__main__":
    sys.exit(main())
