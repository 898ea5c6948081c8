"""Inversion finds a scene that the model painted, reads photographs of all kinds, and refuses other files."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import alis
from alis.cli import cli
from alis.errors import InputError, WeightsMissing
from alis.painting import connect, invert, perceptual_distance, photograph, scene
from alis.painting.perceptual_distance import PerceptualDistance, efficientnet_features
from alis.plane import codes
from alis.plane.anchors import SavedCode
from tests.alis import painter, reckless


@pytest.fixture(scope="module")
def g() -> alis.Generator:
    return painter.tiny()


def test_a_scene_of_the_model_is_recovered(g: alis.Generator) -> None:
    w_S = g.map(torch.randn(1, 32, generator=torch.Generator().manual_seed(5)))[0]
    photo = scene.scene_in_context(g, w_S.expand(g.num_ws, -1)[None])[0].clamp(-1, 1)
    mean = scene.scene(g, g.mapping.w_avg.expand(g.num_ws, -1)[None])[0].clamp(-1, 1)
    mean_error = float((mean - photo[:, :, 16:48]).square().mean())
    torch.manual_seed(0)
    d = alis.Discriminator(g.config).eval().requires_grad_(False)
    for space, d_or_none in [("w", None), ("w+", d)]:
        found = invert.invert(g, photo, d=d_or_none, space=space, steps=40)
        assert found.loss < 0.9 * found.loss_start, (space, found.loss_start, found.loss)
        assert found.w.shape == ((32,) if space == "w" else (g.num_ws, 32))
        assert 10 ** (-found.psnr_db / 10) * 4 < 0.7 * mean_error, "closer than the mean scene"


def test_the_same_arguments_find_the_same_code(g: alis.Generator) -> None:
    photo = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    first, again = (invert.invert(g, photo, steps=5, seed=3) for _ in range(2))
    assert torch.equal(first.w, again.w)


def test_the_scene_is_what_connect_paints(g: alis.Generator) -> None:
    plus = g.map(torch.randn(1, 32))[0].expand(g.num_ws, -1) + torch.randn(g.num_ws, 32) * 0.1
    frame, wide = scene.scene(g, plus[None])[0], scene.scene_in_context(g, plus[None])[0]
    panorama = alis.Panorama(g, noise="none").with_edits({2: plus, 3: plus})
    pixels = panorama[2 * panorama.anchor_px : 3 * panorama.anchor_px]
    want = (wide * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    assert np.abs(pixels.astype(int) - want).max() <= 1
    assert torch.allclose(wide[:, :, 16:48], frame, atol=1e-5)


@pytest.mark.parametrize("made", [painter.tiny, painter.seamless])
def test_a_scene_in_context_has_the_scene_in_its_middle(made: Callable[[], alis.Generator]) -> None:
    g = made()
    w_1LS = g.map(torch.randn(1, 32))[:, None].expand(-1, g.num_ws, -1)
    wide, frame = scene.scene_in_context(g, w_1LS, 3), scene.scene(g, w_1LS, 3)
    assert wide.shape[3] == 64
    assert torch.allclose(wide[..., 16:48], frame, atol=1e-4)
    assert torch.allclose(frame, g(w_1LS, w_1LS, w_1LS, scene.margin(g), seed=3), atol=1e-4)


def test_reported_figures_hold_at_positions_the_search_did_not_use() -> None:
    g = painter.seamless(local_latents=1.0)
    w_1LS = g.map(torch.randn(1, 32, generator=torch.Generator().manual_seed(5)))[:, None].expand(-1, g.num_ws, -1)
    photo = scene.scene_in_context(g, w_1LS, 77)[0].clamp(-1, 1)

    def elsewhere(w_LS: torch.Tensor) -> float:
        """The distance at forty positions, none of which the search used."""
        alike = PerceptualDistance(photo[:, :, 16:48])
        with torch.no_grad():
            return sum(float(alike(scene.scene(g, w_LS[None], seed))[0]) for seed in range(2000, 2040)) / 40

    many = invert.invert(g, photo, steps=60)
    assert abs(many.loss - elsewhere(many.w)) < 0.05 * many.loss, "what is told is what is met elsewhere"


def test_connect_shows_the_inverted_scene() -> None:
    g = painter.seamless(local_latents=0.0)
    w_LS = g.map(torch.randn(1, 32))[0].expand(g.num_ws, -1)
    panorama = alis.Panorama(g, noise="none", codes={"mine": w_LS})
    plan = connect.plan(panorama, [SavedCode("mine"), SavedCode("mine")])
    pixels = plan.panorama[plan.start : plan.start + plan.width].astype(int)
    wide = (scene.scene_in_context(g, w_LS[None])[0] * 127.5 + 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(pixels[:, :32] - wide[:, :32]).max() <= 1
    assert np.abs(pixels[:, -32:] - wide[:, -32:]).max() <= 1


def test_the_perceptual_distance_is_zero_for_equal_pictures_and_grows(g: alis.Generator) -> None:
    photo = torch.rand(3, 32, 32) * 2 - 1
    noise = torch.randn(3, 32, 32)
    efficientnet = efficientnet_features(torch.device("cpu"))
    assert efficientnet is not None, "its packages are among the project's"
    for alike in (PerceptualDistance(photo), PerceptualDistance(photo, efficientnet=efficientnet)):
        values = alike(torch.stack([photo, photo + 0.05 * noise, photo + 0.3 * noise, -photo]))
        assert float(values[0]) < 1e-4
        assert values.tolist() == sorted(values.tolist())


def test_efficientnet_features_have_a_gradient(g: alis.Generator) -> None:
    efficientnet = efficientnet_features(torch.device("cpu"))
    frame = torch.zeros(1, 3, 32, 32, requires_grad=True)
    PerceptualDistance(torch.rand(3, 32, 32), efficientnet=efficientnet)(frame)[0].backward()
    assert float(frame.grad.abs().max()) > 0
    found = invert.invert(g, torch.rand(3, 32, 32) * 2 - 1, efficientnet=efficientnet, steps=3)
    assert found.loss <= found.loss_start


def test_photographs_are_cropped_rotated_and_mirrored(tmp_path: Path) -> None:
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, :40, 0], wide[:, 40:80, 1], wide[:, 80:, 2] = 255, 255, 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    for place, channel in [(0, 0), (0.5, 1), (1, 2)]:
        square = photograph.read_photo(tmp_path / "wide.png", 32, position=place)
        assert square.shape == (3, 32, 32)
        assert square[:, 8:24, 8:24].mean(dim=(1, 2)).argmax() == channel
    more = photograph.read_photo(tmp_path / "wide.png", 32, num_side_columns=16)
    assert more.shape == (3, 32, 64)
    assert [int(more[:, 16, column].argmax()) for column in (5, 30, 58)] == [0, 1, 2]
    left = photograph.read_photo(tmp_path / "wide.png", 32, position=0, num_side_columns=16)
    assert torch.equal(left[:, :, :16], left[:, :, 17:33].flip(2)), "beyond its edge the photograph is mirrored"
    turned = Image.fromarray(wide)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert photograph.read_photo(tmp_path / "turned.jpg", 32, position=0)[:, 8:24, 8:24].mean(dim=(1, 2)).argmax() == 0
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert float(photograph.read_photo(tmp_path / "clear.png", 32).min()) == 1
    clear = Image.new("P", (64, 64))
    clear.putpalette([255, 0, 0, 0, 0, 0])
    clear.save(tmp_path / "clear8.png", transparency=0)
    assert float(photograph.read_photo(tmp_path / "clear8.png", 32).min()) == 1
    for mode, value, want in [("I;16", 16_448, -0.498), ("I;16", 65_535, 1), ("I", 32_896, 0.004)]:
        Image.new(mode, (64, 64), value).save(tmp_path / "deep.tif")
        deep = photograph.read_photo(tmp_path / "deep.tif", 32)
        assert deep.shape == (3, 32, 32)
        assert float(deep.min()) == float(deep.max()) == pytest.approx(want, abs=1e-3)


def test_unreadable_photographs_are_refused(tmp_path: Path, shared: Path) -> None:
    Image.new("RGB", (31, 200)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="too small"):
        photograph.read_photo(tmp_path / "small.png", 32)
    with pytest.raises(InputError, match="no such file"):
        photograph.read_photo(tmp_path / "gone.png", 32)
    nasty = sorted(path for path in (shared / "nasty").rglob("*") if path.is_file() and path.stat().st_size < 200_000)
    read = 0
    for path in nasty[:: max(len(nasty) // 120, 1)]:
        try:
            assert photograph.read_photo(path, 32).shape == (3, 32, 32)
            read += 1
        except InputError:
            continue
    assert len(nasty) > 100


def test_from_the_command_line(g: alis.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    alis.save("model", g, alis.Discriminator(g.config))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)).save("photo.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = CliRunner().invoke(cli, ["invert", "model", "photo.png", "--steps", "4"])
    assert done.exit_code == 0, done.output
    assert codes.read("photo.safetensors").shape == (g.num_ws, 32)
    with Image.open("photo.preview.png") as preview:
        assert preview.size == (64, 32)
    done = CliRunner().invoke(cli, ["connect", "model", "photo.png", "3", "-o", "c.png", "--steps", "4"])
    assert done.exit_code == 0, done.output
    assert Path("c-photo.safetensors").exists()
    assert CliRunner().invoke(cli, ["invert", "model", "photo.png", "--steps", "1", "--force"]).exit_code == 0
    for words, told in [
        (["photo.png", "--steps", "0", "--force"], "0 steps"),
        (["photo.png", "--crop", "2", "--force"], "crop"),
        (["photo.png", "-o", "code.txt"], "safetensors"),
        (["photo.png", "-o", "no/c.safetensors"], "no such folder"),
        (["photo.png", "--steps", "4"], "photo.safetensors: exists; remove it, overwrite it with --force"),
    ]:
        result = CliRunner().invoke(cli, ["invert", "model", *words])
        assert isinstance(result.exception, InputError)
        assert told in str(result.exception)


@pytest.mark.parametrize(("share", "is_told"), [(0.5, False), (1.0, True)])
def test_a_model_whose_codes_hold_no_positions_is_reported(tmp_path: Path, share: float, is_told: bool) -> None:
    g = painter.tiny(padding="plane", local_latents=share)
    alis.save(tmp_path / "model", g)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    words = ["invert", tmp_path / "model", tmp_path / "photo.png", "-o", tmp_path / "c.safetensors", "--steps", 1]
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert ("where its shapes are" in done.output) is is_told


def test_a_model_without_its_discriminator_still_inverts(g: alis.Generator, tmp_path: Path) -> None:
    alis.save(tmp_path, g)
    with pytest.raises(WeightsMissing):
        alis.load_discriminator(tmp_path)
    assert invert.discriminator(tmp_path, g) is None


def _landscape(size: int = 64) -> torch.Tensor:
    """Sky, a ridge and ground, [3, R, R] in [-1, 1]."""
    column, row = torch.arange(size), torch.arange(size)[:, None]
    ridge = size / 2 + size / 8 * torch.sin(column / 6) + size / 10 * torch.cos(column / 2.3)
    luma = torch.where(row < ridge, 0.5 - row / size / 2, -0.6 + 0.2 * torch.sin(row / 2 + column / 5))
    return torch.stack([luma, luma * 0.9, luma * 0.7])


def test_structural_similarity_agrees_with_the_eye() -> None:
    photo = _landscape()
    grey = photo.mean(dim=(1, 2), keepdim=True).expand_as(photo)
    flat = photo.mean(dim=2, keepdim=True).expand_as(photo)  # its rows without its shapes

    def of(frame: torch.Tensor) -> float:
        return float(perceptual_distance.structural_similarity(frame[None], photo[None])[0])

    assert of(photo) > 0.95
    assert of(photo * 0.7 + 0.2) > 0.85, "light and contrast are not shape"
    assert of(photo + 0.05 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))) > 0.8
    assert abs(of(grey)) < 0.02, "a grey card has none"
    assert of(flat) < 0.75
    assert of(photo.flip(2)) < of(photo) - 0.2
    assert of(-photo) < -0.5
    assert float((grey - photo).square().mean()) < float((photo.flip(2) - photo).square().mean()) * 3, (
        "dB would not tell"
    )


def test_the_distance_prefers_shapes_to_uniform_grey() -> None:
    photo = _landscape()
    grey, blurred = photo.mean(dim=(1, 2), keepdim=True).expand_as(photo), photo * 0.8 + 0.1
    distances = perceptual_distance.PerceptualDistance(photo)(torch.stack([photo, blurred, grey]))
    assert distances[0] < distances[1] < distances[2]


def test_more_tries_are_compared_after_some_steps(g: alis.Generator) -> None:
    photo = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for tries in (1, 3):
        found = invert.invert(g, photo, steps=6, tries=tries)
        assert found.loss <= found.loss_start
    for bad in (0, -1, 10_000):
        with pytest.raises(InputError):
            invert.invert(g, photo, steps=2, tries=bad)


def test_the_mirrored_photograph_is_tried_too(g: alis.Generator, tmp_path: Path) -> None:
    with torch.no_grad():
        frame = scene.scene(
            g, g.map(torch.randn(1, 32, generator=torch.Generator().manual_seed(5)))[:, None].expand(-1, g.num_ws, -1)
        )[0]
    mirrored = ((frame.flip(2).clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(mirrored).save(tmp_path / "photo.png")
    plain, both = (
        invert.to_file(
            g,
            invert.Photograph(tmp_path / "photo.png", mirror=m),
            tmp_path / f"{m}.safetensors",
            d=None,
            steps=8,
            tries=2,
        )
        for m in (False, True)
    )
    assert both.structure >= plain.structure
    assert not plain.is_mirrored


def test_a_photograph_that_kills_its_decoder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "killer.jpg"
    path.write_bytes(reckless.killer())
    words = [sys.executable, "-m", "alis", "invert", "demo", str(path), "-o", str(tmp_path / "code.safetensors")]
    env = reckless.environment(tmp_path)
    done = subprocess.run(words, cwd=reckless.ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(
        rf"alis: {re.escape(str(path))}: can't be read as a picture \(it kills its decoder \(SIG[A-Z]+\)\); "
        r"save it anew as JPEG, PNG or WebP\n",
        done.stderr,
    ), done.stderr
