"""TOML → everything a training run is: networks, data, losses, optimiser, averages, snapshots.

The defaults are the published recipe at 256 px. A config file changes what differs, a flag changes one value
(`--loss.r1-gamma 5`), and the result is written beside the run's snapshots. Shipped ones: alis/configs/*.toml.
Source: arXiv 2104.06954 (section 4), arXiv 2006.06676 (lazy regularisation, augmentation).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic

from alis.config import ModelConfig, Settings
from alis.errors import ConfigError
from lhq import nearest
from lhq.text_file import read_text

CONFIGS = Path(__file__).parents[1] / "configs"


class DataSettings(Settings):
    """`[data]`: how pictures are read."""

    column: str | None = None
    """The image column; by default found by itself."""
    variant: str | None = None
    """Which variant of an export to read, e.g. 256; by default the one of the frames' side, else the next larger."""
    fit: Literal["resize", "crop", "refuse"] = "resize"
    """Pictures that are not R×R: centre square scaled, a square at a random place, or an error."""
    mirror: bool = True
    """Show each picture mirrored half of the time."""
    threads: int = pydantic.Field(2, gt=0)
    """Decoding threads a process."""
    ahead: int = pydantic.Field(8, gt=0)
    """Microbatches decoded in advance."""
    buffer_mb: int = pydantic.Field(512, gt=0)
    """Encoded rows held in memory a process: larger shuffles wider."""


class LossSettings(Settings):
    """`[loss]`: who judges, the published losses, and how often the lazy ones are paid."""

    discriminators: Literal["residual", "projected", "both"] = "residual"
    """The published one alone, one that looks through a frozen network (arXiv 2111.01007), or the two side by side."""
    r1_gamma: float = pydantic.Field(10.0, ge=0)
    """Weight γ of R1, the discriminator's squared slope at real pictures; 0: off."""
    r1_every: int = pydantic.Field(16, gt=0)
    """Steps between two payments of R1."""
    pl_weight: float = pydantic.Field(2.0, ge=0)
    """Weight of the generator's path-length penalty; 0: off."""
    pl_decay: float = pydantic.Field(0.01, gt=0, le=1)
    """How far the running mean of path lengths moves at once."""
    pl_shrink: int = pydantic.Field(2, gt=0)
    """Path length looks at batch / pl_shrink images."""
    pl_every: int = pydantic.Field(4, gt=0)
    """Steps between two payments of the path length."""
    style_mixing: float = pydantic.Field(0.9, ge=0, le=1)
    """Share of anchors whose upper layers take a second code."""
    frames_at: Literal["patch", "column", "pixel"] = "patch"
    """Where frames begin: at patch borders, every R/4 pixels, or at any pixel (one offset for each microbatch).

    What is not "patch" needs padding = "plane"; then frames in training are those that any cut of the plane shows."""
    shift_ramp_kimg: int = pydantic.Field(1, ge=0)
    """Frames stay at the window's left end for this many thousand images."""


class ProjectedSettings(Settings):
    """`[projected]`: the discriminator that sees pictures through a frozen EfficientNet-Lite0."""

    weight: float = pydantic.Field(1.0, gt=0)
    """Of its hinge loss in the generator's, beside the residual one's logistic loss."""
    size: int | None = pydantic.Field(None, ge=32)
    """Side at which the frozen network sees pictures, a multiple of 32; by default their own, at most 256."""
    width: int = pydantic.Field(32, gt=0)
    """Channels that its finest map is mixed to; coarser ones have up to eight times as many."""
    lr: float = pydantic.Field(0.002, gt=0)
    """Learning rate of its heads."""
    p: float = pydantic.Field(1.0, ge=0, le=1)
    """Probability of each light change that it sees pictures with: small shifts, brightness, contrast, saturation."""

    @pydantic.field_validator("size")
    @classmethod
    def _is_whole(cls, size: int | None) -> int | None:
        if size is not None and size % 32:
            raise ValueError("must be a multiple of 32, the frozen network's coarsest step")
        return size


class OptimSettings(Settings):
    """`[optim]`: Adam for all networks."""

    batch: int | None = pydantic.Field(None, gt=0)
    """Images a step over all processes; by default min(processes · min(4096 // R, 32), 64)."""
    micro: int | None = pydantic.Field(None, gt=0)
    """Images a forward pass; by default batch / processes. Smaller ones accumulate gradients."""
    lr_g: float | None = pydantic.Field(None, gt=0)
    """Learning rate of the generator; by default 0.0025, from 1024 px on 0.002."""
    lr_d: float | None = pydantic.Field(None, gt=0)
    """Learning rate of the discriminator; by default as the generator's default."""
    lr_end: float = pydantic.Field(1.0, gt=0, le=1)
    """Share of all learning rates that is left after `run.kimg`: they fall along half a cosine; 1: they stay."""
    beta1: float = pydantic.Field(0.0, ge=0, lt=1)
    """Adam's decay of the mean gradient."""
    beta2: float = pydantic.Field(0.99, ge=0, lt=1)
    """Adam's decay of the mean squared gradient."""
    eps: float = pydantic.Field(1e-8, gt=0)
    """Adam's ε."""
    freeze_d: int = pydantic.Field(0, ge=0)
    """Blocks of the residual discriminator that stay as they are, the finest first (FreezeD, arXiv 2002.10964): for
    fine-tuning on few pictures."""


class EmaSettings(Settings):
    """`[ema]`: the averaged generator."""

    half_life_kimg: float = pydantic.Field(10.0, gt=0)
    """For a batch of 32; in proportion for others."""
    ramp_up: float | None = pydantic.Field(0.05, gt=0)
    """The half life is at most this share of the images seen; None: no ramp."""


class AugmentTransforms(Settings):
    """Kinds of change that augmentation may make. A landscape's horizon should not turn: switch those off there."""

    mirror: bool = True
    """Left for right."""
    quarter_turns: bool = True
    """Turns by 90, 180 and 270 degrees."""
    shifts: bool = True
    """By whole pixels, up to an eighth of the side."""
    scale: bool = True
    """Larger or smaller."""
    turns: bool = True
    """By any angle."""
    stretch: bool = True
    """Wider and lower, or the reverse."""
    fractions: bool = True
    """Shifts by fractions of a pixel, an eighth of the side in the mean."""
    brightness: bool = True
    """Lighter or darker."""
    contrast: bool = True
    """More or less of it."""
    luma_flip: bool = True
    """Dark for light."""
    hue: bool = True
    """Turned around the grey axis."""
    saturation: bool = True
    """More or less colour."""


class AugmentSettings(AugmentTransforms):
    """`[augment]`: adaptive augmentation of what the residual discriminator sees, off as published."""

    kind: Literal["none", "ada", "fixed"] = "none"
    """Off, steered by how sure the discriminator is (for small datasets), or always with probability p."""
    p: float = pydantic.Field(0.0, ge=0, le=1)
    """Where `ada` starts, or what `fixed` keeps."""
    target: float = pydantic.Field(0.6, gt=0, lt=1)
    """Mean sign of the logits of real images that `ada` steers to."""
    speed_kimg: float = pydantic.Field(500.0, gt=0)
    """Thousand images in which p can go from 0 to 1."""


class RunSettings(Settings):
    """`[run]`: length, schedule of reports, and the machine."""

    kimg: float = pydantic.Field(25_000.0, gt=0)
    """Thousand images to show in all."""
    tick_kimg: float = pydantic.Field(4.0, gt=0)
    """Thousand images between two lines of the log."""
    snapshot_ticks: int = pydantic.Field(50, gt=0)
    """Ticks between two snapshots."""
    snapshot_minutes: float = pydantic.Field(10.0, gt=0)
    """Most minutes between two snapshots; one that the clock alone asked for is kept until the next."""
    keep: int = pydantic.Field(3, gt=0)
    """Newest snapshots kept; the best by metric is kept besides."""
    minutes: float | None = pydantic.Field(None, gt=0)
    """The run saves and leaves before this many minutes are over, for jobs with a limit; the next start goes on."""
    count: Literal["auto", "on", "zero"] = "auto"
    """Images of a run begun with --resume FOLDER: `on` counts on from the folder's, `zero` begins at 0 with its state,
    `auto` counts on while run.kimg leaves something to train."""
    seed: int = pydantic.Field(0, ge=0)
    """Everything random follows from it and from the images seen."""
    precision: Literal["float16", "bfloat16", "float32"] = "float16"
    """What the half-precision blocks compute in on a GPU; a CPU always computes in float32."""
    half_from: int | None = pydantic.Field(None, ge=4)
    """Lowest resolution that computes in run.precision on a GPU; by default the blocks that the model calls half."""
    channels_last: bool = False
    """Features stored with channels last on a GPU, as its tensor cores read them; a CPU always trains so."""
    graphs: bool = False
    """Each whole phase of a step as one CUDA graph; on one GPU, with a batch of one microbatch."""
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    """torch.compile for the two main passes; `reduce-overhead` records CUDA graphs. Regularisers stay eager:
    they differentiate twice, which compiled graphs do not."""
    metric: Literal["none", "fid", "inf-fid"] = "none"
    """Measured at each snapshot; the best is kept."""
    metric_images: int = pydantic.Field(10_000, gt=1)
    """Pictures painted to measure it."""
    features: str = "inception"
    """Extractor of the metric (see docs/metrics.md)."""
    psi: float = 1.0
    """Truncation of the pictures shown."""


class TrainConfig(Settings):
    """Everything about a run but its data's address and its folder."""

    model: ModelConfig = pydantic.Field(default_factory=lambda: ModelConfig(num_half_res=4))
    data: DataSettings = pydantic.Field(default_factory=lambda: DataSettings.model_validate({}))
    loss: LossSettings = pydantic.Field(default_factory=lambda: LossSettings.model_validate({}))
    projected: ProjectedSettings = pydantic.Field(default_factory=lambda: ProjectedSettings.model_validate({}))
    optim: OptimSettings = pydantic.Field(default_factory=lambda: OptimSettings.model_validate({}))
    ema: EmaSettings = pydantic.Field(default_factory=lambda: EmaSettings.model_validate({}))
    augment: AugmentSettings = pydantic.Field(default_factory=lambda: AugmentSettings.model_validate({}))
    run: RunSettings = pydantic.Field(default_factory=lambda: RunSettings.model_validate({}))

    def resolved(self, num_processes: int) -> TrainConfig:
        """With the values that depend on resolution and processes filled in.

        Raises:
            ConfigError: batch, microbatch and processes do not fit, or frames begin where the networks can't.
        """
        size, optim = self.model.resolution, self.optim
        if self.loss.frames_at != "patch" and self.model.padding != "plane":
            raise ConfigError(
                f'loss: frames_at = "{self.loss.frames_at}" with padding = "{self.model.padding}", whose patches know '
                "nothing of each other",
                hint='use frames_at = "patch", or train with --model.padding plane',
            )
        if self.loss.frames_at == "pixel" and self.run.compile != "off":
            raise ConfigError(
                'loss: frames_at = "pixel" with compiled passes: each of its offsets would be compiled apart',
                hint="use --loss.frames-at column, or --run.compile off",
            )
        batch = optim.batch or max(min(num_processes * min(4096 // size, 32), 64) // num_processes, 1) * num_processes
        micro = optim.micro or batch // num_processes
        if not micro or batch % (micro * num_processes):
            raise ConfigError(
                f"optim: batch = {batch} is not a multiple of micro × processes = {micro} × {num_processes}",
                hint="choose --optim.batch and --optim.micro that fit",
            )
        if optim.freeze_d >= len(self.model.resolutions):
            raise ConfigError(
                f"optim: freeze_d = {optim.freeze_d} leaves the discriminator nothing to learn",
                hint=f"it has {len(self.model.resolutions)} blocks at {size} px",
            )
        lr = 0.002 if size >= 1024 else 0.0025
        filled = {"batch": batch, "micro": micro, "lr_g": optim.lr_g or lr, "lr_d": optim.lr_d or lr}
        seen = self.projected.size or max(min(size, 256), 32)
        return self.model_copy(
            update={
                "optim": optim.model_copy(update=filled),
                "projected": self.projected.model_copy(update={"size": seen}),
            }
        )


def known() -> list[str]:
    """Names of the shipped configs."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def read(name_or_path: str | None, changes: Mapping[str, object] | None = None) -> TrainConfig:
    """A shipped config by name, or a TOML file; then single values over it.

    Args:
        name_or_path: `lhq256` … or a path; None: the published recipe at 256 px.
        changes: `{"loss.r1_gamma": 5.0}`.

    Raises:
        ConfigError: no such config, not TOML, an unknown key (with the nearest name), a wrong value.
    """
    table: dict[str, Any] = {}
    where = name_or_path or "flags"
    if name_or_path is not None:
        shipped = CONFIGS / f"{name_or_path}.toml"
        path = shipped if name_or_path in known() else Path(name_or_path)
        try:
            table = tomllib.loads(read_text(path))
        except FileNotFoundError:
            hint = nearest.path(name_or_path, "") if path.suffix else ""
            hint = hint or nearest.word(name_or_path, known(), f"shipped configs: {', '.join(known())}")
            raise ConfigError(f"{name_or_path}: no such config", hint=hint) from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}", hint="mend that line") from None
        except UnicodeError as error:
            raise ConfigError(f"{path}: {error}", hint="save it as UTF-8") from None
        except OSError as error:
            raise ConfigError(f"{path}: can't be read ({error})", hint="give a readable TOML file") from None
    for key, value in (changes or {}).items():
        section, _, name = key.partition(".")
        table[section] = {**table.get(section, {}), name: value}
    if "model" in table:
        table["model"] = {"num_half_res": 4, **table["model"]}
    for section, values in table.items():
        field = TrainConfig.model_fields.get(section)
        if field is None:
            hint = nearest.word(section, TrainConfig.model_fields, f"tables: {', '.join(TrainConfig.model_fields)}")
            raise ConfigError(f'{where}: unknown table "{section}"', hint=hint)
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: {section} is not a table", hint=f"write [{section}] and its keys below")
        assert isinstance(field.annotation, type)
        table[section] = field.annotation.read(values, f"{where} [{section}]")
    return TrainConfig(**table)


def flags() -> list[tuple[str, Any, Any, str]]:
    """(key, type, default, help) of every value, e.g. `loss.r1_gamma`: what the command makes options of."""
    found = []
    for section, values in TrainConfig():
        for name, field in type(values).model_fields.items():
            text = " ".join((field.description or "").partition("\n\n")[0].split())
            found.append((f"{section}.{name}", field.annotation, getattr(values, name), text))
    return found
