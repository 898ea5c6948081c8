"""`lhq doctor`: what is here, and what each command would lack."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from lhq import __version__
from lhq.cli import COMMANDS
from lhq.cli.checkup import Finding, installed, lacks_of, lines
from lhq.cli.extras import is_installed, lacking
from lhq.cli.talk import result
from lhq.errors import ConfigError
from lhq.pipeline.registry import ENGINES, MEASURES, SOURCES

KEYS = {
    "UNSPLASH_ACCESS_KEY": "to crawl from Unsplash",
    "FLICKR_API_KEY": "to crawl from Flickr",
    "FLICKR_API_SECRET": "to crawl from Flickr",
    "WIKIMEDIA_ACCESS_TOKEN": "for more calls to Wikimedia Commons",
    "HF_TOKEN": "for lhq export --push-to-hub",
}


@click.command()
def command() -> None:
    """Say what is installed, which keys are set, and what each command would lack.

    Keys are named as set or not, never shown. Nobody is asked for anything over the network.

    \b
    Example:
      lhq doctor
      lhq doctor --json | jq .commands
    """
    findings = [
        *installed("lhq", __version__, ("ml", "ray", "s3", "lsun")),
        *_names(),
        *_measures(),
        *_weights(),
        *(Finding("key", name, bool(os.environ.get(name, "").strip()), use) for name, use in KEYS.items()),
        Finding("disk", str(Path.cwd()), True, f"{shutil.disk_usage('.').free / 1e9:,.1f} GB free"),
    ]
    lacks = lacks_of(COMMANDS)
    result({"findings": [one.as_json() for one in findings], "commands": lacks}, *lines(findings, lacks))


def _names() -> Iterator[Finding]:
    """Sources, measures and engines that installed packages bring."""
    for registry in (SOURCES, MEASURES, ENGINES):
        for name in registry.names():
            if name not in registry.own:
                yield Finding(registry.noun, name, True, "from an installed package")


def _measures() -> Iterator[Finding]:
    """Measures that would stop `lhq filter` for want of a module."""
    for name in MEASURES.names():
        try:
            missing = [module for module in MEASURES.load(name).needs if not is_installed(module)]
        except ConfigError as error:
            yield Finding("measure", name, False, str(error))
            continue
        if missing:
            yield Finding("measure", name, False, f"[filter.{name}] needs {', '.join(missing)}")


def _weights() -> Iterator[Finding]:
    """Weights that measures fetch at first use: there, or where to put them."""
    if lacking("ml"):
        return
    try:
        from torchvision.models.detection import MaskRCNN_ResNet50_FPN_V2_Weights as MaskRCNN
    except (ImportError, RuntimeError) as error:
        yield Finding("extra", "torchvision", False, f"does not import beside this torch ({error})")
        return

    from lhq.measures.features import DINOV2_URL, INCEPTION_URL
    from lhq.measures.half_classifier import WIDE_RESNET_URL
    from lhq.measures.weights import place_of

    for use, url in (
        ('objects, weights = "coco"', MaskRCNN.COCO_V1.url),
        ('outliers, features = "inception"', INCEPTION_URL),
        ('outliers, features = "dinov2"', DINOV2_URL),
        ("connectability", WIDE_RESNET_URL),
    ):
        place = place_of(url)
        note = str(place) if place.is_file() else f"fetched at first use; or put {url} at {place}"
        yield Finding("weights", use, place.is_file(), note)
