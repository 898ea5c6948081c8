"""Painted scenes show what their ground truth says."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lhq.sandbox import scenes, uploads
from lhq.sandbox.objects import OBJECTS

CATALOGUE = scenes.catalogue(7, 300)


def _some(kind: str, count: int) -> list[scenes.Scene]:
    return [scene for scene in CATALOGUE if scene.kind == kind][:count]


def _look(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L").resize((24, 24), Image.Resampling.BOX), np.float32)


def test_every_stage_has_work_to_do() -> None:
    kinds = Counter(scene.kind for scene in CATALOGUE)
    assert kinds == {"objects": 48, "near-duplicate": 30, "small": 18, "corrupt": 15, "clean": 189}
    assert len({scene.tags[0] for scene in CATALOGUE}) >= 10
    assert scenes.catalogue(7, 300) == CATALOGUE
    assert scenes.catalogue(8, 300) != CATALOGUE


def test_the_same_scene_has_the_same_bytes_and_its_promised_size() -> None:
    for scene in [*_some("clean", 3), *_some("small", 1)]:
        data = uploads.encode(scene)
        assert data == uploads.encode(scene)
        image = Image.open(io.BytesIO(data))
        size = image.size[::-1] if scene.orientation in (6, 8) else image.size
        assert size == (scene.width_px, scene.height_px)
        assert (min(size) < 1024) == (scene.kind == "small")
        assert float(np.asarray(image.convert("L"), np.float32).std()) > 8  # nobody paints an empty sheet


def test_neighbouring_scenes_are_different_pictures() -> None:
    looks = [_look(uploads.encode(scene)) for scene in _some("clean", 5)]
    for n, one in enumerate(looks):
        for other in looks[n + 1 :]:
            assert float(np.abs(one - other).mean()) > 6


def test_near_duplicates_look_like_their_originals_but_have_other_bytes() -> None:
    by_change = {scene.change: scene for scene in CATALOGUE if scene.kind == "near-duplicate"}
    assert {"re-encoded", "resized", "cropped"} <= set(by_change)
    for change in ("re-encoded", "cropped"):
        copy = by_change[change]
        original = CATALOGUE[copy.place]
        assert original.kind == "clean"
        one, other = uploads.encode(copy), uploads.encode(original)
        assert one != other
        assert float(np.abs(_look(one) - _look(other)).mean()) < 10


def test_objects_are_large_and_exactly_known() -> None:
    for scene in _some("objects", 5):
        painting = uploads.paint(scene)
        assert painting.things
        area = 0
        for thing in painting.things:
            left, top, right, bottom = thing.box
            assert thing.label in OBJECTS
            assert 0 <= left < right <= scene.width_px
            assert 0 <= top < bottom <= scene.height_px
            rows, columns = np.nonzero(thing.mask)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == thing.box
            area += int(thing.mask.sum())
        assert area > 0.01 * scene.width_px * scene.height_px


def test_corrupt_uploads_can_not_be_decoded() -> None:
    changes = {scene.change: scene for scene in CATALOGUE if scene.kind == "corrupt"}
    assert set(changes) == {"truncated", "html", "empty", "wrong bytes", "broken png"}
    for scene in changes.values():
        with pytest.raises((OSError, SyntaxError)):
            Image.open(io.BytesIO(uploads.encode(scene))).load()
