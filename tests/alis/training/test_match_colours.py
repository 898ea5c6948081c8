"""Colours matched to a dataset become part of the weights: exact, measured on other frames, refused where absurd."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import alis
from alis.cli import cli
from alis.data import open_catalogue
from alis.errors import InputError
from alis.metrics import colours
from alis.models import Generator, sampling
from alis.training.match_colours import PENALTY, distance, find_maps, fold, match_colours
from tests.alis import painter

MATRIX = torch.tensor([[0.9, 0.05, 0.0], [0.05, 0.8, 0.02], [0.0, 0.02, 1.1]], dtype=torch.float64)
SHIFT = torch.tensor([0.1, -0.05, 0.02], dtype=torch.float64)
NO_SHIFT = torch.zeros(3, dtype=torch.float64)


def _same(g: Generator, matrix: torch.Tensor) -> torch.Tensor:
    """One map for every block."""
    return matrix.double().expand(len(g.synthesis.blocks), 3, 3)


def _model() -> Generator:
    """Its pictures stay within [-1, 1], so that no colour is cut off."""
    g = painter.seamless()
    scale = 0.25 / sampling.frames_anywhere(g, 40, seed=9).std()
    fold(g, _same(g, float(scale) * torch.eye(3)), NO_SHIFT)
    return g


def _pictures(folder: Path, g: Generator, matrix: torch.Tensor, shift: torch.Tensor, num: int = 120) -> Path:
    """Frames of a model in other colours, as a dataset."""
    folder.mkdir()
    frames = sampling.frames_anywhere(g, num, seed=5).double()
    painted = (torch.einsum("oc,nchw->nhwo", matrix, frames) + shift).numpy()
    for number, pixels in enumerate(((painted + 1) * 127.5).round().clip(0, 255).astype(np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


def test_the_parts_of_blocks_are_the_picture() -> None:
    g = painter.seamless()
    parts = sampling.frames_anywhere(colours.in_parts(g), 3, seed=2)
    num = len(g.synthesis.blocks)
    assert parts.shape == (3, 3 * num, g.config.resolution, g.config.resolution)
    assert torch.allclose(parts.unflatten(1, (num, 3)).sum(dim=1), sampling.frames_anywhere(g, 3, seed=2), atol=1e-4)


@pytest.mark.parametrize("make", [painter.tiny, painter.seamless])
def test_maps_folded_into_the_weights_are_the_maps_of_the_parts(make: Callable[[], Generator]) -> None:
    g = make()
    num = len(g.synthesis.blocks)
    maps = torch.eye(3, dtype=torch.float64) + 0.3 * torch.randn(
        num, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    parts = sampling.frames_anywhere(colours.in_parts(g), 4, seed=2).unflatten(1, (num, 3)).double()
    wanted = torch.einsum("koc,nkchw->nohw", maps, parts) + SHIFT[:, None, None]
    fold(g, maps, SHIFT)
    found = sampling.frames_anywhere(g, 4, seed=2)
    assert torch.allclose(found.double(), wanted, atol=1e-4 * float(wanted.abs().max()))


def test_statistics_are_those_of_numpy(tmp_path: Path) -> None:
    g = _model()
    data = _pictures(tmp_path / "data", g, MATRIX, SHIFT, num=30)
    found = colours.of_pictures(open_catalogue(str(data)), g.config.resolution, 30)
    x = np.stack([np.asarray(Image.open(path)) for path in sorted(data.iterdir())]) / 127.5 - 1
    assert list(found.means) == [2**k for k in range(len(found.means))]
    assert max(found.means) == g.config.resolution
    for side in found.means:
        each = g.config.resolution // side
        squares = x.reshape(30, side, each, side, each, 3).mean(axis=(2, 4))
        for row in range(side):
            of_row = squares[:, row].reshape(-1, 3)
            assert np.allclose(found.means[side][row], of_row.mean(axis=0), atol=1e-6)
            assert np.allclose(found.covariances[side][row], np.cov(of_row.T, bias=True), atol=1e-6)


def test_a_model_takes_the_colours_of_pictures(tmp_path: Path) -> None:
    g = _model()
    data = _pictures(tmp_path / "data", g, MATRIX, SHIFT)
    match = match_colours(g, open_catalogue(str(data)), num=120, seed=3)
    assert max(map(abs, match.before)) > 6
    assert max(map(abs, match.after)) < 4
    assert match.distance[1] < 0.5 * match.distance[0]
    assert (match.num_real, match.num_painted) == (120, 120)
    assert 0.6 < match.stretch[0] < 0.9 < 1 < match.stretch[1] < 1.3


def test_each_block_has_a_map_of_its_own() -> None:
    """Coarse colours too strong and fine ones too weak: no single map could mend both."""
    g = _model()
    num = len(g.synthesis.blocks)
    real, other = _statistics_of_sum(g), _model()
    wrong = torch.eye(3, dtype=torch.float64) * torch.linspace(1.3, 0.75, num, dtype=torch.float64)[:, None, None]
    fold(other, wrong, SHIFT)
    painted = colours.of_blocks(other, 200, seed=7)
    maps, shift = find_maps(painted, real)
    none = _same(g, torch.eye(3))
    assert distance(painted, real, maps, shift) < 0.05 * distance(painted, real, none, NO_SHIFT)
    assert PENALTY * (maps - none).square().sum() < distance(painted, real, none, NO_SHIFT)
    fold(other, maps, shift)
    after = colours.of_blocks(other, 200, seed=8)
    assert distance(after, real, none, NO_SHIFT) < 0.2 * distance(painted, real, none, NO_SHIFT)


def _statistics_of_sum(g: Generator) -> colours.ColourStatistics:
    """Of 200 frames: what of_pictures measures, without rounding."""
    parts = colours.of_blocks(g, 200, seed=6)
    matrix = torch.eye(3, dtype=torch.float64).repeat(1, len(g.synthesis.blocks))
    return colours.ColourStatistics(
        {side: mean @ matrix.T for side, mean in parts.means.items()},
        {side: matrix @ covariance @ matrix.T for side, covariance in parts.covariances.items()},
        parts.num,
    )


def test_a_slim_copy_has_the_colours_and_the_source_keeps_its_own(tmp_path: Path) -> None:
    g = _model()
    alis.save(tmp_path / "model", g, notes={"images": 8})
    data = _pictures(tmp_path / "data", g, MATRIX, SHIFT)
    words = ["slim", str(tmp_path / "model"), str(tmp_path / "slim"), "--match-colours", str(data), "--frames", "120"]
    done = CliRunner().invoke(cli, [*words, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["colours"]
    assert max(map(abs, told["after"])) < 4 < max(map(abs, told["before"]))
    notes = json.loads((tmp_path / "slim" / "config.json").read_text())["notes"]
    assert notes == {"images": 8, "weights": "float16", "colours_matched": 120}
    own, matched = (_statistics_of_sum(alis.load(tmp_path / name)).means[1][0] for name in ("model", "slim"))
    assert torch.allclose(own, _statistics_of_sum(g).means[1][0], atol=1e-5)
    assert torch.allclose(matched, MATRIX @ own + SHIFT, atol=0.03)


def test_what_has_no_colours_to_match_is_refused(tmp_path: Path) -> None:
    g = _model()
    data = _pictures(tmp_path / "data", g, MATRIX, SHIFT, num=30)
    with pytest.raises(InputError, match="colours of 1 frames"):
        match_colours(g, open_catalogue(str(data)), num=1)
    far = _pictures(tmp_path / "far", g, 0.2 * MATRIX, SHIFT, num=30)
    with pytest.raises(InputError, match="too far from the model's") as caught:
        match_colours(g, open_catalogue(str(far)), num=30)
    assert "trained on" in caught.value.hint
    fold(g, _same(g, torch.full((3, 3), 1 / 3)), NO_SHIFT)
    alis.save(tmp_path / "grey", g)
    done = CliRunner().invoke(
        cli, ["slim", str(tmp_path / "grey"), str(tmp_path / "s"), "--match-colours", str(data), "--frames", "30"]
    )
    assert isinstance(done.exception, InputError)
    assert not (tmp_path / "s").exists()
