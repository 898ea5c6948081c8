"""A plane → `model.json`, which the page reads first: sizes, limits, clusters, codes, and the model's version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from alis.painting import strip
from alis.painting.panorama import Panorama, precision_of
from alis.plane.anchors import MAX_ANCHOR, MAX_EDITS, MAX_PSI, MAX_SEED, MAX_VARIANT


@dataclass(frozen=True)
class PageInfo:
    """The contents of the page's `model.json`."""

    name: str
    model: str
    """Hash of weights, settings, precision, clusters and saved codes: with its URL, this determines a tile's pixels."""
    resolution: int
    tile_px: int
    anchor_tiles: int
    reach_px: tuple[int, int]
    """Pixel columns [a, b) that depend on anchor 0."""
    ring_step: int
    shortest_ring: int
    """The number of anchors in a ring is a multiple of `ring_step`, and at least this."""
    grid: int
    start: str
    num_clusters: int
    codes: list[str]
    max_edits: int
    max_frames: int
    max_seed: int
    max_anchor: int
    max_variant: int
    max_psi: int
    painter: str = "server"
    """What paints the tiles: "server", or "browser" on a static page."""

    @property
    def json_text(self) -> str:
        """The text of `model.json`."""
        return json.dumps(asdict(self), indent=1) + "\n"


def page_info(panorama: Panorama, *, name: str, max_frames: int, painter: str = "server") -> PageInfo:
    """Collect what the page needs to know of a plane; the page starts with the plane's sketch.

    Args:
        max_frames: largest width of a strip to download, in frames.
    """
    config, centres = panorama.g.config, panorama.anchor_codes.centres_KS
    return PageInfo(
        name=name,
        model=model_version(panorama),
        resolution=config.resolution,
        tile_px=panorama.tile_px,
        anchor_tiles=config.anchor_patches,
        reach_px=panorama.reach(0),
        ring_step=panorama.ring_step,
        shortest_ring=panorama.shortest_ring,
        grid=config.grid_size,
        start=panorama.sketch.text,
        num_clusters=0 if centres is None else len(centres),
        codes=sorted(panorama.anchor_codes.saved),
        max_edits=MAX_EDITS,
        max_frames=max_frames,
        max_seed=MAX_SEED,
        max_anchor=MAX_ANCHOR,
        max_variant=MAX_VARIANT,
        max_psi=round(100 * MAX_PSI),
        painter=painter,
    )


def model_version(panorama: Panorama) -> str:
    """The model's fingerprint, plus the precision if not float32, plus a hash of its clusters and saved codes if any.

    A tile with this version in its URL never changes, so it may be cached for ever.
    """
    parts = [strip.fingerprint(panorama.g)]
    if (precision := precision_of(panorama.g)) != "float32":
        parts.append(precision)
    anchor_codes = panorama.anchor_codes
    if anchor_codes.centres_KS is not None or anchor_codes.saved:
        digest = hashlib.blake2s(digest_size=4)
        for name, tensor in [("", anchor_codes.centres_KS), *sorted(anchor_codes.saved.items())]:
            digest.update(f"{name}\0".encode())
            digest.update(b"" if tensor is None else tensor.detach().cpu().contiguous().numpy().tobytes())
        parts.append(digest.hexdigest())
    return "-".join(parts)
