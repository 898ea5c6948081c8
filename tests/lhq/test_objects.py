"""What the object filter sees, what it does when memory or weights run out, and how it decides."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lhq.config import validate
from lhq.errors import ConfigError, InputError, RunError, WeightsMissing
from lhq.images import inspect
from lhq.measures import Verdicts
from lhq.measures.feeding import Feed, Fit, Halving, pixels
from lhq.measures.objects import Objects, ObjectsSettings
from lhq.records import Photo

torch = pytest.importorskip("torch")
detection = pytest.importorskip("torchvision.models.detection")
from torchvision.models.detection.roi_heads import paste_masks_in_image  # noqa: E402

from lhq.measures.detectors import MASK_SIDE, Wanted, open_detector  # noqa: E402
from lhq.measures.detectors.torchvision import pack  # noqa: E402
from lhq.measures.weights import cached, tensors  # noqa: E402

WHERE = "p.toml [filter.objects]"


def jpeg(seed: int, width: int, height: int, **save: object) -> bytes:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (max(1, height // 16), max(1, width // 16), 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", **save)
    return file.getvalue()


def photo(seed: int, width: int = 192, height: int = 128) -> Photo:
    return Photo(f"t:{seed}", jpeg(seed, width, height), width, height)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mask R-CNN with three classes and random weights, saved as a user's own would be."""
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.manual_seed(0)
    state = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4).state_dict()
    state["roi_heads.box_predictor.cls_score.bias"][0] += 6  # mostly background: a few detections, not a hundred
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def measure(weights: Path) -> Objects:
    """Low enough a score that random weights find something."""
    return Objects(
        ObjectsSettings(
            backend="torchvision", weights=str(weights), names=("rock", "tree", "cow"), low_score=0.08, min_score=0.08,
            short_side_px=64, long_side_px=128, batch=2, device="cpu",
        )
    )  # fmt: skip


# --- facts ------------------------------------------------------------------------------------------------------


def test_every_photo_is_a_row_in_order_and_a_broken_one_says_why(measure: Objects) -> None:
    photos = [photo(0), Photo("t:cut", jpeg(1, 192, 128)[:900], 192, 128), photo(2, 128, 192), photo(3)]
    facts = measure.measure(photos)
    assert facts.schema.equals(measure.schema)
    assert facts["id"].to_pylist() == [p.id for p in photos]
    assert [error is not None for error in facts["error"].to_pylist()] == [False, True, False, False]
    assert facts["error"][1].as_py() in {"truncated", "corrupt"}
    whole = facts.take([0, 2, 3]).to_pylist()
    assert sum(len(row["classes"]) for row in whole) > 0, "random weights at this score find something"
    for row in whole:
        count = len(row["classes"])
        assert len(row["scores"]) == len(row["areas"]) == len(row["masks"]) == len(row["boxes"]) / 4 == count
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert all(len(mask) == MASK_SIDE**2 / 8 for mask in row["masks"])
        assert all(0 <= value <= 1 for value in row["boxes"] + row["areas"])


def test_facts_do_not_depend_on_the_neighbours_in_the_batch(measure: Objects) -> None:
    photos = [photo(seed, width, 128) for seed, width in enumerate((192, 150, 170))]
    together = measure.measure(photos).to_pylist()
    alone = [measure.measure([one]).to_pylist()[0] for one in photos]
    for one, other in zip(together, alone, strict=True):
        assert one["classes"] == other["classes"]
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-4)
        np.testing.assert_allclose(one["boxes"], other["boxes"], atol=1e-3)


def test_the_detector_says_what_torchvision_says(weights: Path) -> None:
    """Our transform and unpasted masks against the untouched model, on a picture that both show alike."""
    model = detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4, min_size=64, max_size=128, box_score_thresh=0.08
    ).eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    detector = open_detector("torchvision", Wanted(str(weights), 0.08, 64, 128, "cpu", False, ("rock", "tree", "cow")))
    image = pixels(photo(7, 256, 128), detector.fit)
    with torch.inference_mode():
        theirs = model([torch.from_numpy(image).permute(2, 0, 1).float() / 255])[0]
    ours = detector.detect([image])[0]
    assert len(ours.classes) == len(theirs["labels"]) > 0
    np.testing.assert_allclose(ours.scores_N, theirs["scores"], atol=1e-4)
    np.testing.assert_allclose(ours.boxes_N4 * [128, 64, 128, 64], theirs["boxes"], atol=0.02)


def test_areas_are_those_of_pasted_masks() -> None:
    rng = np.random.default_rng(0)
    height, width = 300, 400
    yy, xx = np.mgrid[0:28, 0:28] / 27
    masks, boxes = [], []
    for _ in range(20):
        cx, cy, r = rng.uniform(0.3, 0.7, 3)
        masks.append(1 / (1 + np.exp(20 * (np.hypot(xx - cx, yy - cy) - r * 0.6))))
        x, y = rng.uniform(0, 200, 2)
        boxes.append([x, y, min(width, x + rng.uniform(40, 190)), min(height, y + rng.uniform(40, 90))])
    masks_N1MM = torch.tensor(np.array(masks), dtype=torch.float32)[:, None]
    boxes_N4 = torch.tensor(boxes, dtype=torch.float32)
    ours = pack(["x"] * 20, torch.ones(20), boxes_N4, masks_N1MM, (height, width)).areas_N
    pasted = (paste_masks_in_image(masks_N1MM, boxes_N4, (height, width)) >= 0.5).float().mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(ours, pasted, rtol=0.05, atol=2e-4)


def test_pictures_are_upright_and_fitted() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Photo("t:turned", jpeg(0, 400, 200, exif=exif), 400, 200, orientation=6)
    assert pixels(turned, Fit(64, 100)).shape == (100, 50, 3)
    assert pixels(photo(0, 400, 200), Fit(64, 1000)).shape == (64, 128, 3)


def test_decoding_runs_ahead_and_memory_stays_bounded() -> None:
    photos = [photo(seed, 128 + 16 * (seed % 5)) for seed in range(40)]
    feed = Feed(Fit(64, 128), ahead=6, num_threads=2)
    seen: list[int] = []
    for batch in feed.batches(photos, lambda: 4):
        assert len(batch.rows) == len(batch.images) <= 4
        assert len({feed.fit.canvas(im.shape[1], im.shape[0]) for im in batch.images}) == 1
        assert sum(t.name.startswith("decode") for t in threading.enumerate()) <= 2
        seen += batch.rows
    assert sorted(seen) == list(range(40))
    assert not any(t.name.startswith("decode") for t in threading.enumerate())


def test_every_nasty_file_is_fed_or_named(shared: Path) -> None:
    files = sorted(path for path in (shared / "nasty").rglob("*") if path.is_file())[::4]
    photos = [Photo(f"n:{i}", file.read_bytes(), 100, 80) for i, file in enumerate(files)]
    batches = list(Feed(Fit(64, 256), ahead=8).batches(photos, lambda: 8))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(files)))
    assert any(batch.errors for batch in batches)
    assert any(batch.images for batch in batches)
    assert all(im.dtype == np.uint8 and im.shape[2] == 3 for batch in batches for im in batch.images)


# --- memory -----------------------------------------------------------------------------------------------------


class SmallGpu:
    """A batch function whose memory holds `fits` pictures, failing as torch does."""

    def __init__(self, fits: int) -> None:
        self.fits, self.asked = fits, []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.asked.append(len(items))
        if len(items) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        return [item * 10 for item in items]


def test_out_of_memory_halves_the_batch_says_so_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    gpu = SmallGpu(fits=3)
    run: Halving[int, int] = Halving(gpu, 16, "[filter.objects]")
    with caplog.at_level(logging.WARNING, "lhq"):
        assert run(list(range(16))) == [10 * i for i in range(16)]
        assert run(list(range(5))) == [0, 10, 20, 30, 40]
    assert gpu.asked == [16, 8, 4, *[2] * 8, 2, 2, 1]
    assert run.batch == 2
    assert [record.getMessage() for record in caplog.records] == [
        "[filter.objects]: GPU memory ran out at 16 pictures; going on with 8"
    ]


def test_a_gpu_too_small_for_one_picture_is_the_runs_failure() -> None:
    with pytest.raises(RunError, match=r"does not hold one picture.*Tried to allocate 2.00 GiB") as caught:
        Halving(SmallGpu(fits=0), 4, "[filter.objects]")([1, 2, 3, 4])
    assert "short_side_px" in caught.value.hint


# --- weights ----------------------------------------------------------------------------------------------------


def test_missing_weights_name_file_url_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WeightsMissing) as caught:
        Objects(ObjectsSettings(backend="torchvision", weights="coco", device="cpu")).measure([photo(0)])
    said = str(caught.value)
    assert "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth" in said
    assert "https://download.pytorch.org/models/" in said
    assert str(tmp_path / "hub" / "checkpoints") in said
    assert caught.value.exit_code == 2
    assert not list(tmp_path.rglob("*.pth*")), "nothing half-fetched is left"


def test_weights_in_the_cache_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "w-0123abcd.pth").write_bytes(b"there")
    assert cached("http://127.0.0.1:9/w-0123abcd.pth").read_bytes() == b"there"


def test_weights_that_are_none_are_named(tmp_path: Path) -> None:
    def open_(**settings: object) -> None:
        Objects(ObjectsSettings(backend="torchvision", device="cpu", **settings)).measure([photo(0)])

    with pytest.raises(InputError, match=r"nowhere\.pth: no such weights file"):
        open_(weights=str(tmp_path / "nowhere.pth"))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pth: not a file of tensors"):
        open_(weights=str(tmp_path / "text.pth"))
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: not torchvision's Mask R-CNN"):
        open_(weights=str(tmp_path / "other.pth"))


def test_a_weights_file_runs_no_code(tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    for name in ("trap.pth", "trap.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps({"model": Trap()}))
        with pytest.raises(InputError, match=name):
            tensors(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": {"w": np.ones(3, np.float32)}, "__author__": "zoo"}, 2))
    assert tensors(tmp_path / "zoo.pkl")["w"].tolist() == [1, 1, 1]


def test_unnamed_classes_are_asked_for(weights: Path) -> None:
    with pytest.raises(InputError, match="knows 3 classes, and nothing says which"):
        Objects(ObjectsSettings(backend="torchvision", weights=str(weights), device="cpu")).measure([photo(0)])


def test_backend_and_weights_must_agree() -> None:
    with pytest.raises(ConfigError, match='"coco-x101" is detectron2\'s'):
        Objects(ObjectsSettings(backend="torchvision", weights="coco-x101", device="cpu")).measure([photo(0)])


# --- settings and judgement -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"allow": ["brid"]}, 'did you mean "bird"'),
        ({"allow": ["bird", "people"]}, 'did you mean "person"'),
        ({"classes": {"sheeps": {"max_area": 0.1}}}, 'did you mean "sheep"'),
        ({"classes": {"person": {"max_aera": 0.1}}}, "max_aera"),
        ({"min_score": 0.01}, "below low_score"),
        ({"max_aera": 0.1}, 'did you mean "max_area"'),
        ({"backend": "detectron3"}, "detectron2"),
        ({"weights": "sandbox", "allow": ["baloon"]}, 'did you mean "balloon"'),
        ({"names": ["tree"], "allow": ["bird"]}, 'names has no class "bird"'),
    ],
)
def test_wrong_settings_are_named(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(ObjectsSettings, table, WHERE)
    assert str(caught.value).startswith(WHERE)
    assert said in str(caught.value)


def facts_of(*rows: list[tuple[str, float, float]] | str) -> pa.Table:
    """A facts table; each row a list of (class, score, area), or the error of a photo that can't be decoded."""
    lists = [[] if isinstance(row, str) else row for row in rows]
    broken = [row if isinstance(row, str) else None for row in rows]
    columns = {
        "id": [f"t:{i}" for i in range(len(rows))],
        "error": broken,
        "said": [error and "cut short" for error in broken],
        "classes": [None if error else [d[0] for d in row] for row, error in zip(lists, broken, strict=True)],
        "scores": [None if error else [d[1] for d in row] for row, error in zip(lists, broken, strict=True)],
        "areas": [None if error else [d[2] for d in row] for row, error in zip(lists, broken, strict=True)],
    }
    return pa.table(columns, pa.schema([Objects.schema.field(name) for name in columns]))


def judge(facts: pa.Table, **table: object) -> Verdicts:
    settings = validate(ObjectsSettings, table, WHERE)
    return Objects(settings).judge(facts, settings)


def test_area_and_score_decide() -> None:
    facts = facts_of(
        [],
        [("person", 0.97, 0.031)],
        [("person", 0.49, 0.5)],
        [("person", 0.9, 0.006), ("dog", 0.5, 0.006)],
        [("person", 0.9, 0.005)],
        "truncated",
    )
    verdicts = judge(facts, min_score=0.5, max_area=0.01)
    assert verdicts.kept.tolist() == [True, False, True, False, True, False]
    np.testing.assert_allclose(verdicts.score, [0, 0.031, 0, 0.012, 0.005, np.nan], rtol=1e-6)
    assert verdicts[1].detail == "person 0.97 over 3.1% of the picture"
    assert verdicts[3].detail == "dog 0.50 over 0.6% of the picture, 1.2% with others"
    assert verdicts[5].detail == "truncated: cut short"
    assert verdicts[4].detail == ""


def test_allowed_classes_and_limits_of_their_own() -> None:
    facts = facts_of(
        [("bird", 0.99, 0.3)],
        [("boat", 0.99, 0.04)],
        [("boat", 0.99, 0.06)],
        [("person", 0.4, 0.001)],
        [("boat", 0.99, 0.04), ("dog", 0.9, 0.009)],
    )
    table = {
        "allow": ["bird"],
        "classes": {"boat": {"max_area": 0.05}, "person": {"min_score": 0.3, "max_area": 0}},
    }
    verdicts = judge(facts, **table)
    assert verdicts.kept.tolist() == [True, True, False, False, True]
    np.testing.assert_allclose(verdicts.score, [0, 0, 0.06, 0.001, 0.009], rtol=1e-6)
    assert judge(facts, max_area=0).kept.tolist() == [False, False, False, True, False]


def test_a_score_equal_to_the_threshold_counts() -> None:
    assert not judge(facts_of([("cow", 0.7, 0.5)]), min_score=0.7).kept[0]


def test_no_facts_no_verdicts() -> None:
    assert len(judge(facts_of())) == 0


def test_450_000_photos_are_judged_in_seconds() -> None:
    num, each = 450_000, 5
    rng = np.random.default_rng(0)
    offsets = pa.array(np.arange(num + 1, dtype=np.int32) * each)
    names = pa.DictionaryArray.from_arrays(rng.integers(0, 3, num * each), ["person", "bird", "boat"])
    lists = {
        "classes": names.cast(pa.string()),
        "scores": pa.array(rng.random(num * each, np.float32)),
        "areas": pa.array(rng.random(num * each, np.float32) ** 4),
    }
    facts = pa.table(
        {"id": pa.array(np.arange(num)).cast(pa.string()), "error": pa.nulls(num, pa.string())}
        | {name: pa.ListArray.from_arrays(offsets, values) for name, values in lists.items()}
    )
    start = time.perf_counter()
    verdicts = judge(facts, allow=["bird"], max_area=0.05)
    assert time.perf_counter() - start < 6
    assert 0.05 < verdicts.kept.mean() < 0.95


def test_the_sandbox_detector_decides_alike_in_full_and_half_precision() -> None:
    """The small trained detector on two painted scenes: what is measured in half precision is judged the same."""
    from lhq.sandbox import detector, scenes, uploads

    if not detector.WEIGHTS.is_file():
        pytest.skip("the sandbox's detector is not trained yet")
    catalogue = scenes.catalogue(77, 60)
    chosen = [next(scene for scene in catalogue if scene.kind == kind) for kind in ("objects", "clean")]
    photos = []
    for scene in chosen:
        header = inspect(data := uploads.encode(scene))
        photos.append(Photo(scene.kind, data, header.width_px, header.height_px, header.orientation))
    scores = []
    for precision in ("full", "half"):
        given = ObjectsSettings(weights="sandbox", device="cpu", precision=precision, allow=("balloon",))
        facts = pa.Table.from_batches([Objects(given).measure(photos)])
        verdicts = Objects(given).judge(facts, given)
        assert verdicts.kept.tolist() == [False, True]
        assert set(facts["detector"].to_pylist()) == {"torchvision sandbox"}
        scores.append(verdicts.score)
    np.testing.assert_allclose(*scores, atol=1e-3)


# --- detectron2 -------------------------------------------------------------------------------------------------


def test_detectron2_says_what_it_says_alone(tmp_path: Path) -> None:
    """Our batches and unpasted masks against its untouched model, where it is installed."""
    pytest.importorskip("detectron2", reason="detectron2 is not installed")
    import detectron2
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    config = "model_zoo/configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
    cfg = get_cfg()
    cfg.merge_from_file(str(Path(detectron2.__file__).parent / config))
    cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = "cpu", 0.0127
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    for module in model.modules():
        if type(module).__name__ == "FrozenBatchNorm2d":
            module.weight.mul_(0.7)  # random weights grow from layer to layer otherwise
    torch.save(model.state_dict(), tmp_path / "r50.pth")
    detector = open_detector("auto", Wanted(str(tmp_path / "r50.pth"), 0.0127, 128, 192, "cpu", False, ()))
    assert detector.name.startswith("detectron2 r50.pth")
    image = pixels(photo(7), detector.fit)
    ours = detector.detect([image])[0]
    bgr = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
    with torch.inference_mode():
        theirs = model([{"image": bgr, "height": 128, "width": 192}])[0]["instances"]
    assert len(ours.classes) == len(theirs) > 0
    np.testing.assert_allclose(ours.scores_N, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.boxes_N4 * [192, 128, 192, 128], theirs.pred_boxes.tensor, atol=0.02)
