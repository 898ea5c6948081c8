"""Pictures → endless uint8 batches: seeded, split by rank, resumable to the exact image.

`open_dataset` finds out what an address holds: `catalogue` reads footers of Parquet files, `pictures` lists folders and
zips, `variants` chooses one of an export's variants. `fingerprint` hashes files, `order` shuffles positions,
`encoded_rows` holds encoded pictures, `decode` turns bytes into pixels, and `loader` runs all that on threads. Any
image dataset works: an export of lhq, one of the Hugging Face Hub, a folder.
"""

from alis.data.catalogue import Catalogue
from alis.data.decode import BadImage, Fit, decode_into
from alis.data.fingerprint import cache_folder, content_fingerprint
from alis.data.loader import Loader, RankSlice, ReadOptions
from alis.data.open_dataset import open_catalogue
from alis.data.order import Order

__all__ = [
    "BadImage",
    "Catalogue",
    "Fit",
    "Loader",
    "Order",
    "RankSlice",
    "ReadOptions",
    "cache_folder",
    "content_fingerprint",
    "decode_into",
    "open_catalogue",
]
