"""Seam, repetition and far tiles on pictures whose faults are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alis import metrics
from alis.errors import InputError
from alis.metrics import EvaluationPlan, strip_metrics
from alis.models import sampling
from tests.alis import painter, sets


def scenery(num: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures, [N, 3, 32, W]."""
    made = torch.Generator().manual_seed(seed)
    return torch.randn(num, 3, 32, width + 8, generator=made).unfold(3, 9, 1).mean(dim=4)


def test_a_step_at_every_border_is_a_seam() -> None:
    plain = scenery(8, 256)
    assert strip_metrics.seam(plain, 16) == pytest.approx(1, abs=0.05)
    inside = strip_metrics.luma(plain).diff(dim=2).abs().mean()
    steps = plain + 3 * float(inside) * (torch.arange(256).div(16, rounding_mode="floor") % 2)
    assert 2.5 < strip_metrics.seam(steps, 16) < 3.5
    assert strip_metrics.seam(steps, 12) < 1.5, "it looks at the borders of its own patches"
    with pytest.raises(InputError, match="no border"):
        strip_metrics.seam(plain[..., :16], 16)


@pytest.mark.parametrize("period", [16, 8, 4])
def test_a_pattern_that_repeats_in_every_patch_is_repetition(period: int) -> None:
    plain = scenery(8, 256)
    base = strip_metrics.repetition(plain, 32, 16)
    assert base == pytest.approx(1 / 16, abs=0.03)
    wave = torch.sin(torch.arange(256) * 2 * torch.pi / period)
    assert strip_metrics.repetition(plain + wave, 32, 16) > 0.8
    assert strip_metrics.repetition(plain + wave, 32, 16) > strip_metrics.repetition(plain + 0.2 * wave, 32, 16) > base
    slow = torch.sin(torch.arange(256) * 2 * torch.pi / 64) + torch.linspace(0, 9, 256)
    assert strip_metrics.repetition(plain + 0.3 * slow, 32, 16) < 0.2, "two patches and more are the scene's own"
    other = torch.sin(torch.arange(256) * 2 * torch.pi / 11.3)
    assert strip_metrics.repetition(plain + 3 * other, 32, 16) < 0.1
    with pytest.raises(InputError, match="not frames"):
        strip_metrics.repetition(plain[..., :250], 32, 16)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sets.write(tmp_path_factory.mktemp("scenes"), 40, size=32, per_file=40, paint=sets.scenery))


def test_the_plane_has_no_seam_and_patches_have(data: str) -> None:
    plan = EvaluationPlan(("seam", "repetition"), num_geometry=32)
    plane = metrics.measure(painter.seamless(), data, plan).figures
    zeros = metrics.measure(painter.tiny(), data, plan).figures
    assert plane["seam"] < 1.1 < 1.3 < zeros["seam"]
    assert plane["repetition"] < zeros["repetition"]
    assert plane["seam-real"] == zeros["seam-real"] == pytest.approx(1, abs=0.4)
    assert plane["repetition-real"] == pytest.approx(1 / 16, abs=0.05)
    assert set(metrics.measure(painter.seamless(), None, plan).figures) == {"seam", "repetition"}
    again = metrics.measure(painter.seamless(), data, plan).figures
    assert again == plane


def test_far_tiles_are_like_near_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = EvaluationPlan(("far-tiles",), num=48, batch=16, features="random")
    g = painter.seamless()
    measured = metrics.measure(g, None, plan)
    figures = measured.figures
    assert figures["far-tiles"] < 3 * figures["far-tiles-floor"]
    assert measured.extractor == "random pyramid (seed 20210804)"
    anywhere = sampling.frames_anywhere

    def fading(*args: object, around_px: int = 0, **rest: object) -> torch.Tensor:
        """A plane that gets paler far away."""
        frames = anywhere(*args, around_px=around_px, **rest)  # type: ignore[arg-type]
        return frames * 0.2 + 0.5 if around_px else frames

    monkeypatch.setattr(sampling, "frames_anywhere", fading)
    broken = metrics.measure(g, None, plan).figures
    assert broken["far-tiles"] > 3 * broken["far-tiles-floor"]


def test_snapshots_record_their_strips_seam_and_repetition(tmp_path: Path) -> None:
    from alis.training import monitor

    found = monitor.write_samples(tmp_path, painter.seamless())
    assert set(found) == {"seam", "repetition"}
    assert found["seam"] < 1.2
    patches = painter.tiny()
    found = monitor.write_samples(tmp_path, patches)
    strip = sampling.strip(patches, 8)
    assert found["seam"] > 1.3, "a model of independent patches shows its borders"
    assert strip_metrics.seam(strip[None], 16) > 1.3
