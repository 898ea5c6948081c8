"""Recognisable and unrecognisable sides; no photo is scored by a classifier that was trained on it."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lhq.config import validate
from lhq.errors import ConfigError, InputError, RunError, WeightsMissing
from lhq.measures.connectability import Connectability, ConnectabilitySettings, fold_of, split
from lhq.records import Photo
from lhq.store.shards import Shards
from tests.lhq import making

torch = pytest.importorskip("torch")
from lhq.measures.half_classifier import LEFT, RIGHT, HalfClassifier, Tiny, Training, build, cut, halves, sides, train  # noqa: E402

WHERE = "p.toml [filter.connectability]"
SMALL = {
    "backbone": "tiny",
    "side_px": 32,
    "train_share": 0.3,
    "validation_share": 0.15,
    "epochs": 8,
    "train_batch": 16,
    "device": "cpu",
    "lr_backbone": 3e-3,
    "lr_head": 3e-3,
    "num_threads": 1,
}


def picture(seed: int, is_sided: bool) -> bytes:
    """Noise; if `is_sided` with stripes that rise towards the middle, so that its halves are easy to tell, plain
    and mirrored."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 110, (64, 96, 3))
    if is_sided:
        yy, xx = np.mgrid[0:64, 0:48]
        stripes = ((((yy + xx) // 8) % 2) * 100)[..., None]
        pixels[:, :48] += stripes
        pixels[:, 48:] += stripes[:, ::-1]
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shards, list[Photo], np.ndarray]:
    """120 photos in two shards; which of them have a side that can be told."""
    root = tmp_path_factory.mktemp("store")
    is_sided = np.arange(120) % 2 == 0
    rows = [making.photo(picture(i, bool(is_sided[i])), f"p{i}") for i in range(120)]
    making.add_shard(root, 0, rows[:70])
    making.add_shard(root, 1, rows[70:])
    photos = [Photo(r["id"], r["image"], r["width_px"], r["height_px"]) for r in rows]
    return Shards(str(root), "photos"), photos, is_sided


@pytest.fixture(scope="module")
def facts(store: tuple[Shards, list[Photo], np.ndarray]) -> tuple[Connectability, pa.Table]:
    shards, photos, _ = store
    measure = Connectability(ConnectabilitySettings(**SMALL))
    measure.prepare(shards)
    return measure, pa.Table.from_batches([measure.measure(photos)])


def test_photos_with_a_side_score_high_and_others_do_not(
    store: tuple[Shards, list[Photo], np.ndarray], facts: tuple[Connectability, pa.Table]
) -> None:
    _, _, is_sided = store
    measure, table = facts
    score = measure.judge(table, measure.settings).score
    assert np.isfinite(score).all()
    assert score[is_sided].min() > score[~is_sided].max()
    assert np.median(score[is_sided]) > 0.85


def test_every_photo_is_scored_by_a_classifier_that_never_saw_its_fold(facts: tuple[Connectability, pa.Table]) -> None:
    measure, table = facts
    given = measure.settings
    ids = table["id"].to_pylist()
    for fold in range(given.folds):
        training, validation = split(ids, fold, given)
        assert training
        assert validation
        assert training.isdisjoint(validation)
        scored = {id for id, of in zip(ids, table["fold"].to_pylist(), strict=True) if of == fold}
        assert scored.isdisjoint(training | validation)
        assert scored == {id for id in ids if fold_of(id, given.folds) == fold}
    assert {name[-2:] for name in table["fit"].to_pylist()} == {"-0", "-1"}


def test_folds_are_even_and_do_not_depend_on_the_other_photos() -> None:
    ids = [f"flickr:{n}" for n in range(9000)]
    counts = np.bincount([fold_of(id, 3) for id in ids])
    assert counts.min() > 2800
    few = ConnectabilitySettings(max_train_rows=50)
    training, validation = split(ids, 0, few)
    assert len(training) == len(validation) == 50
    assert split(reversed(ids), 0, few) == (training, validation)
    training, validation = split(ids, 1, ConnectabilitySettings())
    assert len(training) == round(0.15 * 9000)
    assert len(validation) == round(0.05 * 9000)


def test_classifiers_are_trained_once_and_serve_another_process(
    store: tuple[Shards, list[Photo], np.ndarray], facts: tuple[Connectability, pa.Table]
) -> None:
    shards, photos, _ = store
    _measure, table = facts
    files = sorted((Path(shards.store) / "fits").iterdir())
    times = [file.stat().st_mtime_ns for file in files]
    again = Connectability(ConnectabilitySettings(**{**SMALL, "max_score": 0.5, "batch": 7}))
    again.prepare(shards)
    assert [file.stat().st_mtime_ns for file in files] == times
    there: Connectability = pickle.loads(pickle.dumps(again))
    other = there.measure(photos[:20])
    np.testing.assert_allclose(other["p_left"], table["p_left"][:20], atol=1e-5)


def test_training_repeats(tmp_path: Path, store: tuple[Shards, list[Photo], np.ndarray]) -> None:
    shards, photos, _ = store
    rows = shards.read(0)
    tables = []
    for name in ("a", "b"):
        there = Shards(str(tmp_path / name), "photos")
        there.write(0, rows)
        measure = Connectability(ConnectabilitySettings(**{**SMALL, "epochs": 1}))
        measure.prepare(there)
        tables.append(measure.measure(photos[:10]).drop_columns(["fit"]))
    assert tables[0].equals(tables[1])


# --- the classifier ---------------------------------------------------------------------------------------------


def sided(num: int, seed: int) -> np.ndarray:
    """Squares like `picture`, uint8 [num, 32, 32, 3]."""
    squares = np.random.default_rng(seed).integers(90, 110, (num, 32, 32, 3))
    yy, xx = np.mgrid[0:32, 0:16]
    stripes = ((((yy + xx) // 4) % 2) * 100)[..., None]
    squares[:, :, :16] += stripes
    squares[:, :, 16:] += stripes[:, ::-1]
    return squares.astype(np.uint8)


def test_it_learns_sides_and_only_sides() -> None:
    torch.manual_seed(0)
    recipe = Training(epochs=6, batch=16, lr_backbone=3e-3, lr_head=3e-3)
    told = train(HalfClassifier(Tiny(), 128), sided(48, 0), sided(16, 1), recipe, torch.device("cpu"))
    assert told.accuracy > 0.95
    model = build("tiny", pretrained=False)
    model.load_state_dict(told.state)
    chances = sides(model.eval(), list(sided(8, 2)), torch.device("cpu"))
    assert chances.shape == (8, 2)
    assert chances.min() > 0.8

    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 255, (n, 32, 32, 3), np.uint8) for n in (48, 32)]
    told = train(HalfClassifier(Tiny(), 128), noise[0], noise[1], recipe, torch.device("cpu"))
    assert 0.3 < told.accuracy < 0.7, "noise has no sides"


def test_sides_are_the_chances_of_the_true_side() -> None:
    """Against a float64 classifier by hand: the mean brightness decides."""

    class Brightness(torch.nn.Module):
        def forward(self, x: object) -> object:
            return x.mean((1, 2, 3))[:, None]

    model = HalfClassifier(Brightness(), 1)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model.head.bias.zero_()
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (5, 16, 16, 3), np.uint8)
    chances = sides(model.eval(), list(squares), torch.device("cpu"))
    normal = (squares.astype(np.float64) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    left, right = normal[:, :, :8].mean((1, 2, 3)), normal[:, :, 8:].mean((1, 2, 3))
    expected = np.stack([1 / (1 + np.exp(-2 * left)), 1 / (1 + np.exp(2 * right))], axis=1)
    np.testing.assert_allclose(chances, expected, atol=1e-6)


def test_halves_are_cut_after_the_mirror() -> None:
    squares = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    index, side, mirrored = np.array([0, 1, 1]), np.array([LEFT, RIGHT, LEFT]), np.array([False, False, True])
    got = halves(squares, index, side, mirrored).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(got[0], squares[0][:, :2])
    np.testing.assert_array_equal(got[1], squares[1][:, 2:])
    np.testing.assert_array_equal(got[2], squares[1][:, ::-1][:, :2])
    left, right = cut(torch.from_numpy(squares))
    np.testing.assert_array_equal(torch.cat([left, right], dim=3).permute(0, 2, 3, 1), squares)


class _Choking(Tiny):
    """A backbone that runs out of memory above `fits` halves, as torch does."""

    def __init__(self, fits: int) -> None:
        super().__init__()
        self.fits = fits

    def forward(self, x: object) -> object:
        if len(x) > self.fits and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(x)


def test_training_survives_a_small_gpu(caplog: pytest.LogCaptureFixture) -> None:
    recipe = Training(epochs=1, batch=16)
    with caplog.at_level(logging.WARNING, "lhq"):
        done = train(HalfClassifier(_Choking(5), 128), sided(12, 0), sided(4, 1), recipe, torch.device("cpu"))
    assert np.isfinite(done.loss)
    assert [r.getMessage() for r in caplog.records] == [
        "[filter.connectability]: GPU memory ran out; going on in parts of 8"
    ]
    with pytest.raises(RunError, match="does not hold one half"):
        train(HalfClassifier(_Choking(0), 128), sided(4, 0), sided(4, 1), recipe, torch.device("cpu"))


def test_the_published_backbone_loads_a_state_dict(tmp_path: Path) -> None:
    from torchvision.models import wide_resnet50_2

    torch.manual_seed(0)
    network = wide_resnet50_2(weights=None)
    torch.save(network.state_dict(), tmp_path / "wide.pth")
    model = build(str(tmp_path / "wide.pth"), pretrained=True).eval()
    x = torch.randint(0, 255, (1, 3, 32, 16), dtype=torch.uint8)
    network.fc = torch.nn.Identity()
    with torch.inference_mode():
        features = network.eval()((x.float() - model.mean) / model.std)
        assert model(x).shape == (1, 2)
        torch.testing.assert_close(model.backbone((x.float() - model.mean) / model.std), features)
    torch.save(Tiny().state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(InputError, match=r"tiny.pth: not a wide_resnet50_2"):
        build(str(tmp_path / "tiny.pth"), pretrained=True)


# --- judgement and bad input ------------------------------------------------------------------------------------


def test_the_larger_chance_decides() -> None:
    table = pa.table(
        {
            "id": ["a", "b", "c", "d"],
            "error": [None, None, None, "corrupt"],
            "said": [None, None, None, "cut short"],
            "p_left": [0.99, 0.2, 0.95, None],
            "p_right": [0.1, 0.96, 0.5, None],
        }
    )
    settings = ConnectabilitySettings()
    verdicts = Connectability(settings).judge(table, settings)
    assert verdicts.kept.tolist() == [False, False, True, False]
    np.testing.assert_allclose(verdicts.score, [0.99, 0.96, 0.95, np.nan])
    assert [v.detail for v in verdicts] == [
        "its left half is told with 0.990",
        "its right half is told with 0.960",
        "",
        "corrupt: cut short",
    ]


def test_broken_photos_and_too_few(tmp_path: Path, facts: tuple[Connectability, pa.Table]) -> None:
    measure, _ = facts
    batch = measure.measure([Photo("x", picture(0, True)[:400], 96, 64), Photo("y", picture(1, True), 96, 64)])
    assert batch["error"].to_pylist() == ["truncated", None]
    making.add_shard(tmp_path, 0, [making.photo(picture(0, True), "p0")])
    with pytest.raises(InputError, match="are too few"):
        Connectability(ConnectabilitySettings(**SMALL)).prepare(Shards(str(tmp_path), "photos"))


def test_missing_weights_and_wrong_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: tuple[Shards, list[Photo], np.ndarray]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(WeightsMissing, match=r"wide_resnet50_2-95faca4d.pth"):
        Connectability(ConnectabilitySettings(device="cpu")).prepare(store[0])
    with pytest.raises(ConfigError, match="folds = 1"):
        validate(ConnectabilitySettings, {"folds": 1}, WHERE)
    with pytest.raises(ConfigError, match='did you mean "max_score"'):
        validate(ConnectabilitySettings, {"max_scores": 1}, WHERE)
