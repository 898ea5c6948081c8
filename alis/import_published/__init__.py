"""A published checkpoint (pickle) → a model folder, without executing anything in the file.

The imported model computes the same as the published one in its training precision. The averaged and the trained
generator, the discriminator, the average of w, the stored noise, and which resolutions ran in float16 are all kept.
`alis.load(OUT)` opens the result.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from alis import models
from alis.config import ModelConfig
from alis.errors import InputError
from alis.import_published import networks
from alis.import_published.pickles import read

__all__ = ["convert", "open_published"]
N = TypeVar("N", bound=nn.Module)


def convert(file: str | Path, out: str | Path) -> ModelConfig:
    """Convert a checkpoint to a model folder: G_ema, and G and D if it has them.

    Raises:
        InputError: the file can't be read, is an unsupported variant, or `out` already has a model.
        UnsafePickle: the file asks for something that reading weights never needs, or is damaged; nothing was executed.
    """
    out = Path(out)
    if (out / models.model_folder.CONFIG).exists():
        raise InputError(f"{out}: already has a model", hint="give another folder, or remove it first")
    averaged, trained, discriminator = open_published(file)
    models.save(out, averaged, discriminator, trained=trained, notes={"source": f"published {Path(file).name}"})
    return averaged.config


def open_published(
    file: str | Path,
) -> tuple[models.Generator, models.Generator | None, models.Discriminator | None]:
    """Open the networks of a checkpoint: averaged generator, generator in training, discriminator.

    Raises:
        InputError, UnsafePickle: as `convert`.
    """
    file = Path(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror})", hint="give a published .pkl checkpoint") from None
    _refuse_other_formats(data, file)
    described = read(io.BytesIO(data), str(file))
    if not isinstance(described, dict) or "G_ema" not in described:
        raise InputError(f"{file}: has no G_ema", hint="give a published ALIS checkpoint")
    found = {name: described[name] for name in ("G_ema", "G", "D") if described.get(name) is not None}
    config = networks.config_of(found["G_ema"], found.get("D"), f"{file} G_ema")
    if "G" in found and networks.config_of(found["G"], found.get("D"), f"{file} G") != config:
        raise InputError(f"{file}: G and G_ema have different settings", hint="the file is damaged")
    loaded: dict[str, dict[str, Tensor]] = {
        name: networks.convert_weights(networks.weights_of(value, f"{file} {name}"), config, f"{file} {name}")
        for name, value in found.items()
    }
    averaged = _filled(models.Generator, config, loaded["G_ema"], f"{file} G_ema")
    trained = _filled(models.Generator, config, loaded["G"], f"{file} G") if "G" in loaded else None
    discriminator = _filled(models.Discriminator, config, loaded["D"], f"{file} D") if "D" in loaded else None
    return averaged, trained, discriminator


def _refuse_other_formats(data: bytes, file: Path) -> None:
    """Refuse a file in another format than pickle, by the format's name.

    Raises:
        InputError: a zip (of torch.save or another), a compressed file, or safetensors.
    """
    hint = "give the published .pkl, a pickle of G, D and G_ema"
    if zipfile.is_zipfile(io.BytesIO(data)):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                is_torch = any(name.endswith(("/data.pkl", "/byteorder")) for name in archive.namelist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
            is_torch = False
        what = "a file of torch.save (a zip of a pickle and its tensors)" if is_torch else "a zip archive"
        raise InputError(f"{file}: is {what}, not a published checkpoint", hint=hint)
    for magic, what in ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"7z\xbc\xaf", "7z")):
        if data.startswith(magic):
            raise InputError(f"{file}: is compressed by {what}", hint="unpack it first")
    if data[8:10] == b'{"' and int.from_bytes(data[:8], "little") <= len(data):
        raise InputError(
            f"{file}: is safetensors, not a published checkpoint", hint="open its model folder with alis.load"
        )


def _filled(kind: type[N], config: ModelConfig, weights: dict[str, Tensor], where: str) -> N:
    """A network with these settings and weights; shapes are checked before any memory is allocated."""
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in kind(config).state_dict().items()}
    for name in sorted(wanted.keys() | weights.keys()):
        has, needs = weights[name].shape if name in weights else None, wanted.get(name)
        if has != needs:
            words = [tuple(shape) if shape is not None else "nothing" for shape in (has, needs)]
            raise InputError(f"{where}: {name} is {words[0]}, its settings ask for {words[1]}", hint="damaged file?")
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{where}: {name} has NaN or infinity", hint="the file is damaged")
    network = kind(config)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)
