"""Recipes chosen by size and hours: they follow the rules, can be passed to `--config`, and say what they cost."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from alis.errors import ConfigError
from alis.training import auto_recipe, recipe
from alis.training.auto_recipe import Machine, as_toml, choose, training_cost
from tests.alis import sets

COMMAND = importlib.import_module("alis.cli.train").command
CPU = auto_recipe.this_machine("cpu")
GPU = Machine("cuda", 80 << 30, 1 / 6e13, 1e-11, 1e-4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sets.write(tmp_path_factory.mktemp("scenes"), 64, size=32, per_file=64, paint=sets.scenery))


@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("size", [32, 64, 128, 256, 512, 1024])
def test_every_size_gives_a_recipe_that_a_file_can_store(size: int, machine: Machine, tmp_path: Path) -> None:
    tables = choose(size, 2.0, 5000, machine)
    text = as_toml(tables, 2.0, 5000, machine)
    assert tomllib.loads(text) == tables
    (tmp_path / "mine.toml").write_text(text)
    config = recipe.read(str(tmp_path / "mine.toml")).resolved(1)
    assert config.model.resolution == size
    assert config.model.padding == "plane"
    assert config.run.minutes == 120
    assert {config.augment.turns, config.augment.quarter_turns} == {False}


def test_more_time_gives_a_wider_network_and_a_gpu_the_published_width() -> None:
    bases = [choose(128, hours, 90_000, CPU)["model"]["channel_base"] for hours in (0.2, 2, 12, 100)]
    assert bases == sorted(bases)
    assert bases[0] == 1024
    assert bases[-1] > 2048
    assert choose(256, 24, 90_000, GPU)["model"]["channel_base"] >= 16384
    tables = choose(128, 12, 90_000, CPU)
    paid = training_cost(recipe.read(None, auto_recipe.flatten(tables)), 12, CPU)
    assert paid.kimg >= auto_recipe.WANTED_KIMG * tables["model"]["channel_base"] / 1024


def test_rates_decay_over_the_time_if_the_devices_speed_is_known() -> None:
    for hours in (0.01, 0.5, 12):
        tables = choose(64, hours, 90_000, CPU)
        paid = training_cost(recipe.read(None, auto_recipe.flatten(tables)), hours, CPU)
        assert tables["optim"]["lr_end"] < 0.1
        assert tables["run"]["kimg"] == pytest.approx(paid.kimg, rel=0.05)
    assert "lr_end" not in choose(64, 12, 90_000, GPU)["optim"]
    assert "kimg" not in choose(64, 12, 90_000, GPU)["run"]


def test_few_pictures_are_augmented_and_memory_bounds_the_batch() -> None:
    assert choose(128, 2, 5000, CPU)["augment"]["kind"] == "ada"
    assert "augment" not in choose(128, 2, 50_000, CPU)
    small = Machine("cuda", 8 << 30, GPU.flop_s, GPU.number_s, GPU.image_s)
    batches = [choose(1024, 24, 90_000, machine)["optim"]["batch"] for machine in (small, GPU)]
    assert 4 <= batches[0] < batches[1] <= 64
    gamma = {size: choose(size, 2, 9000, CPU)["loss"]["r1_gamma"] for size in (64, 128)}
    assert gamma[128] == pytest.approx(4 * gamma[64], rel=0.01)


def test_the_command_trains_with_the_recipe_and_shows_it(data: str, tmp_path: Path) -> None:
    line = [
        "--data",
        data,
        "--size",
        "32",
        "--hours",
        "0.5",
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    told = CliRunner().invoke(COMMAND, [*line, "--optim.lr-g", "0.001", "--dry-run"])
    assert told.exit_code == 0, told.output
    assert "lr_g = 0.001" in told.stderr
    assert "64 pictures, 0.5 hours on one CPU core: about" in told.stderr
    config = json.loads(told.stdout)["config"]
    assert (config["model"]["resolution"], config["optim"]["lr_g"], config["run"]["minutes"]) == (32, 0.001, 30)
    both = CliRunner().invoke(COMMAND, [*line, "--config", "tiny"])
    assert isinstance(both.exception, ConfigError)
    assert "--size and --hours choose the recipe, and so does --config" in str(both.exception)


def test_impossible_sizes_and_times_are_refused() -> None:
    with pytest.raises(ConfigError, match="--size 100"):
        choose(100, 2, 5000, CPU)
    for hours in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--hours"):
            choose(64, hours, 5000, CPU)
