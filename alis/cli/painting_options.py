"""What the painting commands share: their common options, opening a model's plane, and reporting the result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lhq.cli.talk import result, say

if TYPE_CHECKING:
    from alis.models import Generator
    from alis.painting.panorama import Panorama
    from alis.painting.picture_writer import WrittenStrip


def _cluster(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """Parse a cluster's number, or the word "nearest"."""
    if value is None or value == "nearest":
        return value
    if not value.isascii() or not value.isdigit():
        raise click.BadParameter(f'{value!r} is neither a number nor "nearest"')
    return int(value)


@dataclass(frozen=True)
class PaintingOptions:
    """Which plane to paint, and how: the values of `painting_options`."""

    seed: int = 0
    psi: float = 1.0
    cluster: int | str | None = None
    noise: str = "random"
    device: str = "cpu"
    precision: str = "float32"


def painting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --seed, --psi, --cluster, --noise, --precision and --device to a command that takes them as `painting`."""
    names = [field.name for field in fields(PaintingOptions)]

    @functools.wraps(command)
    def function(**given: Any) -> Any:
        painting = PaintingOptions(**{name: given.pop(name) for name in names})
        return command(**given, painting=painting)

    for option in (
        click.option("--device", default="auto", show_default=True, help="cpu, cuda or cuda:N."),
        click.option(
            "--precision",
            type=click.Choice(["float32", "bfloat16", "float16", "auto"]),
            default="float32",
            show_default=True,
            help="Of the high resolutions. 16 bits are faster where the device supports them, 1 or 2 grey levels off.",
        ),
        click.option(
            "--noise",
            type=click.Choice(["random", "none", "const"]),
            default="random",
            show_default=True,
            help="Fine detail: one noise field for the whole plane, none, or the model's stored maps.",
        ),
        click.option("--cluster", callback=_cluster, help='Scenes of this cluster only, or "nearest" (alis clusters).'),
        click.option(
            "--psi", type=float, default=1.0, show_default=True, help="Truncation: below 1, closer to the mean."
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Which plane."),
    ):
        option(function)
    return function


def open_panorama(model: str, painting: PaintingOptions, codes_files: tuple[str, ...] = ()) -> Panorama:
    """Open a model's plane, with its clusters if it has any, and with saved codes."""
    from alis import models
    from alis.painting import clusters
    from alis.painting.panorama import Panorama, choose_device, choose_precision
    from alis.plane import codes

    g = models.load(model, device=choose_device(painting.device))
    choose_precision(g, painting.precision)
    centres = clusters.find(model, g.config)
    saved = codes.read_all(codes_files)
    warn_about_foreign_codes(g, codes_files)
    return Panorama(
        g,
        painting.seed,
        psi=painting.psi,
        cluster=painting.cluster,
        noise=painting.noise,
        centres=centres,
        codes=saved,
    )


def warn_about_foreign_codes(g: Generator, codes_files: Iterable[str | Path]) -> None:
    """Warn about saved codes that were made with another model: they can be painted, but show different scenes."""
    from alis.painting.strip import fingerprint
    from alis.plane import codes

    own = fingerprint(g)
    for path in codes_files:
        made_with = codes.read_origin(path).model
        if made_with and made_with != own:
            say(f"{path}: was made with another model ({made_with}); this one paints a different scene")


def report(strip: WrittenStrip, **more: object) -> None:
    """Print a strip's path on stdout (with --json, its size, time and `more` too), and its size and speed on stderr."""
    table = {"path": str(strip.path), "width_px": strip.width_px, "height_px": strip.height_px}
    rate = strip.megapixels_per_second
    result({**table, "seconds": strip.seconds, "megapixels_per_second": rate, **more}, str(strip.path))
    say(f"{strip.width_px:,} × {strip.height_px} px · {strip.seconds:.1f} s · {rate:.2f} Mpx/s")
