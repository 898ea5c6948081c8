"""A plugin of Pillow, as anyone may have installed, whose decoder corrupts the heap: its pictures kill the process.

`environment` installs it into the Pythons that a test starts, as a package of its own would.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, PngImagePlugin

from tests.lhq.images import odd

ROOT = Path(__file__).parents[2]
MAGIC = b"RECKLESS"


def killer() -> bytes:
    """A picture that kills."""
    return MAGIC + odd.lossless_jpeg(np.random.default_rng(0).integers(0, 256, (149, 227, 3), np.uint8))


def tame(png: bytes) -> bytes:
    """A picture of the same format that doesn't."""
    return MAGIC + png


def environment(folder: Path) -> dict[str, str]:
    """The environment of a process that has the plugin; `folder` is for its start file."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text("from tests.alis import reckless; reckless.install()")
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "OMP_NUM_THREADS": "1",
        "ALIS_CACHE": str(folder / "cache"),
    }


def install() -> None:
    Image.register_open("RECKLESS", _open, lambda head: head.startswith(MAGIC))


def _open(file: io.BytesIO, _name: object) -> Image.Image:
    data = file.read().removeprefix(MAGIC)
    if data.startswith(b"\xff\xd8"):
        for _ in range(50):  # libjpeg-turbo's scaled decoder has no room for a lossless JPEG
            simplejpeg.decode_jpeg(data, "RGBX", min_height=96, min_width=96, min_factor=1)
    return PngImagePlugin.PngImageFile(io.BytesIO(data))
