"""The files for clusters: what they name is there, and their own languages can read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

import alis.cli
import lhq.cli

CLUSTER = Path(__file__).parents[1] / "docs" / "cluster"
_WORKER = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


@pytest.mark.parametrize("path", sorted(CLUSTER.glob("*.sbatch")), ids=lambda path: path.name)
def test_batch_scripts_are_whole(path: Path) -> None:
    subprocess.run([shutil.which("bash") or "bash", "-n", str(path)], check=True)
    text = path.read_text(encoding="utf-8")
    options = re.findall(r"^#SBATCH --([a-z-]+)=?", text, re.MULTILINE)
    assert {"requeue", "signal", "time", "open-mode"} <= set(options)
    sent = re.search(r"--signal=B:(\w+)@", text)
    assert sent is not None
    assert re.search(rf"^trap \w+ {sent[1]}$", text, re.MULTILINE), "the signal that Slurm sends is the one waited for"
    assert text.index("#SBATCH --signal") < text.index("set -euo"), "Slurm reads no option below the first command"


def test_the_training_command_takes_what_the_batch_script_gives() -> None:
    text = (CLUSTER / "train.sbatch").read_text(encoding="utf-8")
    words = text.split("-m alis train", 1)[1].split("&", 1)[0].split()
    command = alis.cli.cli.get_command(click.Context(alis.cli.cli), "train")
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("path", sorted(CLUSTER.glob("*.rayjob.yaml")), ids=lambda path: path.name)
def test_ray_jobs_have_the_fields_of_their_kind(path: Path) -> None:
    job = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert {"entrypoint", "rayClusterSpec"} <= job["spec"].keys()
    cluster = job["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"], "Ray counts what it may use"
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() == _WORKER
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_command_of_the_ray_job_is_one_of_ours() -> None:
    job = yaml.safe_load((CLUSTER / "filter.rayjob.yaml").read_text(encoding="utf-8"))
    program, name, *words = job["spec"]["entrypoint"].split()
    assert program == "lhq"
    command = lhq.cli.cli.get_command(click.Context(lhq.cli.cli), name)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
