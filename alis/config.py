"""Settings of the networks: sizes, geometry of the plane, and the checks that make the geometry whole.

The geometry: a frame is `grid_size` patches side by side; anchors stand `w_coord_dist / 2` frames apart, which
must be a whole number of patches, or a patch would lie under an anchor. One window of three anchors is then
`2 * anchor_patches` patches wide and a frame has `max_shift + 1` places in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Self

import pydantic

from alis.errors import ConfigError
from lhq import nearest

MAX_DISTANCE = 64  # of anchors, in half frames: the published networks use 4, and a window's styles take memory


class Settings(pydantic.BaseModel):
    """Base of the settings classes of `alis`: frozen, unknown keys refused with the nearest known name.

    The docstring below a field is its description, which `alis train --help` shows."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _a_number_is_written_as_one(cls, value: object, info: pydantic.ValidationInfo) -> object:
        """pydantic counts true as 1, so that `local_latents = true` would be all of them, and "8" as 8."""
        kind = str(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and "bool" not in kind:
            raise ValueError("true and false are no numbers")
        if isinstance(value, str) and not any(other in kind for other in ("str", "Literal")):
            raise ValueError("words in quotes are no numbers, and neither true nor false")
        return value

    @classmethod
    def read(cls, table: Mapping[str, object], where: str) -> Self:
        """`table` as settings; every error starts with `where`, e.g. `runs/a/config.json`.

        Raises:
            ConfigError: an unknown key (with the nearest name), a missing one, or a wrong value.
        """
        try:
            return cls.model_validate(dict(table))
        except pydantic.ValidationError as error:
            raise _explain(error, cls, where) from None
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None


def _explain(error: pydantic.ValidationError, kind: type[pydantic.BaseModel], where: str) -> ConfigError:
    """The first complaint of pydantic as one of ours."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])[:80]
    value = repr(first.get("input"))
    value = value if len(value) <= 80 else f"{value[:80]}…"
    if first["type"] == "extra_forbidden":
        hint = nearest.word(key, kind.model_fields, f"known keys: {', '.join(sorted(kind.model_fields))}")
        return ConfigError(f'{where}: unknown key "{key}"', hint=hint)
    if first["type"] == "missing":
        return ConfigError(f'{where}: "{key}" is missing', hint=f"add {key} ({kind.__name__})")
    return ConfigError(f"{where}: {key} = {value}: {first['msg']}", hint="correct the value")


class ModelConfig(Settings):
    """What both networks are built from.

    Raises:
        ConfigError: an unknown key, a wrong value, or a geometry that is not whole.
    """

    resolution: int = 256
    """Side R of a frame in pixels: a power of two, 16 … 1024."""
    channel_base: int = pydantic.Field(16384, gt=0, le=2**24)
    """Channels at feature height r are `min(channel_base // r, channel_max)`."""
    channel_max: int = pydantic.Field(512, gt=0, le=2**14)
    """Most channels of any layer."""
    z_dim: int = pydantic.Field(512, gt=0, le=2**14)
    """Width of z, what scenes are drawn from."""
    w_dim: int = pydantic.Field(512, gt=0, le=2**14)
    """Width of w, the code of an anchor."""
    mapping_layers: int = pydantic.Field(2, gt=0, le=64)
    """Layers from z to w."""
    grid_size: int = 2
    """Patches g side by side in a frame: 1, 2 or 4 (a patch is at least one column of the 4×4 block)."""
    w_coord_dist: float = 4.0
    """Distance d of anchors in half frames; d·g/2, the patches between two anchors, must be whole."""
    num_half_res: int = pydantic.Field(0, ge=0)
    """How many of the highest resolutions normalise their styles, as blocks trained in float16 do.

    Part of the function that was trained, whatever precision it is run in; `set_precision` chooses that."""
    padding: Literal["zeros", "replicate", "plane"] = "zeros"
    """What the generator's filters see beside a patch: zeros, as published; its outermost columns once more; the plane.

    Zeros darken every patch's border, which takes a generator long to learn away. With `plane` there are no borders:
    each layer computes the columns beside what is asked for, and above and below the picture its outer rows go on."""
    local_latents: float = pydantic.Field(0.0, ge=0, le=1)
    """Share of the waves along x that give way to local latents, random numbers that never repeat; published: none."""
    start: Literal["published", "unit"] = "published"
    """Weights of a fresh generator: as published (energy grows from layer to layer), or features of about unit size."""
    wave_limit: int = pydantic.Field(1024, ge=4)
    """Highest resolution whose block sees the waves of the place; published: all.

    A narrow network paints a lattice of the waves that it sees last, at its own resolution."""
    conv_clamp: float | None = pydantic.Field(256.0, gt=0)
    """Activations are clamped to ± this, None = never."""
    mbstd_group_size: int = pydantic.Field(4, gt=0)
    """Images compared with each other by the minibatch standard deviation."""

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise _explain(error, type(self), "model") from None

    @pydantic.model_validator(mode="after")
    def _geometry(self) -> ModelConfig:
        r, g, d = self.resolution, self.grid_size, self.w_coord_dist
        if r not in {16, 32, 64, 128, 256, 512, 1024}:
            near = 2 ** min(max(round(math.log2(max(r, 1))), 4), 10)
            raise ConfigError(
                f"model: resolution = {r} is not a power of two from 16 to 1024", hint=f"the nearest is {near}"
            )
        if g not in {1, 2, 4}:
            raise ConfigError(
                f"model: grid_size = {g} does not cut the 4×4 block into whole patches", hint="use 1, 2 or 4"
            )
        if d > MAX_DISTANCE:
            raise ConfigError(
                f"model: w_coord_dist = {d:g}: windows would be {d:g} frames wide",
                hint=f"use at most {MAX_DISTANCE}; the published models use 4",
            )
        if not d >= 1:  # nor is a NaN
            raise ConfigError(
                f"model: w_coord_dist = {d:g}: a window of three anchors would be narrower than a frame",
                hint="use at least 1; the published models use 4",
            )
        if (d * g) % 2:
            step = 2 / g
            raise ConfigError(
                f"model: w_coord_dist = {d:g} with grid_size = {g} puts {d * g / 2:g} patches between anchors",
                hint=f"it must be whole: use a multiple of {step:g}",
            )
        if self.channel_base < r:
            raise ConfigError(
                f"model: channel_base = {self.channel_base} leaves no channel at resolution {r}",
                hint=f"use at least {r}",
            )
        if self.local_latents and self.padding != "plane":
            raise ConfigError(
                f'model: local_latents = {self.local_latents:g} with padding = "{self.padding}"',
                hint='local latents need padding = "plane"; the published networks have none',
            )
        if self.num_half_res > len(self.resolutions):
            raise ConfigError(
                f"model: num_half_res = {self.num_half_res} but there are {len(self.resolutions)} resolutions",
                hint="the published models use 4",
            )
        return self

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Feature heights of the blocks: 4, 8, …, R."""
        return tuple(2**k for k in range(2, self.resolution.bit_length()))

    @property
    def num_ws(self) -> int:
        """Codes a frame takes for each anchor: two a block and one for the last ToRGB."""
        return 2 * len(self.resolutions) + 1

    @property
    def anchor_patches(self) -> int:
        """Patches n_p between two neighbouring anchors."""
        return int(self.w_coord_dist * self.grid_size) // 2

    @property
    def anchor_columns(self) -> int:
        """Columns of the 4×4 block between two neighbouring anchors."""
        return self.anchor_patches * 4 // self.grid_size

    @property
    def window_patches(self) -> int:
        """Patches under three anchors: the places a patch can have are 0 … window_patches − 1."""
        return 2 * self.anchor_patches

    @property
    def max_shift(self) -> int:
        """The last place, in patches, that a frame's left border can have in the window."""
        return self.window_patches - self.grid_size

    @property
    def half_from(self) -> int | None:
        """Lowest resolution whose styles are normalised, None when no block is so."""
        if not self.num_half_res:
            return None
        return max(1 << (self.resolution.bit_length() - self.num_half_res), 8)

    def is_half(self, resolution: int) -> bool:
        """Whether the block at this resolution normalises its styles (and runs in half precision if asked)."""
        return self.half_from is not None and resolution >= self.half_from

    def sees_waves(self, resolution: int) -> bool:
        """Whether the block at this resolution has the waves of the place among its channels."""
        return resolution <= self.wave_limit

    def channels(self, resolution: int) -> int:
        """Feature channels at this height."""
        return min(self.channel_base // resolution, self.channel_max)
