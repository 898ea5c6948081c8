"""A batch of column ranges of endless planes: their positions, and the anchors that they depend on.

Letters: B ranges, w columns of a range at some height, K anchors of a range.
Anchors are n columns apart, anchor i at the left border of column i·n; a column's styles are interpolated between the
two anchors beside it. Everything that depends on a column's position (anchors' shares, waves, noise, local latents) is
looked up by its absolute number, in integers as long as possible. So a column is the same in every range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alis.config import ModelConfig
from alis.plane.spans import Span, spans


@dataclass(frozen=True)
class Ranges:
    """Equally wide ranges of pixel columns: range b begins at pixel column_B[b] · R/4 + sub of its plane.

    Args:
        column_B: int64, column of the 4×4 block where each range begins.
        width: in pixels.
        sub: offset in pixels, 0 … R/4 − 1; the same for all ranges of a batch.
        seed_B: int64, each range's seed, for its local latents.
        ring_B: int64, number of columns of the 4×4 block after which the plane repeats; 0 = never.
        stored_B: int64, column of the stored noise where each range begins; by default column_B.
    """

    column_B: Tensor
    width: int
    sub: int = 0
    seed_B: Tensor | None = None
    ring_B: Tensor | None = None
    stored_B: Tensor | None = None

    def columns(self, span: Span, height: int) -> Tensor:
        """Absolute column numbers of a span at a height, int64 [B, w]."""
        return _columns(self.column_B, span, height)

    def on_ring(self, span: Span, height: int) -> Tensor:
        """The same, modulo the ring if there is one: the columns that noise and latents are drawn for."""
        column_Bw = self.columns(span, height)
        if self.ring_B is None:
            return column_Bw
        ring_B1 = self.ring_B[:, None] * (height // 4)
        return torch.where(ring_B1 > 0, column_Bw % ring_B1.clamp(min=1), column_Bw)

    def stored(self, span: Span, height: int) -> Tensor:
        """The columns of a stored map, `height` columns wide, for a span: int64 [B, w]."""
        column_B = self.column_B if self.stored_B is None else self.stored_B
        return _columns(column_B, span, height) % height

    def patches(self, config: ModelConfig) -> Ranges:
        """The ranges split into single patches, [B · patches], for networks with independent patches."""
        tile = config.resolution // config.grid_size
        num = self.width // tile
        each = torch.arange(num, device=self.column_B.device) * (4 // config.grid_size)

        def spread(x_B: Tensor | None) -> Tensor | None:
            return None if x_B is None else x_B.repeat_interleave(num)

        stored_B = self.column_B if self.stored_B is None else self.stored_B
        return replace(
            self,
            column_B=(self.column_B[:, None] + each).flatten(),
            width=tile,
            seed_B=spread(self.seed_B),
            ring_B=spread(self.ring_B),
            stored_B=(stored_B[:, None] + each).flatten(),
        )


def _columns(column_B: Tensor, span: Span, height: int) -> Tensor:
    return column_B[:, None] * (height // 4) + torch.arange(span.first, span.stop, device=column_B.device)


@dataclass(frozen=True)
class Anchors:
    """The anchors of ranges: numbers first_B[b] … first_B[b] + num − 1."""

    first_B: Tensor
    num: int

    def shares(self, config: ModelConfig, column_Bw: Tensor, height: int) -> Tensor:
        """Interpolation weights of the anchors in each column, float64 [B, K, w]; at most two are not 0, the sum is 1.

        Source: arXiv 2104.06954, section 3.1: a column's centre is (i + ½)/n of the way between its anchors.
        """
        between = config.anchor_columns * (height // 4)
        way_Bw = ((column_Bw - self.first_B[:, None] * between).double() + 0.5) / between
        number_K = torch.arange(self.num, device=column_Bw.device, dtype=torch.float64)
        return (1 - (way_Bw[:, None] - number_K[:, None]).abs()).clamp(min=0)


def anchors(config: ModelConfig, ranges: Ranges, span: Span) -> Anchors:
    """The anchors of a span of the 4×4 block's columns; as many as any range of this width can need."""
    between, width = config.anchor_columns, span.width
    # A patch lies between two anchors; other ranges may begin anywhere.
    num = 2 if config.padding != "plane" else (width + between - 2) // between + 2
    return Anchors(torch.div(ranges.column_B + span.first, between, rounding_mode="floor"), num)


def anchors_seen(config: ModelConfig, ranges: Ranges) -> Anchors:
    """All anchors that ranges depend on, including those of the columns computed beside them.

    The 4×4 block reads furthest.
    """
    return anchors(config, ranges, spans(config, ranges.width, ranges.sub)[0].given)
