"""A photograph → the code whose scene looks most like it.

The scene is the frame in the middle between two anchors that hold the same code, as `alis connect` puts it into a
panorama; what lies beside the square in the photograph (mirrored at its edges) is kept to a little, so that the land
goes on from there. First one w for all layers (from the best of some hundred random scenes), then, in W+, one for each
layer, held near each other. How alike two pictures are is measured by `alis.painting.likeness`, without a download.
Source: arXiv 1904.03189 (W+), arXiv 1912.04958 appendix D (projection).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from alis import formats
from alis.data.decode import eight_bits
from alis.errors import InputError, RunError, WeightsMissing
from alis.formats.rows import whole
from alis.models import Discriminator, Generator, load_discriminator
from alis.painting.likeness import Features, Likeness, packaged_features
from alis.painting.strip import fingerprint
from alis.plane import codes
from alis.progress import bar

SPACES = ("w", "w+")
_STARTS, _BATCH = 256, 16
_RATE = 0.06
_HELD = 0.02
_BESIDE = 0.4
_PREVIEW_EVERY = 25


@dataclass(frozen=True)
class Inverted:
    """A code [S] or [num_ws, S], its frame, and how far it is from the photograph."""

    w: Tensor
    frame_3RR: Tensor
    loss_start: float
    loss: float
    psnr_db: float


def margin(g: Generator) -> int:
    """Patches between an anchor and the scene."""
    return max((g.config.anchor_patches - g.config.grid_size) // 2, 0)


def scene(g: Generator, w_BLS: Tensor) -> Tensor:
    """Frames [B, 3, R, R] in the middle between two anchors of the same code, without noise."""
    frames: Tensor = g(w_BLS, w_BLS, w_BLS, margin(g))
    return frames


def surroundings(g: Generator, w_BLS: Tensor) -> Tensor:
    """All that lies between two anchors of the same code, [B, 3, R, n_p·R/g]; the scene is in its middle."""
    shifts = range(0, max(g.config.anchor_patches - g.config.grid_size, 0) + 1, g.config.grid_size)
    return torch.cat([g(w_BLS, w_BLS, w_BLS, shift) for shift in shifts], dim=3)


def read_photo(path: str | Path, resolution: int, *, place: float = 0.5, beside: int = 0) -> Tensor:
    """The largest square of a photograph at R×R, [3, R, R + 2·beside] in [-1, 1].

    Args:
        place: 0 … 1, the square's place along the longer side.
        beside: columns to the left and right of the square; beyond the photograph it is mirrored.

    Raises:
        InputError: no picture, or smaller than the model's frames.
    """
    if not 0 <= place <= 1:
        raise InputError(f"crop at {place} is outside the picture", hint="use 0 (left or top) to 1 (right or bottom)")
    try:
        with Image.open(path) as opened:
            side = min(opened.size)
            if side < resolution:
                raise InputError(
                    f"{path}: {opened.width}×{opened.height} px is too small", hint=f"give at least {resolution} a side"
                )
            opened.draft("RGB", (resolution, resolution))
            has_alpha = "A" in opened.getbands() or "transparency" in opened.info
            picture = eight_bits(ImageOps.exif_transpose(opened)).convert("RGBA" if has_alpha else "RGB")
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint="give a photograph") from None
    except Exception as error:
        # Decoders raise whatever a broken file makes them stumble over.
        raise InputError(f"{path}: can't be read as a picture ({error})", hint="give a JPEG, PNG or WebP") from None
    if picture.mode == "RGBA":
        paper = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(paper, picture).convert("RGB")
    scale = resolution / min(picture.size)
    size = tuple(max(resolution, round(length * scale)) for length in picture.size)
    pixels_HWC = np.array(picture.resize(size, Image.Resampling.LANCZOS))  # type: ignore[arg-type]
    left, top = (round((length - resolution) * place) for length in size)
    column_W = np.abs(np.arange(left - beside, left + resolution + beside))
    column_W = (size[0] - 1) - np.abs((size[0] - 1) - column_W % (2 * size[0] - 2))
    return torch.from_numpy(pixels_HWC[top : top + resolution, column_W]).permute(2, 0, 1).float() / 127.5 - 1


def invert(
    g: Generator,
    photo_3RW: Tensor,
    *,
    d: Discriminator | None = None,
    packaged: Features | None = None,
    space: str = "w+",
    steps: int = 300,
    seed: int = 0,
    preview: Callable[[Tensor], None] | None = None,
) -> Inverted:
    """Find a photograph's code; the same arguments find the same code.

    Args:
        photo_3RW: as `read_photo` gives it, [3, R, R] or with as much beside it as lies between two anchors.
        d: the model's discriminator, if it was saved.
        packaged: `alis.painting.likeness.packaged_features`, if they are installed.
        space: "w", one code for all layers: a scene of the model's own, or "w+", one for each: closer to the photo.
        preview: shown the frame now and then.

    Raises:
        InputError: an unknown space, or no steps.
        RunError: the search ran away.
    """
    if space not in SPACES:
        raise InputError(f"space {space!r} is unknown", hint='use "w" or "w+"')
    if not 1 <= steps <= 100_000:
        raise InputError(f"{steps} steps", hint="use at least 1; 300 is usual")
    size, beside = g.config.resolution, (photo_3RW.shape[2] - g.config.resolution) // 2
    photo_3RW = photo_3RW.to(g.device)
    photo = photo_3RW[:, :, beside : beside + size]
    alike, around = Likeness(photo, d, packaged), Likeness(photo_3RW) if beside else None
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        w_NS = g.map(torch.randn(_STARTS, g.config.z_dim, generator=random).to(g.device))
        w_NS = torch.cat([g.mapping.w_avg[None], w_NS])
        spread = float((w_NS - w_NS.mean(dim=0)).square().mean().sqrt())
        broad = w_NS[:, None].expand(-1, g.num_ws, -1)
        distances = torch.cat([alike(scene(g, some)) for some in torch.split(broad, _BATCH)])
    best = int(distances.argmin())
    base_S = w_NS[best].clone().requires_grad_()
    apart_LS = torch.zeros(g.num_ws, g.config.w_dim, device=g.device, requires_grad=True)
    first = steps if space == "w" else max(steps * 2 // 5, 1)
    optimizer = torch.optim.Adam([base_S, apart_LS], lr=1, betas=(0.9, 0.999))
    found = (math.inf, base_S.detach().clone(), apart_LS.detach().clone())
    with bar("invert", steps) as advance:
        for step in range(steps):
            is_plus = step >= first
            way = (step - first) / max(steps - first, 1) if is_plus else step / first
            rate = (
                _RATE
                * spread
                * math.sqrt(g.config.w_dim / 512)
                * min(1, way * 20 + 0.1)
                * (1 + math.cos(math.pi * way))
                / 2
            )
            optimizer.param_groups[0]["lr"] = rate
            w_1LS = (base_S + apart_LS if is_plus else base_S.expand(g.num_ws, -1))[None]
            wide = surroundings(g, w_1LS) if around else scene(g, w_1LS)
            frame = wide[..., beside : beside + size]
            distance = alike(frame)[0]
            if around:
                distance = distance + _BESIDE * around(wide[..., : photo_3RW.shape[2]])[0]
            value = float(distance.detach())
            if not math.isfinite(value):
                raise RunError(f"the search ran away at step {step}", hint="try --space w, or another --seed")
            if value < found[0]:
                found = (value, base_S.detach().clone(), apart_LS.detach().clone())
            optimizer.zero_grad()
            torch.autograd.backward(distance + _HELD * apart_LS.square().mean() / spread**2)
            if not is_plus:
                apart_LS.grad = None
            optimizer.step()
            if preview and (step % _PREVIEW_EVERY == 0 or step == steps - 1):
                preview(frame[0].detach())
            advance(1, f"distance {found[0]:.3f}")
    w = found[1] if space == "w" else found[1] + found[2]
    with torch.no_grad():
        frame_3RR = scene(g, w.expand(g.num_ws, -1)[None])[0]
        loss = float(alike(frame_3RR[None])[0])
    error = float((frame_3RR.clamp(-1, 1) - photo).square().mean())
    return Inverted(w.cpu(), frame_3RR.cpu(), float(distances[best]), loss, 10 * math.log10(4 / max(error, 1e-12)))


def side_by_side(photo_3RR: Tensor, frame_3RR: Tensor) -> Image.Image:
    """The photograph and its scene, for the eye."""
    both = torch.cat([photo_3RR.cpu(), frame_3RR.cpu()], dim=2)
    grey = (both * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(grey.permute(1, 2, 0).numpy())


def discriminator(model: str | Path, g: Generator) -> Discriminator | None:
    """The model's discriminator, None where it was not saved."""
    try:
        return load_discriminator(model, device=g.device)
    except WeightsMissing:
        return None


def to_file(
    g: Generator,
    photo: str | Path,
    out: Path,
    *,
    d: Discriminator | None,
    space: str = "w+",
    steps: int = 300,
    place: float = 0.5,
    seed: int = 0,
    overwrite: bool = False,
) -> Inverted:
    """Invert a photograph and save its code, with a picture of both side by side that follows the search.

    Raises:
        InputError: as `read_photo` and `invert`, a file in the way, or a place that can't be written (met at the first
            preview, before the search).
    """
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: a code's name ends in .safetensors", hint=f"write {out.with_suffix('.safetensors')}")
    formats.check_writable(out.with_suffix(".preview.png"))
    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists", hint="remove it, overwrite it with --force, or give another -o")
    beside = margin(g) * g.config.resolution // g.config.grid_size
    photo_3RW = read_photo(photo, g.config.resolution, place=place, beside=beside)
    photo_3RR = photo_3RW[:, :, beside : beside + g.config.resolution]
    shown = out.with_suffix(".preview.png")

    def preview(frame_3RR: Tensor) -> None:
        try:
            with whole(shown) as aside:
                side_by_side(photo_3RR, frame_3RR).save(aside)
        except OSError as error:
            raise InputError(
                f"{shown}: can't be written ({error.strerror or error})", hint="make room, or give another -o"
            ) from None

    packaged = packaged_features(g.device)
    done = invert(g, photo_3RW, d=d, packaged=packaged, space=space, steps=steps, seed=seed, preview=preview)
    preview(done.frame_3RR)
    codes.save(out, done.w, model=fingerprint(g), made_from=Path(photo).name, photo=codes.digest(photo))
    return done
