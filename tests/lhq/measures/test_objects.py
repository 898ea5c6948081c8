"""What the object filter sees, and what it does when memory runs out."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lhq.errors import RunError
from lhq.measures.objects import Objects, ObjectsSettings
from lhq.measures.prefetch import Fit, Halving, Prefetcher, pixels
from lhq.records import Photo

torch = pytest.importorskip("torch")
detection = pytest.importorskip("torchvision.models.detection")
from torchvision.models.detection.roi_heads import paste_masks_in_image  # noqa: E402

from lhq.measures.detectors import MASK_SIDE, Wanted, open_detector  # noqa: E402
from lhq.measures.detectors.torchvision import pack  # noqa: E402


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
            backend="torchvision",
            weights=str(weights),
            names=("rock", "tree", "cow"),
            low_score=0.08,
            min_score=0.08,
            short_side_px=64,
            long_side_px=128,
            batch=2,
            device="cpu",
        )
    )


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


@pytest.mark.parametrize("build", [detection.maskrcnn_resnet50_fpn, detection.maskrcnn_resnet50_fpn_v2])
def test_what_differs_from_torchvision_is_the_canvas(build: Any, tmp_path: Path) -> None:
    """A picture of 64 x 88 px stands on a canvas of 96 in torchvision, of 128 here. The canvas alone moves what random
    weights see: torchvision derives its anchors' steps from it, and 96 is no multiple of the coarsest, which is 64."""
    torch.manual_seed(0)
    size = {"min_size": 64, "max_size": 128, "box_score_thresh": 0.3}
    model = build(weights=None, weights_backbone=None, num_classes=4, **size).eval()
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    wanted = Wanted(str(tmp_path / "mine.pth"), 0.3, 64, 128, "cpu", False, ("rock", "tree", "cow"))
    detector = open_detector("torchvision", wanted)
    image = pixels(photo(7, 176, 128), detector.fit)
    assert image.shape == (64, 88, 3)
    assert model.transform.size_divisible == 32
    given = [torch.from_numpy(image).permute(2, 0, 1).float() / 255]
    with torch.inference_mode():
        on_its_own = model(given)[0]
        model.transform.size_divisible = 64
        on_ours = model(given)[0]
    ours = detector.detect([image])[0]
    assert len(ours.classes) == len(on_ours["labels"]) > 0
    np.testing.assert_allclose(ours.scores_N, on_ours["scores"], atol=1e-3)
    assert [detector.labels[label] for label in on_ours["labels"]] == list(ours.classes)
    assert on_its_own["scores"].shape != on_ours["scores"].shape or (
        (on_its_own["scores"] - on_ours["scores"]).abs().max() > 1e-3
    )


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
    prefetcher = Prefetcher(Fit(64, 128), ahead=6, num_threads=2)
    seen: list[int] = []
    for batch in prefetcher.batches(photos, lambda: 4):
        assert len(batch.rows) == len(batch.images) <= 4
        assert len({prefetcher.fit.canvas(im.shape[1], im.shape[0]) for im in batch.images}) == 1
        assert sum(t.name.startswith("decode") for t in threading.enumerate()) <= 2
        seen += batch.rows
    assert sorted(seen) == list(range(40))
    assert not any(t.name.startswith("decode") for t in threading.enumerate())


def test_every_nasty_file_is_fed_or_named(shared: Path) -> None:
    files = sorted(path for path in (shared / "nasty").rglob("*") if path.is_file())[::4]
    photos = [Photo(f"n:{i}", file.read_bytes(), 100, 80) for i, file in enumerate(files)]
    batches = list(Prefetcher(Fit(64, 256), ahead=8).batches(photos, lambda: 8))
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
        "[filter.objects]: GPU memory ran out at 16 pictures; continuing with 8"
    ]


def test_a_gpu_too_small_for_one_picture_is_the_runs_failure() -> None:
    with pytest.raises(RunError, match=r"does not hold one picture.*Tried to allocate 2.00 GiB") as caught:
        Halving(SmallGpu(fits=0), 4, "[filter.objects]")([1, 2, 3, 4])
    assert "short_side_px" in caught.value.hint


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
