"""Which decoder handles which file. A wrong one corrupts the heap, so each case runs in its own process."""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alis.data.decode import BadImage, decode_into
from lhq.errors import ImageError
from lhq.images import decode, inspect
from lhq.images.decoders import DECODER_SUPPORT, probe_for_simplejpeg, simplejpeg_can_read
from tests.lhq.images import odd

ROOT = Path(__file__).parents[3]
COLOUR = np.random.default_rng(0).integers(0, 256, (149, 227, 3), np.uint8)
# Every reader of pixels there is: the shared preview, decoding at any scale, an export's square, the trainer's batch.
EVERY_READER = """
import sys
from pathlib import Path
import numpy as np
from alis.data.decode import BadImage, decode_into
from lhq.export.layout import Variant
from lhq.export.render import render
from lhq.images import ImageError, decode, inspect
from lhq.measures.preview import preview
from lhq.records import Photo
for path in 3 * sys.argv[1:]:
    data = Path(path).read_bytes()
    header = inspect(data)
    for short in (None, 1, 20, 48, 500):
        decode(data, short_side_px=short)
    seen = preview(Photo("a:1", bytes(bytearray(data)), header.width_px, header.height_px, sha256=header.sha256))
    assert seen.rgbx is not None, seen
    for side in (32, 128):
        render(data, Variant(str(side), side, "jpeg"), 90)
    for side in (64, 128, 256):
        decode_into(data, np.empty((side, side, 3), np.uint8), "resize")
"""


def through_every_reader(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", EVERY_READER, *map(str, files)]
    return subprocess.run(command, capture_output=True, cwd=ROOT, check=False, text=True)


def test_a_lossless_jpeg_is_decoded_exactly_by_every_reader(tmp_path: Path, shared: Path) -> None:
    files = sorted((shared / "cases/pictures").glob("lossless*.jpg"))  # those that once crashed
    for parts in (1, 3):
        data = odd.lossless_jpeg(COLOUR[..., :parts])
        files.append(tmp_path / f"{parts}.jpg")
        files[-1].write_bytes(data)
        assert (inspect(data).coding, probe_for_simplejpeg(data)) == ("lossless", None)
        whole = np.asarray(decode(data))
        assert np.array_equal(whole, np.broadcast_to(COLOUR[..., :parts], whole.shape))
    done = through_every_reader(*files)
    assert done.returncode == 0, done.stderr[-400:]


@pytest.mark.parametrize("data", [odd.ARITHMETIC, odd.ARITHMETIC_PROGRESSIVE])
def test_arithmetic_coding_is_decoded_by_pillow_at_full_size(data: str) -> None:
    packed = base64.b64decode(data)
    header = inspect(packed)
    assert "arithmetic" in header.coding
    assert not simplejpeg_can_read(header.format, header.coding, header.mode)
    y, x = np.mgrid[:16, :24]
    wanted = np.stack([x * 10, y * 15, x * y % 256], axis=-1)
    assert np.abs(np.asarray(decode(packed)).astype(int) - wanted)[:, :16].mean() < 6
    assert decode(packed, short_side_px=4).size == (12, 8)


@pytest.mark.parametrize(
    ("frame", "name"),
    [(0xC5, "hierarchical"), (0xC7, "hierarchical lossless"), (0xCB, "lossless arithmetic"), (0xCF, "hierarchical")],
)
def test_unsupported_codings_are_refused_by_name(frame: int, name: str) -> None:
    data = bytearray(odd.jpeg())
    data[data.index(b"\xff\xc0") + 1] = frame
    with pytest.raises(ImageError, match=f"a {name}.* JPEG") as caught:
        inspect(data)
    assert caught.value.reason == "unsupported-type"


def test_more_than_eight_bits_and_a_second_frame_are_refused() -> None:
    data = bytearray(odd.jpeg())
    at = data.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", data, at + 2)
    with pytest.raises(ImageError, match="two frames"):
        inspect(data[:at] + data[at : at + 2 + length] + data[at:])
    data[at + 4] = 12
    with pytest.raises(ImageError, match="12 bits a sample"):
        inspect(data)


def test_every_coding_that_inspect_accepts_is_in_the_decoder_table() -> None:
    seen = {(inspect(data).format, inspect(data).coding) for data in odd.pictures().values()}
    seen |= {("jpeg", inspect(base64.b64decode(data)).coding) for data in (odd.ARITHMETIC, odd.ARITHMETIC_PROGRESSIVE)}
    seen |= {("jpeg", "lossless"), ("jpeg", "extended"), ("webp", "lossy")}
    assert seen == set(DECODER_SUPPORT)


def refused_for_its_scans(data: bytes) -> None:
    """On arrival, and by the trainer, whose fast path does not ask `inspect`."""
    with pytest.raises(ImageError, match="scans") as caught:
        inspect(data)
    assert caught.value.reason == "too-many-scans"
    side = Image.open(io.BytesIO(data)).width
    with pytest.raises(BadImage, match="scans"):
        decode_into(data, np.empty((side, side, 3), np.uint8), "resize")


def test_hundreds_of_scans_are_refused_and_a_photograph_of_ten_is_not(shared: Path) -> None:
    assert inspect(odd.jpeg(progressive=True)).coding == "progressive"
    data = odd.jpeg(progressive=True)
    at = data.rindex(b"\xff\xda")
    scan = data[at:-2]
    refused_for_its_scans(data[:-2] + scan * 120 + b"\xff\xd9")
    # What follows the picture's end (a film, as phones append one) may hold any bytes.
    assert inspect(data + b"film" + 200 * scan).coding == "progressive"
    case = shared / "cases/pictures/progressive_scans.jpg"
    if case.is_file():
        refused_for_its_scans(case.read_bytes())


def test_a_baseline_jpeg_of_one_component_a_scan_is_bounded_too() -> None:
    """Each scan of twelve bytes costs a pass over all blocks: a file of 20 MB would take hours."""
    data = odd.jpeg()
    at = data.index(b"\xff\xda")
    scans = [b"\xff\xda\0\x08\x01" + bytes([n % 3 + 1, 0x11 if n % 3 else 0]) + b"\0\x3f\0" for n in range(101)]
    assert inspect(data[:at] + b"".join(scans[:3]) + b"\xff\xd9").coding == "baseline"
    refused_for_its_scans(data[:at] + b"".join(scans) + b"\xff\xd9")


# --- how much of it is held -------------------------------------------------------------------------------------


def patched(data: bytes, width: int, height: int) -> bytes:
    """A picture that says it is larger than it is: what its decoder would hold is known from the header alone."""
    out = bytearray(data)
    if data[:2] == b"\xff\xd8":
        at = next(out.index(mark) for mark in (b"\xff\xc2", b"\xff\xc0", b"\xff\xc3") if mark in out)
        struct.pack_into(">HH", out, at + 5, height, width)
        return bytes(out)
    if data[:2] == b"\x89P":
        head = struct.pack(">II", width, height) + data[24:29]
        return data[:8] + odd.chunk(b"IHDR", head) + data[33:]
    at = data.index(b"VP8L") + 8
    (bits,) = struct.unpack_from("<I", data, at + 1)
    struct.pack_into("<I", out, at + 1, (bits >> 28) << 28 | (height - 1) << 14 | (width - 1))
    return bytes(out)


@pytest.mark.parametrize(
    ("name", "most_megapixels"),
    [
        ("jpeg", 200),
        ("jpeg, progressive", 66),  # all coefficients of three full planes
        ("rgb+alpha 8", 200),
        ("interlaced", 100),
        ("webp, lossless", 28),
        ("lossless", 100),
    ],
)
def test_images_that_need_too_much_memory_are_refused_by_inspect(name: str, most_megapixels: int) -> None:
    data = odd.lossless_jpeg(COLOUR) if name == "lossless" else odd.pictures()[name]
    side = int((most_megapixels * 1e6) ** 0.5)
    assert inspect(patched(data, side, side)).decoder_bytes <= 400e6
    with pytest.raises(ImageError, match=r"may take|than the cap") as caught:
        inspect(patched(data, side, int(side * 1.05)))
    assert caught.value.reason == ("too-many-pixels" if most_megapixels == 200 else "too-much-memory")


PEAK = """
import sys
from lhq.engines.local import keep_memory
from lhq.measures.preview import preview
from lhq.records import Photo
keep_memory()
data = sys.stdin.buffer.read()
seen = preview(Photo("a:1", data, 1, 1))
assert seen.rgbx is not None, seen
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_a_poster_is_measured_in_little_memory(mode: str) -> None:
    data = odd.saved("PNG", Image.new(mode, (7000, 7000)), compress_level=1)
    done = subprocess.run([sys.executable, "-c", PEAK], input=data, capture_output=True, cwd=ROOT, check=True)
    assert float(done.stdout) < 250  # 49 megapixels of RGBA alone are 187 MB, and Python with Arrow 115
