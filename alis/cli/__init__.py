"""The `alis` command: one file a command, no logic here."""

from __future__ import annotations

import click

from alis import __version__
from alis.errors import AlisError
from lhq.cli.door import Door, Entry, enter

# command → where it is and what the list says of it, in the order of `alis --help`.
COMMANDS = {
    "train": Entry(
        "alis.cli.train",
        "Train the generator on an export or any pictures; run the same command again to go on.",
        extra="train",
    ),
    "panorama": Entry(
        "alis.cli.panorama", "Paint a strip of the endless plane, of any width, in constant memory.", extra="ml"
    ),
    "connect": Entry(
        "alis.cli.connect", "Walk from scene to scene: seeds, saved codes or your own photographs.", extra="ml"
    ),
    "resample": Entry(
        "alis.cli.resample",
        "Redraw one anchor; beyond its reach the picture stays as it was, to the bit.",
        extra="ml",
    ),
    "invert": Entry("alis.cli.invert", "Find the code whose scene looks most like a photograph.", extra="ml"),
    "clusters": Entry(
        "alis.cli.clusters", "Cluster random codes by k-means and keep the centres beside the model.", extra="ml"
    ),
    "video": Entry(
        "alis.cli.video", "Film the plane: a camera that pans, or scenes that turn into others.", extra="ml"
    ),
    "serve": Entry(
        "alis.cli.serve", "Open the live page: pan for ever, redraw, lock, connect, share, download.", extra="web"
    ),
    "export-web": Entry(
        "alis.cli.export_web",
        "Write the live page as static files: the browser itself paints, and no request leaves the folder.",
        extra="web",
    ),
    "evaluate": Entry(
        "alis.cli.evaluate",
        "Measure a model folder, or a run's newest snapshot; what was measured is also kept in its evaluation.jsonl.",
        extra="train",
    ),
    "plot": Entry(
        "alis.cli.plot",
        "Draw the curves of one run, or of several over each other; works while they train.",
        extra="train",
    ),
    "info": Entry(
        "alis.cli.info", "Layers, shapes, parameters, FLOPs a frame and memory of a model folder or run.", extra="ml"
    ),
    "slim": Entry(
        "alis.cli.slim",
        "Write a small copy of a model that only paints: the averaged generator, and its clusters.",
        extra="ml",
    ),
    "import-published": Entry(
        "alis.cli.import_published",
        "Turn a published checkpoint (.pkl) into a model folder, running nothing of it.",
        extra="ml",
    ),
    "push-to-hub": Entry(
        "alis.cli.push_to_hub", "Publish the generator of a model folder or run as user/name on the Hub.", extra="ml"
    ),
    "doctor": Entry(
        "alis.cli.doctor", "Say what is installed, on what it would compute, and what each command would lack."
    ),
}


@click.command("alis", cls=Door, entries=COMMANDS)
@click.version_option(__version__, prog_name="alis")
def cli() -> None:
    """Train an endless-panorama generator and paint with it.

    \b
    Example:
      alis train --data data/quickstart/export --config tiny --out runs/first
      alis panorama runs/first -o strip.png --frames 8
      alis serve demo
    """


def main() -> None:
    """Entry point; what the exit codes mean stands at the end of the help."""
    enter(cli, AlisError)
