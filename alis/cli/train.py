"""`alis train`: dataset → a run folder with snapshots."""

from __future__ import annotations

import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from alis.errors import ConfigError
from alis.training import recipe
from lhq.cli.talk import result, say


def _option(key: str, kind: Any, default: Any, text: str) -> Callable[[Any], Any]:
    """The flag for one value of the recipe: `loss.r1_gamma` → `--loss.r1-gamma FLOAT`."""
    inner = [part for part in typing.get_args(kind) if part is not type(None)]
    choices: Any = None
    if typing.get_origin(kind) is typing.Literal:
        choices = click.Choice([str(choice) for choice in typing.get_args(kind)])
    elif inner and typing.get_origin(inner[0]) is typing.Literal:
        choices = click.Choice([str(choice) for choice in typing.get_args(inner[0])])
    plain = inner[0] if inner and choices is None else kind
    flag = "--" + key.replace("_", "-")
    if plain is bool:
        section, name = key.split(".")
        flag = f"{flag}/--{section}.no-{name.replace('_', '-')}"
    shown = "" if default is None else f"  [{f'{default:g}' if isinstance(default, float) else default}]"
    chosen = choices or (plain if plain in (int, float, str, bool) else str)
    return click.option(flag, key.replace(".", "__"), type=chosen, default=None, help=f"{text}{shown}".strip())


def _every_value(function: Callable[..., Any]) -> Callable[..., Any]:
    for key, kind, default, text in reversed(recipe.flags()):
        function = _option(key, kind, default, text)(function)
    return function


@click.command("train", epilog="Every value of the recipe has a flag, named table.key as in alis/configs/*.toml.")
@click.option("--data", required=True, help="Folder, s3://… or hf://… of Parquet files or pictures; or a zip.")
@click.option("--config", "config_name", help=f"{', '.join(recipe.shipped_configs())}, or a TOML file [lhq256].")
@click.option("--size", type=int, help="Resolution in pixels: 32 to 1024, a power of two; chooses the recipe.")
@click.option("--hours", type=float, help="Time to train; chooses width, batch, learning rates and augmentation.")
@click.option("--out", default="runs/latest", show_default=True, type=click.Path(path_type=Path), help="Run folder.")
@click.option(
    "--resume", default="auto", show_default=True, help="auto, never, or a snapshot, run or model to start from."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--dry-run", is_flag=True, help="Show what would be trained, on which data and device, and stop.")
@_every_value
def command(
    data: str,
    config_name: str | None,
    size: int | None,
    hours: float | None,
    out: Path,
    resume: str,
    device: str,
    dry_run: bool,
    **values: Any,
) -> None:
    """Train the generator on an export or any pictures; run the same command again to continue.

    \b
    Example:
      alis train --data data/quickstart/export --size 128 --hours 2 --out runs/first
      alis train --data data/quickstart/export --config tiny --out runs/first
      torchrun --nproc-per-node=4 -m alis train --data hf://datasets/me/lhq --config lhq256 --out runs/lhq
    """
    from alis.training.launch import launch

    changes = {key.replace("__", "."): value for key, value in values.items() if value is not None}
    if size is None and hours is None:
        config = recipe.read(config_name, changes)
    else:
        from alis.training.auto_recipe import auto_recipe

        if config_name is not None:
            hint = "give one of them; to change a single value, use its own flag, e.g. --optim.batch"
            raise ConfigError("--size and --hours choose the recipe, and so does --config", hint=hint)
        config, explanation = auto_recipe(data, size, hours, changes, device)
        say(explanation)
    output = launch(data, config, out, resume=resume, device=device, is_dry=dry_run)
    if output and dry_run:
        click.echo(output)  # JSON, also without --json
    elif output:
        result({"snapshot": output}, output)
