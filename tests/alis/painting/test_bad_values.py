"""Values that no plane, code, strip, film or folder can have are errors that say so."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import alis
from alis.errors import InputError
from alis.models.slim import slim
from alis.painting import clusters, code_search, strip, video
from alis.plane.anchors import Draw, SavedCode, Sketch


def test_bad_values_are_errors(g: alis.Generator) -> None:
    w, nan = torch.zeros(32), torch.full([32], torch.nan)
    calls: list[Any] = [
        *(lambda b=b: alis.Panorama(g, batch=b) for b in (-1, 0, 1.5, True, 10**9)),
        *(lambda r=r: alis.Panorama(g, ring=r) for r in (True, 0, -3, 3.0, "3")),
        *(lambda p=p: alis.Panorama(g, psi=p) for p in (None, True, torch.nan, "1", 3)),
        *(lambda c=c: alis.Panorama(g, cluster=c) for c in (True, 1.0, "near", -1)),
        *(
            lambda e=e: alis.Panorama(g).with_edits({3: e})
            for e in (None, True, False, 1.0, "a", -1, [w], nan, w.int(), w.to_sparse(), w.to("meta"))
        ),
        *(lambda a=a: alis.Panorama(g).with_edits({a: 1}) for a in (None, True, 1.5, "3", 2**50)),
        *(lambda e=e: Sketch(7, edits={3: e}) for e in (None, True, 1)),
        *(lambda v=v: Draw(7, 0, v) for v in (True, None, 1.0, -1)),
        *(lambda n=n: SavedCode(n) for n in (None, 7, "a b")),
        *(
            lambda c=c: alis.Panorama(g, codes={"a": c})
            for c in ([0.0] * 32, None, w.int(), w.bool(), w.to(torch.complex64), nan)
        ),
        *(lambda c=c: alis.Panorama(g, centres=c) for c in (nan[None], torch.zeros(0, 32), w, torch.zeros(2, 3), [w])),
        lambda: alis.Panorama(g, codes={"a": torch.full([32], 1e300, dtype=torch.float64)}),
        *(lambda c=c: alis.Panorama(g, codes=c) for c in ([w], w, {"../a": w}, {3: w})),
        *(lambda e=e: alis.Panorama(g).with_edits(e) for e in (None, [3], True)),
        *(lambda n=n: alis.Panorama(g).block(n) for n in (1.5, None, 2**60, -(2**60))),
        *(lambda n=n: strip.plan(alis.Panorama(g), width=n) for n in (1.5, True, torch.nan, "9")),
        *(lambda n=n: strip.plan(alis.Panorama(g), start=n) for n in (0.5, False, torch.inf)),
        *(lambda s=s: code_search.SearchOptions(seed=s) for s in (-1, 2**64, 1.5, True)),
        *(lambda h=h: video.video_settings(alis.Panorama(g), seconds=1, height=h) for h in (0, -32)),
    ]
    for call in calls:
        with pytest.raises(InputError):
            call()
    assert alis.Panorama(g, batch=3).batch == 3
    assert alis.Panorama(g).with_edits({np.int64(3): np.int64(2)}).sketch.text == "0/a3v2"
    short, long = (alis.Panorama(g).with_edits({3: w.to(dtype)}) for dtype in (torch.bfloat16, torch.float64))
    assert short.sketch.text == long.sketch.text


def test_invalid_clusters_are_an_error(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    for centres in (torch.full([4, 32], torch.nan), torch.zeros(0, 32), torch.zeros(4, 31), torch.zeros(32)):
        clusters.save(tmp_path / "m", clusters.Clusters(centres, torch.ones(len(centres)), 0.0))
        with pytest.raises(InputError):
            clusters.find(tmp_path / "m", alis.load(model).config)


@pytest.mark.parametrize(
    "aspect", ["1e9999", "1e999999999", "16:0", "0:9", "-16:9", "nan", "inf", "16:9:4", "", "٣:٢", "1/3e9", "9" * 4000]
)
def test_an_invalid_aspect_ratio_is_an_error(g: alis.Generator, aspect: str) -> None:
    with pytest.raises(InputError):
        video.video_settings(alis.Panorama(g), seconds=1, aspect=aspect)
    assert (
        video.video_settings(alis.Panorama(g), seconds=1, aspect="2.39:1", height=100).width
        == round(100 * Fraction("2.39") / 2) * 2
    )


def test_slim_to_a_file_is_an_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        slim(model, tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"
