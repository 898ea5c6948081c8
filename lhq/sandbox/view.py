"""The viewpoint: the numbers that turn world coordinates into rows and columns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """The viewpoint and how far it sees; `eye` in world units over the water's level."""

    width: int
    height: int
    horizon: float
    eye: float
    far: float
    spread: float = 0.75  # tangent of half the field of view
    fog: float = 0.6  # share of `far` at which the land is mostly air
    fog_power: float = 1.3
    roughness: float = 0.16  # how strong the fine texture of the ground is

    @property
    def focal(self) -> float:
        return self.width / 2 / self.spread

    def row(self, height: float, z: float) -> float:
        """The picture row of a point `height` over the water at distance `z`."""
        return self.horizon - (height - self.eye) * self.focal / z

    def column(self, x: float, z: float) -> float:
        """The picture column of a point `x` to the right at distance `z`."""
        return self.width / 2 + x * self.focal / z
