"""`lhq doctor`: what is installed, and what each command would lack."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from lhq import __version__
from lhq.cli import COMMANDS
from lhq.cli.checkup import Finding, can_be_made, installed, lacks_of, lines
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

    Keys are named as set or not, never shown. Nothing is sent over the network.

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
        *_keys(),
        *_network(),
        Finding("disk", str(Path.cwd()), True, f"{shutil.disk_usage('.').free / 1e9:,.1f} GB free"),
    ]
    lacks = lacks_of(COMMANDS)
    result({"findings": [one.as_json() for one in findings], "commands": lacks}, *lines(findings, lacks))


def _keys() -> Iterator[Finding]:
    """Service keys, set or not; the Hub's token may be where `hf auth login` stored it."""
    from huggingface_hub import get_token

    for name, use in KEYS.items():
        is_set = bool(os.environ.get(name, "").strip())
        if name == "HF_TOKEN" and not is_set:
            try:
                is_set = bool((get_token() or "").strip())
            except OSError as error:
                use = f"{use}; what hf auth login left can't be read ({error.strerror})"
        yield Finding("key", name, is_set, use)


def _network() -> Iterator[Finding]:
    """The proxies and certificate authorities from the environment that a crawl would use."""
    from lhq.http.environment import NetworkEnvironment, environment_variables

    try:
        environment = NetworkEnvironment()
        environment.tls  # noqa: B018  reads the certificates
    except ConfigError as error:
        yield Finding("network", "environment", False, str(error))
        return
    for name, value in environment_variables():
        yield Finding("network", name, True, value)


def _names() -> Iterator[Finding]:
    """Sources, measures and engines that installed packages bring."""
    for registry in (SOURCES, MEASURES, ENGINES):
        for name in registry.names():
            if name not in registry.own:
                yield Finding(registry.noun, name, True, "from an installed package")


def _measures() -> Iterator[Finding]:
    """Measures that would stop `lhq filter` because a module is missing."""
    for name in MEASURES.names():
        try:
            missing = [module for module in MEASURES.load(name).needs if not is_installed(module)]
        except ConfigError as error:
            yield Finding("measure", name, False, str(error))
            continue
        if missing:
            yield Finding("measure", name, False, f"[filter.{name}] needs {', '.join(missing)}")


def _weights() -> Iterator[Finding]:
    """Weights that measures fetch at first use: present, or where to put them."""
    if lacking("ml"):
        return
    try:
        from torchvision.models.detection import MaskRCNN_ResNet50_FPN_V2_Weights as MaskRCNN
    except (ImportError, RuntimeError) as error:
        yield Finding("extra", "torchvision", False, f"does not import beside this torch ({error})")
        return

    from lhq.measures.features import DINOV2_URL, INCEPTION_URL
    from lhq.measures.half_classifier import WIDE_RESNET_URL
    from lhq.measures.weights import is_whole, place_of

    for use, url in (
        ('objects, weights = "coco"', MaskRCNN.COCO_V1.url),
        ('outliers, features = "inception"', INCEPTION_URL),
        ('outliers, features = "dinov2"', DINOV2_URL),
        ("connectability", WIDE_RESNET_URL),
    ):
        place = place_of(url)
        if place.is_file() and is_whole(place):
            yield Finding("weights", use, True, str(place))
        elif place.is_file():
            yield Finding("weights", use, False, f"{place} is cut short or another file: remove it, to be fetched anew")
        elif can_be_made(place):
            yield Finding("weights", use, False, f"fetched at first use; or put {url} at {place}")
        else:
            note = f"{place} can't be written: set TORCH_HOME to a folder that can, or put {url} there"
            yield Finding("weights", use, False, note)
