"""A slim model paints the same picture; the word demo opens the packaged model, or says what to do without it."""

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
from alis.errors import InputError
from alis.models import model_folder
from alis.models.slim import slim
from alis.painting import clusters
from alis.painting.panorama import choose_precision, precision_of
from alis.plane import codes
from tests.alis import painter
from tests.alis.disk import files_up_to


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as training writes it: the averaged generator, everything else beside it, and notes with a path."""
    g = painter.tiny()
    snapshot = tmp_path / "run" / "snapshots" / "000001000"
    alis.save(
        snapshot, g, alis.Discriminator(g.config), trained=g, notes={"images": 1000, "data": "/home/somebody/photos"}
    )
    return tmp_path / "run"


def test_a_slim_model_paints_the_same_and_has_no_local_paths(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["clusters", str(run), "-k", "3", "--samples", "200"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli, ["slim", str(run), str(tmp_path / "slim")])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "slim")
    files = {path.name: path for path in (tmp_path / "slim").iterdir()}
    assert sorted(files) == ["clusters.safetensors", "config.json", "model.safetensors"]
    whole = (model_folder.find(run) / "model.safetensors").stat().st_size
    assert files["model.safetensors"].stat().st_size < 0.55 * whole
    assert "somebody" not in files["config.json"].read_text()
    assert json.loads(files["config.json"].read_text())["notes"] == {
        "images": 1000,
        "data": "photos",
        "weights": "float16",
    }
    exact, slimmed = (alis.Panorama(alis.load(path), 3)[0:640].astype(int) for path in (run, tmp_path / "slim"))
    assert np.abs(exact - slimmed).mean() < 1
    centres = [clusters.find(path, alis.load(path).config) for path in (run, tmp_path / "slim")]
    assert torch.equal(*(tensor for tensor in centres if tensor is not None))
    same = slim(run, tmp_path / "same", weights="float32")
    assert np.array_equal(alis.Panorama(alis.load(same.folder), 3)[0:640], exact)
    assert same.rounding == 0


def test_models_and_codes_have_the_usual_file_permissions(run: Path, tmp_path: Path) -> None:
    """Models on a shared disk must be readable by others; safetensors makes files readable only by their owner."""
    new = tmp_path / "new"
    new.touch()
    codes.save(tmp_path / "code.safetensors", torch.zeros(8))
    made = CliRunner().invoke(cli, ["clusters", str(run), "-k", "3", "--samples", "200"])
    assert made.exit_code == 0, made.output
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"model.safetensors", "clusters.safetensors", "code.safetensors"} <= {path.name for path in files}
    assert {path.name: path.stat().st_mode for path in files} == {path.name: new.stat().st_mode for path in files}


def test_invalid_arguments_of_slim_are_refused(run: Path, tmp_path: Path) -> None:
    slim(run, tmp_path / "slim")
    with pytest.raises(InputError, match="not empty"):
        slim(run, tmp_path / "slim")
    slim(run, tmp_path / "slim", overwrite=True)
    with pytest.raises(InputError, match="the model itself"):
        slim(tmp_path / "slim", tmp_path / "slim", overwrite=True)
    with pytest.raises(InputError, match="float8"):
        slim(run, tmp_path / "other", weights="float8")
    g = painter.tiny()
    g.synthesis.b4.column.fill_(1e6)
    alis.save(tmp_path / "huge", g)
    with pytest.raises(InputError, match="out of the range of float16"):
        slim(tmp_path / "huge", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_demo_is_the_packaged_model_and_not_a_folder_of_that_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_folder, "DEMO", tmp_path / "package" / "demo")
    missing = CliRunner().invoke(cli, ["panorama", "demo", "-o", "s.png"])
    assert isinstance(missing.exception, InputError)
    assert "without the demo model" in str(missing.exception)
    assert "make demo" in missing.exception.hint
    (tmp_path / "package").mkdir()
    slim(run, tmp_path / "package" / "demo")
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "panorama.png").write_bytes(b"what make demo leaves")
    done = CliRunner().invoke(cli, ["panorama", "demo", "-o", "s.png", "--frames", "2"])
    assert done.exit_code == 0, done.output
    with Image.open("s.png") as picture:
        assert picture.size == (64, 32)
    assert alis.load("demo").config.resolution == 32
    with pytest.raises(InputError, match="not a model folder"):
        alis.load("./demo")


@pytest.mark.skipif(not (model_folder.DEMO / "config.json").is_file(), reason="alis/demo holds no model yet")
def test_the_packaged_model_is_small_and_paints_something() -> None:
    assert sum(path.stat().st_size for path in model_folder.DEMO.iterdir()) <= 20_000_000
    assert {path.name for path in model_folder.DEMO.iterdir()} <= {
        "config.json",
        "model.safetensors",
        "clusters.safetensors",
        "README.md",
    }
    g = alis.load("demo")
    side = g.config.resolution
    assert side >= 64
    pixels = alis.Panorama(g, 1)[0 : 8 * side]
    assert pixels.shape == (side, 8 * side, 3)
    assert pixels.std() > 20, "a landscape has light and shade"
    other = alis.Panorama(g, 2)[0 : 8 * side]
    assert np.abs(other.astype(int) - pixels).mean() > 5, "another seed, another land"


def test_lower_precision_is_close_and_recorded_in_the_picture(tmp_path: Path) -> None:
    alis.save(tmp_path / "model", painter.tiny())
    words = ["panorama", str(tmp_path / "model"), "--width", "200", "--psi", "0.5"]
    for precision in ("float32", "bfloat16"):
        done = CliRunner().invoke(cli, [*words, "--precision", precision, "-o", str(tmp_path / f"{precision}.png")])
        assert done.exit_code == 0, done.output
    exact, near = (np.asarray(Image.open(tmp_path / f"{p}.png")).astype(int) for p in ("float32", "bfloat16"))
    assert 0 < np.abs(exact - near).mean() < 8
    again = ["resample", str(tmp_path / "model"), str(tmp_path / "bfloat16.png"), "--anchor", "1", "--variant", "0"]
    done = CliRunner().invoke(cli, [*again, "-o", str(tmp_path / "again.png")])
    assert done.exit_code == 0, done.output
    assert np.array_equal(np.asarray(Image.open(tmp_path / "again.png")), near)


def test_auto_chooses_a_precision_and_unknown_ones_are_refused() -> None:
    g = painter.tiny()
    assert precision_of(g) == "float32"
    assert choose_precision(g, "auto") == precision_of(g) == "float32", "too narrow a network to gain"
    wide = alis.Generator(alis.ModelConfig(resolution=16, channel_base=1024, channel_max=64, z_dim=8, w_dim=8)).eval()
    assert choose_precision(wide, "auto") == precision_of(wide)
    choose_precision(wide, "bfloat16")
    assert (precision_of(wide), wide.synthesis.dtype) == ("bfloat16", torch.bfloat16)
    assert choose_precision(wide, "float32") == precision_of(wide) == "float32"
    with pytest.raises(InputError, match="float64"):
        choose_precision(g, "float64")


@pytest.mark.parametrize("words", [["slim", "RUN", "out"], ["invert", "RUN", "photo.png", "--steps", "2"]])
def test_a_full_disk_is_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(random).save("photo.png")
    with files_up_to(3_000):
        done = CliRunner().invoke(cli, [str(run) if word == "RUN" else word for word in words])
    assert isinstance(done.exception, InputError), done.output
    assert "can't be written" in done.exception.message
    assert "free some space" in done.exception.hint
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name or ".encoding" in path.name]


def test_all_commands_are_listed_and_typos_get_a_hint() -> None:
    listed = CliRunner().invoke(cli, ["--help"]).output.partition("Commands:")[2]
    assert "..." not in listed
    assert "run the same command again to go on" in " ".join(listed.split())
    slip = CliRunner().invoke(cli, ["panoram", "demo"])
    assert slip.exit_code == 2
    assert 'did you mean "panorama"?' in slip.output
