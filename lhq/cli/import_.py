"""`lhq import`: collections made by others."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import click

from lhq.cli.progress import progress
from lhq.cli.talk import result, say
from lhq.pipeline import load
from lhq.pipeline.collections import Kind, Stated

log = logging.getLogger(__name__)


@click.group()
def command() -> None:
    """Import photos of another collection into a pipeline's store, with licence and author.

    \b
    Example:
      lhq import lsun tower_train_lmdb pipelines/tower.toml
      lhq import zip lhq_1024_jpg.zip pipelines/lhq-zip.toml --licence not-stated
      lhq import folder ~/pictures pipelines/own.toml --licence own --author "Me"
    """


def _options(default_licence: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--papers",
                "table",
                type=click.Path(),
                help='CSV, TSV or JSON lines: a column "file", and any of licence, author, author_url, url, '
                "page_url, title, description, tags, taken_at, attribution, permits, permission, permission_by, "
                "permission_on.",
            ),
            click.option(
                "--allow-unmatched",
                "allows_unmatched",
                is_flag=True,
                help="Accept rows of --papers that match no photo, and photos without a row.",
            ),
            click.option("--author", default="", help="Author of all photos that are not in --papers."),
            click.option(
                "--licence",
                default=default_licence,
                show_default=True,
                help="Licence of all photos that are not in --papers.",
            ),
            click.option("--name", help="Name of the collection, part of every id; by default the file's."),
        ):
            function = option(function)
        return click.argument("pipeline", type=click.Path())(function)

    return wrap


def _run(
    kind: Kind,
    path: str,
    pipeline: str,
    name: str | None,
    stated: Stated,
) -> int:
    with progress() as on_progress:
        report = load(pipeline).import_photos(kind, path, stated, name=name, on_progress=on_progress)
    for entry, reason in report.failed.items():
        say(f"not taken in: {entry}: {reason}")
    for entry, reason in report.conflicts.items():
        log.warning(
            "conflict: %s: %s; nothing was changed: give this collection another --name, or remove the held photo",
            entry,
            reason,
        )
    counts = [f"new {report.new:,}", f"held before {report.held:,}", f"not taken in {len(report.failed):,}"]
    say(" · ".join([*counts, *(f"conflicts {len(report.conflicts):,}" for _ in [0] if report.conflicts)]))
    told = dataclasses.asdict(report)
    result({name: found for name, found in told.items() if name != "conflicts" or found})
    return 1 if report.conflicts else 0


@command.command()
@click.argument("path", metavar="LMDB_DIR", type=click.Path())
@_options("not-stated")
def lsun(path: str, pipeline: str, name: str | None, **stated: Any) -> int:
    """An LSUN category (Tower, Bridge …): an LMDB folder of JPEG or WebP files.

    \b
    Example:
      lhq import lsun tower_train_lmdb pipelines/tower.toml
    """
    return _run("lsun", path, pipeline, name, Stated(**stated))


@command.command()
@click.argument("path", metavar="DIR", type=click.Path())
@_options(None)
def folder(path: str, pipeline: str, name: str | None, **stated: Any) -> int:
    """A folder of pictures, with its subfolders.

    \b
    Example:
      lhq import folder ~/pictures pipelines/own.toml --licence own --author "Me"
    """
    return _run("folder", path, pipeline, name, Stated(**stated))


@command.command("zip")
@click.argument("path", metavar="FILE", type=click.Path())
@_options(None)
def zip_(path: str, pipeline: str, name: str | None, **stated: Any) -> int:
    """A zip of pictures: the published LHQ zips, StyleGAN's with dataset.json, or any other.

    \b
    Example:
      lhq import zip lhq_256.zip pipelines/lhq-zip.toml --licence not-stated
      lhq import zip mine.zip pipelines/own.toml --papers papers.csv
    """
    return _run("zip", path, pipeline, name, Stated(**stated))
