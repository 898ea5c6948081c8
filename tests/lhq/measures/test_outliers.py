"""The Gaussian against scipy, and outliers of a real store by handmade and by network features."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from lhq.config import validate
from lhq.errors import ConfigError, InputError, StoreError, WeightsMissing
from lhq.images import inspect
from lhq.measures import fitted
from lhq.measures.features import Thumbnail
from lhq.measures.gaussian import Gaussian, Moments, oas_shrinkage
from lhq.measures.outliers import Outliers, OutliersSettings
from lhq.measures.prefetch import pixels
from lhq.records import Photo
from lhq.store.shards import Shards
from tests.lhq import making

WHERE = "p.toml [filter.outliers]"


def fit_gaussian(rows: np.ndarray, batch: int, shrinkage: float | None = None) -> Gaussian:
    moments = Moments(rows.shape[1])
    for start in range(0, len(rows), batch):
        moments.add(rows[start : start + batch])
    return Gaussian.fit(moments, shrinkage)


# --- the Gaussian -----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 17), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_streamed_moments_are_numpys(num: int, size: int, batch: int, scale: float, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(100 * scale, scale, (num, size))
    moments = Moments(size)
    for start in range(0, num, batch):
        moments.add(rows[start : start + batch])
    assert moments.num == num
    np.testing.assert_allclose(moments.mean_D, rows.mean(0), rtol=1e-12)
    expected = np.cov(rows, rowvar=False, bias=True).reshape(size, size)
    np.testing.assert_allclose(moments.covariance(), expected, rtol=1e-8, atol=1e-10 * scale**2)


def test_log_likelihood_is_scipys() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 40)) @ rng.normal(size=(40, 40)) + rng.normal(size=40)
    new = rng.normal(size=(30, 40)) * 3
    gaussian = fit_gaussian(rows, 64, shrinkage=0.0)
    expected = multivariate_normal(rows.mean(0), np.cov(rows, rowvar=False, bias=True)).logpdf(new)
    np.testing.assert_allclose(gaussian.log_likelihood(new), expected, rtol=1e-10)


def test_shrinkage_is_the_oas_formula() -> None:
    """Chen et al. 2010, equation 23, written with traces as in the paper."""
    rng = np.random.default_rng(1)
    for num, size in ((20, 5), (20, 50), (400, 50)):
        rows = rng.normal(size=(num, size)) * np.linspace(1, 3, size)
        s = np.cov(rows, rowvar=False, bias=True)
        square, trace = np.trace(s @ s), np.trace(s)
        expected = ((1 - 2 / size) * square + trace**2) / ((num + 1 - 2 / size) * (square - trace**2 / size))
        assert oas_shrinkage(s, num) == pytest.approx(min(1, expected), rel=1e-9)


def test_fewer_samples_than_features_still_give_a_density() -> None:
    rows = np.random.default_rng(2).normal(size=(12, 200))
    gaussian = fit_gaussian(rows, 5)
    assert 0 < gaussian.shrinkage <= 1
    assert np.isfinite(gaussian.log_likelihood(rows)).all()
    with pytest.raises(InputError, match="singular"):
        fit_gaussian(rows, 5, shrinkage=0.0)


def test_a_feature_that_is_not_finite_gives_no_number() -> None:
    gaussian = fit_gaussian(np.random.default_rng(3).normal(size=(50, 4)), 50)
    rows = np.zeros((4, 4))
    rows[1, 2], rows[2, 0] = np.nan, np.inf
    assert np.isfinite(gaussian.log_likelihood(rows)).tolist() == [True, False, False, True]


# --- the measure ------------------------------------------------------------------------------------------------


def store_of(root: Path, num: int = 24, odd: int = 3) -> tuple[Shards, list[str]]:
    """Two shards of soft scenes with a few pictures of pure noise; ids of the noise."""
    rng = np.random.default_rng(0)
    rows = [making.photo(making.scene(seed, 240, 160), f"s{seed}") for seed in range(num)]
    strange = []
    for seed in range(odd):
        noise = rng.integers(0, 256, (160, 240, 3), dtype=np.uint8)
        rows.insert(5 * seed, making.photo(_png(noise), f"noise{seed}"))
        strange.append(f"flickr:noise{seed}")
    making.add_shard(root, 0, rows[: num // 2])
    making.add_shard(root, 1, rows[num // 2 :])
    return Shards(str(root), "photos"), strange


def _png(pixels: np.ndarray) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def read(shards: Shards) -> list[Photo]:
    rows = [row for number in shards.numbers() for row in shards.read(number).to_pylist()]
    return [Photo(r["id"], r["image"], r["width_px"], r["height_px"], r["orientation"]) for r in rows]


def test_the_odd_ones_out_are_found(tmp_path: Path) -> None:
    shards, strange = store_of(tmp_path)
    trusted = tmp_path / "trusted.txt"
    trusted.write_text("\n".join(f"flickr:s{i}" for i in range(24)))
    given = OutliersSettings(features="thumbnail", trusted=str(trusted), drop_share=3 / 27)
    measure = Outliers(given)
    measure.prepare(shards)
    photos = read(shards)
    facts = pa.Table.from_batches([measure.measure(photos)])
    verdicts = measure.judge(facts, given)
    assert {verdict.id for verdict in verdicts if not verdict.kept} == set(strange)
    assert len(set(facts["fit"].to_pylist())) == 1
    dropped = next(verdict for verdict in verdicts if not verdict.kept)
    assert dropped.detail.startswith(f"log-likelihood {dropped.score:.1f}, the bar is ")
    bar = float(np.median(verdicts.score))
    fixed = validate(OutliersSettings, {"features": "thumbnail", "min_log_likelihood": bar}, WHERE)
    assert Outliers(fixed).judge(facts, fixed).kept.sum() == 14


def test_a_fit_is_made_once_and_serves_another_process(tmp_path: Path) -> None:
    shards, _ = store_of(tmp_path)
    given = OutliersSettings(features="thumbnail")
    first = Outliers(given)
    first.prepare(shards)
    fit = next((tmp_path / "fits").iterdir())
    made = fit.stat().st_mtime_ns
    making.add_shard(tmp_path, 2, [making.photo(making.scene(99, 240, 160), "late")])
    again = Outliers(given)
    again.prepare(shards)
    assert fit.stat().st_mtime_ns == made, "photos that came later do not move the fit"
    there: Outliers = pickle.loads(pickle.dumps(again))
    photos = read(shards)
    assert there.measure(photos).equals(first.measure(photos))
    # A threshold is not a reason to fit again; the features are.
    other = Outliers(OutliersSettings(features="thumbnail", drop_share=0.3))
    other.prepare(shards)
    assert len(list((tmp_path / "fits").iterdir())) == 1
    Outliers(OutliersSettings(features="thumbnail", shrinkage=0.5)).prepare(shards)
    assert len(list((tmp_path / "fits").iterdir())) == 2


def test_the_fit_looks_at_trusted_rows_only_and_a_bounded_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shards, _ = store_of(tmp_path)
    making.judge(tmp_path, {"flickr:noise0": "size", "flickr:noise1": "outliers"})
    with caplog.at_level(logging.INFO, "lhq"):
        Outliers(OutliersSettings(features="thumbnail", trusted="kept")).prepare(shards)
        Outliers(OutliersSettings(features="thumbnail", fit_rows=15)).prepare(shards)
        Outliers(OutliersSettings(features="thumbnail", trusted_queries=("Mountain  Lake",))).prepare(shards)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "on 26 photos" in said, "what only this measure dropped is trusted, what others dropped is not"
    assert "on 15 photos" in said
    assert "on 27 photos" in said


def test_photos_that_cannot_be_measured_say_why(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Blind(torch.nn.Module):
        """Zero over zero wherever the picture is dark."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x / x.amax((1, 2, 3), keepdim=True))[:, :, ::56, ::56].flatten(1)

    path = tmp_path / "blind.pt2"
    example = (torch.rand(2, 3, 224, 224),)
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(Blind(), example, dynamic_shapes={"x": {0: batch}}), path)
    shards, _ = store_of(tmp_path)
    measure = Outliers(OutliersSettings(features=str(path), device="cpu"))
    measure.prepare(shards)
    black = _png(np.zeros((32, 32, 3), np.uint8))
    cut = making.scene(0)[:2000]
    photos = [Photo("a", making.scene(0), 480, 320), Photo("b", black, 32, 32), Photo("c", cut, 480, 320)]
    facts = pa.Table.from_batches([measure.measure(photos)])
    assert facts["error"].to_pylist() == [None, "not-finite", "truncated"]
    assert facts["log_likelihood"].is_valid().to_pylist() == [True, False, False]
    verdicts = measure.judge(facts, measure.settings)
    assert verdicts.kept.tolist() == [True, False, False]
    assert verdicts[1].detail.startswith("not-finite: ")


def test_bad_input_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, _ = store_of(tmp_path, num=12, odd=0)

    def prepare(**table: object) -> None:
        Outliers(validate(OutliersSettings, table, WHERE)).prepare(shards)

    with pytest.raises(InputError, match="nothing has been judged yet"):
        prepare(features="thumbnail", trusted="kept")
    with pytest.raises(InputError, match="no such file"):
        prepare(features="thumbnail", trusted=str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="0 trusted photos are too few"):
        prepare(features="thumbnail", trusted_queries=["desert"])
    with pytest.raises(InputError, match="is not a file"):
        prepare(features="incepton")
    (tmp_path / "no.pt").write_text("not a program")
    with pytest.raises(InputError, match="not a TorchScript or torch"):
        prepare(features=str(tmp_path / "no.pt"))
    with pytest.raises(ConfigError, match="shrinkage"):
        prepare(shrinkage=1.5)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for features, file in (("inception", "inception_v3_google-0cc3c7bd.pth"), ("dinov2", "dinov2_vits14_pretrain.pth")):
        with pytest.raises(WeightsMissing, match=file):
            prepare(features=features, device="cpu")


def test_a_damaged_fit_is_named(tmp_path: Path) -> None:
    shards, _ = store_of(tmp_path, num=12, odd=0)
    Outliers(OutliersSettings(features="thumbnail")).prepare(shards)
    fit = next((tmp_path / "fits").iterdir())
    fit.write_bytes(fit.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"safetensors: damaged"):
        Outliers(OutliersSettings(features="thumbnail")).prepare(shards)


def test_networks_give_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cached-weights path of `inception`, with weights made here."""
    torch = pytest.importorskip("torch")
    from torchvision.models import inception_v3

    from lhq.measures.features import open_extractor

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    model = inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    monkeypatch.setattr("lhq.measures.features.INCEPTION_URL", "http://127.0.0.1:9/made_here.pth")
    torch.save(model.state_dict(), tmp_path / "hub" / "checkpoints" / "made_here.pth")
    extractor = open_extractor("inception", "cpu")
    image = pixels(Photo("a", making.scene(0), 480, 320), extractor.fit)
    assert image.shape == (299, 299, 3)
    features = extractor.extract([image, image])
    assert features.shape == (2, extractor.num_features) == (2, 2048)
    with torch.inference_mode():
        logits = model(extractor_input(image))
    np.testing.assert_allclose(
        features[:1] @ model.fc.weight.detach().numpy().T + model.fc.bias.detach().numpy(),
        logits.numpy(),
        rtol=1e-3,
        atol=1e-3,
    )


def extractor_input(image: np.ndarray) -> object:
    """What torchvision's own transform makes of the picture."""
    import torch
    from torchvision.transforms.functional import normalize, to_tensor

    return torch.stack([normalize(to_tensor(image), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])


def test_thumbnail_is_what_it_says(shared: Path) -> None:
    extractor = Thumbnail()
    files = sorted((shared / "photos" / "landscapes").glob("*.jpg"))[:3]
    images = []
    for file in files:
        header = inspect(data := file.read_bytes())
        images.append(pixels(Photo(file.name, data, header.width_px, header.height_px), extractor.fit))
    features = extractor.extract(images)
    assert features.shape == (3, extractor.num_features)
    assert np.isfinite(features).all()
    blank = extractor.extract([np.zeros((96, 96, 3), np.uint8)])
    assert np.isfinite(blank).all()


def test_a_share_of_450_000_is_dropped_to_the_photo() -> None:
    rng = np.random.default_rng(0)
    facts = pa.table({"id": pa.array(np.arange(450_000)).cast(pa.string()), "log_likelihood": rng.normal(size=450_000)})
    facts = facts.append_column("fit", pa.array(["x"] * 450_000)).append_column("error", pa.nulls(450_000, pa.string()))
    verdicts = Outliers(OutliersSettings()).judge(facts, OutliersSettings(drop_share=0.1))
    assert (~verdicts.kept).sum() == 45_000


@pytest.mark.parametrize("harm", ["flipped", "not finite"])
def test_a_fit_that_is_not_what_was_written_is_refused(tmp_path: Path, harm: str) -> None:
    fitted.save(str(tmp_path), "outliers-x", {"mean": np.arange(8.0), "steps": np.arange(3)}, {"rows": "9"})
    found = fitted.read(str(tmp_path), "outliers-x")
    assert found is not None
    assert found[1] == {"rows": "9"}
    path = Path(fitted.path_of(str(tmp_path), "outliers-x"))
    if harm == "flipped":
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
    else:
        fitted.save(str(tmp_path), "outliers-x", {"mean": np.array([1.0, np.nan])}, {})
    with pytest.raises(StoreError, match=r"damaged.*delete it"):
        fitted.read(str(tmp_path), "outliers-x")
