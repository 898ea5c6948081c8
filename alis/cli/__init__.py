"""The `alis` command: one file a command, no logic here."""

from __future__ import annotations

import click

from alis import __version__
from alis.errors import AlisError
from lhq.cli.group import CommandGroup, Entry, run_program

# command → where it is and what the list says of it, in the order of `alis --help`.
COMMANDS = {
    "train": Entry(
        "alis.cli.train",
        "Train the generator on an export or any pictures; run the same command again to continue.",
        extra="train",
    ),
    "panorama": Entry(
        "alis.cli.panorama", "Paint a strip of the endless plane, of any width, in constant memory.", extra="ml"
    ),
    "connect": Entry(
        "alis.cli.connect", "Paint one picture through several scenes: seeds, saved codes or photographs.", extra="ml"
    ),
    "resample": Entry(
        "alis.cli.resample",
        "Redraw one anchor of a painted strip; the picture stays the same outside its reach.",
        extra="ml",
    ),
    "invert": Entry("alis.cli.invert", "Find the code whose scene looks most like a photograph.", extra="ml"),
    "clusters": Entry(
        "alis.cli.clusters", "Cluster random codes by k-means and save the centres beside the model.", extra="ml"
    ),
    "video": Entry(
        "alis.cli.video", "Make a video of the plane: a camera that pans, or scenes that morph.", extra="ml"
    ),
    "serve": Entry(
        "alis.cli.serve", "Serve the live page: pan for ever, redraw, lock, connect, share, download.", extra="web"
    ),
    "export-web": Entry(
        "alis.cli.export_web",
        "Write the live page as static files: the visitor's browser paints, no server is needed.",
        extra="web",
    ),
    "evaluate": Entry(
        "alis.cli.evaluate",
        "Measure a model folder or a run's newest snapshot; results are also added to its evaluation.jsonl.",
        extra="train",
    ),
    "plot": Entry(
        "alis.cli.plot",
        "Plot the curves of one or several runs, also while they train.",
        extra="train",
    ),
    "info": Entry(
        "alis.cli.info", "Show a model's layers, shapes, parameters, FLOPs per frame and memory.", extra="ml"
    ),
    "slim": Entry(
        "alis.cli.slim",
        "Write a small copy of a model, for painting only: the averaged generator and its clusters.",
        extra="ml",
    ),
    "import-published": Entry(
        "alis.cli.import_published",
        "Convert a published checkpoint (.pkl) to a model folder, without executing anything in it.",
        extra="ml",
    ),
    "push-to-hub": Entry(
        "alis.cli.push_to_hub", "Publish the generator of a model folder or run as user/name on the Hub.", extra="ml"
    ),
    "doctor": Entry(
        "alis.cli.doctor", "Show what is installed, which device is used, and what each command is missing."
    ),
}


@click.command("alis", cls=CommandGroup, entries=COMMANDS)
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
    """Entry point; the end of the help lists the exit codes."""
    run_program(cli, AlisError)
