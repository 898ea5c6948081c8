"""Codes on disk: one safetensors file per code, with metadata that says where it comes from.

w        [S] or [num_ws, S], float32
metadata {"model": fingerprint or "", "from": what it was made from, "photo": digest of the photograph or ""}
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from alis import tensor_file
from alis.errors import InputError


def name_of(path: str | Path) -> str:
    """A code's name, from its file name: anything but letters, digits, dots and dashes becomes a dash."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", Path(path).stem)[:40] or "code"


@dataclass(frozen=True)
class CodeOrigin:
    """Where a code comes from; "" if unknown.

    Args:
        model: fingerprint of the model that it is a code of.
        made_from: name of the photograph.
        photo: `digest` of the photograph.
    """

    model: str = ""
    made_from: str = ""
    photo: str = ""


def save(path: str | Path, w: Tensor, *, model: str = "", made_from: str = "", photo: str = "") -> None:
    """Write a code; the file gets its name only when it is complete.

    Args:
        model: fingerprint of the model that it is a code of.
        photo: `digest` of the photograph that it was made from.

    Raises:
        InputError: it can't be written.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    metadata = {"model": model, "from": made_from, "photo": photo}
    try:
        tensor_file.save({"w": w.float()}, part, metadata)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: can't be written ({error})", hint="give a folder that can be") from None


def digest(path: str | Path) -> str:
    """Sixteen hex digits of a file's BLAKE2 hash."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2s(digest_size=8)).hexdigest()


def read_origin(path: str | Path) -> CodeOrigin:
    """Read where a code comes from.

    Raises:
        InputError: as `read`.
    """
    try:
        _, metadata = tensor_file.load(Path(path))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: is not a saved code ({error})", hint="make one with alis invert") from None
    return CodeOrigin(metadata.get("model", ""), metadata.get("from", ""), metadata.get("photo", ""))


def read(path: str | Path) -> Tensor:
    """Read a code, [S] or [num_ws, S].

    Raises:
        InputError: no such file, or not a saved code of finite numbers.
    """
    try:
        w = tensor_file.load(Path(path))[0]["w"]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: is not a saved code ({error})", hint="make one with alis invert") from None
    if w.ndim not in {1, 2} or not w.is_floating_point() or not bool(w.float().isfinite().all()):
        raise InputError(
            f"{path}: its w is {w.dtype} of shape {list(w.shape)}, or not finite", hint="make one with alis invert"
        )
    return w.float()


def read_all(paths: Iterable[str | Path]) -> dict[str, Tensor]:
    """Read codes, by name.

    Raises:
        InputError: as `read`, or two codes with the same name.
    """
    found: dict[str, Tensor] = {}
    for path in paths:
        name = name_of(path)
        if name in found:
            raise InputError(f"{path}: a code named {name} was already given", hint="rename one of the files")
        found[name] = read(path)
    return found
