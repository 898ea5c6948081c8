"""Anchors' codes and positions on the plane → pictures: the synthesis network, on batches of ranges of columns.

It works on ranges of columns of the plane (`alis.plane.ranges`): a tile, a frame or a strip; or a patch, in networks
with independent patches. `Synthesis.inputs` looks up everything that depends on the position, as tensors of fixed
shapes; `Synthesis.paint` is the network itself, a function of tensors only.
Letters: B ranges, A anchors in a table, K anchors of a range, L = num_ws codes per anchor, S width of a code, r a
block's resolution, H rows, w columns of a range.
Source: arXiv 2104.06954, section 3; arXiv 1912.04958, section 2 and appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alis import ops
from alis.config import ModelConfig
from alis.errors import InputError
from alis.models import initialization
from alis.models.layers import PositionInputs, StyledLayer, SynthesisConv, ToRGB
from alis.ops.bias_act import needs_gradient
from alis.ops.layout import column_major
from alis.ops.malloc import keep_freed_memory
from alis.plane import coords
from alis.plane.latents import local_latents
from alis.plane.ranges import Ranges, anchors, anchors_seen
from alis.plane.spans import BlockSpans, Span, spans

Noise = str | Sequence[Tensor]
NOISE_MODES = ("none", "const", "random")
# Lower blocks have up to 512 channels and few rows: there it takes longer. Measured at 1024 px.
BY_COLUMN_FROM = 128


@dataclass
class BlockInputs:
    """The inputs of one block that depend on the position.

    `given_BKw` and `own_BKw` are the anchors' shares in the columns of its input and of its output; `colours_BKw` are
    the shares of the few anchors over the picture, which begin `colours_first_B` anchors further on; `noise` has one
    map for each 3×3 layer.
    """

    spans: BlockSpans
    given_BKw: Tensor
    own_BKw: Tensor
    colours_BKw: Tensor
    colours_first_B: Tensor
    place: PositionInputs | None
    noise: list[Tensor | None]

    def own(self, span: Span) -> Tensor:
        """The shares in some of its output columns."""
        return _cut(self.own_BKw, self.spans.middle, span)


@dataclass(frozen=True)
class Storage:
    """Dtype and memory format of a block's features; the picture is summed in the dtype of the codes."""

    dtype: torch.dtype
    layout: torch.memory_format


def _cut(x: Tensor, has: Span, wanted: Span) -> Tensor:
    """Crop x, which has the columns `has` in its last dimension, to the columns `wanted`."""
    return x[..., wanted.first - has.first : wanted.stop - has.first]


class Block(nn.Module):
    """One resolution: positional inputs, one or two 3×3 layers, and ToRGB added to the picture so far."""

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        self.config, self.resolution = config, resolution
        self.first = resolution == 4
        self.width = 4 if self.first else resolution // 2
        num_out = config.channels(resolution)
        num_in = num_out if self.first else config.channels(resolution // 2)
        vectors, num_latents = coords.kept_waves(config, resolution)
        across, down = coords.wave_tables(config, vectors, self.width)
        self.register_buffer("across", across, persistent=False)
        self.register_buffer("down", down, persistent=False)
        self.across: Tensor
        self.down: Tensor
        self.sees_place = config.sees_waves(resolution)
        self.num_latents = num_latents if self.sees_place else 0
        num_waves = 2 * len(vectors) if self.sees_place else 0
        num_seen = num_in + num_waves + self.num_latents
        if self.first:
            self.column = nn.Parameter(torch.randn(num_out, 4))
            self.input = StyledLayer(num_out, config.w_dim, bias=0.0)
            self.conv1 = SynthesisConv(num_seen, num_out, 4, config, up=False)
        else:
            self.conv0 = SynthesisConv(num_seen, num_out, resolution, config, up=True)
            self.conv1 = SynthesisConv(num_out, num_out, resolution, config, up=False)
        self.torgb = ToRGB(num_out, config.w_dim, clamp=config.conv_clamp)
        self._begin(num_in, num_waves)

    def _begin(self, num_in: int, num_waves: int) -> None:
        initialization.scale_wave_weights((self.conv1 if self.first else self.conv0).weight, num_in, num_waves)
        if self.config.start == "unit":
            for layer in [self.conv1, self.torgb] if self.first else [self.conv0, self.conv1, self.torgb]:
                initialization.init_unit_style(layer.affine)
            initialization.init_unit_colours(self.torgb.weight, len(self.config.resolutions))

    @property
    def noise_layers(self) -> list[SynthesisConv]:
        """Its 3×3 layers, which get noise."""
        return [self.conv1] if self.first else [self.conv0, self.conv1]

    def forward(
        self,
        x_BCHw: Tensor | None,
        image_B3Hw: Tensor | None,
        ws: Sequence[Tensor],
        anchors_BK: Tensor,
        inputs: BlockInputs,
        storage: Storage,
    ) -> tuple[Tensor, Tensor]:
        """Features and picture of the ranges at this resolution.

        Args:
            x_BCHw, image_B3Hw: features of the previous block in the columns `given`, and its picture in all columns.
            ws: tables of anchors' codes [A, S], one for each layer of the block.
            anchors_BK: rows in the tables of each range's anchors.
        """
        at, noise, place = inputs.spans, inputs.noise, inputs.place
        if x_BCHw is None:
            size = (len(anchors_BK), -1, -1, at.given.width)
            column = self.column.to(storage.dtype)[None, :, :, None].expand(size)
            column = column.contiguous(memory_format=storage.layout)
            x = ops.align(column, self.input.styles(ws[0], anchors_BK), inputs.given_BKw)
            x = self.conv1(x, self.conv1.styles(ws[1], anchors_BK), inputs.given_BKw, noise[0], place)
        else:
            crop = (at.middle.first - 2 * at.given.first - 1, 2 * at.given.stop - 1 - at.middle.stop)
            styles = self.conv0.styles(ws[0], anchors_BK)
            x = self.conv0(x_BCHw.to(storage.dtype), styles, inputs.given_BKw, noise[0], place, crop)
            x = self.conv1(x, self.conv1.styles(ws[1], anchors_BK), inputs.own(at.middle), noise[1])
        num, num_all = inputs.colours_BKw.shape[1], anchors_BK.shape[1]
        over_BK = inputs.colours_first_B[:, None] + torch.arange(num, device=anchors_BK.device)
        over_BK = over_BK.clamp(max=num_all - 1)  # shares are 0 beyond
        styles = self.torgb.styles(ws[2], anchors_BK.gather(1, over_BK))
        rgb = self.torgb(x, styles, inputs.colours_BKw, at.image.first - at.features.first)
        return x, rgb if image_B3Hw is None else self._doubled(image_B3Hw, at.image) + rgb

    def _doubled(self, image_B3Hw: Tensor, wanted: Span) -> Tensor:
        if self.config.padding == "zeros":
            return ops.up2(image_B3Hw)
        if self.config.padding == "replicate":
            return ops.shrink(ops.up2(ops.extend(image_B3Hw)), 2)
        first = 2 * ((wanted.first - 1) // 2)
        return _cut(ops.up2(ops.repeat_rows(image_B3Hw))[:, :, 2:-2], Span(first, first), wanted)


class Synthesis(nn.Module):
    """The synthesis network: blocks 4 … R, on ranges of columns; `Generator` makes frames of them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            self.add_module(f"b{resolution}", Block(config, resolution))
        self.dtype = torch.float32
        self.half_from: int | None = None
        self.layout: torch.memory_format | None = None
        """Memory format of features; None: channels-last on the CPU, contiguous elsewhere."""

    @property
    def blocks(self) -> list[Block]:
        """The blocks of resolutions 4, 8, …, R."""
        found = [self.get_submodule(f"b{r}") for r in self.config.resolutions]
        return [block for block in found if isinstance(block, Block)]

    @property
    def noise_resolutions(self) -> tuple[int, ...]:
        """Resolution of every noise map, in the order of explicit noise: 4, 8, 8, 16, 16, …"""
        return (4, *(r for r in self.config.resolutions[1:] for _ in range(2)))

    def noise_spans(self, ranges: Ranges) -> list[Span]:
        """The columns of every noise map for such ranges, in the same order."""
        found: list[Span] = []
        for at in spans(self.config, ranges.width, ranges.sub):
            found += [at.features] if at.height == 4 else [at.middle, at.features]
        return found

    def set_precision(self, dtype: torch.dtype, from_resolution: int | None = None) -> None:
        """Compute the blocks from this resolution up in `dtype`, the others in the dtype of the weights.

        Args:
            from_resolution: by default the blocks trained in half precision, or the highest four if there are none.
        """
        lowest = max(self.config.resolution // 8, 8)
        self.dtype = dtype
        self.half_from = from_resolution or self.config.half_from or lowest

    def forward(self, ws_ALS: Tensor, anchors_BK: Tensor, ranges: Ranges, *, noise: Noise = "none") -> Tensor:
        """Paint ranges of columns: float32 [B, 3, R, width] in about [-1, 1].

        Args:
            ws_ALS: a table of anchors' codes; each goes through every affine layer once.
            anchors_BK: rows of the table for the anchors of each range, `plane.ranges.anchors_seen`.
            ranges: positions of the ranges; with independent patches, each is one patch wide and at a patch border.
            noise: 'none'; 'const', the stored maps; 'random'; or one tensor [B, 1, r, w] for each of
                `noise_resolutions`, with the columns of `noise_spans`; layers scale it by their own strength.

        Raises:
            InputError: ranges that this network can't paint, or noise of the wrong shape.
        """
        return self.paint(ws_ALS, anchors_BK, self.inputs(ranges, noise, ws_ALS.dtype))

    def inputs(self, ranges: Ranges, noise: Noise, dtype: torch.dtype = torch.float32) -> list[BlockInputs]:
        """The positional inputs and noise of each block. Raises: as `forward`."""
        config = self.config
        tile = config.resolution // config.grid_size
        if config.padding != "plane" and (ranges.width != tile or ranges.sub):
            raise InputError(
                f"a range of {ranges.width} columns can't be painted at once",
                hint=f'with padding = "{config.padding}", give patches of {tile} columns',
            )
        plan = spans(config, ranges.width, ranges.sub)
        seen, over = anchors_seen(config, ranges), anchors(config, ranges, plan[0].image)
        maps = iter(self._noise(noise, ranges, dtype))
        found = []
        for block, at in zip(self.blocks, plan, strict=True):
            own = ranges.columns(at.middle, block.resolution)
            given = own if block.first else ranges.columns(at.given, block.width)
            given_BKw = seen.shares(config, given, block.width)
            found.append(
                BlockInputs(
                    at,
                    given_BKw,
                    given_BKw if block.first else seen.shares(config, own, block.resolution),
                    over.shares(config, ranges.columns(at.image, block.resolution), block.resolution),
                    over.first_B - seen.first_B,
                    self._place(block, ranges, at, given),
                    [next(maps) for _ in block.noise_layers],
                )
            )
        return found

    def paint(self, ws_ALS: Tensor, anchors_BK: Tensor, inputs: Sequence[BlockInputs]) -> Tensor:
        """`forward` from the results of `inputs`: a function of tensors whose shapes depend only on the width."""
        layout = self.layout
        if ws_ALS.device.type == "cpu":
            # Measured: oneDNN's convolutions take half the time channels-last, and half of that on kept memory pages.
            layout = layout or torch.channels_last
            keep_freed_memory()
        x: Tensor | None = None
        image: Tensor | None = None
        for number, (block, own) in enumerate(zip(self.blocks, inputs, strict=True)):
            # Each ToRGB shares its code with the next block's first layer.
            codes = [ws_ALS[:, 2 * number + k] for k in range(3)]
            is_half = self.half_from is not None and block.resolution >= self.half_from
            storage = Storage(self.dtype if is_half else ws_ALS.dtype, layout or torch.contiguous_format)
            if x is not None and self._goes_by_column(x, block, own.spans):
                x = column_major(x)
            x, image = block(x, image, codes, anchors_BK, own, storage)
        assert image is not None
        return image

    def _goes_by_column(self, x_BCHw: Tensor, block: Block, at: BlockSpans) -> bool:
        """Whether a block of this range is computed quicker on maps stored column after column."""
        is_painting = x_BCHw.device.type == "cpu" and self.layout is None and not torch.compiler.is_compiling()
        is_wide = block.resolution >= BY_COLUMN_FROM and at.features.width > 2 * block.resolution
        return is_painting and is_wide and self.config.padding == "plane" and not needs_gradient(x_BCHw)

    def _place(self, block: Block, ranges: Ranges, at: BlockSpans, given_Bw: Tensor) -> PositionInputs | None:
        if not block.sees_place:
            return None
        latents = None
        if block.num_latents:
            seed_B = torch.zeros_like(ranges.column_B) if ranges.seed_B is None else ranges.seed_B
            column_Bw = given_Bw if ranges.ring_B is None else ranges.on_ring(at.given, block.width)
            latents = local_latents(seed_B, block.resolution, column_Bw, block.num_latents, block.width)
        return PositionInputs(coords.wave_columns(block.across, given_Bw), block.down, latents)

    def _noise(self, noise: Noise, ranges: Ranges, dtype: torch.dtype) -> list[Tensor | None]:
        """One map for each 3×3 layer, or None."""
        sides, at, device = self.noise_resolutions, self.noise_spans(ranges), ranges.column_B.device
        if not isinstance(noise, str):
            if len(noise) != len(sides):
                raise InputError(f"noise: {len(noise)} maps for {len(sides)} layers", hint=f"their sides are {sides}")
            # While a graph is traced, sizes may not be known.
            for number, (found, r, span) in enumerate(zip(noise, sides, at, strict=True)):
                want = (1, r, span.width)
                fits = found.ndim == 4 and found.shape[1:] == want and len(found) in {1, len(ranges.column_B)}
                if not torch.compiler.is_compiling() and not fits:
                    raise InputError(
                        f"noise: map {number} is {list(found.shape)}",
                        hint=f"give [{len(ranges.column_B)} or 1, {', '.join(map(str, want))}]",
                    )
            return list(noise)
        if noise == "none":
            return [None] * len(sides)
        if noise == "random":
            num = len(ranges.column_B)
            return [
                torch.randn([num, 1, r, span.width], dtype=dtype, device=device)
                for r, span in zip(sides, at, strict=True)
            ]
        if noise == "const":
            return [*self.stored_noise(ranges)]
        raise InputError(
            f'noise: unknown mode "{noise}"', hint=f"use one of {', '.join(NOISE_MODES)} or a list of maps"
        )

    def stored_noise(self, ranges: Ranges) -> list[Tensor]:
        """The columns of the stored noise maps for these ranges: [B, 1, r, w] for each of `noise_resolutions`."""
        layers = [layer for block in self.blocks for layer in block.noise_layers]
        found = []
        for layer, r, span in zip(layers, self.noise_resolutions, self.noise_spans(ranges), strict=True):
            column_Bw = ranges.stored(span, r)
            found.append(layer.noise_const[:, column_Bw].transpose(0, 1).unsqueeze(1))
        return found
