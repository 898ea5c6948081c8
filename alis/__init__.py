"""alis: train an endless-panorama generator and paint with it.

    g = alis.load("run-or-model-folder")                  # Generator, eval mode; "demo" is the one in the package
    w = g.map(z_BZ, psi=1.0)                              # [B, S]
    x = g(w_left, w_centre, w_right, shift)               # [B, 3, R, R] in about [-1, 1]
    tile = alis.Panorama(g, seed=7).tile(k)               # uint8 [R, R//g, 3], any integer k

Names are imported at first use, so `import alis` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "Discriminator": "alis.models",
    "Generator": "alis.models",
    "ModelConfig": "alis.config",
    "Panorama": "alis.painting.panorama",
    "load": "alis.models",
    "load_discriminator": "alis.models",
    "save": "alis.models",
}
__all__ = ["Discriminator", "Generator", "ModelConfig", "Panorama", "load", "load_discriminator", "save"]

if TYPE_CHECKING:
    from alis.config import ModelConfig
    from alis.models import Discriminator, Generator, load, load_discriminator, save
    from alis.painting.panorama import Panorama


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'alis' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
