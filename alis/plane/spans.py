"""A range of pixel columns → the columns that every layer has to compute for it.

Heights r = 4, 8, …, R are the blocks' resolutions; a frame is r columns wide at height r. Columns are counted relative
to the column of the 4×4 block in which the range begins (its number times r/4 at height r). So one result serves all
ranges with the same width and the same offset within that column (`sub`), and they can be batched.

With `padding = "plane"`, convolutions read columns beside the range. A 3×3 layer needs one more on each side; the
up-sampling layer computes column j from columns ⌈(j − 3)/2⌉ … ⌊(j + 2)/2⌋ of its input; up-sampling the picture needs
one more. In total, a range costs two more columns on each side at half the height, and three at every lower height.
With independent patches, nothing beside a patch is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from alis.config import ModelConfig


@dataclass(frozen=True)
class Span:
    """Columns first … stop − 1 of one height."""

    first: int
    stop: int

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.stop - self.first

    def wider(self, num: int) -> Span:
        """The span extended by `num` columns on each side."""
        return Span(self.first - num, self.stop + num)


@dataclass(frozen=True)
class BlockSpans:
    """The columns of one block.

    Args:
        height: the block's resolution.
        given: of its input features, waves and latents, at its input's height (4 for the 4×4 block, else half).
        middle: of the input of its last 3×3 layer.
        features: of its output features.
        image: of its picture.
    """

    height: int
    given: Span
    middle: Span
    features: Span
    image: Span


@lru_cache(maxsize=4096)
def spans(config: ModelConfig, width: int, sub: int = 0) -> tuple[BlockSpans, ...]:
    """The columns of each block for `width` pixels that begin `sub` pixels right of a 4×4 block's column's border.

    For independent patches, `width` is a patch's and `sub` is 0.
    """
    if config.padding != "plane":
        shares = [Span(0, r * width // config.resolution) for r in config.resolutions]
        before = [shares[0], *shares[:-1]]
        return tuple(
            BlockSpans(r, given, own, own, own)
            for r, given, own in zip(config.resolutions, before, shares, strict=True)
        )
    found: list[BlockSpans] = []
    features = image = Span(sub, sub + width)
    for r in reversed(config.resolutions):
        middle = features.wider(1)
        # ⌈(j − 3)/2⌉ of the first column, ⌊(j + 2)/2⌋ of the last.
        given = middle if r == 4 else Span((middle.first - 2) // 2, (middle.stop + 1) // 2 + 1)
        found.append(BlockSpans(r, given, middle, features, image))
        features, image = given, Span((image.first - 1) // 2, image.stop // 2 + 1)
    return tuple(reversed(found))


@lru_cache(maxsize=64)
def halo_px(config: ModelConfig) -> int:
    """How many pixels beyond a border of the 4×4 block's columns still depend on columns across it (left or right).

    0 for independent patches.
    """
    if config.padding != "plane":
        return 0
    column_px = config.resolution // 4
    far = 0
    for k in range(1, 2 * config.resolution):
        # The 4×4 block reads furthest. Pixel k − 1 may depend on columns left of 0, pixel −k on columns right of it.
        (right, right_sub), (left, left_sub) = divmod(k - 1, column_px), divmod(-k, column_px)
        looks_left = right + spans(config, 1, right_sub)[0].given.first < 0
        looks_right = left + spans(config, 1, left_sub)[0].given.stop > 0
        far = k if looks_left or looks_right else far
    return far
