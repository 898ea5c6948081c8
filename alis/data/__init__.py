"""Pictures → endless uint8 batches: seeded, split by rank, resumable to the image.

`opening` finds out what an address holds, `catalogue` looks at footers of Parquet files and `pictures` at folders and
zips, `variants` chooses among an export's, `content` hashes files, `order` shuffles positions, `rows` holds encoded
pictures, `decode` turns bytes into pixels, and `loader` puts them on threads. Any image dataset will do: ours, the
Hugging Face hub's, a folder.
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
