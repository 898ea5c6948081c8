"""alis: train an endless-panorama generator and paint with it."""

__version__ = "0.1.0"
