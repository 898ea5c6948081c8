"""Settings of the networks: sizes, and the geometry of the plane with its checks.

The geometry: a frame is `grid_size` patches side by side. Anchors are `w_coord_dist / 2` frames apart, which must be a
whole number of patches, so that anchors lie on patch borders. A window of three anchors is then `2 * anchor_patches`
patches wide, and a frame has `max_shift + 1` possible positions in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Self

import pydantic

from alis.errors import ConfigError
from lhq import nearest

MAX_DISTANCE = 64  # between anchors, in half frames: the published networks use 4; wide windows need memory for styles


class Settings(pydantic.BaseModel):
    """Base of the settings classes of `alis`: frozen; an unknown key is an error that names the nearest known one.

    The docstring below a field is its description, shown by `alis train --help`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _a_number_is_written_as_one(cls, value: object, info: pydantic.ValidationInfo) -> object:
        """Refuse what pydantic would convert: true to 1, so that `local_latents = true` meant all, and "8" to 8."""
        kind = str(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and "bool" not in kind:
            raise ValueError("true and false are not numbers")
        if isinstance(value, str) and not any(other in kind for other in ("str", "Literal")):
            raise ValueError("text in quotes is neither a number nor true or false")
        return value

    @classmethod
    def read(cls, table: Mapping[str, object], where: str) -> Self:
        """Read settings from a table; every error starts with `where`, e.g. `runs/a/config.json`.

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
    """Pydantic's first error as a ConfigError."""
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
    """Sizes and geometry that both networks are built from.

    Raises:
        ConfigError: an unknown key, a wrong value, or an impossible geometry.
    """

    resolution: int = 256
    """Side R of a frame in pixels: a power of two, 16 … 1024."""
    channel_base: int = pydantic.Field(16384, gt=0, le=2**24)
    """Channels at feature height r are `min(channel_base // r, channel_max)`."""
    channel_max: int = pydantic.Field(512, gt=0, le=2**14)
    """Largest number of channels of any layer."""
    z_dim: int = pydantic.Field(512, gt=0, le=2**14)
    """Width of z, the input of the mapping network."""
    w_dim: int = pydantic.Field(512, gt=0, le=2**14)
    """Width of w, the code of an anchor."""
    mapping_layers: int = pydantic.Field(2, gt=0, le=64)
    """Number of layers from z to w."""
    grid_size: int = 2
    """Number g of patches side by side in a frame: 1, 2 or 4 (a patch is at least one column of the 4×4 block)."""
    w_coord_dist: float = 4.0
    """Distance d between anchors in half frames; d·g/2, the number of patches between two anchors, must be whole."""
    num_half_res: int = pydantic.Field(0, ge=0)
    """How many of the highest resolutions normalise their styles, as blocks trained in float16 do.

    This is part of the trained function, independent of the precision it runs in, which `set_precision` chooses."""
    padding: Literal["zeros", "replicate", "plane"] = "zeros"
    """Horizontal padding of the generator's convolutions: zeros, as published; copies of the border; the true columns.

    Zeros darken every patch's border, which a generator takes long to unlearn. With `plane` there are no borders: each
    layer also computes the columns beside those requested; vertically, the outer rows are replicated."""
    local_latents: float = pydantic.Field(0.0, ge=0, le=1)
    """Share of the waves along x that are replaced by local latents, noise that never repeats; published: none."""
    start: Literal["published", "unit"] = "published"
    """Initial weights: as published (features grow from layer to layer), or so that features have about unit size."""
    wave_limit: int = pydantic.Field(1024, ge=4)
    """Highest resolution whose block gets coordinate waves as input; published: all.

    A narrow network paints a visible lattice of the last waves that it gets, at that resolution."""
    conv_clamp: float | None = pydantic.Field(256.0, gt=0)
    """Activations are clamped to ± this value; None: never."""
    mbstd_group_size: int = pydantic.Field(4, gt=0)
    """Group size of the minibatch standard deviation."""

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
                f"model: grid_size = {g} does not divide the 4×4 block into whole patches", hint="use 1, 2 or 4"
            )
        if d > MAX_DISTANCE:
            raise ConfigError(
                f"model: w_coord_dist = {d:g}: windows would be {d:g} frames wide",
                hint=f"use at most {MAX_DISTANCE}; the published models use 4",
            )
        if not d >= 1:  # also catches NaN
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
        """Number of codes of each anchor: two per block and one for the last ToRGB."""
        return 2 * len(self.resolutions) + 1

    @property
    def anchor_patches(self) -> int:
        """Number n_p of patches between two neighbouring anchors."""
        return int(self.w_coord_dist * self.grid_size) // 2

    @property
    def anchor_columns(self) -> int:
        """Columns of the 4×4 block between two neighbouring anchors."""
        return self.anchor_patches * 4 // self.grid_size

    @property
    def window_patches(self) -> int:
        """Width of a window of three anchors in patches: a patch's position in it is 0 … window_patches − 1."""
        return 2 * self.anchor_patches

    @property
    def max_shift(self) -> int:
        """The last position of a frame's left border in the window, in patches."""
        return self.window_patches - self.grid_size

    @property
    def half_from(self) -> int | None:
        """Lowest resolution whose styles are normalised; None if there is none."""
        if not self.num_half_res:
            return None
        return max(1 << (self.resolution.bit_length() - self.num_half_res), 8)

    def is_half(self, resolution: int) -> bool:
        """Whether the block at this resolution normalises its styles (and runs in half precision if asked)."""
        return self.half_from is not None and resolution >= self.half_from

    def sees_waves(self, resolution: int) -> bool:
        """Whether the block at this resolution gets coordinate waves as input channels."""
        return resolution <= self.wave_limit

    def channels(self, resolution: int) -> int:
        """Number of feature channels at this resolution."""
        return min(self.channel_base // resolution, self.channel_max)
