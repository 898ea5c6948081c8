"""Pictures → endless uint8 batches: seeded, split by rank, resumable to the exact image.

`open_dataset` finds out what an address holds: `catalogue` reads footers of Parquet files, `pictures` lists folders and
zips, `variants` chooses one of an export's variants. `fingerprint` hashes files, `order` shuffles positions,
`encoded_rows` holds encoded pictures, `decode` turns bytes into pixels, and `loader` runs all that on threads.
`decode_notes` and `crashes` find the pictures that kill a decoder. Any image dataset works: an export of lhq, one of
the Hugging Face Hub, a folder.

Names are imported at first use: processes that only decode don't load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_HOMES = {
    "BadImage": "alis.data.decode",
    "Catalogue": "alis.data.catalogue",
    "Fit": "alis.data.decode",
    "Loader": "alis.data.loader",
    "Order": "alis.data.order",
    "RankSlice": "alis.data.loader",
    "ReadOptions": "alis.data.loader",
    "cache_folder": "alis.data.fingerprint",
    "content_fingerprint": "alis.data.fingerprint",
    "decode_into": "alis.data.decode",
    "guarded": "alis.data.crashes",
    "open_catalogue": "alis.data.open_dataset",
}
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
    "guarded",
    "open_catalogue",
]

if TYPE_CHECKING:
    from alis.data.catalogue import Catalogue
    from alis.data.crashes import guarded
    from alis.data.decode import BadImage, Fit, decode_into
    from alis.data.fingerprint import cache_folder, content_fingerprint
    from alis.data.loader import Loader, RankSlice, ReadOptions
    from alis.data.open_dataset import open_catalogue
    from alis.data.order import Order


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'alis.data' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
