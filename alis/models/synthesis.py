"""Codes of anchors and places of patches → pictures: a batch of independent patches from the first layer to the last.

Letters: P patches, A anchors in a table, L = num_ws codes an anchor, S width of a code, r a block's resolution,
H rows, w columns of a patch. Frames are a view of patches; a panorama is just more patches.
Source: arXiv 2104.06954, section 3; arXiv 1912.04958, section 2 and appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from alis import ops
from alis.config import ModelConfig
from alis.errors import InputError
from alis.models.layers import Anchored, PatchConv, ToRGB, Waves
from alis.ops.pages import keep_pages
from alis.plane import coords

Noise = str | Sequence[Tensor]
NOISE_MODES = ("none", "const", "random")


class Block(nn.Module):
    """One resolution: waves of the place, one or two 3×3 layers, and the picture so far."""

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        self.config, self.resolution = config, resolution
        self.first = resolution == 4
        self.width = 4 if self.first else resolution // 2
        num_out = config.channels(resolution)
        num_in = num_out if self.first else config.channels(resolution // 2)
        basis_K2 = coords.block_basis(config, resolution)
        across, down = coords.wave_tables(config, basis_K2, self.width)
        self.register_buffer("across", across, persistent=False)
        self.register_buffer("down", down, persistent=False)
        self.across: Tensor
        self.down: Tensor
        normalise, clamp, w_dim = config.is_half(resolution), config.conv_clamp, config.w_dim
        self.sees_waves = config.sees_waves(resolution)
        num_waves = 2 * len(basis_K2) if self.sees_waves else 0
        if self.first:
            self.column = nn.Parameter(torch.randn(num_out, 4))
            self.input = Anchored(num_out, w_dim, bias=0.0)
            self.conv1 = PatchConv(
                num_in + num_waves,
                num_out,
                w_dim,
                4,
                up=False,
                normalise=normalise,
                clamp=clamp,
                padding=config.padding,
                num_waves=num_waves,
            )
        else:
            self.conv0 = PatchConv(
                num_in + num_waves,
                num_out,
                w_dim,
                resolution,
                up=True,
                normalise=normalise,
                clamp=clamp,
                padding=config.padding,
                num_waves=num_waves,
            )
            self.conv1 = PatchConv(
                num_out, num_out, w_dim, resolution, up=False, normalise=normalise, clamp=clamp, padding=config.padding
            )
        self.torgb = ToRGB(num_out, w_dim, clamp=clamp)

    def forward(
        self,
        x_PCHw: Tensor | None,
        image_P3Hw: Tensor | None,
        ws: Sequence[Tensor],
        patches: Patches,
        noise: Sequence[Tensor | None],
        dtype: torch.dtype,
        layout: torch.memory_format,
    ) -> tuple[Tensor, Tensor]:
        """Features and picture of the patches at this resolution.

        Args:
            ws: the table of anchors' codes [A, S] for each layer of the block.
            noise: for each 3×3 layer [P or 1, 1, H, w] or None.
            dtype: what the features are computed in; the picture is summed in the dtype of the codes.
            layout: how the features are stored, from the first block on.
        """
        pairs = patches.pairs_P2
        across = coords.wave_columns(self.across, self.width, self.config.grid_size, patches.place_P)
        waves = Waves(across, self.down) if self.sees_waves else None
        if x_PCHw is None:
            shares = patches.shares(4)
            column = self.column.to(dtype)[None, :, :, None].expand(len(pairs), -1, -1, across.shape[3])
            x = ops.align(column.contiguous(memory_format=layout), self.input.styles(ws[0], pairs), shares)
            x = self.conv1(x, self.conv1.styles(ws[1], pairs), shares, noise[0], waves)
        else:
            x = self.conv0(
                x_PCHw.to(dtype), self.conv0.styles(ws[0], pairs), patches.shares(self.width), noise[0], waves
            )
            shares = patches.shares(self.resolution)
            x = self.conv1(x, self.conv1.styles(ws[1], pairs), shares, noise[1])
        rgb = self.torgb(x, self.torgb.styles(ws[2], pairs), shares)
        return x, rgb if image_P3Hw is None else self._doubled(image_P3Hw) + rgb

    def _doubled(self, image_P3Hw: Tensor) -> Tensor:
        if self.config.padding == "zeros":
            return ops.up2(image_P3Hw)
        return ops.shrink(ops.up2(ops.extend(image_P3Hw)), 2)


class Patches:
    """Where a batch of patches stands: rows of the table of anchors, places in their windows, seats in their frames."""

    def __init__(self, config: ModelConfig, anchors_P3: Tensor, place_P: Tensor, seat_P: Tensor) -> None:
        self.config, self.place_P, self.seat_P = config, place_P, seat_P
        self.pairs_P2 = coords.anchor_pairs(config, anchors_P3, place_P)
        self._shares: dict[int, Tensor] = {}

    def shares(self, width: int) -> Tensor:
        """`coords.shares` at this width of a frame, float64 [P, 2, w], computed once."""
        if width not in self._shares:
            self._shares[width] = coords.shares(self.config, width, self.place_P)
        return self._shares[width]

    def columns(self, noise_HW: Tensor) -> Tensor:
        """Each patch's columns of a frame-wide map: [W, W] → [P, 1, W, w]."""
        parts_gHw = torch.stack(noise_HW.chunk(self.config.grid_size, dim=1))
        return parts_gHw[self.seat_P].unsqueeze(1)


class Synthesis(nn.Module):
    """Blocks 4 … R. Everything works on patches; `Generator` makes frames of them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            self.add_module(f"b{resolution}", Block(config, resolution))
        self.dtype = torch.float32
        self.half_from: int | None = None
        self.layout: torch.memory_format | None = None
        """How features are stored; None chooses channels last on the CPU, rows last elsewhere."""

    @property
    def blocks(self) -> list[Block]:
        """Blocks 4, 8, …, R."""
        found = [self.get_submodule(f"b{r}") for r in self.config.resolutions]
        return [block for block in found if isinstance(block, Block)]

    @property
    def noise_resolutions(self) -> tuple[int, ...]:
        """Side of every noise map, in the order explicit noise is given: 4, 8, 8, 16, 16, …"""
        return (4, *(r for r in self.config.resolutions[1:] for _ in range(2)))

    def set_precision(self, dtype: torch.dtype, from_resolution: int | None = None) -> None:
        """Compute the blocks from this resolution upward in `dtype`, the rest in the dtype of the weights.

        Args:
            from_resolution: by default the blocks trained in half precision, or the upper four if none was.
        """
        lowest = max(self.config.resolution // 8, 8)
        self.dtype = dtype
        self.half_from = from_resolution or self.config.half_from or lowest

    def patches(
        self,
        ws: Tensor,
        place_P: Tensor,
        *,
        anchors_P3: Tensor | None = None,
        seat_P: Tensor | None = None,
        noise: Noise = "none",
    ) -> Tensor:
        """Pictures of patches that know nothing of each other: float32 [P, 3, R, R/g] in about [-1, 1].

        Args:
            ws: codes of each patch's left, centre and right anchor [P, 3, L, S]; or, with `anchors_P3`, a table
                of anchors [A, L, S], each of which then goes through every affine layer once.
            place_P: each patch's number in its window of three anchors, 0 … config.window_patches − 1, integer.
            anchors_P3: rows of the table.
            seat_P: each patch's number in its frame, for the columns of 'const' noise; by default place % g.
            noise: 'none'; 'const', the stored maps; 'random', fresh; or one [P, 1, r, r/g] tensor for each of
                `noise_resolutions`, which the layers scale by their own strengths.
        """
        if anchors_P3 is None:
            anchors_P3 = torch.arange(3 * len(ws), device=ws.device).view(-1, 3)
            ws = ws.flatten(0, 1)
        if seat_P is None:
            seat_P = place_P % self.config.grid_size
        patches = Patches(self.config, anchors_P3, place_P, seat_P)
        maps = iter(self._noise(noise, patches, ws))
        layout = self.layout
        if ws.device.type == "cpu":
            # Measured: oneDNN's convolutions take half the time with channels last, and half of that on kept pages.
            layout = layout or torch.channels_last
            keep_pages()
        x: Tensor | None = None
        image: Tensor | None = None
        for number, block in enumerate(self.blocks):
            # Each ToRGB shares its code with the next block's first layer.
            first = max(2 * number, 0)
            codes = [ws[:, first + k] for k in range(3)]
            own = [next(maps) for _ in range(1 if block.first else 2)]
            is_half = self.half_from is not None and block.resolution >= self.half_from
            x, image = block(
                x, image, codes, patches, own, self.dtype if is_half else ws.dtype, layout or torch.contiguous_format
            )
        assert image is not None
        return image

    def _noise(self, noise: Noise, patches: Patches, ws: Tensor) -> list[Tensor | None]:
        """One map for each 3×3 layer, or None."""
        sides = self.noise_resolutions
        if not isinstance(noise, str):
            if len(noise) != len(sides):
                raise InputError(f"noise: {len(noise)} maps for {len(sides)} layers", hint=f"their sides are {sides}")
            return list(noise)
        if noise == "none":
            return [None] * len(sides)
        if noise == "random":
            g, num = self.config.grid_size, len(patches.place_P)
            return [torch.randn([num, 1, r, r // g], dtype=ws.dtype, device=ws.device) for r in sides]
        if noise == "const":
            layers = [layer for layer in self.modules() if isinstance(layer, PatchConv)]
            return [patches.columns(layer.noise_const) for layer in layers]
        raise InputError(
            f'noise: unknown mode "{noise}"', hint=f"use one of {', '.join(NOISE_MODES)} or a list of maps"
        )
