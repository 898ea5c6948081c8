"""A photograph → the code whose scene looks most like it.

The scene is the frame midway between two anchors that have the same code, as in the panoramas of `alis connect`. What
is beside the square in the photograph (mirrored at its edges) has a small weight, so that the landscape continues it.
First, one w for all layers: the most similar of 256 random scenes are optimised for a while, then only the best. Then,
in W+, one code per layer, kept close to each other. The distance of two pictures is that of
`alis.painting.perceptual_distance`, which downloads nothing.

Where a model draws local latents (`alis.plane.latents`), no two places paint a code alike. The search goes from place
to place, so that no place's grain is written into the code, and what is found is judged at places that it never saw.
Source: arXiv 1904.03189 (W+), arXiv 1912.04958 appendix D (projection).
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from alis import formats
from alis.data.decode import eight_bits
from alis.errors import InputError, RunError, WeightsMissing
from alis.formats.raw_picture import atomic_path
from alis.models import Discriminator, Generator, load_discriminator
from alis.painting.perceptual_distance import Features, PerceptualDistance, efficientnet_features, structural_similarity
from alis.painting.strip import fingerprint
from alis.plane import codes
from alis.plane.anchors import check_seed
from alis.plane.ranges import Ranges
from alis.progress import progress_bar

SPACES = ("w", "w+")
_STARTS, _BATCH = 256, 16
_RATE = 0.06
_HELD = 0.02
_BESIDE = 0.4
_PREVIEW_EVERY = 25
_PLACES = 4
# The first of the planes that a code is judged on; the search keeps to 0 … _PLACES − 1.
_UNSEEN = 1_000


@dataclass(frozen=True)
class Inversion:
    """The result of an inversion: a code [S] or [num_ws, S], its frame, and its distance from the photograph.

    `structure` agrees best with the eye (`alis.painting.perceptual_distance.structural_similarity`): 1 = the same
    shapes, 0 = none of them; a uniform grey picture has a fair `psnr_db` but a `structure` of 0. Where the picture of a
    code depends on its position, `loss`, `psnr_db` and `structure` are means over positions that the search did not
    use; the frame is at one of these.
    """

    w: Tensor
    frame_3RR: Tensor
    loss_start: float
    loss: float
    psnr_db: float
    structure: float
    is_mirrored: bool = False


def margin(g: Generator) -> int:
    """Number of patches between an anchor and the scene's frame."""
    return max((g.config.anchor_patches - g.config.grid_size) // 2, 0)


def num_places(g: Generator) -> int:
    """Number of positions on the plane that a search averages over: 1 for models without local latents.

    Without local latents, a code paints the same picture everywhere.
    """
    return _PLACES if g.config.local_latents else 1


def holds_positions(g: Generator) -> bool:
    """Whether a code can decide where along x a shape is: some waves along x were not replaced by local latents."""
    return g.config.local_latents < 1


def scene(g: Generator, w_BLS: Tensor, seed: int = 0) -> Tensor:
    """Frames [B, 3, R, R] midway between two anchors that have the same code, without noise.

    Args:
        seed: of the plane that provides the local latents.
    """
    return _between(g, w_BLS, seed, margin(g), 0)


def scene_in_context(g: Generator, w_BLS: Tensor, seed: int = 0) -> Tensor:
    """The whole range between two anchors of the same code, [B, 3, R, W]: the scene and `margin` patches each side."""
    return _between(g, w_BLS, seed, 0, margin(g))


def _between(g: Generator, w_BLS: Tensor, seed: int, start: int, beside: int) -> Tensor:
    """A frame with `beside` patches on either side, from `start` patches after anchor 0; all anchors have the code."""
    num, patch = len(w_BLS), g.config.resolution // g.config.grid_size
    column_B = torch.full([num], start * 4 // g.config.grid_size, device=g.device)
    width = g.config.resolution + 2 * beside * patch
    ranges = Ranges(column_B, width, seed_B=torch.full_like(column_B, seed))
    return g.frames(w_BLS[:, None].expand(-1, 2, -1, -1), torch.zeros_like(column_B), ranges)


def read_photo(path: str | Path, resolution: int, *, place: float = 0.5, beside: int = 0) -> Tensor:
    """The largest square of a photograph, scaled to R×R: [3, R, R + 2·beside] in [-1, 1].

    Args:
        place: 0 … 1, where along the longer side the square is cut.
        beside: extra columns on each side of the square; past the photograph's edge they are mirrored.

    Raises:
        InputError: not a readable picture, or smaller than the model's frames.
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
        # Decoders raise all kinds of exceptions on a broken file.
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


@dataclass(frozen=True)
class SearchOptions:
    """How to search for a code.

    Args:
        space: "w": one code for all layers, always a scene the model could draw; or "w+": one code per layer, which
            comes closer to the photograph.
        steps: number of optimisation steps; 300 is usual.
        seed: of the random scenes the search starts from.
        tries: how many of the most similar random scenes are optimised at first; the search continues with the best.

    Raises:
        InputError: a value out of range.
    """

    space: str = "w+"
    steps: int = 300
    seed: int = 0
    tries: int = 4

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise InputError(f"space {self.space!r} is unknown", hint='use "w" or "w+"')
        if not 1 <= self.steps <= 100_000:
            raise InputError(f"{self.steps} steps", hint="use 1 to 100000; 300 is usual")
        check_seed(self.seed)
        if not 1 <= self.tries <= _STARTS:
            raise InputError(f"{self.tries} tries", hint=f"use 1 to {_STARTS}; 4 is usual")


class _Search:
    """Search for a photograph's code by gradient descent, starting from random scenes."""

    def __init__(self, g: Generator, photo_3RW: Tensor, d: Discriminator | None, efficientnet: Features | None) -> None:
        self.g, self.size = g, g.config.resolution
        self.beside = (photo_3RW.shape[2] - self.size) // 2
        photo_3RW = photo_3RW.to(g.device)
        self.width = photo_3RW.shape[2]
        self.photo = photo_3RW[:, :, self.beside : self.beside + self.size]
        self.photo_distance = PerceptualDistance(self.photo, d, efficientnet)
        self.context_distance = PerceptualDistance(photo_3RW) if self.beside else None
        self.spread, self.places = 1.0, num_places(g)

    def starts(self, seed: int, num: int) -> tuple[Tensor, float]:
        """Starting codes [num, S]: of 256 random scenes and the mean code, those closest to the photograph.

        The second value is the distance of the closest one.
        """
        g, random = self.g, torch.Generator().manual_seed(seed)
        with torch.no_grad():
            w_NS = g.map(torch.randn(_STARTS, g.config.z_dim, generator=random).to(g.device))
            w_NS = torch.cat([g.mapping.w_avg[None], w_NS])
            self.spread = float((w_NS - w_NS.mean(dim=0)).square().mean().sqrt())
            broad = w_NS[:, None].expand(-1, g.num_ws, -1)
            distances = torch.cat([self.photo_distance(scene(g, some)) for some in torch.split(broad, _BATCH)])
        best = distances.argsort()[:num]
        return w_NS[best].clone(), float(distances[best[0]])

    def distance(self, w_BLS: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Distances from the photograph [B] and frames [B, 3, R, R], painted on the plane of this seed."""
        wide = scene_in_context(self.g, w_BLS, seed) if self.context_distance else scene(self.g, w_BLS, seed)
        frames = wide[..., self.beside : self.beside + self.size]
        found = self.photo_distance(frames)
        if self.context_distance:
            found = found + _BESIDE * self.context_distance(wide[..., : self.width])
        return found, frames

    def descend(
        self, parameters: list[Tensor], codes: Callable[[], Tensor], steps: int, tell: Callable[[Tensor, float], None]
    ) -> tuple[Tensor, Tensor]:
        """Run Adam on codes [B, L, S], whose layers are kept close to each other; return the least distances [B] and
        the codes that had them.

        Each step paints at the next position; a code's distance is the mean of the last steps, one for each position.
        """
        optimizer = torch.optim.Adam(parameters, lr=1, betas=(0.9, 0.999))
        with torch.no_grad():
            found = codes().clone()
        least = torch.full([len(found)], math.inf, device=found.device)
        last: deque[Tensor] = deque(maxlen=min(self.places, max(steps, 1)))
        for step in range(steps):
            way = step / steps
            speed = _RATE * self.spread * math.sqrt(self.g.config.w_dim / 512)
            optimizer.param_groups[0]["lr"] = speed * min(1, way * 20 + 0.1) * (1 + math.cos(math.pi * way)) / 2
            w_BLS = codes()
            distance, frames = self.distance(w_BLS, step % self.places)
            if not bool(distance.isfinite().all()):
                raise RunError(f"the search diverged at step {step}", hint="try --space w, or another --seed")
            last.append(distance.detach())
            mean = torch.stack(list(last)).mean(dim=0)
            is_better = (mean < least) & (len(last) == last.maxlen)
            least = torch.where(is_better, mean, least)
            found = torch.where(is_better[:, None, None], w_BLS.detach(), found)
            optimizer.zero_grad()
            apart = (w_BLS - w_BLS.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2))
            torch.autograd.backward((distance + _HELD * apart / self.spread**2).sum())
            optimizer.step()
            best = int(distance.detach().argmin())
            tell(frames[best].detach(), float(least.min()))
        return least, found

    def follow(self, base_TS: Tensor, options: SearchOptions, tell: Callable[[Tensor, float], None]) -> Tensor:
        """Optimise starting codes [T, S] to one code [L, S]: first all of them, then the best, then layer by layer."""
        in_w = options.steps if options.space == "w" else max(options.steps * 2 // 5, 1)
        trying = in_w // 2 if len(base_TS) > 1 else 0

        def broad(w_TS: Tensor) -> Callable[[], Tensor]:
            return lambda: w_TS[:, None].expand(-1, self.g.num_ws, -1)

        if trying:
            base_TS.requires_grad_()
            least, found = self.descend([base_TS], broad(base_TS), trying, tell)
            base_TS = found[int(least.argmin()), :1]
        base_1S = base_TS[:1].detach().clone().requires_grad_()
        _, found = self.descend([base_1S], broad(base_1S), in_w - trying, tell)
        if options.space == "w+" and options.steps > in_w:
            own_1S = found[0, :1].clone().requires_grad_()
            apart_LS = torch.zeros_like(found[0]).requires_grad_()
            _, found = self.descend([own_1S, apart_LS], lambda: (own_1S + apart_LS)[None], options.steps - in_w, tell)
        return found[0]


def invert(
    g: Generator,
    photo_3RW: Tensor,
    *,
    d: Discriminator | None = None,
    efficientnet: Features | None = None,
    preview: Callable[[Tensor], None] | None = None,
    **options: Any,
) -> Inversion:
    """Find a photograph's code; the same arguments find the same code.

    Args:
        photo_3RW: from `read_photo`: [3, R, R], or as wide as the range between two anchors.
        d: the model's discriminator, if it was saved.
        efficientnet: `alis.painting.perceptual_distance.efficientnet_features`, if installed.
        preview: called with the current frame every 25 steps.
        options: space, steps, seed and tries, as `SearchOptions` has them.

    Raises:
        InputError: an option out of range.
        RunError: the search diverged.
    """
    chosen = SearchOptions(**options)
    search = _Search(g, photo_3RW, d, efficientnet)
    base_TS, at_start = search.starts(chosen.seed, chosen.tries)
    with progress_bar("invert", chosen.steps) as advance:
        done = 0

        def tell(frame_3RR: Tensor, least: float) -> None:
            nonlocal done
            if preview and done % _PREVIEW_EVERY == 0:
                preview(frame_3RR)
            done += 1
            advance(1, f"distance {least:.3f}" if math.isfinite(least) else "")

        w_LS = search.follow(base_TS, chosen, tell)
    return _measured(search, w_LS[0] if chosen.space == "w" else w_LS, at_start)


def _measured(search: _Search, w: Tensor, at_start: float) -> Inversion:
    g = search.g
    w_1LS = w.expand(g.num_ws, -1)[None]
    with torch.no_grad():
        frames = torch.cat([scene(g, w_1LS, _UNSEEN + place) for place in range(search.places)])
        loss = float(search.photo_distance(frames).mean())
        alike = float(structural_similarity(frames, search.photo[None].expand_as(frames)).mean())
    error = float((frames.clamp(-1, 1) - search.photo).square().mean())
    return Inversion(w.cpu(), frames[0].cpu(), at_start, loss, 10 * math.log10(4 / max(error, 1e-12)), alike)


def side_by_side(photo_3RR: Tensor, frame_3RR: Tensor) -> Image.Image:
    """The photograph and the scene found for it, side by side in one picture."""
    both = torch.cat([photo_3RR.cpu(), frame_3RR.cpu()], dim=2)
    grey = (both * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(grey.permute(1, 2, 0).numpy())


def discriminator(model: str | Path, g: Generator) -> Discriminator | None:
    """The model's discriminator, or None if it was not saved with the model."""
    try:
        return load_discriminator(model, device=g.device)
    except WeightsMissing:
        return None


@dataclass(frozen=True)
class Photograph:
    """A photograph, and which square of it to invert.

    Args:
        place: 0 … 1, where along the longer side the square is cut.
        mirror: also search for the mirrored photograph, and keep the result with the better structure.
    """

    path: str | Path
    place: float = 0.5
    mirror: bool = False


def to_file(
    g: Generator, photo: Photograph, out: Path, *, d: Discriminator | None, overwrite: bool = False, **options: Any
) -> Inversion:
    """Invert a photograph and save its code, with a side-by-side preview that is updated during the search.

    Args:
        options: space, steps, seed and tries, as `SearchOptions` has them.

    Raises:
        InputError: as `read_photo` and `invert`; the output exists, or its folder can't be written (found out when
            the first preview is saved, before the search).
    """
    if out.suffix != ".safetensors":
        raise InputError(
            f"{out}: a code's file name ends in .safetensors", hint=f"write {out.with_suffix('.safetensors')}"
        )
    formats.check_writable(out.with_suffix(".preview.png"))
    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists", hint="remove it, overwrite it with --force, or give another -o")
    beside = margin(g) * g.config.resolution // g.config.grid_size
    photo_3RW = read_photo(photo.path, g.config.resolution, place=photo.place, beside=beside)
    efficientnet, best, shown = efficientnet_features(g.device), None, out.with_suffix(".preview.png")
    for is_mirrored in (False, True) if photo.mirror else (False,):
        wanted = photo_3RW.flip(2) if is_mirrored else photo_3RW
        wanted_3RR = wanted[:, :, beside : beside + g.config.resolution]
        preview = functools.partial(_preview, shown, wanted_3RR)
        done = invert(g, wanted, d=d, efficientnet=efficientnet, preview=preview, **options)
        done = replace(done, is_mirrored=is_mirrored)
        if best is None or done.structure > best.structure:
            best, best_3RR = done, wanted_3RR
    assert best is not None
    _preview(shown, best_3RR, best.frame_3RR)
    codes.save(out, best.w, model=fingerprint(g), made_from=Path(photo.path).name, photo=codes.digest(photo.path))
    return best


def _preview(path: Path, photo_3RR: Tensor, frame_3RR: Tensor) -> None:
    try:
        with atomic_path(path) as part:
            side_by_side(photo_3RR, frame_3RR).save(part)
    except OSError as error:
        raise InputError(
            f"{path}: can't be written ({error.strerror or error})", hint="free some space, or give another -o"
        ) from None
