"""`alis connect`: every scene is shown by itself somewhere in the picture, in order; invalid scenes are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import alis
from alis.cli import cli
from alis.errors import AlisError, InputError
from alis.painting import connect
from alis.plane import codes
from alis.plane.anchors import Draw, SavedCode
from tests.alis import painter


def _scene(g: alis.Generator, w: torch.Tensor) -> np.ndarray:
    """The frame in the middle between two anchors of this code."""
    w_1LS = w.expand(g.num_ws, -1)[None]
    frame = g(w_1LS, w_1LS, w_1LS, (g.config.anchor_patches - g.config.grid_size) // 2)[0]
    return (frame * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("gap", [0, 1, 3])
@pytest.mark.parametrize("distance", [2, 4, 8])
def test_every_scene_is_shown_alone_at_its_position(gap: int, distance: float) -> None:
    g = painter.tiny(w_coord_dist=distance)
    mine = g.map(torch.randn(1, 32))[0].expand(g.num_ws, -1) + 0.1 * torch.randn(g.num_ws, 32)
    panorama = alis.Panorama(g, 5, noise="none", codes={"mine": mine})
    sources = [Draw(3), SavedCode("mine"), Draw(14)]
    plan = connect.plan(panorama, sources, gap=gap)
    picture = plan.panorama[plan.start : plan.start + plan.width]
    wanted = [alis.Panorama(g, 3).code(0), mine, alis.Panorama(g, 14).code(0)]
    for number, w in enumerate(wanted):
        left, right = painter.scene_columns(panorama, number, gap=gap)
        assert np.abs(picture[:, left:right].astype(int) - _scene(g, w)).max() <= 1
    last = painter.scene_columns(panorama, 2, gap=gap)[1]
    assert last <= plan.width


def test_from_the_command_line_with_seeds_and_codes(tmp_path: Path) -> None:
    g = painter.tiny()
    alis.save(tmp_path / "model", g)
    w = g.map(torch.randn(1, 32))[0]
    codes.save(tmp_path / "my scene.safetensors", w, made_from="a test")
    words = [str(tmp_path / "model"), "3", str(tmp_path / "my scene.safetensors"), "--noise", "none"]
    done = CliRunner().invoke(cli, ["connect", *words, "-o", str(tmp_path / "c.png"), "--gap", "2"])
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "c.png") as picture:
        pixels = np.asarray(picture)
    panorama = alis.Panorama(g, 0)
    left, right = painter.scene_columns(panorama, 1, gap=2)
    assert np.abs(pixels[:, left:right].astype(int) - _scene(g, w)).max() <= 1
    again = [
        "resample",
        str(tmp_path / "model"),
        str(tmp_path / "c.png"),
        "--anchor",
        "2",
        "-o",
        str(tmp_path / "d.png"),
    ]
    missing = CliRunner().invoke(cli, again)
    assert isinstance(missing.exception, InputError)
    assert "my-scene" in str(missing.exception)
    done = CliRunner().invoke(cli, [*again, "--codes", str(tmp_path / "my scene.safetensors")])
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "d.png") as picture:
        assert np.array_equal(np.asarray(picture)[:, left:right], pixels[:, left:right])


def test_codes_are_read_as_written(tmp_path: Path) -> None:
    w = torch.randn(9, 32)
    codes.save(tmp_path / "a.safetensors", w)
    assert torch.equal(codes.read(tmp_path / "a.safetensors"), w)
    assert codes.name_of("x/Über den Wolken_1.safetensors") == "-ber-den-Wolken-1"
    with pytest.raises(InputError, match="already given"):
        codes.read_all([tmp_path / "a.safetensors", tmp_path / "a.safetensors"])
    (tmp_path / "b.safetensors").write_bytes(b"no code")
    with pytest.raises(InputError, match="not a saved code"):
        codes.read(tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="can't be written"):
        codes.save(tmp_path / "no" / "c.safetensors", w)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["3"], "at least two"),
        (["3", "soon"], "not a seed, a saved code or a photograph"),
        (["3", "gone.jpg"], "no such file"),
        (["3", "4", "--gap", "-1"], "--gap -1"),
        (["3", "99999999999999999999"], "seed"),
        (["3", "odd.safetensors"], "shape"),
        (["3", "broken.png"], "can't be read"),
        ([str(seed) for seed in range(40)], "too many"),
    ],
)
def test_invalid_scenes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    alis.save("model", painter.tiny())
    codes.save("odd.safetensors", torch.zeros(7))
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n rest")
    result = CliRunner().invoke(cli, ["connect", "model", *words, "-o", "c.png"])
    assert isinstance(result.exception, AlisError), result.output
    assert told in str(result.exception)
    assert not Path("c.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "there.png"], "there.png: exists"),
        (["-o", "c.gif"], "no picture format"),
        (["-o", "no/c.png"], "no such folder"),
        (["-o", "c.webp", "--gap", "5000"], "beyond WebP's limit"),
        (["-o", "c.png", "--gap", "-1"], "--gap -1"),
    ],
)
def test_errors_are_raised_before_a_photograph_is_inverted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    alis.save("model", painter.tiny())
    Image.new("RGB", (40, 40), (90, 120, 200)).save("photo.png")
    Image.new("RGB", (4, 4)).save("there.png")
    before = sorted(Path().rglob("*"))
    result = CliRunner().invoke(cli, ["connect", "model", "photo.png", "3", "--steps", "1", *words])
    assert isinstance(result.exception, InputError), result.output
    assert told in str(result.exception)
    assert sorted(Path().rglob("*")) == before
