"""What encoders have in common: reading a raw picture from disk, and writing a file that appears only when complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alis.errors import InputError

Pixels = NDArray[np.uint8]


class RawPicture(Protocol):
    """A raw picture, [height, width, 3] uint8 on disk."""

    path: Path
    width: int
    height: int

    def read(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """A rectangle, uint8 [bottom − top, right − left, 3]."""
        ...


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed to `path` if the block succeeds, else deleted."""
    part = path.with_name(f".{path.stem}.encoding{path.suffix}")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def require_package(module: str, path: Path) -> ModuleType:
    """Import an optional package.

    Raises:
        InputError: it is not installed.
    """
    try:
        return __import__(module)
    except ImportError:
        raise InputError(f"{path}: {path.suffix} needs {module}", hint="pip install 'lhq[web]', or use .png") from None
