"""Colours matched to a dataset become part of the weights: exact, measured on other frames, refused where absurd."""

from __future__ import annotations

import json
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
from alis.metrics.colours import ColourStatistics, of_model
from alis.models import Generator, sampling
from alis.training.match_colours import fold, linear_map, match_colours
from tests.alis import painter

MATRIX = np.array([[0.9, 0.05, 0.0], [0.05, 0.8, 0.02], [0.0, 0.02, 1.1]])
SHIFT = np.array([0.1, -0.05, 0.02])


def _model() -> Generator:
    """Its pictures stay within [-1, 1], so that no colour is cut off."""
    g = painter.seamless()
    scale = 0.25 / sampling.frames_anywhere(g, 40, seed=9).std()
    fold(g, float(scale) * np.eye(3), np.zeros(3))
    return g


def _pictures(folder: Path, g: Generator, matrix: np.ndarray, shift: np.ndarray, num: int = 120) -> Path:
    """Frames of a model in other colours, as a dataset."""
    folder.mkdir()
    frames = sampling.frames_anywhere(g, num, seed=5).double().numpy()
    painted = np.einsum("oc,nchw->nhwo", matrix, frames) + shift
    for number, pixels in enumerate(((painted + 1) * 127.5).round().clip(0, 255).astype(np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


def test_a_map_folded_into_the_weights_is_the_map_of_the_picture() -> None:
    g = painter.tiny()
    before = sampling.frames_anywhere(g, 4, seed=2)
    fold(g, MATRIX, SHIFT)
    wanted = torch.einsum("oc,bchw->bohw", torch.tensor(MATRIX).float(), before) + torch.tensor(SHIFT).float().view(
        3, 1, 1
    )
    assert torch.allclose(sampling.frames_anywhere(g, 4, seed=2), wanted, atol=1e-4 * float(wanted.abs().max()))


def test_a_model_takes_the_colours_of_pictures(tmp_path: Path) -> None:
    g = _model()
    data = _pictures(tmp_path / "data", g, MATRIX, SHIFT)
    match = match_colours(g, open_catalogue(str(data)), num=120, seed=3)
    assert max(map(abs, match.before)) > 6
    assert max(map(abs, match.after)) < 4
    assert (match.num_real, match.num_painted) == (120, 120)
    values = np.linalg.eigvalsh(MATRIX)
    assert np.allclose(match.stretch, (values[0], values[-1]), atol=0.15)


def test_the_map_gives_one_covariance_another() -> None:
    rng = np.random.default_rng(1)
    a, b = (np.cov(rng.normal(size=(3, 50)) * [[1.0], [0.3], [2.0]]) for _ in range(2))
    matrix, shift = linear_map(ColourStatistics(np.ones(3), a, 50), ColourStatistics(np.full(3, 0.5), b, 50))
    assert np.allclose(matrix @ a @ matrix.T, b)
    assert np.allclose(matrix, matrix.T)
    assert np.allclose(matrix @ np.ones(3) + shift, 0.5)


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
    own, matched = (of_model(alis.load(tmp_path / name), 120, seed=1) for name in ("model", "slim"))
    assert np.abs(own.mean - of_model(g, 120, seed=1).mean).max() < 1e-5
    assert np.abs(matched.mean - (MATRIX @ own.mean + SHIFT)).max() < 0.03


def test_what_has_no_colours_to_match_is_refused(tmp_path: Path) -> None:
    g = _model()
    data = _pictures(tmp_path / "data", g, MATRIX, SHIFT, num=30)
    with pytest.raises(InputError, match="colours of 1 frames"):
        match_colours(g, open_catalogue(str(data)), num=1)
    far = _pictures(tmp_path / "far", g, 0.2 * MATRIX, SHIFT, num=30)
    with pytest.raises(InputError, match="too far from the model's") as caught:
        match_colours(g, open_catalogue(str(far)), num=30)
    assert "trained on" in caught.value.hint
    before = of_model(g, 30, seed=0)
    grey = ColourStatistics(before.mean, np.full((3, 3), 0.1), 30)
    with pytest.raises(InputError, match="no colours to match"):
        linear_map(grey, before)
    fold(g, np.full((3, 3), 1 / 3), np.zeros(3))
    alis.save(tmp_path / "grey", g)
    done = CliRunner().invoke(
        cli, ["slim", str(tmp_path / "grey"), str(tmp_path / "s"), "--match-colours", str(data), "--frames", "30"]
    )
    assert isinstance(done.exception, InputError)
    assert not (tmp_path / "s").exists()
