"""TOML → all settings of a training run: networks, data, losses, optimisers, averages, snapshots.

The defaults are the published recipe at 256 px. A config file overrides some of them, a flag a single one
(`--loss.r1-gamma 5`), and the resulting settings are saved with the run. Shipped configs: alis/configs/*.toml.
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
    """The image column; by default detected."""
    variant: str | None = None
    """Which variant of an export to read, e.g. 256; by default the one of the frames' side, else the next larger."""
    fit: Literal["resize", "crop", "refuse"] = "resize"
    """Pictures that are not R×R: scale the centre square, cut a random square, or raise an error."""
    mirror: bool = True
    """Mirror each picture half of the time."""
    threads: int = pydantic.Field(2, gt=0)
    """Decoding threads per process."""
    ahead: int = pydantic.Field(8, gt=0)
    """Microbatches decoded in advance."""
    buffer_mb: int = pydantic.Field(512, gt=0)
    """Size of the shuffle buffer of encoded pictures per process; a larger one shuffles more widely."""


class LossSettings(Settings):
    """`[loss]`: the discriminators, the published losses, and how often the lazy regularisers are applied."""

    discriminators: Literal["residual", "projected", "both"] = "residual"
    """The published discriminator, one on features of a frozen network (arXiv 2111.01007), or both."""
    r1_gamma: float = pydantic.Field(10.0, ge=0)
    """Weight γ of R1, the squared gradient of the discriminator at real pictures; 0: off."""
    r1_every: int = pydantic.Field(16, gt=0)
    """R1 is applied every so many steps."""
    pl_weight: float = pydantic.Field(2.0, ge=0)
    """Weight of the generator's path-length penalty; 0: off."""
    pl_decay: float = pydantic.Field(0.01, gt=0, le=1)
    """Update rate of the running mean of path lengths."""
    pl_shrink: int = pydantic.Field(2, gt=0)
    """The path-length penalty uses batch / pl_shrink images."""
    pl_every: int = pydantic.Field(4, gt=0)
    """The path-length penalty is applied every so many steps."""
    style_mixing: float = pydantic.Field(0.9, ge=0, le=1)
    """Share of anchors whose upper layers get a second code."""
    frames_at: Literal["patch", "column", "pixel"] = "patch"
    """Where frames begin: at patch borders, every R/4 pixels, or at any pixel (one offset per microbatch).

    "column" and "pixel" need padding = "plane"; then training sees the same frames as any crop of the plane shows."""
    shift_ramp_kimg: int = pydantic.Field(1, ge=0)
    """Frames stay at the left end of the window for this many thousand images."""


class ProjectedSettings(Settings):
    """`[projected]`: the discriminator on features of a frozen EfficientNet-Lite0."""

    weight: float = pydantic.Field(1.0, gt=0)
    """Weight of its hinge loss in the generator's loss, beside the residual discriminator's logistic loss."""
    size: int | None = pydantic.Field(None, ge=32)
    """Side that pictures are resized to for the frozen network, a multiple of 32; by default their own, at most 256."""
    width: int = pydantic.Field(32, gt=0)
    """Channels that its finest map is mixed to; coarser maps get up to eight times as many."""
    lr: float = pydantic.Field(0.002, gt=0)
    """Learning rate of its heads."""
    p: float = pydantic.Field(1.0, ge=0, le=1)
    """Probability of each light augmentation of its input: small shifts, brightness, contrast, saturation."""

    @pydantic.field_validator("size")
    @classmethod
    def _is_whole(cls, size: int | None) -> int | None:
        if size is not None and size % 32:
            raise ValueError("must be a multiple of 32, the frozen network's coarsest step")
        return size


class OptimSettings(Settings):
    """`[optim]`: Adam for all networks."""

    batch: int | None = pydantic.Field(None, gt=0)
    """Images per step over all processes; by default min(processes · min(4096 // R, 32), 64)."""
    micro: int | None = pydantic.Field(None, gt=0)
    """Images per forward pass; by default batch / processes. With fewer, gradients are accumulated."""
    lr_g: float | None = pydantic.Field(None, gt=0)
    """Learning rate of the generator; by default 0.0025, at 1024 px 0.002."""
    lr_d: float | None = pydantic.Field(None, gt=0)
    """Learning rate of the discriminator; by default the generator's default."""
    lr_end: float = pydantic.Field(1.0, gt=0, le=1)
    """Cosine decay: factor of all learning rates at `run.kimg`; 1: constant rates."""
    warm_up_kimg: float = pydantic.Field(0.0, ge=0)
    """The generator's learning rate rises from 0 over so many thousand images: for a start from a model without a
    discriminator, whose new one has to learn first."""
    beta1: float = pydantic.Field(0.0, ge=0, lt=1)
    """Adam's decay of the mean gradient."""
    beta2: float = pydantic.Field(0.99, ge=0, lt=1)
    """Adam's decay of the mean squared gradient."""
    eps: float = pydantic.Field(1e-8, gt=0)
    """Adam's ε."""
    freeze_d: int = pydantic.Field(0, ge=0)
    """Number of the residual discriminator's finest blocks that are not trained (FreezeD, arXiv 2002.10964): for
    fine-tuning on few pictures."""

    @property
    def has_schedule(self) -> bool:
        """Whether learning rates change during the run."""
        return self.lr_end < 1 or self.warm_up_kimg > 0


class EmaSettings(Settings):
    """`[ema]`: the averaged generator."""

    half_life_kimg: float = pydantic.Field(10.0, gt=0)
    """Half-life of the average in thousand images, for a batch of 32; proportional to the batch."""
    ramp_up: float | None = pydantic.Field(0.05, gt=0)
    """The half-life is at most this share of the images seen; None: no ramp."""


class AugmentTransforms(Settings):
    """Transforms that augmentation may use. A landscape's horizon should stay level: switch rotations off there."""

    mirror: bool = True
    """Mirror horizontally."""
    quarter_turns: bool = True
    """Rotate by 90, 180 or 270 degrees."""
    shifts: bool = True
    """Shift by whole pixels, up to an eighth of the side."""
    scale: bool = True
    """Enlarge or shrink."""
    turns: bool = True
    """Rotate by any angle."""
    stretch: bool = True
    """Stretch in one direction and squeeze in the other."""
    fractions: bool = True
    """Shift by fractions of a pixel, with a standard deviation of an eighth of the side."""
    brightness: bool = True
    """Make lighter or darker."""
    contrast: bool = True
    """Raise or lower the contrast."""
    luma_flip: bool = True
    """Swap dark and light."""
    hue: bool = True
    """Rotate colours around the grey axis."""
    saturation: bool = True
    """Raise or lower the saturation."""


class AugmentSettings(AugmentTransforms):
    """`[augment]`: adaptive augmentation of the residual discriminator's input; off in the published recipe."""

    kind: Literal["none", "ada", "fixed"] = "none"
    """Off, adapted to how certain the discriminator is (`ada`, for small datasets), or with a constant p (`fixed`)."""
    p: float = pydantic.Field(0.0, ge=0, le=1)
    """Probability of each transform: the start for `ada`, constant for `fixed`."""
    target: float = pydantic.Field(0.6, gt=0, lt=1)
    """Mean sign of the logits of real images that `ada` aims for."""
    speed_kimg: float = pydantic.Field(500.0, gt=0)
    """Thousand images that p needs to move from 0 to 1."""


class RunSettings(Settings):
    """`[run]`: length, logs and snapshots, and how the machine is used."""

    kimg: float = pydantic.Field(25_000.0, gt=0)
    """Length of the training in thousand images."""
    tick_kimg: float = pydantic.Field(4.0, gt=0)
    """Thousand images between two lines of the log (a tick)."""
    snapshot_ticks: int = pydantic.Field(50, gt=0)
    """Ticks between two snapshots."""
    snapshot_minutes: float = pydantic.Field(10.0, gt=0)
    """Longest time between two snapshots; a snapshot that only this clock asked for is kept until the next one."""
    keep: int = pydantic.Field(3, gt=0)
    """Number of newest snapshots to keep; the best one by `metric` is kept too."""
    minutes: float | None = pydantic.Field(None, gt=0)
    """Save and exit before this many minutes are over, for jobs with a time limit; the next start continues."""
    count: Literal["auto", "on", "zero"] = "auto"
    """Image count of a run started with --resume FOLDER: `on` continues the folder's count, `zero` starts at 0 with its
    state, `auto` continues the count unless run.kimg is already reached."""
    seed: int = pydantic.Field(0, ge=0)
    """Random numbers depend only on this seed and on the images seen."""
    precision: Literal["float16", "bfloat16", "float32"] = "float16"
    """Precision of the half-precision blocks on a GPU; a CPU always computes in float32."""
    half_from: int | None = pydantic.Field(None, ge=4)
    """Lowest resolution that computes in run.precision on a GPU; by default set by model.num_half_res."""
    channels_last: bool = False
    """Store features channels-last on a GPU, which suits tensor cores; a CPU always trains channels-last."""
    graphs: bool = False
    """Record each phase of a step as one CUDA graph; for one GPU, with one microbatch per batch."""
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    """torch.compile for the two main passes; `reduce-overhead` records CUDA graphs. Regularisers stay eager, because
    compiled graphs can't be differentiated twice."""
    metric: Literal["none", "fid", "inf-fid"] = "none"
    """Metric to compute at each snapshot; the best snapshot is kept."""
    metric_images: int = pydantic.Field(10_000, gt=1)
    """Number of generated pictures for the metric."""
    features: str = "inception"
    """Feature extractor of the metric (see docs/metrics.md)."""
    psi: float = 1.0
    """Truncation of the sample pictures."""


class TrainConfig(Settings):
    """All settings of a run except the dataset's address and the run's folder."""

    model: ModelConfig = pydantic.Field(default_factory=lambda: ModelConfig(num_half_res=4))
    data: DataSettings = pydantic.Field(default_factory=lambda: DataSettings.model_validate({}))
    loss: LossSettings = pydantic.Field(default_factory=lambda: LossSettings.model_validate({}))
    projected: ProjectedSettings = pydantic.Field(default_factory=lambda: ProjectedSettings.model_validate({}))
    optim: OptimSettings = pydantic.Field(default_factory=lambda: OptimSettings.model_validate({}))
    ema: EmaSettings = pydantic.Field(default_factory=lambda: EmaSettings.model_validate({}))
    augment: AugmentSettings = pydantic.Field(default_factory=lambda: AugmentSettings.model_validate({}))
    run: RunSettings = pydantic.Field(default_factory=lambda: RunSettings.model_validate({}))

    def resolved(self, num_processes: int) -> TrainConfig:
        """The settings with all values filled in that depend on the resolution and the number of processes.

        Raises:
            ConfigError: batch, microbatch and processes don't fit together, or the networks can't paint at `frames_at`.
        """
        size, optim = self.model.resolution, self.optim
        if self.loss.frames_at != "patch" and self.model.padding != "plane":
            raise ConfigError(
                f'loss: frames_at = "{self.loss.frames_at}" needs padding = "plane", not "{self.model.padding}": its '
                "patches are independent",
                hint='use frames_at = "patch", or train with --model.padding plane',
            )
        if self.loss.frames_at == "pixel" and self.run.compile != "off":
            raise ConfigError(
                'loss: frames_at = "pixel" with compiled passes: every offset would be compiled again',
                hint="use --loss.frames-at column, or --run.compile off",
            )
        batch = optim.batch or max(min(num_processes * min(4096 // size, 32), 64) // num_processes, 1) * num_processes
        micro = optim.micro or batch // num_processes
        if not micro or batch % (micro * num_processes):
            raise ConfigError(
                f"optim: batch = {batch} is not a multiple of micro × processes = {micro} × {num_processes}",
                hint="change --optim.batch or --optim.micro",
            )
        if optim.freeze_d >= len(self.model.resolutions):
            raise ConfigError(
                f"optim: freeze_d = {optim.freeze_d} leaves the discriminator nothing to train",
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


def shipped_configs() -> list[str]:
    """Names of the shipped configs."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def read(name_or_path: str | None, changes: Mapping[str, object] | None = None) -> TrainConfig:
    """Read a shipped config by name or a TOML file, then override single values.

    Args:
        name_or_path: e.g. `lhq256`, or a path; None: the published recipe at 256 px.
        changes: e.g. `{"loss.r1_gamma": 5.0}`.

    Raises:
        ConfigError: no such config, not TOML, an unknown key (with the nearest name), a wrong value.
    """
    table: dict[str, Any] = {}
    where = name_or_path or "flags"
    if name_or_path is not None:
        shipped = CONFIGS / f"{name_or_path}.toml"
        path = shipped if name_or_path in shipped_configs() else Path(name_or_path)
        try:
            table = tomllib.loads(read_text(path))
        except FileNotFoundError:
            hint = nearest.path(name_or_path, "") if path.suffix else ""
            hint = hint or nearest.word(
                name_or_path, shipped_configs(), f"shipped configs: {', '.join(shipped_configs())}"
            )
            raise ConfigError(f"{name_or_path}: no such config", hint=hint) from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}", hint="correct that line") from None
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
    """(key, type, default, help) of every setting, e.g. `loss.r1_gamma`: `alis train` makes an option of each."""
    found = []
    for section, values in TrainConfig():
        for name, field in type(values).model_fields.items():
            text = " ".join((field.description or "").partition("\n\n")[0].split())
            found.append((f"{section}.{name}", field.annotation, getattr(values, name), text))
    return found
