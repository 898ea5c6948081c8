"""`alis slim`: a small copy of a model, to share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from lhq.cli.talk import result, say

if TYPE_CHECKING:
    from alis.models import Generator
    from alis.training.match_colours import ColourMatch


@click.command()
@click.argument("model", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--weights", type=click.Choice(["float16", "float32"]), default="float16", show_default=True)
@click.option("--match-colours", "data", metavar="DATA", help="Match the model's colours to these pictures; see below.")
@click.option("--frames", "num", default=2000, show_default=True, help="Number of frames, and of pictures, to measure.")
@click.option("--fit", type=click.Choice(["resize", "crop"]), default="resize", show_default=True, help="As data.fit.")
@click.option("--variant", help="Variant of an export, e.g. 256; default: the one of the model's resolution.")
@click.option("--force", is_flag=True, help="Replace an existing model.")
def command(
    model: str,
    out: str,
    weights: str,
    data: str | None,
    num: int,
    fit: Literal["resize", "crop"],
    variant: str | None,
    force: bool,
) -> None:
    """Write a small copy of a model, for painting only: the averaged generator and its clusters.

    --match-colours takes the pictures that the model was trained on (an address, as for `alis train --data`) and gives
    the model's colours their means and covariances at every size, by linear maps folded into the weights. Shapes do not
    change.

    In a source checkout, a copy written to alis/demo becomes the model `demo`.

    \b
    Example:
      alis slim runs/first models/first
      alis slim runs/first models/first --match-colours data/quickstart/export
      alis serve models/first
    """
    from alis.models.slim import slim

    matches: list[ColourMatch] = []

    def change(generator: Generator) -> dict[str, str | int | float | None]:
        matches.append(_match(generator, data or "", num, fit, variant))
        return {"colours_matched": matches[-1].num_real}

    made = slim(model, out, weights=weights, overwrite=force, change=change if data else None)
    found = {"folder": str(made.folder), "size_bytes": made.size_bytes, "rounding": made.rounding}
    for match in matches:
        found["colours"] = {
            "before": match.before,
            "after": match.after,
            "distance": match.distance,
            "stretch": match.stretch,
        }
        before, after = (", ".join(f"{value:+.1f}" for value in off) for off in (match.before, match.after))
        say(f"mean red, green, blue minus those of {match.num_real} pictures, in 8-bit levels: {before}; now {after}")
        say("distance of colours at every size, in levels: {:.1f}; now {:.1f}".format(*match.distance))
    result(found, str(made.folder))
    say(f"{made.size_bytes / 1e6:.1f} MB · weights rounded by at most {made.rounding:.1e} of the largest")


def _match(
    generator: Generator, data: str, num: int, fit: Literal["resize", "crop"], variant: str | None
) -> ColourMatch:
    from alis.data import guarded, open_catalogue
    from alis.training.match_colours import match_colours
    from lhq.cli.progress import progress

    side = generator.config.resolution
    catalogue = guarded(open_catalogue(data, side=side, variant=variant), side)
    with progress() as on_progress:
        return match_colours(generator, catalogue, num=num, fit=fit, on_progress=on_progress)
