"""(seed, place) → plan and hour: the table of every kind of landscape, and a random choice from it."""

from __future__ import annotations

import numpy as np

from lhq.sandbox import highlands, lowlands, plans, sky

# Every kind and how often it is painted.
_PLACES: dict[plans.Kind, float] = {
    highlands.alpine: 10,
    highlands.lake: 12,
    lowlands.sea: 9,
    lowlands.coast: 9,
    lowlands.dunes: 7,
    lowlands.mesa: 6,
    lowlands.fields: 8,
    lowlands.hills: 7,
    highlands.ranges: 8,
    highlands.woods: 7,
    highlands.winter: 6,
    highlands.volcano: 5,
    highlands.polar: 4,
    highlands.northern_lights: 4,
    lowlands.savanna: 5,
    highlands.cloud_sea: 5,
    lowlands.wetland: 6,
}
_DARK = ("night", "blue hour", "dusk")


def plan(seed: int, place: int, bright: bool) -> tuple[plans.Plan, sky.Hour]:
    """The landscape of a place and its hour; `bright` excludes the night (objects must be visible)."""
    rng = np.random.default_rng([seed, place, 14])
    kinds, weights = list(_PLACES), np.array(list(_PLACES.values()))
    shares = weights / weights.sum()
    while True:
        drawn = kinds[int(rng.choice(len(kinds), p=shares))](rng)
        hours = [name for name in drawn.hours if not bright or name not in _DARK]
        if hours:
            return drawn, sky.HOURS[hours[int(rng.integers(len(hours)))]]
