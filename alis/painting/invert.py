"""A photograph → the code whose scene looks most like it.

The scene is the frame midway between two anchors that have the same code (`alis.painting.scene`); `code_search` looks
for the code. The result is measured at positions that the search did not use, since models with local latents paint the
same code differently everywhere. Nothing is downloaded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from alis import formats
from alis.errors import InputError, WeightsMissing
from alis.formats.raw_picture import atomic_path
from alis.models import Discriminator, Generator, load_discriminator
from alis.painting.code_search import CodeSearch, SearchOptions
from alis.painting.perceptual_distance import Features, efficientnet_features, structural_similarity
from alis.painting.photograph import read_photo
from alis.painting.scene import margin, scene
from alis.painting.strip import fingerprint
from alis.plane import codes
from alis.progress import progress_bar

_PREVIEW_EVERY_STEPS = 25
_FIRST_TEST_SEED = 1_000
"""Of the planes that a code is measured on; the search uses the first few seeds from 0."""


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
    search_options = SearchOptions(**options)
    search = CodeSearch(g, photo_3RW, d, efficientnet)
    start_TS, loss_start = search.starting_codes(search_options.seed, search_options.tries)
    with progress_bar("invert", search_options.steps) as advance:
        num_steps = 0

        def on_step(frame_3RR: Tensor, least: float) -> None:
            nonlocal num_steps
            if preview and num_steps % _PREVIEW_EVERY_STEPS == 0:
                preview(frame_3RR)
            num_steps += 1
            advance(1, f"distance {least:.3f}" if math.isfinite(least) else "")

        w_LS = search.find(start_TS, search_options, on_step)
    return _measure(search, w_LS[0] if search_options.space == "w" else w_LS, loss_start)


def _measure(search: CodeSearch, w: Tensor, loss_start: float) -> Inversion:
    g = search.g
    w_1LS = w.expand(g.num_ws, -1)[None]
    with torch.no_grad():
        frames = torch.cat([scene(g, w_1LS, _FIRST_TEST_SEED + n) for n in range(search.num_positions)])
        loss = float(search.photo_distance(frames).mean())
        structure = float(structural_similarity(frames, search.photo_3RR[None].expand_as(frames)).mean())
    error = float((frames.clamp(-1, 1) - search.photo_3RR).square().mean())
    psnr_db = 10 * math.log10(4 / max(error, 1e-12))
    return Inversion(w.cpu(), frames[0].cpu(), loss_start, loss, psnr_db, structure)


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
        position: 0 … 1, where along the longer side the square is cut.
        mirror: also search for the mirrored photograph, and keep the result with the better structure.
    """

    path: str | Path
    position: float = 0.5
    mirror: bool = False


def to_file(
    g: Generator, photo: Photograph, out: Path, *, d: Discriminator | None, overwrite: bool = False, **options: Any
) -> Inversion:
    """Invert a photograph and save its code, with a side-by-side preview that is updated during the search.

    Args:
        options: space, steps, seed and tries, as `SearchOptions` has them.

    Raises:
        InputError: as `read_photo` and `invert`; the output exists, or its folder can't be written (detected
            before the search).
    """
    if out.suffix != ".safetensors":
        raise InputError(
            f"{out}: a code's file name ends in .safetensors", hint=f"write {out.with_suffix('.safetensors')}"
        )
    formats.check_writable(out.with_suffix(".preview.png"))
    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists", hint="remove it, overwrite it with --force, or give another -o")
    resolution = g.config.resolution
    num_side_columns = margin(g) * resolution // g.config.grid_size
    photo_3RW = read_photo(photo.path, resolution, position=photo.position, num_side_columns=num_side_columns)
    efficientnet, best, preview_path = efficientnet_features(g.device), None, out.with_suffix(".preview.png")
    for is_mirrored in (False, True) if photo.mirror else (False,):
        target_3RW = photo_3RW.flip(2) if is_mirrored else photo_3RW
        target_3RR = target_3RW[:, :, num_side_columns : num_side_columns + resolution]
        preview = functools.partial(_save_preview, preview_path, target_3RR)
        inversion = invert(g, target_3RW, d=d, efficientnet=efficientnet, preview=preview, **options)
        inversion = replace(inversion, is_mirrored=is_mirrored)
        if best is None or inversion.structure > best.structure:
            best, best_3RR = inversion, target_3RR
    assert best is not None
    _save_preview(preview_path, best_3RR, best.frame_3RR)
    codes.save(out, best.w, model=fingerprint(g), made_from=Path(photo.path).name, photo=codes.digest(photo.path))
    return best


def _save_preview(path: Path, photo_3RR: Tensor, frame_3RR: Tensor) -> None:
    try:
        with atomic_path(path) as part:
            side_by_side(photo_3RR, frame_3RR).save(part)
    except OSError as error:
        raise InputError(
            f"{path}: can't be written ({error.strerror or error})", hint="free some space, or give another -o"
        ) from None
