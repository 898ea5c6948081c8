"""(seed, block, channel, row, absolute column) → local latents: Gaussian noise inputs, so that the plane never repeats.

They replace waves along x: waves repeat every two frames, and so does whatever a generator derives from them. A hashed
counter (`alis.plane.noise`) gives 32 bits for two neighbouring rows; each half is looked up in a table of 65,536
quantiles of the normal distribution. Only integers and one look-up, so every device and language gets the same field.
Source: arXiv 2104.03963 (local latents).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from alis.plane.noise import FIRST, GOLDEN, SECOND, column_keys

_STREAM = 0x4C617400  # separate from the layers' noise
_CHUNK = 1 << 17  # words computed at a time, so that they stay in a core's cache


def local_latents(seed_B: Tensor, resolution: int, column_Bw: Tensor, num: int, height: int) -> Tensor:
    """Standard normal numbers, float32 [B, num, height, w], channels last in memory.

    The word of channel c and rows 2i, 2i + 1 is the hash of (key of the column) xor (c·height/2 + i)·0x9E3779B1,
    modulo 2^32; its low half is row 2i's number, its high half row 2i + 1's.

    Args:
        seed_B: int64, each range's seed.
        resolution: of the block; blocks have different latents.
        column_Bw: int64, absolute column numbers on the block's input grid.
        num: number of channels.
        height: number of rows, even.
    """
    return LocalLatents(seed_B, resolution, column_Bw, num, height).tensor()


@dataclass(frozen=True)
class LocalLatents:
    """The arguments of `local_latents`, for numbers that are computed where they are used."""

    seed_B: Tensor
    resolution: int
    column_Bw: Tensor
    num: int
    height: int

    def tensor(self) -> Tensor:
        """All of them: `local_latents`."""
        device, (batch, width) = self.column_Bw.device, self.column_Bw.shape
        if device.type != "cpu" or torch.compiler.is_exporting():
            return self._rows(slice(None))
        found = torch.empty([batch, self.height, width, self.num], device=device).permute(0, 3, 1, 2)
        for pairs in self._pieces(self.height // 2, batch * width):
            found[:, :, 2 * pairs.start : 2 * pairs.stop] = self._rows(pairs)
        return found

    def write_scaled(self, scale_BMw: Tensor, out_BMHw: Tensor, *, by_column: bool = False) -> None:
        """Write them times the scales of their columns into a map on the CPU, a piece at a time.

        In a strip at 1024 px a map of them is 0.1 GB: writing and reading it takes longer than computing them.

        Args:
            by_column: whether `out` is stored column after column (`alis.ops.layout`): the pieces are then columns.
        """
        batch, width = self.column_Bw.shape
        if by_column:
            for columns in self._pieces(width, batch * self.height // 2):
                scale_BMn = scale_BMw[:, :, None, columns]
                torch.mul(self._columns(columns).to(out_BMHw.dtype), scale_BMn, out=out_BMHw[..., columns])
        else:
            for pairs in self._pieces(self.height // 2, batch * width):
                rows = slice(2 * pairs.start, 2 * pairs.stop)
                torch.mul(self._rows(pairs).to(out_BMHw.dtype), scale_BMw[:, :, None], out=out_BMHw[:, :, rows])

    def _pieces(self, length: int, words: int) -> list[slice]:
        step = max(_CHUNK // max(words * self.num, 1), 1)
        return [slice(first, min(first + step, length)) for first in range(0, length, step)]

    def _rows(self, pairs: slice) -> Tensor:
        """Those of some pairs of rows, [B, num, rows, w]."""
        word_Bpwm = _mixed(self._key_Bw[:, None, :, None] ^ self._counter_pm[None, pairs, None, :])
        batch, num_pairs, width, num = word_Bpwm.shape
        return self._looked_up(word_Bpwm, 2).view(batch, 2 * num_pairs, width, num).permute(0, 3, 1, 2)

    def _columns(self, columns: slice) -> Tensor:
        """Those of some columns, [B, num, height, n], stored column after column."""
        word_Bnpm = _mixed(self._key_Bw[:, columns, None, None] ^ self._counter_pm)
        batch, width, num_pairs, num = word_Bnpm.shape
        return self._looked_up(word_Bnpm, 3).view(batch, width, 2 * num_pairs, num).permute(0, 3, 2, 1)

    @functools.cached_property
    def _key_Bw(self) -> Tensor:
        return _signed(column_keys(self.seed_B, _STREAM + self.resolution, self.column_Bw))

    @functools.cached_property
    def _counter_pm(self) -> Tensor:
        device, num_pairs = self.column_Bw.device, self.height // 2
        channel = torch.arange(self.num, device=device) * num_pairs
        return _signed((torch.arange(num_pairs, device=device)[:, None] + channel) * GOLDEN)

    def _looked_up(self, word: Tensor, dim: int) -> Tensor:
        """The numbers of each word's two halves, side by side in a new dimension."""
        index = torch.stack([word & 0xFFFF, _shifted(word, 16)], dim=dim)
        # An exported graph gets its own table: the tracer's placeholder must not get into the cache.
        table = (quantiles.__wrapped__ if torch.compiler.is_exporting() else quantiles)(word.device)
        return table.index_select(0, index.flatten()).view(index.shape)


@functools.cache
def quantiles(device: torch.device) -> Tensor:
    """Quantiles of the normal distribution at (i + ½)/65536, float32 [65536]."""
    # The cache outlives this call: an inference tensor could not be used with gradients later.
    with torch.inference_mode(False):
        return torch.special.ndtri((torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)).float().to(device)


def _signed(x: Tensor) -> Tensor:
    """The low 32 bits of int64 as int32, whose products wrap around at 2^32 as the hash needs."""
    return ((x + (1 << 31) & 0xFFFFFFFF) - (1 << 31)).to(torch.int32)


def _shifted(x: Tensor, num: int) -> Tensor:
    """int32 shifted right by `num` bits, filled with zeros."""
    return (x >> num).bitwise_and_((1 << 32 - num) - 1)


def _mixed(x: Tensor) -> Tensor:
    """`alis.plane.noise.mix` on int32, in place: half the memory, and products that CPUs compute eight at a time."""
    x.bitwise_xor_(_shifted(x, 16)).mul_(FIRST)
    x.bitwise_xor_(_shifted(x, 15)).mul_(SECOND - (1 << 32))
    return x.bitwise_xor_(_shifted(x, 16))
