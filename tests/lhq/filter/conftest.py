"""A store of two shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lhq.making import add_shard, photo, scene


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two shards: two good photos, a small one, a wedding, a second copy, a broken one."""
    one, two = scene(1), scene(2)
    add_shard(tmp_path, 0, [photo(one, "one"), photo(two, "two"), photo(scene(3, 200, 150), "small")])
    add_shard(
        tmp_path,
        3,
        [
            photo(scene(4), "wedding", tags=["wedding", "lake"]),
            photo(scene(1, quality=60), "one-again", licence="cc-by-nc-2.0"),
            photo(two[: len(two) // 2], "cut"),
            photo(scene(5, 200, 150), "small-wedding", title="A bride"),
        ],
    )
    return tmp_path
