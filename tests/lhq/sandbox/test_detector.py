"""The sandbox's detector finds the painted objects and ignores landscapes (a small version of the benchmark)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the ml extra")

from lhq.errors import WeightsMissing  # noqa: E402
from lhq.sandbox import detector, scenes, uploads  # noqa: E402

SEED = 31  # not one of training's


def _dropped(kind: str, count: int) -> int:
    model, _ = detector.load()
    found = [scene for scene in scenes.catalogue(SEED, 400) if scene.kind == kind][:count]
    total = 0
    for scene in found:
        half = replace(scene, width_px=scene.width_px // 2, height_px=scene.height_px // 2)  # a third of the time
        pixels = np.asarray(uploads.paint(half).image)
        total += detector.dropped(model, torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255)
    return total


def test_objects_are_dropped_and_landscapes_are_not() -> None:
    assert _dropped("objects", 14) >= 13
    assert _dropped("clean", 14) <= 1


def test_it_is_torchvisions_own_mask_r_cnn() -> None:
    model, labels = detector.load()
    assert not model.training
    assert labels == detector.CLASSES
    (found,) = model([torch.rand(3, 300, 420)])
    assert set(found) == {"boxes", "labels", "scores", "masks"}
    assert found["masks"].shape[1:] == (1, 300, 420)


def test_the_file_is_small_and_says_what_it_is_for() -> None:
    from safetensors import safe_open

    assert detector.WEIGHTS.stat().st_size <= 8_000_000
    with safe_open(detector.WEIGHTS, framework="pt") as file:
        assert "painted objects only" in file.metadata()["what"]


def test_missing_weights_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="train_detector"):
        detector.load(tmp_path / "none.safetensors")
