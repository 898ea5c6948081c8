"""Weights of the object filter that are missing, wrong, malicious or another backend's; each is named."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from lhq.errors import ConfigError, InputError, WeightsMissing
from lhq.measures.objects import Objects, ObjectsSettings
from lhq.measures.weights import cached, tensors
from lhq.records import Photo
from tests.lhq import making

torch = pytest.importorskip("torch")
detection = pytest.importorskip("torchvision.models.detection")


def photo() -> Photo:
    return Photo("t:0", making.scene(0, 192, 128), 192, 128)


def test_missing_weights_name_file_url_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WeightsMissing) as caught:
        Objects(ObjectsSettings(backend="torchvision", weights="coco", device="cpu")).measure([photo()])
    said = str(caught.value)
    assert "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth" in said
    assert "https://download.pytorch.org/models/" in said
    assert str(tmp_path / "hub" / "checkpoints") in said
    assert caught.value.exit_code == 2
    assert not list(tmp_path.rglob("*.pth*")), "nothing half-fetched is left"


def test_weights_in_the_cache_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    name = f"w-{hashlib.sha256(b'there').hexdigest()[:8]}.pth"
    path = tmp_path / "hub" / "checkpoints" / name
    path.write_bytes(b"there")
    assert cached(f"http://127.0.0.1:9/{name}").read_bytes() == b"there"
    path.write_bytes(b"thera")  # torch reads rotten weights as they are
    with pytest.raises(WeightsMissing, match=rf"{name}: is cut short or another file"):
        cached(f"http://127.0.0.1:9/{name}")


def test_weights_that_are_none_are_named(tmp_path: Path) -> None:
    def open_(**settings: object) -> None:
        Objects(ObjectsSettings(backend="torchvision", device="cpu", **settings)).measure([photo()])

    with pytest.raises(InputError, match=r"nowhere\.pth: no such weights file"):
        open_(weights=str(tmp_path / "nowhere.pth"))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pth: not a file of tensors"):
        open_(weights=str(tmp_path / "text.pth"))
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: not torchvision's Mask R-CNN"):
        open_(weights=str(tmp_path / "other.pth"))


def test_a_weights_file_runs_no_code(tmp_path: Path) -> None:
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


def test_unnamed_classes_must_be_named(tmp_path: Path) -> None:
    weights = tmp_path / "mine.pth"
    torch.save(
        detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4).state_dict(), weights
    )
    with pytest.raises(InputError, match="knows 3 classes, and nothing says which"):
        Objects(ObjectsSettings(backend="torchvision", weights=str(weights), device="cpu")).measure([photo()])


def test_backend_and_weights_must_agree() -> None:
    with pytest.raises(ConfigError, match='"coco-x101" is detectron2\'s'):
        Objects(ObjectsSettings(backend="torchvision", weights="coco-x101", device="cpu")).measure([photo()])
