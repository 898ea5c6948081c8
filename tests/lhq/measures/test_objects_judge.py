"""What the object filter decides from its facts, and which settings it refuses."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lhq.config import validate
from lhq.errors import ConfigError
from lhq.images import inspect
from lhq.measures import Verdicts
from lhq.measures.objects import Objects, ObjectsSettings
from lhq.records import Photo

WHERE = "p.toml [filter.objects]"


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


def test_450_000_photos_at_once_are_judged_as_each_alone() -> None:
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
    verdicts = judge(facts, allow=["bird"], max_area=0.05)
    counts = (np.asarray(names.indices) != 1) & (lists["scores"].to_numpy() >= 0.5)
    area = np.where(counts, lists["areas"].to_numpy(), 0).reshape(num, each).sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(verdicts.score, np.minimum(area, 1), atol=1e-6)
    assert ((area <= 0.05) == verdicts.kept).mean() > 0.9999
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
