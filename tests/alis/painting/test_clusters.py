"""Clusters: k-means finds known clusters, reproducibly, and the file beside a model is checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import alis
from alis.cli import cli
from alis.errors import InputError
from alis.models import model_folder
from alis.painting import clusters
from tests.alis import painter


def test_centres_are_means_of_their_codes() -> None:
    g = painter.tiny()
    found = clusters.compute(g, num_clusters=6, num_samples=2000, seed=1)
    w = g.map(torch.randn(2000, 32, generator=torch.Generator().manual_seed(1)))
    nearest = torch.cdist(w, found.centres_KS).argmin(dim=1)
    for number in range(6):
        assert torch.allclose(w[nearest == number].mean(dim=0), found.centres_KS[number], atol=1e-3)
        assert float(found.shares_K[number]) == pytest.approx(float((nearest == number).float().mean()), abs=1e-3)
    assert found.shares_K.tolist() == sorted(found.shares_K.tolist(), reverse=True)
    assert found.spread < float(torch.cdist(w, w.mean(dim=0, keepdim=True)).mean())
    again = clusters.compute(g, num_clusters=6, num_samples=2000, seed=1)
    assert torch.equal(again.centres_KS, found.centres_KS)


def test_one_cluster_is_the_mean_and_equal_codes_work() -> None:
    g = painter.tiny()
    one = clusters.compute(g, num_clusters=1, num_samples=500)
    assert one.centres_KS.shape == (1, 32)
    for parameter in g.mapping.parameters():
        parameter.zero_()
    flat = clusters.compute(g, num_clusters=3, num_samples=50)
    assert torch.isfinite(flat.centres_KS).all()
    for numbers in ({"num_clusters": 0}, {"num_clusters": 5, "num_samples": 4}):
        with pytest.raises(InputError, match="clusters of"):
            clusters.compute(g, **numbers)


def test_the_packaged_clusters_are_not_replaced() -> None:
    before = (model_folder.DEMO / clusters.NAME).read_bytes()
    done = CliRunner().invoke(cli, ["clusters", "demo", "-k", "2", "--samples", "50"])
    assert isinstance(done.exception, InputError)
    assert "come with the package" in str(done.exception)
    assert (model_folder.DEMO / clusters.NAME).read_bytes() == before


def test_from_the_command_line_to_a_picture(tmp_path: Path) -> None:
    alis.save(tmp_path / "model", painter.tiny())
    assert clusters.find(tmp_path / "model", painter.tiny().config) is None
    words = ["clusters", str(tmp_path / "model"), "-k", "3", "--samples", "500"]
    done = CliRunner().invoke(cli, [*words, "--json"])
    assert done.exit_code == 0, done.output
    table = json.loads(done.stdout)
    assert sum(table["shares"]) == pytest.approx(1, abs=1e-3)
    done = CliRunner().invoke(
        cli, ["panorama", str(tmp_path / "model"), "-o", str(tmp_path / "k.png"), "--width", "64", "--cluster", "2"]
    )
    assert done.exit_code == 0, done.output
    result = CliRunner().invoke(
        cli, ["panorama", str(tmp_path / "model"), "-o", str(tmp_path / "l.png"), "--cluster", "3"]
    )
    assert isinstance(result.exception, InputError)
    torch.manual_seed(7)
    alis.save(tmp_path / "other", alis.Generator(painter.tiny().config))
    clusters.save(tmp_path / "other", clusters.compute(alis.load(tmp_path / "other"), num_clusters=2, num_samples=9))
    shutil.copy(tmp_path / "other" / clusters.NAME, tmp_path / "model" / clusters.NAME)
    with pytest.raises(InputError, match="belongs to another model"):
        clusters.find(tmp_path / "model", painter.tiny().config)
    (tmp_path / "model" / clusters.NAME).write_bytes(b"broken")
    with pytest.raises(InputError, match="can't be read"):
        clusters.find(tmp_path / "model", painter.tiny().config)
