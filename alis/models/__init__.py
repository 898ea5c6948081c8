"""The networks: mapping and synthesis (`Generator`), `Discriminator`, and their folder on disk."""

from alis.models import hub, model_folder
from alis.models.discriminator import Discriminator
from alis.models.generator import Mapping
from alis.models.hub import Generator, load
from alis.models.model_folder import load_discriminator, save
from alis.models.synthesis import Noise, Synthesis

__all__ = [
    "Discriminator",
    "Generator",
    "Mapping",
    "Noise",
    "Synthesis",
    "hub",
    "load",
    "load_discriminator",
    "model_folder",
    "save",
]
