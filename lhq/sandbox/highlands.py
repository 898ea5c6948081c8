"""Kinds of landscape → plan: mountains, snow, ice, and the nights over them.

Each function draws its own numbers, so no two places are alike.
"""

from __future__ import annotations

import numpy as np

from lhq.sandbox.flora import Stand
from lhq.sandbox.noise import Floats, fractal, mix, ridged, sample, smoothstep
from lhq.sandbox.plans import ALL, WARM, Plan, mountains, patchy, pick, plain, somewhere, tint, together
from lhq.sandbox.terrain import Ground


def _wood(rng: np.random.Generator, kind: str, count: int, near: float, far: float, below: float) -> Stand:
    """A wood that is dense, scattered or not there at all."""
    return Stand(kind, int(count * rng.choice([0.0, 0.25, 1.0, 1.0])), near, far, below, float(rng.uniform(0.2, 0.8)))


def _alpine_ground(rng: np.random.Generator, snow: float, autumn: bool = False) -> Ground:
    grass = pick(rng, "6f8a34", "8a9a4a", "5c7a3a", "9a9250") if not autumn else pick(rng, "b0793a", "a8632c", "94883c")
    forest = pick(rng, "2c4526", "24402c", "3a4f2a") if not autumn else pick(rng, "8f4f20", "5a5426", "a0662a")
    rock = pick(rng, "7d756e", "86807c", "6b6a70", "8f7f70")
    white = tint("f4f7fc")

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        colour = mix(
            patchy(grass, wild, 0.2), patchy(forest, wild, 0.22), smoothstep(0.5, 1.4, wild + h * np.float32(0.25))
        )
        colour = mix(colour, patchy(rock, wild, 0.13), smoothstep(snow * 0.35, snow * 0.75, h + wild * 1.4 + slope * 9))
        return mix(
            colour,
            np.broadcast_to(white, colour.shape),
            smoothstep(snow - 1.5, snow + 1.5, h + wild * 1.6 - slope * 11),
        )

    return ground


def alpine(rng: np.random.Generator) -> Plan:
    """Meadows below a snowy range."""
    autumn = rng.random() < 0.25
    land = together(plain(rng, 0.9, 1.2), mountains(rng, rng.uniform(20, 38), 35, rng.uniform(120, 220)))
    return Plan(
        ("mountain", "alps", "snow", "meadow", "autumn" if autumn else "summer"),
        land,
        _alpine_ground(rng, rng.uniform(9, 17), autumn),
        horizon=rng.uniform(0.5, 0.62),
        eye=3.2,
        fog=0.75,
        stands=(_wood(rng, "autumn" if autumn else "conifer", 260, 14, 150, 7), Stand("boulder", 40, 9, 60, 5, 0.6)),
    )


def lake(rng: np.random.Generator) -> Plan:
    """A mountain lake with its mirror."""
    autumn = rng.random() < 0.3
    shore = float(rng.uniform(35, 90))
    ax, az = somewhere(rng)

    def basin(x: Floats, z: Floats) -> Floats:
        return (smoothstep(shore, shore * 1.6, z + sample(x / 30 + ax, z / 30 + az) * 10) * 3.4 - 2.0).astype(
            np.float32
        )

    land = together(
        basin, plain(rng, 0.5, 0.0), mountains(rng, rng.uniform(18, 34), shore * 1.1, rng.uniform(140, 240))
    )
    return Plan(
        ("lake", "mountain", "reflection", "water", "autumn" if autumn else "calm"),
        land,
        _alpine_ground(rng, rng.uniform(9, 19), autumn),
        horizon=rng.uniform(0.45, 0.6),
        eye=2.0,
        water=tuple(pick(rng, "0f3a44", "12323f", "1a4a4a")),
        calm=rng.uniform(0.75, 1.0),
        fog=0.75,
        stands=(
            _wood(rng, "autumn" if autumn else "conifer", 320, shore, 170, 8),
            Stand("boulder", 60, 9, shore * 2, 3, 0.5),
        ),
    )


def ranges(rng: np.random.Generator) -> Plan:
    """Ridge behind ridge in the haze."""
    land = together(mountains(rng, rng.uniform(16, 26), 18, 160, 70), plain(rng, 1.5, 0.3))
    dark = pick(rng, "2f4a3a", "3a4a5a", "4a4038", "38503a")
    return Plan(
        ("mountain", "ridges", "mist", "valley", "layers"),
        land,
        lambda x, z, h, slope, wild: patchy(dark, wild, 0.18),
        horizon=rng.uniform(0.5, 0.66),
        eye=15,
        far=460,
        fog=rng.uniform(0.2, 0.4),
        roughness=0.1,
        hours=(*WARM, "haze", "overcast", "blue hour", "clear"),
        cover=(0.0, 0.5),
    )


def woods(rng: np.random.Generator) -> Plan:
    """Conifers in layers of mist."""
    land = together(plain(rng, 2.6, 1.0, 40), mountains(rng, rng.uniform(8, 18), 50, 220, 90))
    winter = rng.random() < 0.3
    floor = pick(rng, "dfe6ee", "e8eef4") if winter else pick(rng, "4a5a2c", "5a5a34", "3d4f2c")
    return Plan(
        ("forest", "trees", "conifer", "mist", *(("winter", "snow") if winter else ("green",))),
        land,
        lambda x, z, h, slope, wild: patchy(floor, wild, 0.12),
        horizon=rng.uniform(0.45, 0.6),
        eye=5.5,
        far=360,
        fog=rng.uniform(0.25, 0.5),
        stands=(Stand("snowy" if winter else "conifer", 520, 11, 200, 40, rng.uniform(0.1, 0.5)),),
        cover=(0.1, 0.7),
    )


def winter(rng: np.random.Generator) -> Plan:
    """Snow over everything."""
    land = together(plain(rng, 1.4, 1.0, 35), mountains(rng, rng.uniform(12, 30), 50, 220))
    rock = pick(rng, "5d6068", "6a655f")
    white = tint("eef3fa")

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        return mix(patchy(white, wild, 0.025), patchy(rock, wild, 0.15), smoothstep(0.3, 0.48, slope + wild * 0.05))

    return Plan(
        ("snow", "winter", "ice", "mountain", "cold"),
        land,
        ground,
        horizon=rng.uniform(0.45, 0.58),
        eye=3.4,
        fog=0.6,
        roughness=0.05,
        hours=(*ALL, "night"),
        stands=(_wood(rng, "snowy", 240, 13, 150, 12),),
        aurora=rng.random() < 0.5,
    )


def volcano(rng: np.random.Generator) -> Plan:
    """One great cone."""
    middle, away, tall = float(rng.uniform(-70, 70)), float(rng.uniform(210, 280)), float(rng.uniform(40, 62))
    ax, az = somewhere(rng)

    def cone(x: Floats, z: Floats) -> Floats:
        r = np.hypot(x - np.float32(middle), z - np.float32(away)) / np.float32(105)
        gully = ridged(x / 16 + ax, z / 16 + az, 3) * smoothstep(0.0, 0.3, r) * smoothstep(1.0, 0.4, r)
        peak = np.float32(tall) * np.exp(-r * 2.6) * (1 - 0.05 * gully)
        return np.minimum(peak, np.float32(tall * 0.86) + sample(x / 9, z / 9) * 0.5) * smoothstep(20, 80, z)

    wet = rng.random() < 0.4
    black = rng.random() < 0.35
    land = together(cone, plain(rng, 0.8, -0.7 if wet else 1.0, 40))
    grass = tint("3b3836") if black else pick(rng, "6a8240", "58723a", "8f8a4a")
    rock, snow = pick(rng, "5b5350", "6a5a52", "4a474c"), float(rng.uniform(0.45, 0.7)) * tall

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        colour = mix(patchy(grass, wild, 0.2), patchy(rock, wild, 0.12), smoothstep(3, 12, h + wild * 2))
        return mix(colour, np.broadcast_to(tint("f3f6fb"), colour.shape), smoothstep(snow - 2, snow + 2, h + wild * 3))

    return Plan(
        ("volcano", "mountain", "volcanic", "snow", *(("lake", "reflection") if wet else ("lava",))),
        land,
        ground,
        horizon=rng.uniform(0.55, 0.66),
        eye=2.6,
        far=420,
        fog=0.95,
        water=(0.06, 0.2, 0.25) if wet else None,
        calm=rng.uniform(0.7, 1.0),
        stands=(_wood(rng, "conifer", 0 if black else 220, 15, 120, 6), Stand("boulder", 40, 9, 60, 5, 0.6)),
    )


def polar(rng: np.random.Generator) -> Plan:
    """Icebergs and floes on dark water."""
    ax, az = somewhere(rng)
    wide, tall, edge = float(rng.uniform(16, 40)), float(rng.uniform(2.5, 8)), float(rng.uniform(0.7, 1.1))

    def heights(x: Floats, z: Floats) -> Floats:
        n = fractal(x / wide + ax, z / wide + az, 5, 0.5)
        block = smoothstep(edge, edge + 0.12, n)
        return block * (0.3 + np.float32(tall) * np.clip(n - edge, 0, 1.2)) * smoothstep(8, 50, z) - 0.2 * (1 - block)

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        blue = mix(
            patchy(tint("e9f1f8"), wild, 0.03),
            patchy(tint("8fc4de"), wild, 0.08),
            smoothstep(0.25, 0.6, slope + wild * 0.07),
        )
        return blue

    return Plan(
        ("ice", "iceberg", "arctic", "sea", "cold"),
        together(heights, mountains(rng, rng.uniform(0, 16), 150, 300)),
        ground,
        horizon=rng.uniform(0.42, 0.58),
        eye=2.6,
        far=420,
        water=(0.05, 0.2, 0.28),
        calm=rng.uniform(0.5, 0.95),
        roughness=0.05,
        hours=(*ALL, "night"),
        aurora=rng.random() < 0.6,
    )


def northern_lights(rng: np.random.Generator) -> Plan:
    """Aurora or the Milky Way over a mirror of mountains."""
    base = lake(rng) if rng.random() < 0.6 else winter(rng)
    aurora = rng.random() < 0.65
    return Plan(
        ("night", "stars", *(("aurora",) if aurora else ("milky way",)), *base.tags[:3]),
        base.heights,
        base.ground,
        horizon=rng.uniform(0.6, 0.72),
        eye=base.eye,
        far=base.far,
        water=base.water,
        stands=base.stands,
        calm=0.95,
        fog=0.9,
        hours=("night",),
        cover=(0.0, 0.15),
        aurora=aurora,
    )


def cloud_sea(rng: np.random.Generator) -> Plan:
    """Peaks over a sea of clouds."""
    ax, az = somewhere(rng)

    def clouds(x: Floats, z: Floats) -> Floats:
        puff = np.abs(fractal(x / 38 + ax, z / 38 + az, 4, 0.45))
        return (1.6 - puff) * np.float32(2.4) + sample(x / 120 + az, z / 120 + ax) * np.float32(1.6)

    peaks = mountains(rng, rng.uniform(16, 30), 60, 240, 120)
    rock = pick(rng, "4a4a52", "5a524c")

    def heights(x: Floats, z: Floats) -> Floats:
        both: Floats = np.maximum(clouds(x, z), peaks(x, z) - 4)
        return both

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        over = smoothstep(0.2, 1.2, h - clouds(x, z))
        return mix(np.broadcast_to(tint("f6f6fa"), (*h.shape, 3)), patchy(rock, wild, 0.2), over)

    return Plan(
        ("clouds", "mountain", "sky", "above the clouds", "mist"),
        heights,
        ground,
        horizon=rng.uniform(0.42, 0.55),
        eye=11,
        far=460,
        fog=0.8,
        roughness=0.02,
        hours=(*WARM, "clear", "blue hour"),
        cover=(0.0, 0.4),
    )
