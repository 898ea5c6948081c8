"""`alis doctor`: what is installed, and what each command is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from alis import __version__
from alis.cli import COMMANDS
from lhq.cli.checkup import Finding, installed, lacks_of, lines
from lhq.cli.extras import is_installed
from lhq.cli.talk import result


@click.command()
def command() -> None:
    """Show what is installed, which device is used, and what each command is missing.

    \b
    Example:
      alis doctor
      alis doctor --json | jq .commands
    """
    findings = [
        *installed("alis", __version__, ("ml", "train", "web")),
        *_devices(),
        Finding("disk", str(Path.cwd()), True, f"{shutil.disk_usage('.').free / 1e9:,.1f} GB free"),
    ]
    lacks = lacks_of(COMMANDS)
    result({"findings": [one.as_json() for one in findings], "commands": lacks}, *lines(findings, lacks))


def _devices() -> Iterator[Finding]:
    """The GPUs that torch sees, and whether Triton's kernels are used; nothing without torch."""
    if not is_installed("torch"):
        return
    import torch

    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        note = (
            f"{about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, capability {about.major}.{about.minor}"
        )
        yield Finding("gpu", about.name, True, note)
    if not torch.cuda.is_available():
        yield Finding("gpu", "none", False, f"everything runs on the CPU, {torch.get_num_threads()} threads")
    has_triton = is_installed("triton")
    yield Finding("kernels", "Triton", has_triton, "" if has_triton else "the reference operations are used instead")
