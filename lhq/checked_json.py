"""Small records in JSON that hold their own checksum, so that a rotten digit is found, not believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from isal.isal_zlib import crc32

KEY = "crc32"


def sealed(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the checksum of its other entries."""
    return {**table, KEY: _checksum(table)}


def opened(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table that was read, without its checksum. One without a checksum (of an older version) is taken as it is.

    Raises:
        ValueError: the checksum is not that of the entries.
    """
    rest = {key: value for key, value in table.items() if key != KEY}
    if KEY in table and table[KEY] != _checksum(rest):
        raise ValueError(f'its checksum is wrong; if you changed it yourself, take "{KEY}" out of it')
    return rest


def _checksum(table: Mapping[str, Any]) -> str:
    return f"{crc32(json.dumps(table, sort_keys=True).encode()):08x}"
