"""The services' pictures: painted scenes, or folders of real pictures.

A gallery is a fixed list of pictures and gives their bytes. Painted bytes are made on demand and are a pure function
of (seed, index); a folder's bytes are those of its files, whatever they are.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps

from lhq import nearest
from lhq.errors import InputError
from lhq.sandbox import scenes, uploads

_TYPES = {
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
}
_NOT_PICTURES = {".tsv", ".txt", ".md", ".json", ".csv", ".py", ".toml", ".html"}
_SCENERY = ("mountain", "lake", "sea", "forest", "desert", "snow", "sky", "sunset", "river", "field", "coast", "valley")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a gallery as the services know it; the size is what an upright viewer sees.

    `stamp` changes whenever the bytes do; `suffix` is the file name's ending; `truth` is the scene behind a
    painted picture (None for real ones).
    """

    index: int
    width_px: int
    height_px: int
    title: str
    tags: tuple[str, ...]
    suffix: str
    stamp: str
    truth: scenes.Scene | None = None


class Gallery(Protocol):
    @property
    def pictures(self) -> Sequence[Picture]: ...

    def original(self, index: int) -> bytes:
        """The picture's bytes as its author uploaded them."""
        ...


class Painted:
    """`num_scenes` painted scenes of `seed`."""

    def __init__(self, seed: int, num_scenes: int) -> None:
        self.pictures = [_papers_of(scene, num_scenes) for scene in scenes.catalogue(seed, num_scenes)]

    def original(self, index: int) -> bytes:
        scene = self.pictures[index].truth
        assert scene is not None
        return uploads.encode(scene)


def _papers_of(scene: scenes.Scene, num_scenes: int) -> Picture:
    """What the services claim about a scene. Every other small one claims twice its size, since claims can't be
    trusted."""
    boast = 2 if scene.kind == "small" and scene.index % 2 else 1
    stamp = f"{scenes.VERSION}-{scene.seed}-{num_scenes}-{scene.index}"
    return Picture(
        scene.index,
        scene.width_px * boast,
        scene.height_px * boast,
        scene.title,
        scene.tags,
        scene.suffix,
        stamp,
        scene,
    )


class Folder:
    """Every file in some folders except plain text, in path order, with papers derived from its name.

    Raises:
        InputError: a folder is missing, unreadable or holds no file.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._files: list[Path] = []
        for folder in folders:
            if not folder.is_dir():
                raise InputError(
                    f"--photos {folder}: no such folder", hint=nearest.path(folder, "give a folder that holds pictures")
                )
            try:
                found = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_text(path))
            except OSError as error:
                raise InputError(f"--photos {folder}: {error.strerror}", hint="give a readable folder") from None
            if not found:
                raise InputError(f"--photos {folder}: holds no picture", hint="give a folder that holds pictures")
            self._files += found
        self.pictures = [self._picture(index, path) for index, path in enumerate(self._files)]

    def original(self, index: int) -> bytes:
        return self._files[index].read_bytes()

    @staticmethod
    def _picture(index: int, path: Path) -> Picture:
        width, height = _upright_size(path)
        digest = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest()
        words = [word for word in re.split(r"[^a-z]+", f"{path.parent.name} {path.stem}".lower()) if len(word) > 2]
        scenic = [_SCENERY[byte % len(_SCENERY)] for byte in digest[:3]]
        title = f"{scenic[0].capitalize()} {int.from_bytes(digest[3:5], 'big') % 1000}"
        status = path.stat()
        stamp = hashlib.sha256(f"{path.name}|{status.st_size}|{status.st_mtime_ns}".encode("utf-8", "surrogateescape"))
        suffix = path.suffix.lower().lstrip(".")
        suffix = suffix if re.fullmatch(r"[a-z0-9]{1,5}", suffix) else "jpg"
        return Picture(
            index, width, height, title, tuple(dict.fromkeys([*scenic, *words])), suffix, stamp.hexdigest()[:16]
        )


def _is_text(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix.lower() in _NOT_PICTURES


def _upright_size(path: Path) -> tuple[int, int]:
    """The size in the header, upright; a file without a readable header gets an invented size, like a service's
    record of an upload that was damaged later."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except Exception:  # whatever a broken file does to a decoder, the service continues
        return 1620, 1080


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes sent and their declared type."""

    data: bytes
    content_type: str


class Renditions:
    """Originals and their smaller versions, with a small cache; each is made once, however many requests arrive at
    once."""

    def __init__(self, gallery: Gallery, cache_bytes: int = 96 * 2**20) -> None:
        self._gallery = gallery
        self._room = cache_bytes
        self._kept: OrderedDict[tuple[int, str], Blob] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[tuple[int, str], threading.Lock] = {}
        self._workers = threading.BoundedSemaphore(max(1, min(4, os.cpu_count() or 1)))

    def get(
        self,
        index: int,
        width: int | None = None,
        height: int | None = None,
        format: str | None = None,
        quality: int = 85,
    ) -> Blob:
        """The original, or it fitted into width x height and re-encoded (never enlarged)."""
        key = (index, f"{width}-{height}-{format}-{quality}")
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            with self._workers:
                blob = self._make(index, width, height, format, quality)
            with self._lock:
                self._kept[key] = blob
                self._making.pop(key, None)
                while sum(len(b.data) for b in self._kept.values()) > self._room and len(self._kept) > 1:
                    self._kept.popitem(last=False)
        return blob

    def _make(self, index: int, width: int | None, height: int | None, format: str | None, quality: int) -> Blob:
        picture = self._gallery.pictures[index]
        data = self._gallery.original(index)
        original = Blob(data, _TYPES.get(picture.suffix, "application/octet-stream"))
        if width is None and height is None and format is None:
            return original
        try:
            with Image.open(io.BytesIO(data)) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
            image.thumbnail((width or image.width, height or image.height), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, format or "jpeg", quality=quality)
        except Exception:  # a damaged upload has no smaller version: the service sends what it has
            return original
        return Blob(buffer.getvalue(), _TYPES[format or "jpeg"])
