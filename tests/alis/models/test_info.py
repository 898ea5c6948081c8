"""`alis info` and the Hub: a model's layers and costs, and its files as a repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import ModelCard
from torch.utils.flop_counter import FlopCounterMode

import alis
from alis.cli import cli
from alis.config import ModelConfig
from alis.models.cost import discriminator_cost, generator_cost
from alis.models.info import pieces
from tests.alis.model_hub import model_hub

ROOT = Path(__file__).parents[3]

CONFIG = ModelConfig(resolution=64, channel_base=1024, channel_max=32, z_dim=16, w_dim=16, num_half_res=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "one"
    alis.save(path, alis.Generator(CONFIG), alis.Discriminator(CONFIG))
    return path


def test_parameters_are_the_networks_own() -> None:
    assert generator_cost(CONFIG).num_parameters == sum(p.numel() for p in alis.Generator(CONFIG).parameters())
    assert discriminator_cost(CONFIG).num_parameters == sum(p.numel() for p in alis.Discriminator(CONFIG).parameters())


def test_flops_are_those_that_torch_counts() -> None:
    g, d = alis.Generator(CONFIG).eval(), alis.Discriminator(CONFIG).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        g(*[g.map(torch.randn(1, 16)) for _ in range(3)], 1)
    # Torch's count is slightly larger: it includes the mapping three times, style interpolation and the filter.
    assert 1 <= counter.get_total_flops() / generator_cost(CONFIG).flops < 1.1
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        d(torch.randn(1, 3, 64, 64))
    assert 1 <= counter.get_total_flops() / discriminator_cost(CONFIG).flops < 1.1


def test_published_size_is_167_gflop() -> None:
    convolutions = [
        layer.flops
        for layer in generator_cost(ModelConfig(resolution=1024, channel_base=32768, num_half_res=4)).layers
        if layer.name.endswith(("conv0", "conv1"))
    ]
    assert sum(convolutions) / 1e9 == pytest.approx(167.3, abs=0.2)


def test_columns_beside_a_range_are_counted() -> None:
    """The cost by the recursion over columns, against torch's count."""
    for resolution, base, channel_max, wanted in (
        (64, 1024, 128, (2.07, 1.54, 1.011)),
        (256, 16384, 512, (1.32, 1.16, 1.005)),
        (1024, 32768, 512, (1.14, 1.07, 1.003)),
    ):
        config = ModelConfig(resolution=resolution, channel_base=base, channel_max=channel_max, padding="plane")
        found = [piece.times for piece in pieces(config).values()]
        assert all(1 < times <= most for times, most in zip(found, wanted, strict=True)), found
        assert all(piece.times == 1 for piece in pieces(ModelConfig(resolution=resolution, channel_base=base)).values())
    config = CONFIG.model_copy(update={"padding": "plane", "local_latents": 0.5})
    g = alis.Generator(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        g(*[g.map(torch.randn(1, 16)) for _ in range(3)], 1)
    assert 1 <= counter.get_total_flops() / generator_cost(config).flops < 1.25  # rows that go on are not counted


def test_info_as_a_table_and_as_json(folder: Path) -> None:
    table = CliRunner().invoke(cli, ["info", str(folder)], catch_exceptions=False).output
    assert "synthesis.b64.conv0" in table
    assert "b4.fc" in table
    assert "styles normalised from 32 up" in table
    assert "strip of 2560 px" in table
    told = json.loads(CliRunner().invoke(cli, ["info", str(folder), "--json"], catch_exceptions=False).output)
    assert told["config"]["resolution"] == 64
    assert told["generator"]["flops"] == generator_cost(CONFIG).flops
    assert told["generator"]["memory_bytes"]["float32"] > told["generator"]["memory_bytes"]["float16"]
    assert told["discriminator"]["layers"][0]["name"] == "b64.fromrgb"


def test_a_generator_as_a_repository(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["push-to-hub", str(folder), "copy", "--dry-run"], catch_exceptions=False)
    assert done.output == "copy\n"
    assert sorted(path.name for path in Path("copy").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = ModelCard.load("copy/README.md")
    assert card.data.library_name == "alis"
    assert "64 × 64" in card.text
    again, wanted = alis.Generator.from_pretrained("copy"), alis.load(folder)
    assert again.config == CONFIG
    assert all(torch.equal(value, wanted.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_generator_is_pushed_to_a_hub_and_downloaded_again(folder: Path, tmp_path: Path) -> None:
    code = f"""
import sys
import alis
from alis.cli import cli
from alis.errors import InputError
cli(["push-to-hub", {str(folder)!r}, "someone/alis-small", "--private"], standalone_mode=False)
g = alis.Generator.from_pretrained("someone/alis-small")
print(g.config.resolution, type(g).__name__, g.training)
try:
    alis.Generator.from_pretrained("someone/nothing")
except InputError as error:
    print("refused", error.hint)
"""
    with model_hub() as made:
        env = {
            **os.environ,
            "HF_ENDPOINT": made.url,
            "HF_TOKEN": made.token,
            "PYTHONPATH": str(ROOT),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(tmp_path),
        }
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr
        assert made.private == {"someone/alis-small": True}
        assert sorted(made.files["someone/alis-small"]) == ["README.md", "config.json", "model.safetensors"]
        lines = done.stdout.splitlines()
        assert lines[0].startswith(f"{made.url}/someone/alis-small")
        assert lines[1:] == ["64 Generator False", "refused check the name, and `hf auth login` if private"]
