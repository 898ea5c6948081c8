"""A range of pixel columns → the columns that every layer has to compute for it, and no others.

Heights r = 4, 8, …, R are those of the blocks; a frame is r columns wide there. Columns are counted from where the
range stands, which is a column of the 4×4 block: at height r that is its number times r/4, so one plan of columns
serves every range of the same width and the same offset within that column (`sub`), and a batch of them has one shape.

With `padding = "plane"` filters see the columns beside the range. A 3×3 layer asks for one more on each side; the
doubling layer gives column j from columns ⌈(j − 3)/2⌉ … ⌊(j + 2)/2⌋ of its input; the doubling of the picture asks for
one. So all that a range costs is two more columns on each side at half the height, and three at every lower one.
Patches that see zeros or their own border need nothing beside them.
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
        """How many."""
        return self.stop - self.first

    def wider(self, num: int) -> Span:
        """`num` columns more on each side."""
        return Span(self.first - num, self.stop + num)


@dataclass(frozen=True)
class BlockSpans:
    """Columns of one block: what comes in (with waves and latents), what its last layer reads and gives, its picture.

    `given` is at the height of the block's input (4 for the 4×4 block, else half its own), the others at its own.
    """

    height: int
    given: Span
    middle: Span
    features: Span
    image: Span


@lru_cache(maxsize=4096)
def spans(config: ModelConfig, width: int, sub: int = 0) -> tuple[BlockSpans, ...]:
    """What each block computes for `width` pixel columns that begin `sub` pixels right of a column of the 4×4 block.

    For patches `width` is a patch's and `sub` is 0.
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
    """Pixels beyond a border at which columns on its other side still take part, the further of left and right.

    The border is one of the 4×4 block's columns; 0 where patches know nothing of each other.
    """
    if config.padding != "plane":
        return 0
    column_px = config.resolution // 4
    far = 0
    for k in range(1, 2 * config.resolution):
        # No layer sees further than the 4×4 block. Pixel k − 1 looks left across 0, pixel −k looks right.
        (right, right_sub), (left, left_sub) = divmod(k - 1, column_px), divmod(-k, column_px)
        looks_left = right + spans(config, 1, right_sub)[0].given.first < 0
        looks_right = left + spans(config, 1, left_sub)[0].given.stop > 0
        far = k if looks_left or looks_right else far
    return far
