"""DINOv2's ViT-S/14 as a module: the class token of a 224 px picture, 384 features.

Names of its tensors are those of the published file (Apache-2.0), so the file loads as it is.
Source: Oquab et al. 2023, https://arxiv.org/abs/2304.07193.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Patches(nn.Module):
    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_px, patch_px)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        patches: Tensor = self.proj(x_BCHW)
        return patches.flatten(2).transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        batch, tokens, width = x_BTC.shape
        qkv = self.qkv(x_BTC).view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        out: Tensor = self.proj(mixed)
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(width, eps=1e-6), _Attention(width, num_heads), _Scale(width)
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(width, eps=1e-6), _Mlp(width), _Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class Vit(nn.Module):
    """Picture float [B, 3, H, W], ImageNet-normalised, sides multiples of 14 → class token [B, width]."""

    def __init__(self, width: int, depth: int, num_heads: int, patch_px: int = 14, grid: int = 37) -> None:
        super().__init__()
        self.grid, self.patch_px = grid, patch_px
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.patch_embed = _Patches(width, patch_px)
        self.blocks = nn.ModuleList(_Block(width, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(x_BCHW), -1, -1), self.patch_embed(x_BCHW)], dim=1)
        x = x + self._positions(x_BCHW.shape[2] // self.patch_px, x_BCHW.shape[3] // self.patch_px)
        for block in self.blocks:
            x = block(x)
        tokens: Tensor = self.norm(x)
        return tokens[:, 0]

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Position codes resampled from the trained grid; the published code scales by (side + 0.1) / grid."""
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / self.grid, (columns + 0.1) / self.grid)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def vit_small() -> Vit:
    """ViT-S/14: 384 wide, 12 blocks, 6 heads."""
    return Vit(384, 12, 6)
