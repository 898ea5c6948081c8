"""Parquet shards → endless uint8 batches: seeded, split by rank, resumable to the image.

`catalogue` looks at footers, `order` shuffles positions, `rows` holds encoded pictures, `decode` turns bytes into
pixels, and `loader` puts them on threads. Any Parquet image dataset will do, ours or the Hugging Face hub's.
"""

from alis.data.catalogue import Catalogue, open_catalogue
from alis.data.decode import BadImage, Fit, decode_into
from alis.data.loader import Loader, Reading, Share
from alis.data.order import Order

__all__ = ["BadImage", "Catalogue", "Fit", "Loader", "Order", "Reading", "Share", "decode_into", "open_catalogue"]
