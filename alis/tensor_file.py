"""Named tensors ↔ a safetensors file that holds the checksum of its content.

safetensors itself checks the header and the file's length, but no value: a rotten weight would be painted with. The
CRC-32 of names, types, shapes and values is in the file's metadata, so that a file can be moved or copied alone. Files
without one (older versions, other programs) are read as they are. It takes 0.1 s a gigabyte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from isal.isal_zlib import crc32
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lhq.system import common_mode

KEY = "crc32"


def save(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write tensors, and `about` as the file's metadata, with their checksum.

    Raises:
        OSError, SafetensorError: it can't be written; nothing is left.
    """
    written = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    told = dict(about or {})
    with common_mode(path):
        save_file(written, path, metadata=told | {KEY: _checksum(written, told)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(the tensors, the metadata without the checksum) of a file.

    Raises:
        OSError, SafetensorError: it can't be read, or its content is not what was saved.
    """
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — not a dict
        about = dict(file.metadata() or {})
    stored = about.pop(KEY, None)
    if stored is not None and stored != _checksum(tensors, about):
        raise SafetensorError("its checksum is wrong: the content is not what was saved")
    return tensors, about


def stored_checksum(path: Path) -> str:
    """The checksum that a file holds of its content, without computing it; "" if none.

    Raises:
        OSError, SafetensorError: it can't be read.
    """
    with safe_open(path, "pt") as file:
        return str((file.metadata() or {}).get(KEY, ""))


def _checksum(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    total = crc32(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        total = crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), total)
        total = crc32(value.contiguous().reshape(-1).view(torch.uint8).numpy(), total)
    return f"{total:08x}"
