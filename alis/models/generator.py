"""z → w → frames: the mapping network, and the generator that combines it with the synthesis network.

Letters: B batch, K neighbouring anchors, Z and S widths of z and w, L = num_ws, R side of a frame, g patches per frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alis.config import ModelConfig
from alis.errors import InputError
from alis.models.layers import Dense
from alis.models.synthesis import Noise, Synthesis
from alis.ops.bias_act import SLOPE
from alis.plane.ranges import Ranges, anchors_seen

W_AVG_DECAY = 0.995


class Mapping(nn.Module):
    """z → w: normalises z and passes it through fully connected layers with a hundredth of the learning rate."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_layers = config.mapping_layers
        widths = [config.z_dim] + [config.w_dim] * self.num_layers
        for k in range(self.num_layers):
            self.add_module(f"fc{k}", Dense(widths[k], widths[k + 1], slope=SLOPE, lr=0.01))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))
        self.w_avg: Tensor

    def forward(self, z_BZ: Tensor) -> Tensor:
        """Map z to w [B, S]."""
        x = z_BZ * (z_BZ.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for k in range(self.num_layers):
            x = self.get_submodule(f"fc{k}")(x)
        return x

    @torch.no_grad()
    def track(self, w_BS: Tensor) -> None:
        """Update the running average of w with this batch (in training, from centre codes only)."""
        self.w_avg.lerp_(w_BS.detach().mean(dim=0).to(self.w_avg.dtype), 1 - W_AVG_DECAY)


class Generator(nn.Module):
    """The generator of ALIS: the codes of three anchors and a position between them → a frame.

    Args:
        config: sizes and geometry.

    Source: arXiv 2104.06954.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)

    @property
    def num_ws(self) -> int:
        """Number of codes of an anchor, one for each layer."""
        return self.config.num_ws

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.mapping.w_avg.device

    def set_precision(self, dtype: torch.dtype, from_resolution: int | None = None) -> Generator:
        """Compute the high resolutions in `dtype` from now on (`Synthesis.set_precision`); returns itself."""
        self.synthesis.set_precision(dtype, from_resolution)
        return self

    def map(self, z_BZ: Tensor, psi: float = 1.0) -> Tensor:
        """Map z to w [B, S]; psi < 1 moves it towards the average w (truncation)."""
        w_BS = self.mapping(z_BZ)
        return w_BS if psi == 1 else self.mapping.w_avg.lerp(w_BS, psi)

    def forward(
        self,
        w_left: Tensor,
        w_centre: Tensor,
        w_right: Tensor,
        shift: Tensor | int,
        noise: Noise = "none",
        *,
        seed: Tensor | int = 0,
    ) -> Tensor:
        """Paint frames: float32 [B, 3, R, R] in about [-1, 1].

        With plane padding, the outer anchors' codes are repeated beyond them.

        Args:
            w_left, w_centre, w_right: codes of the three anchors, [B, S] or [B, num_ws, S].
            shift: left border of each frame in the window, in patches, 0 … config.max_shift: [B] integers or one.
            noise: 'none', 'const', 'random', or a list of maps (`Synthesis.forward`), for B·g patches or for B frames.
            seed: of the plane whose local latents are used: [B] integers or one.

        Raises:
            InputError: codes of different shapes, or a frame that would leave its window.
        """
        num = len(w_centre)
        ws_BLS = [self._broadcast(w, name) for w, name in ((w_left, "left"), (w_centre, "centre"), (w_right, "right"))]
        if len({len(w) for w in ws_BLS}) > 1:
            sizes = ", ".join(str(len(w)) for w in ws_BLS)
            raise InputError(
                f"anchors: batches of {sizes} codes", hint="give the same number of left, centre and right codes"
            )
        column_B = self._shift(shift, num) * (4 // self.config.grid_size)
        seed_B = torch.as_tensor(seed, device=self.device).long().expand(num)
        # Stored noise is relative to the frame, wherever it is.
        ranges = Ranges(column_B, self.config.resolution, seed_B=seed_B, stored_B=torch.zeros_like(column_B))
        return self.frames(torch.stack(ws_BLS, dim=1), torch.zeros_like(column_B), ranges, noise=noise)

    def frames(self, ws_BKLS: Tensor, first_B: Tensor, ranges: Ranges, *, noise: Noise = "none") -> Tensor:
        """Paint ranges of the plane, each with its own anchors: float32 [B, 3, R, width] in about [-1, 1].

        Args:
            ws_BKLS: codes of neighbouring anchors; the outermost codes are repeated beyond them.
            first_B: number of each range's first anchor, which is at column first · config.anchor_columns.
            ranges: positions of the ranges: at patch borders, or with plane padding at any column.
            noise: as in `forward`.
        """
        num, num_anchors = ws_BKLS.shape[:2]
        row_B = torch.arange(num, device=first_B.device) * num_anchors
        patched = self.config.padding != "plane"
        if patched:
            ranges = ranges.patches(self.config)
            first_B, row_B = (x_B.repeat_interleave(len(ranges.column_B) // num) for x_B in (first_B, row_B))
        seen = anchors_seen(self.config, ranges)
        each = torch.arange(seen.num, device=first_B.device)
        own_BK = ((seen.first_B - first_B)[:, None] + each).clamp(0, num_anchors - 1)
        x: Tensor = self.synthesis(ws_BKLS.flatten(0, 1), row_B[:, None] + own_BK, ranges, noise=noise)
        if patched:
            x = x.unflatten(0, (num, -1)).permute(0, 2, 3, 1, 4).flatten(3)
        return x

    def _broadcast(self, w: Tensor, name: str) -> Tensor:
        """Expand codes [B, S] or [B, L, S] to [B, L, S]."""
        sizes = (self.config.num_ws, self.config.w_dim)
        if w.ndim == 2 and w.shape[1] == sizes[1]:
            return w[:, None, :].expand(-1, sizes[0], -1)
        if w.ndim == 3 and w.shape[1:] == sizes:
            return w
        raise InputError(
            f"w_{name}: shape {tuple(w.shape)}", hint=f"codes are [B, {sizes[1]}] or [B, {sizes[0]}, {sizes[1]}]"
        )

    def _shift(self, shift: Tensor | int, num: int) -> Tensor:
        shift_B = torch.as_tensor(shift, device=self.device)
        if shift_B.is_floating_point() or shift_B.ndim > 1 or shift_B.numel() not in {1, num}:
            raise InputError(
                f"shift: {shift_B.dtype} of shape {tuple(shift_B.shape)}", hint=f"give {num} whole numbers, or one"
            )
        # During export there are no values to check.
        is_known = shift_B.device.type == "cpu" and not torch.compiler.is_exporting()
        if is_known and not ((shift_B >= 0) & (shift_B <= self.config.max_shift)).all():
            raise InputError(f"shift: {shift_B.tolist()} leaves the window", hint=f"use 0 … {self.config.max_shift}")
        return shift_B.long().expand(num)
