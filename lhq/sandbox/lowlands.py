"""Kinds of landscape → plan: seas, coasts, deserts, fields and plains.

Each function draws its own numbers, so no two places are alike.
"""

from __future__ import annotations

import numpy as np

from lhq.sandbox.flora import Stand
from lhq.sandbox.noise import Floats, fractal, mix, sample, smoothstep
from lhq.sandbox.plans import ALL, DAY, Plan, mountains, patchy, pick, plain, somewhere, tint, together


def sea(rng: np.random.Generator) -> Plan:
    """Open water; now and then an island or a headland."""
    islands = rng.random() < 0.55
    land = mountains(rng, rng.uniform(10, 22), 130, 260, 80) if islands else plain(rng, 0.1, -3.0)
    land = together(land, plain(rng, 1.0, -6.0 if islands else -1.0))
    rock = pick(rng, "5a5550", "6b6259", "4f5a3c")
    return Plan(
        ("sea", "ocean", "water", "horizon", *(("island",) if islands else ())),
        land,
        lambda x, z, h, slope, wild: patchy(rock, wild, 0.25) * np.ones((*h.shape, 1), np.float32),
        horizon=rng.uniform(0.4, 0.62),
        eye=2.4,
        far=520,
        water=tuple(pick(rng, "0b3550", "0f4a5c", "103a4a")),
        calm=rng.uniform(0.05, 0.6),
        fog=0.8,
        cover=(0.2, 0.75),
    )


def coast(rng: np.random.Generator) -> Plan:
    """A beach that runs away from the eye, with dunes or cliffs on one side."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    lean, tall = float(rng.uniform(0.1, 0.5)), float(rng.uniform(2, 20))
    ax, az = somewhere(rng)

    def heights(x: Floats, z: Floats) -> Floats:
        inland = (
            x * np.float32(side) + z * np.float32(lean * 0.25) - 2 + sample(z / 45 + ax, x / 90 + az) * (1 + z * 0.05)
        )
        rough = fractal(x / 25 + ax, z / 25 + az, 5)
        return np.minimum(inland * 0.09, 0.55) + smoothstep(9, 26, inland) * (tall * (0.7 + 0.3 * rough)) + rough * 0.05

    sand, grass = pick(rng, "d9c39a", "e6d5b0", "c9b08a", "5a5450"), pick(rng, "6a7d3a", "55702f", "8a8550")
    rock = pick(rng, "8d7a66", "a4937d", "6d6864", "c8bfae")

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        dry = mix(patchy(sand * 0.72, wild, 0.03), patchy(sand, wild, 0.05), smoothstep(0.02, 0.22, h))
        green = mix(patchy(grass, wild, 0.2), patchy(rock, wild, 0.18), smoothstep(0.12, 0.3, slope))
        colour = mix(dry, green, smoothstep(0.7, 1.6, h + wild * 0.3))
        foam = smoothstep(0.07, 0.015, h) * np.clip(0.6 + 0.5 * wild, 0, 1)
        return mix(colour, np.ones_like(colour), foam * np.float32(0.9))

    return Plan(
        ("coast", "beach", "sea", "sand", *(("cliff",) if tall > 9 else ())),
        heights,
        ground,
        horizon=rng.uniform(0.4, 0.55),
        eye=2.4,
        far=380,
        water=tuple(pick(rng, "0d5a6a", "14506a", "1a6a6f")),
        calm=rng.uniform(0.2, 0.6),
        fog=0.7,
        roughness=0.07,
    )


def dunes(rng: np.random.Generator) -> Plan:
    """Sand, crest behind crest."""
    ax, az = somewhere(rng)
    wide, tall = float(rng.uniform(26, 60)), float(rng.uniform(7, 13))
    turn = float(rng.uniform(-0.6, 0.6))

    def heights(x: Floats, z: Floats) -> Floats:
        across = (z * np.float32(np.cos(turn)) + x * np.float32(np.sin(turn))) / np.float32(wide)
        along = (x * np.float32(np.cos(turn)) - z * np.float32(np.sin(turn))) / np.float32(wide * 2.6)
        bend = sample(along + ax, across * 0.35 + az) * np.float32(0.9)
        crest = 1 - np.sqrt(sample(along * 0.6 + az, across + bend + ax) ** 2 + np.float32(0.02)) * np.float32(0.8)
        broad = fractal(x / 160 + ax, z / 160 + az, 2) * np.float32(1.5)
        return (
            np.clip(crest, 0, 1) ** 1.6 * np.float32(tall) * smoothstep(4, 50, z) + broad * smoothstep(30, 200, z) + 0.3
        )

    sand = pick(rng, "d9a05a", "e0b070", "c9814a", "e8cfa0", "d89468", "efe6d6")

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        ripples = np.sin((z + sample(x / 6 + ax, z / 6 + az) * 2) * np.float32(5.0)) * smoothstep(30, 6, z)
        return patchy(sand, wild * 0.25 + ripples * 0.35, 0.12)

    return Plan(
        ("desert", "dunes", "sand"),
        heights,
        ground,
        horizon=rng.uniform(0.36, 0.52),
        eye=rng.uniform(4.5, 8),
        far=380,
        fog=0.85,
        roughness=0.05,
        hours=("morning", "golden", "haze", "clear", "sunset", "crimson", "rose", "dusk"),
        cover=(0.0, 0.35),
    )


def mesa(rng: np.random.Generator) -> Plan:
    """Red tables and towers over a plain."""
    ax, az = somewhere(rng)
    tall, wide = float(rng.uniform(13, 24)), float(rng.uniform(60, 120))

    def heights(x: Floats, z: Floats) -> Floats:
        n = fractal(x / wide + ax, z / wide + az, 5, 0.42)
        steps = smoothstep(0.45, 0.62, n) * 0.45 + smoothstep(0.75, 0.88, n) * 0.35 + smoothstep(1.15, 1.3, n) * 0.3
        foot = smoothstep(-0.1, 0.5, n) * 0.13
        rough = fractal(x / 9 + az, z / 9 + ax, 3) * 0.25
        return (steps + foot) * np.float32(tall) * smoothstep(30, 90, z) + rough + 0.2

    red = pick(rng, "b5623a", "c27448", "a8553c", "c98a5c")
    pale, bush = red * 0.6 + tint("e8c8a0") * 0.4, tint("6f7048")
    bands = float(rng.uniform(1.2, 2.6))

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        strata = 0.5 + 0.5 * np.sin(h * np.float32(bands) + wild * 0.5)
        colour = mix(patchy(red, wild, 0.1), patchy(pale, wild, 0.08), strata.astype(np.float32))
        scrub = smoothstep(0.5, 1.1, wild) * smoothstep(0.2, 0.05, slope) * np.float32(0.7)
        return mix(colour, patchy(bush, wild, 0.2), scrub)

    return Plan(
        ("desert", "canyon", "mesa", "rock", "red"),
        heights,
        ground,
        horizon=rng.uniform(0.45, 0.6),
        eye=3.0,
        far=420,
        fog=0.9,
        hours=(*DAY, "sunset", "crimson", "rose", "dusk", "night", "storm"),
        cover=(0.05, 0.5),
    )


def fields(rng: np.random.Generator) -> Plan:
    """Cultivated land: patches and rows in perspective."""
    land = together(plain(rng, rng.uniform(0.8, 2.6), 0.5, 60), mountains(rng, rng.uniform(3, 10), 90, 320, 200))
    crops = ["8fae3c", "c9b24a", "d8c23a", "6c8f35", "a98a4a", "7a5a38", "b5c25a", "5f8a3a"]
    if rng.random() < 0.35:
        crops = [["7a5aa8", "8a68b8", "6a8a4a"], ["d8404a", "e8c83a", "e07aa0"], ["e0c020", "d8c838", "7a9a3a"]][
            int(rng.integers(3))
        ]
    palette = np.stack([tint(crop) for crop in crops])
    turn, wide = float(rng.uniform(-0.5, 0.5)), float(rng.uniform(14, 34))
    rows = float(rng.uniform(2.0, 4.5))
    salt = int(rng.integers(1 << 20))

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        u = x * np.float32(np.cos(turn)) + z * np.float32(np.sin(turn)) + wild * np.float32(0.3)
        v = z * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn)) + wild * np.float32(0.3)
        a, b = np.floor(u / np.float32(wide)).astype(np.int64), np.floor(v / np.float32(wide * 1.9)).astype(np.int64)
        which = ((a * 73856093) ^ (b * 19349663) ^ salt) % 9973
        colour = palette[which % len(palette)]
        line = np.sin(np.where(which % 3 == 0, v, u) * np.float32(rows)) * smoothstep(60, 14, z)
        edge = np.minimum(
            np.abs(u / wide - np.round(u / wide)), np.abs(v / wide / 1.9 - np.round(v / wide / 1.9)) * 1.9
        )
        hedge = smoothstep(0.035, 0.015, edge.astype(np.float32)) * np.float32(0.75)
        colour = colour * (1 + np.float32(0.16) * line + np.float32(0.12) * wild)[..., None]
        return mix(colour.astype(np.float32), patchy(tint("3d5228"), wild, 0.3), hedge)

    return Plan(
        ("fields", "farmland", "countryside", "hills", "spring"),
        land,
        ground,
        horizon=rng.uniform(0.38, 0.52),
        eye=rng.uniform(4, 9),
        far=420,
        fog=0.75,
        hours=(*ALL,),
        cover=(0.15, 0.7),
    )


def hills(rng: np.random.Generator) -> Plan:
    """Rolling green, gold or heather hills."""
    land = together(plain(rng, rng.uniform(2.5, 5.5), 1.0, 55), mountains(rng, rng.uniform(4, 12), 80, 300, 180))
    a = pick(rng, "7fa043", "5f8a3a", "c2b25c", "8f7a4a", "8a6a86")
    b = pick(rng, "4f7a30", "6f8f3a", "a8984a", "7a8a3c")

    def ground(x: Floats, z: Floats, h: Floats, slope: Floats, wild: Floats) -> Floats:
        return mix(patchy(a, wild, 0.12), patchy(b, wild, 0.15), smoothstep(-0.6, 0.9, wild + h * np.float32(0.1)))

    return Plan(
        ("hills", "grass", "countryside", "green", "valley"),
        land,
        ground,
        horizon=rng.uniform(0.4, 0.55),
        eye=6,
        far=420,
        fog=0.6,
        stands=(
            Stand(str(rng.choice(["round", "autumn", "birch"])), int(rng.choice([0, 60, 200])), 16, 200, 30, 0.6),
            Stand("bush", 80, 10, 90, 30, 0.5),
        ),
    )


def savanna(rng: np.random.Generator) -> Plan:
    """Dry grass, thorn trees, a low sun."""
    land = together(plain(rng, 0.5, 0.4, 60), mountains(rng, rng.uniform(2, 7), 160, 380, 150))
    grass = pick(rng, "b8934a", "c9a85c", "a8843f", "9a9448")
    return Plan(
        ("savanna", "grassland", "africa", "trees", "plain"),
        land,
        lambda x, z, h, slope, wild: patchy(grass, wild, 0.2),
        horizon=rng.uniform(0.6, 0.72),
        eye=2.2,
        far=420,
        fog=0.6,
        hours=("golden", "sunset", "crimson", "dusk", "morning", "storm", "haze"),
        stands=(Stand("acacia", int(rng.integers(20, 90)), 9, 160, 30, 0.3), Stand("bush", 120, 7, 90, 30, 0.4)),
        roughness=0.26,
    )


def wetland(rng: np.random.Generator) -> Plan:
    """Marsh, delta or fjord: land and water in equal parts."""
    high = rng.random() < 0.5
    land = together(plain(rng, 0.5 if not high else 1.2, -0.1, 22), mountains(rng, rng.uniform(2, 22), 90, 260))
    grass = pick(rng, "6a7a3a", "8f8a48", "a8904a", "5f7a40")
    return Plan(
        ("river", "wetland", "water", "reflection", *(("fjord",) if high else ("marsh",))),
        land,
        lambda x, z, h, slope, wild: mix(
            patchy(grass, wild, 0.2), patchy(tint("5a5a56"), wild, 0.2), smoothstep(0.25, 0.5, slope + wild * 0.05)
        ),
        horizon=rng.uniform(0.42, 0.6),
        eye=4.2,
        far=420,
        water=(0.06, 0.16, 0.2),
        calm=rng.uniform(0.7, 1.0),
        fog=rng.uniform(0.4, 0.8),
        stands=(
            Stand("conifer" if high else "round", int(rng.choice([0, 90, 260])), 16, 160, 8, 0.5),
            Stand("bush", 90, 9, 80, 8, 0.4),
        ),
    )
