"""Still and moving water: the mirror of what stands above it, ripples, the sun's path.

Painted last, over the pixels that are wet, from the picture as it is by then (trees included).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lhq.sandbox.noise import Floats, fractal, mix, smoothstep
from lhq.sandbox.sky import Colour, Sky
from lhq.sandbox.view import View


def pour(
    sky: Sky,
    view: View,
    image: Floats,
    first: int,
    wet: npt.NDArray[np.bool_],
    x: Floats,
    z: Floats,
    air: Floats,
    colour: Colour,
    calm: float,
    shift: tuple[float, float],
) -> None:
    """Mirror of what lies above, broken by ripples; darker and clearer underfoot, glittering below the sun."""
    flat = np.flatnonzero(wet)
    rows, columns = np.divmod(flat.astype(np.int32), np.int32(view.width))
    wx, wz, far = x.ravel().take(flat), z.ravel().take(flat), air.ravel().take(flat)
    y = rows + first
    scale = np.float32(1.6)
    ripple = fractal((wx + np.float32(shift[0])) * scale * 0.6, (wz + np.float32(shift[1])) * scale, 3, 0.6)
    below = np.clip(
        (y.astype(np.float32) - np.float32(view.horizon)) / np.float32(max(view.height - view.horizon, 1)), 0, 1
    )
    push = ripple * (np.float32(view.height * 0.045 * (1 - calm)) * (0.15 + below) + np.float32(0.6))
    mirror = np.float32(2 * view.horizon - 1) - y.astype(np.float32) + push * np.float32(1.6)
    mirror = np.clip(mirror, 0, max(view.horizon - 1, 0)).astype(np.int32)
    side = np.clip(columns.astype(np.float32) + push * np.float32(0.5), 0, view.width - 1).astype(np.int32)
    mirror *= view.width
    mirror += side
    seen = image.reshape(-1, 3).take(mirror, axis=0)
    deep = np.array(colour, np.float32) * (np.array(sky.hour.skylight, np.float32) * 0.8 + 0.25)
    fresnel = np.clip(0.88 - (0.55 - 0.25 * calm) * below + 0.10 * ripple * (1 - calm), 0.05, 0.97).astype(np.float32)
    result = mix(np.broadcast_to(deep, seen.shape), seen * np.float32(0.95), fresnel)
    if sky.height < 0.95 and sky.hour.name not in ("overcast", "storm"):
        away = (columns.astype(np.float32) - np.float32(sky.sun_xy[0])) / np.float32(
            view.width * (0.05 + 0.09 * (1 - calm))
        )
        path = np.exp(-((away / (0.5 + below)) ** 2)).astype(np.float32)
        sparkle = smoothstep(0.25, 1.6, ripple + 0.35) * path
        result += sparkle[:, None] * np.array(sky.hour.glow, np.float32) * np.float32(0.75 if sky.behind else 0.4)
    result = mix(result, np.broadcast_to(sky.haze[columns], result.shape), smoothstep(0.55, 1.0, far) * np.float32(0.6))
    image.reshape(-1, 3)[flat + first * view.width] = result
