"""A model's weights: from the cache, else downloaded once and checked, else an error that says how to provide them.

Only tensors are ever read (safetensors, `torch.load(weights_only=True)`, or a pickle of numpy arrays opened
with nothing but numpy in reach): a weights file is data, and never runs code here.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from lhq.errors import InputError, WeightsMissing

if TYPE_CHECKING:
    import torch


_REMOVE = "remove it: it is fetched again"


def cached(url: str, target: Path | None = None) -> Path:
    """The file behind `url`, in torch's own cache (or at `target`); fetched if it is not there yet.

    A name that ends in `-<hex>.pth` carries the start of its sha256, which is checked.

    Raises:
        WeightsMissing: it is not there and can't be fetched, or it has rotted; names file, URL and target path.
    """
    import torch

    target = target or place_of(url)
    name = target.name
    if target.is_file():
        if _digest_in(name) is not None and not is_whole(target):
            raise WeightsMissing(f"{target}: is cut short or another file: its name says another sha256", hint=_REMOVE)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target), hash_prefix=_digest_in(name), progress=os.isatty(2))
    except (OSError, RuntimeError) as error:  # URLError is an OSError, a wrong hash a RuntimeError
        raise WeightsMissing(
            f"weights {name} are not on disk and can't be fetched ({error})",
            hint=f"download {url} on a machine that can, and put it at {target}",
        ) from None
    return target


def _digest_in(name: str) -> str | None:
    """The start of a file's sha256 that its name carries."""
    stem, _, tail = name.rpartition(".")[0].rpartition("-")
    return tail if stem and len(tail) >= 8 and all(c in "0123456789abcdef" for c in tail) else None


def is_whole(path: Path) -> bool:
    """Whether a published `.pth` file is complete: by the sha256 that its name carries, else by its last bytes, where
    the format has its table."""
    try:
        digest = _digest_in(path.name)
        if digest is None:
            return zipfile.is_zipfile(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest().startswith(digest)
    except OSError:
        return False


def place_of(url: str) -> Path:
    """The path of the file behind `url` in torch's own cache, there or not."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlsplit(url).path)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors`, `.pth`, `.pt` or (detectron2's zoo) `.pkl` file, on the CPU.

    Raises:
        InputError: no such file, or it holds something other than tensors.
    """
    import torch

    if not path.is_file():
        raise InputError(f"{path}: no such weights file", hint="give the path of a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                loaded = _Arrays(file, encoding="latin1").load()
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path}: not a file of tensors ({first})",
            hint="download it again if it is incomplete; save your own weights with safetensors",
        ) from None
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if isinstance(loaded, dict):
        loaded = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in loaded.items()}
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise InputError(f"{path}: holds no state dict", hint="save model.state_dict() and give that file")
    return loaded


class _Arrays(pickle.Unpickler):
    """Unpickles numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".")[0], name) in {("numpy", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}:
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which is no array")


def fingerprint(path: Path) -> str:
    """Ten hex digits of a file's sha256: which weights made these facts."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:10]


def is_torchscript(path: Path) -> bool:
    """Whether the file holds a TorchScript program rather than a state dict."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())
