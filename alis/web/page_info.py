"""A plane → what its page must know of it: sizes, limits, clusters, codes, and the fingerprint in every link."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from alis.painting import strip
from alis.painting.panorama import Panorama, precision_of
from alis.plane.anchors import MAX_ANCHOR, MAX_EDITS, MAX_PSI, MAX_SEED, MAX_VARIANT


@dataclass(frozen=True)
class PageInfo:
    """The page's `model.json`."""

    name: str
    model: str
    """Stamp of weights, settings, precision, clusters and saved codes: what decides a tile besides its address."""
    resolution: int
    tile_px: int
    anchor_tiles: int
    reach_px: tuple[int, int]
    """Columns [a, b) that anchor 0 takes part in."""
    ring_step: int
    shortest_ring: int
    """Rings have a multiple of the step, and no fewer anchors than this: a tile must not see itself from behind."""
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
    """Where tiles come from: "server", or "browser" on a page that needs none."""

    @property
    def json_text(self) -> str:
        """The file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def page_info(panorama: Panorama, *, name: str, max_frames: int, painter: str = "server") -> PageInfo:
    """The facts of a plane; its sketch is where the page starts.

    Args:
        max_frames: widest strip to take home, in frames.
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
    """The model's fingerprint, followed by the precision where it is not float32, and by a stamp of its clusters and
    saved codes where it has any: a tile may be kept for ever under it."""
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
